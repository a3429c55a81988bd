//! `alert-router test`: which routes an alert takes, and why.

use std::fmt::Write as _;

use records::{Alert, AlertState};
use service::HumanDuration;

use crate::labels::Labels;
use crate::route::{Route, Step};
use crate::routing::Routing;
use crate::silence::Silences;

/// What becomes of an alert at `now`, for people. `silences` are `None` where nobody could be asked.
#[must_use]
pub fn explain(routing: &Routing, alert: &Alert<'_>, silences: Result<&Silences, &str>, now: i64) -> String {
    let labels = Labels::of(alert);
    let mut text = String::from("labels\n");
    for (name, value) in labels.iter() {
        line(&mut text, format!("  {name}={value:?}"));
    }
    line(&mut text, "routes");
    routing.root.explain(&labels, 0, &mut |route, depth, step| {
        let indent = "  ".repeat(depth + 1);
        let matchers: Vec<String> = route.matchers.iter().map(ToString::to_string).collect();
        let matchers = if matchers.is_empty() { "every alert".to_owned() } else { matchers.join(", ") };
        let why = match step {
            Step::Matched if route.goes_on => "matches, and goes on to the next".to_owned(),
            Step::Matched => "matches".to_owned(),
            Step::Failed(matcher) => {
                format!("does not match: {matcher}, the alert has {:?}", labels.get(matcher.name()))
            }
            Step::NotAsked => "not asked: a route before it matches and does not go on".to_owned(),
        };
        line(&mut text, format!("{indent}{} ({matchers}): {why}", route.place));
    });
    let mut taken = Vec::new();
    routing.root.matching(&labels, &mut taken);
    for route in taken {
        tell(&mut text, routing, route, &labels, now);
    }
    line(&mut text, "suppression");
    if alert.state == AlertState::Resolved {
        line(&mut text, "  none: that an alert is over is told to who was told that it fires");
    }
    match silences {
        Err(error) => line(&mut text, format!("  silences: not known ({error})")),
        Ok(silences) => match silences.silencing(&labels, now) {
            Some(id) => line(&mut text, format!("  silenced by {id}")),
            None => line(&mut text, "  not silenced"),
        },
    }
    let mut targeted = false;
    for (number, rule) in routing.inhibit.iter().enumerate() {
        if labels.fulfil(&rule.target) {
            targeted = true;
            let source: Vec<String> = rule.source.iter().map(ToString::to_string).collect();
            let equal: Vec<String> = rule.equal.iter().map(|name| format!("{name}={:?}", labels.get(name))).collect();
            let same = if equal.is_empty() { String::new() } else { format!(" and has {}", equal.join(", ")) };
            line(&mut text, format!("  inhibit[{number}]: while an alert fires with {}{same}", source.join(", ")));
        }
    }
    if !targeted {
        line(&mut text, "  not inhibited by any rule");
    }
    text
}

fn tell(text: &mut String, routing: &Routing, route: &Route, labels: &Labels<'_>, now: i64) {
    let receiver = &routing.receivers[route.receiver];
    line(text, format!("taken: {} -> receiver {}", route.place, receiver.name));
    line(text, format!("  group {}", route.group_key(labels)));
    if receiver.style.is_immediate() {
        line(text, "  told at once");
    } else {
        let shown = |millis| HumanDuration::from_millis(millis).unwrap_or_default();
        let timing = route.timing;
        line(
            text,
            format!(
                "  group_wait {}, group_interval {}, repeat_interval {}",
                shown(timing.group_wait),
                shown(timing.group_interval),
                shown(timing.repeat_interval)
            ),
        );
    }
    let muting: Vec<&str> = routing.muting(route, now).collect();
    if !muting.is_empty() {
        line(text, format!("  muted now, by {}", muting.join(", ")));
    } else if !route.mute_times.is_empty() {
        line(text, format!("  not muted now (mute times {})", route.mute_times.join(", ")));
    }
}

fn line(text: &mut String, line: impl std::fmt::Display) {
    let _ = writeln!(text, "{line}");
}
