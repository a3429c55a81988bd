//! Confluent's wire formats: in front of the Avro datum a zero byte and the schema's id as four bytes big-endian, or the
//! bare datum and the schema in a header.

use std::ffi::CStr;

use crate::SchemaRef;

/// Bytes before the datum.
pub const HEADER_LENGTH: usize = 5;

/// The header that names the schema of a record's value. Where it is there, the value is the bare datum.
pub const VALUE_SCHEMA_ID: &CStr = c"__value_schema_id";

/// The header that names the schema of a record's key. Where it is there, the key is the bare datum.
pub const KEY_SCHEMA_ID: &CStr = c"__key_schema_id";

/// What comes before an id.
const MAGIC: u8 = 0;

/// What comes before a GUID, in headers only.
const GUID_MAGIC: u8 = 1;

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

/// Why a record's header names no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header {name} is {found}; 0x00 and the four bytes of an id, or 0x01 and the 16 bytes of a GUID, are expected")]
pub struct HeaderError {
    /// The header.
    pub name: &'static str,
    /// What it holds.
    pub found: String,
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

/// The schema that the value of header `name` names; `None` is a null header.
///
/// # Errors
/// Where it has neither of the two forms.
pub fn read_header(name: &'static CStr, value: Option<&[u8]>) -> Result<SchemaRef, HeaderError> {
    let found = match value {
        Some([MAGIC, a, b, c, d]) => return Ok(SchemaRef::Id(i32::from_be_bytes([*a, *b, *c, *d]))),
        Some([GUID_MAGIC, guid @ ..]) if let Ok(guid) = guid.try_into() => return Ok(SchemaRef::Guid(guid)),
        None => "null".to_owned(),
        Some([]) => "empty".to_owned(),
        Some([first, rest @ ..]) => format!("{first:#04x} and {} bytes more", rest.len()),
    };
    Err(HeaderError { name: name.to_str().unwrap_or_default(), found })
}

/// The header for a schema id.
#[must_use]
pub fn header(schema_id: i32) -> [u8; HEADER_LENGTH] {
    let [a, b, c, d] = schema_id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::{FrameError, VALUE_SCHEMA_ID, header, read, read_header};
    use crate::SchemaRef;

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

    #[test]
    fn a_header_names_a_schema_by_id_or_by_guid_and_nothing_else() {
        let named = |value: &[u8]| read_header(VALUE_SCHEMA_ID, Some(value));
        assert_eq!(named(&[0, 1, 2, 3, 4]), Ok(SchemaRef::Id(0x0102_0304)));
        let guid = [7; 16];
        assert_eq!(named(&[&[1], guid.as_slice()].concat()), Ok(SchemaRef::Guid(guid)));
        let refused = [&[][..], &[0], &[0, 1, 2, 3], &[0, 1, 2, 3, 4, 5], &[1; 5], &[1; 16], &[1; 18], &[2; 17], b"7"];
        for value in refused {
            let message = named(value).unwrap_err().to_string();
            assert!(message.starts_with("header __value_schema_id is "), "{message}");
        }
        assert!(read_header(VALUE_SCHEMA_ID, None).unwrap_err().to_string().contains("is null"));
    }
}
