//! Names: what entities are called and events are grouped by. They stand in keys, rows, summaries, alerts and state, and
//! many times each, so they have a bound of their own, far below that of a record.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use crate::{EmbeddingUpdated, Interaction, Text};

/// Names have at most this many bytes.
pub const MAX_NAME_BYTES: usize = 1024;

/// Stands between the beginning of a longer name and its hash.
const MARK: &str = "…";
/// Bytes of the hash, two characters each.
const HASH_BYTES: usize = 16;

/// The name, or of a longer one its beginning, `…` and 128 bits of its SHA-256: the same name gives the same one always,
/// and nobody finds two that give one.
#[must_use]
pub fn bounded(name: Text<'_>) -> Text<'_> {
    if name.len() <= MAX_NAME_BYTES { name } else { Text::from(shortened(&name, MAX_NAME_BYTES)) }
}

/// The same with another bound than [`MAX_NAME_BYTES`], at least 35 bytes: for what is shown.
#[must_use]
pub fn bounded_to(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes { Cow::Borrowed(text) } else { Cow::Owned(shortened(text, bytes)) }
}

#[cold]
fn shortened(name: &str, bytes: usize) -> String {
    let beginning = name.floor_char_boundary(bytes.saturating_sub(MARK.len() + 2 * HASH_BYTES));
    let mut text = format!("{}{MARK}", &name[..beginning]);
    for byte in &Sha256::digest(name.as_bytes())[..HASH_BYTES] {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A record that has names.
pub trait Named {
    /// Makes long names short, see [`bounded`].
    fn bound_names(&mut self);
}

impl Named for Interaction<'_> {
    fn bound_names(&mut self) {
        for name in [&mut self.event_id, &mut self.session_id, &mut self.user_id, &mut self.item_id, &mut self.domain] {
            bound(name);
        }
        let optional = [
            &mut self.request_id,
            &mut self.surface,
            &mut self.user_segment,
            &mut self.rec_strategy,
            &mut self.ab_group,
            &mut self.item_type,
        ];
        optional.into_iter().flatten().for_each(bound);
    }
}

impl Named for EmbeddingUpdated<'_> {
    fn bound_names(&mut self) {
        for name in [&mut self.event_id, &mut self.entity_id, &mut self.domain, &mut self.model_version] {
            bound(name);
        }
    }
}

fn bound(name: &mut Text<'_>) {
    if name.len() > MAX_NAME_BYTES {
        *name = shortened(name, MAX_NAME_BYTES).into();
    }
}

/// The record with short names. `value` is what it was decoded from: where that is short, so are all names.
#[must_use]
pub fn with_bounded_names<R: Named>(mut record: R, value: Option<&[u8]>) -> R {
    if value.is_some_and(|value| value.len() > MAX_NAME_BYTES) {
        record.bound_names();
    }
    record
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(name: &str) -> String {
        bounded(Text::from(name)).to_string()
    }

    #[test]
    fn a_long_name_is_its_beginning_and_its_hash() {
        assert_eq!(of("books"), "books");
        assert_eq!(of(&"a".repeat(1024)), "a".repeat(1024));
        // sha256sum of 1,025 letters a
        let hash = "4a82297889eb505cf6b5cbdf69977afa";
        let long = of(&"a".repeat(1025));
        assert_eq!(long.len(), 1024);
        assert_eq!(long[..989 + 3], "a".repeat(989) + "…");
        assert_eq!(&long[992..], hash);
    }

    #[test]
    fn names_that_differ_at_their_end_stay_different() {
        let names = ["x", "y"].map(|end| of(&("é".repeat(500_000) + end)));
        assert!(names[0] != names[1] && names.iter().all(|name| name.starts_with(&"é".repeat(494))));
    }

    proptest! {
        #[test]
        fn names_are_bounded_and_bounded_ones_stay(character in any::<char>(), count in 0..3_000_usize) {
            let name: String = std::iter::repeat_n(character, count).collect();
            let short = of(&name);
            prop_assert!(short.len() <= MAX_NAME_BYTES);
            prop_assert_eq!(of(&short), short.clone());
            prop_assert_eq!(short == name, name.len() <= MAX_NAME_BYTES);
        }
    }

    #[test]
    fn all_names_of_a_record_are_bounded() {
        let long = "n".repeat(3_000);
        let interaction = serde_json::json!({
            "event_id": long, "request_id": long, "session_id": long, "user_id": long, "item_id": long, "kind": "CLICK",
            "domain": long, "surface": long, "user_segment": long, "rec_strategy": long, "ab_group": long,
            "item_type": long, "position": 1, "event_time": 1,
        });
        let embedding = serde_json::json!({
            "event_id": long, "entity": "ITEM", "entity_id": long, "domain": long, "model_version": long,
            "vector": [1.0], "event_time": 1,
        });
        let count = |text: &str| text.matches(&"n".repeat(989)).count();
        let text = interaction.to_string();
        let read: Interaction<'_> = serde_json::from_str(&text).unwrap();
        let bounded = serde_json::to_string(&with_bounded_names(read, Some(text.as_bytes()))).unwrap();
        assert!(bounded.len() < 11 * 1_100 + 300 && count(&bounded) == 11, "{}", bounded.len());
        let text = embedding.to_string();
        let read: EmbeddingUpdated<'_> = serde_json::from_str(&text).unwrap();
        let bounded = serde_json::to_string(&with_bounded_names(read, Some(text.as_bytes()))).unwrap();
        assert!(bounded.len() < 4 * 1_100 + 300 && count(&bounded) == 4, "{}", bounded.len());
    }
}
