use std::net::SocketAddr;

use serde::Deserialize;

use crate::{HumanDuration, Problems, Validate};

/// The section `[http]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen on; port 0 is any free port.
    pub listen: SocketAddr,
    /// `/readyz` says 503 while a partition has waited for so long.
    pub max_wait: HumanDuration,
    /// `/readyz` says 503 while a thread has made no turn for so long.
    pub max_silence: HumanDuration,
}

impl Validate for Http {
    fn validate(&self, problems: &mut Problems) {
        for (key, value) in [("max_wait", self.max_wait), ("max_silence", self.max_silence)] {
            if value.as_millis() == 0 {
                problems.add(key, value, "longer than 0s");
            }
        }
    }
}
