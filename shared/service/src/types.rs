//! Types of configuration values: durations, sizes, addresses, secrets.

mod duration;
mod http_url;
mod http_urls;
mod quantity;
mod secret;
mod size;

pub use duration::HumanDuration;
pub use http_url::HttpUrl;
pub use http_urls::HttpUrls;
pub use secret::Secret;
pub use size::Size;
