use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::HttpUrl;

/// One or more addresses of one HTTP service, separated by commas, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrls(Vec<HttpUrl>);

impl HttpUrls {
    /// Checks each address in `text`; the error says what is wrong and never repeats a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut urls = Vec::new();
        for (index, part) in text.split(',').enumerate() {
            let wrong = |what: &str| match text.contains(',') {
                true => format!("address {} of the list: {what}", index + 1),
                false => what.to_owned(),
            };
            let url = HttpUrl::parse(part.trim()).map_err(wrong)?;
            if urls.contains(&url) {
                return Err(wrong("stands there twice"));
            }
            urls.push(url);
        }
        Ok(Self(urls))
    }

    /// Each of them, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &HttpUrl> {
        self.0.iter()
    }
}

impl fmt::Display for HttpUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> = self.0.iter().map(HttpUrl::as_str).collect();
        f.write_str(&urls.join(","))
    }
}

impl<'de> Deserialize<'de> for HttpUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl Serialize for HttpUrls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_of_a_list_is_checked_and_the_wrong_one_is_named() {
        let urls = HttpUrls::parse("http://a:8081/, https://b/apis/ccompat/v7").unwrap();
        assert_eq!(urls.to_string(), "http://a:8081,https://b/apis/ccompat/v7");
        assert_eq!(urls.iter().count(), 2);
        for (text, start) in [
            ("http://a:8081,b:8081", "address 2 of the list: an address must begin with http://"),
            ("http://a:8081,", "address 2 of the list: an address must begin with http://"),
            ("http://a,http://me:hunter2@b", "address 2 of the list: user and password do not belong"),
            ("http://a,http://a/", "address 2 of the list: stands there twice"),
            ("", "an address must begin with http://"),
        ] {
            let error = HttpUrls::parse(text).unwrap_err();
            assert!(error.starts_with(start) && !error.contains("hunter2"), "{error}");
        }
    }
}
