//! The subcommands, one file each: a new one is a file, a variant of [`Command`] and a line in [`main`].

mod demo;
mod generate;
mod replay;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// recwatch's local stack: Kafka, the schema registry and the ClickHouse engine as processes of this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo stack", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Replay(Box<replay::Replay>),
    Generate(generate::Generate),
    Up(up::Up),
}

/// Parses the command line and runs it; an error ends with a message and exit code 1.
pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(demo) => demo.run(),
        Command::Replay(replay) => replay.run(),
        Command::Generate(generate) => generate.run(),
        Command::Up(up) => up.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
