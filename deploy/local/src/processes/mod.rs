//! Child processes that cannot outlive this one.
//!
//! They are started by a small supervisor process, which holds the other end of a pipe of ours. When this program ends,
//! also by SIGKILL, the pipe closes and the supervisor kills every process group that it started, grandchildren included.
//! Should the supervisor itself be killed, the kernel kills its children (`PR_SET_PDEATHSIG`). Children are in sessions
//! of their own, so a Ctrl-C at the terminal reaches only this program, which decides how they end.

mod supervisor;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::logs;
use supervisor::Supervisor;

/// How long a process that was sent SIGKILL may take to be gone: the kernel gives its memory back first.
const KILL_DEADLINE: Duration = Duration::from_secs(30);

/// A process to start.
#[derive(Clone, Debug, Default)]
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
    /// Whether [`Process::release`] may let it go on after this process; it then lacks the second line of defence.
    pub releasable: bool,
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

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
            Signal::Kill => "SIGKILL",
            Signal::Suspend => "SIGSTOP",
            Signal::Resume => "SIGCONT",
        }
    }

    /// Asking is for the process alone, force is for its children too.
    fn is_for_group(self) -> bool {
        !matches!(self, Signal::Terminate | Signal::Interrupt)
    }
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

impl std::fmt::Display for Exit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(formatter, "exit code {code}"),
            (None, Some(signal)) => write!(formatter, "signal {signal}"),
            (None, None) => formatter.write_str("an unknown end"),
        }
    }
}

/// A running (or ended) child process. It is killed when the handle is dropped and when this process dies.
#[derive(Debug)]
pub struct Process {
    supervisor: Arc<Supervisor>,
    id: u64,
    name: String,
    pid: u32,
    log: PathBuf,
    released: bool,
}

impl Process {
    /// Starts a process.
    ///
    /// # Errors
    /// The program does not exist or may not be run, or the log cannot be written.
    pub fn start(launch: &Launch) -> Result<Process> {
        let supervisor = Supervisor::get()?;
        let argv = std::iter::once(text(launch.program.as_os_str())?)
            .map(Ok)
            .chain(launch.arguments.iter().map(|argument| text(argument)))
            .collect::<Result<Vec<&str>>>()?;
        let environment: Map<String, Value> =
            launch.environment.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let (id, pid) = supervisor
            .start(json!({
                "argv": argv,
                "env": environment,
                "cwd": launch.directory,
                "log": launch.log,
                "output": launch.output,
                "releasable": launch.releasable,
            }))
            .with_context(|| format!("{} cannot be started ({})", launch.name, launch.program.display()))?;
        Ok(Process { supervisor, id, name: launch.name.clone(), pid, log: launch.log.clone(), released: false })
    }

    /// Runs a process to its end.
    ///
    /// # Errors
    /// It cannot be started, ends with anything but code 0 (the error shows the tail of its log), or takes longer than
    /// `deadline` (it is killed then).
    pub fn run(launch: &Launch, deadline: Duration) -> Result<Exit> {
        let process = Process::start(launch)?;
        let exit = process.wait(deadline)?;
        if !exit.success() {
            bail!("{} failed with {exit}:\n{}", launch.name, process.log_tail(30));
        }
        Ok(exit)
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id; 0 if it had ended before anybody could ask.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that it writes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal; one to a process that has ended is no error. SIGKILL, SIGSTOP and SIGCONT go to its children too.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.supervisor.signal(self.id, signal.name(), signal.is_for_group())
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.supervisor.exit(self.id)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended within `deadline`; it goes on then.
    pub fn wait(&self, deadline: Duration) -> Result<Exit> {
        self.supervisor.wait(self.id, deadline)?.with_context(|| {
            format!("{} has not ended within {deadline:?}; its log ends:\n{}", self.name, self.log_tail(15))
        })
    }

    /// Waits for its end no longer than this; `None` if it goes on.
    ///
    /// # Errors
    /// The supervisor was killed before the process was started.
    pub fn wait_up_to(&self, time: Duration) -> Result<Option<Exit>> {
        self.supervisor.wait(self.id, time)
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// It is not gone after 30 s.
    pub fn kill(&self) -> Result<Exit> {
        self.signal(Signal::Kill)?;
        self.wait(KILL_DEADLINE)
    }

    /// Asks it to end (SIGTERM), and kills it if it has not within `patience`.
    ///
    /// # Errors
    /// It is not gone 30 s after it was killed.
    pub fn stop(&self, patience: Duration) -> Result<Exit> {
        self.signal(Signal::Terminate)?;
        match self.supervisor.wait(self.id, patience)? {
            Some(exit) => Ok(exit),
            None => self.kill(),
        }
    }

    /// Lets it go on after this process and returns its process id.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn release(mut self) -> Result<u32> {
        self.supervisor.release(self.id)?;
        self.released = true;
        Ok(self.pid)
    }

    /// The last `lines` lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        logs::tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.released && self.exit().is_none() {
            // It fails only when the supervisor is gone, and then the process is, too.
            let _ = self.signal(Signal::Kill);
        }
        self.supervisor.forget(self.id);
    }
}

/// A folder that is removed when it is dropped and also when this process dies, after the child processes.
#[derive(Debug)]
pub struct ThrowAwayDirectory {
    path: PathBuf,
}

impl ThrowAwayDirectory {
    /// Creates one in the system's temporary folder.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(prefix: &str) -> Result<ThrowAwayDirectory> {
        let path = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .with_context(|| format!("no temporary folder can be made in {}", std::env::temp_dir().display()))?
            .keep();
        Supervisor::get()?.remove_at_end(&path)?;
        Ok(ThrowAwayDirectory { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps it after all.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn keep(self) -> Result<PathBuf> {
        Supervisor::get()?.keep_at_end(&self.path)?;
        let path = self.path.clone();
        std::mem::forget(self);
        Ok(path)
    }
}

impl Drop for ThrowAwayDirectory {
    fn drop(&mut self) {
        // What cannot be removed now, the supervisor tries again at the end.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn text(argument: &std::ffi::OsStr) -> Result<&str> {
    argument.to_str().with_context(|| format!("{} is not UTF-8: rename it", argument.display()))
}
