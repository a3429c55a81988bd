//! The frame of a worker's `main`: configuration, logging, signals, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use serde::de::DeserializeOwned;

use crate::arguments::Arguments;
use crate::configuration::{Problems, Sources, Validate, load};
use crate::health::Health;
use crate::http::HttpServer;
use crate::metrics::Metrics;
use crate::sections::{Http, Log};
use crate::shutdown::Shutdown;
use crate::{failpoints, logging, signals, watchdog};

/// Exit code where the work failed.
const FAILURE: u8 = 1;
/// Exit code where the configuration is bad, or does not fit what is found outside (a missing topic).
const BAD_CONFIGURATION: u8 = 2;

/// What a worker says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its name, as in the name of its binary.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its whole default configuration as commented TOML, from [`crate::defaults`].
    pub defaults: &'a str,
}

/// A worker's whole configuration, with the sections that this crate acts on.
pub trait Settings: DeserializeOwned + Validate {
    /// The section `[http]`.
    fn http(&self) -> &Http;
    /// The section `[log]`.
    fn log(&self) -> &Log;
}

/// What the work gets.
#[derive(Debug)]
pub struct Context<T> {
    /// The checked configuration.
    pub settings: T,
    /// The command line, for the flags that the worker itself acts on.
    pub arguments: Arguments,
    /// Asked for by SIGTERM and SIGINT; a part that cannot go on may ask, too.
    pub shutdown: Shutdown,
    /// Where parts register the conditions of being ready.
    pub health: Health,
    /// Where parts register their metrics.
    pub metrics: Metrics,
}

impl<T: Settings> Context<T> {
    /// Starts the HTTP server on `http.listen`; keep what it returns. Not called by commands that do one thing and exit.
    /// From here to [`Shutdown::started`] a signal ends the process at once, and well.
    ///
    /// Errors: the address cannot be bound.
    pub fn serve(&self) -> anyhow::Result<HttpServer> {
        self.shutdown.starts();
        HttpServer::start(self.settings.http().listen, self.health.clone(), self.metrics.clone(), self.shutdown.clone())
    }
}

/// Runs a worker: does what the command line asks, or loads the configuration and hands over to `work`.
///
/// Exit codes: 0 it ended well, also by a signal while it started; 1 it failed, or did not end in time after a signal; 2 the configuration is bad, also
/// where `work` returns an error that is or was caused by [`Problems`].
pub fn run<T: Settings>(
    program: &Program<'_>,
    arguments: &Arguments,
    work: impl FnOnce(Context<T>) -> anyhow::Result<()>,
) -> ExitCode {
    if arguments.print_default_config {
        // Whoever reads it may stop early, as `head` does.
        let _ = std::io::stdout().write_all(program.defaults.as_bytes());
        return ExitCode::SUCCESS;
    }
    let sources = Sources {
        defaults: program.defaults,
        file: arguments.config.as_deref(),
        environment: Sources::process_environment(),
        sets: &arguments.sets,
    };
    let loaded = match load::<T>(sources) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    if arguments.check_config {
        if !loaded.ignored_variables.is_empty() {
            println!("of other workers, without effect here: {}", loaded.ignored_variables.join(", "));
        }
        println!("the configuration is good");
        return ExitCode::SUCCESS;
    }
    logging::start(loaded.settings.log());
    let _armed = failpoints::arm();
    tracing::info!(worker = program.name, version = program.version, changed = %loaded.describe_changes(), "starting");
    if !loaded.ignored_variables.is_empty() {
        let variables = loaded.ignored_variables.join(", ");
        tracing::info!(variables, "environment variables of other workers have no effect here");
    }

    let http = loaded.settings.http();
    let health = Health::new().with_limits(http.max_wait.as_duration(), http.max_silence.as_duration());
    let context = Context {
        metrics: Metrics::of_process(program.name, program.version, &health),
        settings: loaded.settings,
        arguments: arguments.clone(),
        shutdown: Shutdown::new(),
        health,
    };
    if let Err(error) = signals::watch(context.shutdown.clone()).and_then(|()| watchdog::watch(context.health.clone()))
    {
        return fail(&error);
    }
    let shutdown = context.shutdown.clone();
    match work(context) {
        Ok(()) => {
            tracing::info!("ended");
            ExitCode::SUCCESS
        }
        // what it waited for was given up because of the request
        Err(error) if shutdown.requested() && shutdown.is_starting() => {
            tracing::info!("ended while starting: {error:#}");
            ExitCode::SUCCESS
        }
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(problems) => {
                for problem in problems.iter() {
                    tracing::error!("bad configuration: {problem}");
                }
                ExitCode::from(BAD_CONFIGURATION)
            }
            None => fail(&error),
        },
    }
}

/// The log says it for machines, in one line; the chain of causes comes with it.
fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!("failed: {error:#}");
    ExitCode::from(FAILURE)
}
