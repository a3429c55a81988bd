//! What a task writes into the metadata of its committed offset: ASCII,
//! `2;watermark;closed;mark;generation;semantics;partitions`.

use std::fmt;

use crate::task::Reached;

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
}

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2;")?;
        let Reached { watermark, closed, mark } = self.reached;
        for time in [watermark, closed, mark] {
            match time {
                Some(time) => write!(f, "{time};")?,
                None => write!(f, "-;")?,
            }
        }
        write!(f, "{};{:016x};{}", self.generation, self.semantics, self.partitions)
    }
}

impl CommitMetadata {
    /// Reads what `Display` writes; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        if parts.next()? != "2" {
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
        parts.next().is_none().then_some(Self { reached, generation, semantics, partitions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_reads_back_as_written_and_foreign_text_is_refused() {
        for watermark in [None, Some(0), Some(-5), Some(1_396_821_545_611)] {
            let reached = Reached { watermark, closed: Some(7), mark: None };
            let metadata = CommitMetadata { reached, generation: 12, semantics: 0xabc, partitions: 7 };
            let text = metadata.to_string();
            assert!(text.is_ascii());
            assert_eq!(CommitMetadata::parse(&text), Some(metadata));
        }
        for foreign in ["", "2", "1;-;-;-;1;0;1", "2;x;-;-;1;0;1", "2;-;-;-;1;0;1;9"] {
            assert_eq!(CommitMetadata::parse(foreign), None, "{foreign}");
        }
    }
}
