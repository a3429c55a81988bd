//! Keys of other workers: one set of environment variables may serve several of them.

use figment::value::Dict;

use super::tree;
use crate::sections;

/// The defaults of all workers, and of what they share: they list every key.
const DEFAULTS: [&str; 11] = [
    include_str!("../../../../workers/alert-router/src/default.toml"),
    include_str!("../../../../workers/clickhouse-writer/src/default.toml"),
    include_str!("../../../../workers/cosine-decay/src/default.toml"),
    include_str!("../../../../workers/domain-drift/src/default.toml"),
    include_str!("../../../../workers/session-entropy/src/default.toml"),
    include_str!("../../../alerting/src/default.toml"),
    include_str!("../../../streaming/src/runtime.toml"),
    sections::KAFKA,
    sections::REGISTRY,
    sections::HTTP,
    sections::LOG,
];

/// Whether the key at `path`, which the worker with the defaults `own` does not have, is one of another worker: anything in
/// a section that only others have, else exactly their key.
pub(super) fn is_foreign(path: &[String], own: &Dict) -> bool {
    if knows(own, path) {
        return false;
    }
    let Some(first) = path.first() else { return false };
    // Read only where there is such a variable, which is seldom and at the start.
    let mut others = DEFAULTS.iter().filter_map(|text| tree::parse(text).ok());
    if own.contains_key(first) {
        others.any(|other| knows(&other, path))
    } else {
        others.any(|other| other.contains_key(first))
    }
}

/// Whether `defaults` have the key at `path`, or a table there that takes any key.
fn knows(defaults: &Dict, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    match defaults.get(first) {
        None => false,
        Some(_) if rest.is_empty() => true,
        Some(value) if tree::is_choice(value) || tree::is_free_form(value) || tree::is_named(value) => true,
        Some(value) => value.as_dict().is_some_and(|table| knows(table, rest)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_defaults_of_every_worker_are_known() {
        let workers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workers");
        let mut found = 0;
        for worker in std::fs::read_dir(workers).unwrap() {
            let file = worker.unwrap().path().join("src/default.toml");
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(DEFAULTS.contains(&text.as_str()), "{} is missing in DEFAULTS", file.display());
            found += 1;
        }
        assert!(found >= 5, "{found}");
        for text in DEFAULTS {
            assert!(tree::parse(text).is_ok_and(|defaults| !defaults.is_empty()), "{text}");
        }
    }
}
