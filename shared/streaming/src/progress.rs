//! The worker's `watermarks` topic: what every task says of itself, small and compacted, read by all threads.
//!
//! Keys `fold/<partition>` and `merge/<partition>`, values in JSON, written inside the tasks' transactions.

use std::sync::RwLock;

use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::watermark::Announced;

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

    /// Takes in one record of the topic; others than folds' are none of its business.
    pub(crate) fn record(&self, key: &[u8], value: Option<&[u8]>) {
        let Some(partition) = std::str::from_utf8(key)
            .ok()
            .and_then(|key| key.strip_prefix("fold/"))
            .and_then(|partition| partition.parse::<usize>().ok())
        else {
            return;
        };
        let announced = value.and_then(|value| serde_json::from_slice::<FoldProgress>(value).ok());
        let mut partitions = self.partitions.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(slot) = partitions.get_mut(partition) {
            *slot = announced.map(|FoldProgress { watermark, idle, restores_from, .. }| Announced {
                watermark,
                idle,
                restores_from,
            });
        }
    }

    pub(crate) fn announced(&self) -> Vec<Option<Announced>> {
        self.partitions.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
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
        board.record(b"fold/1", Some(&serde_json::to_vec(&progress).unwrap()));
        board.record(b"merge/0", Some(b"{}"));
        board.record(b"fold/9", Some(&serde_json::to_vec(&progress).unwrap()));
        assert_eq!(
            board.announced(),
            [None, Some(Announced { watermark: Some(7), idle: true, restores_from: Some(3) })]
        );
        board.record(b"fold/1", None);
        assert_eq!(board.announced(), [None, None]);
    }
}
