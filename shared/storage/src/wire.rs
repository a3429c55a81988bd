//! Bytes of summaries and snapshots: LEB128 integers (signed ones zigzag) and byte strings with their length in front.

use streaming::operator::RestoreError;
use streaming::window::is_computable;

/// Appends an unsigned integer.
pub fn put(into: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Appends an unsigned integer that fits 64 bits, as [`put`] does.
pub fn put_u64(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Appends a signed integer.
pub fn put_signed(into: &mut Vec<u8>, value: i128) {
    put(into, ((value << 1) ^ (value >> 127)) as u128);
}

/// Appends a byte string.
pub fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

/// Appends the points of a grid with their counts, ascending: each point as its distance from the one before it.
pub fn put_points(into: &mut Vec<u8>, points: &[(u16, u64)]) {
    put_u64(into, points.len() as u64);
    let mut before = 0;
    for (point, count) in points {
        put_u64(into, u64::from(point - before));
        put_u64(into, *count);
        before = *point;
    }
}

/// Reads what the functions above have written.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// Bytes that are not what they should be, and in which way.
#[must_use]
pub fn damaged(what: &str) -> RestoreError {
    RestoreError(what.to_owned())
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads the version byte that everything starts with.
    ///
    /// # Errors
    /// Where it is another one.
    pub fn version(&mut self, expected: u8) -> Result<(), RestoreError> {
        match self.rest.split_first() {
            Some((version, rest)) if *version == expected => {
                self.rest = rest;
                Ok(())
            }
            Some((version, _)) => Err(RestoreError(format!("its format is version {version}, expected is {expected}"))),
            None => Err(damaged("it is empty")),
        }
    }

    /// Reads an unsigned integer.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn take(&mut self) -> Result<u128, RestoreError> {
        let mut value = 0_u128;
        for shift in (0..128).step_by(7) {
            let Some((byte, rest)) = self.rest.split_first() else { return Err(damaged("it ends inside an integer")) };
            self.rest = rest;
            let digits = u128::from(byte & 0x7f);
            if shift == 126 && digits > 3 {
                break;
            }
            value |= digits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("an integer has more than 128 bits"))
    }

    /// Reads an unsigned integer of 64 bits.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn u64(&mut self) -> Result<u64, RestoreError> {
        u64::try_from(self.take()?).map_err(|_| damaged("an integer is too large"))
    }

    /// Reads an unsigned integer of 32 bits.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn u32(&mut self) -> Result<u32, RestoreError> {
        u32::try_from(self.take()?).map_err(|_| damaged("an integer is too large"))
    }

    /// Reads an unsigned integer of 16 bits.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn u16(&mut self) -> Result<u16, RestoreError> {
        u16::try_from(self.take()?).map_err(|_| damaged("an integer is too large"))
    }

    /// Reads the points of a grid up to `highest`, and shows each with its count to `add`.
    ///
    /// # Errors
    /// Where the bytes are none, or a point lies beyond the highest.
    pub fn points(&mut self, highest: u16, mut add: impl FnMut(u16, u64)) -> Result<(), RestoreError> {
        let mut point = 0_u16;
        for _ in 0..self.u64()? {
            point = point
                .checked_add(self.u16()?)
                .filter(|point| *point <= highest)
                .ok_or_else(|| damaged("a point lies outside of the grid"))?;
            add(point, self.u64()?);
        }
        Ok(())
    }

    /// Reads a signed integer.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn signed(&mut self) -> Result<i128, RestoreError> {
        let value = self.take()?;
        Ok((value >> 1) as i128 ^ -((value & 1) as i128))
    }

    /// Reads a signed integer of 64 bits.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn i64(&mut self) -> Result<i64, RestoreError> {
        i64::try_from(self.signed()?).map_err(|_| damaged("an integer is too large"))
    }

    /// Reads a time in epoch ms: an event's, a watermark, or a window's end.
    ///
    /// # Errors
    /// Where the bytes are none, or it lies where no such time does: arithmetic with those that are read needs no care.
    pub fn time(&mut self) -> Result<i64, RestoreError> {
        let time = self.i64()?;
        if is_computable(time) {
            Ok(time)
        } else {
            Err(RestoreError(format!("{time} is no time of an event or window")))
        }
    }

    /// Reads a finite number.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn float(&mut self) -> Result<f64, RestoreError> {
        let value = f64::from_le_bytes(self.array()?);
        if value.is_finite() { Ok(value) } else { Err(damaged("a number that is none")) }
    }

    /// Reads a fixed number of bytes.
    ///
    /// # Errors
    /// Where there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| damaged("it ends inside a number"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// Reads a byte string.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn bytes(&mut self) -> Result<&'a [u8], RestoreError> {
        let length = usize::try_from(self.take()?).map_err(|_| damaged("a length is too large"))?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| damaged("it ends inside a string"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads a byte string that is UTF-8.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn text(&mut self) -> Result<&'a str, RestoreError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged("a text is not UTF-8"))
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends reading; nothing may be left.
    ///
    /// # Errors
    /// Where something is.
    pub fn finish(self) -> Result<(), RestoreError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(RestoreError(format!("{} bytes are left over", self.rest.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_read_back_as_written(unsigned: u128, small: u64, signed: i128, time: i64, bytes: Vec<u8>, text: String) {
            let mut written = vec![9];
            put(&mut written, unsigned);
            put_u64(&mut written, small);
            put_signed(&mut written, signed);
            put_signed(&mut written, i128::from(time));
            put_bytes(&mut written, &bytes);
            put_bytes(&mut written, text.as_bytes());
            written.extend_from_slice(&small.to_le_bytes());
            let mut reader = Reader::new(&written);
            reader.version(9).unwrap();
            prop_assert_eq!(reader.take().unwrap(), unsigned);
            prop_assert_eq!(reader.u64().unwrap(), small);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            prop_assert_eq!(reader.i64().unwrap(), time);
            prop_assert_eq!(reader.bytes().unwrap(), bytes.as_slice());
            prop_assert_eq!(reader.text().unwrap(), text.as_str());
            prop_assert_eq!(reader.array().unwrap(), small.to_le_bytes());
            reader.finish().unwrap();
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.signed().is_ok() {}
            let _ = Reader::new(&bytes).text();
            let _ = Reader::new(&bytes).version(1);
        }
    }

    #[test]
    fn damage_is_named() {
        assert!(Reader::new(&[2]).version(1).unwrap_err().to_string().contains("version 2, expected is 1"));
        assert!(Reader::new(&[0xff; 30]).take().unwrap_err().to_string().contains("128 bits"));
        assert!(Reader::new(&[5, 1]).bytes().unwrap_err().to_string().contains("ends inside a string"));
        assert!(Reader::new(&[5, 1]).array::<3>().unwrap_err().to_string().contains("ends inside a number"));
        assert!(Reader::new(&[5]).finish().unwrap_err().to_string().contains("1 bytes are left"));
    }
}
