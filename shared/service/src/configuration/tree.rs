//! A tree of values out of TOML, paths into it, and what kinds of tables there are.

use figment::value::{Dict, Value};

/// TOML text as values. The error never repeats the text: the line may hold a password.
pub(super) fn parse(text: &str) -> Result<Dict, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        format!("{place}{}", error.message())
    })?;
    match Value::serialize(&table) {
        Ok(Value::Dict(_, dict)) => Ok(dict),
        Ok(_) => Err("not a table".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

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
