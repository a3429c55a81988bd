use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Deserialize;
use service::Problems;

use crate::mute_time::{self, MuteTime};

/// An entry of `[[mute_times.<name>]]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct MuteTimeSection {
    pub times: Vec<String>,
    pub weekdays: Vec<String>,
    pub days_of_month: Vec<String>,
    pub months: Vec<String>,
    pub location: Option<String>,
}

pub(super) fn compile(
    sections: &BTreeMap<String, Vec<MuteTimeSection>>,
    problems: &mut Problems,
) -> BTreeMap<String, Vec<MuteTime>> {
    let mut compiled: BTreeMap<String, Vec<MuteTime>> = BTreeMap::new();
    for (name, entries) in sections {
        let times = compiled.entry(name.clone()).or_default();
        for (index, section) in entries.iter().enumerate() {
            times.push(section.compile(&format!("mute_times.{name}[{index}]"), problems));
        }
    }
    compiled
}

impl MuteTimeSection {
    fn compile(&self, key: &str, problems: &mut Problems) -> MuteTime {
        let lists = [&self.times, &self.weekdays, &self.days_of_month, &self.months];
        if lists.iter().all(|list| list.is_empty()) {
            problems.tell(key, "sets nothing, so it would mute for ever; set times, weekdays, days_of_month or months");
        }
        let location = self.location.as_deref().unwrap_or("UTC");
        let location = mute_time::location(location).unwrap_or_else(|allowed| {
            problems.add(format!("{key}.location"), format!("{location:?}"), allowed);
            TimeZone::UTC
        });
        MuteTime {
            times: ranges(key, "times", &self.times, time_range, problems),
            weekdays: ranges(key, "weekdays", &self.weekdays, mute_time::weekdays, problems),
            days_of_month: ranges(key, "days_of_month", &self.days_of_month, mute_time::days_of_month, problems),
            months: ranges(key, "months", &self.months, mute_time::months, problems),
            location,
        }
    }
}

fn ranges<T>(
    key: &str,
    name: &str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, String>,
    problems: &mut Problems,
) -> Vec<T> {
    let mut ranges = Vec::new();
    for text in texts {
        match read(text) {
            Ok(range) => ranges.push(range),
            Err(allowed) => problems.add(format!("{key}.{name}"), format!("{text:?}"), allowed),
        }
    }
    ranges
}

fn time_range(text: &str) -> Result<(u32, u32), String> {
    let allowed = || "two times of day such as \"22:00-24:00\", the first before the second".to_owned();
    let (from, to) = text.split_once('-').ok_or_else(allowed)?;
    let (from, to) = (mute_time::minute_of_day(from.trim())?, mute_time::minute_of_day(to.trim())?);
    if from < to { Ok((from, to)) } else { Err(allowed()) }
}
