use std::path::PathBuf;

use serde::Deserialize;

use crate::{HttpUrls, HumanDuration, Problems, Secret, Validate};

/// The section `[registry]`: where schemas are looked up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Base addresses of the registry's Confluent-compatible API, in the order in which they are tried.
    pub url: HttpUrls,
    /// User name; empty for none.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// Certificates (PEM) to trust instead of the public ones.
    #[serde(deserialize_with = "super::optional_path")]
    pub ca_location: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: HumanDuration,
    /// How long a schema id that the registry does not know yet is waited for; 0: not at all.
    pub unknown_schema_wait: HumanDuration,
}

/// Beyond it a partition would stand for longer than anybody registers a schema late.
const LONGEST_WAIT_MS: i64 = 3_600_000;

impl Validate for Registry {
    fn validate(&self, problems: &mut Problems) {
        if self.user.is_empty() != self.password.is_empty() {
            let missing = if self.user.is_empty() { "user" } else { "password" };
            problems.add(missing, "\"\"", "set where the other one of user and password is");
        }
        if self.timeout.as_millis() == 0 {
            problems.add("timeout", self.timeout, "longer than 0s");
        }
        if self.unknown_schema_wait.as_millis() > LONGEST_WAIT_MS {
            problems.add("unknown_schema_wait", self.unknown_schema_wait, "0s to 1h");
        }
        super::check_readable(problems, "ca_location", self.ca_location.as_deref());
    }
}
