//! Every key of the configuration against the defaults: is it known, and does it hold the same kind of value.

use figment::value::{Dict, Value};

use super::layers::Layers;
use super::problems::{Origin, Problem, Problems};
use super::secrets;
use super::suggestion::nearest;
use super::tree;

/// Tells every unknown key and every value of another kind than its default's, and returns the tree without them: unknown keys
/// removed, wrong values replaced by their defaults, so that the rest can be checked.
pub(super) fn check(layers: &Layers, problems: &mut Problems) -> Dict {
    let mut checker = Checker { layers, problems, path: Vec::new() };
    checker.table(&layers.merged, &layers.defaults)
}

struct Checker<'a> {
    layers: &'a Layers,
    problems: &'a mut Problems,
    path: Vec<String>,
}

impl Checker<'_> {
    fn table(&mut self, values: &Dict, defaults: &Dict) -> Dict {
        let mut checked = Dict::new();
        for (key, value) in values {
            self.path.push(key.clone());
            match defaults.get(key) {
                None => self.unknown(key, defaults),
                Some(default) => {
                    checked.insert(key.clone(), self.value(value, default));
                }
            }
            self.path.pop();
        }
        checked
    }

    fn value(&mut self, value: &Value, default: &Value) -> Value {
        match (value, default) {
            // What a choice or a free-form table may hold, its type knows.
            (Value::Dict(..), Value::Dict(..)) if tree::is_choice(default) || tree::is_free_form(default) => {
                value.clone()
            }
            (Value::Dict(tag, values), Value::Dict(_, defaults)) if tree::is_named(default) => {
                Value::Dict(*tag, self.named(values, defaults))
            }
            (Value::Dict(tag, values), Value::Dict(_, defaults)) => Value::Dict(*tag, self.table(values, defaults)),
            _ if kind(value) == kind(default) || (kind(value), kind(default)) == (Kind::Integer, Kind::Number) => {
                value.clone()
            }
            _ => {
                let key = self.path.join(".");
                let example = match default {
                    Value::Dict(..) if !tree::is_choice(default) => String::new(),
                    Value::String(_, text) if text.is_empty() => String::new(),
                    _ => format!(", such as {}", secrets::shown(&key, default)),
                };
                let message = format!("must be {}{example}, not {}", kind(default).name(), kind(value).name());
                let shown = match kind(default) {
                    Kind::Table | Kind::List => secrets::shown_instead_of_table(&key, value),
                    _ => secrets::shown(&key, value),
                };
                self.tell(Some(shown), message);
                default.clone()
            }
        }
    }

    /// A table to which more choices may be added.
    fn named(&mut self, values: &Dict, defaults: &Dict) -> Dict {
        let mut checked = Dict::new();
        for (key, value) in values {
            self.path.push(key.clone());
            match (defaults.get(key), value) {
                (Some(default), _) => {
                    checked.insert(key.clone(), self.value(value, default));
                }
                (None, Value::Dict(..)) => {
                    checked.insert(key.clone(), value.clone());
                }
                (None, _) => {
                    let message = format!("must be a table, not {}", kind(value).name());
                    self.tell(None, message);
                }
            }
            self.path.pop();
        }
        checked
    }

    fn unknown(&mut self, key: &str, known: &Dict) {
        let prefix: String = self.path[..self.path.len() - 1].iter().map(|table| format!("{table}.")).collect();
        let message = match nearest(key, known.keys().map(String::as_str)) {
            Some(near) => format!("unknown key, did you mean {prefix}{near}?"),
            None => {
                let all: Vec<&str> = known.keys().map(String::as_str).collect();
                let place = if prefix.is_empty() {
                    "the top level".to_owned()
                } else {
                    format!("[{}]", prefix.trim_end_matches('.'))
                };
                format!("unknown key, known in {place}: {}", all.join(", "))
            }
        };
        // Its value is not shown: nobody knows whether it is a password under a misspelt name.
        self.tell(None, message);
    }

    fn tell(&mut self, value: Option<String>, message: String) {
        let key = self.path.join(".");
        let origin: Option<Origin> = self.layers.origin(&key);
        self.problems.push(Problem { key, value, message, origin });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    List,
    Table,
    Nothing,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text in quotes",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List => "a list",
            Self::Table => "a table",
            Self::Nothing => "nothing",
        }
    }
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::String(..) | Value::Char(..) => Kind::Text,
        Value::Bool(..) => Kind::Boolean,
        Value::Num(..) if value.to_i128().is_some() || value.to_u128().is_some() => Kind::Integer,
        Value::Num(..) => Kind::Number,
        Value::Array(..) => Kind::List,
        Value::Dict(..) => Kind::Table,
        Value::Empty(..) => Kind::Nothing,
    }
}
