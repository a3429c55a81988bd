//! One session of one shopper.

use rand::{Rng, RngExt};

use super::episode::Audience;
use super::event::{Event, Kind};
use super::random::{chance, exponential, log_normal, weighted};

const USERS: u64 = 400_000;
pub(super) const DOMAINS: [(&str, f64); 4] =
    [("fashion", 0.35), ("electronics", 0.30), ("books", 0.20), ("grocery", 0.15)];
const SEGMENTS: [(&str, u64); 3] = [("new", 30), ("returning", 45), ("loyal", 25)];
const ITEM_TYPES: [(&str, f64); 3] = [("product", 0.86), ("bundle", 0.10), ("guide", 0.04)];

/// The deviation of the logarithm of think times, usually: two neighbouring bins of METRICS.md §2 hold nearly all gaps.
const STEADY: f64 = 0.25;
/// The same of sessions that scatter: gaps from a fraction of a second to minutes.
const SCATTERED: f64 = 1.7;

/// How a shopper browses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Steady,
    Scattered,
}

#[derive(Debug, Clone)]
pub(super) struct Shopper {
    session: u64,
    user: u64,
    pub(super) segment: &'static str,
    ab_group: &'static str,
    rec_strategy: &'static str,
    pub(super) domain: &'static str,
    surface: &'static str,
    /// Median think time (s).
    tempo: f64,
    /// Events still to come.
    left: u32,
    /// Recommendation requests so far.
    requests: u32,
    shown: Option<(u32, i32)>,
}

impl Shopper {
    pub(super) fn new(random: &mut impl Rng) -> Self {
        let user = random.random_range(0..USERS);
        // The traits of a user are the same in each of its sessions.
        let trait_of = |salt: u64| (user ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        let ab_group = if trait_of(1).is_multiple_of(2) { "control" } else { "treatment" };
        let rec_strategy = match ab_group {
            _ if chance(random, 0.08) => "popular",
            "control" => "collaborative",
            _ => "sequential",
        };
        let left = if chance(random, 0.12) { 1 } else { 2 + (10.0 * exponential(random)) as u32 };
        Self {
            session: random.random_range(0..1 << 48),
            user,
            segment: segment(trait_of(2) % 100),
            ab_group,
            rec_strategy,
            domain: weighted(random, &DOMAINS),
            surface: if chance(random, 0.6) { "home" } else { "search" },
            tempo: log_normal(random, 11.0, 0.35),
            left,
            requests: 0,
            shown: None,
        }
    }

    /// One of these.
    pub(super) fn of(audience: Audience, random: &mut impl Rng) -> Self {
        let mut shopper = Self::new(random);
        while shopper.segment != audience.segment {
            shopper = Self::new(random);
        }
        Self { domain: audience.domain.unwrap_or(shopper.domain), ..shopper }
    }

    pub(super) fn has_left(&self) -> bool {
        self.left == 0
    }

    /// The pause before the next event (ms).
    pub(super) fn think_time(&self, random: &mut impl Rng, pace: Pace) -> i64 {
        let (median, sigma) = match pace {
            Pace::Steady => (self.tempo, STEADY),
            Pace::Scattered => (7.0, SCATTERED),
        };
        (1_000.0 * log_normal(random, median, sigma)).clamp(120.0, 900_000.0) as i64
    }

    /// What the shopper does at `time` (epoch ms), with one of a department's `items`.
    pub(super) fn act(&mut self, random: &mut impl Rng, time: i64, items: u32) -> Event {
        self.left -= 1;
        if chance(random, 0.05) {
            self.domain = weighted(random, &DOMAINS);
        }
        let kind = self.next_kind(random);
        let (request, position) = match kind {
            Kind::Impression => {
                self.requests += 1;
                let position = 1 + (4.0 * exponential(random)) as i32;
                self.shown = Some((self.requests, position));
                (Some(self.requests), Some(position))
            }
            Kind::Click => match self.shown {
                Some((request, position)) => (Some(request), Some(position)),
                None => (None, None),
            },
            Kind::Cart | Kind::Purchase => (self.shown.map(|(request, _)| request), None),
        };
        self.surface = match kind {
            Kind::Impression => self.surface,
            Kind::Click => "detail",
            Kind::Cart | Kind::Purchase => "cart",
        };
        let rank = (f64::from(items) * random.random::<f64>().powi(3)) as u32;
        Event {
            event_id: format!("{:032x}", random.random::<u128>()),
            request_id: request.map(|number| format!("r-{:012x}-{number}", self.session)),
            session_id: format!("s-{:012x}", self.session),
            user_id: format!("u-{}", self.user),
            item_id: format!("{}-{rank}", self.domain),
            kind,
            domain: self.domain,
            surface: (!chance(random, 0.02)).then_some(self.surface),
            user_segment: self.segment,
            rec_strategy: self.rec_strategy,
            ab_group: self.ab_group,
            item_type: (!chance(random, 0.03)).then(|| weighted(random, &ITEM_TYPES)),
            position,
            event_time: time,
        }
    }

    fn next_kind(&mut self, random: &mut impl Rng) -> Kind {
        let shown = self.shown.is_some();
        let kind = match weighted(random, &[(0, 0.38), (1, 0.50), (2, 0.09), (3, 0.03)]) {
            0 => Kind::Impression,
            1 => Kind::Click,
            2 if shown => Kind::Cart,
            3 if shown => Kind::Purchase,
            _ => Kind::Click,
        };
        if kind == Kind::Purchase {
            // Who has bought looks around a little more and goes.
            self.left = self.left.min(2);
        }
        kind
    }
}

/// The segment of a user, by a number from 0 to 99.
fn segment(number: u64) -> &'static str {
    let mut below = 0;
    for (name, share) in SEGMENTS {
        below += share;
        if number < below {
            return name;
        }
    }
    SEGMENTS[0].0
}
