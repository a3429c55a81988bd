//! Rules and series as bytes.

use std::collections::{BTreeMap, VecDeque};

use measures::{Cusum, UpperTail};
use storage::wire::{self, Reader, damaged};
use streaming::operator::RestoreError;

use crate::attribution::Attribution;
use crate::catalogue::{Group, RowKind};
use crate::live::LiveRule;
use crate::rule::{Compiled, Rule, RuleSet, Terms, TermsSince};
use crate::series::{Firing, Past, Series, Window};

/// Of series.
pub(crate) const VERSION: u8 = 1;
/// Of rules.
const RULES_VERSION: u8 = 2;
/// Rules, before it was kept what had held earlier.
const WITHOUT_OLDER_TERMS: u8 = 1;

/// Appends what held for all rules and since when, and the rules that run, each with since when it does.
pub(crate) fn write_rules(terms: &[(i64, Terms)], live: &[LiveRule], into: &mut Vec<u8>) {
    into.push(RULES_VERSION);
    let rules: Vec<(i64, &Rule)> = live.iter().map(|live| (live.since, &live.rule.rule)).collect();
    // plain data into memory: there is nothing that can fail
    into.extend(postcard::to_stdvec(&(terms, rules)).unwrap_or_default());
}

/// Reads what [`write_rules`] has written.
pub(crate) fn read_rules(bytes: &[u8], kind: &RowKind) -> Result<(TermsSince, Vec<LiveRule>), RestoreError> {
    let unreadable = |error: postcard::Error| RestoreError(format!("alert rules: {error}"));
    let mut reader = Reader::new(bytes);
    let (terms, rules): (TermsSince, Vec<(i64, Rule)>) = if bytes.first() == Some(&WITHOUT_OLDER_TERMS) {
        reader.version(WITHOUT_OLDER_TERMS)?;
        let set: RuleSet = postcard::from_bytes(reader.bytes()?).map_err(unreadable)?;
        let rules = set.rules.into_iter().map(|rule| Ok((reader.i64()?, rule)));
        (vec![(i64::MIN, set.terms)], rules.collect::<Result<_, RestoreError>>()?)
    } else {
        reader.version(RULES_VERSION)?;
        postcard::from_bytes(reader.rest()).map_err(unreadable)?
    };
    if terms.is_empty() || !terms.is_sorted_by_key(|(since, _)| *since) {
        return Err(damaged("alert rules: since when they hold is not said"));
    }
    let mut live = Vec::new();
    for (since, rule) in rules {
        let named = rule.name.clone();
        let compiled = Compiled::new(rule, kind);
        let compiled = compiled.map_err(|name| {
            RestoreError(format!("the alert rule {named} watches {name}, which rows of {} do not have", kind.name))
        })?;
        live.push(LiveRule::new(compiled, since));
    }
    Ok((terms, live))
}

/// Appends the series of all rules.
pub(crate) fn write_series(live: &[LiveRule], into: &mut Vec<u8>) {
    wire::put_u64(into, live.len() as u64);
    for live in live {
        wire::put_bytes(into, live.rule.rule.name.as_bytes());
        wire::put_signed(into, i128::from(live.since));
        wire::put_u64(into, live.series.len() as u64);
        for (group, series) in &live.series {
            wire::put_u64(into, group.len() as u64);
            group.iter().for_each(|value| wire::put_bytes(into, value.as_bytes()));
            write_one(series, into);
        }
    }
}

/// Reads what [`write_series`] has written into the rules that are the same still: by name, and by when they began.
pub(crate) fn read_series(reader: &mut Reader<'_>, live: &mut [LiveRule]) -> Result<(), RestoreError> {
    for live in live.iter_mut() {
        live.series.clear();
        live.measure();
    }
    for _ in 0..reader.u64()? {
        let (name, since) = (reader.text()?, reader.i64()?);
        let mut all: BTreeMap<Group, Series> = BTreeMap::new();
        for _ in 0..reader.u64()? {
            let mut group = Vec::new();
            for _ in 0..reader.u64()? {
                group.push(reader.text()?.into());
            }
            all.insert(group.into(), read_one(reader)?);
        }
        if let Some(live) = live.iter_mut().find(|live| live.rule.rule.name == name && live.since == since) {
            live.series = all;
            live.measure();
        }
    }
    Ok(())
}

fn write_one(series: &Series, into: &mut Vec<u8>) {
    for count in [series.breaches, series.clears, series.misses] {
        wire::put_u64(into, u64::from(count));
    }
    wire::put_signed(into, i128::from(series.last));
    match &series.past {
        Past::None => into.push(0),
        Past::Window(window) => {
            into.push(1);
            write_values(window.values.iter(), into);
            wire::put_u64(into, u64::from(window.refreshed.is_some()));
            wire::put_signed(into, i128::from(window.refreshed.unwrap_or_default()));
            wire::put_u64(into, u64::from(window.quantiles.is_some()));
            window.quantiles.unwrap_or_default().iter().for_each(|quantile| put_float(into, *quantile));
        }
        Past::Cusum(cusum) => {
            into.push(2);
            write_values(cusum.values.iter().copied(), into);
            put_float(into, cusum.c);
            wire::put_u64(into, cusum.history.count());
            wire::put_u64(into, cusum.history.largest().len() as u64);
            cusum.history.largest().iter().for_each(|value| put_float(into, *value));
        }
    }
    wire::put_u64(into, u64::from(series.firing.is_some()));
    if let Some(firing) = &series.firing {
        for number in [firing.started_at, firing.sequence, firing.sent_at] {
            wire::put_signed(into, i128::from(number));
        }
        wire::put_u64(into, firing.attribution.len() as u64);
        for attribution in &firing.attribution {
            wire::put_bytes(into, attribution.dimensions.as_bytes());
            wire::put_bytes(into, attribution.values.as_bytes());
            put_float(into, attribution.share);
            put_float(into, attribution.entropy);
        }
    }
}

fn read_one(reader: &mut Reader<'_>) -> Result<Series, RestoreError> {
    let (breaches, clears, misses) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let last = reader.i64()?;
    let [tag] = reader.array()?;
    let past = match tag {
        0 => Past::None,
        1 => {
            let mut window = Window::default();
            for (time, value) in read_values(reader)? {
                window.values.push(time, value);
            }
            let refreshed = (reader.u64()? == 1, reader.i64()?);
            window.refreshed = refreshed.0.then_some(refreshed.1);
            let quantiles = (reader.u64()? == 1, [reader.float()?, reader.float()?, reader.float()?]);
            window.quantiles = quantiles.0.then_some(quantiles.1);
            Past::Window(window)
        }
        2 => {
            let values = VecDeque::from(read_values(reader)?);
            let (c, count) = (reader.float()?, reader.u64()?);
            let mut largest = Vec::new();
            for _ in 0..reader.u64()? {
                largest.push(reader.float()?);
            }
            let history = UpperTail::from_parts(largest, count).ok_or_else(|| damaged("a tail that is none"))?;
            Past::Cusum(Box::new(Cusum { values, c, history }))
        }
        _ => return Err(damaged("a past of an unknown kind")),
    };
    let firing = match reader.u64()? {
        0 => None,
        _ => Some(read_firing(reader)?),
    };
    Ok(Series { breaches, clears, misses, last, past, firing })
}

fn read_firing(reader: &mut Reader<'_>) -> Result<Firing, RestoreError> {
    let (started_at, sequence, sent_at) = (reader.time()?, reader.i64()?, reader.time()?);
    let mut attribution = Vec::new();
    for _ in 0..reader.u64()? {
        attribution.push(Attribution {
            dimensions: reader.text()?.to_owned(),
            values: reader.text()?.to_owned(),
            share: reader.float()?,
            entropy: reader.float()?,
        });
    }
    Ok(Firing { started_at, sequence, sent_at, attribution })
}

/// Times as distances from the one before.
fn write_values(values: impl ExactSizeIterator<Item = (i64, f64)>, into: &mut Vec<u8>) {
    wire::put_u64(into, values.len() as u64);
    let mut before = 0;
    for (time, value) in values {
        wire::put_signed(into, i128::from(time) - i128::from(before));
        put_float(into, value);
        before = time;
    }
}

fn read_values(reader: &mut Reader<'_>) -> Result<Vec<(i64, f64)>, RestoreError> {
    let mut values: Vec<(i64, f64)> = Vec::new();
    let mut before = 0_i64;
    for at in 0..reader.u64()? {
        let time = before.checked_add(reader.i64()?).filter(|time| at == 0 || *time >= before);
        before = time.ok_or_else(|| damaged("times that are not ascending"))?;
        values.push((before, reader.float()?));
    }
    Ok(values)
}

fn put_float(into: &mut Vec<u8>, value: f64) {
    into.extend_from_slice(&value.to_le_bytes());
}
