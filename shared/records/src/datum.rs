//! Reads Avro by hand where the writer's schema is laid out as the record itself, which is nearly always.
//!
//! It takes only what is beyond doubt and answers `None` to everything else; the general way then says what is wrong. So
//! both ways agree on every record, which a property test checks.

use crate::Text;

/// The rest of a datum.
pub(crate) struct Datum<'a>(&'a [u8]);

impl<'a> Datum<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes that are left.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Passes over bytes.
    pub(crate) fn pass(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A zigzag varint of at most 63 bits.
    #[inline]
    pub(crate) fn long(&mut self) -> Option<i64> {
        let (&first, rest) = self.0.split_first()?;
        if first < 0x80 {
            self.0 = rest;
            return Some(unzigzag(u64::from(first)));
        }
        self.long_of_many_bytes()
    }

    fn long_of_many_bytes(&mut self) -> Option<i64> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().take(9).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Some(unzigzag(value));
            }
        }
        None
    }

    /// A zigzag varint of up to 64 bits.
    pub(crate) fn any_long(&mut self) -> Option<i64> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            // of the tenth byte one bit is left
            if index == 9 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Some(unzigzag(value));
            }
        }
        None
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Option<Text<'a>> {
        let length = usize::try_from(self.long()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Text::from)
    }

    /// An array of floats in one block, which is how arrays are nearly always written; not an empty one.
    #[inline]
    pub(crate) fn floats(&mut self) -> Option<Vec<f32>> {
        let bytes = usize::try_from(self.long()?).ok()?.checked_mul(size_of::<f32>())?;
        let (floats, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        let floats: Vec<f32> = floats.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (!floats.is_empty() && self.long()? == 0).then_some(floats)
    }

    /// Index of a union's branch or of an enum's symbol.
    #[inline]
    pub(crate) fn index(&mut self) -> Option<usize> {
        usize::try_from(self.long()?).ok()
    }

    /// `["null", …]`: the outer option is the doubt, the inner one the null.
    #[inline]
    pub(crate) fn nullable<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.index()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::Datum;

    #[test]
    fn longs_are_zigzag_varints() {
        let long = |bytes: &[u8]| Datum::new(bytes).long();
        assert_eq!(long(&[0x00]), Some(0));
        assert_eq!(long(&[0x01]), Some(-1));
        assert_eq!(long(&[0x7f]), Some(-64));
        assert_eq!(long(&[0x80, 0x01]), Some(64));
        assert_eq!(long(&[0xac, 0x02]), Some(150));
        assert_eq!(long(&[]), None);
        assert_eq!(long(&[0x80]), None);
        assert_eq!(long(&[0xff; 10]), None);
    }
}
