//! `cargo stack torture`.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use stack::terminal;
use stack::torture::{Torture, table};

/// Disturb all workers in every way there is, and compare what is left with an undisturbed run.
///
/// Records are published at a pace while processes are killed, frozen, stopped and joined by others, components go away and
/// come back, proxies before them do harm, topics are changed, and hostile records come between the good ones. What is done
/// is decided by the seed; --dry-run prints it. Exit code 0 only if every row, alert and route is there once and as in the
/// undisturbed run, every record ends once, nothing stands still that is not disturbed, and memory and descriptors stay
/// bounded. Of a failure the schedule, what happened, and where the logs are is printed.
///
/// Takes about twice as long as --minutes says; the undisturbed runs, one for each of four recordings, come on top.
#[derive(Debug, Args)]
pub(crate) struct TortureArguments {
    /// A seed, or several: FIRST..LAST, both included.
    #[arg(long, value_name = "N | FIRST..LAST", default_value = "1", value_parser = seeds)]
    seed: (u64, u64),
    /// For how long records are published in each run.
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    minutes: u64,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Keep logs and rows of good runs too.
    #[arg(long)]
    keep: bool,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is neither a number nor FIRST..LAST, e.g. 1..20");
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first <= last { Ok((first, last)) } else { Err(wrong()) }
}

impl TortureArguments {
    pub(crate) fn run(self) -> Result<()> {
        let length = Duration::from_secs(60 * self.minutes);
        let (first, last) = self.seed;
        if self.dry_run {
            (first..=last).for_each(|seed| println!("{}", Torture::schedule(seed, length)));
            return Ok(());
        }
        let progress = terminal::progress();
        let mut torture = Torture::new(length, self.keep, progress.as_ref())?;
        let mut verdicts = Vec::new();
        for seed in first..=last {
            let verdict = torture.run(seed)?;
            if !verdict.is_good() || self.keep {
                println!("\n{}", verdict.report());
            }
            verdicts.push(verdict);
            println!("\n{}", table(&verdicts));
        }
        let bad: Vec<String> =
            verdicts.iter().filter(|verdict| !verdict.is_good()).map(|verdict| verdict.seed.to_string()).collect();
        if !bad.is_empty() {
            bail!("not everything was as it must be with seed {}: see above", bad.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_one_or_a_range() {
        assert_eq!(seeds("7"), Ok((7, 7)));
        assert_eq!(seeds("1..20"), Ok((1, 20)));
        for text in ["", "a", "..", "3..1", "1..", "-1"] {
            assert!(seeds(text).unwrap_err().contains("FIRST..LAST"), "{text}");
        }
    }
}
