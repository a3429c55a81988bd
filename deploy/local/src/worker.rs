//! A recwatch worker as a child process.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::processes::{Exit, Launch, Process, Signal};

/// One running instance of a worker. It dies with its handle and with this process.
#[derive(Debug)]
pub struct Worker {
    process: Process,
}

impl Worker {
    /// Writes `config` to `<directory>/<name>.toml` and starts `binary --config <that file> <arguments>`, logging to
    /// `<directory>/<name>.log` (appended to, so that a restart under the same name keeps the story).
    pub fn spawn(binary: &Path, name: &str, config: &str, arguments: &[String], directory: &Path) -> Result<Worker> {
        Worker::spawn_with(binary, name, config, arguments, &[], directory)
    }

    /// The same with environment variables besides those of this process.
    ///
    /// # Errors
    /// It cannot be started, or its configuration cannot be written.
    pub(crate) fn spawn_with(
        binary: &Path,
        name: &str,
        config: &str,
        arguments: &[String],
        environment: &[(String, String)],
        directory: &Path,
    ) -> Result<Worker> {
        let launch = Worker::launch(binary, name, config, arguments, directory)?;
        let launch = Launch { environment: environment.to_vec(), ..launch };
        Ok(Worker { process: Process::start(&launch)? })
    }

    /// The same, for calls that end by themselves (`--create-topics`, `--apply-ddl`, `--check-config`, …).
    ///
    /// # Errors
    /// It ends with anything but code 0; the error shows the tail of its log.
    pub fn run(
        binary: &Path,
        name: &str,
        config: &str,
        arguments: &[String],
        directory: &Path,
        deadline: Duration,
    ) -> Result<Exit> {
        Process::run(&Worker::launch(binary, name, config, arguments, directory)?, deadline)
    }

    fn launch(binary: &Path, name: &str, config: &str, arguments: &[String], directory: &Path) -> Result<Launch> {
        let file = directory.join(format!("{name}.toml"));
        std::fs::write(&file, config).with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(Launch {
            name: name.to_owned(),
            program: binary.to_owned(),
            arguments: ["--config".into(), file.into()].into_iter().chain(arguments.iter().map(Into::into)).collect(),
            log: directory.join(format!("{name}.log")),
            ..Launch::default()
        })
    }

    /// Its name, unique among the instances of a stack.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The file that it logs to.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// The last `lines` lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&self) -> Result<Exit> {
        self.process.kill()
    }

    /// SIGSTOP: it freezes where it is.
    pub fn suspend(&self) -> Result<()> {
        self.process.signal(Signal::Suspend)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::Resume)
    }

    /// SIGTERM: it should finish its batch, commit and leave its group.
    pub fn terminate(&self) -> Result<()> {
        self.process.signal(Signal::Terminate)
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.process.exit()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended within `deadline`; it goes on then.
    pub fn wait(&self, deadline: Duration) -> Result<Exit> {
        self.process.wait(deadline)
    }
}
