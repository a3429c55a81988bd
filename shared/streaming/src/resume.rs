//! Where a task resumes, from its committed offset, its snapshot and the ends of its log; and what is said where it cannot.

use std::fmt;

/// What was found of a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) state_topic: &'a str,
    /// The log's first offset.
    pub(crate) low: i64,
    /// The log's end, open transactions included.
    pub(crate) high: i64,
    pub(crate) committed: Option<i64>,
    /// The newest snapshot's offset.
    pub(crate) snapshot: Option<i64>,
    /// Whether its log is a source: what is lost of others, which folds wrote, cannot be left out soundly.
    pub(crate) is_source: bool,
    /// Whether what is lost may be skipped.
    pub(crate) skip_lost: bool,
}

/// How the task resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// With no state, at this offset.
    New { at: i64 },
    /// With its snapshot, and a replay from there to the committed offset.
    Replay { to: i64 },
    /// With its snapshot, behind records that are gone.
    Skip(Lost),
}

/// Records that were deleted before they were read for the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The first of them.
    pub(crate) from: i64,
    /// The first offset behind them.
    pub(crate) to: i64,
}

impl Lost {
    /// How many offsets they have: as many records, less transaction markers and aborted records among them.
    pub(crate) fn count(self) -> u64 {
        u64::try_from(self.to - self.from).unwrap_or(0)
    }
}

impl Found<'_> {
    /// Decides.
    ///
    /// # Errors
    /// Where only giving the state up helps, or a person has to allow what is lost.
    pub(crate) fn resume(&self) -> Result<Resume, String> {
        let Self { group, state_topic, low, high, .. } = *self;
        match (self.committed, self.snapshot) {
            (None, None) => Ok(Resume::New { at: low }),
            (None, Some(snapshot)) => Err(self.says(format_args!(
                "{state_topic} has a snapshot of offset {snapshot}, but the group {group} has no committed offset: it was \
                 deleted, or has expired (offsets.retention.minutes of the brokers). What was written since the snapshot is \
                 not known"
            ))),
            (Some(offset), None) => Err(self.says(format_args!(
                "offset {offset} is committed, but {state_topic} has no snapshot: was it deleted, or cleaned up by another \
                 policy than compact?"
            ))),
            (Some(offset), Some(snapshot)) if snapshot > offset => Err(self.says(format_args!(
                "the snapshot on {state_topic} is of offset {snapshot}, ahead of the committed offset {offset}: were the \
                 group's offsets set back?"
            ))),
            (Some(offset), Some(_)) if offset > high => Err(self.says(format_args!(
                "offset {offset} is committed, but the log ends at {high}: the topic was created again or cut off, and \
                 {} offsets that were read are gone",
                offset - high
            ))),
            (Some(offset), Some(snapshot)) if snapshot >= low => Ok(Resume::Replay { to: offset }),
            (Some(offset), Some(snapshot)) => {
                let lost = Lost { from: snapshot, to: offset.max(low) };
                if self.skip_lost && self.is_source { Ok(Resume::Skip(lost)) } else { Err(self.overtaken(offset, lost)) }
            }
        }
    }

    fn overtaken(&self, offset: i64, lost: Lost) -> String {
        let Lost { from, .. } = lost;
        let unread = (self.low - offset).max(0);
        let again = self.low.min(offset) - from;
        let mut what = format!("{unread} records were deleted before they were read");
        if again > 0 {
            what.push_str(&format!(
                ", and of {again} that were read what they mean for windows that are still open cannot be made again (the \
                 newest snapshot is of offset {from})"
            ));
        }
        let way_out = "To keep the state, and skip and count what is gone, start with --skip-lost";
        let begins = format_args!("the log begins at offset {}, offset {offset} is committed: {what}", self.low);
        if self.is_source { format!("{}. {way_out}", self.says(begins)) } else { self.says(begins) }
    }

    fn says(&self, problem: fmt::Arguments<'_>) -> String {
        let Self { topic, partition, low, high, .. } = self;
        let committed = self.committed.map_or_else(|| "none".to_owned(), |offset| offset.to_string());
        format!("{problem} (topic {topic}, partition {partition}: committed {committed}, log {low} to {high})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(committed: Option<i64>, snapshot: Option<i64>, (low, high): (i64, i64)) -> Found<'static> {
        let (group, topic, state_topic) = ("g", "clicks", "state");
        Found {
            group,
            topic,
            partition: 3,
            state_topic,
            low,
            high,
            committed,
            snapshot,
            is_source: true,
            skip_lost: false,
        }
    }

    fn skipping(found: Found<'static>) -> Result<Resume, String> {
        Found { skip_lost: true, ..found }.resume()
    }

    #[test]
    fn a_task_resumes_at_its_snapshot_or_begins_where_the_log_does() {
        assert_eq!(found(None, None, (5, 9)).resume(), Ok(Resume::New { at: 5 }));
        assert_eq!(found(Some(8), Some(6), (5, 9)).resume(), Ok(Resume::Replay { to: 8 }));
        assert_eq!(found(Some(9), Some(9), (9, 9)).resume(), Ok(Resume::Replay { to: 9 }));
        assert_eq!(found(Some(8), Some(5), (5, 9)).resume(), Ok(Resume::Replay { to: 8 }));
    }

    #[test]
    fn what_retention_has_deleted_is_named_and_skipped_where_that_is_allowed() {
        let unread = found(Some(10), Some(10), (25, 40));
        let message = unread.resume().unwrap_err();
        for part in
            ["begins at offset 25", "15 records were deleted", "clicks, partition 3", "committed 10", "25 to 40"]
        {
            assert!(message.contains(part), "{part} in: {message}");
        }
        assert_eq!(skipping(unread), Ok(Resume::Skip(Lost { from: 10, to: 25 })));
        let half = found(Some(30), Some(10), (25, 40));
        let message = half.resume().unwrap_err();
        assert!(
            message.contains("0 records were deleted before") && message.contains("of 15 that were read"),
            "{message}"
        );
        assert_eq!(
            skipping(half),
            Ok(Resume::Skip(Lost { from: 10, to: 30 })),
            "what is replayed in part is not replayed"
        );
        let both = found(Some(20), Some(10), (25, 40));
        assert!(both.resume().unwrap_err().contains("5 records were deleted before they were read, and of 10 that"));
        assert_eq!(skipping(both), Ok(Resume::Skip(Lost { from: 10, to: 25 })));
    }

    #[test]
    fn what_folds_have_written_is_not_skipped() {
        let unread = Found { is_source: false, ..found(Some(10), Some(10), (25, 40)) };
        assert!(!skipping(unread).unwrap_err().contains("--skip-lost"));
    }

    #[test]
    fn state_and_offset_that_do_not_belong_together_are_not_skipped_either() {
        for (found, part) in [
            (found(None, Some(4), (0, 9)), "has no committed offset"),
            (found(Some(4), None, (0, 9)), "has no snapshot"),
            (found(Some(4), Some(5), (0, 9)), "ahead of the committed offset 4"),
            (found(Some(12), Some(10), (0, 9)), "the log ends at 9"),
        ] {
            let message = skipping(found).unwrap_err();
            assert!(message.contains(part) && message.contains("clicks, partition 3"), "{message}");
        }
    }
}
