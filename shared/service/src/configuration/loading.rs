use figment::error::{Error, Kind};
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

use super::layers::Layers;
use super::problems::{Origin, Problem, Problems, Validate};
use super::secrets::{self, Secrets};
use super::sources::Sources;
use super::{tree, types};

/// A configuration that was found good.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub settings: T,
    /// The keys that something else than the defaults set, and what.
    pub changes: Vec<(String, Origin)>,
    /// Environment variables that set keys of other workers, by name: they have no effect here.
    pub ignored_variables: Vec<String>,
}

impl<T> Loaded<T> {
    /// The changed keys and their origins in one line, without values.
    pub fn describe_changes(&self) -> String {
        if self.changes.is_empty() {
            return "nothing".to_owned();
        }
        let changes: Vec<String> = self.changes.iter().map(|(key, origin)| format!("{key} ({origin})")).collect();
        changes.join(", ")
    }
}

/// Reads and checks a configuration.
///
/// Errors: everything that is wrong in any source, each with its key, value, what is allowed, and where it came from. A
/// wrong value counts as its default while the rest is checked.
pub fn load<T: DeserializeOwned + Validate>(sources: Sources<'_>) -> Result<Loaded<T>, Problems> {
    let mut problems = Problems::new();
    let layers = Layers::read(&sources, &mut problems);
    let checked = types::check(&layers, &mut problems);
    let settings: Option<T> = decode(checked, &layers, &mut problems);

    if let Some(settings) = &settings {
        let mut invalid = Problems::new();
        settings.validate(&mut invalid);
        for mut problem in invalid {
            // What follows from a wrong value that counted as its default would only confuse.
            if !problems.concern(&problem.key) {
                problem.origin = layers.origin(&problem.key);
                problems.push(problem);
            }
        }
    }
    match settings {
        Some(settings) if problems.is_empty() => {
            let changes = layers.changes();
            Ok(Loaded { settings, changes, ignored_variables: layers.ignored_variables })
        }
        _ => {
            let secrets = Secrets::of(&layers.merged);
            problems.iter_mut().for_each(|problem| secrets.conceal(problem));
            Err(problems)
        }
    }
}

/// Decodes `tree`. serde stops at the first error: it is told, its value replaced by the default, and all tried again. `None`
/// where that does not help, which means that the defaults themselves are wrong.
fn decode<T: DeserializeOwned>(mut tree: Dict, layers: &Layers, problems: &mut Problems) -> Option<T> {
    loop {
        let error = match Value::from(tree.clone()).deserialize::<T>() {
            Ok(settings) => return Some(settings),
            Err(error) => error,
        };
        let Mistake { path, message, cure } = Mistake::of(error, &tree);
        let key = path.join(".");
        // The value of an unknown key is not shown: nobody knows whether it is a password under a misspelt name.
        let shown = !matches!(cure, Cure::Remove);
        let value = tree::get(&tree, &path).filter(|_| shown).map(|value| secrets::shown(&key, value));
        problems.push(Problem { origin: layers.origin(&key), key, value, message });
        let whole = with_its_choice(&path, &layers.defaults);
        let default = tree::get(&layers.defaults, whole);
        let cured = match cure {
            Cure::Remove => tree::remove(&mut tree, &path),
            Cure::Default if default.is_none() => {
                added(&path, &layers.defaults).is_some_and(|added| tree::remove(&mut tree, added))
            }
            Cure::Default if tree::get(&tree, whole) == default => false,
            Cure::Default => default.is_some_and(|default| tree::put(&mut tree, whole, default.clone())),
        };
        if !cured {
            return None;
        }
    }
}

/// Where serde's error lies, in the users' words, and what makes the rest readable.
struct Mistake {
    path: Vec<String>,
    message: String,
    cure: Cure,
}

enum Cure {
    Default,
    Remove,
}

impl Mistake {
    fn of(error: Error, tree: &Dict) -> Self {
        let mut path = error.path;
        let message = match error.kind {
            Kind::MissingField(name) => {
                let message = format!("the key {name} is missing");
                // Of a choice, the choice as a whole is at fault: which keys it needs depends on its kind.
                if !tree::get(tree, &path).is_some_and(tree::is_choice) {
                    path.push(name.into_owned());
                }
                return Self { path, message, cure: Cure::Default };
            }
            Kind::UnknownField(name, known) => {
                if path.last() != Some(&name) {
                    path.push(name);
                }
                let message = format!("unknown key, known here: {}", known.join(", "));
                return Self { path, message, cure: Cure::Remove };
            }
            Kind::UnknownVariant(_, known) => format!("must be one of {}", quoted(known)),
            Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("must be {expected}"),
            Kind::InvalidLength(length, expected) => format!("must be {expected}, not {length} long"),
            Kind::Message(message) => message,
            // Their texts may repeat the value.
            _ => "must be a value of another kind".to_owned(),
        };
        Self { path: up_to_table(path, tree), message, cure: Cure::Default }
    }
}

/// The choice that `path` leads into, if it does: only all of its keys together make sense.
fn with_its_choice<'a>(path: &'a [String], defaults: &Dict) -> &'a [String] {
    let choice = (1..path.len()).find(|end| tree::get(defaults, &path[..*end]).is_some_and(tree::is_choice));
    &path[..choice.unwrap_or(path.len())]
}

/// The choice without a default that `path` leads into, if it was added to a named table.
fn added<'a>(path: &'a [String], defaults: &Dict) -> Option<&'a [String]> {
    let named = (1..path.len()).find(|end| tree::get(defaults, &path[..*end]).is_some_and(tree::is_named))?;
    Some(&path[..=named])
}

/// Cuts `path` where it leaves the tables: a list is right or wrong as a whole.
fn up_to_table(mut path: Vec<String>, tree: &Dict) -> Vec<String> {
    while path.len() > 1 && tree::get(tree, &path[..path.len() - 1]).is_none_or(|value| value.as_dict().is_none()) {
        path.pop();
    }
    path
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}
