//! What happens in a shop for a while, for rules to find.

/// Event time of the [demo](super::Shape::demo) (ms).
pub const DEMO_LENGTH: i64 = 160 * MINUTE;

const MINUTE: i64 = 60_000;

/// Something that happens, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// What happens.
    pub what: Happening,
    /// Its beginning, in ms after the first session.
    pub from: i64,
    /// Its end, in ms after the first session.
    pub to: i64,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// Sessions scatter: their think times spread over many orders of magnitude, so that their freshness falls.
    Scatter(Audience),
    /// Items of all departments are met in one, as many of each, so that those of a session are less alike.
    Mix(&'static str),
    /// Shoppers come in a rush: with this share (0 to 1) of all sessions that begin, one of theirs begins besides.
    Rush(Audience, f64),
    /// The taste of a department's users drifts away, and comes back.
    Drift(&'static str),
    /// The model changes items' vectors much more than it does otherwise: those of a department, or of all.
    Jump(Option<&'static str>),
    /// The model publishes no vectors of a department's items.
    Silence(&'static str),
}

/// Some of the shoppers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audience {
    /// The department that they are in; any if `None`.
    pub domain: Option<&'static str>,
    /// Their segment.
    pub segment: &'static str,
}

impl Audience {
    /// Whether shoppers of a segment in a department are among them.
    pub(super) fn contains(self, domain: &str, segment: &str) -> bool {
        self.segment == segment && self.domain.is_none_or(|own| own == domain)
    }
}

impl Episode {
    fn new(what: Happening, minutes: std::ops::Range<i64>) -> Self {
        Self { what, from: minutes.start * MINUTE, to: minutes.end * MINUTE }
    }

    /// Whether it is under way at `time` (ms after the first session).
    pub(super) fn is_on(&self, time: i64) -> bool {
        (self.from..self.to).contains(&time)
    }
}

/// Six that one rule each finds, the last one over half an hour before the end.
pub(super) fn demo() -> Vec<Episode> {
    let of = |domain, segment| Audience { domain: Some(domain), segment };
    vec![
        Episode::new(Happening::Scatter(of("fashion", "returning")), 60..80),
        Episode::new(Happening::Drift("books"), 60..80),
        Episode::new(Happening::Jump(Some("electronics")), 60..80),
        Episode::new(Happening::Rush(of("grocery", "new"), 0.5), 90..102),
        Episode::new(Happening::Silence("grocery"), 90..110),
        Episode::new(Happening::Mix("fashion"), 120..132),
    ]
}

/// Three at the same time, each of them wide.
pub(super) fn load() -> Vec<Episode> {
    let returning = Audience { domain: None, segment: "returning" };
    let all = [Happening::Scatter(returning), Happening::Drift("books"), Happening::Jump(None)];
    all.map(|what| Episode::new(what, 60..80)).into()
}
