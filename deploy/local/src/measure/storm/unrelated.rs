//! One alert a second for a route of its own, and how long each takes to get there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rdkafka::Message as _;

use super::alerts::{Sender, firing};
use super::{Delays, PATIENCE, fingerprints, now};
use crate::broker::{Broker, Follower};

/// The route's topic.
pub(super) const TOPIC: &str = "recwatch.routes.unrelated.v1";
/// The rule of these alerts.
pub(super) const RULE: &str = "unrelated";

const EVERY: Duration = Duration::from_secs(1);

/// Sends the alerts and reads the route.
pub(super) struct Unrelated {
    sender: Sender,
    follower: Follower,
    number: u64,
    under_way: BTreeMap<String, Instant>,
    delays: Delays,
}

impl Unrelated {
    /// Sends the first one and waits for it: it finds clients that are not connected yet, and is not counted.
    ///
    /// # Errors
    /// It does not come.
    pub(super) fn begin(brokers: &str, schema: i32) -> Result<Self> {
        let partitions = Broker::new(brokers)?.partitions(TOPIC)?.unwrap_or(0);
        let mut unrelated = Self {
            sender: Sender::new(brokers, schema)?,
            follower: Follower::new(brokers, TOPIC, partitions)?,
            number: 0,
            under_way: BTreeMap::new(),
            delays: Delays::default(),
        };
        unrelated.send()?;
        unrelated.wait_for_all()?;
        unrelated.delays = Delays::default();
        Ok(unrelated)
    }

    /// Sends an alert each second until it is over, and waits for all of them: their delays.
    ///
    /// # Errors
    /// One cannot be sent, does not come, or comes twice.
    pub(super) fn delays(mut self, is_over: impl Fn() -> bool) -> Result<Delays> {
        let mut next = Instant::now();
        loop {
            // asked first, so that what is due until then is sent however late that is seen
            let is_over = is_over();
            while Instant::now() >= next {
                self.send()?;
                next += EVERY;
            }
            if is_over {
                break;
            }
            self.read()?;
        }
        self.wait_for_all()?;
        Ok(self.delays)
    }

    fn send(&mut self) -> Result<()> {
        let alert = firing(RULE, self.number, now());
        self.number += 1;
        self.under_way.insert(alert.fingerprint.to_string(), Instant::now());
        self.sender.send(&alert)
    }

    fn wait_for_all(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.under_way.is_empty() {
            let count = self.under_way.len();
            ensure!(begun.elapsed() < PATIENCE, "{count} alerts are not told on {TOPIC} within {PATIENCE:?}");
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let Self { under_way, delays, .. } = self;
        self.follower.read_more(Duration::from_millis(2), |message| {
            let arrived = Instant::now();
            for fingerprint in fingerprints(message.payload().unwrap_or_default())? {
                let sent = under_way.remove(&fingerprint);
                let sent = sent.with_context(|| format!("{TOPIC} tells of {fingerprint}, which is not under way"))?;
                delays.add(arrived - sent);
            }
            Ok(())
        })
    }
}
