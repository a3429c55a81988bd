//! The worker's `watermarks` topic: what every task says of itself, small and compacted, read by all threads.
//!
//! Keys `fold/<partition>` and `merge/<partition>`, values in JSON, written inside the tasks' transactions.

use std::sync::RwLock;

use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::watermark::Announced;
use crate::window::is_computable;

/// What a fold task has announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldProgress {
    /// Its watermark in epoch ms.
    pub watermark: Option<i64>,
    /// Whether its partition is idle.
    pub idle: bool,
    /// The next offset it will read.
    pub offset: i64,
    /// What became of the records before that offset.
    pub counts: Counts,
    /// What was closed (epoch ms) at its newest committed snapshot: a replay looks nothing up below it.
    #[serde(default)]
    pub restores_from: Option<i64>,
}

/// What a merge task has announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeProgress {
    /// The windows that end at or before it are closed; epoch ms.
    pub closed: Option<i64>,
    /// The next offset it will read.
    pub offset: i64,
    /// Rows written so far.
    pub rows: u64,
}

/// The announcements of one source topic's partitions, shared by the threads of an instance.
#[derive(Debug)]
pub(crate) struct Board {
    partitions: RwLock<Vec<Option<Announced>>>,
}

impl Board {
    pub(crate) fn new(partitions: usize) -> Self {
        Self { partitions: RwLock::new(vec![None; partitions]) }
    }

    /// Takes in one record of the topic; those of merges are none of its business. What cannot be read changes nothing: the
    /// partition's last announcement counts until its owner makes the next one.
    ///
    /// # Errors
    /// What is wrong with a record that no task has written.
    pub(crate) fn record(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let key = std::str::from_utf8(key).map_err(|_| "its key is no text".to_owned())?;
        if key.starts_with("merge/") {
            return Ok(());
        }
        let partition = key.strip_prefix("fold/").and_then(|partition| partition.parse::<usize>().ok());
        let announced = value.map(announcement).transpose()?;
        let mut partitions = self.partitions.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slot = partition.and_then(|partition| partitions.get_mut(partition));
        *slot.ok_or_else(|| format!("its key {key:?} is none of a task"))? = announced;
        Ok(())
    }

    pub(crate) fn announced(&self) -> Vec<Option<Announced>> {
        self.partitions.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

fn announcement(value: &[u8]) -> Result<Announced, String> {
    let FoldProgress { watermark, idle, restores_from, .. } =
        serde_json::from_slice(value).map_err(|error| format!("its value is no announcement: {error}"))?;
    match [watermark, restores_from].into_iter().flatten().find(|time| !is_computable(*time)) {
        Some(time) => Err(format!("it announces {time}, which no event has")),
        None => Ok(Announced { watermark, idle, restores_from }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_shows_the_newest_announcement_of_each_fold() {
        let board = Board::new(2);
        let progress = FoldProgress {
            watermark: Some(7),
            idle: true,
            offset: 3,
            counts: Counts::default(),
            restores_from: Some(3),
        };
        let written = serde_json::to_vec(&progress).unwrap();
        board.record(b"fold/1", Some(&written)).unwrap();
        board.record(b"merge/0", Some(b"{}")).unwrap();
        let forged = FoldProgress { watermark: Some(i64::MIN), ..progress };
        let forged = serde_json::to_vec(&forged).unwrap();
        let foreign: [(&[u8], &[u8]); 6] = [
            (b"fold/9", &written),
            (b"fold/1", b"garbage"),
            (b"fold/1", b""),
            (b"fold/1", &forged),
            (b"\xff", &written),
            (b"somebody else's", &written),
        ];
        for (key, value) in foreign {
            assert!(board.record(key, Some(value)).is_err(), "{key:?}");
        }
        let announced = Announced { watermark: Some(7), idle: true, restores_from: Some(3) };
        assert_eq!(board.announced(), [None, Some(announced)], "what is not ours changes nothing");
        board.record(b"fold/1", None).unwrap();
        assert_eq!(board.announced(), [None, None]);
    }
}
