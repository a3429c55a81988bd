use std::fmt;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The built-in defaults.
    Default,
    /// The configuration file, by its path.
    File(String),
    /// An environment variable, by its name.
    Environment(String),
    /// `--set`, by its key.
    Set(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Set(key) => write!(f, "--set {key}"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key; empty where there is none, as for a file that cannot be read.
    pub key: String,
    /// The value, never a secret; `None` where it does not matter or might be one.
    pub value: Option<String>,
    /// What is wrong and what is allowed.
    pub message: String,
    /// Where the value came from; `None` for problems found outside of the loading.
    pub origin: Option<Origin>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(origin) = &self.origin {
            let space = if self.key.is_empty() { "" } else { " " };
            write!(f, "{space}({origin})")?;
        }
        let colon = if self.key.is_empty() && self.origin.is_none() { "" } else { ": " };
        write!(f, "{colon}{}", self.message)
    }
}

/// Everything that is wrong with the configuration. As an error of the work it makes the exit code 2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    problems: Vec<Problem>,
    /// Prepended to the keys of what is added: the sections that are being checked.
    section: Vec<String>,
}

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `key` (relative to the section being checked) is wrong; `allowed` completes "must be …".
    ///
    /// `value` is shown as it is given here: of a secret, give the [`crate::Secret`] itself, which shows as `***`.
    pub fn add(&mut self, key: impl AsRef<str>, value: impl fmt::Display, allowed: impl AsRef<str>) {
        let key = self.full_key(key.as_ref());
        let message = format!("must be {}", allowed.as_ref());
        self.push(Problem { key, value: Some(value.to_string()), message, origin: None });
    }

    /// Something else is wrong, such as a missing topic: `message` says what, and what to do.
    pub fn tell(&mut self, key: impl AsRef<str>, message: impl Into<String>) {
        let key = self.full_key(key.as_ref());
        self.push(Problem { key, value: None, message: message.into(), origin: None });
    }

    /// Checks a section whose keys all begin with `section.`.
    pub fn within(&mut self, section: &str, settings: &impl Validate) {
        self.section.push(section.to_owned());
        settings.validate(self);
        self.section.pop();
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many things are wrong.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Problem> {
        self.problems.iter_mut()
    }

    /// `Ok` if nothing is wrong, else itself as the error.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Whether something is wrong with `key`, or with what it lies in or holds.
    pub(super) fn concern(&self, key: &str) -> bool {
        let inside = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
        self.problems.iter().any(|problem| problem.key == key || inside(key, &problem.key) || inside(&problem.key, key))
    }

    fn full_key(&self, key: &str) -> String {
        let mut path = self.section.clone();
        path.push(key.to_owned());
        path.join(".")
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.problems.into_iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "{count} problem{} in the configuration:", if count == 1 { "" } else { "s" })?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// What a configuration checks beyond the types of its keys: ranges, and keys that must fit together.
pub trait Validate {
    /// Adds everything that is wrong with `self`; never stops at the first.
    fn validate(&self, problems: &mut Problems);
}
