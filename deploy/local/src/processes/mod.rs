//! Child processes that cannot outlive this one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

/// A process to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// What it is called in messages.
    pub name: String,
    /// The program, as a path or looked up in `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables added to those of this process.
    pub environment: Vec<(String, String)>,
    /// Where it runs; this process's folder if `None`.
    pub directory: Option<PathBuf>,
    /// File that its standard output and standard error are appended to.
    pub log: PathBuf,
    /// File for its standard output alone, if it is not to be in the log.
    pub output: Option<PathBuf>,
}

/// A signal that a process can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Asks it to finish (SIGTERM).
    Terminate,
    /// What Ctrl-C sends (SIGINT).
    Interrupt,
    /// Ends it at once (SIGKILL).
    Kill,
    /// Freezes it (SIGSTOP).
    Suspend,
    /// Lets it go on (SIGCONT).
    Resume,
}

/// How a process ended and what it used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exit {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The number of the signal that ended it, otherwise.
    pub signal: Option<i32>,
    /// Processor time, user and system.
    pub cpu: Duration,
    /// The most memory that it held at once, in bytes.
    pub peak_rss_bytes: u64,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// A running (or ended) child process. It is killed when the handle is dropped and when this process dies.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts a process.
    ///
    /// # Errors
    /// The program does not exist or may not be run.
    pub fn start(launch: &Launch) -> Result<Process> {
        bail!("starting {} is not built yet", launch.name)
    }

    /// Runs a process to its end.
    ///
    /// # Errors
    /// It cannot be started, ends with anything but code 0 (the error shows the tail of its log), or takes longer than
    /// `deadline` (it is killed then).
    pub fn run(launch: &Launch, deadline: Duration) -> Result<Exit> {
        Process::start(launch)?.wait(deadline)
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that it writes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal; one to a process that has ended is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        bail!("{signal:?} for {} is not built yet", self.name)
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        None
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended within `deadline`; it goes on then.
    pub fn wait(&self, deadline: Duration) -> Result<Exit> {
        bail!("{} has not ended within {deadline:?}", self.name)
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) -> Result<Exit> {
        self.signal(Signal::Kill)?;
        self.wait(Duration::from_secs(10))
    }

    /// The last `lines` lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let _ = lines;
        String::new()
    }
}
