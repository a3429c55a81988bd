//! What is done to a run, and when: decided from the seed alone, before anything starts.

use std::fmt;
use std::time::Duration;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::action::{Action, Alteration, FAILPOINTS, Outage, ProxyFault};
use super::hostile;
use crate::Component;
use crate::replay::{METRIC_WORKERS, ROUTER, WRITER};

/// Nothing begins earlier: partitions need a watermark before a record can be late.
const FIRST: Duration = Duration::from_secs(4);
/// Everything is healed so long before publishing ends.
const LAST: Duration = Duration::from_secs(4);
/// Mean distance of two steps.
const DISTANCE: Duration = Duration::from_millis(2_200);
/// How long a component is left alone once it is healed: the fault's consequences are to be seen, not a longer fault.
const BREATH: Duration = Duration::from_secs(9);
/// A restart of the broker takes about this long, beside the time that it is away.
const BROKER_START: Duration = Duration::from_secs(14);
/// Longer than the session timeout, which is six seconds in both protocols.
const FREEZES: std::ops::Range<u64> = 7_000..12_000;

/// Processes of each worker that run from the beginning.
pub(crate) const INSTANCES: u32 = 2;

/// One thing that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When, counted from the first record.
    pub at: Duration,
    /// What.
    pub action: Action,
}

impl Step {
    /// When it is healed.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.at + self.action.lasts()
    }
}

/// All that is done in one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// What it was made from.
    pub seed: u64,
    /// For how long records are published.
    pub length: Duration,
    /// In order of time.
    pub steps: Vec<Step>,
}

/// What a step is, before it is known whom it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Freeze,
    Leave,
    Join,
    Outage(Component),
    Proxy(Component),
    Alter,
    Hostile,
    Crash,
}

/// How often each kind comes before one of them comes more often.
const BAG: [(Kind, usize); 13] = [
    (Kind::Kill, 4),
    (Kind::Freeze, 2),
    (Kind::Leave, 2),
    (Kind::Join, 2),
    (Kind::Outage(Component::Kafka), 1),
    (Kind::Outage(Component::Registry), 1),
    (Kind::Outage(Component::ClickHouse), 1),
    (Kind::Proxy(Component::Kafka), 2),
    (Kind::Proxy(Component::Registry), 2),
    (Kind::Proxy(Component::ClickHouse), 2),
    (Kind::Alter, 1),
    (Kind::Hostile, 5),
    (Kind::Crash, 3),
];

/// The names of all workers.
pub(crate) fn workers() -> impl Iterator<Item = &'static str> {
    METRIC_WORKERS.into_iter().map(|worker| worker.name).chain([WRITER, ROUTER])
}

/// The name of one instance of a worker, as a replay names it.
pub(crate) fn instance(worker: &str, number: u32) -> String {
    if number == 1 && [WRITER, ROUTER].contains(&worker) { worker.to_owned() } else { format!("{worker}-{number}") }
}

struct Maker {
    random: ChaCha8Rng,
    length: Duration,
    partitions: i32,
    /// What is disturbed, and from when on it may be again.
    busy: Vec<(String, Duration)>,
    joined: u32,
}

impl Schedule {
    /// The schedule of a seed, of length `length`, with so many partitions of each source: the same one each time.
    #[must_use]
    pub fn new(seed: u64, length: Duration, partitions: i32) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let mut maker = Maker { random, length, partitions, busy: Vec::new(), joined: 0 };
        let mut steps = Vec::new();
        let mut bag = Vec::new();
        let mut at = FIRST;
        while at + LAST < length {
            if bag.is_empty() {
                bag = BAG.iter().flat_map(|&(kind, count)| std::iter::repeat_n(kind, count)).collect();
                bag.shuffle(&mut maker.random);
            }
            // the first one for which there is room now
            let found = (0..bag.len()).rev().find_map(|index| Some((index, maker.step(bag[index], at)?)));
            if let Some((index, step)) = found {
                bag.remove(index);
                steps.push(step);
            }
            at += maker.between(DISTANCE / 4, DISTANCE * 7 / 4);
        }
        Self { seed, length, steps }
    }
}

impl Maker {
    fn between(&mut self, from: Duration, to: Duration) -> Duration {
        self.millis(from.as_millis() as u64..to.as_millis() as u64)
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    fn is_free(&self, what: &str, at: Duration) -> bool {
        self.busy.iter().all(|(busy, until)| busy != what || *until <= at)
    }

    /// A worker's instance that nothing is done to at present.
    fn victim(&mut self, at: Duration) -> Option<String> {
        let all = workers().flat_map(|worker| (1..=INSTANCES).map(move |number| instance(worker, number)));
        let free: Vec<String> = all.filter(|name| self.is_free(name, at)).collect();
        free.choose(&mut self.random).cloned()
    }

    /// A step of this kind, if there is something free for it and time to heal it.
    fn step(&mut self, kind: Kind, at: Duration) -> Option<Step> {
        let (action, busy, breath) = match kind {
            Kind::Kill => {
                let away = if self.random.random_bool(0.6) { Duration::ZERO } else { self.millis(500..9_000) };
                let instance = self.victim(at)?;
                (Action::Kill { instance: instance.clone(), away }, instance, Duration::from_millis(300))
            }
            Kind::Freeze => {
                let instance = self.victim(at)?;
                let action = Action::Freeze { instance: instance.clone(), lasts: self.millis(FREEZES) };
                (action, instance, Duration::from_secs(1))
            }
            Kind::Leave => {
                let instance = self.victim(at)?;
                let away = self.millis(500..8_000);
                (Action::Leave { instance: instance.clone(), away }, instance, Duration::from_secs(4))
            }
            Kind::Join => {
                let workers: Vec<&str> = workers().collect();
                let worker = (*workers.choose(&mut self.random)?).to_owned();
                self.joined += 1;
                let name = instance(&worker, INSTANCES + self.joined);
                let stays = self.millis(6_000..14_000);
                (Action::Join { worker, instance: name.clone(), stays }, name, Duration::ZERO)
            }
            Kind::Outage(component) => {
                let how = *[Outage::Kill, Outage::Kill, Outage::Stop, Outage::Freeze].choose(&mut self.random)?;
                let lasts = self.millis(1_000..6_000);
                let restart = if component == Component::Kafka { BROKER_START } else { BREATH };
                let breath = if how == Outage::Freeze { BREATH } else { BREATH + restart };
                (Action::Outage { component, how, lasts }, component.name().to_owned(), breath)
            }
            Kind::Proxy(component) => {
                let fault = ProxyFault::any(component, &mut self.random);
                let lasts = self.millis(2_000..7_000);
                (Action::Proxy { component, fault, lasts }, component.name().to_owned(), BREATH)
            }
            Kind::Alter => {
                let alteration = *Alteration::ALL.choose(&mut self.random)?;
                let lasts = self.millis(8_000..20_000);
                (Action::Alter { alteration, lasts }, alteration.to_string(), Duration::ZERO)
            }
            Kind::Hostile => {
                let count = self.random.random_range(1..5);
                let records = (0..count).map(|_| hostile::Planned::any(&mut self.random, self.partitions)).collect();
                (Action::Hostile { records }, String::new(), Duration::ZERO)
            }
            Kind::Crash => {
                let failpoint = FAILPOINTS.choose(&mut self.random)?;
                let has_it = |name: &&str| failpoint.worker.map_or(![WRITER, ROUTER].contains(name), |of| of == *name);
                let of: Vec<&str> = workers().filter(has_it).collect();
                let instance = instance(of.choose(&mut self.random)?, self.random.random_range(1..=INSTANCES));
                if !self.is_free(&instance, at) {
                    return None;
                }
                let after = self.random.random_range(0..=failpoint.passes);
                let failpoint = failpoint.name;
                let lasts = self.millis(8_000..14_000);
                (Action::Crash { instance: instance.clone(), failpoint, after, lasts }, instance, Duration::ZERO)
            }
        };
        let step = Step { at, action };
        if step.end() + LAST > self.length || !self.is_free(&busy, at) {
            return None;
        }
        if !busy.is_empty() {
            self.busy.push((busy, step.end() + breath));
        }
        Some(step)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}, {} steps", self.seed, self.length, self.steps.len())?;
        for Step { at, action } in &self.steps {
            writeln!(f, "{:>7.1} s  {action}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
