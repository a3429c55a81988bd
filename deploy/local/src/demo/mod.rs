//! `cargo demo`: everything once, from clicks to a plot.

mod course;
mod tables;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::generator::Shape;
use crate::recording::{Content, Feed, Recording};
use crate::replay::{METRIC_WORKERS, MetricWorker, Plan, Protocol, Run, WRITER};
use crate::terminal::plot;
use crate::{Load, Progress};

/// What the demo shows.
#[derive(Debug, Clone, Default)]
pub struct Demo {
    /// A recording of interactions instead of the generator.
    pub input: Option<PathBuf>,
    /// The seed of the generator.
    pub seed: u64,
    /// Leave everything running until Ctrl-C.
    pub keep: bool,
}

/// How long the generated shoppers shop; it ends a little before now.
const COURSE: Duration = Duration::from_secs(2 * 3_600 + 300);

/// The episode is short: longer windows would smear it.
const SHORT_WINDOWS: [&str; 6] = [
    "domain-drift.window=15m",
    "domain-drift.slide=1m",
    "domain-drift.alerts.rules.gamma-high.every=5m",
    "cosine-decay.decay_rate_window=10m",
    "cosine-decay.decay_rate_slide=1m",
    "cosine-decay.alerts.rules.half-life-halved.every=1m",
];

/// Runs the demo and prints what it shows to standard output; whether all was well.
///
/// # Errors
/// Something cannot be started, read or asked.
pub fn run(demo: &Demo, progress: &dyn Progress) -> Result<bool> {
    let recordings = match &demo.input {
        Some(file) => vec![Recording::open(file, Content::Interactions)?],
        None => {
            let shape = Shape::demo(demo.seed, beginning());
            let (users, items) = (Recording::generated_users(&shape), Recording::generated_items(&shape));
            vec![users, items, Recording::generated(shape, None)]
        }
    };
    let contents: BTreeSet<Content> = recordings.iter().map(Recording::content).collect();
    let workers = METRIC_WORKERS.into_iter().filter(|worker| worker.sources.iter().all(|of| contents.contains(of)));
    let workers: Vec<MetricWorker> = workers.collect();
    // Nothing comes after the last line: nobody has to be waited for long.
    let idle = workers.iter().map(|worker| format!("{}.idle_timeout=3s", worker.name));
    let short = SHORT_WINDOWS.map(str::to_owned).into_iter().filter(|_| demo.input.is_none());
    let plan = Plan {
        settings: idle.chain(short).filter_map(|setting| setting.parse().ok()).collect(),
        workers,
        instances: 1,
        partitions: 4,
        protocol: Protocol::default(),
        contents,
        rate: None,
        faults: Vec::new(),
        load: Load::Short,
        writer: true,
        router: true,
    };
    let mut run = Run::start(plan, progress)?;
    run.publish(Feed::in_file_order(recordings))?;
    run.complete()?;
    if !demo.keep {
        run.stop_workers()?;
    }
    run.account()?;
    let good = run.summary().problems.is_empty();
    show(&run, demo)?;
    if demo.keep {
        keep(&run);
    }
    run.stop()?;
    Ok(good)
}

/// When the generated shoppers begin (epoch ms), at a whole minute.
fn beginning() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(COURSE).as_secs() as i64 / 60 * 60_000
}

fn show(run: &Run<'_>, demo: &Demo) -> Result<()> {
    let query = |statement: &str| run.stack().clickhouse_query(statement);
    println!("\nWhat became of the records\n{}", tables::counts(run.summary()));
    let (until, newest) = tables::newest(&query)?;
    println!(
        "\nThe newest aggregates, of the window that ends at {until} UTC (table recwatch.session_entropy)\n{newest}"
    );
    let (dimension, series) = course::freshness(&query)?;
    println!("\nThe course of freshness, by {dimension}: 1 is a session that browses steadily, 0 one that scatters\n");
    print!("{}", plot::panels(&series, plot::Size { columns: 80, rows: 5 }));
    if demo.input.is_none() {
        println!("The generator lets the sessions of returning shoppers scatter for twenty minutes, after one hour.");
        let series = course::drift(&query)?;
        println!(
            "\nHow far the users of the departments lie from each other, in standard deviations of their vectors' projections\n"
        );
        print!("{}", plot::panels(&series, plot::Size { columns: 80, rows: 5 }));
        println!("In the same twenty minutes the readers' taste drifts away from what it was.");
        let series = course::decay(&query)?;
        println!("\nHow fast items' vectors lose their likeness to what they were: lambda per hour, by department\n");
        print!("{}", plot::panels(&series, plot::Size { columns: 80, rows: 5 }));
        println!("And in these minutes the model changes items' vectors much more than before.");
    }
    println!("\nAlerts, by the end of the window (UTC) that caused them\n\n{}", tables::alerts(&query)?);
    let url = run.stack().clickhouse_url();
    println!(
        "\nThree queries to try{}:",
        if demo.keep { "" } else { " (cargo demo --keep leaves everything running for them)" }
    );
    for (title, statement) in QUERIES {
        println!(
            "\n  -- {title}\n  curl -s '{url}/?default_format=PrettyCompactMonoBlock' --data-binary \"\n{statement}\""
        );
    }
    for problem in &run.summary().problems {
        println!("\nNot as it must be: {problem}");
    }
    Ok(())
}

fn keep(run: &Run<'_>) {
    let stack = run.stack();
    println!(
        "\nEverything runs on until Ctrl-C: Kafka at {}, the schema registry at {}, ClickHouse at {};\nlogs of {} and the other workers in {}.",
        stack.brokers(),
        stack.registry_url(),
        stack.clickhouse_url(),
        WRITER,
        stack.work_directory().display()
    );
    loop {
        std::thread::park();
    }
}

/// Titles and statements; without double quotes, dollar signs and backquotes, so that a shell takes them as they are.
const QUERIES: [(&str, &str); 3] = [
    (
        "Freshness and its spread by segment, every ten minutes",
        "    SELECT toStartOfInterval(window_end, INTERVAL 10 MINUTE) AS time, user_segment,
           round(sum(mean_freshness * sessions) / sum(sessions), 3) AS freshness,
           round(sum(share_scattered * sessions) / sum(sessions), 3) AS scattered
    FROM recwatch.session_entropy FINAL WHERE sessions > 0
    GROUP BY time, user_segment ORDER BY time, user_segment",
    ),
    (
        "The groups that fell most below their own mean",
        "    SELECT domain, user_segment, rec_strategy, ab_group, round(avg(mean_freshness), 3) AS usually,
           round(min(mean_freshness), 3) AS lowest, argMin(window_end, mean_freshness) AS at
    FROM recwatch.session_entropy FINAL WHERE sessions >= 5
    GROUP BY ALL ORDER BY usually - lowest DESC LIMIT 10",
    ),
    (
        "The sessions that scattered longest",
        "    SELECT session_id, any(user_segment) AS segment, max(events) AS events,
           round(max(entropy), 2) AS bits, min(window_end) AS since, count() AS slides
    FROM recwatch.session_freshness FINAL WHERE band = 'scattered'
    GROUP BY session_id ORDER BY slides DESC, session_id LIMIT 10",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queries_can_be_pasted_into_a_shell() {
        for (title, statement) in QUERIES {
            assert!(!statement.contains(['"', '$', '`', '\\', '!']), "{title}");
        }
    }

    #[test]
    fn the_generated_course_ends_before_now() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let end = beginning() + 2 * 3_600_000;
        assert!(end < now && end > now - 10 * 60_000);
    }
}
