use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The address of an HTTP service: `http://host:port/path` or `https://…`, without a trailing slash.
///
/// User and password inside the address are refused: addresses are logged. They have keys of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// Checks `text`; the error says what is wrong and never repeats a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .ok_or("an address must begin with http:// or https://")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(
                "user and password do not belong into an address (addresses are logged): use the keys `user` and `password`",
            );
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err("the address has no host");
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) || text.contains(['?', '#']) {
            return Err("the address must not contain white space, a query or a fragment");
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    /// As text, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_trailing_slash() {
        assert_eq!(HttpUrl::parse("http://127.0.0.1:8123/").unwrap().as_str(), "http://127.0.0.1:8123");
        assert_eq!(HttpUrl::parse("https://host/apis/ccompat/v7").unwrap().as_str(), "https://host/apis/ccompat/v7");
    }

    #[test]
    fn addresses_with_credentials_or_without_scheme_or_host_are_refused() {
        for text in ["host:8123", "ftp://host", "http://", "http://:80", "http:///path", "http://a b", "http://a?x=1"] {
            assert!(HttpUrl::parse(text).is_err(), "{text:?}");
        }
        let error = HttpUrl::parse("http://me:hunter2@host").unwrap_err();
        assert!(!error.contains("hunter2") && error.contains("`password`"), "{error}");
    }
}
