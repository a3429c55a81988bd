//! Versions that wait for the end of their slide.

use std::cmp::Ordering;

use hashbrown::HashMap;
use storage::Text;
use storage::wire::{self, Reader, damaged};
use streaming::operator::RestoreError;

use crate::version::{components, encode_vector};

/// The versions of one slide.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    waiting: Vec<Waiting>,
    /// The vectors, one behind the other.
    components: Vec<f32>,
}

/// A version that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Number of the item.
    pub(crate) item: u32,
    pub(crate) time: i64,
    pub(crate) event_id: Text,
    pub(crate) domain: Text,
    pub(crate) model_version: Text,
    /// Where its vector lies; empty for a deletion.
    start: usize,
    length: usize,
    /// The version whose vector its item has as of its time, once sorted.
    as_of_then: usize,
}

impl Pane {
    pub(crate) fn push(
        &mut self,
        (item, time, event_id): (u32, i64, &str),
        (domain, model_version): (&str, &str),
        vector: &[f32],
    ) {
        self.waiting.push(Waiting {
            item,
            time,
            event_id: Text::new(event_id),
            domain: Text::new(domain),
            model_version: Text::new(model_version),
            start: self.components.len(),
            length: vector.len(),
            as_of_then: self.waiting.len(),
        });
        self.components.extend_from_slice(vector);
    }

    /// The versions with their vectors.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Waiting, &[f32])> {
        self.waiting.iter().map(|waiting| (waiting, waiting.vector(&self.components)))
    }

    /// Number of versions.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The version at a place, with its vector.
    pub(crate) fn version(&self, at: usize) -> (&Waiting, &[f32]) {
        let version = &self.waiting[at];
        (version, version.vector(&self.components))
    }

    /// The vector that the item of the version at a place has as of that version's time: that of the last version of this
    /// time, in the order of [`sort`](Self::sort), which must have been called.
    pub(crate) fn vector_as_of_then(&self, at: usize) -> &[f32] {
        self.version(self.waiting[at].as_of_then).1
    }

    /// Sorts by time and event id; `id_of` gives an item's id. Should two versions agree in both, what else they say
    /// decides, so that no order of arrival shows.
    pub(crate) fn sort<'a>(&mut self, id_of: impl Fn(u32) -> &'a [u8]) {
        let Self { waiting, components } = self;
        waiting.sort_unstable_by(|left, right| {
            left.time
                .cmp(&right.time)
                .then_with(|| left.event_id.as_bytes().cmp(right.event_id.as_bytes()))
                .then_with(|| id_of(left.item).cmp(id_of(right.item)))
                .then_with(|| compare_bits(left.vector(components), right.vector(components)))
                .then_with(|| left.domain.as_bytes().cmp(right.domain.as_bytes()))
                .then_with(|| left.model_version.as_bytes().cmp(right.model_version.as_bytes()))
        });
        let mut last_of_a_time: HashMap<u32, usize> = HashMap::new();
        for at in (0..waiting.len()).rev() {
            if waiting.get(at + 1).is_some_and(|next| next.time != waiting[at].time) {
                last_of_a_time.clear();
            }
            let version = &mut waiting[at];
            if version.length > 0 {
                last_of_a_time.entry(version.item).or_insert(at);
            }
            version.as_of_then = last_of_a_time.get(&version.item).copied().unwrap_or(at);
        }
    }

    /// Bytes held, without what long texts hold.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<Waiting>() + self.components.capacity() * size_of::<f32>()
    }

    /// Appends the versions; `id_of` gives an item's id.
    pub(crate) fn write<'a>(&self, id_of: impl Fn(u32) -> &'a [u8], into: &mut Vec<u8>) {
        wire::put_u64(into, self.waiting.len() as u64);
        let mut bytes = Vec::new();
        for (version, vector) in self.iter() {
            wire::put_bytes(into, id_of(version.item));
            wire::put_signed(into, i128::from(version.time));
            for text in [&version.event_id, &version.domain, &version.model_version] {
                wire::put_bytes(into, text.as_bytes());
            }
            bytes.clear();
            encode_vector(vector, &mut bytes);
            wire::put_bytes(into, &bytes);
        }
    }

    /// Reads what [`write`](Self::write) has written; `item_of` gives the number of an item of that id.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        dimensions: usize,
        mut item_of: impl FnMut(&str) -> Option<u32>,
    ) -> Result<Self, RestoreError> {
        let mut pane = Self::default();
        for _ in 0..reader.u64()? {
            let item = item_of(reader.text()?).ok_or_else(|| damaged("an unknown item"))?;
            let (time, event_id) = (reader.time()?, reader.text()?);
            let about = (reader.text()?, reader.text()?);
            let vector: Vec<f32> =
                components(reader.bytes()?)?.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if !vector.is_empty() && vector.len() != dimensions {
                return Err(damaged("a vector of another length"));
            }
            pane.push((item, time, event_id), about, &vector);
        }
        Ok(pane)
    }
}

impl Waiting {
    fn vector<'a>(&self, components: &'a [f32]) -> &'a [f32] {
        &components[self.start..self.start + self.length]
    }
}

/// Orders two vectors by their bits.
pub(crate) fn compare_bits(left: &[f32], right: &[f32]) -> Ordering {
    left.iter().map(|component| component.to_bits()).cmp(right.iter().map(|component| component.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_item_and_time_find_the_newest_of_them() {
        let mut pane = Pane::default();
        for (item, time, event_id, vector) in [
            (0, 2, "a", &[5.0][..]),
            (0, 1, "c", &[4.0]),
            (1, 1, "d", &[3.0]),
            (0, 1, "z", &[]),
            (1, 1, "b", &[2.0]),
            (0, 1, "a", &[1.0]),
        ] {
            pane.push((item, time, event_id), ("d", "m"), vector);
        }
        pane.sort(|item| [b"i".as_slice(), b"j"][item as usize]);
        let own: Vec<f32> = pane.iter().flat_map(|(_, vector)| vector).copied().collect();
        let as_of_then: Vec<f32> = [0, 1, 2, 3, 5].iter().flat_map(|at| pane.vector_as_of_then(*at)).copied().collect();
        assert_eq!(own, [1.0, 2.0, 4.0, 3.0, 5.0]);
        assert_eq!(as_of_then, [4.0, 3.0, 4.0, 3.0, 5.0]);
    }
}
