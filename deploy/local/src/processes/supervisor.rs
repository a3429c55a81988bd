//! This program's end of the supervisor (`supervisor.py`): one for the whole program, started on first use.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Exit;
use crate::prerequisites;

const SCRIPT: &str = include_str!("supervisor.py");

/// Reads the script from standard input, of which it is the first part, and goes on with the rest as commands.
const LOADER: &str = "import sys; exec(compile(sys.stdin.read(int(sys.argv[2])), sys.argv[1], 'exec'))";

static CURRENT: Mutex<Option<Arc<Supervisor>>> = Mutex::new(None);

/// How far a child has come.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    Asked,
    Running { pid: u32 },
    Refused { message: String },
    Ended { exit: Exit },
}

#[derive(Debug)]
pub(super) struct Supervisor {
    commands: Mutex<ChildStdin>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    children: HashMap<u64, Progress>,
    /// The supervisor is gone, and with it the children.
    lost: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Started { id: u64, pid: u32 },
    Failed { id: u64, message: String },
    Ended { id: u64, code: Option<i32>, signal: Option<i32>, cpu_seconds: f64, peak_rss_bytes: u64 },
}

impl Supervisor {
    /// The program's supervisor; a new one if the last is gone.
    pub(super) fn get() -> Result<Arc<Supervisor>> {
        let mut current = lock(&CURRENT);
        if let Some(supervisor) = current.as_ref()
            && !lock(&supervisor.state).lost
        {
            return Ok(Arc::clone(supervisor));
        }
        let supervisor = Supervisor::spawn()?;
        *current = Some(Arc::clone(&supervisor));
        Ok(supervisor)
    }

    fn spawn() -> Result<Arc<Supervisor>> {
        let python = prerequisites::python()?;
        let mut child = Command::new(&python)
            .args(["-I", "-S", "-W", "ignore", "-c", LOADER, "recwatch-supervisor"])
            .arg(SCRIPT.chars().count().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // a Ctrl-C at the terminal must not end it before it has ended the children
            .spawn()
            .with_context(|| format!("the supervisor of child processes cannot be run with {}", python.display()))?;
        let (Some(mut commands), Some(events)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the supervisor of child processes has no pipes")
        };
        commands.write_all(SCRIPT.as_bytes()).context("the supervisor of child processes ended at its start")?;
        let supervisor = Arc::new(Supervisor {
            commands: Mutex::new(commands),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let listener = Arc::clone(&supervisor);
        std::thread::Builder::new().name("supervisor-events".to_owned()).spawn(move || {
            listener.listen(events);
            let _ = child.wait();
        })?;
        Ok(supervisor)
    }

    fn listen(&self, events: ChildStdout) {
        for line in BufReader::new(events).lines() {
            let Ok(line) = line else { break };
            let Ok(event) = serde_json::from_str(&line) else { continue };
            let mut state = lock(&self.state);
            let (id, progress) = match event {
                Event::Started { id, pid } => (id, Progress::Running { pid }),
                Event::Failed { id, message } => (id, Progress::Refused { message }),
                Event::Ended { id, code, signal, cpu_seconds, peak_rss_bytes } => {
                    let cpu = Duration::try_from_secs_f64(cpu_seconds).unwrap_or_default();
                    (id, Progress::Ended { exit: Exit { code, signal, cpu, peak_rss_bytes } })
                }
            };
            // A child whose handle is gone is of no interest any more.
            if let Some(known) = state.children.get_mut(&id) {
                *known = progress;
            }
            self.changed.notify_all();
        }
        let mut state = lock(&self.state);
        state.lost = true;
        self.changed.notify_all();
    }

    /// Sends `command` with a new id and waits until the child runs: its id and process id.
    pub(super) fn start(&self, mut command: Value) -> Result<(u64, u32)> {
        let id = {
            let mut state = lock(&self.state);
            state.next += 1;
            let id = state.next;
            state.children.insert(id, Progress::Asked);
            id
        };
        command["op"] = json!("start");
        command["id"] = json!(id);
        self.send(&command)?;
        let started = self.wait_for(id, Duration::from_secs(30), |progress| !matches!(progress, Progress::Asked))?;
        match started {
            Some(Progress::Running { pid }) => Ok((id, pid)),
            // Ended already: the id is still its name, the process id is of no use to anybody.
            Some(Progress::Ended { .. }) => Ok((id, 0)),
            Some(Progress::Refused { message }) => {
                self.forget(id);
                bail!("{message}")
            }
            Some(Progress::Asked) | None => bail!("the supervisor of child processes does not answer"),
        }
    }

    pub(super) fn signal(&self, id: u64, name: &str, group: bool) -> Result<()> {
        self.send(&json!({"op": "signal", "id": id, "signal": name, "group": group}))
    }

    pub(super) fn release(&self, id: u64) -> Result<()> {
        self.send(&json!({"op": "release", "id": id}))
    }

    pub(super) fn remove_at_end(&self, directory: &Path) -> Result<()> {
        self.send(&json!({"op": "remove", "path": directory}))
    }

    pub(super) fn keep_at_end(&self, directory: &Path) -> Result<()> {
        self.send(&json!({"op": "keep", "path": directory}))
    }

    pub(super) fn exit(&self, id: u64) -> Option<Exit> {
        let state = lock(&self.state);
        ended(&state, id)
    }

    pub(super) fn wait(&self, id: u64, timeout: Duration) -> Result<Option<Exit>> {
        let progress = self.wait_for(id, timeout, |progress| matches!(progress, Progress::Ended { .. }))?;
        Ok(match progress {
            Some(Progress::Ended { exit }) => Some(exit),
            _ => None,
        })
    }

    pub(super) fn forget(&self, id: u64) {
        lock(&self.state).children.remove(&id);
    }

    fn send(&self, command: &Value) -> Result<()> {
        let mut line = command.to_string();
        line.push('\n');
        lock(&self.commands).write_all(line.as_bytes()).context("the supervisor of child processes is gone")
    }

    fn wait_for(&self, id: u64, timeout: Duration, until: impl Fn(&Progress) -> bool) -> Result<Option<Progress>> {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.state);
        loop {
            match state.children.get(&id) {
                Some(progress) if until(progress) => return Ok(Some(progress.clone())),
                Some(_) if state.lost => bail!("the supervisor of child processes was killed, and they with it"),
                Some(_) => {}
                None => return Ok(None),
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return Ok(None) };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn ended(state: &State, id: u64) -> Option<Exit> {
    match state.children.get(&id) {
        Some(Progress::Ended { exit }) => Some(*exit),
        // Killed by the kernel together with the supervisor; what it used is not known.
        Some(Progress::Running { .. }) if state.lost => {
            Some(Exit { code: None, signal: Some(9), cpu: Duration::ZERO, peak_rss_bytes: 0 })
        }
        _ => None,
    }
}

/// A panic elsewhere does not make the state wrong: every change to it is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
