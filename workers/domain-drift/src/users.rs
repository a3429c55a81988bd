//! The users of one source partition: their vectors wait in their pane, count when it closes, and leave with the pane that
//! falls out of the window.
//!
//! **Cost.** A vector is projected once when it comes, added to its domain's sums once when its pane closes, and taken
//! back once: when a newer one of the user counts, or when it leaves. So a slide costs its updates, whatever the number of
//! users, or of slides in a window.

use std::collections::BTreeMap;

use grouping::Examples;
use hashbrown::HashTable;
use storage::{Slab, Text};
use streaming::operator::StateSize;
use streaming::window::Windows;
use xxhash_rust::xxh3::xxh3_64_with_seed;
use xxhash_rust::xxh64::Xxh64;

use crate::pane::{Pane, Update};
use crate::projector::Projector;
use crate::summary::{Sampled, Shape, Summary};
use crate::totals::Totals;
use crate::versions::Versions;

/// Users below which room is not given back.
const KEPT_ROOM: usize = 1 << 14;

/// What the events of a partition mean.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) windows: Windows,
    pub(crate) projector: Projector,
    /// Users in a domain's sample; 0 for none.
    pub(crate) sample: usize,
}

impl Rules {
    pub(crate) fn shape(&self) -> Shape {
        let directions = self.projector.directions();
        Shape {
            directions: directions.count(),
            bins: self.projector.scale().bins(),
            dimensions: directions.dimensions(),
            sample: self.sample,
        }
    }
}

/// A user in a domain.
#[derive(Debug, Default)]
pub(crate) struct User {
    pub(crate) id: Text,
    pub(crate) domain: u32,
    /// The newest vector in the window of the last closed end.
    pub(crate) current: Option<Current>,
    /// Panes that are not closed in which the user has a vector.
    waiting: u32,
}

/// A vector that counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Current {
    pub(crate) version: u32,
    /// The end of its pane.
    pub(crate) pane_end: i64,
}

/// A domain with known users.
#[derive(Debug, Default)]
pub(crate) struct Domain {
    pub(crate) name: Box<str>,
    known_users: u32,
    totals: Totals,
}

/// The users and their domains.
#[derive(Debug)]
pub(crate) struct Users {
    pub(crate) rules: Rules,
    pub(crate) slab: Slab<User>,
    by_id: HashTable<u32>,
    pub(crate) domains: Slab<Domain>,
    by_name: BTreeMap<Box<str>, u32>,
    pub(crate) versions: Versions,
    /// Of the events of domains.
    pub(crate) examples: Examples,
    /// Vectors above the last closed end, by the end of their pane.
    pub(crate) panes: BTreeMap<i64, Pane>,
    /// The users who have come to count with the pane that ends there; those with a newer vector since are in its list too.
    leaving: BTreeMap<i64, Vec<u32>>,
    /// The last closed end, in epoch ms.
    pub(crate) closed: Option<i64>,
    heap_bytes: usize,
    places: Vec<i32>,
}

impl Users {
    pub(crate) fn new(rules: Rules) -> Self {
        let shape = rules.shape();
        Self {
            slab: Slab::default(),
            by_id: HashTable::new(),
            domains: Slab::default(),
            by_name: BTreeMap::new(),
            versions: Versions::new(shape.directions, if shape.sample > 0 { shape.dimensions } else { 0 }),
            examples: Examples::default(),
            panes: BTreeMap::new(),
            leaving: BTreeMap::new(),
            closed: None,
            heap_bytes: 0,
            places: vec![0; shape.directions],
            rules,
        }
    }

    /// Takes in a vector above the last closed end.
    pub(crate) fn apply(&mut self, time: i64, domain: &str, user_id: &str, event_id: &str, vector: &[f32]) {
        let user = self.find_or_insert(domain, user_id);
        let Self { rules, slab, versions, panes, places, .. } = self;
        let pane = panes.entry(rules.windows.pane_end(time)).or_default();
        let Some(update) = pane.find_mut(user) else {
            rules.projector.project(vector, places);
            let version = versions.insert(places, vector);
            pane.insert(Update { user, version, time, event_id: Text::new(event_id) });
            slab[user].waiting += 1;
            return;
        };
        let order = (time, event_id.as_bytes()).cmp(&(update.time, update.event_id.as_bytes()));
        if order.is_lt() {
            return;
        }
        rules.projector.project(vector, places);
        // should two agree in time and id, the content decides, so that no order of arrival shows
        if order.is_eq() && !is_greater(places, vector, versions, update.version) {
            return;
        }
        versions.replace(update.version, places, vector);
        update.time = time;
        update.event_id = Text::new(event_id);
    }

    /// Lets an event that was taken in stand for its domain, if it comes with a trace.
    pub(crate) fn offer_example<'a>(
        &mut self,
        time: i64,
        domain: &str,
        event_id: &str,
        traceparent: impl FnOnce() -> Option<&'a str>,
    ) {
        self.examples.offer(self.rules.windows.pane_end(time), domain.as_bytes(), event_id, traceparent);
    }

    /// The number of a user, who is made known where needed.
    pub(crate) fn find_or_insert(&mut self, domain: &str, user_id: &str) -> u32 {
        let domain = self.domain(domain);
        if let Some(user) = self.find(domain, user_id) {
            return user;
        }
        let Self { slab, by_id, domains, heap_bytes, .. } = self;
        let user = User { id: Text::new(user_id), domain, ..User::default() };
        *heap_bytes += user.id.heap_bytes();
        domains[domain].known_users += 1;
        let index = slab.insert(user);
        by_id.insert_unique(hash(domain, user_id.as_bytes()), index, |index| {
            let user = &slab[*index];
            hash(user.domain, user.id.as_bytes())
        });
        index
    }

    fn find(&self, domain: u32, user_id: &str) -> Option<u32> {
        let is_wanted = |index: &u32| {
            let user = &self.slab[*index];
            user.domain == domain && user.id.as_bytes() == user_id.as_bytes()
        };
        self.by_id.find(hash(domain, user_id.as_bytes()), is_wanted).copied()
    }

    /// The number of a domain, which is made known where needed.
    fn domain(&mut self, name: &str) -> u32 {
        if let Some(domain) = self.by_name.get(name) {
            return *domain;
        }
        let totals = Totals::new(self.places.len());
        let domain = self.domains.insert(Domain { name: name.into(), known_users: 0, totals });
        self.by_name.insert(name.into(), domain);
        domain
    }

    /// Puts a known user's vector into the pane that ends at `pane_end`, where there is none of the user yet.
    pub(crate) fn wait(&mut self, pane_end: i64, update: Update) {
        self.slab[update.user].waiting += 1;
        self.panes.entry(pane_end).or_default().insert(update);
    }

    /// The smallest window end above `after` at which there is something to emit or to evict.
    pub(crate) fn next_end(&self, after: i64) -> Option<i64> {
        let first_pane = self.panes.first_key_value().map(|(end, _)| *end);
        let next = if self.leaving.is_empty() {
            // nobody counts: time without vectors is skipped
            first_pane?.max(after.saturating_add(1))
        } else {
            after.max(self.closed.unwrap_or(i64::MIN)).saturating_add(1)
        };
        Some(self.rules.windows.pane_end(next))
    }

    /// Moves the window to `end`.
    pub(crate) fn close(&mut self, end: i64) {
        debug_assert!(self.closed.is_none_or(|closed| end > closed), "window ends are closed in order");
        self.closed = Some(end);
        let start = self.rules.windows.start(end);
        self.examples.close(start, end);
        self.evict(start);
        while let Some(entry) = self.panes.first_entry()
            && *entry.key() <= end
        {
            let (pane_end, pane) = entry.remove_entry();
            for update in pane.iter() {
                self.slab[update.user].waiting -= 1;
                self.enter(update.user, Current { version: update.version, pane_end });
            }
        }
    }

    /// Takes back all vectors at or before `time`.
    fn evict(&mut self, time: i64) {
        while let Some(entry) = self.leaving.first_entry()
            && *entry.key() <= time
        {
            let (pane_end, users) = entry.remove_entry();
            for index in users {
                let is_newest = |current: &mut Current| current.pane_end == pane_end;
                if let Some(current) = self.slab[index].current.take_if(is_newest) {
                    self.take_back(index, current.version);
                    if self.slab[index].waiting == 0 {
                        self.forget(index);
                    }
                }
            }
        }
    }

    /// Lets a vector count for its user, instead of the one before.
    pub(crate) fn enter(&mut self, index: u32, current: Current) {
        if let Some(before) = self.slab[index].current.replace(current) {
            self.take_back(index, before.version);
        }
        let sample_hash = self.sample_hash(index);
        let Self { rules, slab, domains, versions, .. } = self;
        let totals = &mut domains[slab[index].domain].totals;
        totals.add(versions.places(current.version), &rules.projector.scale());
        if let Some(hash) = sample_hash {
            totals.by_hash.insert((hash, index));
        }
        self.leaving.entry(current.pane_end).or_default().push(index);
    }

    fn take_back(&mut self, index: u32, version: u32) {
        let sample_hash = self.sample_hash(index);
        let Self { rules, slab, domains, versions, .. } = self;
        let totals = &mut domains[slab[index].domain].totals;
        totals.remove(versions.places(version), &rules.projector.scale());
        if let Some(hash) = sample_hash {
            totals.by_hash.remove(&(hash, index));
        }
        versions.remove(version);
    }

    fn forget(&mut self, index: u32) {
        let user = self.slab.remove(index);
        self.heap_bytes -= user.id.heap_bytes();
        if let Ok(entry) = self.by_id.find_entry(hash(user.domain, user.id.as_bytes()), |other| *other == index) {
            entry.remove();
        }
        let domain = &mut self.domains[user.domain];
        domain.known_users -= 1;
        if domain.known_users == 0 {
            let domain = self.domains.remove(user.domain);
            self.by_name.remove(&domain.name);
        }
    }

    /// What orders a user for the sample, where samples are taken.
    fn sample_hash(&self, index: u32) -> Option<u64> {
        (self.rules.sample > 0).then(|| {
            let user = &self.slab[index];
            let mut hasher = Xxh64::new(0);
            hasher.update(self.domains[user.domain].name.as_bytes());
            hasher.update(&[0]);
            hasher.update(user.id.as_bytes());
            hasher.digest()
        })
    }

    /// The domains with users in the window, in the order of their names, with their summaries.
    pub(crate) fn summaries(&self) -> impl Iterator<Item = (&str, Summary)> {
        let domains = self.by_name.values().map(|index| &self.domains[*index]);
        domains.filter(|domain| domain.totals.users() > 0).map(|domain| (&*domain.name, self.summary(domain)))
    }

    fn summary(&self, domain: &Domain) -> Summary {
        let mut summary = domain.totals.summary(&self.rules.projector.scale());
        summary.example = self.examples.of(domain.name.as_bytes()).cloned();
        let size = self.rules.sample;
        let mut users = domain.totals.by_hash.iter().peekable();
        // beyond the size only those whose hash is that of the last: their vectors decide then
        while let Some((hash, index)) =
            users.next_if(|(hash, _)| summary.sample.len() < size || summary.sample[size - 1].hash == *hash)
        {
            if let Some(current) = self.slab[*index].current {
                summary.sample.push(Sampled { hash: *hash, vector: self.versions.vector(current.version).into() });
            }
        }
        summary.order_sample(size);
        summary
    }

    /// Users who wait or count.
    pub(crate) fn is_live(user: &User) -> bool {
        user.waiting > 0 || user.current.is_some()
    }

    /// Whether most of the room is no longer used.
    pub(crate) fn is_mostly_empty(&self) -> bool {
        self.slab.capacity() > KEPT_ROOM && self.slab.len() < self.slab.capacity() / 4
    }

    pub(crate) fn size(&self) -> StateSize {
        let panes = self.panes.values().map(Pane::bytes).sum::<usize>();
        let leaving = self.leaving.values().map(|users| users.capacity() * size_of::<u32>()).sum::<usize>();
        let domains = self.by_name.values().map(|index| {
            let domain = &self.domains[*index];
            domain.totals.heap_bytes() + 2 * domain.name.len()
        });
        let bytes = self.slab.bytes()
            + self.by_id.allocation_size()
            + self.domains.bytes()
            + domains.sum::<usize>()
            + self.versions.bytes()
            + self.examples.bytes()
            + panes
            + leaving
            + self.heap_bytes;
        StateSize { keys: self.slab.len() as u64, bytes: bytes as u64 }
    }
}

/// Whether a vector's content is greater than a kept one's, in whatever order.
fn is_greater(places: &[i32], vector: &[f32], versions: &Versions, other: u32) -> bool {
    let bits = |vector: &[f32]| vector.iter().map(|component| component.to_bits()).collect::<Vec<_>>();
    let by_places = places.cmp(versions.places(other));
    by_places.then_with(|| bits(vector).cmp(&bits(versions.vector(other)))).is_gt()
}

fn hash(domain: u32, user_id: &[u8]) -> u64 {
    xxh3_64_with_seed(user_id, u64::from(domain))
}
