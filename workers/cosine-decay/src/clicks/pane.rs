//! Clicks that wait for the end of their slide.

use std::ops::Range;

use storage::wire::{self, Reader};
use streaming::operator::RestoreError;

/// The clicks of one slide. Their texts lie in one arena, so that taking one in allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    waiting: Vec<Waiting>,
    texts: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    time: i64,
    /// Decay per hour of the click's domain.
    lambda: f64,
    /// Where its texts begin: event id, session, item, and the key of its group.
    start: usize,
    lengths: [u32; 4],
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
    fn bytes<'a>(&self, texts: &'a [u8], which: usize) -> &'a [u8] {
        let start = self.start + self.lengths[..which].iter().sum::<u32>() as usize;
        let range: Range<usize> = start..start + self.lengths[which] as usize;
        &texts[range]
    }

    fn click<'a>(&self, texts: &'a [u8]) -> Click<'a> {
        // pushed as texts, so they are some
        let text = |which| std::str::from_utf8(self.bytes(texts, which)).unwrap_or_default();
        Click {
            time: self.time,
            event_id: text(0),
            session_id: text(1),
            item_id: text(2),
            group: self.bytes(texts, 3),
            lambda: self.lambda,
        }
    }
}

impl Pane {
    pub(crate) fn push(&mut self, click: &Click<'_>) {
        let texts = [click.event_id.as_bytes(), click.session_id.as_bytes(), click.item_id.as_bytes(), click.group];
        let waiting = Waiting {
            time: click.time,
            lambda: click.lambda,
            start: self.texts.len(),
            lengths: texts.map(|text| text.len() as u32),
        };
        texts.into_iter().for_each(|text| self.texts.extend_from_slice(text));
        self.waiting.push(waiting);
    }

    /// Sorts by time and event id. Should two clicks agree in both, what else they say decides, so that no order of
    /// arrival shows.
    pub(crate) fn sort(&mut self) {
        let Self { waiting, texts } = self;
        waiting.sort_unstable_by(|left, right| {
            let key = |waiting: &Waiting| [0, 1, 2, 3].map(|which| waiting.bytes(texts, which));
            left.time
                .cmp(&right.time)
                .then_with(|| left.bytes(texts, 0).cmp(right.bytes(texts, 0)))
                .then_with(|| key(left).cmp(&key(right)))
                .then_with(|| left.lambda.total_cmp(&right.lambda))
        });
    }

    pub(crate) fn clicks(&self) -> impl Iterator<Item = Click<'_>> {
        self.waiting.iter().map(|waiting| waiting.click(&self.texts))
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<Waiting>() + self.texts.capacity()
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

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut pane = Self::default();
        for _ in 0..reader.u64()? {
            let click = Click {
                time: reader.i64()?,
                lambda: f64::from_le_bytes(reader.array()?),
                event_id: reader.text()?,
                session_id: reader.text()?,
                item_id: reader.text()?,
                group: reader.bytes()?,
            };
            pane.push(&click);
        }
        Ok(pane)
    }
}
