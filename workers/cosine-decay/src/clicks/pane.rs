//! Clicks that wait for the end of their slide.

use storage::wire::{self, Reader, damaged};
use streaming::operator::RestoreError;
use streaming::window::Windows;

/// The clicks of one slide. Their texts lie in one arena and the keys of their groups in another, so that taking one in
/// allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    waiting: Vec<Waiting>,
    texts: String,
    groups: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    time: i64,
    /// Decay per hour of the click's domain.
    lambda: f64,
    /// Where its texts begin: event id, session, item.
    start: usize,
    lengths: [u32; 3],
    /// Where the key of its group lies.
    group: (usize, u32),
}

/// A click.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Click<'a> {
    pub(crate) time: i64,
    pub(crate) event_id: &'a str,
    pub(crate) session_id: &'a str,
    pub(crate) item_id: &'a str,
    pub(crate) group: &'a [u8],
    /// Decay per hour of its domain.
    pub(crate) lambda: f64,
}

impl Waiting {
    fn click<'a>(&self, texts: &'a str, groups: &'a [u8]) -> Click<'a> {
        let mut at = self.start;
        let [event_id, session_id, item_id] = self.lengths.map(|length| {
            let text = &texts[at..at + length as usize];
            at += length as usize;
            text
        });
        let (start, length) = self.group;
        let group = &groups[start..start + length as usize];
        Click { time: self.time, event_id, session_id, item_id, group, lambda: self.lambda }
    }
}

impl Pane {
    pub(crate) fn push(&mut self, click: &Click<'_>) {
        let texts = [click.event_id, click.session_id, click.item_id];
        self.waiting.push(Waiting {
            time: click.time,
            lambda: click.lambda,
            start: self.texts.len(),
            lengths: texts.map(|text| text.len() as u32),
            group: (self.groups.len(), click.group.len() as u32),
        });
        texts.into_iter().for_each(|text| self.texts.push_str(text));
        self.groups.extend_from_slice(click.group);
    }

    /// Sorts by time and event id. Should two clicks agree in both, what else they say decides, so that no order of
    /// arrival shows.
    pub(crate) fn sort(&mut self) {
        let Self { waiting, texts, groups } = self;
        waiting.sort_unstable_by(|left, right| {
            left.time.cmp(&right.time).then_with(|| {
                let [left, right] = [left, right].map(|waiting| waiting.click(texts, groups));
                let key = [left, right].map(|click| (click.event_id, click.session_id, click.item_id, click.group));
                key[0].cmp(&key[1]).then_with(|| left.lambda.total_cmp(&right.lambda))
            })
        });
    }

    pub(crate) fn clicks(&self) -> impl Iterator<Item = Click<'_>> {
        self.waiting.iter().map(|waiting| waiting.click(&self.texts, &self.groups))
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<Waiting>() + self.texts.capacity() + self.groups.capacity()
    }

    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        wire::put_u64(into, self.waiting.len() as u64);
        for click in self.clicks() {
            wire::put_signed(into, i128::from(click.time));
            into.extend_from_slice(&click.lambda.to_le_bytes());
            for text in [click.event_id, click.session_id, click.item_id] {
                wire::put_bytes(into, text.as_bytes());
            }
            wire::put_bytes(into, click.group);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>, windows: Windows, end: i64) -> Result<Self, RestoreError> {
        let mut pane = Self::default();
        for _ in 0..reader.u64()? {
            let click = Click {
                time: reader.time()?,
                lambda: reader.float()?,
                event_id: reader.text()?,
                session_id: reader.text()?,
                item_id: reader.text()?,
                group: reader.bytes()?,
            };
            if windows.pane_end(click.time) != end {
                return Err(damaged("a click of another slide"));
            }
            if click.lambda < 0.0 {
                return Err(damaged("a negative decay"));
            }
            pane.push(&click);
        }
        Ok(pane)
    }
}
