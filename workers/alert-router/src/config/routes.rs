use std::collections::BTreeMap;

use serde::Deserialize;
use service::Problems;

use super::{duration, matchers};
use crate::labels::GroupBy;
use crate::mute_time::MuteTime;
use crate::route::{Route, Timing};

/// `[route]`, and each of its routes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RouteSection {
    pub receiver: Option<String>,
    pub matchers: Vec<String>,
    #[serde(rename = "continue")]
    pub goes_on: bool,
    pub group_by: Option<Vec<String>>,
    pub group_wait: Option<String>,
    pub group_interval: Option<String>,
    pub repeat_interval: Option<String>,
    pub mute_times: Vec<String>,
    pub routes: Vec<RouteSection>,
}

/// Compiles the tree. An unknown receiver counts as the first one while the rest is checked.
pub(super) fn compile(
    section: &RouteSection,
    receivers: &[&str],
    mute_times: &BTreeMap<String, Vec<MuteTime>>,
    problems: &mut Problems,
) -> Route {
    let defaults = Route {
        index: 0,
        place: String::new(),
        path: String::new(),
        matchers: Vec::new(),
        goes_on: false,
        receiver: 0,
        group_by: GroupBy::Names(Vec::new()),
        timing: Timing { group_wait: 30_000, group_interval: 300_000, repeat_interval: 14_400_000 },
        mute_times: Vec::new(),
        routes: Vec::new(),
    };
    let mut compiler = Compiler { receivers, mute_times, problems, next_index: 0 };
    compiler.route(section, "route".to_owned(), &defaults)
}

struct Compiler<'a> {
    receivers: &'a [&'a str],
    mute_times: &'a BTreeMap<String, Vec<MuteTime>>,
    problems: &'a mut Problems,
    next_index: usize,
}

impl Compiler<'_> {
    fn route(&mut self, section: &RouteSection, place: String, parent: &Route) -> Route {
        let index = self.next_index;
        self.next_index += 1;
        let matchers = matchers(&format!("{place}.matchers"), &section.matchers, self.problems);
        let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        let own_path = format!("{{{}}}", texts.join(","));
        let mut route = Route {
            index,
            path: if index == 0 { own_path } else { format!("{}/{own_path}", parent.path) },
            matchers,
            goes_on: section.goes_on,
            receiver: self.receiver(section, &place).unwrap_or(parent.receiver),
            group_by: self.group_by(section, &place).unwrap_or_else(|| parent.group_by.clone()),
            timing: self.timing(section, &place, parent.timing),
            mute_times: section.mute_times.clone(),
            routes: Vec::new(),
            place,
        };
        for name in &section.mute_times {
            if !self.mute_times.contains_key(name) {
                let known: Vec<&str> = self.mute_times.keys().map(String::as_str).collect();
                let allowed = format!("a name in [mute_times] ({})", listed(&known));
                self.problems.add(format!("{}.mute_times", route.place), format!("{name:?}"), allowed);
            }
        }
        for (number, child) in section.routes.iter().enumerate() {
            let place = format!("{}.routes[{number}]", route.place);
            let child = self.route(child, place, &route);
            self.check_reach(&child, &route.routes, &section.routes);
            route.routes.push(child);
        }
        route
    }

    /// Whether an earlier sibling takes everything that this route could. Where a matcher cannot be read, nobody knows.
    fn check_reach(&mut self, route: &Route, earlier: &[Route], sections: &[RouteSection]) {
        let is_whole = |route: &Route, number: usize| route.matchers.len() == sections[number].matchers.len();
        if !is_whole(route, earlier.len()) {
            return;
        }
        let takes_all = |(number, sibling): &(usize, &Route)| {
            is_whole(sibling, *number)
                && !sibling.goes_on
                && sibling.matchers.iter().all(|matcher| route.matchers.contains(matcher))
        };
        if let Some((_, sibling)) = earlier.iter().enumerate().find(takes_all) {
            let what = if sibling.matchers.is_empty() { "no matchers" } else { "only matchers that this one has too" };
            let message = format!(
                "never matches: {} before it has {what}, and no continue = true; reorder them, or let that one continue",
                sibling.place
            );
            self.problems.tell(&route.place, message);
        }
    }

    fn receiver(&mut self, section: &RouteSection, place: &str) -> Option<usize> {
        let name = section.receiver.as_ref()?;
        let found = self.receivers.iter().position(|receiver| receiver == name);
        if found.is_none() {
            let near = self.receivers.iter().filter(|known| is_near(name, known)).min_by_key(|known| known.len());
            let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            let allowed = format!("a name in [receivers] ({}){hint}", listed(self.receivers));
            self.problems.add(format!("{place}.receiver"), format!("{name:?}"), allowed);
        }
        found
    }

    fn group_by(&mut self, section: &RouteSection, place: &str) -> Option<GroupBy> {
        let names = section.group_by.as_ref()?;
        if names.iter().any(|name| name == "...") {
            if names.len() > 1 {
                self.problems.add(format!("{place}.group_by"), format!("{names:?}"), "[\"...\"] alone, or labels");
            }
            return Some(GroupBy::All);
        }
        Some(GroupBy::Names(names.clone()))
    }

    fn timing(&mut self, section: &RouteSection, place: &str, parent: Timing) -> Timing {
        let mut read = |name: &str, text: Option<&String>, inherited, least| {
            duration(&format!("{place}.{name}"), text, inherited, least, self.problems)
        };
        Timing {
            group_wait: read("group_wait", section.group_wait.as_ref(), parent.group_wait, 0),
            group_interval: read("group_interval", section.group_interval.as_ref(), parent.group_interval, 1_000),
            repeat_interval: read("repeat_interval", section.repeat_interval.as_ref(), parent.repeat_interval, 1_000),
        }
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "there is none".to_owned() } else { names.join(", ") }
}

/// Whether one is the other with a letter more, less or changed.
fn is_near(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let same_start = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let same_end = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let longer = one.len().max(other.len());
    one.len().abs_diff(other.len()) <= 1 && same_start + same_end + 1 >= longer
}
