//! Whether alert-router has told its topic of each alert's beginning and end, and once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::Message;
use records::{Alert, AlertState, Decoder, DecoderConfig, Registry};

use super::audit::PATIENCE;
use super::metric_workers::{ALERTS, ROUTE_TOPIC, ROUTER};
use crate::broker::{Broker, Follower};
use crate::routes;

/// A transition that is told: an alert's life, the number of its record there, and whether it fires.
type Transition = (String, i64, bool);

/// The router's topic beside the alerts' topic.
#[derive(Debug, Default)]
pub(super) struct RouteAudit {
    /// Records of alerts.
    pub alerts: u64,
    expected: Vec<Transition>,
    /// How often each was told.
    told: BTreeMap<Transition, u64>,
}

impl RouteAudit {
    /// Reads all alerts there are, then what was told, until all of that is there or for a while nothing more comes.
    ///
    /// # Errors
    /// A topic cannot be read, or holds what does not belong there.
    pub(super) fn read(brokers: &str, broker: &Broker, registry: &Registry) -> Result<Self> {
        let (alerts, expected) = expected(broker, registry)?;
        let mut audit = Self { alerts, expected, told: BTreeMap::new() };
        let follower = Follower::new(brokers, ROUTE_TOPIC, broker.partitions(ROUTE_TOPIC)?.unwrap_or(0))?;
        let mut grown = Instant::now();
        loop {
            let before = audit.told();
            follower.read_more(Duration::from_millis(200), |message| audit.take(message.payload()))?;
            if audit.told() > before {
                grown = Instant::now();
            } else if audit.told() >= audit.expected.len() as u64 || grown.elapsed() > PATIENCE {
                return Ok(audit);
            }
        }
    }

    /// Transitions that were told.
    pub(super) fn told(&self) -> u64 {
        self.told.values().sum()
    }

    /// What is missing, there twice, or told though no worker said so.
    pub(super) fn problems(&self) -> Vec<String> {
        let name = |(life, sequence, firing): &Transition| {
            format!("the {} of alert {life} (record {sequence})", if *firing { "firing" } else { "end" })
        };
        let missing = self.expected.iter().filter(|transition| !self.told.contains_key(*transition));
        let missing = missing.map(|transition| format!("{ROUTER} has not told {ROUTE_TOPIC} {}", name(transition)));
        let other = self.told.iter().filter_map(|(transition, count)| {
            if !self.expected.contains(transition) {
                Some(format!("{ROUTER} has told {ROUTE_TOPIC} {}, which no worker has said", name(transition)))
            } else {
                (*count > 1).then(|| format!("{ROUTER} has told {ROUTE_TOPIC} {} {count} times", name(transition)))
            }
        });
        missing.chain(other).collect()
    }

    fn take(&mut self, payload: Option<&[u8]>) -> Result<()> {
        for told in routes::read(payload.unwrap_or_default())? {
            *self.told.entry((told.alert_id, told.sequence, told.firing)).or_default() += 1;
        }
        Ok(())
    }
}

/// How many records of alerts there are, and those that begin or end one: a topic is told of no others.
fn expected(broker: &Broker, registry: &Registry) -> Result<(u64, Vec<Transition>)> {
    let mut decoder: Decoder<Alert<'static>> = Decoder::new(DecoderConfig::default(), Box::new(registry.clone()));
    let mut records = 0;
    let mut lives: BTreeMap<String, BTreeMap<i64, bool>> = BTreeMap::new();
    broker.read_all(ALERTS.name, |message| {
        let at = || format!("{}-{} offset {} is no alert", message.topic(), message.partition(), message.offset());
        let alert = decoder.decode(message.key(), message.payload()).with_context(at)?;
        let firing = alert.state == AlertState::Firing;
        lives.entry(alert.alert_id.to_string()).or_default().insert(alert.sequence, firing);
        records += 1;
        Ok(())
    })?;
    let turns = lives.into_iter().flat_map(|(life, states)| {
        let mut fires = false;
        let turns = states.into_iter().filter(move |(_, firing)| std::mem::replace(&mut fires, *firing) != *firing);
        turns.map(move |(sequence, firing)| (life.clone(), sequence, firing))
    });
    Ok((records, turns.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_told_twice_or_made_up_is_named() {
        let transition = |life: &str, sequence, firing| (life.to_owned(), sequence, firing);
        let audit = RouteAudit {
            alerts: 3,
            expected: vec![transition("a", 1, true), transition("a", 3, false), transition("b", 1, true)],
            told: [(transition("a", 1, true), 2), (transition("b", 1, true), 1), (transition("c", 1, true), 1)].into(),
        };
        assert_eq!(audit.told(), 4);
        let problems = audit.problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("not told") && problems[0].contains("the end of alert a (record 3)"));
        assert!(problems[1].contains("the firing of alert a (record 1) 2 times"));
        assert!(problems[2].contains("alert c") && problems[2].contains("no worker"));
        let good = RouteAudit { told: audit.expected.iter().map(|it| (it.clone(), 1)).collect(), ..audit };
        assert_eq!(good.problems(), [""; 0]);
    }
}
