use std::net::SocketAddr;

use serde::Deserialize;

use crate::{Problems, Validate};

/// The section `[http]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen on; port 0 is any free port.
    pub listen: SocketAddr,
}

impl Validate for Http {
    fn validate(&self, _problems: &mut Problems) {}
}
