//! How a notification went, and what follows from that.

use super::Core;
use super::changes::{EXPIRED, GAVE_UP, Key, Letter, REFUSED};
use super::held::{Pending, Told};
use crate::routing::Retry;

/// After so many ms of trying in vain, the end of an alert is told no more: so long Alertmanager, too, knows whom it has
/// told of what.
const ENDS_EXPIRE: i64 = 120 * 3_600_000;

/// What a receiver did with a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has taken it.
    Delivered,
    /// It will not take it, however often it is sent.
    Refused {
        /// What it said.
        message: String,
    },
    /// It has not taken it, this time.
    Failed {
        /// What it said.
        message: String,
        /// Whether it may have acted on it nevertheless.
        reached: bool,
        /// How long it asks to be left alone, in ms.
        retry_after: Option<i64>,
    },
}

impl Core {
    /// Takes the outcome of a notification that was sent. `jitter`, 0 to 1, spreads repetitions in time.
    pub fn outcome(&mut self, group_id: u32, number: u64, outcome: Outcome, now: i64, jitter: f64) {
        let Some(group) = self.groups.get_mut(&group_id) else { return };
        let receiver = group.receiver;
        let Some(pending) = group.pending.as_mut().filter(|pending| pending.number == number) else { return };
        self.queues[receiver].in_flight -= 1;
        let retry = self.routing.receivers[receiver].retry;
        let (reason, message) = match outcome {
            Outcome::Delivered => return self.delivered(group_id, now),
            Outcome::Refused { message } => (REFUSED, message),
            Outcome::Failed { message, reached, retry_after } => {
                pending.attempts = pending.attempts.saturating_add(1);
                pending.uncertain |= reached;
                if now - pending.first_at < retry.give_up_after {
                    let at = now + pause(&retry, pending.attempts, retry_after, jitter);
                    pending.retry_at = Some(at);
                    self.queues[receiver].retries.insert((at, group_id));
                    return;
                }
                (GAVE_UP, message)
            }
        };
        let Some(group) = self.groups.get_mut(&group_id) else { return };
        let Some(pending) = group.pending.take() else { return };
        let key = group.key.to_string();
        // until the group's next time comes
        group.due = false;
        group.resent_to = None;
        self.queues[receiver].pending -= 1;
        if pending.lasting {
            self.changes.delete(Key::Pending(group_id));
        }
        self.take_back(group_id, &pending);
        let expired = self.expired(group_id, &pending, now);
        self.changes.letters.push(Letter {
            receiver: self.routing.receivers[receiver].name.clone(),
            key,
            body: pending.body.clone(),
            idempotency_key: pending.idempotency_key.clone(),
            reason: if expired.is_empty() { reason } else { EXPIRED },
            message,
        });
        for id in expired {
            self.leave(group_id, id);
        }
        self.end_if_empty(group_id);
    }

    /// Of the ends in a notification that was not taken, those that are told no more. Notes of others since when they wait.
    fn expired(&mut self, group_id: u32, pending: &Pending, now: i64) -> Vec<u64> {
        let mut expired = Vec::new();
        for &id in &pending.covers {
            let Some(held) = self.alerts.get_mut(&id).filter(|held| !held.firing) else { continue };
            let Some(membership) = held.membership(group_id) else { continue };
            if membership.untaken_since == 0 {
                membership.untaken_since = now;
                self.changes.put(Key::Told(group_id, id), &membership.state());
            } else if now - membership.untaken_since >= ENDS_EXPIRE {
                expired.push(id);
            }
        }
        expired
    }

    fn delivered(&mut self, group_id: u32, now: i64) {
        let Some(group) = self.groups.get_mut(&group_id) else { return };
        let Some(pending) = group.pending.take() else { return };
        let is_immediate = self.routing.receivers[group.receiver].style.is_immediate();
        self.queues[group.receiver].pending -= 1;
        group.last_sent = now;
        if pending.lasting {
            self.changes.delete(Key::Pending(group_id));
            self.keep_group(group_id);
        }
        for &id in &pending.covers {
            let Some(held) = self.alerts.get_mut(&id) else { continue };
            let firing = held.firing;
            let Some(membership) = held.membership(group_id) else { continue };
            if membership.told == Told::Resolved && membership.by == pending.number {
                if firing && !membership.retired {
                    membership.told = Told::Nothing;
                    self.changes.delete(Key::Told(group_id, id));
                } else {
                    self.leave(group_id, id);
                }
            }
        }
        if let Some(group) = self.groups.get_mut(&group_id) {
            let is_full = pending.covers.len() >= super::flush::MAX_NEWS;
            let goes_on = group.resent_to.is_some() || !group.changed.is_empty() && (is_immediate || is_full);
            if std::mem::take(&mut group.due) || goes_on {
                self.enqueue(group_id);
            }
        }
        self.end_if_empty(group_id);
    }

    /// The receiver does not know what this notification says, or perhaps does: it is news again.
    pub(super) fn take_back(&mut self, group_id: u32, pending: &Pending) {
        for &id in &pending.covers {
            let Some(held) = self.alerts.get_mut(&id) else { continue };
            let firing = held.firing;
            let Some(membership) = held.membership(group_id).filter(|found| found.by == pending.number) else {
                continue;
            };
            membership.told = match membership.told {
                _ if pending.uncertain || pending.maybe_known.contains(&id) => Told::Maybe,
                // that it was over was told to who knew that it fired
                Told::Resolved => Told::Firing,
                _ => Told::Nothing,
            };
            let (told, is_news) = (membership.told, membership.is_news(firing));
            if told == Told::Nothing {
                self.changes.delete(Key::Told(group_id, id));
                if !firing {
                    self.leave(group_id, id);
                    continue;
                }
            } else {
                self.changes.put(Key::Told(group_id, id), &membership.state());
            }
            if let Some(group) = self.groups.get_mut(&group_id)
                && is_news
            {
                group.changed.insert(id);
            }
        }
    }
}

/// Twice as long after each attempt, and of that half to all; no shorter than the receiver asks, within the longest.
fn pause(retry: &Retry, attempts: u32, retry_after: Option<i64>, jitter: f64) -> i64 {
    let doubled = retry.first_pause.saturating_mul(1 << attempts.saturating_sub(1).min(30)).min(retry.longest_pause);
    let spread = (doubled as f64 * (0.5 + 0.5 * jitter.clamp(0.0, 1.0))) as i64;
    spread.max(retry_after.unwrap_or(0).min(retry.longest_pause)).max(1)
}
