//! A group's alerts as the body of a notification.

use serde_json::Value;

use crate::labels::Labels;
use crate::payload::{Frame, Notification};
use crate::routing::Style;

use super::Core;
use super::changes::Key;
use super::held::{Membership, Told};

/// An Alertmanager lets an alert end that it is not told of for as many repetitions.
const MISSED_RESENDS: i64 = 4;

impl Core {
    /// The notification that tells of these changed alerts; for those who are told of groups, with the group's other alerts
    /// that fire behind them. `news` is cut to what fits where the rest can be told by a next one.
    pub(super) fn render(&mut self, id: u32, news: &mut Vec<u64>, now: i64) -> Option<Vec<u8>> {
        let group = self.groups.get(&id)?;
        let style = &self.routing.receivers[group.receiver].style;
        if style.is_immediate() {
            let (notification, fits) = self.collect(id, news, usize::MAX);
            news.truncate(fits);
            let firing = news.iter().any(|id| self.alerts.get(id).is_some_and(|held| held.firing));
            return self.body(id, &notification, firing, 0, now);
        }
        let others = self.firing_members(id, news);
        let firing_news = news.iter().filter(|id| self.alerts.get(*id).is_some_and(|held| held.firing)).count();
        let total = news.len() + others.len();
        let max_alerts = self.routing.receivers[self.groups.get(&id)?.receiver].max_alerts;
        let mut listed: Vec<u64> = news.iter().copied().take(max_alerts).collect();
        let mut suppressed = Vec::new();
        let mut firing = firing_news > 0;
        for other in others {
            if firing && listed.len() >= max_alerts {
                break;
            }
            if self.is_suppressed(other, now) {
                suppressed.push(other);
                continue;
            }
            firing = true;
            if listed.len() < max_alerts {
                listed.push(other);
            }
        }
        let (notification, fits) = self.collect(id, &listed, max_alerts);
        let truncated = total - suppressed.len() - fits;
        if !firing {
            self.left_out(id, &suppressed);
        }
        self.body(id, &notification, firing, truncated, now)
    }

    /// The receiver is told that the group is over, but these alerts fire on: they are news once nothing suppresses them.
    fn left_out(&mut self, group_id: u32, alerts: &[u64]) {
        for &id in alerts {
            if let Some(membership) = self.alerts.get_mut(&id).and_then(|held| held.membership(group_id)) {
                membership.told = Told::Maybe;
                self.changes.put(Key::Told(group_id, id), &membership.state());
            }
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.suppressed.insert(id);
            }
        }
    }

    /// The notification that repeats what is known, if it is time for one.
    pub(super) fn repetition(&mut self, id: u32, now: i64) -> Option<Vec<u8>> {
        let group = self.groups.get(&id)?;
        let receiver = &self.routing.receivers[group.receiver];
        match receiver.style {
            Style::Topic(_) | Style::Lines => None,
            Style::Webhook | Style::PagerDuty => {
                let node = &self.nodes[group.node];
                let is_due = group.last_sent > 0 && now - group.last_sent >= node.timing.repeat_interval;
                if !is_due || node.is_muted(now) {
                    return None;
                }
                let members = self.firing_members(id, &[]);
                if members.into_iter().all(|member| self.is_retired(id, member) || self.is_suppressed(member, now)) {
                    return None;
                }
                self.render(id, &mut Vec::new(), now)
            }
            // also where it is muted: it would tell that what it hears nothing of is over
            Style::Alertmanager { resend_interval } => {
                if group.resent_to.is_none() && now < group.resend_at {
                    return None;
                }
                let after = group.resent_to.map_or(0, |last| last + 1);
                let is_repeated = |member: &u64| self.knows(id, *member) && !self.is_retired(id, *member);
                let members = group.members.range(after..).copied().filter(is_repeated);
                let mut next: Vec<u64> = members.take(receiver.max_alerts).collect();
                let (notification, fits) = self.collect(id, &next, usize::MAX);
                next.truncate(fits);
                let group = self.groups.get_mut(&id)?;
                group.resent_to = next.last().copied();
                if next.is_empty() {
                    group.resend_at = now + resend_interval;
                    return None;
                }
                self.body(id, &notification, true, 0, now)
            }
        }
    }

    /// Whether the group's receiver knows that the alert fires, and it does.
    fn knows(&self, group: u32, id: u64) -> bool {
        let is_told = matches!(self.told(group, id), Some(Told::Firing | Told::Maybe));
        is_told && self.alerts.get(&id).is_some_and(|held| held.firing)
    }

    /// What the group's receiver was told of one of its alerts.
    pub(super) fn told(&self, group: u32, id: u64) -> Option<Told> {
        self.membership(group, id).map(|found| found.told)
    }

    fn is_retired(&self, group: u32, id: u64) -> bool {
        self.membership(group, id).is_some_and(|found| found.retired)
    }

    pub(super) fn membership(&self, group: u32, id: u64) -> Option<&Membership> {
        self.alerts.get(&id)?.memberships.iter().find(|membership| membership.group == group)
    }

    /// The group's alerts of which its receiver knows that they fire, without those that are listed already.
    fn firing_members(&self, id: u32, without: &[u64]) -> Vec<u64> {
        let without: std::collections::BTreeSet<u64> = without.iter().copied().collect();
        let Some(group) = self.groups.get(&id) else { return Vec::new() };
        group.members.iter().copied().filter(|member| !without.contains(member) && self.knows(id, *member)).collect()
    }

    /// The first of these alerts that fit, and how many they are.
    fn collect(&mut self, id: u32, alerts: &[u64], limit: usize) -> (Notification, usize) {
        let mut notification = Notification::default();
        let Some(group) = self.groups.get(&id) else { return (notification, 0) };
        let group_by = &self.nodes[group.node].group_by;
        for (index, alert) in alerts.iter().enumerate() {
            if index >= limit {
                return (notification, index);
            }
            let Some(held) = self.alerts.get(alert) else { continue };
            // it was decoded before
            let Ok(record) = self.decoder.decode(None, Some(&held.value)) else { continue };
            if !notification.add(&record, &Labels::of(&record), group_by, held.firing) {
                return (notification, index);
            }
        }
        (notification, alerts.len())
    }

    fn body(&self, id: u32, notification: &Notification, firing: bool, truncated: usize, now: i64) -> Option<Vec<u8>> {
        let group = self.groups.get(&id)?;
        let receiver = &self.routing.receivers[group.receiver];
        let external_url = &self.routing.external_url;
        let frame = Frame { receiver: &receiver.name, group_key: &group.key, external_url, firing, truncated };
        let value: Value = match receiver.style {
            Style::Alertmanager { resend_interval } => {
                notification.alertmanager(&frame, now, now + MISSED_RESENDS * resend_interval)
            }
            Style::PagerDuty => notification.pager_duty(&frame, &format!("recwatch-{:032x}", group.hash)),
            Style::Topic(_) | Style::Lines | Style::Webhook => notification.webhook(&frame),
        };
        Some(value.to_string().into_bytes())
    }
}
