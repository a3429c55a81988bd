//! What the core holds of alerts, groups and receivers.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::changes::ToldState;

/// What a group's receiver knows of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    Nothing,
    /// That it fires, perhaps: the notification got no answer, or a later one said, perhaps, that it or its group is over.
    Maybe,
    /// That it fires.
    Firing,
    /// That it is over; the notification is under way.
    Resolved,
}

/// An alert's place in a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership {
    pub(crate) group: u32,
    pub(crate) told: Told,
    /// The notification that told it last.
    pub(crate) by: u64,
    /// Since when the receiver does not take that the alert is over, epoch ms; 0 where it has not been asked to in vain.
    pub(crate) untaken_since: i64,
    /// Whether no route leads the alert here any more: only its end is still to be told.
    pub(crate) retired: bool,
}

impl Membership {
    /// As it is kept.
    pub(crate) fn state(&self) -> ToldState {
        ToldState { told: self.told, by: self.by, untaken_since: self.untaken_since }
    }

    /// Whether the receiver does not know the alert's state, and is to know it.
    pub(crate) fn is_news(&self, firing: bool) -> bool {
        if firing && self.retired {
            return false;
        }
        match self.told {
            Told::Nothing | Told::Resolved => firing,
            Told::Maybe => true,
            Told::Firing => !firing,
        }
    }
}

/// An alert: its newest record as it was read, and its groups.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) fingerprint: u128,
    /// Hash of the alert's life.
    pub(crate) life: u64,
    pub(crate) sequence: i64,
    pub(crate) window_end: i64,
    pub(crate) labels: u64,
    pub(crate) firing: bool,
    pub(crate) replaced: bool,
    pub(crate) value: Box<[u8]>,
    pub(crate) memberships: Vec<Membership>,
}

impl Held {
    pub(crate) fn membership(&mut self, group: u32) -> Option<&mut Membership> {
        self.memberships.iter_mut().find(|membership| membership.group == group)
    }
}

/// A notification that was not taken yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) number: u64,
    /// When it, or the first of those that it has taken the place of, was made.
    pub(crate) first_at: i64,
    pub(crate) made_at: i64,
    pub(crate) attempts: u32,
    /// Whether the receiver may have acted on it without saying so.
    pub(crate) uncertain: bool,
    /// Whether it is in the state; a mere repetition is not.
    pub(crate) lasting: bool,
    pub(crate) idempotency_key: String,
    pub(crate) body: Arc<[u8]>,
    /// The alerts whose news it tells.
    pub(crate) covers: Vec<u64>,
    /// Of these, those of which the receiver knew perhaps before: [`Told::Maybe`].
    pub(crate) maybe_known: Vec<u64>,
    pub(crate) retry_at: Option<i64>,
}

/// Alerts of which a receiver is told together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) node: usize,
    pub(crate) receiver: usize,
    pub(crate) key: Box<str>,
    pub(crate) hash: u128,
    /// Numbers of its alerts: the order in which they came.
    pub(crate) members: BTreeSet<u64>,
    /// Those of which something is to be told.
    pub(crate) changed: BTreeSet<u64>,
    /// Those of which nothing is told as long as they are silenced or inhibited.
    pub(crate) suppressed: BTreeSet<u64>,
    pub(crate) next_flush: i64,
    /// When the receiver was told last, 0 for never.
    pub(crate) last_sent: i64,
    /// Apart: of many groups few have one.
    pub(crate) pending: Option<Box<Pending>>,
    /// Its place among those who wait for its receiver.
    pub(crate) queued: Option<u64>,
    /// Whether its time came while a notification was under way.
    pub(crate) due: bool,
    /// Alertmanager: the last alert of a repetition that is under way.
    pub(crate) resent_to: Option<u64>,
    pub(crate) resend_at: i64,
}

/// What waits for one receiver.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// By the order in which they came.
    pub(crate) waiting: BTreeSet<(u64, u32)>,
    pub(crate) next_place: u64,
    /// By the time when they may be tried again.
    pub(crate) retries: BTreeSet<(i64, u32)>,
    pub(crate) in_flight: usize,
    /// In flight or to be tried again.
    pub(crate) pending: usize,
}
