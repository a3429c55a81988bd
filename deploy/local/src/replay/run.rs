//! One replay from the first process to the last: what `cargo stack replay` and `cargo demo` share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use records::{EmbeddingUpdated, Interaction, Registry, RegistryConfig};

use super::audit::{self, RowAudit};
use super::fleet::Fleet;
use super::metric_workers::{DEAD_LETTER_TOPIC, LATE_TOPIC, MetricWorker, WRITER, group, internal_topic};
use super::patience::Patience;
use super::settings::{self, Addresses, Protocol, Setting};
use super::summary::{Summary, TopicSummary, WorkerSummary};
use super::watermarks::Watermarks;
use crate::broker::{Broker, CommittedOffsets, Follower, TopicPartition};
use crate::fault::{self, Fault, Gauges, Hunt, Kill, Next, uncommitted};
use crate::publish::{Publisher, SchemaIds};
use crate::recording::{Content, Feed};
use crate::{Components, Load, Options, Profile, Progress, Stack, Worker, WorkerBinaries, build_workers};

/// How long workers may stand still before the replay gives up on them, beside the time after which a partition is idle.
const STANDSTILL: Duration = Duration::from_secs(120);

/// What the recommender's topics accept: more than the workers do, so that too large records reach them.
const MAX_SOURCE_BYTES: &str = "4194304";

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The metric workers.
    pub workers: Vec<MetricWorker>,
    /// Processes of each.
    pub instances: u32,
    /// Partitions of each source topic.
    pub partitions: i32,
    /// Kafka's group protocol.
    pub protocol: Protocol,
    /// Settings of the workers.
    pub settings: Vec<Setting>,
    /// What will be published.
    pub contents: BTreeSet<Content>,
    /// Lines a second; as fast as possible if `None`.
    pub rate: Option<f64>,
    /// Kills, while publishing.
    pub faults: Vec<Fault>,
    /// What the stack is tuned for.
    pub load: Load,
}

impl Plan {
    /// All that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let names: Vec<&str> = self.workers.iter().map(|worker| worker.name).chain([WRITER]).collect();
        let mut problems = Vec::new();
        for setting in self.settings.iter().filter(|setting| !names.contains(&setting.worker.as_str())) {
            let [_, text] = setting.arguments();
            problems.push(format!(
                "--set {}.{text}: {} does not run here; there are: {}",
                setting.worker,
                setting.worker,
                names.join(", ")
            ));
        }
        let instances = self.instance_names();
        for fault in &self.faults {
            if !instances.iter().any(|(worker, instance)| fault.hits(worker, instance)) {
                let processes: Vec<&str> = instances.iter().map(|(_, instance)| instance.as_str()).collect();
                problems.push(format!("--fault {fault}: no such process; there are: {}", processes.join(", ")));
            }
        }
        problems
    }

    /// Worker and name of every process.
    fn instance_names(&self) -> Vec<(&'static str, String)> {
        let metric = |worker: &MetricWorker| {
            let name = worker.name;
            (1..=self.instances).map(move |number| (name, format!("{name}-{number}")))
        };
        self.workers.iter().flat_map(metric).chain([(WRITER, WRITER.to_owned())]).collect()
    }

    fn settings_of(&self, worker: &str) -> Vec<String> {
        self.settings.iter().filter(|setting| setting.worker == worker).flat_map(Setting::arguments).collect()
    }
}

/// A running replay.
pub struct Run<'a> {
    plan: Plan,
    progress: &'a dyn Progress,
    stack: Stack,
    broker: Broker,
    registry: Registry,
    fleet: Fleet,
    ids: SchemaIds,
    /// Slide and idle timeout of each metric worker (ms).
    paces: BTreeMap<&'static str, (i64, i64)>,
    begun: Instant,
    published: BTreeMap<Content, u64>,
    summary: Summary,
    /// When each worker was done.
    done: BTreeMap<&'static str, Duration>,
    watermarks: BTreeMap<(&'static str, Content), Watermarks>,
    audits: Vec<(&'static str, Vec<RowAudit>)>,
}

impl<'a> Run<'a> {
    /// Builds the workers, checks their settings, and starts the stack and them; returns when they are ready.
    ///
    /// # Errors
    /// The plan cannot be run, something cannot be built or started, or ends while it starts.
    pub fn start(plan: Plan, progress: &'a dyn Progress) -> Result<Self> {
        let problems = plan.problems();
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        let binaries = build_workers(&Profile::of_this_program()?, progress)?;
        let paces = check_settings(&plan, &binaries)?;
        let options = Options { components: Components::ALL, load: plan.load, ..Options::default() };
        let stack = Stack::start(&options, progress)?;
        let brokers = stack.brokers();
        let mut run = Self {
            broker: Broker::new(&brokers)?,
            registry: Registry::new(RegistryConfig::new(stack.registry_url()), || false)?,
            fleet: Fleet::new(&stack.work_directory()),
            plan,
            progress,
            stack,
            ids: SchemaIds::new(),
            paces,
            begun: Instant::now(),
            published: BTreeMap::new(),
            summary: Summary::default(),
            done: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            audits: Vec::new(),
        };
        run.prepare_sources()?;
        run.start_workers(&binaries)?;
        Ok(run)
    }

    /// The stack that it runs on.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// What is known so far.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            brokers: self.stack.brokers(),
            registry: self.stack.registry_url(),
            clickhouse: self.stack.clickhouse_url(),
        }
    }

    /// Topics and schemas of the recommender.
    fn prepare_sources(&mut self) -> Result<()> {
        let mut contents = self.plan.contents.clone();
        contents.extend(self.plan.workers.iter().flat_map(|worker| worker.sources));
        for content in contents {
            let settings = [("max.message.bytes", MAX_SOURCE_BYTES), ("retention.ms", "-1")];
            self.stack.create_topic(content.topic(), self.plan.partitions, &settings)?;
            let id = match content {
                Content::Interactions => self.registry.register_for::<Interaction<'static>>(content.topic())?,
                Content::ItemEmbeddings | Content::UserEmbeddings => {
                    self.registry.register_for::<EmbeddingUpdated<'static>>(content.topic())?
                }
            };
            self.ids.insert(content, id);
        }
        Ok(())
    }

    fn start_workers(&mut self, binaries: &WorkerBinaries) -> Result<()> {
        const STEP: &str = "workers";
        self.progress.update(STEP, "creating tables");
        let addresses = self.addresses();
        let protocol = self.plan.protocol;
        let directory = self.stack.work_directory();
        let mut arguments = self.plan.settings_of(WRITER);
        arguments.push("--apply-ddl".to_owned());
        let configuration = settings::configuration(WRITER, WRITER, protocol, 0, &addresses);
        let writer = binaries.path(WRITER)?;
        Worker::run(writer, "apply-ddl", &configuration, &arguments, &directory, Duration::from_secs(60))
            .context("the tables cannot be created")?;
        self.progress.update(STEP, "starting");
        for (worker, name) in self.plan.instance_names() {
            let mut arguments = self.plan.settings_of(worker);
            arguments.push("--create-topics".to_owned());
            self.fleet.start(binaries.path(worker)?, worker, &name, arguments, |http| {
                settings::configuration(worker, &name, protocol, http, &addresses)
            })?;
        }
        let begun = Instant::now();
        loop {
            self.fleet.check()?;
            let starting = self.not_ready();
            if starting.is_empty() {
                break;
            }
            if begun.elapsed() > STANDSTILL {
                bail!(
                    "no process of {} has become ready in {STANDSTILL:?}; logs are in {}",
                    starting.join(", "),
                    directory.display()
                );
            }
            self.progress.update(STEP, &format!("waiting for {}", starting.join(", ")));
            std::thread::sleep(Duration::from_millis(50));
        }
        self.progress.done(STEP, &format!("{} processes run", self.fleet.instances().len()));
        Ok(())
    }

    /// Workers of which no process is ready. One without a partition never is, so not all of them have to be.
    fn not_ready(&self) -> Vec<&'static str> {
        let workers = self.plan.workers.iter().map(|worker| worker.name).chain([WRITER]);
        let ready = |worker: &str| {
            self.fleet.instances().iter().any(|instance| instance.worker == worker && fault::ready(instance.http))
        };
        workers.filter(|worker| !ready(worker)).collect()
    }

    /// Publishes all lines, killing on the way what the faults ask for.
    ///
    /// # Errors
    /// A recording cannot be read, a record cannot be delivered, a worker ends unasked, or a kill hits nothing.
    pub fn publish(&mut self, mut feed: Feed) -> Result<()> {
        let mut publisher = Publisher::new(&self.stack.brokers(), self.ids.clone())?;
        let mut faults = self.plan.faults.clone();
        faults.sort_by_key(|fault| fault.after_records);
        let mut faults = VecDeque::from(faults);
        self.begun = Instant::now();
        // Time spent on kills does not count for the rate.
        let mut pace = Instant::now();
        let mut checked = Instant::now();
        loop {
            while let Some(fault) = faults.pop_front_if(|fault| fault.after_records <= publisher.published()) {
                let stopped = Instant::now();
                publisher.flush()?;
                self.kill(&fault, &mut publisher, &mut feed)?;
                pace += stopped.elapsed();
            }
            if let Some(rate) = self.plan.rate {
                let due = pace + Duration::from_secs_f64(publisher.published() as f64 / rate);
                while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                    publisher.wait(left.min(Duration::from_millis(100)));
                }
            }
            if !self.publish_line(&mut publisher, &mut feed)? {
                break;
            }
            if checked.elapsed() > Duration::from_millis(500) {
                checked = Instant::now();
                self.fleet.check()?;
                self.progress.update("publish", &format!("{} lines", thousands(publisher.published())));
            }
        }
        publisher.flush()?;
        if let Some(fault) = faults.front() {
            bail!("--fault {fault} was never due: the recordings have {} lines", publisher.published());
        }
        let (published, raw) = (publisher.published(), publisher.raw());
        (self.summary.published, self.summary.published_raw) = (published, raw);
        let as_they_are = if raw > 0 { format!(", {} of them as they are", thousands(raw)) } else { String::new() };
        let seconds = self.begun.elapsed().as_secs_f64();
        self.progress.done("publish", &format!("{} lines{as_they_are} in {seconds:.1} s", thousands(published)));
        Ok(())
    }

    /// Whether there was a line.
    fn publish_line(&mut self, publisher: &mut Publisher, feed: &mut Feed) -> Result<bool> {
        let Some((origin, line)) = feed.next_line()? else { return Ok(false) };
        publisher.publish(origin, line)?;
        *self.published.entry(origin.content).or_default() += 1;
        Ok(true)
    }

    /// Kills a process once it has read records that it has not committed, and starts it again.
    fn kill(&mut self, fault: &Fault, publisher: &mut Publisher, feed: &mut Feed) -> Result<()> {
        const MOST_LINES: u64 = 2_000;
        let instances = self.fleet.instances().iter().enumerate();
        let candidates: Vec<usize> = instances
            .filter(|(_, instance)| fault.hits(&instance.worker, &instance.name))
            .map(|(index, _)| index)
            .collect();
        let worker = self.fleet.instances()[candidates[0]].worker.clone();
        let offsets = CommittedOffsets::new(&self.stack.brokers(), &group(&worker))?;
        let mut hunt = Hunt::new(MOST_LINES);
        let begun = Instant::now();
        while begun.elapsed() < STANDSTILL {
            self.fleet.check()?;
            let looks: Vec<Option<Gauges>> =
                candidates.iter().map(|&index| fault::fetch(self.fleet.instances()[index].http).ok()).collect();
            let mut next = hunt.look(&looks);
            if let Next::Freeze(candidate) = next
                && let Some(gauges) = &looks[candidate]
            {
                let index = candidates[candidate];
                self.fleet.freeze(index)?;
                let uncommitted = uncommitted(&gauges.position, &offsets.ask(gauges.position.keys())?);
                if uncommitted > 0 {
                    self.fleet.kill_and_restart(index)?;
                    let process = self.fleet.instances()[index].name.clone();
                    self.progress.update("fault", &format!("killed {process}, {uncommitted} records uncommitted"));
                    self.summary.kills.push(Kill { process, records_read: gauges.read(), uncommitted });
                    return Ok(());
                }
                self.fleet.thaw(index)?;
                next = hunt.missed();
            }
            match next {
                Next::Publish(lines) => {
                    for _ in 0..lines {
                        self.publish_line(publisher, feed)?;
                    }
                    publisher.flush()?;
                }
                Next::Watch | Next::Freeze(_) => publisher.wait(Duration::from_millis(5)),
            }
        }
        bail!("--fault {fault} hit nothing: {worker} had committed everything that it had read for {STANDSTILL:?}")
    }

    /// Waits until every record is processed, every closable window closed, and every row in ClickHouse.
    ///
    /// # Errors
    /// A worker ends unasked, or nothing moves any more: the error says what is missing.
    pub fn complete(&mut self) -> Result<()> {
        for worker in self.plan.workers.clone() {
            for &source in worker.sources {
                let watermarks = self.wait_for_windows(worker, source)?;
                self.watermarks.insert((worker.name, source), watermarks);
            }
        }
        for worker in self.plan.workers.clone() {
            let expected = self.rows_of(worker);
            let brokers = self.stack.brokers();
            let audits: Result<Vec<RowAudit>> = worker
                .row_topics
                .iter()
                .map(|&topic| RowAudit::new(&brokers, &self.broker, &self.registry, topic))
                .collect();
            let mut audits = audits?;
            self.progress.update("rows", &format!("reading {} rows of {}", thousands(expected), worker.name));
            audit::read_rows(&mut audits, expected)?;
            self.audits.push((worker.name, audits));
        }
        self.wait_for_writer()
    }

    fn rows_of(&self, worker: MetricWorker) -> u64 {
        worker
            .sources
            .iter()
            .filter_map(|&source| self.watermarks.get(&(worker.name, source)))
            .map(Watermarks::rows)
            .sum()
    }

    fn wait_for_windows(&mut self, worker: MetricWorker, source: Content) -> Result<Watermarks> {
        let (slide, idle_timeout) = self.paces[worker.name];
        let ends = self.broker.ends(source.topic())?;
        let total: i64 = ends.values().sum();
        let topic = internal_topic(worker.name, source, "watermarks");
        let (Some(partitions), Some(merges)) = (
            self.broker.partitions(&topic)?,
            self.broker.partitions(&internal_topic(worker.name, source, "repartition"))?,
        ) else {
            bail!("{} runs, but there is no topic {topic}, or none that its steps exchange summaries on", worker.name);
        };
        let follower = Follower::new(&self.stack.brokers(), &topic, partitions)?;
        let mut watermarks = Watermarks::default();
        let mut patience = Patience::new(STANDSTILL + Duration::from_millis(idle_timeout.unsigned_abs()));
        loop {
            follower.read_more(Duration::from_millis(100), |message| {
                use rdkafka::Message;
                watermarks.take(message.key().unwrap_or_default(), message.payload())
            })?;
            self.fleet.check()?;
            let unread = watermarks.unread(&ends);
            if unread == 0 {
                let elapsed = self.begun.elapsed();
                self.done.entry(worker.name).or_insert(elapsed);
            }
            let missing = watermarks.missing(&ends, merges, slide);
            let read = thousands(total as u64 - unread);
            if missing.is_empty() {
                self.progress.done(worker.name, &format!("{read} records, {} rows", thousands(watermarks.rows())));
                return Ok(watermarks);
            }
            let closed = watermarks.merges.values().filter_map(|merge| merge.closed).min();
            let closed =
                closed.map_or_else(String::new, |closed| format!(", windows closed to {}", time_of_day(closed)));
            let message = format!("{read} of {} records{closed}", thousands(total as u64));
            self.progress.part(worker.name, total as u64 - unread, total as u64, &message);
            if !patience.lasts(watermarks.clone()) {
                bail!("{} stands still: {}", worker.name, missing.join("; "));
            }
        }
    }

    fn wait_for_writer(&mut self) -> Result<()> {
        let offsets = CommittedOffsets::new(&self.stack.brokers(), &group(WRITER))?;
        let last = |audit: &RowAudit| -> Vec<(TopicPartition, i64)> {
            let topic = audit.topic().name;
            audit.last.iter().map(|(&partition, &offset)| ((topic.to_owned(), partition), offset)).collect()
        };
        let rows: BTreeMap<TopicPartition, i64> =
            self.audits.iter().flat_map(|(_, audits)| audits.iter().flat_map(last)).collect();
        let mut patience = Patience::new(STANDSTILL);
        loop {
            let committed = offsets.ask(rows.keys())?;
            let missing: Vec<String> = rows
                .iter()
                .filter_map(|(partition, &last)| {
                    let offset = committed.get(partition).copied().unwrap_or(0);
                    let (topic, number) = partition;
                    (offset <= last).then(|| format!("{topic}-{number} is committed to {offset} of {}", last + 1))
                })
                .collect();
            if missing.is_empty() {
                let elapsed = self.begun.elapsed();
                self.done.insert(WRITER, elapsed);
                let rows: u64 = self.audits.iter().flat_map(|(_, audits)| audits).map(|audit| audit.rows).sum();
                self.progress.done(WRITER, &format!("{} rows", thousands(rows)));
                return Ok(());
            }
            self.progress.update(WRITER, &missing.join("; "));
            self.fleet.check()?;
            if !patience.lasts(committed) {
                bail!("{WRITER} stands still: {}", missing.join("; "));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Stops the workers; what was wrong with their ends is in the summary.
    ///
    /// # Errors
    /// A process cannot be sent a signal.
    pub fn stop_workers(&mut self) -> Result<()> {
        self.progress.update("workers", "stopping");
        let problems = self.fleet.stop()?;
        self.summary.problems.extend(problems);
        self.progress.done("workers", "stopped");
        Ok(())
    }

    /// Accounts for every record and row: what was lost or doubled is in the summary.
    ///
    /// # Errors
    /// Something cannot be asked.
    pub fn account(&mut self) -> Result<()> {
        let mut problems = Vec::new();
        let mut handed_on: BTreeMap<&str, BTreeMap<audit::HandedOn, u64>> = BTreeMap::new();
        let counts = self.watermarks.values().map(Watermarks::counts);
        let (late, dead) =
            counts.fold((0, 0), |(late, dead), counts| (late + counts.late, dead + counts.dead_lettered));
        for (topic, expected) in [(LATE_TOPIC, late), (DEAD_LETTER_TOPIC, dead)] {
            let counts = audit::count_handed_on(&self.stack.brokers(), &self.broker, topic, expected)?;
            handed_on.insert(topic, counts);
        }
        for worker in self.plan.workers.clone() {
            let summary = self.metric_summary(worker, &handed_on, &mut problems)?;
            self.summary.workers.insert(worker.name.to_owned(), summary);
        }
        let summary = self.writer_summary(&handed_on[DEAD_LETTER_TOPIC], &mut problems)?;
        self.summary.workers.insert(WRITER.to_owned(), summary);
        for (name, worker) in &self.summary.workers {
            problems.extend(
                worker.topics.iter().filter_map(|(topic, counts)| counts.problem(&format!("{name} ({topic})"))),
            );
        }
        self.summary.problems.extend(problems);
        Ok(())
    }

    fn wall_seconds(&self, worker: &str) -> f64 {
        self.done.get(worker).map_or(0.0, Duration::as_secs_f64)
    }

    fn metric_summary(
        &mut self,
        worker: MetricWorker,
        handed_on: &BTreeMap<&str, BTreeMap<audit::HandedOn, u64>>,
        problems: &mut Vec<String>,
    ) -> Result<WorkerSummary> {
        let mut topics = BTreeMap::new();
        for &source in worker.sources {
            let counts = self.watermarks.get(&(worker.name, source)).map(Watermarks::counts).unwrap_or_default();
            let published = self.published.get(&source).copied().unwrap_or(0);
            if counts.read != published {
                problems.push(format!(
                    "{} has read {} of {published} records of {}",
                    worker.name,
                    counts.read,
                    source.topic()
                ));
            }
            for (topic, counted) in [(LATE_TOPIC, counts.late), (DEAD_LETTER_TOPIC, counts.dead_lettered)] {
                let ours =
                    handed_on[topic].iter().filter(|(r, _)| r.worker == worker.name && r.topic == source.topic());
                let written: u64 = ours.map(|(_, count)| count).sum();
                if written != counted {
                    problems.push(format!("{} counts {counted} records for {topic}, which has {written}", worker.name));
                }
            }
            topics.insert(source.topic().to_owned(), TopicSummary::from(&counts));
        }
        let counted = self.rows_of(worker);
        let mut rows = 0;
        for audit in self.audits.iter_mut().filter(|(name, _)| *name == worker.name).flat_map(|(_, audits)| audits) {
            // What came after all is seen here.
            audit.read_more(Duration::from_millis(300))?;
            rows += audit.rows;
            if audit.doubled > 0 {
                problems.push(format!("{} rows of {} are there twice", audit.doubled, audit.topic().name));
            }
        }
        if rows != counted {
            problems.push(format!("{} counts {counted} rows, its topics have {rows}", worker.name));
        }
        Ok(WorkerSummary::new(topics, rows, self.wall_seconds(worker.name), self.fleet.usage(worker.name)))
    }

    fn writer_summary(
        &self,
        dead_letters: &BTreeMap<audit::HandedOn, u64>,
        problems: &mut Vec<String>,
    ) -> Result<WorkerSummary> {
        let mut topics = BTreeMap::new();
        let mut rows = 0;
        for audit in self.audits.iter().flat_map(|(_, audits)| audits) {
            let topic = audit.topic();
            let count = self.stack.clickhouse_query(&format!("SELECT count() FROM recwatch.{} FINAL", topic.table))?;
            let count: u64 = count.trim().parse().with_context(|| format!("no count of {}: {count:?}", topic.table))?;
            rows += count;
            let mut summary = TopicSummary { read: audit.rows, applied: count, ..TopicSummary::default() };
            for (record, count) in dead_letters.iter().filter(|(r, _)| r.worker == WRITER && r.topic == topic.name) {
                summary.dead_lettered += count;
                *summary.dead_lettered_by_reason.entry(record.reason.clone()).or_default() += count;
            }
            if count + summary.dead_lettered != audit.distinct() {
                problems.push(format!(
                    "table {} has {count} rows, topic {} {} keys, of which {} were dead-lettered",
                    topic.table,
                    topic.name,
                    audit.distinct(),
                    summary.dead_lettered
                ));
            }
            topics.insert(topic.name.to_owned(), summary);
        }
        Ok(WorkerSummary::new(topics, rows, self.wall_seconds(WRITER), self.fleet.usage(WRITER)))
    }

    /// Writes every table's final rows to `<folder>/<table>.ndjson` and the summary to `<folder>/summary.json`.
    ///
    /// # Errors
    /// ClickHouse does not answer, or a file cannot be written.
    pub fn export(&self, folder: &Path) -> Result<()> {
        let query = |statement: &str| self.stack.clickhouse_query(statement);
        for topic in self.plan.workers.iter().flat_map(|worker| worker.row_topics) {
            self.progress.update("export", topic.table);
            crate::export::table(&query, topic.table, &folder.join(format!("{}.ndjson", topic.table)))?;
        }
        let file = folder.join("summary.json");
        let mut json = serde_json::to_string_pretty(&self.summary)?;
        json.push('\n');
        std::fs::write(&file, json).with_context(|| format!("{} cannot be written", file.display()))?;
        self.progress.done("export", &folder.display().to_string());
        Ok(())
    }

    /// Ends the stack.
    ///
    /// # Errors
    /// A component cannot be stopped.
    pub fn stop(self) -> Result<()> {
        self.stack.stop()
    }
}

/// Lets every worker judge its settings, and asks for slide and idle timeout of the metric workers (ms).
fn check_settings(plan: &Plan, binaries: &WorkerBinaries) -> Result<BTreeMap<&'static str, (i64, i64)>> {
    let mut problems = Vec::new();
    let mut paces = BTreeMap::new();
    for worker in plan.workers.iter().map(|worker| worker.name).chain([WRITER]) {
        let binary = binaries.path(worker)?;
        let ask = |arguments: &[String]| {
            let output = Command::new(binary).args(arguments).output();
            output.with_context(|| format!("{} cannot be run", binary.display()))
        };
        let mut arguments = plan.settings_of(worker);
        arguments.push("--check-config".to_owned());
        let output = ask(&arguments)?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            problems.push(format!("{worker} refuses its settings:\n{}", String::from_utf8_lossy(&said).trim()));
            continue;
        }
        if worker != WRITER {
            let defaults = ask(&["--print-default-config".to_owned()])?;
            let defaults = String::from_utf8_lossy(&defaults.stdout).into_owned();
            let duration = |key| settings::duration(key, worker, &plan.settings, &defaults).map_err(anyhow::Error::msg);
            paces.insert(worker, (duration("slide")?, duration("idle_timeout")?));
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(paces)
}

/// A number with its thousands apart.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The UTC time of day of an epoch time in ms.
fn time_of_day(time: i64) -> String {
    let seconds = time.div_euclid(1_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            workers: crate::replay::METRIC_WORKERS.to_vec(),
            instances: 2,
            partitions: 4,
            protocol: Protocol::default(),
            settings: Vec::new(),
            contents: BTreeSet::new(),
            rate: None,
            faults: Vec::new(),
            load: Load::Short,
        }
    }

    #[test]
    fn settings_and_faults_of_processes_that_do_not_run_are_all_named_at_once() {
        let mut plan = plan();
        plan.settings = vec!["cosine-decay.window=1m".parse().unwrap(), "clickhouse-writer.batch=1".parse().unwrap()];
        plan.faults = vec!["kill:session-entropy-3:1".parse().unwrap(), "kill:clickhouse-writer:1".parse().unwrap()];
        let problems = plan.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("--set cosine-decay.window=1m") && problems[0].contains("session-entropy"));
        assert!(problems[1].contains("--fault kill:session-entropy-3:1") && problems[1].contains("session-entropy-2"));
    }

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 26_066, 1_234_567].map(thousands), ["0", "999", "1,000", "26,066", "1,234,567"]);
        assert_eq!(time_of_day(1_396_649_029_950), "22:03:49");
    }
}
