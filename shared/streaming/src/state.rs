//! A task's partition of the state topic: snapshot chunks, the manifest that makes them valid, decisions.
//!
//! Keys: `manifest`, `chunk/<generation>/<index>`, `decision/<offset>`. A snapshot is valid from its manifest on; what
//! an older generation left behind is tombstoned beside the newer manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Largest chunk in bytes: below Kafka's default limit of 1 MB a message.
pub(crate) const CHUNK_BYTES: usize = 900 * 1024;
const VERSION: u8 = 1;
const COMPRESSION_LEVEL: i32 = 1;

/// Where and how whole a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    version: u8,
    pub(crate) generation: u64,
    chunks: u32,
    /// xxh64 of the uncompressed bytes.
    checksum: u64,
    /// The input offset from which the log is to be replayed.
    pub(crate) offset: i64,
}

/// A task's choice that its input alone does not determine; a replay obeys it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Decision {
    /// Before this offset the idle partition had followed others to this watermark.
    pub(crate) followed: Option<i64>,
    /// The record was refused for what the outside said then: reason and message.
    pub(crate) refused: Option<(String, String)>,
}

/// A snapshot ready to be written.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) manifest: Manifest,
    pub(crate) chunks: Vec<Vec<u8>>,
}

/// Why a task's state cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("chunk {index} of snapshot generation {generation} is missing")]
    MissingChunk { generation: u64, index: u32 },
    #[error("snapshot generation {generation} is damaged: {problem}")]
    Damaged { generation: u64, problem: String },
    #[error("the snapshot was written by another version of the format ({0})")]
    Version(u8),
    #[error("a record of the state topic cannot be read: key {key:?}: {problem}")]
    Unreadable { key: String, problem: String },
}

/// Compresses and cuts a serialised state.
pub(crate) fn pack(state: &[u8], generation: u64, offset: i64) -> std::io::Result<Packed> {
    let compressed = zstd::bulk::compress(state, COMPRESSION_LEVEL)?;
    let chunks: Vec<Vec<u8>> = compressed.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
    let manifest = Manifest {
        version: VERSION,
        generation,
        chunks: chunks.len() as u32,
        checksum: xxhash_rust::xxh64::xxh64(state, 0),
        offset,
    };
    Ok(Packed { manifest, chunks })
}

pub(crate) fn chunk_key(generation: u64, index: u32) -> String {
    format!("chunk/{generation}/{index}")
}

pub(crate) const MANIFEST_KEY: &str = "manifest";

pub(crate) fn decision_key(offset: i64) -> String {
    format!("decision/{offset}")
}

/// Key of a history record.
pub(crate) fn history_key(key: &str) -> String {
    format!("{HISTORY}{key}")
}

const HISTORY: &str = "history/";

/// The records of a state partition as compaction would leave them.
#[derive(Debug, Default, Clone)]
pub(crate) struct StateLog {
    records: BTreeMap<String, Vec<u8>>,
}

/// What a state partition holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    pub(crate) state: Vec<u8>,
    pub(crate) decisions: BTreeMap<i64, Decision>,
    /// What the operator has written once, by its own key.
    pub(crate) history: BTreeMap<String, Vec<u8>>,
}

impl StateLog {
    /// Takes in the next record of the partition.
    pub(crate) fn record(&mut self, key: &[u8], value: Option<&[u8]>) {
        let key = String::from_utf8_lossy(key).into_owned();
        match value {
            Some(value) => self.records.insert(key, value.to_vec()),
            None => self.records.remove(&key),
        };
    }

    /// Keys that the next manifest makes obsolete: chunks of any generation, decisions.
    pub(crate) fn keys(&self) -> Vec<String> {
        let stays = |key: &str| key == MANIFEST_KEY || key.starts_with(HISTORY);
        self.records.keys().filter(|key| !stays(key)).cloned().collect()
    }

    /// The highest generation of which anything is there: the next one must be above it.
    pub(crate) fn highest_generation(&self) -> u64 {
        let chunks = self.records.keys().filter_map(|key| key.strip_prefix("chunk/")?.split('/').next()?.parse().ok());
        chunks.chain(self.manifest().ok().flatten().map(|manifest| manifest.generation)).max().unwrap_or(0)
    }

    fn manifest(&self) -> Result<Option<Manifest>, StateError> {
        self.records.get(MANIFEST_KEY).map(|bytes| decode(MANIFEST_KEY, bytes)).transpose()
    }

    /// The newest valid snapshot with the decisions that follow it; `None` where there is no manifest.
    pub(crate) fn load(&self) -> Result<Option<Loaded>, StateError> {
        let Some(manifest) = self.manifest()? else { return Ok(None) };
        if manifest.version != VERSION {
            return Err(StateError::Version(manifest.version));
        }
        let generation = manifest.generation;
        let mut compressed = Vec::new();
        for index in 0..manifest.chunks {
            let chunk = self.records.get(&chunk_key(generation, index));
            compressed.extend_from_slice(chunk.ok_or(StateError::MissingChunk { generation, index })?);
        }
        let damaged = |problem: String| StateError::Damaged { generation, problem };
        let state = zstd::stream::decode_all(compressed.as_slice()).map_err(|error| damaged(error.to_string()))?;
        if xxhash_rust::xxh64::xxh64(&state, 0) != manifest.checksum {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        let mut decisions = BTreeMap::new();
        for (key, bytes) in &self.records {
            if let Some(offset) = key.strip_prefix("decision/").and_then(|offset| offset.parse().ok())
                && offset >= manifest.offset
            {
                decisions.insert(offset, decode(key, bytes)?);
            }
        }
        let history = self.records.iter().filter_map(|(key, bytes)| Some((key.strip_prefix(HISTORY)?, bytes)));
        let history = history.map(|(key, bytes)| (key.to_owned(), bytes.clone())).collect();
        Ok(Some(Loaded { manifest, state, decisions, history }))
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // a Vec as target and derived Serialize of plain data: there is nothing that can fail
    postcard::to_stdvec(value).unwrap_or_default()
}

fn decode<T: for<'a> Deserialize<'a>>(key: &str, bytes: &[u8]) -> Result<T, StateError> {
    postcard::from_bytes(bytes)
        .map_err(|error| StateError::Unreadable { key: key.to_owned(), problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incompressible(length: usize) -> Vec<u8> {
        let mut state = 7_u64;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }

    fn write(log: &mut StateLog, packed: &Packed, with_manifest: bool) {
        for (index, chunk) in packed.chunks.iter().enumerate() {
            log.record(chunk_key(packed.manifest.generation, index as u32).as_bytes(), Some(chunk));
        }
        if with_manifest {
            log.record(MANIFEST_KEY.as_bytes(), Some(&encode(&packed.manifest)));
        }
    }

    #[test]
    fn a_snapshot_of_many_chunks_reads_back_and_an_unfinished_newer_one_changes_nothing() {
        let state = incompressible(3 * CHUNK_BYTES);
        let first = pack(&state, 4, 100).unwrap();
        assert!(first.chunks.len() > 3);
        let mut log = StateLog::default();
        write(&mut log, &first, true);
        write(&mut log, &pack(b"half", 5, 200).unwrap(), false);
        log.record(decision_key(99).as_bytes(), Some(&encode(&Decision { followed: Some(1), refused: None })));
        let kept = Decision { followed: Some(2), refused: Some(("unknown_schema".into(), "id 9".into())) };
        log.record(decision_key(100).as_bytes(), Some(&encode(&kept)));
        let loaded = log.load().unwrap().unwrap();
        assert_eq!(loaded.state, state);
        assert_eq!(loaded.manifest.offset, 100);
        assert_eq!(loaded.decisions, BTreeMap::from([(100, kept)]));
        assert_eq!(log.highest_generation(), 5);
    }

    #[test]
    fn a_missing_chunk_and_a_damaged_one_are_named() {
        let mut log = StateLog::default();
        assert!(log.load().unwrap().is_none());
        let packed = pack(&incompressible(2 * CHUNK_BYTES), 1, 0).unwrap();
        write(&mut log, &packed, true);
        log.record(b"chunk/1/1", None);
        assert!(matches!(log.load(), Err(StateError::MissingChunk { generation: 1, index: 1 })));
        log.record(b"chunk/1/1", Some(b"rubbish"));
        assert!(matches!(log.load(), Err(StateError::Damaged { generation: 1, .. })));
    }
}
