//! Alerts as they come: what alert-router tells its topic, shown at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::Message;

use crate::Progress;
use crate::broker::{Broker, Follower};
use crate::replay::ROUTE_TOPIC;
use crate::routes::{self, Told};

/// Shows each transition when it is committed, until `over` and all that is there then is shown; returns all of them in the
/// order in which they came.
///
/// # Errors
/// The topic cannot be read, or holds what is no notification.
pub(super) fn show(brokers: &str, progress: &dyn Progress, over: &AtomicBool) -> Result<Vec<Told>> {
    let broker = Broker::new(brokers)?;
    let partitions = broker.partitions(ROUTE_TOPIC)?;
    let partitions = partitions.with_context(|| format!("there is no topic {ROUTE_TOPIC}"))?;
    let follower = Follower::new(brokers, ROUTE_TOPIC, partitions)?;
    let mut all = Vec::new();
    let mut most = usize::MAX;
    while all.len() < most {
        if most == usize::MAX && over.load(Ordering::Acquire) {
            most = count(&broker)?;
        }
        follower.read_more(Duration::from_millis(200), |message| {
            for told in routes::read(message.payload().unwrap_or_default())? {
                progress.tell(&text(&told));
                all.push(told);
            }
            Ok(())
        })?;
    }
    Ok(all)
}

/// How many transitions were told by now.
fn count(broker: &Broker) -> Result<usize> {
    let mut count = 0;
    broker.read_all(ROUTE_TOPIC, |message| {
        count += routes::read(message.payload().unwrap_or_default())?.len();
        Ok(())
    })?;
    Ok(count)
}

/// A transition for people: what and where, and below that why.
fn text(told: &Told) -> String {
    let state = if told.firing { "FIRING" } else { "RESOLVED" };
    let (time, severity, rule, place) = (told.time_of_day(), &told.severity, &told.rule, told.place());
    let mut text = format!("{time}  {state:<8}  {severity}  {rule}  {place}\n          {}", told.summary);
    if told.firing && !told.attribution.is_empty() {
        text += &format!("\n          carried by {}", told.attribution);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_is_told_with_its_time_group_and_reason() {
        let mut told = Told {
            alert_id: "a".to_owned(),
            sequence: 1,
            firing: true,
            kind: "threshold".to_owned(),
            rule: "many".to_owned(),
            severity: "warning".to_owned(),
            group: vec![("domain".to_owned(), "books".to_owned())],
            summary: "events is 9, above 8".to_owned(),
            attribution: "domain=books (97 %)".to_owned(),
            window_end: "2026-11-21T03:05:00.000Z".to_owned(),
        };
        let lines = [
            "03:05:00  FIRING    warning  many  domain=books",
            "          events is 9, above 8",
            "          carried by domain=books (97 %)",
        ];
        assert_eq!(text(&told), lines.join("\n"));
        told.firing = false;
        assert_eq!(text(&told), format!("03:05:00  RESOLVED  warning  many  domain=books\n{}", lines[1]));
    }
}
