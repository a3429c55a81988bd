//! The second step: the summaries of all source partitions become a closed window's rows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use alerting::{AlertStage, Row};
use grouping::Example;
use storage::wire::{self, Reader};
use streaming::operator::{Figure, Merge, RestoreError, StateSize};
use streaming::output::MergeOutput;
use streaming::window::Windows;

use crate::alerts;
use crate::distance::Measure;
use crate::history::{History, Pin, Pinned, put_summary, reference_key, window_key};
use crate::limit::{Limit, MERGED, OTHER};
use crate::pairs::{JOINED_WITH, Pair, Pairs};
use crate::rows::{DRIFT_TOPIC, DriftRow, Kind, RowEncoder};
use crate::settings::Settings;
use crate::summary::{Shape, Summary};

const VERSION: u8 = 2;
/// Before there were alerts.
const WITHOUT_ALERTS: u8 = 1;

/// A window's domains by their names.
type Domains = BTreeMap<String, Summary>;

/// Adds summaries and emits a row for each pair of domains, and for each domain with a past to be compared with.
///
/// Of a window's domains those stay that the limit lets stay; the rest are one, [`OTHER`].
pub struct DriftMerge<E> {
    windows: Windows,
    shape: Shape,
    measure: Measure,
    pairs: Pairs,
    self_offset: Option<i64>,
    limit: Limit,
    revision: i64,
    history: History,
    closed: Option<i64>,
    encoder: E,
    overflowed: u64,
    alerts: AlertStage,
    /// The rows of the window that is being closed, where alert rules look at them.
    judged: Option<Vec<Row>>,
    told: fn(&Pin, Pinned),
    /// Users by domain in the newest window with users.
    samples: Vec<(String, u64)>,
}

impl<E: RowEncoder> DriftMerge<E> {
    /// A merge for these settings.
    #[must_use]
    pub fn new(settings: &Settings, encoder: E) -> Self {
        Self {
            windows: settings.windows,
            shape: settings.shape(),
            measure: settings.measure(),
            pairs: settings.pairs.clone(),
            self_offset: settings.self_offset,
            limit: settings.limit(),
            revision: settings.revision,
            history: History::default(),
            closed: None,
            encoder,
            overflowed: 0,
            alerts: AlertStage::default(),
            judged: None,
            told: |_, _| (),
            samples: Vec::new(),
        }
    }

    /// Tells `told` what becomes of each pin that comes as a command; in a replay again.
    #[must_use]
    pub fn telling(self, told: fn(&Pin, Pinned)) -> Self {
        Self { told, ..self }
    }

    /// The same merge, whose rows are judged by alert rules.
    #[must_use]
    pub fn with_alerts(self, alerts: AlertStage) -> Self {
        Self { alerts, ..self }
    }

    /// Makes a window a domain's reference.
    pub fn pin(&mut self, pin: &Pin, out: &mut MergeOutput) -> Pinned {
        let domain = pin.domain.as_str();
        let pinned = self.history.pin(pin, self.closed);
        match (pinned, pin.window_end, self.closed) {
            (Pinned::Now, Some(end), Some(closed)) => {
                if let Some(summary) = self.history.window(end, domain).map(Box::<[u8]>::from) {
                    self.refer(closed, domain, &summary, out);
                }
            }
            (Pinned::Removed, ..) => {
                let since = self.closed.unwrap_or(i64::MIN).saturating_add(1);
                self.history.forget_references(since, domain).iter().for_each(|key| out.forget(key));
            }
            _ => {}
        }
        pinned
    }

    /// Windows of a domain that end after `since` are compared with that summary.
    fn refer(&mut self, since: i64, domain: &str, summary: &[u8], out: &mut MergeOutput) {
        self.history.forget_references(since, domain).iter().for_each(|key| out.forget(key));
        self.history.refer(since, domain, summary);
        out.remember(&reference_key(since, domain), |into| put_summary(into, since, summary));
    }

    /// Merges what is too much.
    fn limit(&mut self, groups: BTreeMap<Box<[u8]>, Summary>) -> Domains {
        let mut stays = self.limit.judge();
        let mut domains = Domains::new();
        let mut rest: Option<Summary> = None;
        for (group, summary) in groups {
            let domain = String::from_utf8_lossy(&group);
            if *group != *MERGED && stays(&domain) {
                domains.insert(domain.into_owned(), summary);
            } else {
                rest.get_or_insert_with(|| Summary::empty(&self.shape)).merge_overflow(&summary, &self.shape);
            }
        }
        if let Some(rest) = rest {
            self.overflowed += rest.overflowed;
            // events may literally say `__other__`: two rows of one key would be one too many
            domains.entry(OTHER.to_owned()).or_insert_with(|| Summary::empty(&self.shape)).merge(&rest, &self.shape);
        }
        domains
    }

    fn emit_pairs(&mut self, end: i64, domains: &Domains, out: &mut MergeOutput) {
        match self.pairs.clone() {
            Pairs::All { max } => {
                let mut emitted = 0;
                for (at, (source, source_summary)) in domains.iter().enumerate() {
                    for (target, target_summary) in domains.iter().skip(at + 1) {
                        if emitted == max {
                            self.overflowed += 1;
                            continue;
                        }
                        emitted += 1;
                        self.emit(end, Kind::Pair, (source, source_summary), (target, target_summary), out);
                    }
                }
            }
            Pairs::Listed(pairs) => {
                for pair in &pairs {
                    let pooled = self.pooled(pair, domains);
                    if let (Some(source), Some(target)) = (pooled, domains.get(&pair.target)) {
                        let sources = pair.sources.join(JOINED_WITH);
                        self.emit(end, Kind::Pair, (&sources, &source), (&pair.target, target), out);
                    }
                }
            }
        }
    }

    /// The sources of a pair as one; those absent from the window are left out.
    fn pooled<'a>(&self, pair: &Pair, domains: &'a Domains) -> Option<Cow<'a, Summary>> {
        let mut present = pair.sources.iter().filter_map(|source| domains.get(source));
        let mut pooled = Cow::Borrowed(present.next()?);
        for summary in present {
            pooled.to_mut().merge(summary, &self.shape);
        }
        Some(pooled)
    }

    fn emit_self_drift(&mut self, end: i64, domains: &Domains, out: &mut MergeOutput) {
        for (domain, now) in domains {
            let reference = self.history.reference(domain, end);
            let before = reference.or_else(|| {
                self.self_offset.and_then(|offset| self.history.window(end.saturating_sub(offset), domain))
            });
            // checked when it was kept or read back
            if let Some(then) = before.and_then(|then| Summary::decode(then, &self.shape).ok()) {
                self.emit(end, Kind::SelfDrift, (domain, &then), (domain, now), out);
            }
        }
    }

    fn emit(
        &mut self,
        end: i64,
        kind: Kind,
        (sources, source): (&str, &Summary),
        (target, target_summary): (&str, &Summary),
        out: &mut MergeOutput,
    ) {
        let Some(distance) = self.measure.distance(source, target_summary) else { return };
        let row = DriftRow {
            window_start: self.windows.start(end),
            window_end: end,
            kind,
            sources,
            target,
            distance,
            revision: self.revision,
        };
        if let Some(judged) = &mut self.judged {
            let mut example = target_summary.example.clone();
            if kind == Kind::Pair {
                Example::keep_least(&mut example, source.example.as_ref());
            }
            judged.push(alerts::row(&row, example.as_ref()));
        }
        let encoder = &mut self.encoder;
        out.records.push(DRIFT_TOPIC, None, row.key().as_bytes(), |into| encoder.drift(&row, into));
    }

    /// Keeps what later windows are compared with, and forgets what none is any more.
    fn remember(&mut self, end: i64, domains: &Domains, out: &mut MergeOutput) {
        let mut bytes = Vec::new();
        for (domain, summary) in domains {
            let is_awaited = self.history.awaits(end, domain);
            if self.self_offset.is_none() && !is_awaited {
                continue;
            }
            bytes.clear();
            summary.encode(&mut bytes);
            if self.self_offset.is_some() {
                self.history.keep(end, domain, &bytes);
                out.remember(&window_key(end, domain), |into| put_summary(into, end, &bytes));
            }
            if is_awaited {
                self.refer(end, domain, &bytes, out);
            }
        }
        for pin in self.history.settle(end) {
            (self.told)(&pin, Pinned::Unknown);
        }
        if let Some(offset) = self.self_offset {
            for key in self.history.forget(end.saturating_sub(offset)) {
                out.forget(&key);
            }
        }
    }
}

impl<E: RowEncoder> Merge for DriftMerge<E> {
    type Summary = Summary;

    /// Domains' shares that were merged into others because a window had too many domains, and pairs that were left out
    /// because it had too many pairs. A domain counts once a window and for each partition whose fold merged its share.
    fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn decode(&self, bytes: &[u8]) -> Result<Summary, RestoreError> {
        Summary::decode(bytes, &self.shape)
    }

    fn encode(&self, summary: &Summary, into: &mut Vec<u8>) {
        summary.encode(into);
    }

    fn merge(&self, into: &mut Summary, other: Summary) {
        into.merge(&other, &self.shape);
    }

    fn close(&mut self, end: i64, groups: BTreeMap<Box<[u8]>, Summary>, out: &mut MergeOutput) {
        let domains = self.limit(groups);
        self.judged = self.alerts.wants(end).then(Vec::new);
        self.emit_pairs(end, &domains, out);
        self.emit_self_drift(end, &domains, out);
        let rows = self.judged.take().unwrap_or_default();
        self.alerts.close(end, || rows, out);
        self.remember(end, &domains, out);
        self.closed = Some(end);
        self.samples = domains.into_iter().map(|(domain, summary)| (domain, summary.users)).collect();
    }

    /// `samples`: users by domain in the newest window with users; and what alert rules count.
    fn figures(&self) -> Vec<Figure<'_>> {
        let samples = self.samples.iter();
        let samples = samples.map(|(domain, users)| Figure { name: "samples", of: domain, value: *users });
        samples.chain(self.alerts.figures()).collect()
    }

    fn size(&self) -> StateSize {
        let (history, alerts) = (self.history.size(), self.alerts.size());
        StateSize { keys: history.keys + alerts.keys, bytes: history.bytes + alerts.bytes }
    }

    fn begin(&mut self, out: &mut MergeOutput) {
        self.alerts.begin(out);
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        into.push(VERSION);
        wire::put_u64(into, self.overflowed);
        wire::put_u64(into, u64::from(self.closed.is_some()));
        wire::put_signed(into, i128::from(self.closed.unwrap_or_default()));
        self.history.encode_awaited(into);
        let mut state = Vec::new();
        self.alerts.snapshot(&mut state);
        wire::put_bytes(into, &state);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let mut reader = Reader::new(bytes);
        let has_alerts = bytes.first() != Some(&WITHOUT_ALERTS);
        reader.version(if has_alerts { VERSION } else { WITHOUT_ALERTS })?;
        let overflowed = reader.u64()?;
        let has_closed = reader.u64()? == 1;
        let closed = Some(reader.time()?).filter(|_| has_closed);
        self.history.decode_awaited(&mut reader)?;
        let state = if has_alerts { reader.bytes()? } else { &[] };
        reader.finish()?;
        self.alerts.restore(state)?;
        (self.overflowed, self.closed) = (overflowed, closed);
        Ok(())
    }

    /// A [`Pin`] as JSON; anything else changes nothing.
    fn command(&mut self, bytes: &[u8], out: &mut MergeOutput) {
        if let Ok(pin) = serde_json::from_slice::<Pin>(bytes) {
            let pinned = self.pin(&pin, out);
            (self.told)(&pin, pinned);
        }
    }

    fn recall(&mut self, key: &str, bytes: &[u8]) -> Result<(), RestoreError> {
        if self.alerts.recall(key, bytes)? {
            return Ok(());
        }
        let shape = &self.shape;
        self.history.recall(key, bytes, |summary| Summary::decode(summary, shape).map(|_| ()))
    }
}
