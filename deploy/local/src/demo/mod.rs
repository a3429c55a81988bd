//! `cargo demo`: everything once, from clicks to a plot.

mod course;
mod episodes;
mod live;
mod tables;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::at_the_end::AtTheEnd;
use crate::generator::{DEMO_LENGTH, Shape};
use crate::recording::{Content, Feed, Recording};
use crate::replay::{METRIC_WORKERS, MetricWorker, Plan, Protocol, Run, WRITER};
use crate::routes::Told;
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

/// The generated shoppers begin at a multiple of this (s) and so do all windows of [`SETTINGS`]: one seed gives the same
/// rows whenever the demo runs.
const BEGINNINGS: u64 = 30 * 60;

/// For the generator's episodes. They are short: longer windows would smear them. A rule for each of them, of those that
/// ship and of kinds that do not.
const SETTINGS: [&str; 16] = [
    "session-entropy.window=2m",
    r#"session-entropy.dimensions=["domain", "user_segment"]"#,
    // sessions have fewer gaps in a short window, and so less to scatter
    "session-entropy.alerts.rules.freshness-scattered.below_median=0.88",
    // a value beyond what is usual: the rush itself is soon usual
    r#"session-entropy.alerts.rules.sessions-rush={ kind = "deviation", metric = "sessions_total", direction = "up", margin = 4.0, every = "1m", fire_after = 2 }"#,
    "cosine-decay.window=2m",
    "cosine-decay.slide=1m",
    r#"cosine-decay.dimensions=["domain"]"#,
    // a shift that lasts: the values before it have to be an hour old
    r#"cosine-decay.alerts.rules.likeness-fallen={ kind = "change", metric = "mean_cosine", direction = "down", require = { pairs = 30 }, resolve_after = 2 }"#,
    "cosine-decay.decay_rate_window=10m",
    "cosine-decay.decay_rate_slide=1m",
    "cosine-decay.alerts.rules.half-life-halved.every=1m",
    r#"cosine-decay.alerts.rules.vectors-absent={ kind = "absence", rows = "decay_rate", every = "1m" }"#,
    "domain-drift.window=15m",
    "domain-drift.slide=1m",
    r#"domain-drift.pairs=[{ sources = ["books"], target = "fashion" }, { sources = ["electronics"], target = "fashion" }]"#,
    "domain-drift.alerts.rules.gamma-high.every=5m",
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
    let own = SETTINGS.map(str::to_owned).into_iter().filter(|_| demo.input.is_none());
    let plan = Plan {
        settings: idle.chain(own).filter_map(|setting| setting.parse().ok()).collect(),
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
    let told = alongside(&mut run, progress, |run| {
        run.publish(Feed::in_file_order(recordings))?;
        run.complete()
    })?;
    if !demo.keep {
        run.stop_workers()?;
    }
    run.account()?;
    let mut problems = run.summary().problems.clone();
    if demo.input.is_none() {
        problems.extend(episodes::problems(&told));
    }
    show(&run, demo)?;
    for problem in &problems {
        println!("\nNot as it must be: {problem}");
    }
    if demo.keep {
        keep(&run);
    }
    run.stop()?;
    Ok(problems.is_empty())
}

/// Does `work`, shows alerts while it is under way, and returns them.
fn alongside<'a>(
    run: &mut Run<'a>,
    progress: &dyn Progress,
    work: impl FnOnce(&mut Run<'a>) -> Result<()>,
) -> Result<Vec<Told>> {
    let (brokers, over) = (run.stack().brokers(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let alerts = scope.spawn(|| live::show(&brokers, progress, &over));
        let at_the_end = AtTheEnd(&over);
        let result = work(run);
        drop(at_the_end);
        let told = alerts.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.and(told)
    })
}

/// When the generated shoppers begin (epoch ms): so that they are through a little before now.
fn beginning() -> i64 {
    const BEFORE_NOW: Duration = Duration::from_secs(5 * 60);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let latest = now.saturating_sub(Duration::from_millis(DEMO_LENGTH.unsigned_abs()) + BEFORE_NOW);
    (latest.as_secs() / BEGINNINGS * BEGINNINGS * 1_000) as i64
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
        println!("Those of returning shoppers of fashion scatter from minute 60 to 80.");
        let series = course::drift(&query)?;
        println!(
            "\nHow far the users of departments lie from those of fashion, in standard deviations of their vectors' projections\n"
        );
        print!("{}", plot::panels(&series, plot::Size { columns: 80, rows: 5 }));
        println!("From minute 60 to 80 the readers' taste drifts away from what it was.");
        let series = course::decay(&query)?;
        println!("\nHow fast items' vectors lose their likeness to what they were: lambda per hour, by department\n");
        print!("{}", plot::panels(&series, plot::Size { columns: 80, rows: 5 }));
        println!(
            "In these minutes the model changes vectors of electronics much more than before, and from minute 90 to 110 it\npublishes none of grocery."
        );
    }
    if demo.input.is_none() {
        println!(
            "\nWhat happens in the generated clicks and vectors, by the kind of rule that finds it\n\n{}",
            episodes::list()
        );
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
    use crate::replay::Setting;

    #[test]
    fn the_queries_can_be_pasted_into_a_shell() {
        for (title, statement) in QUERIES {
            assert!(!statement.contains(['"', '$', '`', '\\', '!']), "{title}");
        }
    }

    #[test]
    fn the_settings_are_settings_of_workers_that_run() {
        for text in SETTINGS {
            let setting: Setting = text.parse().unwrap();
            assert!(METRIC_WORKERS.iter().any(|worker| worker.name == setting.worker), "{text}");
        }
    }

    #[test]
    fn the_generated_course_ends_before_now() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let end = beginning() + DEMO_LENGTH;
        assert!(end < now && end > now - 40 * 60_000);
    }
}
