//! When groups tell, and what: from changed alerts to notifications.

use std::sync::Arc;

use crate::labels::Labels;
use crate::routing::Style;

use super::Core;
use super::changes::{Key, PendingState, Send, TopicRecord};
use super::held::{Pending, Told};

/// News in one notification at most, in its list or not: what is beyond follows in the next one at once. Bounds how long
/// one group holds up all others.
pub(super) const MAX_NEWS: usize = 5_000;

/// Smaller steps of the clock, as when it is slowed down, are waited for.
const MAX_STEP_BACK: i64 = 1_000;

/// Notifications of a receiver that may wait to be repeated; further groups wait before theirs are made.
const MAX_PENDING: usize = 64;

impl Core {
    /// Does what is due at `now`: groups whose time has come, then notifications for receivers that can take one.
    pub fn advance(&mut self, now: i64) {
        self.set_clock(now);
        self.silences.forget_ended(now);
        while let Some(&(at, group)) = self.timers.first()
            && at <= now
        {
            self.timers.remove(&(at, group));
            self.flush(group, now);
        }
        for receiver in 0..self.queues.len() {
            self.dispatch(receiver, now);
        }
    }

    /// Says what time it is: before anything is taken, where the clock may have been set back.
    pub fn set_clock(&mut self, now: i64) {
        if self.clock - now > MAX_STEP_BACK {
            self.set_back(self.clock - now);
        }
        self.clock = now;
    }

    /// The clock was set back by so many ms: what is to happen after a while happens after that while.
    fn set_back(&mut self, by: i64) {
        self.timers = std::mem::take(&mut self.timers).into_iter().map(|(at, group)| (at - by, group)).collect();
        for group in self.groups.values_mut() {
            group.next_flush -= by;
            group.resend_at -= by;
            // 0 is never
            group.last_sent = if group.last_sent > 0 { (group.last_sent - by).max(1) } else { 0 };
            if let Some(pending) = &mut group.pending {
                pending.first_at -= by;
                pending.made_at -= by;
                pending.retry_at = pending.retry_at.map(|at| at - by);
            }
        }
        for queue in &mut self.queues {
            queue.retries =
                std::mem::take(&mut queue.retries).into_iter().map(|(at, group)| (at - by, group)).collect();
        }
    }

    /// The group's time has come.
    fn flush(&mut self, id: u32, now: i64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let node = &self.nodes[group.node];
        let style = &self.routing.receivers[group.receiver].style;
        let interval = style.interval(node.timing.group_interval);
        // a time that lies far back, after a pause of the process, is not caught up with
        group.next_flush = if group.next_flush + interval > now { group.next_flush + interval } else { now + interval };
        self.timers.insert((group.next_flush, id));
        // what was silenced or inhibited may not be any more
        let mut suppressed = std::mem::take(&mut group.suppressed);
        group.changed.append(&mut suppressed);
        let is_muted = node.is_muted(now);
        let repeats = match style {
            Style::Topic(_) | Style::Lines => false,
            Style::Alertmanager { .. } => now >= group.resend_at,
            Style::Webhook | Style::PagerDuty => {
                !is_muted && group.last_sent > 0 && now - group.last_sent >= node.timing.repeat_interval
            }
        };
        if (is_muted || group.changed.is_empty()) && !repeats {
            return;
        }
        if matches!(style, Style::Topic(_)) {
            let changed = group.changed.iter().copied().collect();
            self.write(id, changed, now);
        } else if group.pending.is_some() {
            group.due = true;
        } else {
            self.enqueue(id);
        }
    }

    pub(super) fn enqueue(&mut self, id: u32) {
        if let Some(group) = self.groups.get_mut(&id)
            && group.queued.is_none()
            && group.pending.is_none()
        {
            let queue = &mut self.queues[group.receiver];
            group.queued = Some(queue.next_place);
            queue.waiting.insert((queue.next_place, id));
            queue.next_place += 1;
        }
    }

    fn dispatch(&mut self, receiver: usize, now: i64) {
        loop {
            let concurrency = self.routing.receivers[receiver].concurrency;
            let queue = &mut self.queues[receiver];
            if queue.in_flight >= concurrency {
                return;
            }
            if let Some(&(at, group)) = queue.retries.first()
                && at <= now
            {
                queue.retries.remove(&(at, group));
                self.retry(group, now);
            } else if queue.pending < MAX_PENDING
                && let Some((_, group)) = queue.waiting.pop_first()
            {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.queued = None;
                }
                self.prepare(group, now, None);
            } else {
                return;
            }
        }
    }

    /// Sends a notification again, or in its place a newer one if the group has changed, or it says what holds no more.
    fn retry(&mut self, id: u32, now: i64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let has_news = !group.changed.is_empty();
        let is_stale = match self.routing.receivers[group.receiver].style {
            // it says until when alerts fire
            Style::Alertmanager { resend_interval } => {
                group.pending.as_ref().is_some_and(|pending| now - pending.made_at >= resend_interval)
            }
            _ => false,
        };
        if (has_news || is_stale)
            && let Some(old) = group.pending.take()
        {
            self.queues[group.receiver].pending -= 1;
            if old.covers.is_empty() {
                // a repetition begins anew
                group.resent_to = None;
            }
            if old.lasting {
                self.changes.delete(Key::Pending(id));
            }
            self.take_back(id, &old);
            self.prepare(id, now, Some(old));
            return;
        }
        let Some(pending) = &mut group.pending else { return };
        pending.retry_at = None;
        // nothing new, but only who can commit may send: a newer instance may have told what came after
        self.changes.put(Key::Router, &self.counters);
        let send = Send {
            receiver: group.receiver,
            group: id,
            number: pending.number,
            idempotency_key: pending.idempotency_key.clone(),
            body: pending.body.clone(),
        };
        self.queues[group.receiver].in_flight += 1;
        self.changes.sends.push(send);
    }

    /// Makes the group's next notification out of its newest state, if there is anything to tell. `replaces` is one that
    /// was not taken.
    fn prepare(&mut self, id: u32, now: i64, replaces: Option<Box<Pending>>) {
        let Some(group) = self.groups.get(&id) else { return };
        let receiver = &self.routing.receivers[group.receiver];
        let (is_immediate, max_alerts) = (receiver.style.is_immediate(), receiver.max_alerts);
        let is_muted = self.nodes[group.node].is_muted(now);
        let candidates: Vec<u64> = group.changed.iter().copied().collect();
        let limit = if is_immediate { max_alerts } else { MAX_NEWS };
        let mut news = if is_muted { Vec::new() } else { self.news(id, &candidates, limit, now) };
        let prepared = if !news.is_empty() {
            self.render(id, &mut news, now).map(|body| (body, news, true))
        } else {
            self.repetition(id, now).map(|body| (body, Vec::new(), !is_immediate))
        };
        let Some((body, covers, lasting)) = prepared else {
            self.end_if_empty(id);
            return;
        };
        let number = self.number();
        let maybe_known = covers.iter().copied().filter(|alert| self.told(id, *alert) == Some(Told::Maybe)).collect();
        self.mark(id, &covers, number);
        let Some(group) = self.groups.get_mut(&id) else { return };
        let pending = Pending {
            number,
            first_at: replaces.as_ref().map_or(now, |old| old.first_at),
            made_at: now,
            attempts: replaces.as_ref().map_or(0, |old| old.attempts),
            uncertain: replaces.as_ref().is_some_and(|old| old.uncertain),
            lasting,
            idempotency_key: format!("{:032x}-{:x}-{number}", group.hash, self.counters.born),
            body: Arc::from(body),
            covers,
            maybe_known,
            retry_at: None,
        };
        let (receiver, idempotency_key, body) = (group.receiver, pending.idempotency_key.clone(), pending.body.clone());
        if lasting {
            let state = PendingState {
                number,
                first_at: pending.first_at,
                idempotency_key: &pending.idempotency_key,
                body: &pending.body,
            };
            self.changes.put(Key::Pending(id), &state);
        }
        group.pending = Some(Box::new(pending));
        self.queues[receiver].pending += 1;
        self.queues[receiver].in_flight += 1;
        self.changes.sends.push(Send { receiver, group: id, number, idempotency_key, body });
    }

    fn number(&mut self) -> u64 {
        let number = self.counters.next_notification;
        self.counters.next_notification += 1;
        self.changes.put(Key::Router, &self.counters);
        number
    }

    /// Of the candidates those that are news and not suppressed, at most `limit`; others of which nothing is to be told
    /// are put aside.
    fn news(&mut self, group_id: u32, candidates: &[u64], limit: usize, now: i64) -> Vec<u64> {
        let mut news = Vec::new();
        let mut over = Vec::new();
        for &id in candidates {
            if news.len() >= limit {
                break;
            }
            let Some(held) = self.alerts.get_mut(&id) else { continue };
            let firing = held.firing;
            let Some(membership) = held.membership(group_id).copied() else { continue };
            if !membership.is_news(firing) {
                if !firing && membership.told == Told::Nothing {
                    over.push(id);
                } else if let Some(group) = self.groups.get_mut(&group_id) {
                    group.changed.remove(&id);
                }
            } else if firing && self.is_suppressed(id, now) {
                if let Some(group) = self.groups.get_mut(&group_id) {
                    group.changed.remove(&id);
                    group.suppressed.insert(id);
                }
            } else {
                news.push(id);
            }
        }
        for id in over {
            self.leave(group_id, id);
        }
        news
    }

    /// Whether nobody is to be told that the alert fires.
    pub(super) fn is_suppressed(&mut self, id: u64, now: i64) -> bool {
        let Some(held) = self.alerts.get(&id) else { return false };
        if self.silences.active(now) == 0 && self.inhibitions.rules().next().is_none() {
            return false;
        }
        let Ok(alert) = self.decoder.decode(None, Some(&held.value)) else { return false };
        let labels = Labels::of(&alert);
        self.silences.silencing(&labels, now).is_some() || self.inhibitions.inhibiting(&labels).is_some()
    }

    /// Notes that a notification tells of these alerts.
    fn mark(&mut self, group_id: u32, covers: &[u64], number: u64) {
        for &id in covers {
            let Some(held) = self.alerts.get_mut(&id) else { continue };
            let told = if held.firing { Told::Firing } else { Told::Resolved };
            if let Some(membership) = held.membership(group_id) {
                membership.told = told;
                membership.by = number;
                self.changes.put(Key::Told(group_id, id), &membership.state());
            }
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.changed.remove(&id);
            }
        }
    }

    /// Tells a topic of changed alerts: in the same transaction, so that it is told exactly once.
    pub(super) fn write(&mut self, id: u32, candidates: Vec<u64>, now: i64) {
        let Some(group) = self.groups.get(&id) else { return };
        let receiver = &self.routing.receivers[group.receiver];
        let Style::Topic(topic) = receiver.style.clone() else { return };
        let (max_alerts, key, hash) = (receiver.max_alerts, group.key.clone(), group.hash);
        let mut news = self.news(id, &candidates, usize::MAX, now);
        while !news.is_empty() {
            let mut told: Vec<u64> = news.iter().copied().take(max_alerts).collect();
            let Some(value) = self.render(id, &mut told, now) else { return };
            news.drain(..told.len());
            let number = self.number();
            let notification = format!("{hash:032x}-{:x}-{number}", self.counters.born);
            self.changes.topics.push(TopicRecord { topic: topic.clone(), key: key.to_string(), value, notification });
            self.mark(id, &told, number);
            for alert in told {
                if self.alerts.get(&alert).is_some_and(|held| !held.firing) {
                    self.leave(id, alert);
                }
            }
        }
    }
}
