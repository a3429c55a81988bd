//! Confluent's wire format: a zero byte, the schema's id as four bytes big-endian, the Avro datum.

/// Bytes before the datum.
pub const HEADER_LENGTH: usize = 5;

const MAGIC: u8 = 0;

/// Why bytes are not in the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the header has.
    #[error("{0} bytes are too few: a zero byte and four bytes of schema id come first")]
    TooShort(usize),
    /// The first byte is not zero.
    #[error("the first byte is {0:#04x}, not 0x00: no schema registry framing")]
    NoMagic(u8),
}

/// Splits a value into schema id and datum.
///
/// # Errors
/// Where the bytes do not begin with a header.
pub fn read(value: &[u8]) -> Result<(i32, &[u8]), FrameError> {
    match value {
        [MAGIC, a, b, c, d, datum @ ..] => Ok((i32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [first, ..] if *first != MAGIC => Err(FrameError::NoMagic(*first)),
        _ => Err(FrameError::TooShort(value.len())),
    }
}

/// The header for a schema id.
#[must_use]
pub fn header(schema_id: i32) -> [u8; HEADER_LENGTH] {
    let [a, b, c, d] = schema_id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::{FrameError, header, read};

    #[test]
    fn an_id_is_big_endian_behind_a_zero_byte() {
        assert_eq!(header(0x0102_0304), [0, 1, 2, 3, 4]);
        assert_eq!(read(&[0, 1, 2, 3, 4, 9, 8]), Ok((0x0102_0304, [9, 8].as_slice())));
        assert_eq!(read(&[0, 0xff, 0xff, 0xff, 0xff]), Ok((-1, [].as_slice())));
    }

    #[test]
    fn what_has_no_header_is_refused() {
        assert_eq!(read(&[]), Err(FrameError::TooShort(0)));
        assert_eq!(read(&[0, 0, 0, 1]), Err(FrameError::TooShort(4)));
        assert_eq!(read(b"{\"session_id\":1}"), Err(FrameError::NoMagic(b'{')));
    }
}
