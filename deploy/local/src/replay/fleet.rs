//! The worker processes of a replay: started, killed and started again, and at last asked to stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use super::settings::Setting;
use crate::{Exit, Worker, ports};

/// How long a worker may take to commit and leave when it is asked to stop.
const GOODBYE: Duration = Duration::from_secs(40);

/// One instance of a worker, through all its lives.
#[derive(Debug)]
pub struct Instance {
    /// Its worker.
    pub worker: String,
    /// Its own name.
    pub name: String,
    /// Where it answers `/metrics`.
    pub http: SocketAddr,
    binary: PathBuf,
    configuration: String,
    arguments: Vec<String>,
    process: Worker,
    /// The lives that have ended.
    exits: Vec<Exit>,
    restarts: u64,
    asked_to_stop: bool,
}

/// What the processes of one worker have used, all lives together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time.
    pub cpu: Duration,
    /// The most memory that one process held.
    pub peak_rss_bytes: u64,
    /// Starts after a kill.
    pub restarts: u64,
}

/// All worker processes.
#[derive(Debug)]
pub struct Fleet {
    directory: PathBuf,
    instances: Vec<Instance>,
}

impl Fleet {
    /// No processes yet; configurations and logs go to `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), instances: Vec::new() }
    }

    /// Starts one more instance; `configuration` is given the port of its HTTP endpoint.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        &mut self,
        binary: &Path,
        worker: &str,
        name: &str,
        arguments: Vec<String>,
        configuration: impl FnOnce(u16) -> String,
    ) -> Result<()> {
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()?));
        let configuration = configuration(http.port());
        let process = Worker::spawn(binary, name, &configuration, &arguments, &self.directory)?;
        self.instances.push(Instance {
            worker: worker.to_owned(),
            name: name.to_owned(),
            http,
            binary: binary.to_owned(),
            configuration,
            arguments,
            process,
            exits: Vec::new(),
            restarts: 0,
            asked_to_stop: false,
        });
        Ok(())
    }

    /// All instances.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Freezes an instance where it is.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn freeze(&self, index: usize) -> Result<()> {
        self.instances[index].process.suspend()
    }

    /// Lets a frozen instance go on.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn thaw(&self, index: usize) -> Result<()> {
        self.instances[index].process.resume()
    }

    /// Kills an instance with SIGKILL and starts it again at once, under its old name.
    ///
    /// # Errors
    /// It cannot be killed or started.
    pub fn kill_and_restart(&mut self, index: usize) -> Result<()> {
        let instance = &mut self.instances[index];
        instance.exits.push(instance.process.kill9()?);
        instance.start_again(&[], &self.directory)?;
        instance.restarts += 1;
        Ok(())
    }

    /// Kills an instance with SIGKILL; it stays dead until [`revive`](Self::revive).
    ///
    /// # Errors
    /// It cannot be killed.
    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        let instance = &mut self.instances[index];
        instance.asked_to_stop = true;
        instance.process.kill9()?;
        Ok(())
    }

    /// Asks one instance to stop, and does not wait for it: [`ended`](Self::ended).
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub(crate) fn ask_to_stop(&mut self, index: usize) -> Result<()> {
        self.instances[index].asked_to_stop = true;
        self.instances[index].process.terminate()
    }

    /// How an instance's present life has ended, if it has.
    pub(crate) fn ended(&self, index: usize) -> Option<Exit> {
        self.instances[index].process.exit()
    }

    /// Starts an instance that has ended again, under its old name, with these environment variables in this life.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn revive(&mut self, index: usize, environment: &[(String, String)]) -> Result<()> {
        let instance = &mut self.instances[index];
        instance.exits.extend(instance.process.exit());
        instance.restarts += 1;
        instance.start_with(environment, &self.directory)
    }

    /// Starts all again that were asked to stop, under their old names; the settings are for this life only.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start_again(&mut self, settings: &[Setting]) -> Result<()> {
        self.instances.iter_mut().try_for_each(|instance| instance.start_again(settings, &self.directory))
    }

    /// Whether all processes that should run do.
    ///
    /// # Errors
    /// One has ended unasked; the error shows the tail of its log.
    pub fn check(&self) -> Result<()> {
        for instance in self.instances.iter().filter(|instance| !instance.asked_to_stop) {
            if let Some(exit) = instance.process.exit() {
                bail!("{} ended unasked with {}. {}", instance.name, describe(exit), instance.last_words());
            }
        }
        Ok(())
    }

    /// Asks all to stop and waits for them; returns what was wrong with their ends.
    ///
    /// # Errors
    /// A signal cannot be sent.
    pub fn stop(&mut self) -> Result<Vec<String>> {
        for instance in &mut self.instances {
            instance.process.terminate()?;
            instance.asked_to_stop = true;
        }
        let mut problems = Vec::new();
        for instance in &mut self.instances {
            match instance.process.wait(GOODBYE) {
                Ok(exit) => {
                    if !exit.success() {
                        let words = instance.last_words();
                        problems.push(format!("{} stopped with {}. {words}", instance.name, describe(exit)));
                    }
                    instance.exits.push(exit);
                }
                Err(_) => {
                    let words = instance.last_words();
                    problems.push(format!("{} did not stop within {GOODBYE:?}. {words}", instance.name));
                    instance.exits.push(instance.process.kill9()?);
                }
            }
        }
        Ok(problems)
    }

    /// What the instances of a worker have used, of the lives that have ended.
    #[must_use]
    pub fn usage(&self, worker: &str) -> Usage {
        self.sum(worker, |exits| exits)
    }

    /// The same of the last of these lives alone.
    #[must_use]
    pub fn last_usage(&self, worker: &str) -> Usage {
        self.sum(worker, |exits| exits.last().map_or(&[], std::slice::from_ref))
    }

    fn sum(&self, worker: &str, lives: impl Fn(&[Exit]) -> &[Exit]) -> Usage {
        let mut usage = Usage::default();
        for instance in self.instances.iter().filter(|instance| instance.worker == worker) {
            usage.restarts += instance.restarts;
            for exit in lives(&instance.exits) {
                usage.cpu += exit.cpu;
                usage.peak_rss_bytes = usage.peak_rss_bytes.max(exit.peak_rss_bytes);
            }
        }
        usage
    }
}

impl Instance {
    fn start_again(&mut self, settings: &[Setting], directory: &Path) -> Result<()> {
        let settings = settings.iter().filter(|setting| setting.worker == self.worker).flat_map(Setting::arguments);
        let arguments: Vec<String> = self.arguments.iter().cloned().chain(settings).collect();
        self.process = Worker::spawn(&self.binary, &self.name, &self.configuration, &arguments, directory)?;
        self.asked_to_stop = false;
        Ok(())
    }

    fn start_with(&mut self, environment: &[(String, String)], directory: &Path) -> Result<()> {
        let (binary, name, configuration) = (&self.binary, &self.name, &self.configuration);
        self.process = Worker::spawn_with(binary, name, configuration, &self.arguments, environment, directory)?;
        self.asked_to_stop = false;
        Ok(())
    }

    /// Its present process.
    pub(crate) fn process(&self) -> &Worker {
        &self.process
    }

    pub(crate) fn last_words(&self) -> String {
        format!("Its log {} ends with:\n{}", self.process.log().display(), self.process.log_tail(20))
    }
}

fn describe(exit: Exit) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}
