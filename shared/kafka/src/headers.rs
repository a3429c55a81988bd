//! Headers of messages, whatever bytes their names are of.
#![expect(unsafe_code, reason = "rust-rdkafka's own way to a header panics where its name is no UTF-8")]

use std::borrow::Cow;
use std::ffi::CStr;
use std::{ptr, slice};

use rdkafka::bindings as native;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Message as _, OwnedHeaders, OwnedMessage};

/// Names and values, in order; invalid bytes of names are replaced.
#[must_use]
pub fn read_headers(headers: &BorrowedHeaders) -> Vec<(Cow<'_, str>, Option<&[u8]>)> {
    // rust-rdkafka makes such references of librdkafka's pointers, and casts them back itself
    let list = ptr::from_ref(headers).cast::<native::rd_kafka_headers_t>();
    let mut found = Vec::new();
    loop {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers live while they are borrowed; behind the last one the call writes nothing and says so.
        let error = unsafe {
            native::rd_kafka_header_get_all(list, found.len(), &raw mut name, &raw mut value, &raw mut length)
        };
        if error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return found;
        }
        // SAFETY: names end with a 0 byte and live as long as the headers.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        // SAFETY: a value that is not null has that many bytes, and lives as long as the headers.
        let value = (!value.is_null()).then(|| unsafe { slice::from_raw_parts(value.cast::<u8>(), length) });
        found.push((name, value));
    }
}

/// A message's headers, copied. Where librdkafka does not take them apart, since they are more than 100,000, there is the one
/// header `unreadable` (name and value) in their place: rust-rdkafka shows none then.
#[must_use]
pub fn copied_headers(message: &BorrowedMessage<'_>, unreadable: (&str, &str)) -> Option<OwnedHeaders> {
    let mut list = ptr::null_mut();
    // SAFETY: the message lives, and the call reads its headers only.
    match unsafe { native::rd_kafka_message_headers(message.ptr(), &raw mut list) } {
        // SAFETY: the list is the message's own, and rust-rdkafka makes such references of librdkafka's pointers
        native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
            unsafe { list.cast::<BorrowedHeaders>().as_ref() }.map(BorrowedHeaders::detach)
        }
        native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT => None,
        _ => {
            let (key, value) = unreadable;
            Some(OwnedHeaders::new().insert(Header { key, value: Some(value) }))
        }
    }
}

/// A message, copied, with its headers as [`copied_headers`] has them.
#[must_use]
pub fn copied(message: &BorrowedMessage<'_>, unreadable: (&str, &str)) -> OwnedMessage {
    OwnedMessage::new(
        message.payload().map(<[u8]>::to_vec),
        message.key().map(<[u8]>::to_vec),
        message.topic().to_owned(),
        message.timestamp(),
        message.partition(),
        message.offset(),
        copied_headers(message, unreadable),
    )
}

#[cfg(test)]
mod tests {
    use std::ffi::c_char;

    use super::*;

    #[test]
    fn names_of_any_bytes_are_read() {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "a", value: Some("1") })
            .insert(Header { key: "none", value: None::<&str> })
            .insert(Header { key: "", value: Some("") });
        let list = ptr::from_ref(headers.as_borrowed()).cast::<native::rd_kafka_headers_t>().cast_mut();
        let name = b"\xff\xfeb";
        // SAFETY: the list is owned above, and the call copies the name.
        unsafe { native::rd_kafka_header_add(list, name.as_ptr().cast::<c_char>(), 3, ptr::null(), 0) };
        let found = read_headers(headers.as_borrowed());
        let expected: [(&str, Option<&[u8]>); 4] =
            [("a", Some(b"1")), ("none", None), ("", Some(b"")), ("\u{fffd}\u{fffd}b", None)];
        assert_eq!(found, expected.map(|(name, value)| (Cow::Borrowed(name), value)));
    }
}
