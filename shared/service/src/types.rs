//! Types of configuration values: durations, sizes, addresses, secrets.

mod duration;
mod http_url;
mod quantity;
mod secret;
mod size;

pub use duration::HumanDuration;
pub use http_url::HttpUrl;
pub use secret::Secret;
pub use size::Size;
