//! What is kept of one group under one rule.

use measures::{Cusum, CusumBaseline, CusumThreshold, Quantile, SortedWindow};

use crate::attribution::Attribution;
use crate::config::Direction;
use crate::rule::{Bound, Condition};

/// Quantiles are refreshed at multiples of this, ms.
const REFRESH: i64 = 30_000;

/// Rows that a series needs before anything can be said about what is usual for it.
pub(crate) const LEAST_ROWS: usize = 6;

/// A shift is over when values are this close to the mean again, in sigmas.
const BACK: f64 = 0.5;

/// A group under a rule.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Series {
    /// Breaches in a row.
    pub(crate) breaches: u32,
    /// Clear evaluations in a row.
    pub(crate) clears: u32,
    /// Evaluations in a row without data.
    pub(crate) misses: u32,
    /// End of the last window with data.
    pub(crate) last: i64,
    pub(crate) past: Past,
    pub(crate) firing: Option<Firing>,
}

/// An alert between its first and its last record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Firing {
    pub(crate) started_at: i64,
    /// Of the record sent last.
    pub(crate) sequence: i64,
    /// End of the window with which it was sent.
    pub(crate) sent_at: i64,
    /// As it was sent last.
    pub(crate) attribution: Vec<Attribution>,
}

impl Firing {
    /// Whether what was told last to carry it no longer is among what does.
    pub(crate) fn is_carried_by_others(&self, now: &[Attribution]) -> bool {
        let last = self.attribution.first();
        !now.is_empty() && last.is_some_and(|last| now.iter().all(|other| !other.names_the_same(last)))
    }
}

/// The values that later ones are compared with.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Past {
    /// Nothing is.
    #[default]
    None,
    /// Their quantiles.
    Window(Window),
    /// Their mean, and the sum of what was beyond.
    Cusum(Box<Cusum>),
}

impl Past {
    /// Bytes on the heap, estimated.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Window(window) => window.values.len() * size_of::<(i64, f64, f64)>(),
            Self::Cusum(cusum) => {
                size_of::<Cusum>() + cusum.values.len() * size_of::<(i64, f64)>() + size_of_val(cusum.history.largest())
            }
        }
    }
}

/// Values and their quantiles when they were last refreshed.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Window {
    pub(crate) values: SortedWindow,
    pub(crate) refreshed: Option<i64>,
    /// 0.05, 0.5 and 0.95; `None` with too few values.
    pub(crate) quantiles: Option<[f64; 3]>,
}

/// What is said of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) breaches: bool,
    /// The value beyond which it does, where there is one.
    pub(crate) threshold: Option<f64>,
    /// What is usual.
    pub(crate) baseline: Option<f64>,
    pub(crate) direction: Direction,
}

impl Judgement {
    /// How far a value is beyond what it is compared with.
    pub(crate) fn excess(&self, value: f64) -> f64 {
        let reference = self.baseline.or(self.threshold).unwrap_or(value);
        (self.direction.sign() * (value - reference)).max(0.0)
    }
}

impl Condition {
    /// What a new series begins with; `None` where its series need no past.
    pub(crate) fn empty_past(&self) -> Option<Past> {
        match self {
            Self::Threshold { bound: Bound::Fixed(_), .. } => None,
            Self::Threshold { .. } | Self::Deviation { .. } => Some(Past::Window(Window::default())),
            Self::Change { .. } => Some(Past::Cusum(Box::default())),
            Self::Absence { .. } => Some(Past::None),
        }
    }

    /// After so much event time without data nothing of a series counts any more, ms.
    pub(crate) fn memory(&self) -> i64 {
        match self {
            Self::Threshold { bound: Bound::Fixed(_), .. } => 0,
            Self::Threshold { bound: Bound::Median { history, .. }, .. }
            | Self::Deviation { history, .. }
            | Self::Absence { history, .. } => *history,
            Self::Change { .. } => CusumBaseline::default().guard + CusumBaseline::default().window,
        }
    }

    /// Judges a value by the past, and adds it to that. `None` where not enough is known.
    pub(crate) fn judge(&self, past: &mut Past, end: i64, value: f64, firing: bool) -> Option<Judgement> {
        match (self, past) {
            (Self::Threshold { comparison, bound: Bound::Fixed(bound) }, _) => Some(Judgement {
                breaches: comparison.holds(value, *bound),
                threshold: Some(*bound),
                baseline: None,
                direction: comparison.direction(),
            }),
            (Self::Threshold { comparison, bound: Bound::Median { factor, history } }, Past::Window(window)) => {
                window.refresh(end.saturating_sub(1), *history);
                let [_, median, _] = window.add(end, value)?;
                let threshold = factor * median;
                Some(Judgement {
                    breaches: comparison.holds(value, threshold),
                    threshold: Some(threshold),
                    baseline: Some(median),
                    direction: comparison.direction(),
                })
            }
            (Self::Deviation { direction, margin, history }, Past::Window(window)) => {
                window.refresh((end.saturating_sub(1)).div_euclid(REFRESH) * REFRESH, *history);
                let [low, median, high] = window.add(end, value)?;
                let (threshold, breaches) = match direction {
                    Direction::Up => (high + margin * (high - median), value > high + margin * (high - median)),
                    Direction::Down => (low - margin * (median - low), value < low - margin * (median - low)),
                };
                Some(Judgement { breaches, threshold: Some(threshold), baseline: Some(median), direction: *direction })
            }
            (Self::Change { direction, sigmas, learned }, Past::Cusum(cusum)) => {
                let threshold =
                    if *learned { CusumThreshold::learned(*sigmas) } else { CusumThreshold::Sigmas(*sigmas) };
                let sign = direction.sign();
                let step = cusum.observe(end, sign * value, &CusumBaseline::default(), threshold)?;
                // once it fires the sum begins anew: what keeps the alert is that values have not come back
                let stays = firing && sign * value > step.mean + BACK * step.sigma;
                Some(Judgement {
                    breaches: step.fired || stays,
                    threshold: None,
                    baseline: Some(sign * step.mean),
                    direction: *direction,
                })
            }
            _ => None,
        }
    }

    /// Adds a value of a window that is not evaluated to the past.
    pub(crate) fn note(&self, past: &mut Past, end: i64, value: f64) {
        if let (Self::Deviation { .. }, Past::Window(_)) = (self, &past) {
            let _ = self.judge(past, end, value, false);
        }
    }
}

impl Window {
    /// Takes the quantiles of the values up to `time`, unless that is done.
    fn refresh(&mut self, time: i64, history: i64) {
        if self.refreshed.is_some_and(|refreshed| refreshed >= time) {
            return;
        }
        self.refreshed = Some(time);
        self.values.evict(time.saturating_sub(history));
        let of = |quantile| self.values.quantile(quantile);
        self.quantiles = match [Quantile::P05, Quantile::P50, Quantile::P95].map(of) {
            [Some(low), Some(median), Some(high)] if self.values.len() >= LEAST_ROWS => Some([low, median, high]),
            _ => None,
        };
    }

    /// Adds a value; answers the quantiles of those before it.
    fn add(&mut self, end: i64, value: f64) -> Option<[f64; 3]> {
        self.values.push(end, value);
        self.quantiles
    }
}
