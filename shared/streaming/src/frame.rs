//! The inside of a repartition record: a run of frames, summaries and the watermark that covers them.
//!
//! Layout, little endian: `1, end: i64, group length: u32, group, summary length: u32, summary` or
//! `2, source partition: i32, watermark: i64` or
//! `3, length: u32, command` or
//! `4, end: i64`.

const SUMMARY: u8 = 1;
const WATERMARK: u8 = 2;
const COMMAND: u8 = 3;
const GROUPS: u8 = 4;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A group's share of the window that ends at `end`.
    Summary { end: i64, group: &'a [u8], summary: &'a [u8] },
    /// The fold of `partition` has emitted everything up to and at `watermark`.
    Watermark { partition: i32, watermark: i64 },
    /// A person's word to the merge.
    Command(&'a [u8]),
    /// The window that ends at `end` has groups, in whichever merge partitions.
    Groups { end: i64 },
}

/// The bytes are no run of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a run of frames: {0}")]
pub(crate) struct FrameError(&'static str);

pub(crate) fn write_summary(into: &mut Vec<u8>, end: i64, group: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
    into.push(SUMMARY);
    into.extend_from_slice(&end.to_le_bytes());
    into.extend_from_slice(&(group.len() as u32).to_le_bytes());
    into.extend_from_slice(group);
    let length_at = into.len();
    into.extend_from_slice(&[0; 4]);
    write(into);
    let length = (into.len() - length_at - 4) as u32;
    into[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

pub(crate) fn write_watermark(into: &mut Vec<u8>, partition: i32, watermark: i64) {
    into.push(WATERMARK);
    into.extend_from_slice(&partition.to_le_bytes());
    into.extend_from_slice(&watermark.to_le_bytes());
}

pub(crate) fn write_command(into: &mut Vec<u8>, command: &[u8]) {
    into.push(COMMAND);
    into.extend_from_slice(&(command.len() as u32).to_le_bytes());
    into.extend_from_slice(command);
}

pub(crate) fn write_groups(into: &mut Vec<u8>, end: i64) {
    into.push(GROUPS);
    into.extend_from_slice(&end.to_le_bytes());
}

/// Reads the frames of one record.
#[derive(Debug, Clone)]
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(FrameError("it ends inside a frame"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        self.take(N)?.try_into().map_err(|_| FrameError("it ends inside a frame"))
    }

    fn read(&mut self) -> Result<Frame<'a>, FrameError> {
        match self.take(1)?[0] {
            SUMMARY => {
                let end = i64::from_le_bytes(self.array()?);
                let group_length = u32::from_le_bytes(self.array()?) as usize;
                let group = self.take(group_length)?;
                let summary_length = u32::from_le_bytes(self.array()?) as usize;
                Ok(Frame::Summary { end, group, summary: self.take(summary_length)? })
            }
            WATERMARK => Ok(Frame::Watermark {
                partition: i32::from_le_bytes(self.array()?),
                watermark: i64::from_le_bytes(self.array()?),
            }),
            COMMAND => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                Ok(Frame::Command(self.take(length)?))
            }
            GROUPS => Ok(Frame::Groups { end: i64::from_le_bytes(self.array()?) }),
            _ => Err(FrameError("unknown kind of frame")),
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = self.read();
        if frame.is_err() {
            self.rest = &[];
        }
        Some(frame)
    }
}

/// Cuts a run of frames into runs of at most `limit` bytes each, or of one frame where that alone is longer.
pub(crate) fn split_frames(bytes: &[u8], limit: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut length = if rest.len() <= limit { rest.len() } else { 0 };
        let mut frames = Frames::new(rest);
        while length < rest.len() && frames.next().is_some_and(|frame| frame.is_ok()) {
            let end = rest.len() - frames.remaining();
            if length > 0 && end > limit {
                break;
            }
            length = end;
        }
        let (run, remaining) = rest.split_at(if length == 0 { rest.len() } else { length });
        rest = remaining;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        // kinds of frames and short lengths often
        prop::collection::vec(prop_oneof![2 => 0_u8..6, 1 => any::<u8>()], 0..300)
    }

    proptest! {
        /// Somebody else's producer: each frame takes bytes, and shows no others than those that are there.
        #[test]
        fn no_bytes_make_reading_panic_or_last(bytes in any_bytes()) {
            let mut shown = 0;
            for frame in Frames::new(&bytes) {
                shown += match frame {
                    Ok(Frame::Summary { group, summary, .. }) => 17 + group.len() + summary.len(),
                    Ok(Frame::Watermark { .. }) => 13,
                    Ok(Frame::Command(command)) => 5 + command.len(),
                    Ok(Frame::Groups { .. }) => 9,
                    Err(_) => 0,
                };
            }
            prop_assert!(shown <= bytes.len());
            for limit in [1, 20, 1_000] {
                prop_assert_eq!(split_frames(&bytes, limit).collect::<Vec<_>>().concat(), bytes.clone());
            }
        }
    }

    #[test]
    fn runs_are_cut_between_frames_and_lose_nothing() {
        let mut bytes = Vec::new();
        for index in 0..50_u8 {
            write_summary(&mut bytes, i64::from(index), b"group", |into| into.extend(vec![index; usize::from(index)]));
        }
        for limit in [1, 40, 41, 100, 10_000] {
            let runs: Vec<&[u8]> = split_frames(&bytes, limit).collect();
            assert_eq!(runs.concat(), bytes);
            for run in runs {
                let frames = Frames::new(run).map(Result::unwrap).count();
                assert!(run.len() <= limit || frames == 1, "{} bytes, {frames} frames, limit {limit}", run.len());
            }
        }
    }

    #[test]
    fn frames_read_back_as_written_and_a_cut_record_is_an_error() {
        let mut bytes = Vec::new();
        write_summary(&mut bytes, 10_000, b"cat\0a", |into| into.extend_from_slice(b"xyz"));
        let mut whole = vec![0, bytes.len()];
        write_groups(&mut bytes, 9_000);
        whole.push(bytes.len());
        write_watermark(&mut bytes, 3, 10_000);
        let frames: Result<Vec<_>, _> = Frames::new(&bytes).collect();
        assert_eq!(
            frames.unwrap(),
            [
                Frame::Summary { end: 10_000, group: b"cat\0a", summary: b"xyz" },
                Frame::Groups { end: 9_000 },
                Frame::Watermark { partition: 3, watermark: 10_000 }
            ]
        );
        for cut in 1..bytes.len() {
            let result: Result<Vec<_>, _> = Frames::new(&bytes[..cut]).collect();
            let expected = whole.iter().position(|length| *length == cut);
            assert_eq!(result.ok().map(|frames| frames.len()), expected, "cut at {cut}");
        }
    }
}
