//! Records that are handed on instead of applied: late ones and dead letters, with key, value and headers untouched and
//! Kafka Connect's error headers added.

use std::sync::Arc;

use records::Rejection;

use crate::headers;
use crate::operator::Record;
use crate::output::OutputBuffer;

/// Name of the header that says how many bytes the value had before it was cut.
pub const TRUNCATED_HEADER: &str = "recwatch.truncated.from.bytes";

/// Where refused records of one source partition go.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    pub(crate) worker: Arc<str>,
    pub(crate) source_topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) late: u16,
    pub(crate) dead_letters: u16,
    /// The largest record that the topics and the producer take, in bytes.
    pub(crate) max_bytes: usize,
}

impl Refusals {
    pub(crate) fn late(&self, record: &Record<'_>, message: &str, out: &mut OutputBuffer) {
        self.hand_on(self.late, "watermark", "late", message, record, out);
    }

    pub(crate) fn dead_letter(&self, record: &Record<'_>, rejection: &Rejection, out: &mut OutputBuffer) {
        let reason = rejection.reason.name();
        self.hand_on(self.dead_letters, "decode", reason, &rejection.message, record, out);
    }

    fn hand_on(
        &self,
        topic: u16,
        stage: &str,
        reason: &str,
        message: &str,
        record: &Record<'_>,
        out: &mut OutputBuffer,
    ) {
        let mut bytes = Vec::new();
        record.headers.write(&mut bytes);
        let error = records::dead_letter::Error {
            worker: &self.worker,
            topic: &self.source_topic,
            partition: self.partition,
            offset: record.offset,
            stage,
            reason,
            message,
        };
        for (name, value) in error.headers() {
            headers::write(&mut bytes, name, Some(&value));
        }
        let mut value = record.value;
        let others = bytes.len() + record.key.map_or(0, <[u8]>::len);
        if let Some(whole) = value
            && others + whole.len() > self.max_bytes
        {
            headers::write(&mut bytes, TRUNCATED_HEADER, Some(whole.len().to_string().as_bytes()));
            value = Some(&whole[..self.max_bytes.saturating_sub(others).min(whole.len())]);
        }
        out.push_with_headers(topic, None, record.key, value, &bytes);
    }
}
