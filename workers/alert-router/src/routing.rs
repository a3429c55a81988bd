//! Everything that the core is configured with.

use std::collections::BTreeMap;

use crate::inhibition;
use crate::labels::GroupBy;
use crate::mute_time::MuteTime;
use crate::route::{Route, Timing};

/// What a receiver takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Style {
    /// Records of this topic: each change of an alert once, in the transaction that notes it.
    Topic(String),
    /// Lines of a file: each change of an alert, at once.
    Lines,
    /// Alertmanager's alerts: each change at once, and all that fire again every so many ms.
    Alertmanager {
        /// From one to the next repetition.
        resend_interval: i64,
    },
    /// Alertmanager's webhook: a group's alerts, when its route says.
    Webhook,
    /// PagerDuty's events: a group is an incident.
    PagerDuty,
}

impl Style {
    /// From one time of a group to the next, in ms, where its route says `group_interval`.
    pub(crate) fn interval(&self, group_interval: i64) -> i64 {
        match self {
            Self::Alertmanager { resend_interval } => group_interval.min(*resend_interval),
            _ => group_interval,
        }
    }

    /// As configurations call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Topic(_) => "topic",
            Self::Lines => "file",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Webhook => "webhook",
            Self::PagerDuty => "pagerduty",
        }
    }

    /// Whether it is told at once; else when its route says.
    #[must_use]
    pub fn is_immediate(&self) -> bool {
        !matches!(self, Self::Webhook | Self::PagerDuty)
    }
}

/// How a notification is repeated that was not taken, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Before the first repetition; doubled for each further one.
    pub first_pause: i64,
    /// The longest pause.
    pub longest_pause: i64,
    /// After this long it is given up.
    pub give_up_after: i64,
}

/// A receiver, as far as the core decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub style: Style,
    /// Whether it is told that alerts are over.
    pub send_resolved: bool,
    /// Alerts in one notification at most.
    pub max_alerts: usize,
    /// Requests under way at one time.
    pub concurrency: usize,
    /// How it is repeated.
    pub retry: Retry,
}

/// What groups need to know of their route.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) group_by: GroupBy,
    pub(crate) timing: Timing,
    mute_times: Vec<MuteTime>,
}

impl Node {
    pub(crate) fn is_muted(&self, now: i64) -> bool {
        self.mute_times.iter().any(|time| time.contains(now))
    }
}

/// The whole routing.
#[derive(Debug, Clone)]
pub struct Routing {
    /// The tree.
    pub root: Route,
    /// The receivers, by their index in routes.
    pub receivers: Vec<Receiver>,
    /// Inhibition.
    pub inhibit: Vec<inhibition::Rule>,
    /// Mute times by name.
    pub mute_times: BTreeMap<String, Vec<MuteTime>>,
    /// Where this router is found, for people who are told; may be empty.
    pub external_url: String,
}

impl Routing {
    /// The nodes of the tree, by [`Route::index`].
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let of = |route: &Route| Node {
            group_by: route.group_by.clone(),
            timing: route.timing,
            mute_times: route
                .mute_times
                .iter()
                .filter_map(|name| self.mute_times.get(name))
                .flatten()
                .cloned()
                .collect(),
        };
        self.root.all().into_iter().map(of).collect()
    }

    /// The names of the route's mute times that hold at `now`.
    pub fn muting<'a>(&'a self, route: &'a Route, now: i64) -> impl Iterator<Item = &'a str> {
        let holds = move |name: &&String| {
            self.mute_times.get(*name).is_some_and(|times| times.iter().any(|time| time.contains(now)))
        };
        route.mute_times.iter().filter(holds).map(String::as_str)
    }
}
