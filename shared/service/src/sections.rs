//! Configuration sections that workers share: each as a type, and as commented default text.

mod http;
mod kafka;
mod log;
mod properties;
mod registry;

pub use http::Http;
pub use kafka::{GroupProtocol, Kafka, SaslMechanism, SecurityProtocol};
pub use log::{Log, LogFormat};
pub use properties::Properties;
pub use registry::Registry;

/// Default text of `[kafka]`.
pub const KAFKA: &str = include_str!("../defaults/kafka.toml");
/// Default text of `[registry]`.
pub const REGISTRY: &str = include_str!("../defaults/registry.toml");
/// Default text of `[http]`.
pub const HTTP: &str = include_str!("../defaults/http.toml");
/// Default text of `[log]`.
pub const LOG: &str = include_str!("../defaults/log.toml");

/// Reads a path that is not set as an empty text.
fn optional_path<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<std::path::PathBuf>, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| text.into()))
}

/// Adds a problem if `path` is set and no file can be read there.
fn check_readable(problems: &mut crate::Problems, key: &str, path: Option<&std::path::Path>) {
    if let Some(path) = path
        && let Err(error) = std::fs::File::open(path)
    {
        problems.add(key, format!("{path:?}"), format!("a file that can be read ({error})"));
    }
}
