//! The last act: a worker's state is given up, and giving it up crashes in the middle. What is read again has to lead to the
//! same rows.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::actor::FAILPOINTS;
use crate::Exit;
use crate::replay::{METRIC_WORKERS, MetricWorker, Run};

/// Where `--reset-state` crashes.
const PLACES: [&str; 2] = ["streaming::group_deleted", "streaming::state_deleted"];
/// How long one try may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long a group may still have members when all its instances have ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a seed has this act: every other one.
pub(super) fn is_on(seed: u64) -> bool {
    seed % 2 == 1
}

/// The worker that a seed resets, and where that crashes.
fn choice(seed: u64) -> (MetricWorker, &'static str) {
    let turn = seed / 2;
    (METRIC_WORKERS[(turn % 3) as usize], PLACES[(turn / 3 % 2) as usize])
}

/// Resets the seed's worker with a crash on the way, starts everything again, and waits until all is processed.
///
/// # Errors
/// The reset does not crash, or does not succeed behind the crash, or not everything is processed again.
pub(super) fn play(run: &mut Run<'_>, seed: u64) -> Result<String> {
    let (worker, place) = choice(seed);
    let armed = [(FAILPOINTS.to_owned(), format!("{place}=return"))];
    // a process that was killed may stay a member until its session is over
    let crash = repeat(|| run.parts().run_once(worker.name, RESET, &armed, DEADLINE), |exit| exit.code.is_none())?;
    ensure!(crash.code.is_none(), "{} {RESET} was to crash at {place}, and ended with {crash}", worker.name);
    let exit = repeat(|| run.parts().run_once(worker.name, RESET, &[], DEADLINE), Exit::success)?;
    ensure!(exit.success(), "{} {RESET} ended with {exit}, after a crash at {place}", worker.name);
    run.restart_workers(&[])?;
    run.complete()?;
    run.stop_workers()?;
    Ok(format!("{} was reset, with a crash at {place}", worker.name))
}

const RESET: &str = "--reset-state";

fn repeat(mut attempt: impl FnMut() -> Result<Exit>, is_enough: impl Fn(&Exit) -> bool) -> Result<Exit> {
    let begun = Instant::now();
    loop {
        let exit = attempt()?;
        if is_enough(&exit) || begun.elapsed() > PATIENCE {
            return Ok(exit);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_dozen_seeds_reset_every_worker_at_every_place() {
        let choices = (0..12).filter(|&seed| is_on(seed)).map(|seed| (choice(seed).0.name, choice(seed).1));
        assert_eq!(choices.collect::<BTreeSet<_>>().len(), 6);
    }
}
