//! `cargo stack up`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use stack::{Components, DetachedStack, Load, Options, Ports, Stack, terminal};

use super::{Place, status};

/// Start the stack, print its addresses and return; it runs until `cargo stack down`.
///
/// Ports that are not given are chosen free. When a stack runs in the folder already, its addresses are printed.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    place: Place,
    /// Port of the Kafka broker on 127.0.0.1.
    #[arg(long, value_name = "PORT")]
    kafka_port: Option<u16>,
    /// Port of the schema registry on 127.0.0.1.
    #[arg(long, value_name = "PORT")]
    registry_port: Option<u16>,
    /// Port of ClickHouse's HTTP interface on 127.0.0.1.
    #[arg(long, value_name = "PORT")]
    clickhouse_port: Option<u16>,
    /// Start only these.
    #[arg(long, value_name = "COMPONENT,...", value_delimiter = ',')]
    only: Vec<Choice>,
    /// Stay, and take the stack down again at Ctrl-C or when this program dies.
    #[arg(long)]
    foreground: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    Kafka,
    Registry,
    Clickhouse,
}

impl Up {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let directory = self.place.directory()?;
        if let Some(running) = DetachedStack::find(&directory)?
            && running.components.iter().all(|component| running.is_alive(component))
        {
            println!("The stack is up already.");
            status::print(&running)?;
            return Ok(ExitCode::SUCCESS);
        }
        let wanted = |choice| self.only.is_empty() || self.only.contains(&choice);
        let options = Options {
            components: Components {
                kafka: wanted(Choice::Kafka),
                registry: wanted(Choice::Registry),
                clickhouse: wanted(Choice::Clickhouse),
            },
            directory: Some(directory),
            ports: Ports { kafka: self.kafka_port, registry: self.registry_port, clickhouse: self.clickhouse_port },
            load: Load::Sustained,
            detachable: !self.foreground,
            ..Options::default()
        };
        // Ctrl-C ends this program at once, and the supervisor then ends what was started.
        let stack = Stack::start(&options, terminal::progress().as_ref())?;
        if self.foreground {
            status::print_components(&stack.running())?;
            println!("Ctrl-C stops it.");
            loop {
                std::thread::park();
            }
        }
        let running = stack.detach()?;
        status::print(&running)?;
        println!("cargo stack down stops it; its logs are in {}.", running.directory().display());
        Ok(ExitCode::SUCCESS)
    }
}
