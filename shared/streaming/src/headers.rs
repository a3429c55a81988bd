//! Kafka headers: those of a record, and in one flat buffer, as [`OutputBuffer`](crate::output::OutputBuffer) keeps them.
//!
//! Layout, little endian, per header: `name length: u32, name, value length: u32 (all ones: null), value`.

use records::truncation::Header;

use std::ffi::CStr;

const NULL: u32 = u32::MAX;

/// The headers of a record, which can be handed on with it.
pub trait Headers: records::Headers {
    /// Appends all of them in the layout of [this module](self).
    fn write(&self, into: &mut Vec<u8>);
}

/// Headers in the layout of [this module](self).
#[derive(Debug, Clone, Copy, Default)]
pub struct Flat<'a>(pub &'a [u8]);

/// No headers.
pub const NONE: &dyn Headers = &Flat(&[]);

impl records::Headers for Flat<'_> {
    fn last(&self, name: &CStr) -> Option<Option<&[u8]>> {
        read(self.0).filter(|(other, _)| other.as_bytes() == name.to_bytes()).last().map(|(_, value)| value)
    }
}

impl Headers for Flat<'_> {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.0);
    }
}

impl std::fmt::Debug for dyn Headers + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        f.debug_map().entries(read(&bytes)).finish()
    }
}

/// Appends one header.
pub fn write(into: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    into.extend_from_slice(&(name.len() as u32).to_le_bytes());
    into.extend_from_slice(name.as_bytes());
    match value {
        None => into.extend_from_slice(&NULL.to_le_bytes()),
        Some(value) => {
            into.extend_from_slice(&(value.len() as u32).to_le_bytes());
            into.extend_from_slice(value);
        }
    }
}

/// Reads headers that [`write`] has appended.
pub fn read(mut bytes: &[u8]) -> impl Iterator<Item = Header<'_>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        let (value, rest) = if length == NULL {
            (None, rest)
        } else {
            let (value, rest) = rest.split_at_checked(length as usize)?;
            (Some(value), rest)
        };
        bytes = rest;
        Some((std::str::from_utf8(name).unwrap_or("?"), value))
    })
}

#[cfg(test)]
mod tests {
    use records::Headers as _;

    use super::Flat;

    #[test]
    fn headers_read_back_as_written() {
        let mut bytes = Vec::new();
        super::write(&mut bytes, "traceparent", Some(b"00-1-2-01"));
        super::write(&mut bytes, "empty", Some(b""));
        super::write(&mut bytes, "null", None);
        super::write(&mut bytes, "null", Some(b"not any more"));
        let long = "é".repeat(70_000);
        super::write(&mut bytes, &long, None);
        let flat = Flat(&bytes);
        assert_eq!(flat.last(c"null"), Some(Some(b"not any more".as_slice())));
        assert_eq!((flat.last(c"empty"), flat.last(c"absent")), (Some(Some(b"".as_slice())), None));
        super::write(&mut bytes, "null", None);
        assert_eq!(Flat(&bytes).last(c"null"), Some(None), "there, and null");
        bytes.truncate(bytes.len() - 10);
        let headers: Vec<_> = super::read(&bytes).collect();
        assert_eq!(
            headers,
            [
                ("traceparent", Some(b"00-1-2-01".as_slice())),
                ("empty", Some(b"".as_slice())),
                ("null", None),
                ("null", Some(b"not any more".as_slice())),
                (&long, None),
            ]
        );
    }
}
