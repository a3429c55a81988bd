//! What is known about schemas, and when the registry is asked: decisions alone, the time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::budget::{Grant, QuestionBudget, WaitBudget};
use super::fetch::Outcome;
use crate::lookup::{RegisteredSchema, SchemaRef};

/// Requests that are on their way at the same time.
const MAX_IN_FLIGHT: usize = 8;
/// Registries count their ids up: one that is not above the highest known one by more than this may well be known, and is asked
/// about whatever the flood of others. There are only so many of them.
const LIKELY_ABOVE_HIGHEST: i32 = 100;
/// Schemas that are waited for, or remembered as unknown, at most.
const MAX_ENTRIES: usize = 1024;
/// Bytes of the schemas that are kept; the oldest go first, and are asked for again.
const MAX_KNOWN_BYTES: usize = 64 * 1024 * 1024;

/// What the configuration says about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) unknown_schema_wait: Duration,
    pub(super) unknown_for: Duration,
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
}

/// What a lookup comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Known(RegisteredSchema),
    /// Nothing follows for the record yet.
    Wait {
        /// The registry is to be asked now.
        ask: bool,
        /// The registry has said that it does not know the schema.
        unknown: bool,
        message: String,
    },
    Unknown(String),
    Unusable(String),
}

/// All schemas that were looked up.
#[derive(Debug)]
pub(super) struct Lookups {
    limits: Limits,
    known: Known,
    entries: HashMap<SchemaRef, Entry>,
    in_flight: usize,
    /// The highest id that the registry is known to have given away.
    highest_id: i32,
    waits: WaitBudget,
    questions: QuestionBudget,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    state: State,
    /// The pause behind the next answer that settles nothing.
    pause: Duration,
    /// How long it is waited for, once it has turned out unknown.
    grant: Option<Grant>,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A request is on its way.
    Asking,
    /// Not settled: the registry is asked again then.
    Paused(Instant),
    /// Settled, until then.
    Unknown(Instant),
    Unusable(Instant),
}

impl Lookups {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            known: Known::default(),
            entries: HashMap::new(),
            in_flight: 0,
            highest_id: 0,
            waits: WaitBudget::new(limits.unknown_schema_wait, now),
            questions: QuestionBudget::new(now),
        }
    }

    /// What is to be done with a record of that schema.
    pub(super) fn look(&mut self, schema: SchemaRef, now: Instant) -> Verdict {
        if let Some(known) = self.known.get(schema) {
            return Verdict::Known(known.clone());
        }
        let is_busy = self.in_flight >= MAX_IN_FLIGHT;
        let may_ask = self.is_likely(schema) || self.questions.has_any(now);
        let Some(entry) = self.entries.get_mut(&schema) else { return self.look_new(schema, may_ask, now) };
        let ask = match entry.state {
            State::Asking => false,
            State::Paused(until) => now >= until && !is_busy,
            State::Unknown(until) | State::Unusable(until) if now < until || !may_ask => {
                let message = entry.message.clone();
                let is_unknown = matches!(entry.state, State::Unknown(_));
                return if is_unknown { Verdict::Unknown(message) } else { Verdict::Unusable(message) };
            }
            State::Unknown(_) | State::Unusable(_) => !is_busy,
        };
        if ask {
            entry.state = State::Asking;
            self.in_flight += 1;
        }
        Verdict::Wait { ask, unknown: entry.grant.is_some(), message: entry.message.clone() }
    }

    fn is_likely(&self, schema: SchemaRef) -> bool {
        matches!(schema, SchemaRef::Id(id) if id <= self.highest_id.saturating_add(LIKELY_ABOVE_HIGHEST))
    }

    /// The registry has given this id away.
    pub(super) fn note_known_id(&mut self, id: i32) {
        self.highest_id = self.highest_id.max(id);
    }

    fn look_new(&mut self, schema: SchemaRef, may_ask: bool, now: Instant) -> Verdict {
        if !may_ask {
            let message = "it was not asked about: there are too many schemas that it does not know".to_owned();
            return Verdict::Unknown(message);
        }
        let message = "the schema registry was asked and has not answered yet".to_owned();
        if self.in_flight >= MAX_IN_FLIGHT {
            return Verdict::Wait { ask: false, unknown: false, message };
        }
        self.make_room();
        self.in_flight += 1;
        let pause = self.limits.first_pause;
        let entry = Entry { since: now, state: State::Asking, pause, grant: None, message: message.clone() };
        self.entries.insert(schema, entry);
        Verdict::Wait { ask: true, unknown: false, message }
    }

    /// Notes what a request has come to.
    pub(super) fn answered(&mut self, schema: SchemaRef, outcome: Outcome, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let (SchemaRef::Id(id), Outcome::Found(_)) = (schema, &outcome) {
            self.note_known_id(id);
        }
        let is_likely = self.is_likely(schema);
        let Some(entry) = self.entries.get_mut(&schema) else { return };
        match outcome {
            Outcome::Found(found) => {
                if let Some(grant) = entry.grant {
                    self.waits.give_back(grant, now);
                }
                self.entries.remove(&schema);
                self.known.insert(schema, found);
            }
            Outcome::Unknown(said) => {
                // What was waited for in vain once is not waited for again.
                let grant = *entry.grant.get_or_insert_with(|| {
                    if !is_likely {
                        self.questions.take();
                    }
                    self.waits.grant(now)
                });
                if now < grant.until {
                    entry.message = format!("the schema registry does not know it yet ({said})");
                    entry.pause_until(now, Some(grant.until), self.limits.longest_pause);
                } else {
                    let waited = now.saturating_duration_since(entry.since).as_secs();
                    entry.message = format!("{said}, also after {waited} s");
                    entry.state = State::Unknown(now + self.limits.unknown_for);
                }
            }
            Outcome::Unusable(message) => {
                entry.message = message;
                entry.state = State::Unusable(now + self.limits.unknown_for);
            }
            Outcome::Unavailable(message) => {
                entry.message = message;
                entry.pause_until(now, None, self.limits.longest_pause);
            }
        }
    }

    /// Forgets the entry that is settled for longest, or waits for longest without anybody asking.
    fn make_room(&mut self) {
        if self.entries.len() < MAX_ENTRIES {
            return;
        }
        let idle = self.entries.iter().filter(|(_, entry)| entry.state != State::Asking);
        if let Some(oldest) = idle.min_by_key(|(_, entry)| entry.since).map(|(schema, _)| *schema) {
            self.entries.remove(&oldest);
        }
    }
}

impl Entry {
    fn pause_until(&mut self, now: Instant, end: Option<Instant>, longest: Duration) {
        let until = now + self.pause;
        self.state = State::Paused(end.map_or(until, |end| end.min(until)));
        self.pause = (self.pause * 2).min(longest);
    }
}

/// Schemas by what they are asked for.
#[derive(Debug, Default)]
struct Known {
    schemas: HashMap<SchemaRef, RegisteredSchema>,
    order: VecDeque<SchemaRef>,
    bytes: usize,
}

impl Known {
    fn get(&self, schema: SchemaRef) -> Option<&RegisteredSchema> {
        self.schemas.get(&schema)
    }

    fn insert(&mut self, schema: SchemaRef, found: RegisteredSchema) {
        self.bytes += bytes_of(&found);
        match self.schemas.insert(schema, found) {
            Some(before) => self.bytes -= bytes_of(&before),
            None => self.order.push_back(schema),
        }
        while self.bytes > MAX_KNOWN_BYTES
            && self.order.len() > 1
            && let Some(oldest) = self.order.pop_front()
            && let Some(removed) = self.schemas.remove(&oldest)
        {
            self.bytes -= bytes_of(&removed);
        }
    }
}

fn bytes_of(schema: &RegisteredSchema) -> usize {
    const OWN: usize = 200;
    OWN + schema.text.len() + schema.references.iter().map(|text| text.len()).sum::<usize>()
}

#[cfg(test)]
mod tests;
