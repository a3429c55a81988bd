//! Paths into a tree of values, and how values are shown.

use figment::value::{Dict, Value};

/// The value at `path`, through tables only.
pub(super) fn get<'a>(tree: &'a Dict, path: &[String]) -> Option<&'a Value> {
    let (last, tables) = path.split_last()?;
    let mut table = tree;
    for key in tables {
        table = table.get(key)?.as_dict()?;
    }
    table.get(last)
}

/// Puts `value` at `path`; `false` if no table is there to hold it.
pub(super) fn put(tree: &mut Dict, path: &[String], value: Value) -> bool {
    table_of(tree, path).is_some_and(|(table, last)| {
        table.insert(last.clone(), value);
        true
    })
}

/// Removes the value at `path`; `false` if there is none.
pub(super) fn remove(tree: &mut Dict, path: &[String]) -> bool {
    table_of(tree, path).is_some_and(|(table, last)| table.remove(last).is_some())
}

fn table_of<'a, 'p>(tree: &'a mut Dict, path: &'p [String]) -> Option<(&'a mut Dict, &'p String)> {
    let (last, tables) = path.split_last()?;
    let mut table = tree;
    for key in tables {
        match table.get_mut(key)? {
            Value::Dict(_, inner) => table = inner,
            _ => return None,
        }
    }
    Some((table, last))
}

/// The deepest value on the way to the dotted `key`. Names with dots of their own (`properties."a.b"`) are found, too.
pub(super) fn deepest<'a>(tree: &'a Dict, key: &str) -> Option<&'a Value> {
    let mut ends: Vec<usize> = key.match_indices('.').map(|(at, _)| at).collect();
    ends.push(key.len());
    ends.into_iter().rev().find_map(|end| {
        let value = tree.get(&key[..end])?;
        let rest = key.get(end + 1..).filter(|rest| !rest.is_empty());
        let deeper = rest.and_then(|rest| deepest(value.as_dict()?, rest));
        Some(deeper.unwrap_or(value))
    })
}

/// A table that is a choice between several shapes.
pub(super) fn is_choice(value: &Value) -> bool {
    value.as_dict().is_some_and(|table| table.contains_key("kind"))
}

/// A table in whose place the user may put any keys.
pub(super) fn is_free_form(value: &Value) -> bool {
    value.as_dict().is_some_and(Dict::is_empty)
}

/// A table of choices, to which the user may add some under other names.
pub(super) fn is_named(value: &Value) -> bool {
    value.as_dict().is_some_and(|table| !table.is_empty() && table.values().all(is_choice))
}

/// `value` as TOML writes it, with everything that is or may be a secret replaced by `***`.
pub(super) fn shown(key: &str, value: &Value) -> String {
    // A whole table of settings of which some may be secrets.
    let is_properties = key.rsplit('.').next() == Some("properties");
    if is_properties || is_sensitive(key) {
        return "***".to_owned();
    }
    match value {
        Value::String(_, text) => format!("{:?}", without_credentials(text)),
        Value::Array(_, values) => {
            let values: Vec<String> = values.iter().map(|value| shown(key, value)).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Dict(_, table) => {
            let entries: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} = {}", shown(key, value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Bool(_, value) => value.to_string(),
        Value::Num(..) => match (value.to_i128(), value.to_f64()) {
            (Some(integer), _) => integer.to_string(),
            (None, Some(number)) => number.to_string(),
            (None, None) => "a number".to_owned(),
        },
        Value::Char(_, character) => format!("{character:?}"),
        Value::Empty(..) => "nothing".to_owned(),
    }
}

/// Whether the value of the key or setting `name` may be a secret, going by its name.
pub(crate) fn is_sensitive(name: &str) -> bool {
    let name = name.to_lowercase();
    ["password", "secret", "token", "credential", "oauthbearer", "jaas", ".pem", "routing_key", "headers"]
        .iter()
        .any(|word| name.contains(word))
}

/// An address without user and password.
fn without_credentials(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}***{}", &text[..scheme + 3], &text[at..]),
        _ => text.to_owned(),
    }
}
