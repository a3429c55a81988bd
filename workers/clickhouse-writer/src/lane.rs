//! One table's way from records to commits, without IO: what is held, what must wait, what may be committed.
//!
//! An offset may be committed when every record below it was delivered: to ClickHouse, or to the dead letters. Nothing is
//! remembered a record: the floor of a partition is the first offset in any batch that still holds some of it, and the
//! position where none does. So the next success cannot step over a hole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use records::DecodeError;

use crate::batch::{Batch, Limits, Original, Place, Refusal};
use crate::month;
use crate::tables::{DecodeRow, Table};

/// One table, its topic, and what is held of it.
pub struct Lane {
    /// The table.
    pub table: &'static Table,
    /// The topic of its rows.
    pub topic: String,
    limits: Limits,
    decoder: Box<dyn DecodeRow>,
    filling: Batch,
    in_flight: Option<InFlight>,
    /// By partition, records in their order, the first of which waits for its schema.
    stalled: BTreeMap<i32, VecDeque<(Place, Original)>>,
    partitions: BTreeMap<i32, Progress>,
}

/// What is remembered of a batch that is being delivered.
#[derive(Debug)]
struct InFlight {
    first_offsets: BTreeMap<i32, i64>,
    records: usize,
    bytes: usize,
    since: Instant,
}

/// How far an owned partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The next offset to take.
    pub position: i64,
    /// The committed offset, as the next one to read.
    pub committed: Option<i64>,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// It is in the batch, as a row or, with a reason, as a refused record.
    Held(Option<&'static str>),
    /// Its schema is not known yet: its partition waits, and it is taken again with [`Lane::retry_stalled`].
    Stalled {
        /// Where it is.
        place: Place,
        /// What is waited for.
        message: String,
    },
    /// A record before it in its partition waits for its schema, and so does it.
    Queued,
    /// Its partition is not owned (any more).
    NotOwned,
}

impl Lane {
    /// A lane that owns no partition yet.
    pub fn new(table: &'static Table, topic: String, limits: Limits, decoder: Box<dyn DecodeRow>) -> Self {
        Self {
            table,
            topic,
            limits,
            decoder,
            filling: Batch::default(),
            in_flight: None,
            stalled: BTreeMap::new(),
            partitions: BTreeMap::new(),
        }
    }

    /// Takes the next record of a partition.
    pub fn take(&mut self, place: Place, original: Original, now: Instant) -> Taken {
        if !self.partitions.contains_key(&place.partition) {
            return Taken::NotOwned;
        }
        if let Some(waiting) = self.stalled.get_mut(&place.partition) {
            waiting.push_back((place, original));
            return Taken::Queued;
        }
        match self.hold(place, original, now) {
            Ok(reason) => Taken::Held(reason),
            Err((message, original)) => {
                self.stalled.entry(place.partition).or_default().push_back((place, original));
                Taken::Stalled { place, message }
            }
        }
    }

    /// Takes the stalled records again, those of each partition in their order until one has to wait on. What became of them.
    pub fn retry_stalled(&mut self, now: Instant) -> Vec<Taken> {
        let mut taken = Vec::new();
        for (partition, mut waiting) in std::mem::take(&mut self.stalled) {
            while let Some((place, original)) = waiting.pop_front() {
                match self.hold(place, original, now) {
                    Ok(reason) => taken.push(Taken::Held(reason)),
                    Err((message, original)) => {
                        waiting.push_front((place, original));
                        taken.push(Taken::Stalled { place, message });
                        break;
                    }
                }
            }
            if !waiting.is_empty() {
                self.stalled.insert(partition, waiting);
            }
        }
        taken
    }

    fn hold(
        &mut self,
        place: Place,
        original: Original,
        now: Instant,
    ) -> Result<Option<&'static str>, (String, Original)> {
        let decoder = &mut self.decoder;
        let pushed = self.filling.push(place, original, now, |original, into| {
            decoder.decode(original.key.as_deref(), original.value.as_deref(), into).map(month::of)
        });
        let reason = match pushed {
            Ok(()) => None,
            Err((DecodeError::Rejected(rejection), original)) => {
                let reason = rejection.reason.name();
                self.filling
                    .refuse(Refusal { place, original, stage: "decode", reason, message: rejection.message }, now);
                Some(reason)
            }
            Err((DecodeError::NoAnswer(error), original)) => return Err((error.to_string(), original)),
        };
        if let Some(progress) = self.partitions.get_mut(&place.partition) {
            progress.position = place.offset + 1;
        }
        Ok(reason)
    }

    /// Whether no further record should be taken: there is no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.filling.is_full(&self.limits) && self.in_flight.is_some()
    }

    /// The partitions that should be paused: all where there is no room, else those that wait for the registry.
    #[must_use]
    pub fn partitions_to_pause(&self) -> BTreeSet<i32> {
        if self.is_full() {
            return self.partitions.keys().copied().collect();
        }
        self.stalled.keys().copied().collect()
    }

    /// Whether records wait for the registry.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// Whether records of this partition wait for the registry.
    #[must_use]
    pub fn is_stalled(&self, partition: i32) -> bool {
        self.stalled.contains_key(&partition)
    }

    /// The owned partitions with rows in a delivery that has been under way for at least `longer_than`.
    pub fn delivering(&self, longer_than: Duration, now: Instant) -> impl Iterator<Item = i32> + '_ {
        let batch = self.in_flight.iter().filter(move |batch| now.duration_since(batch.since) >= longer_than);
        let partitions = batch.flat_map(|batch| batch.first_offsets.keys().copied());
        partitions.filter(|partition| self.partitions.contains_key(partition))
    }

    /// The batch to deliver now, if it is due (or `at_once`) and none is under way. Call [`delivered`](Self::delivered)
    /// when it is done.
    pub fn seal(&mut self, now: Instant, at_once: bool) -> Option<Batch> {
        let due = if at_once { !self.filling.is_empty() } else { self.filling.is_due(&self.limits, now) };
        if self.in_flight.is_some() || !due {
            return None;
        }
        let mut batch = std::mem::take(&mut self.filling);
        batch.sort();
        self.in_flight = Some(InFlight {
            first_offsets: batch.first_offsets(),
            records: batch.len(),
            bytes: batch.bytes(),
            since: now,
        });
        Some(batch)
    }

    /// The batch that was under way has been delivered.
    pub fn delivered(&mut self) {
        self.in_flight = None;
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.filling.is_empty() && self.in_flight.is_none()
    }

    /// How many records were taken and are not delivered.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.filling.len()
            + self.in_flight.as_ref().map_or(0, |batch| batch.records)
            + self.stalled.values().map(VecDeque::len).sum::<usize>()
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.filling.bytes() + self.in_flight.as_ref().map_or(0, |batch| batch.bytes)
    }

    /// A partition is now owned, and is read from `position`.
    pub fn assign(&mut self, partition: i32, position: i64, committed: Option<i64>) {
        self.partitions.insert(partition, Progress { position, committed });
    }

    /// Partitions are not owned any more; what waits of them is dropped, the next owner reads it again. What of them is
    /// under way goes on: the same rows twice are one row.
    pub fn revoke(&mut self, partitions: &BTreeSet<i32>) {
        self.partitions.retain(|partition, _| !partitions.contains(partition));
        self.filling.drop_partitions(partitions);
        self.stalled.retain(|partition, _| !partitions.contains(partition));
    }

    /// The owned partitions.
    #[must_use]
    pub fn partitions(&self) -> &BTreeMap<i32, Progress> {
        &self.partitions
    }

    /// Offsets to commit, as the next ones to read: of owned partitions, where the floor is above what is committed.
    #[must_use]
    pub fn committable(&self) -> Vec<(i32, i64)> {
        let filling = self.filling.first_offsets();
        let in_flight = self.in_flight.as_ref().map(|batch| &batch.first_offsets);
        let mut offsets = Vec::new();
        for (&partition, progress) in &self.partitions {
            let held = [filling.get(&partition), in_flight.and_then(|first| first.get(&partition))];
            let floor = held.into_iter().flatten().fold(progress.position, |floor, &first| floor.min(first));
            if progress.committed.is_none_or(|committed| floor > committed) {
                offsets.push((partition, floor));
            }
        }
        offsets
    }

    /// An offset has been committed.
    pub fn committed(&mut self, partition: i32, next: i64) {
        if let Some(progress) = self.partitions.get_mut(&partition) {
            progress.committed = Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use records::{DecodeError, LookupError, Reason, Rejection};

    use super::{Lane, Taken};
    use crate::batch::{Limits, Original, Place};
    use crate::tables::{DecodeRow, TABLES};

    /// Rows are `ok`; anything else is refused. While `down`, the registry does not answer.
    struct Fake {
        down: Arc<AtomicBool>,
    }

    impl DecodeRow for Fake {
        fn decode(&mut self, _: Option<&[u8]>, value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<i64, DecodeError> {
            if self.down.load(Ordering::Relaxed) {
                return Err(DecodeError::NoAnswer(LookupError::Unavailable {
                    schema: 1.into(),
                    message: "down".to_owned(),
                }));
            }
            into.extend_from_slice(value.unwrap_or_default());
            if value == Some(b"ok") { Ok(0) } else { Err(Rejection::new(Reason::Undecodable, "not ok").into()) }
        }
    }

    fn lane() -> (Lane, Arc<AtomicBool>) {
        let down = Arc::new(AtomicBool::new(false));
        let limits = Limits { max_rows: 4, max_bytes: 1000, max_wait: Duration::from_secs(1) };
        let mut lane = Lane::new(TABLES[0], "rows".to_owned(), limits, Box::new(Fake { down: down.clone() }));
        for partition in 0..3 {
            lane.assign(partition, 0, Some(0));
        }
        (lane, down)
    }

    fn take(lane: &mut Lane, partition: i32, offset: i64, value: &[u8]) -> Taken {
        let original = Original { value: Some(value.into()), ..Original::default() };
        lane.take(Place { partition, offset }, original, Instant::now())
    }

    #[test]
    fn nothing_is_committed_before_its_batch_is_delivered_and_no_hole_is_stepped_over() {
        let (mut lane, _) = lane();
        assert_eq!(take(&mut lane, 0, 0, b"ok"), Taken::Held(None));
        assert_eq!(take(&mut lane, 0, 1, b"bad"), Taken::Held(Some("undecodable")));
        assert!(lane.committable().is_empty());
        let batch = lane.seal(Instant::now(), true).unwrap();
        assert_eq!((batch.rows().len(), batch.refusals().len()), (1, 1));
        assert_eq!(take(&mut lane, 0, 2, b"ok"), Taken::Held(None));
        assert!(lane.committable().is_empty());
        assert_eq!(lane.undelivered(), 3);
        lane.delivered();
        assert_eq!(lane.undelivered(), 1);
        assert_eq!(lane.committable(), [(0, 2)], "offset 2 is still held");
        lane.committed(0, 2);
        assert!(lane.committable().is_empty());
    }

    #[test]
    fn a_partition_that_leaves_is_not_committed_and_what_waits_of_it_is_dropped() {
        let (mut lane, _) = lane();
        for (partition, offset) in [(0, 0), (1, 0), (1, 1)] {
            let _ = take(&mut lane, partition, offset, b"ok");
        }
        lane.revoke(&BTreeSet::from([1]));
        assert_eq!(take(&mut lane, 1, 2, b"ok"), Taken::NotOwned);
        assert_eq!(lane.seal(Instant::now(), true).unwrap().rows().len(), 1);
        lane.delivered();
        assert_eq!(lane.committable(), [(0, 1)]);
    }

    #[test]
    fn a_partition_that_leaves_and_returns_while_its_rows_are_under_way_never_commits_backwards() {
        let (mut lane, _) = lane();
        for offset in 0..3 {
            let _ = take(&mut lane, 0, offset, b"ok");
        }
        let _under_way = lane.seal(Instant::now(), true).unwrap();
        lane.revoke(&BTreeSet::from([0]));
        lane.assign(0, 7, Some(7));
        let _ = take(&mut lane, 0, 7, b"ok");
        assert!(lane.committable().is_empty());
        lane.delivered();
        assert!(lane.committable().is_empty(), "offset 7 is held");
    }

    #[test]
    fn a_full_lane_pauses_only_while_a_batch_is_under_way() {
        let (mut lane, _) = lane();
        for offset in 0..4 {
            let _ = take(&mut lane, 0, offset, b"ok");
        }
        assert!(!lane.is_full(), "it can be sent");
        let _batch = lane.seal(Instant::now(), false).unwrap();
        for offset in 4..8 {
            assert!(!lane.is_full());
            let _ = take(&mut lane, 0, offset, b"ok");
        }
        assert!(lane.is_full());
        assert!(lane.seal(Instant::now(), true).is_none(), "one batch at a time");
        lane.delivered();
        assert!(!lane.is_full());
    }

    #[test]
    fn a_record_whose_schema_is_not_told_keeps_its_place() {
        let (mut lane, down) = lane();
        let _ = take(&mut lane, 0, 0, b"ok");
        down.store(true, Ordering::Relaxed);
        assert!(matches!(take(&mut lane, 0, 1, b"ok"), Taken::Stalled { .. }));
        assert!(matches!(take(&mut lane, 1, 0, b"bad"), Taken::Stalled { .. }));
        assert_eq!(lane.partitions_to_pause(), BTreeSet::from([0, 1]));
        let _batch = lane.seal(Instant::now(), true).unwrap();
        lane.delivered();
        assert_eq!(lane.committable(), [(0, 1)]);
        assert!(matches!(lane.retry_stalled(Instant::now())[..], [Taken::Stalled { .. }, Taken::Stalled { .. }]));
        down.store(false, Ordering::Relaxed);
        assert_eq!(lane.retry_stalled(Instant::now()), [Taken::Held(None), Taken::Held(Some("undecodable"))]);
        assert!(lane.partitions_to_pause().is_empty() && !lane.is_waiting());
        let batch = lane.seal(Instant::now(), true).unwrap();
        assert_eq!(batch.first_offsets(), BTreeMap::from([(0, 1), (1, 0)]));
    }

    #[test]
    fn a_partition_that_waits_for_a_schema_holds_up_no_other_one_of_its_topic() {
        let (mut lane, down) = lane();
        down.store(true, Ordering::Relaxed);
        assert!(matches!(take(&mut lane, 0, 0, b"ok"), Taken::Stalled { .. }));
        down.store(false, Ordering::Relaxed);
        assert_eq!(take(&mut lane, 0, 1, b"ok"), Taken::Queued, "behind the first of its partition");
        assert_eq!(take(&mut lane, 1, 0, b"ok"), Taken::Held(None));
        assert_eq!(lane.partitions_to_pause(), BTreeSet::from([0]));
        assert!(lane.is_waiting() && lane.is_stalled(0) && !lane.is_stalled(1));
        let _batch = lane.seal(Instant::now(), true).unwrap();
        lane.delivered();
        assert_eq!(lane.committable(), [(1, 1)]);
        assert_eq!(lane.retry_stalled(Instant::now()), [Taken::Held(None), Taken::Held(None)]);
        assert!(!lane.is_waiting());
    }

    #[test]
    fn a_partition_that_leaves_waits_for_no_schema_any_more() {
        let (mut lane, down) = lane();
        down.store(true, Ordering::Relaxed);
        assert!(matches!(take(&mut lane, 0, 0, b"ok"), Taken::Stalled { .. }));
        lane.revoke(&BTreeSet::from([0]));
        assert!(!lane.is_waiting() && lane.partitions_to_pause().is_empty());
    }

    #[test]
    fn a_delivery_that_lasts_names_its_partitions() {
        let (mut lane, _) = lane();
        let (now, long) = (Instant::now(), Duration::from_secs(5));
        let _ = take(&mut lane, 2, 0, b"ok");
        let _batch = lane.seal(now, true).unwrap();
        assert!(lane.delivering(long, now).next().is_none());
        assert!(lane.delivering(long, now + long).eq([2]));
        lane.revoke(&BTreeSet::from([2]));
        assert!(lane.delivering(long, now + long).next().is_none(), "another instance owns it");
        lane.assign(2, 0, Some(0));
        lane.delivered();
        assert!(lane.delivering(long, now + long).next().is_none());
    }

    proptest! {
        /// Whatever the order of takes, seals, deliveries and commits: what is committed has been delivered, all of it.
        #[test]
        fn everything_below_a_committed_offset_was_delivered(steps in prop::collection::vec(0_u8..8, 1..200)) {
            let (mut lane, _) = lane();
            let mut next = [0_i64; 3];
            let mut under_way = None;
            let mut delivered: BTreeSet<Place> = BTreeSet::new();
            for step in steps {
                match step {
                    partition @ 0..=2 => {
                        let value: &[u8] = if next[partition as usize] % 5 == 0 { b"bad" } else { b"ok" };
                        let _ = take(&mut lane, partition.into(), next[partition as usize], value);
                        next[partition as usize] += 1;
                    }
                    3 | 4 => under_way = lane.seal(Instant::now(), step == 3).or(under_way),
                    5 => if let Some(batch) = under_way.take() {
                        delivered.extend(batch.rows().iter().map(|row| row.place));
                        delivered.extend(batch.refusals().iter().map(|refusal| refusal.place));
                        lane.delivered();
                    },
                    _ => for (partition, floor) in lane.committable() {
                        for offset in 0..floor {
                            prop_assert!(delivered.contains(&Place { partition, offset }), "{partition}:{offset}");
                        }
                        lane.committed(partition, floor);
                    },
                }
            }
        }
    }
}
