//! The addresses of one registry: one is used until it fails, then the next.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::http::{self, Answer, Failure, Request};
use super::{RegistryConfig, RegistryError};

/// HTTP clients for the registry's addresses.
pub(super) struct Client {
    addresses: Vec<Address>,
    /// The address that answered last; another one is tried first only once it fails.
    current: AtomicUsize,
    user: Option<(String, Option<String>)>,
    /// All addresses, for messages.
    shown: String,
}

struct Address {
    url: String,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let addresses: Vec<Address> =
            config.url.split(',').map(|url| Address::new(url.trim(), config)).collect::<Result<_, _>>()?;
        let user = config.user.clone().map(|user| (user, config.password.clone()));
        let urls: Vec<&str> = addresses.iter().map(|address| address.url.as_str()).collect();
        Ok(Self { shown: urls.join(","), addresses, current: AtomicUsize::new(0), user })
    }

    /// The addresses, separated by commas.
    pub(super) fn url(&self) -> &str {
        &self.shown
    }

    /// Asks one address after the other, each once, until there is an answer.
    pub(super) async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let first = self.current.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for step in 0..self.addresses.len() {
            let index = (first + step) % self.addresses.len();
            let Address { url, http } = &self.addresses[index];
            match http::exchange(http, url, self.user.as_ref(), request).await {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(failure) => failures.push((url, failure)),
            }
        }
        let no_path = failures.iter().all(|(_, failure)| matches!(failure, Failure::NoSuchPath(_)));
        let asked = format!("{} {}", request.method.name(), request.path);
        let messages: Vec<String> = failures
            .iter()
            .map(|(url, failure)| format!("{url} does not answer {asked}: {}", failure.message()))
            .collect();
        let message = messages.join("; ");
        Err(if no_path { Failure::NoSuchPath(message) } else { Failure::Other(message) })
    }
}

impl Address {
    fn new(url: &str, config: &RegistryConfig) -> Result<Self, RegistryError> {
        let wrong = |key, value: &str, message: String| RegistryError::Config { key, value: value.to_owned(), message };
        // What cannot be read as an address may hold a password anywhere.
        let parsed = reqwest::Url::parse(url)
            .map_err(|error| wrong("url", "***", format!("{error}; an http or https URL is expected")))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            let message = "user and password belong into registry.user and registry.password".to_owned();
            return Err(wrong("url", "***", message));
        }
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("url", url, "an http or https URL is expected".to_owned()));
        }
        let mut builder = reqwest::Client::builder()
            .timeout(config.request_timeout)
            .user_agent("recwatch")
            // A registry does not send its clients elsewhere; a login page does.
            .redirect(reqwest::redirect::Policy::none());
        if parsed.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]")) {
            // What runs on this machine is not behind a proxy.
            builder = builder.no_proxy();
        }
        if let Some(path) = &config.ca_location {
            let shown = path.display().to_string();
            let unusable = |error: &dyn std::fmt::Display| wrong("ca_location", &shown, format!("{error}"));
            let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
            if authorities.is_empty() {
                return Err(unusable(&"the file holds no PEM certificate"));
            }
            builder = builder.tls_certs_only(authorities);
        }
        let http = builder.build().map_err(|error| wrong("url", url, http::with_causes(&error)))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), http })
    }
}
