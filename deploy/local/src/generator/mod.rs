//! A seeded generator of believable shoppers: the same seed gives the same events, whatever the machine does.
//!
//! Sessions begin as a Poisson process and browse with log-normal think times around a tempo of their own. In
//! [episodes](Episode) some of them do something else. Events come in order of arrival, which is up to four seconds behind
//! event time.

mod catalogue;
mod episode;
mod event;
mod items;
mod random;
mod shopper;
mod users;
mod vector;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use catalogue::Catalogue;
pub use episode::{Audience, DEMO_LENGTH, Episode, Happening};
pub use event::{Event, Kind};
pub use items::ItemVectors;
use random::{chance, exponential};
use shopper::{Pace, Shopper};
pub use users::UserVectors;
pub use vector::{DIMENSIONS, Vector};

/// Departments of the shop, in which shoppers browse.
pub const DEPARTMENTS: u32 = shopper::DOMAINS.len() as u32;

/// The mean number of events of a generated session, as measured by a test below.
const EVENTS_PER_SESSION: f64 = 8.7;

/// Event time of a [load](Shape::load) (s).
const LOAD_SECONDS: f64 = 7_200.0;

/// No event arrives more than this behind its event time, flaws aside (ms).
const MAX_JITTER: i64 = 4_000;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// The same seed gives the same events.
    pub seed: u64,
    /// Event time of the beginning (epoch ms).
    pub start: i64,
    /// New sessions a second of event time, on average over a day; above 0.
    pub sessions_per_second: f64,
    /// Items of each department, met by rank: the first hundredth makes a fifth of all events, the last third a tenth.
    pub items: u32,
    /// What happens, and when.
    pub episodes: Vec<Episode>,
    /// The share of events (0 to 1) that arrive half a minute or more behind, as phones do that were offline.
    pub late_share: f64,
    /// The share of events (0 to 1) that have lost their session id, as clients do that refuse cookies.
    pub keyless_share: f64,
}

impl Shape {
    /// [`DEMO_LENGTH`] that is pleasant to look at: three new sessions in two seconds, six episodes that rules find, and a
    /// few late and broken events, as life has them.
    #[must_use]
    pub fn demo(seed: u64, start: i64) -> Self {
        Self {
            seed,
            start,
            sessions_per_second: 1.6,
            items: 2_000,
            episodes: episode::demo(),
            late_share: 0.000_5,
            keyless_share: 0.000_1,
        }
    }

    /// A load of about `records` events in two hours of event time, without flaws. From minute 60 to 80 the sessions of
    /// returning shoppers scatter.
    #[must_use]
    pub fn load(seed: u64, start: i64, records: u64) -> Self {
        let rate = records as f64 / EVENTS_PER_SESSION / LOAD_SECONDS;
        Self {
            sessions_per_second: rate.max(0.05),
            items: 5_000,
            episodes: episode::load(),
            late_share: 0.0,
            keyless_share: 0.0,
            ..Self::demo(seed, start)
        }
    }
}

/// The events in order of arrival, without end: take as many, or as much event time, as is wanted.
#[derive(Debug)]
pub struct Generator {
    shape: Shape,
    random: ChaCha8Rng,
    /// When the next session begins (ms after the start, fraction included).
    next_session: f64,
    /// Sessions by the time of their next event; the number breaks ties.
    browsing: BinaryHeap<Reverse<(i64, u64)>>,
    shoppers: BTreeMap<u64, Shopper>,
    sessions: u64,
    /// Events that have happened and not arrived, by arrival time and number.
    travelling: BTreeMap<(i64, u64), Event>,
    events: u64,
}

impl Generator {
    /// A generator at the beginning of its events.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let random = ChaCha8Rng::seed_from_u64(shape.seed);
        Self {
            shape,
            random,
            next_session: 0.0,
            browsing: BinaryHeap::new(),
            shoppers: BTreeMap::new(),
            sessions: 0,
            travelling: BTreeMap::new(),
            events: 0,
        }
    }

    /// At what pace shoppers of `segment` in `domain` browse at `time` (ms after the start).
    fn pace(&self, domain: &str, segment: &str, time: i64) -> Pace {
        let on = self.shape.episodes.iter().filter(|episode| episode.is_on(time));
        let mut paces = on.filter_map(|episode| match episode.what {
            Happening::Scatter(audience) if audience.contains(domain, segment) => Some(Pace::Scattered),
            _ => None,
        });
        paces.next().unwrap_or(Pace::Steady)
    }

    /// Whether items of all departments are met in `domain` at `time` (ms after the start).
    fn is_mixed(&self, domain: &str, time: i64) -> bool {
        let mut on = self.shape.episodes.iter().filter(|episode| episode.is_on(time));
        on.any(|episode| matches!(episode.what, Happening::Mix(of) if of == domain))
    }

    fn begin_session(&mut self, time: i64, shopper: Shopper) {
        self.shoppers.insert(self.sessions, shopper);
        self.browsing.push(Reverse((time, self.sessions)));
        self.sessions += 1;
    }

    /// The sessions that begin besides another one.
    fn rush(&mut self, time: i64) {
        let on = self.shape.episodes.iter().filter(|episode| episode.is_on(time));
        let rushes: Vec<(Audience, f64)> = on
            .filter_map(|episode| match episode.what {
                Happening::Rush(audience, share) => Some((audience, share)),
                _ => None,
            })
            .collect();
        for (audience, share) in rushes {
            if chance(&mut self.random, share) {
                let shopper = Shopper::of(audience, &mut self.random);
                self.begin_session(time, shopper);
            }
        }
    }

    /// Lets the next thing happen: a session begins, or a shopper does something. Returns its time.
    fn step(&mut self) -> i64 {
        let begin = self.next_session as i64;
        match self.browsing.peek() {
            Some(&Reverse((time, number))) if time < begin => {
                self.browsing.pop();
                self.act(time, number);
                time
            }
            _ => {
                let shopper = Shopper::new(&mut self.random);
                self.begin_session(begin, shopper);
                self.rush(begin);
                self.next_session += 1_000.0 * exponential(&mut self.random) / self.shape.sessions_per_second;
                begin
            }
        }
    }

    fn act(&mut self, time: i64, number: u64) {
        let Some(shopper) = self.shoppers.get_mut(&number) else { return };
        let mut event = shopper.act(&mut self.random, self.shape.start + time, self.shape.items);
        let (domain, segment, has_left) = (shopper.domain, shopper.segment, shopper.has_left());
        if self.is_mixed(domain, time) {
            let (of, _) = shopper::DOMAINS[self.random.random_range(0..shopper::DOMAINS.len())];
            event.item_id = event.item_id.replacen(domain, of, 1);
        }
        let mut arrival = time + self.random.random_range(0..MAX_JITTER);
        if chance(&mut self.random, self.shape.late_share) {
            arrival += self.random.random_range(30_000..120_000);
        }
        if chance(&mut self.random, self.shape.keyless_share) {
            event.session_id.clear();
        }
        self.travelling.insert((arrival, self.events), event);
        self.events += 1;
        if has_left {
            self.shoppers.remove(&number);
            return;
        }
        let pace = self.pace(domain, segment, time);
        if let Some(shopper) = self.shoppers.get(&number) {
            let pause = shopper.think_time(&mut self.random, pace);
            self.browsing.push(Reverse((time + pause, number)));
        }
    }
}

impl Iterator for Generator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let happened = match self.browsing.peek() {
                Some(&Reverse((time, _))) => time.min(self.next_session as i64),
                None => self.next_session as i64,
            };
            // Whatever happens from here on arrives later than what is due now.
            if self.travelling.first_key_value().is_some_and(|((arrival, _), _)| *arrival < happened) {
                return self.travelling.pop_first().map(|(_, event)| event);
            }
            self.step();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn demo(seed: u64) -> Vec<Event> {
        let start = 1_767_600_000_000;
        Generator::new(Shape::demo(seed, start)).take_while(|event| event.event_time < start + DEMO_LENGTH).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_seed_others() {
        let lines = |seed| demo(seed).iter().map(|e| serde_json::to_string(e).unwrap()).collect::<Vec<_>>();
        assert_eq!(lines(1), lines(1));
        assert_ne!(lines(1), lines(2));
    }

    #[test]
    fn arrival_is_less_than_four_seconds_behind_apart_from_the_late_ones() {
        let mut shape = Shape::demo(3, 0);
        shape.late_share = 0.0;
        let mut newest = 0;
        for event in Generator::new(shape).take(50_000) {
            assert!(event.event_time > newest - MAX_JITTER, "{} after {newest}", event.event_time);
            newest = newest.max(event.event_time);
        }
        let mut newest = 0;
        let mut late = 0;
        for event in Generator::new(Shape::demo(3, 0)).take(50_000) {
            late += usize::from(event.event_time <= newest - 5_000);
            newest = newest.max(event.event_time);
        }
        assert!((5..100).contains(&late), "{late} of 50000 late");
    }

    #[test]
    fn event_ids_are_unique_and_events_of_a_session_agree_about_their_shopper() {
        let events = demo(4);
        let ids: HashSet<&str> = events.iter().map(|e| e.event_id.as_str()).collect();
        assert_eq!(ids.len(), events.len());
        let mut users: HashMap<&str, &str> = HashMap::new();
        for event in events.iter().filter(|e| !e.session_id.is_empty()) {
            assert_eq!(*users.entry(&event.session_id).or_insert(&event.user_id), event.user_id);
        }
    }

    /// What log2 bins of one second make of a run of gaps (METRICS.md §2), in bits.
    fn entropy(times: &mut [i64]) -> f64 {
        times.sort_unstable();
        let mut bins = [0_u32; 10];
        for pair in times.windows(2) {
            let seconds = (pair[1] - pair[0]) / 1_000;
            bins[if seconds == 0 { 0 } else { (seconds.ilog2() as usize + 1).min(9) }] += 1;
        }
        let total = f64::from(bins.iter().sum::<u32>());
        bins.iter().filter(|&&c| c > 0).map(|&c| f64::from(c) / total).map(|p| -p * p.log2()).sum()
    }

    fn mean_freshness(events: &[Event], domain: &str, segment: &str, minutes: std::ops::Range<i64>) -> f64 {
        let start = events[0].event_time;
        let mut sessions: HashMap<&str, Vec<i64>> = HashMap::new();
        let of = |e: &&Event| e.domain == domain && e.user_segment == segment && !e.session_id.is_empty();
        for event in events.iter().filter(of) {
            if minutes.contains(&((event.event_time - start) / 60_000)) {
                sessions.entry(&event.session_id).or_default().push(event.event_time);
            }
        }
        let mut fresh: Vec<f64> = Vec::new();
        for times in sessions.values_mut().filter(|times| times.len() >= 2) {
            fresh.push(1.0 - entropy(times) / 10_f64.log2());
        }
        fresh.iter().sum::<f64>() / fresh.len() as f64
    }

    #[test]
    fn freshness_falls_where_sessions_scatter_only() {
        let events = demo(7);
        for domain in ["fashion", "electronics"] {
            for segment in ["returning", "new"] {
                let of = |minutes| mean_freshness(&events, domain, segment, minutes);
                let falls = [of(64..80), of(85..105)].map(|later| of(40..60) - later);
                let expected = [(domain, segment) == ("fashion", "returning"), false];
                assert_eq!(falls.map(|fall| fall > 0.15), expected, "{domain} {segment}: {falls:?}");
                assert!(expected[0] || falls[0].abs() < 0.05, "{domain} {segment}: {falls:?}");
            }
        }
    }

    #[test]
    fn where_items_are_mixed_a_quarter_of_them_is_of_each_department() {
        let events = demo(8);
        for (domain, minutes, expected) in
            [("fashion", 120..132, 0.25), ("fashion", 100..115, 0.0), ("books", 120..132, 0.0)]
        {
            let at = |event: &&Event| minutes.contains(&((event.event_time - events[0].event_time) / 60_000));
            let met: Vec<&Event> = events.iter().filter(|event| event.domain == domain).filter(at).collect();
            let mixed = met.iter().filter(|event| event.item_id.starts_with("grocery-")).count() as f64;
            let share = mixed / met.len() as f64;
            assert!((share - expected).abs() < 0.05, "{domain} at {minutes:?}: {share}");
        }
    }

    #[test]
    fn in_a_rush_some_shoppers_are_many_more_and_others_as_many_as_before() {
        let events = demo(9);
        let count = |domain: &str, segment: &str, minutes: std::ops::Range<i64>| {
            let inside = |event: &&Event| minutes.contains(&((event.event_time - events[0].event_time) / 60_000));
            let of = |event: &&Event| event.domain == domain && event.user_segment == segment;
            let sessions: HashSet<&str> =
                events.iter().filter(inside).filter(of).map(|e| e.session_id.as_str()).collect();
            sessions.len() as f64
        };
        for (domain, segment, rush) in [("grocery", "new", true), ("grocery", "loyal", false), ("books", "new", false)]
        {
            let more = count(domain, segment, 90..102) / count(domain, segment, 70..82);
            assert_eq!(more > 3.0, rush, "{domain} {segment}: {more} times as many");
            assert!(rush || (0.7..1.4).contains(&more), "{domain} {segment}: {more} times as many");
        }
    }

    #[test]
    fn sessions_have_the_mean_length_that_the_load_is_planned_with() {
        let events = demo(8);
        let sessions: HashSet<&str> = events.iter().map(|e| e.session_id.as_str()).collect();
        let mean = events.len() as f64 / sessions.len() as f64;
        assert!((mean / EVENTS_PER_SESSION - 1.0).abs() < 0.1, "{mean} events a session");
    }
}
