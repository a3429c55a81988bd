//! The decisions, over an hour in no time.

use super::*;

const WAIT: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

fn lookups(now: Instant) -> Lookups {
    let limits = Limits {
        unknown_schema_wait: WAIT,
        unknown_for: MINUTE,
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(5),
    };
    Lookups::new(limits, now)
}

fn unknown() -> Outcome {
    Outcome::Unknown("404".to_owned())
}

fn found() -> Outcome {
    Outcome::Found(RegisteredSchema::avro("\"string\""))
}

fn asks(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Wait { ask: true, .. })
}

/// A partition that asks about its next record every 100 ms, of a registry that answers at once; `registry` says what.
struct Partition {
    lookups: Lookups,
    now: Instant,
    requests: usize,
}

impl Partition {
    fn new() -> Self {
        let now = Instant::now();
        Self { lookups: lookups(now), now, requests: 0 }
    }

    /// Waits until the record is decided about; the verdict and how long that took.
    fn decide(&mut self, id: i32, mut registry: impl FnMut(Duration) -> Outcome) -> (Verdict, Duration) {
        let begin = self.now;
        loop {
            let verdict = self.lookups.look(SchemaRef::Id(id), self.now);
            if asks(&verdict) {
                self.requests += 1;
                self.lookups.answered(SchemaRef::Id(id), registry(self.now - begin), self.now);
            }
            if !matches!(verdict, Verdict::Wait { .. }) {
                return (verdict, self.now - begin);
            }
            self.now += Duration::from_millis(100);
        }
    }
}

#[test]
fn a_schema_is_asked_for_once_however_many_partitions_ask() {
    let now = Instant::now();
    let mut lookups = lookups(now);
    assert!(asks(&lookups.look(SchemaRef::Id(5), now)));
    for _ in 0..100 {
        assert!(matches!(lookups.look(SchemaRef::Id(5), now), Verdict::Wait { ask: false, .. }));
    }
    lookups.answered(SchemaRef::Id(5), found(), now);
    assert!(matches!(lookups.look(SchemaRef::Id(5), now), Verdict::Known(_)));
}

#[test]
fn few_requests_are_on_their_way_at_a_time() {
    let now = Instant::now();
    let mut lookups = lookups(now);
    let asked = (0..1000).filter(|id| asks(&lookups.look(SchemaRef::Id(*id), now))).count();
    assert_eq!(asked, MAX_IN_FLIGHT);
    lookups.answered(SchemaRef::Id(0), found(), now);
    assert!(asks(&lookups.look(SchemaRef::Id(500), now)));
}

#[test]
fn a_schema_that_becomes_known_within_the_wait_is_waited_for_again_and_again() {
    let mut partition = Partition::new();
    for id in 0..200 {
        let late = |since: Duration| if since >= Duration::from_secs(20) { found() } else { unknown() };
        let (verdict, took) = partition.decide(id, late);
        assert!(matches!(verdict, Verdict::Known(_)), "{id}: {verdict:?}");
        assert!(took < WAIT, "{took:?}");
    }
    assert!(partition.requests < 200 * 14, "the pauses grow: {}", partition.requests);
}

#[test]
fn what_is_waited_for_in_vain_is_refused_for_a_minute_without_a_request_and_then_asked_once() {
    let mut partition = Partition::new();
    let (verdict, took) = partition.decide(5, |_| unknown());
    assert!(matches!(&verdict, Verdict::Unknown(message) if message.contains("after 30 s")), "{verdict:?}");
    assert!(took >= WAIT && took < WAIT + Duration::from_secs(1), "{took:?}");
    let requests = partition.requests;
    for _ in 0..590 {
        partition.now += Duration::from_millis(100);
        assert!(matches!(partition.decide(5, |_| unknown()), (Verdict::Unknown(_), Duration::ZERO)));
    }
    assert_eq!(partition.requests, requests);
    partition.now += Duration::from_secs(2);
    let (verdict, took) = partition.decide(5, |_| unknown());
    assert!(matches!(verdict, Verdict::Unknown(_)));
    assert!(took <= Duration::from_millis(100), "asked again, and not waited for again: {took:?}");
    assert_eq!(partition.requests, requests + 1);
    partition.now += MINUTE + Duration::from_secs(1);
    assert!(matches!(partition.decide(5, |_| found()).0, Verdict::Known(_)));
}

#[test]
fn no_answer_says_nothing_about_a_schema_however_long_it_lasts() {
    let mut partition = Partition::new();
    let down = |since: Duration| match since < Duration::from_secs(600) {
        true => Outcome::Unavailable("down".to_owned()),
        false => found(),
    };
    let (verdict, took) = partition.decide(5, down);
    assert!(matches!(verdict, Verdict::Known(_)) && took >= Duration::from_secs(600));
    assert!(partition.requests < 150, "{}", partition.requests);
}

#[test]
fn a_million_unknown_ids_cost_few_requests_little_time_and_bounded_memory_and_known_ones_nothing() {
    let mut partition = Partition::new();
    partition.decide(1, |_| found());
    let begin = partition.now;
    for id in 1_000_000..2_000_000 {
        assert!(matches!(partition.decide(id, |_| unknown()).0, Verdict::Unknown(_)));
        assert!(matches!(partition.decide(1, |_| unknown()), (Verdict::Known(_), Duration::ZERO)));
        assert!(partition.lookups.entries.len() <= MAX_ENTRIES);
    }
    let took = partition.now - begin;
    assert!(took < WAIT * 2 + Duration::from_secs(10), "{took:?}");
    assert!(partition.requests < 300, "{}", partition.requests);
    // A schema that is met now for the first time is found, if its id is one that the registry may have given away.
    partition.lookups.note_known_id(5_000);
    assert!(matches!(partition.decide(4_321, |_| found()), (Verdict::Known(_), took) if took < Duration::from_secs(1)));
    assert!(matches!(partition.decide(5_100, |_| found()).0, Verdict::Known(_)));
    // Any other is found again soon after the flood.
    partition.now += Duration::from_secs(10);
    assert!(matches!(partition.decide(2_000_000, |_| found()).0, Verdict::Known(_)));
}

#[test]
fn the_same_flood_over_an_hour_leaves_most_of_the_time_to_other_records() {
    let mut partition = Partition::new();
    let begin = partition.now;
    let (mut id, mut stood) = (1_000_000, Duration::ZERO);
    while partition.now < begin + Duration::from_secs(3600) {
        id += 1;
        stood += partition.decide(id, |_| unknown()).1;
        partition.now += Duration::from_millis(10);
    }
    assert!(stood < Duration::from_secs(3600 / 5), "{stood:?}");
    assert!(partition.requests < 3600, "{}", partition.requests);
    assert!(partition.lookups.entries.len() <= MAX_ENTRIES);
}

#[test]
fn without_a_wait_an_unknown_schema_is_refused_at_the_first_answer() {
    let now = Instant::now();
    let mut lookups = lookups(now);
    lookups.waits = WaitBudget::new(Duration::ZERO, now);
    assert!(asks(&lookups.look(SchemaRef::Id(5), now)));
    lookups.answered(SchemaRef::Id(5), unknown(), now);
    assert!(matches!(lookups.look(SchemaRef::Id(5), now), Verdict::Unknown(_)));
}

#[test]
fn a_schema_that_nobody_can_read_says_so_until_it_is_asked_for_again() {
    let mut partition = Partition::new();
    let (verdict, _) = partition.decide(5, |_| Outcome::Unusable("it refers to itself".to_owned()));
    assert_eq!(verdict, Verdict::Unusable("it refers to itself".to_owned()));
    partition.now += MINUTE;
    assert!(matches!(partition.decide(5, |_| found()).0, Verdict::Known(_)));
}

#[test]
fn the_schemas_that_are_kept_have_a_bound_in_bytes() {
    let mut known = Known::default();
    let text = "x".repeat(1024 * 1024);
    for id in 0..200 {
        known.insert(SchemaRef::Id(id), RegisteredSchema::avro(text.as_str()));
        assert!(known.bytes <= MAX_KNOWN_BYTES);
        assert!(known.get(SchemaRef::Id(id)).is_some());
    }
    assert_eq!(known.schemas.len(), known.order.len());
    assert!(known.get(SchemaRef::Id(0)).is_none());
}
