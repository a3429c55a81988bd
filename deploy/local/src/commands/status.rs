//! `cargo stack status`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use stack::{Component, DetachedStack, Running};

use super::Place;

/// Print what runs, and where. Exit code 0 if every component does, else 1.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    place: Place,
    /// Print the addresses as settings for the workers: eval "$(cargo stack status --environment)"
    #[arg(long)]
    environment: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let directory = self.place.directory()?;
        let Some(stack) = DetachedStack::find(&directory)? else {
            eprintln!("No stack was left running in {}: cargo stack up starts one.", directory.display());
            return Ok(ExitCode::FAILURE);
        };
        if self.environment {
            for running in stack.components.iter().filter(|running| stack.is_alive(running)) {
                println!("export {}={}", variable(running.component), running.address);
            }
        } else {
            print(&stack)?;
        }
        let all = stack.components.iter().all(|running| stack.is_alive(running));
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn variable(component: Component) -> &'static str {
    match component {
        Component::Kafka => "RECWATCH_KAFKA__BROKERS",
        Component::Registry => "RECWATCH_REGISTRY__URL",
        Component::ClickHouse => "RECWATCH_CLICKHOUSE__URL",
    }
}

/// A line for each component of a detached stack.
pub(super) fn print(stack: &DetachedStack) -> Result<()> {
    lines(stack.components.iter().map(|running| (running, stack.is_alive(running))))
}

/// The same for components that this program holds itself.
pub(super) fn print_components(components: &[Running]) -> Result<()> {
    lines(components.iter().map(|running| (running, true)))
}

fn lines<'a>(components: impl Iterator<Item = (&'a Running, bool)>) -> Result<()> {
    let mut output = std::io::stdout().lock();
    for (running, is_alive) in components {
        let state = if is_alive { format!("process {}", running.pid) } else { "not running".to_owned() };
        writeln!(output, "{:12}{:48}{state}", running.component.name(), running.address)?;
    }
    output.flush()?;
    Ok(())
}
