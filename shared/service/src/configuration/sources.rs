use std::path::Path;

/// Everything that a configuration is read from, from the weakest to the strongest. Not to be shown: there are secrets in
/// the environment.
#[derive(Clone)]
pub struct Sources<'a> {
    /// The built-in defaults (TOML).
    pub defaults: &'a str,
    /// The configuration file.
    pub file: Option<&'a Path>,
    /// Environment variables; only those that begin with `RECWATCH_` are looked at. Those that set keys of other workers are
    /// left out.
    pub environment: Vec<(String, String)>,
    /// `KEY=VALUE`, later ones win.
    pub sets: &'a [String],
}

impl<'a> Sources<'a> {
    /// The defaults alone.
    pub fn of_defaults(defaults: &'a str) -> Self {
        Self { defaults, file: None, environment: Vec::new(), sets: &[] }
    }

    /// The variables of this process. What is not Unicode cannot be one of ours, but for a value, which is then refused
    /// for the characters that replace its bytes.
    pub fn process_environment() -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect()
    }
}
