//! What a task writes into the metadata of its committed offset: ASCII, `1;watermark;generation;semantics;partitions`.

use std::fmt;

/// The metadata of a task's committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitMetadata {
    /// Watermark at the cut, followed ones included.
    pub(crate) watermark: Option<i64>,
    /// Generation of the newest committed snapshot.
    pub(crate) generation: u64,
    /// Hash of the semantic configuration.
    pub(crate) semantics: u64,
    /// Partitions of the source topic.
    pub(crate) partitions: i32,
}

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1;")?;
        match self.watermark {
            Some(watermark) => write!(f, "{watermark}")?,
            None => write!(f, "-")?,
        }
        write!(f, ";{};{:016x};{}", self.generation, self.semantics, self.partitions)
    }
}

impl CommitMetadata {
    /// Reads what `Display` writes; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        if parts.next()? != "1" {
            return None;
        }
        let watermark = match parts.next()? {
            "-" => None,
            watermark => Some(watermark.parse().ok()?),
        };
        let generation = parts.next()?.parse().ok()?;
        let semantics = u64::from_str_radix(parts.next()?, 16).ok()?;
        let partitions = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { watermark, generation, semantics, partitions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_reads_back_as_written_and_foreign_text_is_refused() {
        for watermark in [None, Some(0), Some(-5), Some(1_396_821_545_611)] {
            let metadata = CommitMetadata { watermark, generation: 12, semantics: 0xabc, partitions: 7 };
            let text = metadata.to_string();
            assert!(text.is_ascii());
            assert_eq!(CommitMetadata::parse(&text), Some(metadata));
        }
        for foreign in ["", "1", "2;-;1;0;1", "1;x;1;0;1", "1;-;1;0;1;9"] {
            assert_eq!(CommitMetadata::parse(foreign), None, "{foreign}");
        }
    }
}
