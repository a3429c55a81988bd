//! Every mistake in the rules is told at once, with its key and what is allowed.

mod support;

use service::Problems;
use support::{rows, written};

fn problems(rules: &str) -> Vec<String> {
    let mut problems = Problems::new();
    written(rules).validate(&[rows()], &mut problems);
    problems.iter().map(ToString::to_string).collect()
}

fn assert_told(rules: &str, expected: &[&str]) {
    let problems = problems(rules);
    for part in expected {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part:?} is not in {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn all_mistakes_of_all_rules_are_told() {
    assert_told(
        r#"
        [alerts.rules.unknown]
        kind = "threshold"
        metric = "freshnes"
        below = 0.5
        [alerts.rules.impossible]
        kind = "threshold"
        metric = "freshness"
        above = 1.0
        match = { country = "x" }
        require = { sessions = 3, users = 1, significant = 2 }
        every = "7s"
        fire_after = 0
        severity = ""
        [alerts.rules.two]
        kind = "threshold"
        metric = "freshness"
        above = 0.5
        below = 0.4
        windows = 3
        [alerts.rules.short]
        kind = "deviation"
        metric = "level"
        margin = -1.0
        history = "50s"
        [alerts.rules.change]
        kind = "change"
        metric = "level"
        direction = "up"
        sigmas = 0.0
        fire_after = 2
        every = "2h"
        [alerts.rules.silent]
        kind = "absence"
        metric = "level"
        rows = "tables"
        "#,
        &[
            r#"alerts.rules.unknown.metric = "freshnes": must be one of sessions, freshness, significant, level"#,
            "alerts.rules.impossible.above = 1: must be such that some values of freshness are beyond it",
            r#"alerts.rules.impossible.match.country = "x": must be about the dimensions of rows of rows: domain, segment"#,
            "alerts.rules.impossible.require.users = 1: must be about one of sessions",
            "alerts.rules.impossible.require.significant = 2: must be at most 1",
            "alerts.rules.impossible.every = 7s: must be a multiple of the slide (10s)",
            "alerts.rules.impossible.fire_after = 0: must be from 1 to 1000",
            r#"alerts.rules.impossible.severity = "": must be a word"#,
            "alerts.rules.two: a threshold has exactly one of above, at_least, below, at_most, above_median, below_median, not above and below",
            "alerts.rules.two.windows: only rules of kind absence have it",
            "alerts.rules.short.direction: the key direction is missing",
            "alerts.rules.short.margin = -1: must be 0 or more",
            "alerts.rules.short.history = 50s: must be from 1m (6 slides) to 744h",
            "alerts.rules.change.sigmas = 0: must be above 0",
            "alerts.rules.change.fire_after = 2: must be 1 for a change",
            "alerts.rules.change.every = 2h: must be at most 30m for a change",
            "alerts.rules.silent.metric: only rules of kind threshold, deviation, change have it",
            r#"alerts.rules.silent.rows = "tables": must be one of "rows""#,
        ],
    );
}

#[test]
fn a_bound_that_all_values_or_none_are_beyond_is_refused() {
    for (key, good, bad) in [
        ("above", [0.0, 0.99], [1.0, -0.1]),
        ("at_least", [0.01, 1.0], [0.0, 1.1]),
        ("below", [0.01, 1.0], [0.0, 1.1]),
        ("at_most", [0.0, 0.99], [1.0, -0.1]),
    ] {
        let rule = |bound: f64| {
            problems(&format!("[alerts.rules.x]\nkind = \"threshold\"\nmetric = \"freshness\"\n{key} = {bound:?}"))
        };
        assert!(good.iter().all(|bound| rule(*bound).is_empty()), "{key}");
        assert!(bad.iter().all(|bound| rule(*bound).len() == 1), "{key}");
    }
}

#[test]
fn a_silenced_rule_is_checked_but_does_not_run() {
    let text = "[alerts.rules.x]\nenabled = false\nkind = \"threshold\"\nmetric = \"freshness\"\nbelow = 0.5";
    assert!(problems(text).is_empty());
    assert!(written(text).rules(&[rows()], "rows").rules.is_empty());
    assert_eq!(problems(&text.replace("0.5", "-0.5")).len(), 1);
}

#[test]
fn rules_that_could_never_fire_or_would_always_do_are_refused() {
    assert_told(
        r#"
        [alerts.rules.usual]
        kind = "threshold"
        metric = "freshness"
        below_median = 80.0
        [alerts.rules.above]
        kind = "threshold"
        metric = "freshness"
        above_median = 0.5
        [alerts.rules.signed]
        kind = "threshold"
        metric = "difference"
        below_median = 0.8
        [alerts.rules.forgotten]
        kind = "absence"
        windows = 10
        history = "30m"
        [alerts.rules.long]
        kind = "absence"
        windows = 1000
        every = "1h"
        [alerts.rules.required]
        kind = "absence"
        require = { sessions = 30 }
        [alerts.rules.swallowed]
        kind = "change"
        metric = "level"
        direction = "up"
        require = { sessions = 30, significant = 1 }
        [alerts.rules.nobody]
        kind = "deviation"
        metric = "level"
        direction = "up"
        match = { segment = "news", domain = "anything" }
        "#,
        &[
            "alerts.rules.usual.below_median = 80: must be below 1",
            "alerts.rules.above.above_median = 0.5: must be above 1",
            "alerts.rules.signed.below_median: difference can be negative",
            "alerts.rules.forgotten.history = 30m: must be from 55m (11 evaluations)",
            "alerts.rules.long.windows = 1000: must be such that it takes less than 744h",
            "alerts.rules.required.require: an absence is about whether there are rows",
            "alerts.rules.swallowed.require.significant: a change requires samples only",
            r#"alerts.rules.nobody.match.segment = "news": must be such that it matches one of new, old, x, y"#,
        ],
    );
}
