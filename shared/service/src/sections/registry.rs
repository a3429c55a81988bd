use std::path::PathBuf;

use serde::Deserialize;

use crate::{HttpUrl, HumanDuration, Problems, Secret, Validate};

/// The section `[registry]`: where schemas are looked up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Base address of the registry's Confluent-compatible API.
    pub url: HttpUrl,
    /// User name; empty for none.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// Certificates (PEM) to trust instead of the public ones.
    #[serde(deserialize_with = "super::optional_path")]
    pub ca_location: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: HumanDuration,
}

impl Validate for Registry {
    fn validate(&self, problems: &mut Problems) {
        if self.user.is_empty() != self.password.is_empty() {
            let missing = if self.user.is_empty() { "user" } else { "password" };
            problems.add(missing, "\"\"", "set where the other one of user and password is");
        }
        if self.timeout.as_millis() == 0 {
            problems.add("timeout", self.timeout, "longer than 0s");
        }
        super::check_readable(problems, "ca_location", self.ca_location.as_deref());
    }
}
