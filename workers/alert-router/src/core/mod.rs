//! The router's decisions, without clock, Kafka or HTTP: records and times in, [`Changes`] out.
//!
//! Times are epoch ms of the clock and never decide twice: what was decided is in the changes. A shell commits them in one
//! transaction with the offsets that they follow from, then sends what [`Changes::sends`] holds, and says how that went.
//! From the committed state alone [`restore`](restore::Restore) makes the same core again.
//!
//! - An alert is a member of one group for each route that it takes. `told` is what the group's receiver knows of it; it is
//!   noted together with the notification that tells it. So a resolution is told exactly to who was told the firing.
//! - Where routes were edited, a receiver is told the end of what it was told under the group's old key; nothing else is.
//! - A group has one notification under way at a time, which keeps them in order. What changes meanwhile waits for the
//!   next one: of each alert the newest state is told.

pub mod changes;
mod flush;
mod held;
mod outcome;
mod render;
pub mod restore;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

use hashbrown::HashMap;
use records::{Alert, AlertState as State, Decoder, DecoderConfig, SchemaLookup};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::inhibition::Inhibitions;
use crate::labels::Labels;
use crate::routing::{Node, Routing, Style};
use crate::silence::{Silence, Silences};
use changes::{AlertState, Changes, Counters, GroupState, Key};
use held::{Group, Held, Membership, Queue, Told};

pub use outcome::Outcome;

/// Alerts that are larger, in bytes, are not taken: the state has to hold them.
pub const LARGEST_ALERT: usize = 4_000_000;

/// A decoder of alerts.
#[must_use]
pub fn decoder(lookup: Box<dyn SchemaLookup>) -> Decoder<Alert<'static>> {
    Decoder::new(DecoderConfig { max_record_bytes: LARGEST_ALERT, ..DecoderConfig::default() }, lookup)
}

/// What became of an alert's record.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is news.
    Changed,
    /// It, or a later one, was taken before.
    Known,
    /// It ends an alert of which nothing is known: nobody was told.
    Unknown,
}

/// How much there is of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Alerts that fire.
    pub firing: usize,
    /// Alerts, with those whose end is still to be told.
    pub alerts: usize,
    /// Groups.
    pub groups: usize,
    /// Alerts of groups that are silenced or inhibited there.
    pub suppressed: usize,
    /// By receiver: groups that wait for it, and notifications that it has not taken yet.
    pub receivers: Vec<(usize, usize)>,
}

/// The router's state.
pub struct Core {
    routing: Routing,
    nodes: Vec<Node>,
    decoder: Decoder<Alert<'static>>,
    silences: Silences,
    inhibitions: Inhibitions,
    alerts: HashMap<u64, Held>,
    by_fingerprint: HashMap<u128, u64>,
    /// Apart from the table, which has up to twice as many places.
    groups: HashMap<u32, Box<Group>>,
    by_key: HashMap<u128, u32>,
    timers: BTreeSet<(i64, u32)>,
    queues: Vec<Queue>,
    counters: Counters,
    changes: Changes,
    /// The time that it was told last.
    clock: i64,
}

impl Core {
    /// Without any alert. `lookup` knows the schemas of all records that will come.
    #[must_use]
    pub fn new(routing: Routing, lookup: Box<dyn SchemaLookup>, now: i64) -> Self {
        Self {
            nodes: routing.nodes(),
            decoder: decoder(lookup),
            silences: Silences::default(),
            inhibitions: Inhibitions::new(routing.inhibit.clone()),
            alerts: HashMap::new(),
            by_fingerprint: HashMap::new(),
            groups: HashMap::new(),
            by_key: HashMap::new(),
            timers: BTreeSet::new(),
            queues: routing.receivers.iter().map(|_| Queue::default()).collect(),
            counters: Counters { born: now, next_notification: 1, next_alert: 1, next_group: 1 },
            changes: Changes::default(),
            clock: now,
            routing,
        }
    }

    /// What there is to be committed, and then sent. Its offsets are the shell's to add.
    #[must_use]
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Notes a silence, or that there is none of that id any more.
    ///
    /// # Errors
    /// Where there are too many silences: this one silences nothing.
    pub fn silence(&mut self, id: &str, silence: Option<Silence>) -> Result<(), String> {
        match silence {
            Some(silence) => self.silences.put(id, silence),
            None => {
                self.silences.remove(id);
                Ok(())
            }
        }
    }

    /// Takes a record of an alert; `value` is what it was decoded from.
    pub fn alert(&mut self, alert: &Alert<'_>, value: &[u8], now: i64) -> Taken {
        let labels = Labels::of(alert);
        let fingerprint = xxh3_128(alert.fingerprint.as_bytes());
        let life = xxh3_64(alert.alert_id.as_bytes());
        let firing = alert.state == State::Firing;
        if let Some(&id) = self.by_fingerprint.get(&fingerprint)
            && let Some(held) = self.alerts.get_mut(&id)
        {
            // by a worker whose state was reset, which first said that it is over
            let begins_anew = firing && alert.sequence == 1 && !held.firing;
            let is_old =
                if held.life == life { alert.sequence <= held.sequence } else { alert.window_end < held.window_end };
            if is_old && !begins_anew {
                return Taken::Known;
            }
            if held.labels == labels.hash() {
                let turned = held.firing != firing;
                held.life = life;
                held.sequence = alert.sequence;
                held.window_end = alert.window_end;
                held.firing = firing;
                held.value = value.into();
                if turned {
                    self.inhibitions.note(&labels, firing);
                }
                self.keep_alert(id);
                if turned && firing {
                    // groups that had told the end have let it go
                    self.join(id, &labels, now);
                }
                self.touch(id, now);
                return Taken::Changed;
            }
            self.replace(id, now);
        }
        if !firing {
            return Taken::Unknown;
        }
        let id = self.counters.next_alert;
        self.counters.next_alert += 1;
        self.by_fingerprint.insert(fingerprint, id);
        self.inhibitions.note(&labels, true);
        let held = Held {
            fingerprint,
            life,
            sequence: alert.sequence,
            window_end: alert.window_end,
            labels: labels.hash(),
            firing,
            replaced: false,
            value: value.into(),
            memberships: Vec::new(),
        };
        self.alerts.insert(id, held);
        self.changes.put(Key::Router, &self.counters);
        self.keep_alert(id);
        self.join(id, &labels, now);
        self.touch(id, now);
        self.forget_if_nowhere(id);
        Taken::Changed
    }

    /// The rule's labels were changed: under the old ones the alert is over.
    fn replace(&mut self, id: u64, now: i64) {
        let Some(held) = self.alerts.get_mut(&id) else { return };
        let was_firing = std::mem::replace(&mut held.firing, false);
        held.replaced = true;
        self.by_fingerprint.remove(&held.fingerprint);
        if was_firing && let Ok(alert) = self.decoder.decode(None, Some(&held.value)) {
            self.inhibitions.note(&Labels::of(&alert), false);
        }
        self.keep_alert(id);
        self.touch(id, now);
    }

    fn keep_alert(&mut self, id: u64) {
        if let Some(held) = self.alerts.get(&id) {
            let state = AlertState { firing: held.firing, replaced: held.replaced, value: &held.value };
            self.changes.put(Key::Alert(id), &state);
        }
    }

    /// Makes the alert a member of the groups of its routes; groups that are missing begin at `now`.
    fn join(&mut self, id: u64, labels: &Labels<'_>, now: i64) {
        let mut routes = Vec::new();
        self.routing.root.matching(labels, &mut routes);
        let places: Vec<(usize, usize, String)> =
            routes.iter().map(|route| (route.index, route.receiver, route.group_key(labels))).collect();
        if let Some(held) = self.alerts.get_mut(&id) {
            // of many alerts each has one or two
            held.memberships.reserve_exact(places.len());
        }
        for (node, receiver, key) in places {
            let group = self.group(node, receiver, key, now);
            if let Some(held) = self.alerts.get_mut(&id)
                && held.membership(group).is_none()
            {
                held.memberships.push(Membership {
                    group,
                    told: Told::Nothing,
                    by: 0,
                    untaken_since: 0,
                    retired: false,
                });
                if let Some(group) = self.groups.get_mut(&group) {
                    group.members.insert(id);
                }
            }
        }
    }

    fn group(&mut self, node: usize, receiver: usize, key: String, now: i64) -> u32 {
        let hash = group_hash(&self.routing.receivers[receiver].name, &key);
        if let Some(&id) = self.by_key.get(&hash) {
            return id;
        }
        let id = self.counters.next_group;
        self.counters.next_group += 1;
        self.changes.put(Key::Router, &self.counters);
        let timing = self.nodes[node].timing;
        let style = &self.routing.receivers[receiver].style;
        let wait = if style.is_immediate() { style.interval(timing.group_interval) } else { timing.group_wait };
        self.insert_group(id, node, receiver, key, now + wait);
        self.keep_group(id);
        id
    }

    fn insert_group(&mut self, id: u32, node: usize, receiver: usize, key: String, next_flush: i64) {
        let hash = group_hash(&self.routing.receivers[receiver].name, &key);
        let group = Group {
            node,
            receiver,
            key: key.into(),
            hash,
            members: BTreeSet::new(),
            changed: BTreeSet::new(),
            suppressed: BTreeSet::new(),
            next_flush,
            last_sent: 0,
            pending: None,
            queued: None,
            due: false,
            resent_to: None,
            resend_at: 0,
        };
        self.timers.insert((next_flush, id));
        self.by_key.insert(hash, id);
        self.groups.insert(id, Box::new(group));
    }

    /// From a time of the group to the next, at most.
    fn longest_wait(&self, node: usize) -> i64 {
        let timing = self.nodes[node].timing;
        timing.group_wait.max(timing.group_interval)
    }

    fn retime(&mut self, id: u32, next_flush: i64) {
        if let Some(group) = self.groups.get_mut(&id) {
            self.timers.remove(&(group.next_flush, id));
            group.next_flush = next_flush;
            self.timers.insert((next_flush, id));
        }
    }

    fn keep_group(&mut self, id: u32) {
        if let Some(group) = self.groups.get(&id) {
            let state = GroupState {
                receiver: &self.routing.receivers[group.receiver].name,
                key: &group.key,
                next_flush: group.next_flush,
                last_sent: group.last_sent,
                style: self.routing.receivers[group.receiver].style.name(),
            };
            self.changes.put(Key::Group(id), &state);
        }
    }

    /// The alert has changed: its groups have news, or none any more.
    fn touch(&mut self, id: u64, now: i64) {
        let groups: Vec<u32> = self
            .alerts
            .get(&id)
            .map(|held| held.memberships.iter().map(|membership| membership.group).collect())
            .unwrap_or_default();
        for group in groups {
            self.touch_in(group, id, now);
        }
    }

    fn touch_in(&mut self, group_id: u32, id: u64, now: i64) {
        let Some(held) = self.alerts.get_mut(&id) else { return };
        let firing = held.firing;
        let Some(membership) = held.membership(group_id) else { return };
        if firing && membership.untaken_since != 0 {
            // another end will come
            membership.untaken_since = 0;
            self.changes.put(Key::Told(group_id, id), &membership.state());
        }
        let (told, is_news) = (membership.told, membership.is_news(firing));
        let Some(group) = self.groups.get_mut(&group_id) else { return };
        let receiver = &self.routing.receivers[group.receiver];
        group.suppressed.remove(&id);
        if !firing && (told == Told::Nothing || !receiver.send_resolved) {
            self.leave(group_id, id);
            return;
        }
        if !is_news {
            group.changed.remove(&id);
            return;
        }
        group.changed.insert(id);
        if receiver.style.is_immediate() && !self.nodes[group.node].is_muted(now) {
            match receiver.style {
                Style::Topic(_) => self.write(group_id, vec![id], now),
                _ => self.enqueue(group_id),
            }
        }
    }

    /// The group has nothing more to tell of the alert.
    fn leave(&mut self, group_id: u32, id: u64) {
        if let Some(held) = self.alerts.get_mut(&id) {
            if let Some(membership) = held.membership(group_id)
                && membership.told != Told::Nothing
            {
                self.changes.delete(Key::Told(group_id, id));
            }
            held.memberships.retain(|membership| membership.group != group_id);
            self.forget_if_nowhere(id);
        }
        if let Some(group) = self.groups.get_mut(&group_id) {
            group.members.remove(&id);
            group.changed.remove(&id);
            group.suppressed.remove(&id);
        }
        self.end_if_empty(group_id);
    }

    /// Lets go of an alert of which no group has anything to tell.
    fn forget_if_nowhere(&mut self, id: u64) {
        let Some(held) = self.alerts.get(&id).filter(|held| held.memberships.is_empty()) else { return };
        if !held.replaced {
            self.by_fingerprint.remove(&held.fingerprint);
        }
        if held.firing
            && let Ok(alert) = self.decoder.decode(None, Some(&held.value))
        {
            self.inhibitions.note(&Labels::of(&alert), false);
        }
        self.alerts.remove(&id);
        self.changes.delete(Key::Alert(id));
    }

    fn end_if_empty(&mut self, id: u32) {
        let is_over = |group: &Group| group.members.is_empty() && group.pending.is_none();
        if let Some(group) = self.groups.get(&id).filter(|group| is_over(group)) {
            self.timers.remove(&(group.next_flush, id));
            self.by_key.remove(&group.hash);
            if let Some(place) = group.queued {
                self.queues[group.receiver].waiting.remove(&(place, id));
            }
            self.groups.remove(&id);
            self.changes.delete(Key::Group(id));
        }
    }

    /// The earliest time at which [`advance`](Self::advance) has something to do, if nothing comes before.
    #[must_use]
    pub fn next_due(&self) -> Option<i64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let retries = self.queues.iter().filter_map(|queue| queue.retries.first().map(|(at, _)| *at));
        retries.chain(timer).min()
    }

    /// How much there is of everything. Looks at each group.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            firing: self.alerts.values().filter(|held| held.firing).count(),
            alerts: self.alerts.len(),
            groups: self.groups.len(),
            suppressed: self.groups.values().map(|group| group.suppressed.len()).sum(),
            receivers: self.queues.iter().map(|queue| (queue.waiting.len(), queue.pending)).collect(),
        }
    }

    /// The routing that it was made with.
    #[must_use]
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    /// How many silences hold at `now`.
    #[must_use]
    pub fn active_silences(&self, now: i64) -> usize {
        self.silences.active(now)
    }
}

/// Names a group: the same receiver and key give the same number.
fn group_hash(receiver: &str, key: &str) -> u128 {
    xxh3_128(format!("{receiver}\0{key}").as_bytes())
}
