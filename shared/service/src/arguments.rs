//! The command line that all workers share.

use std::fmt;
use std::path::PathBuf;

use clap::Args;

/// Options of every worker; flatten them into the worker's own `clap::Parser`.
#[derive(Args, Clone, Default)]
pub struct Arguments {
    /// Configuration file in TOML.
    ///
    /// Later sources win: built-in defaults, this file, environment variables, --set. `--print-default-config` prints a
    /// file to start from, every key with its meaning.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Set one configuration key (may be repeated).
    ///
    /// The key is dotted, the value is TOML or else taken as text:
    /// --set window=10m --set kafka.brokers=broker-1:9092 --set 'dimensions=["domain"]'.
    /// Arrays, and tables that are a choice (with a `kind`) or free-form, replace the default whole. As environment
    /// variables: RECWATCH_WINDOW=10m, RECWATCH_KAFKA__BROKERS=broker-1:9092; keys of other workers have no effect there. Passwords belong into the environment or the
    /// file: a command line can be read by other users of the machine.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,

    /// Print the built-in configuration, every key with its meaning, and exit.
    #[arg(long)]
    pub print_default_config: bool,

    /// Check the configuration, print everything that is wrong with it, and exit (0 if it is good, 2 if not).
    ///
    /// Connects to nothing.
    #[arg(long)]
    pub check_config: bool,

    /// Create the topics that are missing, then go on.
    ///
    /// Without it, a missing topic stops the start.
    #[arg(long)]
    pub create_topics: bool,

    /// Forget this worker's state and its committed offsets, and exit. Stop all of its instances first.
    ///
    /// The way out where a start is refused because the window, the bins, the dimensions or the partition count of the
    /// source changed. The next start reads the source from its beginning.
    #[arg(long)]
    pub reset_state: bool,
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be passwords.
        f.debug_struct("Arguments")
            .field("config", &self.config)
            .field("sets", &self.sets.len())
            .finish_non_exhaustive()
    }
}
