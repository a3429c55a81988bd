//! Values for people.

use std::borrow::Cow;

/// Characters of a value that people are shown.
const LONGEST: usize = 200;

/// The value, or its beginning and `…`: records take values that nobody reads to their end, and a sentence repeats several.
pub(crate) fn shortened(value: &str) -> Cow<'_, str> {
    let mut starts = value.char_indices().map(|(start, _)| start).skip(LONGEST - 1);
    match (starts.next(), starts.next()) {
        (Some(last), Some(_)) => Cow::Owned(format!("{}…", &value[..last])),
        _ => Cow::Borrowed(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_200_characters_at_most_whatever_their_bytes() {
        for character in ["a", "é", "日", "🦀"] {
            let whole = character.repeat(200);
            assert_eq!(shortened(&whole), whole);
            assert_eq!(shortened(&(whole.clone() + "a")), character.repeat(199) + "…");
            assert_eq!(shortened(&character.repeat(300_000)), character.repeat(199) + "…");
        }
        assert_eq!((shortened(""), shortened("books")), ("".into(), "books".into()));
    }
}
