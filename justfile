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

# Random inputs for the decoders' fuzz targets, for so many seconds each. Needs nothing but cargo; what fails is added to the corpus.
fuzz seconds="60" *arguments:
    FUZZ_SECONDS={{ seconds }} cargo test --package records --test fuzz {{ arguments }}

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

# Faults of all kinds on all workers, judged by an undisturbed run: just torture --seed 1..20 --minutes 3
torture *arguments:
    cargo stack torture {{ arguments }}

# All benches.
bench *arguments:
    cargo bench --workspace {{ arguments }}

# Formats the source.
fmt:
    cargo fmt --all
