//! `cargo stack`: the local stack on the command line.

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
