//! Kafka headers in one flat buffer, as [`OutputBuffer`](crate::output::OutputBuffer) keeps them.
//!
//! Layout, little endian, per header: `name length: u16, name, value length: u32 (all ones: null), value`.

const NULL: u32 = u32::MAX;

/// Appends one header.
pub fn write(into: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    let name = &name.as_bytes()[..name.len().min(u16::MAX as usize)];
    into.extend_from_slice(&(name.len() as u16).to_le_bytes());
    into.extend_from_slice(name);
    match value {
        None => into.extend_from_slice(&NULL.to_le_bytes()),
        Some(value) => {
            into.extend_from_slice(&(value.len() as u32).to_le_bytes());
            into.extend_from_slice(value);
        }
    }
}

/// Reads headers that [`write`] has appended.
pub fn read(mut bytes: &[u8]) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(u16::from_le_bytes(*length) as usize)?;
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
    #[test]
    fn headers_read_back_as_written() {
        let mut bytes = Vec::new();
        super::write(&mut bytes, "traceparent", Some(b"00-1-2-01"));
        super::write(&mut bytes, "empty", Some(b""));
        super::write(&mut bytes, "null", None);
        let headers: Vec<_> = super::read(&bytes).collect();
        assert_eq!(
            headers,
            [("traceparent", Some(b"00-1-2-01".as_slice())), ("empty", Some(b"".as_slice())), ("null", None)]
        );
    }
}
