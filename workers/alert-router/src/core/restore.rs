//! The core, made again from its committed state.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use kafka::TopicId;
use records::{Alert, DecodeError, SchemaLookup};
use serde::Deserialize;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::Core;
use super::changes::{AlertState, Counters, GroupState, Key, PendingState, ToldState};
use super::held::{Held, Membership, Pending, Told};
use crate::labels::Labels;
use crate::routing::{Receiver, Routing};

/// The newest value of each key, as the topic is read.
#[derive(Debug, Default)]
pub struct Restore {
    counters: Option<Vec<u8>>,
    offsets: BTreeMap<(String, i32), NextOffset>,
    alerts: BTreeMap<u64, Vec<u8>>,
    groups: BTreeMap<u32, Vec<u8>>,
    told: BTreeMap<(u32, u64), Vec<u8>>,
    pending: BTreeMap<u32, Vec<u8>>,
}

/// A core, and where reading goes on.
pub struct Restored {
    /// The core.
    pub core: Core,
    /// Next offsets by topic and partition.
    pub offsets: BTreeMap<(String, i32), NextOffset>,
    /// Receivers that are not in the configuration any more, or are of another type, with how many alerts they believe to
    /// fire.
    pub forgotten: BTreeMap<String, usize>,
}

/// Why there is no core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreError {
    /// A person has to help.
    Unreadable(String),
    /// The registry does not answer: try again.
    NoAnswer(String),
}

/// The value of [`Key::Offset`]: an offset means something in the topic of that id only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextOffset {
    /// The next offset to read.
    pub next: i64,
    /// The topic's id, where it is known.
    pub topic: Option<TopicId>,
}

impl NextOffset {
    /// As it is written: `next` or `next;id`.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        match &self.topic {
            Some(id) => format!("{};{id}", self.next).into_bytes(),
            None => self.next.to_string().into_bytes(),
        }
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (next, id) = text.split_once(';').unwrap_or((text, ""));
        Some(Self { next: next.parse().ok()?, topic: TopicId::parse(id) })
    }
}

impl Restore {
    /// Takes a record of the state topic.
    ///
    /// # Errors
    /// Where it is none of this version's.
    pub fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let text = String::from_utf8_lossy(key);
        let unreadable = || format!("the state's record {text:?} cannot be read");
        let key = Key::parse(&text).ok_or_else(unreadable)?;
        match key {
            Key::Router => self.counters = value.map(<[u8]>::to_vec),
            Key::Offset(topic, partition) => {
                let next = value.and_then(NextOffset::parse);
                self.offsets.insert((topic, partition), next.ok_or_else(unreadable)?);
            }
            Key::Alert(id) => put(&mut self.alerts, id, value),
            Key::Group(id) => put(&mut self.groups, id, value),
            Key::Told(group, alert) => put(&mut self.told, (group, alert), value),
            Key::Pending(group) => put(&mut self.pending, group, value),
        }
        Ok(())
    }

    /// The core as it was, under a routing that may have changed. `now` is when a state begins that holds nothing yet.
    ///
    /// # Errors
    /// Where a value cannot be read, or the registry does not tell an alert's schema.
    pub fn finish(self, routing: Routing, lookup: Box<dyn SchemaLookup>, now: i64) -> Result<Restored, RestoreError> {
        let mut core = Core::new(routing, lookup, now);
        match &self.counters {
            Some(value) => core.counters = read::<Counters>("router", value)?,
            None => core.changes.put(Key::Router, &core.counters),
        }
        let mut known = Known { groups: BTreeMap::new(), by_key: HashMap::new(), told: HashMap::new() };
        for (id, value) in &self.groups {
            let state = read_group(value, now)?;
            if core.receiver_of(&state).is_some() {
                known.by_key.insert(super::group_hash(state.receiver, state.key), *id);
            }
            known.groups.insert(*id, state);
        }
        for (&(group, alert), value) in &self.told {
            known.told.entry(group).or_default().insert(alert, read_told(value)?);
        }
        for (id, value) in self.alerts {
            core.restore_alert(id, &value, &known, now)?;
        }
        let mut forgotten = BTreeMap::new();
        for &(group, alert) in self.told.keys() {
            if core.membership(group, alert).is_none()
                && let Err(gone) = core.retire(group, alert, &known, now)
            {
                core.changes.delete(Key::Told(group, alert));
                if let Some(receiver) = gone {
                    *forgotten.entry(receiver).or_default() += 1;
                }
            }
        }
        for id in self.groups.keys().filter(|id| !core.groups.contains_key(*id)) {
            core.changes.delete(Key::Group(*id));
        }
        for (group, value) in self.pending {
            core.restore_pending(group, &read("a notification", &value)?, now);
        }
        core.settle();
        Ok(Restored { core, offsets: self.offsets, forgotten })
    }
}

struct Known<'a> {
    groups: BTreeMap<u32, GroupState<'a>>,
    /// Numbers of those whose receivers are there.
    by_key: HashMap<u128, u32>,
    told: HashMap<u32, HashMap<u64, ToldState>>,
}

impl Core {
    /// The group's receiver. One of another type is another one, whom nobody has told anything.
    fn receiver_of(&self, group: &GroupState<'_>) -> Option<usize> {
        let is_it = |receiver: &Receiver| {
            receiver.name == group.receiver && (group.style.is_empty() || receiver.style.name() == group.style)
        };
        self.routing.receivers.iter().position(is_it)
    }

    fn restore_alert(&mut self, id: u64, value: &[u8], known: &Known<'_>, now: i64) -> Result<(), RestoreError> {
        let state: AlertState<'_> = read("an alert", value)?;
        let Self { decoder, inhibitions, .. } = self;
        let alert: Alert<'_> = decoder.decode(None, Some(state.value)).map_err(|error| match error {
            DecodeError::NoAnswer(error) => RestoreError::NoAnswer(error.to_string()),
            // a registry that has lost its schemas may be given them again
            DecodeError::Rejected(rejection) if rejection.outside => RestoreError::NoAnswer(format!(
                "an alert of the state cannot be decoded: {rejection}. The registry has to know the schema again, or stop \
                 all instances and run: alert-router --config FILE --reset-state"
            )),
            error => RestoreError::Unreadable(format!("an alert of the state cannot be decoded: {error}")),
        })?;
        let labels = Labels::of(&alert);
        if state.firing {
            inhibitions.note(&labels, true);
        }
        let fingerprint = xxh3_128(alert.fingerprint.as_bytes());
        if !state.replaced {
            self.by_fingerprint.insert(fingerprint, id);
        }
        let held = Held {
            fingerprint,
            life: xxh3_64(alert.alert_id.as_bytes()),
            sequence: alert.sequence,
            window_end: alert.window_end,
            labels: labels.hash(),
            firing: state.firing,
            replaced: state.replaced,
            value: state.value.into(),
            memberships: Vec::new(),
        };
        self.alerts.insert(id, held);
        self.rejoin(id, &labels, known, now);
        Ok(())
    }

    /// The alert's groups, under the numbers that they had.
    fn rejoin(&mut self, id: u64, labels: &Labels<'_>, known: &Known<'_>, now: i64) {
        let mut routes = Vec::new();
        self.routing.root.matching(labels, &mut routes);
        let keys: Vec<(usize, usize, String)> =
            routes.iter().map(|route| (route.index, route.receiver, route.group_key(labels))).collect();
        for (node, receiver, key) in keys {
            let number = known.by_key.get(&super::group_hash(&self.routing.receivers[receiver].name, &key));
            if let Some((number, state)) = number.and_then(|number| known.groups.get_key_value(number))
                && !self.groups.contains_key(number)
            {
                self.restore_group(*number, node, receiver, state, now);
            }
        }
        self.join(id, labels, now);
        let Some(held) = self.alerts.get_mut(&id) else { return };
        for membership in &mut held.memberships {
            if let Some(state) = known.told.get(&membership.group).and_then(|told| told.get(&id)) {
                membership.told = state.told;
                membership.by = state.by;
                membership.untaken_since = state.untaken_since;
            }
        }
    }

    /// Keeps the alert in a group to which no route leads it any more, until its end is told there. The error names the
    /// group's receiver where it is gone.
    fn retire(&mut self, id: u32, alert: u64, known: &Known<'_>, now: i64) -> Result<(), Option<String>> {
        let told = known.told.get(&id).and_then(|told| told.get(&alert)).ok_or(None)?;
        let state = known.groups.get(&id).ok_or(None)?;
        let receiver = self.receiver_of(state).ok_or_else(|| Some(state.receiver.to_owned()))?;
        let held = self.alerts.get_mut(&alert).ok_or(None)?;
        if !self.routing.receivers[receiver].send_resolved {
            return Err(None);
        }
        held.memberships.push(Membership {
            group: id,
            told: told.told,
            by: told.by,
            untaken_since: told.untaken_since,
            retired: true,
        });
        if !self.groups.contains_key(&id) {
            // its times are those of a route that leads to the receiver
            let nodes = self.routing.root.all();
            let node = nodes.iter().find(|route| route.receiver == receiver).map_or(0, |route| route.index);
            self.restore_group(id, node, receiver, state, now);
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.members.insert(alert);
        }
        Ok(())
    }

    /// A group as it was; where the clock has gone back, its next time does not lie further ahead than it ever does.
    fn restore_group(&mut self, id: u32, node: usize, receiver: usize, state: &GroupState<'_>, now: i64) {
        let latest = now + self.longest_wait(node);
        self.insert_group(id, node, receiver, state.key.to_owned(), state.next_flush.min(latest).max(0));
        if let Some(group) = self.groups.get_mut(&id) {
            group.last_sent = state.last_sent;
        }
    }

    fn restore_pending(&mut self, id: u32, state: &PendingState<'_>, now: i64) {
        let Some(group) = self.groups.get_mut(&id) else {
            self.changes.delete(Key::Pending(id));
            return;
        };
        let covers = group.members.iter().copied().filter(|member| {
            let memberships = self.alerts.get(member).map(|held| held.memberships.as_slice()).unwrap_or_default();
            memberships.iter().any(|membership| membership.group == id && membership.by == state.number)
        });
        group.pending = Some(Box::new(Pending {
            number: state.number,
            first_at: state.first_at.min(now),
            made_at: state.first_at.min(now),
            attempts: 0,
            // nobody knows how far it came
            uncertain: true,
            lasting: true,
            idempotency_key: state.idempotency_key.to_owned(),
            body: Arc::from(state.body),
            covers: covers.collect(),
            maybe_known: Vec::new(),
            retry_at: Some(now),
        }));
        let queue = &mut self.queues[group.receiver];
        queue.pending += 1;
        queue.retries.insert((now, id));
    }

    /// What the alerts' states and what was told of them say about each group's news.
    fn settle(&mut self) {
        let mut ids: Vec<u64> = self.alerts.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(held) = self.alerts.get(&id) else { continue };
            let (firing, memberships) = (held.firing, held.memberships.clone());
            for membership in memberships {
                let group = self.groups.get_mut(&membership.group);
                // what a notification under way tells is told, as long as that is so
                let under_way = group
                    .as_ref()
                    .is_some_and(|group| group.pending.as_ref().is_some_and(|pending| pending.number == membership.by));
                if !firing && membership.told == Told::Nothing
                    || !firing && membership.told == Told::Resolved && !under_way
                {
                    self.leave(membership.group, id);
                } else if membership.is_news(firing)
                    && let Some(group) = group
                {
                    group.changed.insert(id);
                }
            }
            self.forget_if_nowhere(id);
        }
        // the groups' times were kept, but those who are told at once have no time of their own
        let immediate: Vec<u32> = self
            .groups
            .iter()
            .filter(|(_, group)| self.routing.receivers[group.receiver].style.is_immediate())
            .filter(|(_, group)| !group.changed.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in immediate {
            self.retime(id, 0);
        }
    }
}

fn put<K: Ord>(map: &mut BTreeMap<K, Vec<u8>>, key: K, value: Option<&[u8]>) {
    match value {
        Some(value) => drop(map.insert(key, value.to_vec())),
        None => drop(map.remove(&key)),
    }
}

/// Of an older state that says nothing of ends in vain, too.
fn read_told(value: &[u8]) -> Result<ToldState, RestoreError> {
    let ((told, by), untaken_since) = read_grown("what a receiver was told", value)?;
    Ok(ToldState { told, by, untaken_since })
}

/// Of an older state that says nothing of the receiver's type, too. No time lies ahead but the next flush: the clock may
/// have gone back.
fn read_group(value: &[u8], now: i64) -> Result<GroupState<'_>, RestoreError> {
    let ((receiver, key, next_flush, last_sent), style): ((_, _, _, i64), _) = read_grown("a group", value)?;
    Ok(GroupState { receiver, key, next_flush, last_sent: last_sent.min(now), style })
}

fn read<'a, T: Deserialize<'a>>(what: &str, value: &'a [u8]) -> Result<T, RestoreError> {
    postcard::from_bytes(value).map_err(|error| unreadable(what, error))
}

/// What was there from the first, and what was added to its end.
fn read_grown<'a, T: Deserialize<'a>, Added: Deserialize<'a> + Default>(
    what: &str,
    value: &'a [u8],
) -> Result<(T, Added), RestoreError> {
    let (first, rest) = postcard::take_from_bytes(value).map_err(|error| unreadable(what, error))?;
    Ok((first, if rest.is_empty() { Added::default() } else { read(what, rest)? }))
}

fn unreadable(what: &str, error: postcard::Error) -> RestoreError {
    RestoreError::Unreadable(format!("{what} in the state cannot be read: {error}"))
}
