//! Python packages by pip, in a virtual environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use xxhash_rust::xxh3::xxh3_64;

use super::download;
use crate::prerequisites::Tools;
use crate::processes::{Launch, Process};
use crate::progress::Progress;

const DEADLINE: Duration = Duration::from_secs(1800);

/// An environment belongs to the interpreter that made it.
pub(super) fn cache_name(tools: &Tools, version: &str) -> String {
    format!("chdb-core-{version}-{:08x}", xxh3_64(tools.python.as_os_str().as_encoded_bytes()) as u32)
}

/// Makes an environment in `directory` with one requirement. Its own requirements (data frame libraries, half a gigabyte)
/// are left out: the engine imports them only when data frames are asked for.
pub(super) fn install(tools: &Tools, requirement: &str, directory: &Path, progress: &dyn Progress) -> Result<()> {
    let log = directory.join("pip.log");
    let step = |name: &str, program: PathBuf, arguments: &[&str]| Launch {
        name: name.to_owned(),
        program,
        arguments: arguments.iter().map(Into::into).collect(),
        directory: Some(directory.to_owned()),
        log: log.clone(),
        ..Launch::default()
    };
    Process::run(&step("python3 -m venv", tools.python.clone(), &["-m", "venv", "venv"]), DEADLINE)?;
    let pip = ["-m", "pip", "--disable-pip-version-check", "install", "--no-input", "--no-deps", requirement];
    download(&step("pip", interpreter(directory), &pip), DEADLINE, progress)?;
    Process::run(&step("chdb", interpreter(directory), &["-c", "import chdb.session"]), DEADLINE)?;
    Ok(())
}

/// The environment's interpreter. It is found relative to itself, so the folder may be renamed after the installation.
pub(super) fn interpreter(directory: &Path) -> PathBuf {
    directory.join("venv/bin/python")
}
