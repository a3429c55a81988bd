//! A task's partition of the state topic: snapshot chunks, the manifest that makes them valid, decisions.
//!
//! Keys: `manifest`, `chunk/<generation>/<index>`, `decisions/<first offset>`, `history/<key>`,
//! `topic-id` (of the topic whose offsets these are). A snapshot is valid from its
//! manifest on; what an older generation left behind is tombstoned beside the newer manifest.

use std::collections::BTreeMap;

use kafka::TopicId;
use serde::{Deserialize, Serialize};

use crate::decisions::{DecisionRecord, DecisionReplay, first_decision};

/// Largest chunk in bytes: below Kafka's default limit of 1 MB a message.
pub(crate) const CHUNK_BYTES: usize = 900 * 1024;
/// The format of manifests, snapshots and decisions; the first byte of a manifest.
const VERSION: u8 = 2;
const COMPRESSION_LEVEL: i32 = 1;
/// A state that compresses better is written as it is: so a snapshot never takes more memory than this many times its bytes.
const MAX_EXPANSION: usize = 256;

/// Where and how whole a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    version: u8,
    pub(crate) generation: u64,
    chunks: u32,
    compressed: bool,
    /// Length of the uncompressed bytes.
    bytes: u64,
    /// xxh64 of the uncompressed bytes.
    checksum: u64,
    /// The input offset from which the log is to be replayed.
    pub(crate) offset: i64,
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
    #[error("the state was written by another version of recwatch, in format {0}; this one reads format {VERSION}")]
    Version(u8),
    #[error("the record at offset {at} of the state topic cannot be read, key {key:?}: {problem}")]
    Unreadable { key: String, at: i64, problem: String },
}

/// Compresses and cuts a serialised state.
pub(crate) fn pack(state: &[u8], generation: u64, offset: i64) -> std::io::Result<Packed> {
    let smaller = zstd::bulk::compress(state, COMPRESSION_LEVEL)?;
    let compressed = state.len() <= largest_state(smaller.len());
    let stored = if compressed { &smaller } else { state };
    let chunks: Vec<Vec<u8>> = stored.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
    let manifest = Manifest {
        version: VERSION,
        generation,
        chunks: chunks.len() as u32,
        compressed,
        bytes: state.len() as u64,
        checksum: xxhash_rust::xxh64::xxh64(state, 0),
        offset,
    };
    Ok(Packed { manifest, chunks })
}

/// Bytes of the largest state that is written compressed to that many.
fn largest_state(compressed: usize) -> usize {
    compressed.saturating_mul(MAX_EXPANSION)
}

/// The state that a snapshot's chunks hold, in memory that is bounded by their length.
fn unpack(stored: Vec<u8>, manifest: &Manifest) -> Result<Vec<u8>, String> {
    let most = if manifest.compressed { largest_state(stored.len()) } else { stored.len() };
    let length = usize::try_from(manifest.bytes).ok().filter(|length| *length <= most).ok_or_else(|| {
        format!("its manifest claims {} bytes, {} stored ones hold {most} at most", manifest.bytes, stored.len())
    })?;
    let state = match manifest.compressed {
        true => zstd::bulk::decompress(&stored, length).map_err(|error| error.to_string())?,
        false => stored,
    };
    if state.len() != length {
        return Err(format!("it has {} bytes, its manifest claims {length}", state.len()));
    }
    if xxhash_rust::xxh64::xxh64(&state, 0) != manifest.checksum {
        return Err("its checksum does not match".to_owned());
    }
    Ok(state)
}

pub(crate) fn chunk_key(generation: u64, index: u32) -> String {
    format!("chunk/{generation}/{index}")
}

pub(crate) const MANIFEST_KEY: &str = "manifest";

/// Key of the id of the topic that the task reads: Kafka deletes a topic's offsets with it, but not what is kept here.
pub(crate) const TOPIC_ID_KEY: &str = "topic-id";

/// Key of a history record.
pub(crate) fn history_key(key: &str) -> String {
    format!("{HISTORY}{key}")
}

const HISTORY: &str = "history/";

/// The records of a state partition as compaction would leave them.
#[derive(Debug, Default, Clone)]
pub(crate) struct StateLog {
    records: BTreeMap<String, StateRecord>,
}

#[derive(Debug, Clone)]
struct StateRecord {
    offset: i64,
    value: Vec<u8>,
}

/// What a state partition holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    pub(crate) state: Vec<u8>,
    /// Those that follow the snapshot.
    pub(crate) decisions: DecisionReplay,
    /// All decision records that are there, those below the snapshot too: (first offset, last offset).
    pub(crate) decision_records: Vec<(i64, i64)>,
    /// What the operator has written once, by its own key.
    pub(crate) history: BTreeMap<String, Vec<u8>>,
}

impl StateLog {
    /// Takes in the next record of the partition, which lies at `offset`.
    pub(crate) fn record(&mut self, key: &[u8], value: Option<&[u8]>, offset: i64) {
        let key = String::from_utf8_lossy(key).into_owned();
        match value {
            Some(value) => self.records.insert(key, StateRecord { offset, value: value.to_vec() }),
            None => self.records.remove(&key),
        };
    }

    /// Keys that the next manifest makes obsolete: chunks of any generation, and what is not ours. Decisions are the
    /// task's to supersede.
    pub(crate) fn obsolete(&self) -> Vec<String> {
        let stays = |key: &str| {
            [MANIFEST_KEY, TOPIC_ID_KEY].contains(&key) || key.starts_with(HISTORY) || first_decision(key).is_some()
        };
        self.records.keys().filter(|key| !stays(key)).cloned().collect()
    }

    /// The highest generation of which anything is there: the next one must be above it.
    pub(crate) fn highest_generation(&self) -> u64 {
        let chunks = self.records.keys().filter_map(|key| key.strip_prefix("chunk/")?.split('/').next()?.parse().ok());
        chunks.chain(self.manifest().ok().flatten().map(|manifest| manifest.generation)).max().unwrap_or(0)
    }

    /// The id of the topic that the state was made from, where it is known.
    pub(crate) fn topic_id(&self) -> Option<TopicId> {
        TopicId::parse(std::str::from_utf8(&self.records.get(TOPIC_ID_KEY)?.value).ok()?)
    }

    fn manifest(&self) -> Result<Option<Manifest>, StateError> {
        let Some(record) = self.records.get(MANIFEST_KEY) else { return Ok(None) };
        match record.value.first() {
            Some(version) if *version != VERSION => Err(StateError::Version(*version)),
            _ => decode(MANIFEST_KEY, record).map(Some),
        }
    }

    /// The newest valid snapshot with the decisions that follow it; `None` where there is no manifest.
    pub(crate) fn load(&self) -> Result<Option<Loaded>, StateError> {
        let Some(manifest) = self.manifest()? else { return Ok(None) };
        let generation = manifest.generation;
        let mut stored = Vec::new();
        for index in 0..manifest.chunks {
            let chunk = self.records.get(&chunk_key(generation, index));
            stored.extend_from_slice(&chunk.ok_or(StateError::MissingChunk { generation, index })?.value);
        }
        let state = unpack(stored, &manifest).map_err(|problem| StateError::Damaged { generation, problem })?;
        let decisions = self.decisions()?;
        let decision_records = decisions.iter().map(|(first, record)| (*first, record.last)).collect();
        let following = decisions.into_values().filter(|record| record.last >= manifest.offset);
        let decisions = DecisionReplay::new(following);
        let history = self.records.iter().filter_map(|(key, record)| Some((key.strip_prefix(HISTORY)?, record)));
        let history = history.map(|(key, record)| (key.to_owned(), record.value.clone())).collect();
        Ok(Some(Loaded { manifest, state, decisions, decision_records, history }))
    }

    /// By their first offsets.
    fn decisions(&self) -> Result<BTreeMap<i64, DecisionRecord>, StateError> {
        let records = self.records.iter().filter_map(|(key, record)| Some((first_decision(key)?, key, record)));
        records
            .map(|(first, key, record)| {
                let decisions: DecisionRecord = decode(key, record)?;
                decisions.check().map_err(|problem| unreadable(key, record, problem))?;
                Ok((first, decisions))
            })
            .collect()
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // a Vec as target and derived Serialize of plain data: there is nothing that can fail
    postcard::to_stdvec(value).unwrap_or_default()
}

fn decode<T: for<'a> Deserialize<'a>>(key: &str, record: &StateRecord) -> Result<T, StateError> {
    postcard::from_bytes(&record.value).map_err(|error| unreadable(key, record, error.to_string()))
}

fn unreadable(key: &str, record: &StateRecord, problem: String) -> StateError {
    StateError::Unreadable { key: key.to_owned(), at: record.offset, problem }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use records::Reason;

    use super::*;
    use crate::decisions::{PendingDecisions, decisions_key};

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
            log.record(chunk_key(packed.manifest.generation, index as u32).as_bytes(), Some(chunk), 0);
        }
        if with_manifest {
            log.record(MANIFEST_KEY.as_bytes(), Some(&encode(&packed.manifest)), 0);
        }
    }

    fn refusals(offsets: std::ops::RangeInclusive<i64>) -> (String, Vec<u8>) {
        let mut pending = PendingDecisions::default();
        offsets.for_each(|offset| pending.refuse(Reason::UnknownSchema, offset, offset));
        let (first, record) = pending.take().unwrap();
        (decisions_key(first), encode(&record))
    }

    #[test]
    fn a_snapshot_of_many_chunks_reads_back_and_an_unfinished_newer_one_changes_nothing() {
        let state = incompressible(3 * CHUNK_BYTES);
        let first = pack(&state, 4, 100).unwrap();
        assert!(first.chunks.len() > 3);
        let mut log = StateLog::default();
        write(&mut log, &first, true);
        write(&mut log, &pack(b"half", 5, 200).unwrap(), false);
        let loaded = log.load().unwrap().unwrap();
        assert_eq!(loaded.state, state);
        assert_eq!(loaded.manifest.offset, 100);
        assert_eq!(log.highest_generation(), 5);
    }

    #[test]
    fn decisions_below_the_snapshot_are_not_obeyed_and_are_still_superseded() {
        let mut log = StateLog::default();
        write(&mut log, &pack(b"state", 1, 100).unwrap(), true);
        for offsets in [7..=9, 95..=104, 200..=200] {
            let (key, value) = refusals(offsets);
            log.record(key.as_bytes(), Some(&value), 0);
        }
        let mut loaded = log.load().unwrap().unwrap();
        assert_eq!(loaded.decision_records, [(7, 9), (95, 104), (200, 200)]);
        let refused = (100..300).filter(|offset| loaded.decisions.refusal(*offset).is_some());
        assert_eq!(refused.collect::<Vec<_>>(), [100, 101, 102, 103, 104, 200]);
        assert_eq!(log.obsolete(), ["chunk/1/0"]);
    }

    #[test]
    fn a_missing_chunk_and_a_damaged_one_are_named() {
        let mut log = StateLog::default();
        assert!(log.load().unwrap().is_none());
        let packed = pack(&incompressible(2 * CHUNK_BYTES), 1, 0).unwrap();
        write(&mut log, &packed, true);
        log.record(b"chunk/1/1", None, 1);
        assert!(matches!(log.load(), Err(StateError::MissingChunk { generation: 1, index: 1 })));
        log.record(b"chunk/1/1", Some(b"rubbish"), 2);
        assert!(matches!(log.load(), Err(StateError::Damaged { generation: 1, .. })));
    }

    #[test]
    fn state_of_another_format_and_records_that_are_not_ours_are_named_with_their_offsets() {
        let mut log = StateLog::default();
        log.record(MANIFEST_KEY.as_bytes(), Some(&[1, 0, 1, 2, 3]), 5);
        assert!(matches!(log.load(), Err(StateError::Version(1))));
        log.record(MANIFEST_KEY.as_bytes(), Some(&[VERSION]), 6);
        assert!(matches!(log.load(), Err(StateError::Unreadable { at: 6, .. })));
        write(&mut log, &pack(b"state", 1, 0).unwrap(), true);
        log.record(b"somebody else's", Some(b"x"), 7);
        assert!(log.load().unwrap().is_some(), "what is nobody's key changes nothing");
        log.record(decisions_key(3).as_bytes(), Some(b"\xff\xff\xff"), 8);
        let error = log.load().unwrap_err().to_string();
        assert!(error.contains("offset 8") && error.contains("decisions/3"), "{error}");
    }

    #[test]
    fn a_state_that_compresses_too_well_is_written_as_it_is() {
        for state in [vec![7; 1_000_000], vec![0; 3_000], Vec::new(), b"short".to_vec()] {
            let packed = pack(&state, 1, 0).unwrap();
            let stored: usize = packed.chunks.iter().map(Vec::len).sum();
            assert!(state.len() <= stored * MAX_EXPANSION, "{} bytes of {stored}", state.len());
            let mut log = StateLog::default();
            write(&mut log, &packed, true);
            assert_eq!(log.load().unwrap().unwrap().state, state);
        }
    }

    #[test]
    fn a_manifest_that_claims_more_than_its_chunks_can_hold_is_refused_before_memory_is_taken() {
        let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 19).unwrap();
        for bytes in [100 << 20, u64::MAX, largest_state(bomb.len()) as u64] {
            let mut packed = pack(b"", 1, 0).unwrap();
            packed.chunks = vec![bomb.clone()];
            packed.manifest = Manifest { chunks: 1, compressed: true, bytes, ..packed.manifest };
            let mut log = StateLog::default();
            write(&mut log, &packed, true);
            assert!(matches!(log.load(), Err(StateError::Damaged { .. })), "{bytes}");
        }
    }

    proptest! {
        /// Somebody else's producer writes what it likes, under our keys too.
        #[test]
        fn no_records_make_loading_panic(
            records in prop::collection::vec(
                (prop::sample::select(vec!["manifest", "chunk/1/0", "decisions/5", "history/a", "decisions/x", ""]),
                 prop::option::of(prop::collection::vec(any::<u8>(), 0..64))),
                0..12,
            ),
            manifest in prop::option::of((any::<u64>(), 0_u32..3, any::<bool>(), any::<u64>(), any::<i64>())),
        ) {
            let mut log = StateLog::default();
            if let Some((generation, chunks, compressed, bytes, offset)) = manifest {
                let manifest = Manifest { version: VERSION, generation, chunks, compressed, bytes, checksum: 0, offset };
                log.record(MANIFEST_KEY.as_bytes(), Some(&encode(&manifest)), 0);
            }
            for (offset, (key, value)) in (1..).zip(records) {
                log.record(key.as_bytes(), value.as_deref(), offset);
            }
            let _ = (log.load(), log.obsolete(), log.highest_generation());
        }
    }
}
