//! The sources as layers, from the weakest to the strongest, and their union with figment.

use figment::providers::Serialized;
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::problems::{Origin, Problem, Problems};
use super::secrets::STARS;
use super::sources::Sources;
use super::{foreign, tree};

const PREFIX: &str = "RECWATCH_";
/// Variables of the project's tools, not of a worker.
const OF_TOOLS: [&str; 2] = ["RECWATCH_CACHE", "RECWATCH_REFERENCE"];

/// What one source says: a whole file, or one variable or `--set`.
struct Layer {
    origin: Origin,
    values: Dict,
    /// The key whose value a variable or `--set` gives as a whole.
    given: Option<Vec<String>>,
}

/// The union of all layers.
pub(super) struct Layers {
    figment: Figment,
    /// The union itself.
    pub(super) merged: Dict,
    /// The defaults alone.
    pub(super) defaults: Dict,
    origins: Vec<Origin>,
    /// Environment variables that set keys of other workers, by name.
    pub(super) ignored_variables: Vec<String>,
}

impl Layers {
    /// Reads the sources; what cannot be read is told and left out.
    pub(super) fn read(sources: &Sources<'_>, problems: &mut Problems) -> Self {
        let mut layers = vec![Layer { origin: Origin::Default, values: Dict::new(), given: None }];
        match tree::parse(sources.defaults) {
            Ok(values) => layers[0].values = values,
            Err(message) => problems.push(unreadable(Origin::Default, message)),
        }
        if let Some(path) = sources.file {
            let origin = Origin::File(path.display().to_string());
            match std::fs::read_to_string(path).map_err(|error| error.to_string()).and_then(|text| tree::parse(&text)) {
                Ok(values) => layers.push(Layer { origin, values, given: None }),
                Err(message) => problems.push(unreadable(origin, message)),
            }
        }
        let defaults = layers[0].values.clone();
        // By name, so that RECWATCH_BINS comes before RECWATCH_BINS__COUNT.
        let mut variables: Vec<_> = sources.environment.iter().filter(|(name, _)| is_ours(name, &defaults)).collect();
        variables.sort();
        let mut ignored_variables = Vec::new();
        for (name, text) in variables {
            let path = path_of_variable(name);
            if foreign::is_foreign(&path, &defaults) {
                ignored_variables.push(name.clone());
            } else {
                layers.push(Layer::of(Origin::Environment(name.clone()), path, text, &defaults));
            }
        }
        for set in sources.sets {
            match set.split_once('=').and_then(|(key, text)| Some((key.trim(), path_of_key(key.trim())?, text))) {
                Some((key, path, text)) => layers.push(Layer::of(Origin::Set(key.to_owned()), path, text, &defaults)),
                None => {
                    let key = key_of_malformed(set, &defaults);
                    let message =
                        "must be KEY=VALUE with a dotted key, as in window=10m or kafka.brokers=host:9092".to_owned();
                    problems.push(unreadable(Origin::Set(key), message));
                }
            }
        }
        Self::unite(layers, defaults, ignored_variables)
    }

    fn unite(mut layers: Vec<Layer>, defaults: Dict, ignored_variables: Vec<String>) -> Self {
        // A table that replaces another one whole: what weaker layers say about it goes.
        let mut choices = Vec::new();
        collect_choices(&defaults, &mut Vec::new(), &mut choices);
        for stronger in 1..layers.len() {
            let layer = &layers[stronger];
            let mut replaced: Vec<Vec<String>> = choices
                .iter()
                .filter(|path| tree::get(&layer.values, path).is_some_and(tree::is_choice))
                .cloned()
                .collect();
            if let Some(given) = &layer.given
                && tree::get(&layer.values, given).is_some_and(|value| value.as_dict().is_some())
                && tree::get(&defaults, given)
                    .is_some_and(|default| tree::is_choice(default) || tree::is_free_form(default))
            {
                replaced.push(given.clone());
            }
            for weaker in &mut layers[..stronger] {
                for path in &replaced {
                    tree::remove(&mut weaker.values, path);
                }
            }
        }
        let origins = layers.iter().map(|layer| layer.origin.clone()).collect();
        let figment = layers
            .into_iter()
            .enumerate()
            .fold(Figment::new(), |figment, (index, layer)| figment.merge(Numbered { index, values: layer.values }));
        // The layers are plain tables: there is nothing in them that figment could fail to read.
        let merged = figment.data().ok().and_then(|mut data| data.remove(&Profile::Default)).unwrap_or_default();
        Self { figment, merged, defaults, origins, ignored_variables }
    }

    /// Where the value at the dotted `key`, or the nearest table around it, came from.
    pub(super) fn origin(&self, key: &str) -> Option<Origin> {
        self.origin_of_tag(tree::deepest(&self.merged, key)?.tag())
    }

    fn origin_of_tag(&self, tag: Tag) -> Option<Origin> {
        let index: usize = self.figment.get_metadata(tag)?.name.parse().ok()?;
        self.origins.get(index).cloned()
    }

    /// Every key that does not have its default's value from the defaults, with its origin.
    pub(super) fn changes(&self) -> Vec<(String, Origin)> {
        let mut changes = Vec::new();
        self.collect_changes("", &self.merged, &mut changes);
        changes
    }

    fn collect_changes(&self, prefix: &str, table: &Dict, changes: &mut Vec<(String, Origin)>) {
        for (key, value) in table {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Dict(_, inner) if !inner.is_empty() => self.collect_changes(&key, inner, changes),
                _ => match self.origin_of_tag(value.tag()) {
                    None | Some(Origin::Default) => {}
                    Some(origin) => changes.push((key, origin)),
                },
            }
        }
    }
}

impl Layer {
    fn of(origin: Origin, path: Vec<String>, text: &str, defaults: &Dict) -> Self {
        let mut value = read_value(text, &path, defaults);
        let mut keys = path.iter().rev();
        let first = keys.next_back();
        for key in keys {
            value = Value::from(Dict::from([(key.clone(), value)]));
        }
        let values = first.map(|first| Dict::from([(first.clone(), value)])).unwrap_or_default();
        Self { origin, values, given: Some(path) }
    }
}

/// A layer as figment's provider; its number leads from a value's tag back to its origin.
struct Numbered {
    index: usize,
    values: Dict,
}

impl Provider for Numbered {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.index.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Serialized::defaults(&self.values).data()
    }
}

/// The value that a variable or `--set` gives: TOML, or else text. Where the key holds text, everything but a quoted
/// string is text as it is: a password may look like a number.
fn read_value(text: &str, path: &[String], defaults: &Dict) -> Value {
    let default = tree::get(defaults, path);
    let in_free_form = (1..path.len()).any(|end| tree::get(defaults, &path[..end]).is_some_and(tree::is_free_form));
    let wants_text = in_free_form || default.is_some_and(|default| default.as_str().is_some());
    let parsed = tree::parse(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"));
    match parsed {
        Some(value) if !wants_text || value.as_str().is_some() => value,
        _ => Value::from(text),
    }
}

/// `RECWATCH_KAFKA__SASL_USER` is `kafka.sasl_user`.
fn path_of_variable(name: &str) -> Vec<String> {
    name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase().split("__").map(str::to_owned).collect()
}

/// Whether a variable is a worker's. Kubernetes sets variables for each service of a namespace (`NAME_SERVICE_HOST`,
/// `NAME_PORT_…`), and may well call one recwatch: these are nobody's keys.
fn is_ours(name: &str, defaults: &Dict) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let of_kubernetes = ["_SERVICE_HOST", "SERVICE_HOST", "_SERVICE_PORT", "SERVICE_PORT", "_PORT", "PORT"]
        .iter()
        .any(|ending| rest.ends_with(ending))
        || rest.contains("SERVICE_PORT_")
        || rest.contains("PORT_") && ["_TCP", "_UDP", "_ADDR", "_PROTO"].iter().any(|ending| rest.ends_with(ending));
    let is_key = tree::get(defaults, &path_of_variable(name)).is_some();
    is_key || !(OF_TOOLS.contains(&name) || of_kubernetes && !rest.contains("__"))
}

/// A dotted key as TOML reads it, quoted parts included.
fn path_of_key(key: &str) -> Option<Vec<String>> {
    let table: toml::Table = toml::from_str(&format!("{key} = 0")).ok()?;
    let mut path = Vec::new();
    let mut value = toml::Value::Table(table);
    while let toml::Value::Table(table) = value {
        let mut entries = table.into_iter();
        let (key, inner) = entries.next()?;
        if entries.next().is_some() {
            return None;
        }
        path.push(key);
        value = inner;
    }
    Some(path)
}

/// What may be shown of a `--set` that is no `KEY=VALUE`: what looks like a key, where it begins as a known one. The rest may
/// be a password.
fn key_of_malformed(set: &str, defaults: &Dict) -> String {
    let end = set.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).unwrap_or(set.len());
    let key = &set[..end];
    let is_known = key.split('.').next().is_some_and(|first| defaults.contains_key(first));
    if is_known { key.to_owned() } else { STARS.to_owned() }
}

fn collect_choices(table: &Dict, path: &mut Vec<String>, choices: &mut Vec<Vec<String>>) {
    for (key, value) in table {
        path.push(key.clone());
        if tree::is_choice(value) {
            choices.push(path.clone());
        } else if let Some(inner) = value.as_dict() {
            collect_choices(inner, path, choices);
        }
        path.pop();
    }
}

fn unreadable(origin: Origin, message: String) -> Problem {
    Problem { key: String::new(), value: None, message, origin: Some(origin) }
}
