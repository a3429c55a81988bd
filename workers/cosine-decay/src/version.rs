//! Versions of items' vectors as entries of the table topic.

use storage::wire::{self, Reader};
use streaming::operator::RestoreError;

/// What names a version. Of an item's versions the newer one is that of the greater time, then of the greater event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionKey<'a> {
    /// The item.
    pub item_id: &'a str,
    /// From when on the vector holds, epoch ms.
    pub event_time: i64,
    /// The event that brought it, as text; empty for a deletion.
    pub event_id: &'a str,
}

impl<'a> VersionKey<'a> {
    /// Appends its bytes. The event id is part of the key, so that each version is an entry of its own and compaction
    /// keeps it: one that took another's place would change what has been looked up.
    pub fn encode(&self, into: &mut Vec<u8>) {
        wire::put_bytes(into, self.item_id.as_bytes());
        wire::put_signed(into, i128::from(self.event_time));
        wire::put_bytes(into, self.event_id.as_bytes());
    }

    /// Reads what [`encode`](Self::encode) has written.
    ///
    /// # Errors
    /// Where the bytes are none of it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        let key = Self { item_id: reader.text()?, event_time: reader.time()?, event_id: reader.text()? };
        reader.finish()?;
        Ok(key)
    }
}

/// Appends a vector's bytes; none for a deletion.
pub fn encode_vector(vector: &[f32], into: &mut Vec<u8>) {
    vector.iter().for_each(|component| into.extend_from_slice(&component.to_le_bytes()));
}

/// The components of a vector's bytes.
///
/// # Errors
/// Where the last one is cut off.
pub fn components(bytes: &[u8]) -> Result<&[[u8; 4]], RestoreError> {
    match bytes.as_chunks() {
        (components, []) => Ok(components),
        _ => Err(wire::damaged("a component is cut off")),
    }
}
