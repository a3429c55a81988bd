//! A record's key as the text of its entity.
//!
//! What is kept by key is kept in the partition that the key chose. So a key that is not the entity's own text would spread one
//! entity over partitions, with a result in each and nothing said.

use crate::datum::Datum;
use crate::rejection::excerpt;
use crate::{Headers, Reason, Rejection, Text, wire};

/// What a record's key must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyRule {
    /// The entity of the record; other records are [`Reason::BadKey`].
    #[default]
    Entity,
    /// Anything, or nothing.
    Ignore,
}

/// A record's key in any of the forms in which it may be the text of an entity: its UTF-8 bytes, the text as a JSON string, or an
/// Avro string, in the registry's framing or with its schema in a header.
#[derive(Clone, Copy)]
#[doc(hidden)]
pub struct RecordKey<'r> {
    bytes: Option<&'r [u8]>,
    headers: &'r dyn Headers,
}

impl<'r> RecordKey<'r> {
    pub(crate) fn new(bytes: Option<&'r [u8]>, headers: &'r dyn Headers) -> Self {
        Self { bytes, headers }
    }

    /// Whether it is beyond doubt this text.
    #[inline]
    pub(crate) fn is(&self, entity: &str) -> bool {
        self.bytes == Some(entity.as_bytes()) || self.is_in_another_form(entity) == Ok(true)
    }

    /// Refuses a key that is not the text of `entity`, the record's field of that name.
    pub(crate) fn require(&self, name: &str, entity: &str) -> Result<(), Rejection> {
        if self.bytes == Some(entity.as_bytes()) || self.is_in_another_form(entity)? {
            return Ok(());
        }
        let entity = excerpt(entity.as_bytes());
        let found = match self.bytes {
            None => format!("there is no key; it must be the record's {name}, {entity}"),
            Some(key) => format!("the key is {}, not the record's {name}, {entity}", excerpt(key)),
        };
        Err(Rejection::new(Reason::BadKey, found))
    }

    #[cold]
    fn is_in_another_form(&self, entity: &str) -> Result<bool, Rejection> {
        let Some(bytes) = self.bytes else { return Ok(false) };
        Ok(match self.avro(bytes)? {
            Some(datum) => avro_text(datum).is_some_and(|text| text == *entity),
            None => json_text(bytes).is_some_and(|text| text == *entity),
        })
    }

    /// The text that the key is, where there is no value to compare it with.
    ///
    /// # Errors
    /// Where it is in none of the forms, or empty.
    pub(crate) fn text(&self) -> Result<Text<'r>, Rejection> {
        let Some(bytes) = self.bytes else {
            return Err(Rejection::new(Reason::BadKey, "there is neither a value nor a key"));
        };
        let text = match self.avro(bytes)? {
            Some(datum) => avro_text(datum),
            None => json_text(bytes).or_else(|| std::str::from_utf8(bytes).ok().map(Text::from)),
        };
        match text {
            Some(text) if text.is_empty() => {
                Err(Rejection::new(Reason::EmptyKey, "there is no value, and the key is empty"))
            }
            Some(text) => Ok(text),
            None => {
                let message = format!("there is no value, and the key {} is no text", excerpt(bytes));
                Err(Rejection::new(Reason::BadKey, message))
            }
        }
    }

    /// The Avro datum that the key is; `None` where it is not in Avro. Its schema is not looked up: whatever it is, these bytes
    /// are a string or are not, and they are what chose the partition.
    fn avro(&self, bytes: &'r [u8]) -> Result<Option<&'r [u8]>, Rejection> {
        match self.headers.last(wire::KEY_SCHEMA_ID) {
            Some(value) => match wire::read_header(wire::KEY_SCHEMA_ID, value) {
                Ok(_) => Ok(Some(bytes)),
                Err(error) => Err(Rejection::new(Reason::Undecodable, error.to_string())),
            },
            None => Ok(wire::read(bytes).ok().map(|(_, datum)| datum).filter(|datum| avro_text(datum).is_some())),
        }
    }
}

/// The text of a datum that is a string and nothing else.
fn avro_text(datum: &[u8]) -> Option<Text<'_>> {
    let mut datum = Datum::new(datum);
    let text = datum.text()?;
    datum.is_empty().then_some(text)
}

/// The text of a JSON string.
fn json_text(bytes: &[u8]) -> Option<Text<'_>> {
    // anything else is not looked at further: `serde_json` would find that out too
    if bytes.first() != Some(&b'"') {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use proptest::prelude::*;

    use super::RecordKey;
    use crate::{Headers, NoHeaders, Reason, wire};

    /// One header.
    struct One(&'static CStr, Option<Vec<u8>>);

    impl Headers for One {
        fn last(&self, name: &CStr) -> Option<Option<&[u8]>> {
            (name == self.0).then_some(self.1.as_deref())
        }
    }

    fn with_id() -> One {
        One(wire::KEY_SCHEMA_ID, Some(wire::header(7).to_vec()))
    }

    /// By hand: a zigzag varint of a length below 64 is twice the length.
    fn avro_string(text: &str) -> Vec<u8> {
        assert!(text.len() < 64);
        [&[text.len() as u8 * 2], text.as_bytes()].concat()
    }

    fn framed(text: &str) -> Vec<u8> {
        [wire::header(7).as_slice(), &avro_string(text)].concat()
    }

    fn is(key: &[u8], headers: &dyn Headers, entity: &str) -> bool {
        let key = RecordKey::new(Some(key), headers);
        let is = key.is(entity);
        assert_eq!(key.require("session_id", entity).is_ok(), is);
        is
    }

    #[test]
    fn a_key_is_its_entity_as_text_as_json_as_framed_avro_or_as_avro_with_a_header() {
        for entity in ["s1", "é\"\\\n", "0", "\u{0}\u{0}"] {
            let json = serde_json::to_string(entity).unwrap();
            assert!(is(entity.as_bytes(), &NoHeaders, entity));
            assert!(is(json.as_bytes(), &NoHeaders, entity));
            assert!(is(&framed(entity), &NoHeaders, entity));
            assert!(is(&avro_string(entity), &with_id(), entity));
            // the same forms of another text
            for other in [b"s2".as_slice(), b"\"s2\"", &framed("s2"), b"", b"\"", &json.as_bytes()[1..]] {
                assert!(!is(other, &NoHeaders, entity), "{other:?} for {entity:?}");
            }
            assert!(!is(&avro_string("s2"), &with_id(), entity));
            assert!(!is(&avro_string(entity), &NoHeaders, entity), "Avro without its schema");
            assert!(!is(&[framed(entity).as_slice(), &[0]].concat(), &NoHeaders, entity), "a byte too many");
        }
        assert!(is(br#""\u0073\u0031""#, &NoHeaders, "s1"), "escapes");
    }

    #[test]
    fn an_absent_or_another_key_is_a_bad_key_whose_message_is_bounded() {
        let long = "x".repeat(1_000_000);
        for key in [None, Some(long.as_bytes())] {
            let rejection = RecordKey::new(key, &NoHeaders).require("session_id", &long[1..]).unwrap_err();
            assert_eq!(rejection.reason, Reason::BadKey);
            assert!(rejection.message.contains("session_id") && rejection.message.len() < 400, "{rejection}");
        }
        let rejection = RecordKey::new(Some(b"u-1"), &NoHeaders).require("session_id", "s-1").unwrap_err();
        assert_eq!(rejection.message, r#"the key is "u-1", not the record's session_id, "s-1""#);
    }

    #[test]
    fn a_key_header_without_a_schema_is_named() {
        let headers = One(wire::KEY_SCHEMA_ID, None);
        let rejection = RecordKey::new(Some(b"x"), &headers).require("session_id", "s1").unwrap_err();
        assert_eq!(rejection.reason, Reason::Undecodable);
        assert!(rejection.message.contains("__key_schema_id"), "{rejection}");
    }

    #[test]
    fn a_deletions_key_is_read_in_every_form() {
        for key in [b"i1".to_vec(), b"\"i1\"".to_vec(), framed("i1")] {
            assert_eq!(RecordKey::new(Some(&key), &NoHeaders).text().unwrap(), "i1", "{key:?}");
        }
        assert_eq!(RecordKey::new(Some(&avro_string("i1")), &with_id()).text().unwrap(), "i1");
        let reason = |key: Option<&[u8]>| RecordKey::new(key, &NoHeaders).text().unwrap_err().reason;
        assert_eq!(reason(None), Reason::BadKey);
        assert_eq!(reason(Some(b"\xff")), Reason::BadKey);
        for empty in [b"".as_slice(), b"\"\"", &framed("")] {
            assert_eq!(reason(Some(empty)), Reason::EmptyKey, "{empty:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_not_without_panic(key in prop::collection::vec(any::<u8>(), 0..40), entity in "\\PC{0,8}") {
            for headers in [&NoHeaders as &dyn Headers, &with_id()] {
                is(&key, headers, &entity);
                let _ = RecordKey::new(Some(&key), headers).text();
            }
        }
    }
}
