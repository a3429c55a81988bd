//! Building the worker binaries of this workspace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::processes::{Launch, Process, ThrowAwayDirectory};
use crate::progress::Progress;
use crate::{logs, prerequisites};

const STEP: &str = "workers";
/// From nothing, on a small machine: OpenSSL and librdkafka are compiled.
const DEADLINE: Duration = Duration::from_secs(3600);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Cargo marks its target folders with this file.
const TARGET_MARK: &str = "CACHEDIR.TAG";

/// How and where cargo builds: a profile, and the target folder that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    name: String,
    target_directory: PathBuf,
    /// The platform, where it was named in the build.
    target: Option<String>,
}

impl Profile {
    /// The profile that the running program was built in, told from the folder that it lies in.
    ///
    /// # Errors
    /// The program does not lie in a target folder of cargo.
    pub fn of_this_program() -> Result<Profile> {
        Profile::of_program(&env::current_exe().context("this program does not know where it is")?)
    }

    /// `TARGET/[PLATFORM/]PROFILE/[deps/|examples/]PROGRAM`
    fn of_program(program: &Path) -> Result<Profile> {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut folder = program.parent().unwrap_or(program);
        if ["deps", "examples"].contains(&name(folder).as_str()) {
            folder = folder.parent().unwrap_or(folder);
        }
        let profile = match name(folder).as_str() {
            "debug" => "dev".to_owned(),
            other => other.to_owned(),
        };
        let above = folder.parent().unwrap_or(folder);
        let (target_directory, target) = match above.parent() {
            _ if above.join(TARGET_MARK).is_file() => (above, None),
            Some(higher) if higher.join(TARGET_MARK).is_file() => (higher, Some(name(above))),
            _ => bail!(
                "{} does not lie in a target folder of cargo, so the profile to build the workers in cannot be told: \
                 run it by cargo run, cargo test or cargo stack",
                program.display()
            ),
        };
        Ok(Profile { name: profile, target_directory: target_directory.to_owned(), target })
    }
}

/// Where the built worker binaries are.
#[derive(Clone, Debug)]
pub struct WorkerBinaries(BTreeMap<String, PathBuf>);

impl WorkerBinaries {
    /// The binary of this worker.
    ///
    /// # Errors
    /// There is no such worker; the error names those that are.
    pub fn path(&self, worker: &str) -> Result<&Path> {
        self.0.get(worker).map(PathBuf::as_path).with_context(|| {
            format!("there is no worker {worker:?}: there are {}", self.names().collect::<Vec<_>>().join(", "))
        })
    }

    /// Copies of them in a folder, which later builds do not change.
    ///
    /// # Errors
    /// One cannot be copied.
    pub(crate) fn copied_to(&self, folder: &Path) -> Result<WorkerBinaries> {
        let copy = |(name, binary): (&String, &PathBuf)| {
            let copy = folder.join(name);
            fs::copy(binary, &copy).with_context(|| format!("{} cannot be copied", binary.display()))?;
            Ok((name.clone(), copy))
        };
        Ok(WorkerBinaries(self.0.iter().map(copy).collect::<Result<_>>()?))
    }

    /// The workers that there are, one for every folder of `workers/`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Builds the worker binaries with `cargo build`; quick when they are up to date.
///
/// # Errors
/// The build fails; the error shows the compiler's messages.
pub fn build_workers(profile: &Profile, progress: &dyn Progress) -> Result<WorkerBinaries> {
    build_workers_with(profile, None, progress)
}

/// The same with one feature of each of them.
///
/// # Errors
/// As [`build_workers`].
pub(crate) fn build_workers_with(
    profile: &Profile,
    feature: Option<&str>,
    progress: &dyn Progress,
) -> Result<WorkerBinaries> {
    let root = workspace_root()?;
    let workers = worker_packages(&root)?;
    let scratch = ThrowAwayDirectory::create("recwatch-build-")?;
    let messages = scratch.path().join("messages.json");
    // By --bin and not by --package: so cargo works out the features of dependencies for all of the workspace's default
    // members at once, as it did for `cargo stack` itself, and builds none of them a second time.
    let mut arguments: Vec<std::ffi::OsString> =
        ["build", "--locked", "--message-format", "json-render-diagnostics", "--profile", &profile.name]
            .into_iter()
            .map(Into::into)
            .collect();
    arguments.extend(["--target-dir".into(), profile.target_directory.clone().into()]);
    if let Some(target) = &profile.target {
        arguments.extend(["--target".into(), target.into()]);
    }
    arguments.extend(workers.iter().flat_map(|worker| ["--bin".into(), worker.into()]));
    if let Some(feature) = feature {
        let features: Vec<String> = workers.iter().map(|worker| format!("{worker}/{feature}")).collect();
        arguments.extend(["--features".into(), features.join(",").into()]);
    }
    let launch = Launch {
        name: "cargo build".to_owned(),
        program: prerequisites::cargo(),
        arguments,
        directory: Some(root),
        log: scratch.path().join("cargo.log"),
        output: Some(messages.clone()),
        ..Launch::default()
    };
    progress.update(STEP, "building");
    follow(&Process::start(&launch)?, progress)?;
    let built = executables(&fs::read_to_string(&messages).context("cargo's messages cannot be read")?);
    for worker in &workers {
        if !built.contains_key(worker) {
            bail!("cargo built no binary for the worker {worker}");
        }
    }
    progress.done(STEP, &format!("{} built", workers.join(", ")));
    Ok(WorkerBinaries(built))
}

/// Shows what cargo compiles until it ends.
fn follow(cargo: &Process, progress: &dyn Progress) -> Result<()> {
    let started = std::time::Instant::now();
    let mut shown = String::new();
    let exit = loop {
        match cargo.wait_up_to(LOOK_EVERY)? {
            Some(exit) => break exit,
            None if started.elapsed() > DEADLINE => bail!("cargo build has not ended after {DEADLINE:?}"),
            None => {}
        }
        let now = logs::tail(cargo.log(), 1).trim().to_owned();
        if now != shown && now.starts_with("Compiling") {
            progress.update(STEP, &now);
            shown = now;
        }
    };
    if exit.success() {
        return Ok(());
    }
    bail!("the workers do not build ({exit}):\n{}", cargo.log_tail(60))
}

/// The folder of the workspace: where this crate was built, or as cargo says at run time.
fn workspace_root() -> Result<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = [Some(built.to_owned()), env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from)];
    candidates
        .iter()
        .flatten()
        .filter_map(|folder| folder.parent()?.parent())
        .find(|root| root.join("workers").is_dir() && root.join("Cargo.toml").is_file())
        .map(Path::to_owned)
        .with_context(|| format!("the source of the workers is not where this was built ({}/../..)", built.display()))
}

fn worker_packages(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("workers");
    let mut workers = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{} cannot be listed", folder.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            workers.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    workers.sort();
    Ok(workers)
}

/// Picks the executables out of cargo's messages, one JSON object a line.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter_map(|message| Some((message.target?.name, message.executable?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Profile, TARGET_MARK, executables};

    fn target() -> tempfile::TempDir {
        let target = tempfile::tempdir().unwrap();
        std::fs::write(target.path().join(TARGET_MARK), "").unwrap();
        target
    }

    fn profile(name: &str, directory: &Path, target: Option<&str>) -> Profile {
        Profile { name: name.to_owned(), target_directory: directory.to_owned(), target: target.map(str::to_owned) }
    }

    #[test]
    fn the_profile_is_told_from_where_the_program_lies() {
        let target = target();
        let root = target.path();
        let of = |path: &str| Profile::of_program(&root.join(path)).unwrap();
        assert_eq!(of("debug/stack"), profile("dev", root, None));
        assert_eq!(of("debug/deps/stack-0123"), profile("dev", root, None));
        assert_eq!(of("release/examples/short"), profile("release", root, None));
        assert_eq!(
            of("x86_64-unknown-linux-gnu/bench/stack"),
            profile("bench", root, Some("x86_64-unknown-linux-gnu"))
        );
    }

    #[test]
    fn a_program_outside_a_target_folder_is_told_how_to_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let error = Profile::of_program(&folder.path().join("bin/stack")).unwrap_err().to_string();
        assert!(error.contains("cargo run"), "{error}");
    }

    #[test]
    fn executables_are_picked_out_of_what_cargo_says() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"records"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"session-entropy"},"executable":"/t/debug/session-entropy"}
{"reason":"build-finished","success":true}
not json"#;
        let found = executables(messages);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("session-entropy".to_owned(), PathBuf::from("/t/debug/session-entropy"))]
        );
    }
}
