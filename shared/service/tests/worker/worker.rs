//! A worker without work, as a process for the tests of the frame around it.

use clap::Parser;
use serde::Deserialize;
use service::{Arguments, Http, HumanDuration, Log, Problems, Program, Secret, Settings, Validate, sections};

/// What the worker does once it runs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Behaviour {
    /// Ends in good order when asked to.
    Obey,
    /// Never ends by itself.
    Hang,
    /// Waits for what it needs, and hears nothing meanwhile.
    Start,
    /// Waits for what it needs, and fails when the end is asked for.
    StartAndGiveUp,
    /// Fails at once.
    Fail,
    /// Finds at once that the configuration does not fit what is outside.
    Misfit,
}

const OWN: &str = "behaviour = \"obey\"\ndeadline = \"30s\"\ntoken = \"\"\n";

/// A worker without work.
#[derive(Parser)]
#[command(name = "service-test-worker", version)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    behaviour: Behaviour,
    deadline: HumanDuration,
    token: Secret,
    http: Http,
    log: Log,
}

impl Validate for Configuration {
    fn validate(&self, problems: &mut Problems) {
        problems.within("http", &self.http);
        problems.within("log", &self.log);
    }
}

impl Settings for Configuration {
    fn http(&self) -> &Http {
        &self.http
    }

    fn log(&self) -> &Log {
        &self.log
    }
}

fn main() -> std::process::ExitCode {
    let command_line = CommandLine::parse();
    let defaults = service::defaults(&[OWN, sections::HTTP, sections::LOG]);
    let program = Program { name: "service-test-worker", version: "1.2.3", defaults: &defaults };
    service::run::<Configuration>(&program, &command_line.arguments, |context| {
        context.shutdown.set_deadline(context.settings.deadline.as_duration());
        let token_set = !context.settings.token.is_empty();
        tracing::info!(settings = ?context.settings, token_set, "what the log shows of a configuration");
        match context.settings.behaviour {
            Behaviour::Fail => {
                let cause = std::io::Error::other("the disk is full");
                return Err(anyhow::Error::new(cause).context("writing the state"));
            }
            Behaviour::Misfit => {
                let mut problems = Problems::new();
                problems.tell("source.topic", "the topic does not exist: create it, or start with --create-topics");
                return Err(anyhow::Error::new(problems).context("checking the topics"));
            }
            Behaviour::Obey | Behaviour::Hang | Behaviour::Start | Behaviour::StartAndGiveUp => {}
        }
        let _http = context.serve()?;
        match context.settings.behaviour {
            Behaviour::Start => loop {
                std::thread::park();
            },
            Behaviour::StartAndGiveUp => {
                context.shutdown.wait_blocking();
                anyhow::bail!("waiting for the schema registry was given up");
            }
            _ => context.shutdown.started(),
        }
        context.health.condition("working").ok();
        context.shutdown.wait_blocking();
        if context.settings.behaviour == Behaviour::Hang {
            loop {
                std::thread::park();
            }
        }
        Ok(())
    })
}
