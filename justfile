# The project's commands. Each recipe is the command that the README tells: nothing happens here that cannot be typed.

# What there is.
default:
    @just --list

# Everything once: real components, workers, made-up or recorded events, tables and a plot.
demo *arguments:
    cargo demo {{ arguments }}

# All tests, those on real components included.
test *arguments:
    cargo test --workspace {{ arguments }}

# The checks that must pass before a change is merged.
ci:
    .ci/run

# The local stack alone; prints its addresses.
up *arguments:
    cargo stack up {{ arguments }}

# Stops it.
down *arguments:
    cargo stack down {{ arguments }}

# What runs, and where.
status *arguments:
    cargo stack status {{ arguments }}

# All benches.
bench *arguments:
    cargo bench --workspace {{ arguments }}

# Formats the source.
fmt:
    cargo fmt --all
