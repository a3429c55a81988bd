//! The headers of records that are handed on instead of applied, named as Kafka Connect names them.

use std::borrow::Cow;

/// Header: the topic that the record came from.
pub const TOPIC: &str = "__connect.errors.topic";
/// Header: its partition, in decimal.
pub const PARTITION: &str = "__connect.errors.partition";
/// Header: its offset, in decimal.
pub const OFFSET: &str = "__connect.errors.offset";
/// Header: the worker that refused it.
pub const CONNECTOR: &str = "__connect.errors.connector.name";
/// Header: the stage that refused it.
pub const STAGE: &str = "__connect.errors.stage";
/// Header: the reason's name.
pub const EXCEPTION_CLASS: &str = "__connect.errors.exception.class.name";
/// Header: what was wrong, for a person to read.
pub const EXCEPTION_MESSAGE: &str = "__connect.errors.exception.message";

/// Messages are cut behind this many bytes: the input decides how long they would be.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// Where a refused record came from and why it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error<'a> {
    /// The worker that refuses the record.
    pub worker: &'a str,
    /// The topic that it came from.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The stage that refuses it, for instance `decode`.
    pub stage: &'a str,
    /// The reason's name, see [`Reason::name`](crate::Reason::name).
    pub reason: &'a str,
    /// What was wrong.
    pub message: &'a str,
}

impl<'a> Error<'a> {
    /// The headers to add to the record's own, as (name, value).
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'a, [u8]>)> + use<'a> {
        let cut = self.message.floor_char_boundary(MAX_MESSAGE_BYTES);
        [
            (TOPIC, Cow::Borrowed(self.topic.as_bytes())),
            (PARTITION, Cow::Owned(self.partition.to_string().into_bytes())),
            (OFFSET, Cow::Owned(self.offset.to_string().into_bytes())),
            (CONNECTOR, Cow::Borrowed(self.worker.as_bytes())),
            (STAGE, Cow::Borrowed(self.stage.as_bytes())),
            (EXCEPTION_CLASS, Cow::Borrowed(self.reason.as_bytes())),
            (EXCEPTION_MESSAGE, Cow::Borrowed(&self.message.as_bytes()[..cut])),
        ]
        .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, MAX_MESSAGE_BYTES};

    #[test]
    fn headers_say_where_the_record_came_from_and_why_it_was_refused() {
        let error = Error {
            worker: "session-entropy",
            topic: "recsys.interactions.v1",
            partition: 3,
            offset: 12_345_678_901,
            stage: "decode",
            reason: "bad_value",
            message: "event_time is -1",
        };
        let headers: Vec<(&str, String)> =
            error.headers().map(|(name, value)| (name, String::from_utf8(value.into_owned()).unwrap())).collect();
        let expected = [
            ("__connect.errors.topic", "recsys.interactions.v1"),
            ("__connect.errors.partition", "3"),
            ("__connect.errors.offset", "12345678901"),
            ("__connect.errors.connector.name", "session-entropy"),
            ("__connect.errors.stage", "decode"),
            ("__connect.errors.exception.class.name", "bad_value"),
            ("__connect.errors.exception.message", "event_time is -1"),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = "é".repeat(MAX_MESSAGE_BYTES);
        let error = Error { worker: "", topic: "", partition: 0, offset: 0, stage: "", reason: "", message: &message };
        let (_, value) = error.headers().last().unwrap();
        assert_eq!(value.len(), MAX_MESSAGE_BYTES);
        assert!(std::str::from_utf8(&value).is_ok());
        let odd = format!("x{message}");
        let (_, value) = Error { message: &odd, ..error }.headers().last().unwrap();
        assert_eq!(value.len(), MAX_MESSAGE_BYTES - 1);
    }
}
