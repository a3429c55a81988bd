//! Identifiers in 40 bytes.

const INLINE: usize = 38;

/// A text; up to 38 bytes, as UUIDs in writing have, take no room on the heap.
#[derive(Debug)]
pub struct Text(Kept);

#[derive(Debug)]
enum Kept {
    Inline { length: u8, bytes: [u8; INLINE] },
    Heap(Box<str>),
}

impl Text {
    /// Keeps a copy of `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        if text.len() > INLINE {
            return Self(Kept::Heap(text.into()));
        }
        let mut bytes = [0; INLINE];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self(Kept::Inline { length: text.len() as u8, bytes })
    }

    /// Its UTF-8 bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kept::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Kept::Heap(text) => text.as_bytes(),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // made from a str, so it is one
            Kept::Inline { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Kept::Heap(text) => text,
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Kept::Inline { .. } => 0,
            Kept::Heap(text) => text.len(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self(Kept::Inline { length: 0, bytes: [0; INLINE] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_lengths_read_back() {
        for length in [0, 1, 16, 36, 37, 38, 39, 200] {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let kept = Text::new(&text);
            assert_eq!((kept.as_str(), kept.as_bytes()), (text.as_str(), text.as_bytes()));
            assert_eq!(kept.heap_bytes(), if length > 38 { length } else { 0 });
        }
        assert_eq!(size_of::<Text>(), 40);
    }
}
