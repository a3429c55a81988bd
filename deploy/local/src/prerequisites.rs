//! What must be installed on the machine, checked before anything is downloaded or started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, bail};

/// The oldest Java that Kafka 4 runs on.
const OLDEST_JAVA: u32 = 17;
/// The oldest Python that the gateway and the supervisor are written for.
const OLDEST_PYTHON: (u32, u32) = (3, 9);

/// The tools that the stack uses.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) java: PathBuf,
    pub(crate) maven: PathBuf,
    pub(crate) python: PathBuf,
}

/// Finds everything that is needed.
///
/// # Errors
/// Names all that is missing or too old at once, each with how to get it.
pub(crate) fn check() -> Result<Tools> {
    let (java, python) = std::thread::scope(|scope| {
        let java = scope.spawn(find_java);
        let python = find_python();
        (java.join().unwrap_or_else(|_| Err("Java: the check failed".to_owned())), python)
    });
    let maven = in_path("mvn").ok_or_else(|| {
        "Maven (mvn) is not installed. It downloads Kafka and the schema registry. Debian and Ubuntu: apt-get install \
         maven; Fedora: dnf install maven"
            .to_owned()
    });
    match (java, maven, python, find_cargo()) {
        (Ok(java), Ok(maven), Ok(python), Ok(())) => Ok(Tools { java, maven, python }),
        (java, maven, python, cargo) => {
            let missing: Vec<String> =
                [java.err(), maven.err(), python.err(), cargo.err()].into_iter().flatten().collect();
            bail!("this machine lacks what the local stack needs:\n  - {}", missing.join("\n  - "))
        }
    }
}

/// The Python interpreter alone.
pub(crate) fn python() -> Result<PathBuf> {
    find_python().map_err(anyhow::Error::msg)
}

/// The cargo that built this program, as cargo tells, or the one in `PATH`.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn find_cargo() -> Result<(), String> {
    let cargo = cargo();
    if cargo.is_file() || in_path(&cargo.to_string_lossy()).is_some() {
        return Ok(());
    }
    Err("cargo is not in PATH. It builds the workers. Install it with rustup (https://rustup.rs)".to_owned())
}

fn find_java() -> Result<PathBuf, String> {
    let how = format!(
        "Java {OLDEST_JAVA} or newer runs Kafka and the schema registry. Debian and Ubuntu: apt-get install \
         openjdk-17-jre-headless; or set JAVA_HOME to one"
    );
    let java =
        std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java")).filter(|java| java.is_file());
    let Some(java) = java.or_else(|| in_path("java")) else { return Err(format!("java is not installed. {how}")) };
    let output =
        Command::new(&java).arg("-version").output().map_err(|error| format!("{}: {error}. {how}", java.display()))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match java_version(&text) {
        Some(version) if version >= OLDEST_JAVA => Ok(java),
        Some(version) => Err(format!("{} is Java {version}. {how}", java.display())),
        None => Err(format!("{} does not say its version ({}). {how}", java.display(), text.trim())),
    }
}

/// The feature release in the output of `java -version`: 17 in `version "17.0.15"`, 8 in `version "1.8.0_392"`.
fn java_version(text: &str) -> Option<u32> {
    let quoted = text.split_once("version \"")?.1;
    let mut numbers = quoted.split(|character: char| !character.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        version => Some(version),
    }
}

fn find_python() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(ask_python).clone()
}

/// Asks for the interpreter's own path, past any launcher script, and whether it can make virtual environments.
fn ask_python() -> Result<PathBuf, String> {
    let (major, minor) = OLDEST_PYTHON;
    let how = format!(
        "Python {major}.{minor} or newer with venv runs the ClickHouse engine. Debian and Ubuntu: apt-get install \
         python3 python3-venv"
    );
    let question = "import sys, importlib.util as u; v = sys.version_info; \
                    print(v[0], v[1], all(u.find_spec(m) for m in ('venv', 'ensurepip')), sys.executable)";
    let output = match Command::new("python3").args(["-I", "-c", question]).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => return Err(format!("python3 fails ({}). {how}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(_) => return Err(format!("python3 is not installed. {how}")),
    };
    let mut words = output.trim().splitn(4, ' ');
    let version = (number(words.next()), number(words.next()));
    let has_venv = words.next() == Some("True");
    match words.next() {
        _ if version < OLDEST_PYTHON => Err(format!("python3 is {}.{}. {how}", version.0, version.1)),
        _ if !has_venv => Err(format!("python3 lacks venv or ensurepip. {how}")),
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(format!("python3 does not say where it is. {how}")),
    }
}

fn number(word: Option<&str>) -> u32 {
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::java_version;

    #[test]
    fn java_says_its_version_in_the_old_and_the_new_way() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(java_version("java version \"1.8.0_392\""), Some(8));
        assert_eq!(java_version("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(java_version("bash: java: cannot execute"), None);
    }
}
