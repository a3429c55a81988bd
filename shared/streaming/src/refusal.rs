//! Records that are handed on instead of applied: late ones and dead letters, with key, value and headers untouched as far
//! as their topic takes them, and Kafka Connect's error headers added.

use std::sync::Arc;

use records::Rejection;
use records::truncation::{HandedOn, Header, MARKS, Sizes, batch_bytes, fit};

use crate::headers;
use crate::operator::Record;
use crate::output::{Origin, OutputBuffer, OutputRecord};

/// Where refused records of one source partition go.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    pub(crate) worker: Arc<str>,
    pub(crate) source_topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) late: u16,
    pub(crate) dead_letters: u16,
    /// The largest batch that the topics and the producer take, in bytes.
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
        let mut encoded = Vec::new();
        record.headers.write(&mut encoded);
        let own_headers = encoded.len();
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
            headers::write(&mut encoded, name, Some(&value));
        }
        let sizes = Sizes::of(record.key, record.value, headers::read(&encoded[..own_headers]));
        let origin = Origin { offset: record.offset, own_headers, sizes };
        if batch_bytes(record.key, record.value, headers::read(&encoded)) <= self.max_bytes {
            return out.push_handed_on(topic, record.key, record.value, &encoded, origin);
        }
        let (key, value) = (record.key, record.value);
        let whole = OutputRecord { topic, partition: None, key, value, headers: &encoded, handed_on: Some(origin) };
        match cut(&whole, &origin, self.max_bytes) {
            Some(cut) => out.push_handed_on(topic, cut.key, cut.value, &cut.headers, cut.origin),
            // whoever sends it finds that it does not fit even so, and counts it
            None => {
                let origin = Origin { own_headers: 0, ..origin };
                out.push_handed_on(topic, None, None, &encoded[own_headers..], origin);
            }
        }
    }
}

/// A handed-on record, cut.
pub(crate) struct Cut<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// Encoded as in an [`OutputRecord`].
    pub(crate) headers: Vec<u8>,
    origin: Origin,
}

/// Cuts a record that is handed on, so that a batch of it has `limit` bytes at most; `None` where that cannot be.
pub(crate) fn cut<'a>(record: &OutputRecord<'a>, origin: &Origin, limit: usize) -> Option<Cut<'a>> {
    let (own, added) = record.headers.split_at_checked(origin.own_headers)?;
    let own: Vec<Header<'_>> = headers::read(own).collect();
    // what says that it was cut before is said anew
    let added: Vec<Header<'_>> = headers::read(added).filter(|(name, _)| !MARKS.contains(name)).collect();
    let whole = HandedOn { key: record.key, value: record.value, own: &own, added: &added, original: origin.sizes };
    let fitted = fit(&whole, limit)?;
    let mut headers = Vec::new();
    let mut own_headers = 0;
    for (at, (name, value)) in fitted.headers.iter().enumerate() {
        headers::write(&mut headers, name, value.as_deref());
        if at + 1 == fitted.own {
            own_headers = headers.len();
        }
    }
    Some(Cut { key: fitted.key, value: fitted.value, headers, origin: Origin { own_headers, ..*origin } })
}
