//! The real components: how each is configured, started and asked whether it answers.

pub(crate) mod clickhouse;
pub(crate) mod kafka;
pub(crate) mod registry;

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::component::Component;
use crate::options::Load;
use crate::ports;
use crate::prerequisites::Tools;
use crate::processes::{Launch, Process};

/// How long a component may take to answer, on a machine that is busy with other things.
const START_DEADLINE: Duration = Duration::from_secs(180);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How often a start is repeated because somebody else was faster to take the port.
const PORT_ATTEMPTS: u32 = 5;

/// All that a component needs to know to start.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The stack's folder.
    pub(crate) directory: PathBuf,
    /// The component's downloaded files.
    pub(crate) files: PathBuf,
    pub(crate) tools: Tools,
    pub(crate) load: Load,
    pub(crate) broker_session: Duration,
    pub(crate) proxied_listener: Option<ProxiedListener>,
    /// Whether it may go on after this process.
    pub(crate) releasable: bool,
}

/// The broker's second listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProxiedListener {
    /// Where it listens.
    pub(crate) port: u16,
    /// Where its clients are sent.
    pub(crate) advertised: u16,
}

impl ProxiedListener {
    /// A listener at a free port, behind the proxy at the port `advertised`.
    pub(crate) fn behind(advertised: u16) -> Result<Self> {
        Ok(Self { port: ports::free_port_beside(advertised)?, advertised })
    }
}

impl Place {
    /// The component's own folder, made if need be.
    fn home(&self, component: Component) -> Result<PathBuf> {
        let home = self.directory.join(component.name());
        fs::create_dir_all(&home).with_context(|| format!("{} cannot be made", home.display()))?;
        Ok(home)
    }

    /// Where the component logs to.
    pub(crate) fn log(&self, component: Component) -> PathBuf {
        self.directory.join(format!("{component}.log"))
    }

    fn launch(&self, component: Component, program: &Path, arguments: Vec<OsString>) -> Launch {
        Launch {
            name: component.name().to_owned(),
            program: program.to_owned(),
            arguments,
            log: self.log(component),
            releasable: self.releasable,
            ..Launch::default()
        }
    }

    /// What a Java component is started with: a heap of this many MB, nothing written outside its own folder, and a mark
    /// by which `down` knows the process.
    fn java(&self, component: Component, heap_mb: u32) -> Result<Vec<OsString>> {
        let temporary = self.home(component)?.join("tmp");
        fs::create_dir_all(&temporary)?;
        let mut folder = OsString::from("-Djava.io.tmpdir=");
        folder.push(temporary);
        let mut arguments: Vec<OsString> =
            vec![format!("-Xmx{heap_mb}m").into(), "-Xshare:auto".into(), "-XX:-UsePerfData".into(), folder];
        if self.load == Load::Short {
            arguments.push("-XX:TieredStopAtLevel=1".into());
            arguments.push("-XX:+UseSerialGC".into());
        }
        arguments.push(self.mark());
        Ok(arguments)
    }

    /// An argument that names the stack's folder.
    fn mark(&self) -> OsString {
        mark(&self.directory)
    }
}

/// The argument by which the processes of the stack in `directory` are told from all others.
pub(crate) fn mark(directory: &Path) -> OsString {
    let mut mark = OsString::from("-Drecwatch.stack=");
    mark.push(directory);
    mark
}

/// Starts a component and returns once it answers: the process and its port.
///
/// # Errors
/// The given port is taken; or it dies or does not answer, and the error shows the tail of its log.
pub(crate) fn start(component: Component, place: &Place, wanted: Option<u16>) -> Result<(Process, u16)> {
    let mut attempt = 1;
    loop {
        let port = match wanted {
            Some(port) if !ports::is_free(port) => {
                bail!("port {port}, given for {component}, is taken on 127.0.0.1: choose another one")
            }
            Some(port) => port,
            None => ports::free_port()?,
        };
        match start_at(component, place, port) {
            Ok(process) => return Ok((process, port)),
            // with a given port too: the component may have another one beside it
            Err(Failure::PortTaken) if attempt < PORT_ATTEMPTS => attempt += 1,
            Err(Failure::PortTaken) => bail!("port {port} for {component} was taken by another process meanwhile"),
            Err(Failure::Other(error)) => return Err(error),
        }
    }
}

enum Failure {
    PortTaken,
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Other(error)
    }
}

fn start_at(component: Component, place: &Place, port: u16) -> Result<Process, Failure> {
    let launch = match component {
        Component::Kafka => kafka::launch(place, port)?,
        Component::Registry => registry::launch(place, port)?,
        Component::ClickHouse => clickhouse::launch(place, port)?,
    };
    let log = LogSince::now(&launch.log);
    let process = Process::start(&launch)?;
    let started = Instant::now();
    loop {
        if let Some(exit) = process.exit() {
            if says_port_is_taken(&log.read()) {
                return Err(Failure::PortTaken);
            }
            return Err(Failure::Other(anyhow::anyhow!(
                "{component} died at its start with {exit}; its log ({}) ends:\n{}",
                launch.log.display(),
                process.log_tail(30)
            )));
        }
        let answers = match component {
            Component::Kafka => kafka::answers(place, port),
            Component::Registry => registry::answers(port, &log),
            Component::ClickHouse => clickhouse::answers(port, &log),
        };
        if answers {
            return Ok(process);
        }
        if started.elapsed() > START_DEADLINE {
            return Err(Failure::Other(anyhow::anyhow!(
                "{component} does not answer at 127.0.0.1:{port} after {START_DEADLINE:?}; its log ({}) ends:\n{}",
                launch.log.display(),
                process.log_tail(30)
            )));
        }
        std::thread::sleep(ASK_EVERY);
    }
}

fn says_port_is_taken(log: &str) -> bool {
    ["Address already in use", "seems to be in use by another process", "BindException"]
        .iter()
        .any(|sign| log.contains(sign))
}

/// What a log says from now on. Whoever answers at a port need not be the process that was just started: its own log
/// tells.
pub(crate) struct LogSince {
    file: PathBuf,
    from: u64,
}

impl LogSince {
    fn now(file: &Path) -> LogSince {
        LogSince { file: file.to_owned(), from: fs::metadata(file).map_or(0, |metadata| metadata.len()) }
    }

    /// An unreadable log is an empty one: nothing has been written yet.
    pub(crate) fn read(&self) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = fs::File::open(&self.file)?;
            file.seek(SeekFrom::Start(self.from))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}
