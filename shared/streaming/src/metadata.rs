//! What a task writes into the metadata of its committed offset: ASCII,
//! `3;watermark;closed;mark;generation;semantics;partitions;topic id`.

use std::fmt;

use kafka::TopicId;

use crate::task::Reached;

/// The format that is written.
const VERSION: &str = "3";
/// The one before, without the topic's id: it is read as one whose id is not known.
const WITHOUT_ID: &str = "2";

/// The metadata of a task's committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitMetadata {
    /// How far the task had got at the cut.
    pub(crate) reached: Reached,
    /// Generation of the newest committed snapshot.
    pub(crate) generation: u64,
    /// Hash of the semantic configuration.
    pub(crate) semantics: u64,
    /// Partitions of the source topic.
    pub(crate) partitions: i32,
    /// Id of the topic whose offset it is; `None` where it is not known.
    pub(crate) topic: Option<TopicId>,
}

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION};")?;
        let Reached { watermark, closed, mark } = self.reached;
        for time in [watermark, closed, mark] {
            match time {
                Some(time) => write!(f, "{time};")?,
                None => write!(f, "-;")?,
            }
        }
        write!(f, "{};{:016x};{};", self.generation, self.semantics, self.partitions)?;
        match &self.topic {
            Some(id) => write!(f, "{id}"),
            None => write!(f, "-"),
        }
    }
}

impl CommitMetadata {
    /// Reads what `Display` writes, or wrote in the format before.
    ///
    /// # Errors
    /// What else it is.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let version = text.split(';').next().unwrap_or_default();
        let written_by = match version.parse::<u32>() {
            Ok(_) => {
                format!("another version of this worker (format {version}; this one reads {WITHOUT_ID} and {VERSION})")
            }
            Err(_) => "something else than this worker".to_owned(),
        };
        Self::read(text).ok_or_else(|| format!("it was committed by {written_by}: its metadata is {text:?}"))
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let version = parts.next()?;
        if ![VERSION, WITHOUT_ID].contains(&version) {
            return None;
        }
        let mut time = || match parts.next()? {
            "-" => Some(None),
            time => Some(Some(time.parse().ok()?)),
        };
        let reached = Reached { watermark: time()?, closed: time()?, mark: time()? };
        let generation = parts.next()?.parse().ok()?;
        let semantics = u64::from_str_radix(parts.next()?, 16).ok()?;
        let partitions = parts.next()?.parse().ok()?;
        let topic = if version == VERSION { TopicId::parse(parts.next()?) } else { None };
        parts.next().is_none().then_some(Self { reached, generation, semantics, partitions, topic })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_reads_back_as_written_and_foreign_text_is_refused() {
        for watermark in [None, Some(0), Some(-5), Some(1_396_821_545_611)] {
            let reached = Reached { watermark, closed: Some(7), mark: None };
            for topic in [TopicId::parse("dk5e-XZASXWRuJnqJNN9Dw"), None] {
                let metadata = CommitMetadata { reached, generation: 12, semantics: 0xabc, partitions: 7, topic };
                let text = metadata.to_string();
                assert!(text.is_ascii());
                assert_eq!(CommitMetadata::parse(&text), Ok(metadata));
            }
        }
        for foreign in ["", "2", "3", "2;x;-;-;1;0;1", "2;-;-;-;1;0;1;9", "3;-;-;-;1;0;1", "3;-;-;-;1;0;1;a;b"] {
            assert!(CommitMetadata::parse(foreign).is_err(), "{foreign}");
        }
    }

    #[test]
    fn the_format_before_is_read_and_what_no_version_wrote_is_said_to_be_that() {
        let before = CommitMetadata::parse("2;5;-;-;1;0;4").unwrap();
        assert_eq!((before.partitions, before.topic), (4, None));
        assert!(CommitMetadata::parse("1;-;-;-;1;0;1").unwrap_err().contains("format 1"));
        assert!(CommitMetadata::parse("4;whatever").unwrap_err().contains("format 4"));
        assert!(CommitMetadata::parse("somebody's").unwrap_err().contains("something else"));
    }
}
