//! The order in which several recordings are published.

use anyhow::Result;
use serde::Deserialize;

use super::{Content, Recording};

/// Several recordings as one run of lines.
#[derive(Debug)]
pub struct Feed {
    recordings: Vec<Head>,
    by_event_time: bool,
    line: Vec<u8>,
}

/// A recording and its next line, read ahead where lines are merged.
#[derive(Debug)]
struct Head {
    recording: Recording,
    next: Option<Next>,
}

#[derive(Debug)]
struct Next {
    line: Vec<u8>,
    number: u64,
    /// A line without an event time goes right behind the one before it.
    time: i64,
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// What the line is.
    pub content: Content,
    /// Its number in its recording, from 1.
    pub number: u64,
}

impl Feed {
    /// One recording after the other: vectors first, so that the clicks find them; otherwise in the given order.
    #[must_use]
    pub fn in_file_order(recordings: Vec<Recording>) -> Self {
        let (clicks, mut vectors): (Vec<_>, Vec<_>) =
            recordings.into_iter().partition(|recording| recording.content() == Content::Interactions);
        vectors.extend(clicks);
        // Taken from the end.
        vectors.reverse();
        let recordings = vectors.into_iter().map(|recording| Head { recording, next: None }).collect();
        Self { recordings, by_event_time: false, line: Vec::new() }
    }

    /// All recordings side by side, each in its own order: of their next lines, the one that happened first goes first,
    /// at equal times that of the recording given first.
    ///
    /// # Errors
    /// A recording cannot be read.
    pub fn by_event_time(recordings: Vec<Recording>) -> Result<Self> {
        let mut heads = Vec::with_capacity(recordings.len());
        for recording in recordings {
            let mut head = Head { recording, next: None };
            head.advance(i64::MIN, Vec::new())?;
            heads.push(head);
        }
        Ok(Self { recordings: heads, by_event_time: true, line: Vec::new() })
    }

    /// The next line and where it comes from, or `None` at the end of all recordings.
    ///
    /// # Errors
    /// A recording cannot be read.
    pub fn next_line(&mut self) -> Result<Option<(Origin, &[u8])>> {
        let origin = if self.by_event_time { self.next_by_time()? } else { self.next_in_order()? };
        Ok(origin.map(|origin| (origin, self.line.as_slice())))
    }

    fn next_in_order(&mut self) -> Result<Option<Origin>> {
        while let Some(head) = self.recordings.last_mut() {
            if let Some(number) = head.recording.next_line(&mut self.line)? {
                return Ok(Some(Origin { content: head.recording.content(), number }));
            }
            self.recordings.pop();
        }
        Ok(None)
    }

    fn next_by_time(&mut self) -> Result<Option<Origin>> {
        let time_of = |head: &Head| head.next.as_ref().map(|next| next.time);
        // `min_by_key` takes the first of equal ones.
        let earliest = self.recordings.iter_mut().filter(|head| head.next.is_some()).min_by_key(|head| time_of(head));
        let Some(head) = earliest else { return Ok(None) };
        let Some(next) = head.next.take() else { return Ok(None) };
        let origin = Origin { content: head.recording.content(), number: next.number };
        let spare = std::mem::replace(&mut self.line, next.line);
        head.advance(next.time, spare)?;
        Ok(Some(origin))
    }
}

impl Head {
    fn advance(&mut self, time_before: i64, mut line: Vec<u8>) -> Result<()> {
        self.next = self.recording.next_line(&mut line)?.map(|number| {
            let time = event_time(&line).unwrap_or(time_before);
            Next { line, number, time }
        });
        Ok(())
    }
}

fn event_time(line: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Timed {
        event_time: i64,
    }
    serde_json::from_slice::<Timed>(line).ok().map(|timed| timed.event_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(content: Content, lines: &[&str]) -> Recording {
        Recording::from_reader("test", content, std::io::Cursor::new(lines.join("\n").into_bytes())).unwrap()
    }

    fn all(mut feed: Feed) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((origin, line)) = feed.next_line().unwrap() {
            lines.push(format!("{:?} {} {}", origin.content, origin.number, String::from_utf8_lossy(line)));
        }
        lines
    }

    #[test]
    fn vectors_go_before_clicks_and_files_keep_their_order() {
        let feed = Feed::in_file_order(vec![
            recording(Content::Interactions, &["a", "b"]),
            recording(Content::UserEmbeddings, &["u"]),
            recording(Content::Interactions, &["c"]),
            recording(Content::ItemEmbeddings, &["i"]),
        ]);
        let expected =
            ["UserEmbeddings 1 u", "ItemEmbeddings 1 i", "Interactions 1 a", "Interactions 2 b", "Interactions 1 c"];
        assert_eq!(all(feed), expected);
    }

    #[test]
    fn merged_recordings_go_by_event_time_and_a_line_without_one_stays_behind_its_predecessor() {
        let feed = Feed::by_event_time(vec![
            recording(
                Content::Interactions,
                &[r#"{"event_time":5}"#, "broken", r#"{"event_time":3}"#, r#"{"event_time":9}"#],
            ),
            recording(Content::ItemEmbeddings, &[r#"{"event_time":5}"#, r#"{"event_time":7}"#]),
        ])
        .unwrap();
        let expected = [
            r#"Interactions 1 {"event_time":5}"#,
            "Interactions 2 broken",
            r#"Interactions 3 {"event_time":3}"#,
            r#"ItemEmbeddings 1 {"event_time":5}"#,
            r#"ItemEmbeddings 2 {"event_time":7}"#,
            r#"Interactions 4 {"event_time":9}"#,
        ];
        assert_eq!(all(feed), expected);
    }
}
