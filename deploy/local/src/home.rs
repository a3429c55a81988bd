//! The folder of a stack and the file in it that says what runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::components;

/// Names the components of a stack that runs on without the program that started it.
const FILE: &str = "stack.json";
/// The folder in it for the caller's files.
pub(crate) const WORK: &str = "work";
/// How long a component may take to end in an orderly way.
const PATIENCE: Duration = Duration::from_secs(15);

/// A component that runs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// What it is.
    pub component: Component,
    /// Its process id.
    pub pid: u32,
    /// What clients connect to.
    pub address: String,
}

/// A stack that was detached, found again by its folder.
#[derive(Clone, Debug)]
pub struct DetachedStack {
    directory: PathBuf,
    /// Its components, dead ones included.
    pub components: Vec<Running>,
}

impl DetachedStack {
    /// The stack in `directory`; `None` if none was left running there.
    ///
    /// # Errors
    /// The file that describes it cannot be read.
    pub fn find(directory: &Path) -> Result<Option<DetachedStack>> {
        let file = directory.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let components = serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
        Ok(Some(DetachedStack { directory: fs::canonicalize(directory)?, components }))
    }

    /// Whether this component's process is there: that number, and started for this folder.
    pub fn is_alive(&self, running: &Running) -> bool {
        is_ours(running.pid, &self.directory)
    }

    /// Whether any component's process is there.
    pub fn is_any_alive(&self) -> bool {
        self.components.iter().any(|running| self.is_alive(running))
    }

    /// The folder that it keeps its data and logs in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends its processes, in an orderly way if they do so within 15 s; the folder stays.
    ///
    /// # Errors
    /// A process may not be signalled or does not even end by SIGKILL.
    pub fn stop(self) -> Result<()> {
        for signal in [Signal::TERM, Signal::KILL] {
            for running in self.components.iter().filter(|running| self.is_alive(running)) {
                send(running, signal)?;
            }
            let asked = Instant::now();
            while self.is_any_alive() && asked.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(50));
            }
            if !self.is_any_alive() {
                let file = self.directory.join(FILE);
                return fs::remove_file(&file).with_context(|| format!("{} cannot be removed", file.display()));
            }
        }
        let left: Vec<String> = self
            .components
            .iter()
            .filter(|running| self.is_alive(running))
            .map(|running| format!("{} ({})", running.component, running.pid))
            .collect();
        bail!("still running after SIGKILL: {}", left.join(", "))
    }
}

/// Removes what a stack wrote into its folder, and the folder if nothing else is in it.
///
/// # Errors
/// A stack still runs there, or something may not be removed.
pub fn remove_data(directory: &Path) -> Result<()> {
    if DetachedStack::find(directory)?.is_some_and(|stack| stack.is_any_alive()) {
        bail!("the stack in {} still runs: its data is in use", directory.display());
    }
    let folders = Component::ALL.iter().map(|component| component.name().to_owned()).chain([WORK.to_owned()]);
    for folder in folders {
        gone(fs::remove_dir_all(directory.join(&folder)), directory, &folder)?;
    }
    let files = Component::ALL.iter().map(|component| format!("{component}.log")).chain([FILE.to_owned()]);
    for file in files {
        gone(fs::remove_file(directory.join(&file)), directory, &file)?;
    }
    // It stays where somebody else keeps something in it.
    let _ = fs::remove_dir(directory);
    Ok(())
}

fn gone(removal: std::io::Result<()>, directory: &Path, name: &str) -> Result<()> {
    match removal {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", directory.join(name).display()))
        }
        _ => Ok(()),
    }
}

/// Writes down what goes on running in `directory`.
pub(crate) fn record(directory: &Path, components: &[Running]) -> Result<()> {
    let file = directory.join(FILE);
    fs::write(&file, serde_json::to_string_pretty(components)?)
        .with_context(|| format!("{} cannot be written", file.display()))
}

fn send(running: &Running, signal: Signal) -> Result<()> {
    let pid = i32::try_from(running.pid).ok().and_then(Pid::from_raw).context("a process id is 0 or too large")?;
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => bail!("{} ({}) cannot be stopped: {error}", running.component, running.pid),
    }
}

/// Process ids are used again: a process is ours if its command line carries the mark of this folder. A zombie has no
/// command line.
fn is_ours(pid: u32, directory: &Path) -> bool {
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mark = components::mark(directory);
    command_line.split(|byte| *byte == 0).any(|argument| argument == mark.as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::{Component, DetachedStack, Running, record};

    #[test]
    fn a_number_that_now_belongs_to_another_process_is_not_taken_for_ours() {
        let directory = tempfile::tempdir().unwrap();
        let running = Running { component: Component::Kafka, pid: std::process::id(), address: String::new() };
        record(directory.path(), std::slice::from_ref(&running)).unwrap();
        let stack = DetachedStack::find(directory.path()).unwrap().unwrap();
        assert_eq!(stack.components, vec![running]);
        assert!(!stack.is_any_alive());
        // Would end this test if it signalled.
        stack.stop().unwrap();
        assert!(DetachedStack::find(directory.path()).unwrap().is_none());
    }
}
