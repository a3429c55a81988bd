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
    while !parts.shutdown.requested() {
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
                let was_stalled = working.stalled_since();
                let turn = working.turn();
                match (was_stalled, working.stalled_since()) {
                    (None, Some(_)) => {
                        role.fail("active, but an alert waits until the schema registry tells its schema")
                    }
                    (Some(_), None) => role.remark("active"),
                    _ => {}
                }
                if let Err(lost) = turn {
                    tracing::warn!(lost.error, lost.fenced, "the state is read again");
                    active = None;
                    parts.metrics.active(false);
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
