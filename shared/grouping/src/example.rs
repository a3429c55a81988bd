//! An event that stands for a group: whoever is told of the group's numbers can follow that one's trace.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;
use storage::wire::{self, Reader, damaged};
use streaming::headers::Headers;
use streaming::operator::RestoreError;

use crate::Share;

/// Length of a W3C trace context of version 00, and of what later versions begin with.
const TRACEPARENT: usize = 55;
/// What the bytes of a share begin with where an example comes first; no share's version.
const TAG: u8 = 0xff;

/// Of events that carry a trace context the one with the least id; of equal ids the lesser trace context.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Example {
    event_id: Box<str>,
    traceparent: Box<str>,
}

impl Example {
    /// Its trace context, as W3C writes it.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// Replaces `into` where `other` comes before it.
    pub fn keep_least(into: &mut Option<Self>, other: Option<&Self>) {
        if let Some(other) = other
            && into.as_ref().is_none_or(|own| other < own)
        {
            *into = Some(other.clone());
        }
    }

    fn bytes(&self) -> usize {
        self.event_id.len() + self.traceparent.len()
    }

    fn write(&self, into: &mut Vec<u8>) {
        wire::put_bytes(into, self.event_id.as_bytes());
        wire::put_bytes(into, self.traceparent.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        Ok(Self { event_id: reader.text()?.into(), traceparent: reader.text()?.into() })
    }
}

/// The trace context among a record's headers, without what a later version adds; `None` where there is none, or none that
/// says something.
#[must_use]
pub fn traceparent(headers: &dyn Headers) -> Option<&str> {
    let text = std::str::from_utf8(headers.last(c"traceparent")??).ok()?;
    let known = text.get(..TRACEPARENT)?;
    let mut parts = known.split('-');
    let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_nothing = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_well_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    let ends_there = text.len() == TRACEPARENT || (version != "00" && text.as_bytes()[TRACEPARENT] == b'-');
    let says_something = version != "ff" && !is_nothing(trace) && !is_nothing(parent);
    (is_well_formed && ends_there && says_something).then_some(known)
}

/// A group's share of one window with its example.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WithExample<S> {
    /// The share.
    pub share: S,
    /// The example among its events.
    pub example: Option<Example>,
}

/// Appends an example, where there is one, for the bytes of a share to follow.
pub fn write_example(example: Option<&Example>, into: &mut Vec<u8>) {
    if let Some(example) = example {
        into.push(TAG);
        example.write(into);
    }
}

impl<S> WithExample<S> {
    /// Reads an example that [`write_example`] has written, and the share behind it.
    ///
    /// # Errors
    /// Where the bytes are none of it.
    pub fn decode(bytes: &[u8], decode: impl FnOnce(&[u8]) -> Result<S, RestoreError>) -> Result<Self, RestoreError> {
        let Some((&TAG, rest)) = bytes.split_first() else { return Ok(Self { share: decode(bytes)?, example: None }) };
        let mut reader = Reader::new(rest);
        let example = Some(Example::read(&mut reader)?);
        Ok(Self { share: decode(reader.rest())?, example })
    }
}

impl<S: Share> WithExample<S> {
    /// Adds both.
    pub fn merge(&mut self, other: &Self) {
        self.share.merge(&other.share);
        Example::keep_least(&mut self.example, other.example.as_ref());
    }

    /// Adds both; the share is that of a group that is one too many.
    pub(crate) fn merge_overflow(&mut self, other: &Self) {
        if !other.share.is_empty() {
            self.share.merge_overflow(&other.share);
        }
        Example::keep_least(&mut self.example, other.example.as_ref());
    }

    /// Appends its bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        write_example(self.example.as_ref(), into);
        self.share.encode(into);
    }
}

/// The examples of groups in a sliding window. An event costs a look-up at most, and nothing where none carries a trace
/// context; a slide costs its groups.
#[derive(Debug, Default)]
pub struct Examples {
    /// Of panes that are not closed, by their ends.
    panes: BTreeMap<i64, HashMap<Box<[u8]>, Example>>,
    /// Of closed panes in the window, with the ends of these: each comes before all later ones' examples, others can be
    /// nobody's example any more.
    windows: BTreeMap<Box<[u8]>, VecDeque<(i64, Example)>>,
    heap_bytes: usize,
}

impl Examples {
    /// Takes an event of a group in, in the pane that ends at `pane_end`. Its trace context is asked for only where it would
    /// be the group's example in its pane.
    pub fn offer<'a>(
        &mut self,
        pane_end: i64,
        group: &[u8],
        event_id: &str,
        traceparent: impl FnOnce() -> Option<&'a str>,
    ) {
        let known = self.panes.get(&pane_end).and_then(|pane| pane.get(group));
        if known.is_some_and(|known| *known.event_id < *event_id) {
            return;
        }
        let Some(traceparent) = traceparent() else { return };
        if known.is_some_and(|known| (&*known.event_id, &*known.traceparent) <= (event_id, traceparent)) {
            return;
        }
        self.put(pane_end, group, Example { event_id: event_id.into(), traceparent: traceparent.into() });
    }

    fn put(&mut self, pane_end: i64, group: &[u8], example: Example) {
        self.heap_bytes += example.bytes();
        if let Some(before) = self.panes.entry(pane_end).or_default().insert(group.into(), example) {
            self.heap_bytes -= before.bytes();
        }
    }

    /// Moves the window to `(start, end]`.
    pub fn close(&mut self, start: i64, end: i64) {
        let Self { panes, windows, heap_bytes } = self;
        while let Some(entry) = panes.first_entry()
            && *entry.key() <= end
        {
            let (pane_end, pane) = entry.remove_entry();
            for (group, example) in pane {
                let window = windows.entry(group).or_default();
                while let Some((_, greater)) = window.pop_back_if(|(_, last)| *last >= example) {
                    *heap_bytes -= greater.bytes();
                }
                window.push_back((pane_end, example));
            }
        }
        windows.retain(|_, window| {
            while let Some((_, left)) = window.pop_front_if(|(pane_end, _)| *pane_end <= start) {
                *heap_bytes -= left.bytes();
            }
            !window.is_empty()
        });
    }

    /// Whether no group has an example in the window.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// The group's example in the window.
    #[must_use]
    pub fn of(&self, group: &[u8]) -> Option<&Example> {
        self.windows.get(group)?.front().map(|(_, example)| example)
    }

    /// What groups have in the window, and their examples: those that have either, in the order of their keys, as `groups`
    /// must be.
    pub fn beside<'a, S>(
        &'a self,
        groups: impl Iterator<Item = (&'a [u8], S)>,
    ) -> impl Iterator<Item = (&'a [u8], Option<S>, Option<&'a Example>)> {
        let mut groups = groups.peekable();
        let examples = self.windows.iter().filter_map(|(key, window)| Some((&**key, &window.front()?.1)));
        let mut examples = examples.peekable();
        std::iter::from_fn(move || {
            let (with_share, with_example) = (groups.peek().map(|(key, _)| *key), examples.peek().map(|(key, _)| *key));
            let key = [with_share, with_example].into_iter().flatten().min()?;
            let share = groups.next_if(|(own, _)| *own == key).map(|(_, share)| share);
            Some((key, share, examples.next_if(|(own, _)| *own == key).map(|(_, example)| example)))
        })
    }

    /// Bytes held, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let waiting = self.panes.values().map(HashMap::allocation_size).sum::<usize>();
        let entry = size_of::<(i64, Example)>();
        let windows = self.windows.iter().map(|(group, window)| group.len() + window.capacity() * entry).sum::<usize>();
        // a tree's nodes are two thirds full
        let tree = self.windows.len() * size_of::<(Box<[u8]>, VecDeque<(i64, Example)>)>() * 3 / 2;
        self.heap_bytes + waiting + tree + windows
    }

    /// Appends all of them; nothing where there are none.
    pub fn write(&self, into: &mut Vec<u8>) {
        if self.panes.is_empty() && self.windows.is_empty() {
            return;
        }
        wire::put_u64(into, self.windows.len() as u64);
        for (group, window) in &self.windows {
            wire::put_bytes(into, group);
            wire::put_u64(into, window.len() as u64);
            for (pane_end, example) in window {
                wire::put_signed(into, i128::from(*pane_end));
                example.write(into);
            }
        }
        wire::put_u64(into, self.panes.len() as u64);
        for (pane_end, pane) in &self.panes {
            wire::put_signed(into, i128::from(*pane_end));
            wire::put_u64(into, pane.len() as u64);
            for (group, example) in pane {
                wire::put_bytes(into, group);
                example.write(into);
            }
        }
    }

    /// Reads what [`write`](Self::write) has written, to the end of the bytes.
    ///
    /// # Errors
    /// Where the bytes are none of it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut examples = Self::default();
        if reader.rest().is_empty() {
            return Ok(examples);
        }
        for _ in 0..reader.u64()? {
            let group = reader.bytes()?;
            let mut window: VecDeque<(i64, Example)> = VecDeque::new();
            for _ in 0..reader.u64()? {
                let (pane_end, example) = (reader.time()?, Example::read(reader)?);
                if window.back().is_some_and(|(end, last)| *end >= pane_end || *last >= example) {
                    return Err(damaged("examples that are out of order"));
                }
                examples.heap_bytes += example.bytes();
                window.push_back((pane_end, example));
            }
            examples.windows.insert(group.into(), window);
        }
        for _ in 0..reader.u64()? {
            let pane_end = reader.time()?;
            for _ in 0..reader.u64()? {
                let group = reader.bytes()?;
                let example = Example::read(reader)?;
                examples.put(pane_end, group, example);
            }
        }
        Ok(examples)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use streaming::headers::{self, Flat};

    use super::*;

    const SLIDE: i64 = 10;
    const WINDOW: i64 = 40;

    /// An event: time, group, id, and the number of its trace if it has one.
    type Event = (i64, u8, u8, Option<u8>);

    fn events() -> impl Strategy<Value = Vec<Event>> {
        prop::collection::vec((1..200_i64, 0..3_u8, 0..30_u8, prop::option::of(0..3_u8)), 0..80)
    }

    fn context(trace: u8) -> String {
        format!("00-{:032x}-{:016x}-01", trace + 1, 7)
    }

    fn offer(examples: &mut Examples, (time, group, id, trace): Event) {
        let pane_end = (time + SLIDE - 1) / SLIDE * SLIDE;
        let traceparent = trace.map(context);
        examples.offer(pane_end, &[group], &format!("{id:02}"), || traceparent.as_deref());
    }

    fn through_bytes(examples: &Examples) -> Examples {
        let mut bytes = Vec::new();
        examples.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let read = Examples::read(&mut reader).unwrap();
        reader.finish().unwrap();
        read
    }

    proptest! {
        /// Against a search through all events of the window, in whatever order they come, snapshots between.
        #[test]
        fn the_least_event_with_a_trace_in_the_window_stands_for_its_group(events in events(), snapshots: bool) {
            let mut examples = Examples::default();
            let mut waiting = events.clone();
            for end in (SLIDE..=240).step_by(SLIDE as usize) {
                // what comes in disorder has come by then
                let (come, later): (Vec<Event>, Vec<Event>) = waiting.iter().partition(|event| event.0 <= end + 2 * SLIDE);
                come.into_iter().for_each(|event| offer(&mut examples, event));
                waiting = later;
                examples.close(end - WINDOW, end);
                if snapshots {
                    examples = through_bytes(&examples);
                }
                for group in 0..3 {
                    let inside = events.iter().filter(|event| event.1 == group && event.0 > end - WINDOW && event.0 <= end);
                    let least = inside.filter_map(|event| Some((event.2, event.3?))).min();
                    let told = examples.of(&[group]).map(|example| example.traceparent().to_owned());
                    prop_assert_eq!(told, least.map(|(_, trace)| context(trace)));
                }
            }
            prop_assert_eq!((examples.panes.len(), examples.windows.len(), examples.heap_bytes), (0, 0, 0));
        }

        #[test]
        fn shares_read_back_with_their_examples(id in ".{0,5}", trace: u8, share: Vec<u8>) {
            let example = Example { event_id: id.as_str().into(), traceparent: context(trace.min(9)).into() };
            for example in [None, Some(example)] {
                let mut bytes = Vec::new();
                write_example(example.as_ref(), &mut bytes);
                bytes.push(1);
                bytes.extend_from_slice(&share);
                let read = WithExample::decode(&bytes, |bytes| Ok(bytes[1..].to_vec())).unwrap();
                prop_assert_eq!(read, WithExample { share: share.clone(), example });
            }
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
            let _ = Examples::read(&mut Reader::new(&bytes));
            let _ = WithExample::decode(&bytes, |_| Ok(()));
        }
    }

    #[test]
    fn trace_contexts_are_those_that_w3c_allows() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let later = format!("cc{}-what-comes", &good[2..]);
        for (value, expected) in [(good, Some(good)), (later.as_str(), Some(&later[..55]))] {
            let mut bytes = Vec::new();
            headers::write(&mut bytes, "traceparent", Some(value.as_bytes()));
            assert_eq!(traceparent(&Flat(&bytes)), expected);
        }
        let bad = [
            String::new(),
            good[..54].to_owned(),
            format!("{good}-more"),
            good.to_uppercase(),
            good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            format!("ff{}", &good[2..]),
            format!("cc{}.", &good[2..]),
            good.replace("-01", "_01"),
            "ä".repeat(40),
        ];
        for value in bad {
            let mut bytes = Vec::new();
            headers::write(&mut bytes, "traceparent", Some(value.as_bytes()));
            assert_eq!(traceparent(&Flat(&bytes)), None, "{value}");
        }
        assert_eq!(traceparent(headers::NONE), None);
    }

    #[test]
    fn who_cannot_become_the_example_is_not_asked_for_a_trace() {
        let mut examples = Examples::default();
        offer(&mut examples, (5, 0, 3, Some(1)));
        examples.offer(SLIDE, &[0], "04", || unreachable!("it comes behind 03"));
        examples.offer(SLIDE, &[0], "02", || None);
        examples.close(0, SLIDE);
        assert_eq!(examples.of(&[0]).map(|example| &*example.event_id), Some("03"));
    }
}
