//! The life of an instance: it stands by, becomes the active one, and may stand by again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service::Health;

use crate::active::{Active, Parts, TakeOverFailure};
use crate::member::{Decision, Member};

/// How long an instance that stands by waits for the group's word.
const STAND_BY: Duration = Duration::from_millis(100);
/// Between two attempts to take over.
const PAUSE: Duration = Duration::from_secs(1);
/// After another instance has shut this one out: by then the group has said who is the active one.
const FENCED_PAUSE: Duration = Duration::from_secs(30);
/// Where brokers refuse records for a reason that stays, the instance ends after this long.
const REFUSED_LIMIT: Duration = Duration::from_secs(60);

/// Works until the end is asked for, and leaves the group.
///
/// # Errors
/// Where a person has to help. What is not committed is made again at the next start.
pub fn run(parts: &Arc<Parts>, health: &Health) -> anyhow::Result<()> {
    let configuration = &parts.configuration;
    let role = health.condition("role");
    role.remark("standing by");
    let member = Member::join(&parts.kafka, &configuration.runtime, &configuration.topics.state)?;
    let mut active: Option<Active> = None;
    let mut is_owner = false;
    let mut not_before = Instant::now();
    // the first and the last time that records were refused so
    let mut refused: Option<(Instant, Instant)> = None;
    let heartbeat = health.heartbeats().of_thread("router");
    while !parts.shutdown.requested() {
        heartbeat
            .turn(Instant::now(), if active.is_some() { "routing alerts" } else { "waiting to become the active one" });
        let wait = if active.is_some() { Duration::ZERO } else { STAND_BY };
        let give_up = || {
            if active.take().is_some() {
                parts.metrics.active(false);
            }
        };
        match member.decisions(wait, give_up)? {
            Some(Decision::Active) => is_owner = true,
            Some(Decision::StandBy) => {
                is_owner = false;
                role.remark("standing by");
                tracing::info!("standing by");
            }
            None => {}
        }
        match &mut active {
            None if is_owner && Instant::now() >= not_before => {
                role.fail("taking over: the state is read");
                // the role says what it is at, for as long as that lasts
                heartbeat.rest();
                match Active::take_over(parts) {
                    Ok(taken) => {
                        active = Some(taken);
                        parts.metrics.active(true);
                        role.remark("active");
                    }
                    Err(TakeOverFailure::Stopped) => {}
                    Err(TakeOverFailure::Later(error)) => {
                        tracing::warn!(error, "taking over is tried again");
                        role.fail(format!("taking over: {error}"));
                        not_before = Instant::now() + PAUSE;
                    }
                    Err(TakeOverFailure::Never(error)) => {
                        anyhow::bail!(
                            "{} cannot be read: {error}. To begin anew (alerts that fire are told again), stop all \
                             instances and run: alert-router --config FILE --reset-state",
                            configuration.topics.state
                        );
                    }
                }
            }
            None => {}
            Some(working) => {
                let turn = working.turn();
                if let Err(lost) = turn {
                    tracing::warn!(lost.error, lost.fenced, "the state is read again");
                    active = None;
                    parts.metrics.active(false);
                    let now = Instant::now();
                    let since = refused.filter(|(_, last)| now.duration_since(*last) < REFUSED_LIMIT / 2);
                    refused = lost.stays.then(|| (since.map_or(now, |(first, _)| first), now));
                    if refused.is_some_and(|(first, _)| now.duration_since(first) >= REFUSED_LIMIT) {
                        anyhow::bail!("records cannot be written, for {REFUSED_LIMIT:?} now: {}", lost.error);
                    }
                    role.fail(format!("the last transaction failed: {}", lost.error));
                    not_before = Instant::now() + if lost.fenced { FENCED_PAUSE } else { PAUSE };
                }
            }
        }
    }
    if let Some(working) = active {
        working.finish();
    }
    Ok(())
}
