//! What each kind of rule does, window by window.

mod support;

use support::{HOUR, MINUTE, Player, WINDOW, row};

const LOW: &str = r#"
[alerts.rules.low]
kind = "threshold"
metric = "freshness"
below = 0.5
require = { sessions = 10 }
"#;

/// Closes windows from the `from`-th on, with these values of freshness for one group.
fn freshness(player: &mut Player, from: i64, values: &[f64]) {
    for (at, value) in (from..).zip(values) {
        player.close(at * WINDOW, &[row(["cats", "new"], [50.0, *value, 1.0, 0.0])]);
    }
}

#[test]
fn a_threshold_fires_after_breaches_in_a_row_and_resolves_after_as_many_clear_ones() {
    let mut player = Player::new(LOW);
    freshness(&mut player, 1, &[0.4, 0.4, 0.6, 0.4, 0.4]);
    assert_eq!(player.news(), [""; 0], "never three in a row");
    freshness(&mut player, 6, &[0.25, 0.4, 0.7, 0.7, 0.4, 0.5, 0.5, 0.5, 0.5]);
    let [fired, cleared] = &player.told[..] else { panic!("{:#?}", player.told) };
    assert_eq!((fired.reason.as_str(), fired.window_end, fired.started_at), ("fired", 6 * WINDOW, 6 * WINDOW));
    assert_eq!((fired.value, fired.threshold, fired.baseline, fired.sequence), (Some(0.25), Some(0.5), None, 1));
    assert_eq!(fired.samples, [("sessions".to_owned(), 50)]);
    assert_eq!(fired.summary, "freshness is 0.25, below 0.5, in domain=cats, segment=new");
    assert_eq!((cleared.reason.as_str(), cleared.window_end, cleared.sequence), ("cleared", 13 * WINDOW, 2));
    assert_eq!((&cleared.alert_id, &cleared.fingerprint), (&fired.alert_id, &fired.fingerprint));
    assert_eq!(cleared.summary, "freshness is back at 0.5 in domain=cats, segment=new");
}

#[test]
fn another_life_of_an_alert_has_another_id_and_the_same_fingerprint() {
    let mut player = Player::new(LOW);
    freshness(&mut player, 1, &[0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.4, 0.4, 0.4]);
    let [first, _, second] = &player.told[..] else { panic!("{:#?}", player.told) };
    assert_eq!(first.fingerprint, second.fingerprint);
    assert_ne!(first.alert_id, second.alert_id);
    assert_eq!((second.sequence, second.started_at), (1, 9 * WINDOW));
}

#[test]
fn overlapping_windows_are_not_evaluated() {
    let mut player = Player::new(LOW);
    for end in 1..=89 {
        player.close(end * 10_000, &[row(["cats", "new"], [50.0, 0.1, 1.0, 0.0])]);
    }
    assert_eq!(player.evaluator.counts().evaluations, 2, "at 5 and 10 minutes");
    player.close(90 * 10_000, &[row(["cats", "new"], [50.0, 0.1, 1.0, 0.0])]);
    assert_eq!(player.news(), ["fired cats/new"]);
}

#[test]
fn with_too_few_samples_nothing_fires_and_what_fires_ends_without_data() {
    let mut player = Player::new(LOW);
    let few = |value| row(["cats", "new"], [9.0, value, 1.0, 0.0]);
    for end in 1..=5 {
        player.close(end * WINDOW, &[few(0.1)]);
    }
    assert_eq!(player.news(), [""; 0]);
    freshness(&mut player, 6, &[0.1, 0.1, 0.1]);
    assert_eq!(player.news(), ["fired cats/new"]);
    for end in 9..=10 {
        player.close(end * WINDOW, &[few(0.9)]);
    }
    player.close(11 * WINDOW, &[]);
    let told = &player.told[0];
    assert_eq!((told.reason.as_str(), told.value, told.sequence), ("no_data", None, 2));
    assert_eq!(told.summary, "no more data for freshness in domain=cats, segment=new");
    assert_eq!(player.evaluator.tracked(), 0);
}

#[test]
fn a_flag_that_is_not_as_required_is_a_condition_that_does_not_hold() {
    let mut player = Player::new(
        "[alerts.rules.high]\nkind = \"threshold\"\nmetric = \"level\"\nat_least = 3.0\nrequire = { significant = 1 }\n\
         fire_after = 1\nresolve_after = 2",
    );
    for (at, (significant, level)) in (1..).zip([(0.0, 9.0), (1.0, 3.0), (0.0, 9.0), (0.0, 9.0)]) {
        player.close(at * WINDOW, &[row(["a", "b"], [1.0, 0.5, significant, level])]);
    }
    assert_eq!(player.told[1].summary, "level is 9, and significant is not at least 1, in domain=a, segment=b");
    assert_eq!(player.news(), ["fired a/b", "cleared a/b"]);
}

#[test]
fn a_median_is_that_of_the_evaluations_before() {
    let mut player = Player::new(
        "[alerts.rules.halved]\nkind = \"threshold\"\nmetric = \"level\"\nbelow_median = 0.5\nhistory = \"1h\"\nfire_after = 1",
    );
    let level = |player: &mut Player, at: i64, level: f64| {
        player.close(at * WINDOW, &[row(["a", "b"], [1.0, 0.5, 1.0, level])]);
    };
    for (at, value) in (1..).zip([10.0, 12.0, 8.0, 1.0, 9.0, 11.0]) {
        level(&mut player, at, value);
    }
    assert_eq!(player.news(), [""; 0], "too little is known");
    level(&mut player, 7, 4.5);
    assert_eq!(player.news(), [""; 0], "half of 9, which is the third of six");
    level(&mut player, 8, 4.4);
    let told = &player.told[0];
    assert_eq!(
        (told.value, told.threshold, told.baseline),
        (Some(4.4), Some(4.5), Some(9.0)),
        "of 1, 4.5, 8, 9, 10, 11, 12"
    );
    assert_eq!(told.summary, "level is 4.4 (normally 9), below 4.5, in domain=a, segment=b");
}

#[test]
fn a_deviation_is_beyond_the_quantiles_of_the_hour_before() {
    let mut player = Player::new(
        "[alerts.rules.spike]\nkind = \"deviation\"\nmetric = \"level\"\ndirection = \"up\"\nfire_after = 1\nevery = \"10s\"",
    );
    let level = |player: &mut Player, second: i64, level: f64| {
        player.close(second * 1000, &[row(["a", "b"], [1.0, 0.5, 1.0, level])]);
    };
    // 1 to 100 in some order
    for at in 1..=100 {
        level(&mut player, 10 * at, ((at * 37) % 101) as f64);
    }
    assert_eq!(player.news(), [""; 0]);
    // at 1010 s the quantiles are those of 990 s: of the first 99 values
    level(&mut player, 1010, 1_000.0);
    let told = player.told.remove(0);
    let mut known: Vec<i64> = (1..=99).map(|at| (at * 37) % 101).collect();
    known.sort_unstable();
    let (median, high) = (known[49] as f64, known[94] as f64);
    assert_eq!((told.baseline, told.threshold), (Some(median), Some(high + (high - median))));
    for second in [1020, 1030, 1040] {
        level(&mut player, second, 99.0);
    }
    let cleared = player.told.remove(0);
    // at 1040 s they are those of 1020 s, of 1 to 100 with another 99, and 1000: of 102 values the 51st and the 97th
    assert_eq!(cleared.summary, "level is 99, no longer above 143 (normally 51) in domain=a, segment=b");
    // an hour later nothing of that counts any more, and little is known
    level(&mut player, 1010 + 3_700, 1e6);
    assert_eq!(player.news(), [""; 0]);
}

#[test]
fn a_change_fires_on_a_shift_that_lasts_and_ends_when_values_are_back() {
    let mut player = Player::new("[alerts.rules.shift]\nkind = \"change\"\nmetric = \"level\"\ndirection = \"down\"");
    let level = |at: i64| 100.0 + if at % 2 == 0 { 1.0 } else { -1.0 };
    for at in 1..=60 {
        player.close(at * WINDOW, &[row(["a", "b"], [1.0, 0.5, 1.0, level(at)])]);
    }
    assert_eq!(player.news(), [""; 0]);
    // sigma is 1, the sum 0: three sigmas lower, windows add 3.5, 1.5, 3.5
    for at in 61..=80 {
        player.close(at * WINDOW, &[row(["a", "b"], [1.0, 0.5, 1.0, level(at) - 3.0])]);
    }
    let fired = player.told.remove(0);
    assert_eq!((fired.reason.as_str(), fired.window_end, fired.threshold), ("fired", 63 * WINDOW, None));
    // of the first 51 windows, 26 of which have 99
    assert_eq!(fired.baseline, Some((26.0 * 99.0 + 25.0 * 101.0) / 51.0));
    assert_eq!(fired.summary, "level is 96 (normally 100), shifted down, in domain=a, segment=b");
    assert_eq!(player.news(), [""; 0], "it goes on");
    for at in 81..=83 {
        player.close(at * WINDOW, &[row(["a", "b"], [1.0, 0.5, 1.0, level(at) + 1.0])]);
    }
    // of the first 71 windows: 60 whose mean is 100, six of 96 and five of 98
    assert_eq!(player.told[0].summary, "level is 100, no longer shifted down (normally 99.5) in domain=a, segment=b");
    assert_eq!(player.news(), ["cleared a/b"]);
}

#[test]
fn a_shift_that_lasts_becomes_the_usual_and_is_told_so() {
    let rule = "kind = \"change\"\nmetric = \"level\"\ndirection = \"down\"\nevery = \"30m\"\nresolve_after = 1";
    let mut player = Player::new(&format!("[alerts.rules.shift]\n{rule}"));
    let mut at = 0;
    while player.told.last().is_none_or(|told| told.reason != "cleared") && at < 52 + 50 {
        at += 1;
        let level = if at <= 52 { 100.0 } else { 80.0 } + if at % 2 == 0 { 1.0 } else { -1.0 };
        player.close(at * HOUR / 2, &[row(["a", "b"], [1.0, 0.5, 1.0, level])]);
    }
    assert_eq!(player.told[0].summary, "level is 79 (normally 100), shifted down, in domain=a, segment=b");
    // 12 values around 100 and 36 around 80 have a standard deviation of 8.7, and 81 is less than half of that below their mean
    let cleared = player.told.last().unwrap();
    assert_eq!(cleared.summary, "level is 81, no longer shifted down (normally 85) in domain=a, segment=b");

    let rule = "kind = \"threshold\"\nmetric = \"level\"\nbelow_median = 0.5\nhistory = \"1h\"\nfire_after = 1";
    let mut player = Player::new(&format!("[alerts.rules.halved]\n{rule}"));
    for at in 1..=21 {
        let level = if at <= 12 { 10.0 } else { 4.0 };
        player.close(at * WINDOW, &[row(["a", "b"], [1.0, 0.5, 1.0, level])]);
    }
    // from the 19th window on, half of the twelve before it and more are 4
    assert_eq!(player.told[1].summary, "level is 4, no longer below 2 (normally 4) in domain=a, segment=b");
    assert_eq!(player.news(), ["fired a/b", "cleared a/b"]);
}

#[test]
fn what_is_repeated_while_it_does_not_breach_says_so() {
    let mut player = Player::new(LOW);
    freshness(&mut player, 1, &[0.4; 50]);
    assert_eq!(player.news(), ["fired cats/new"]);
    freshness(&mut player, 51, &[0.6]);
    let told = &player.told[0];
    assert_eq!((told.reason.as_str(), told.window_end), ("repeated", 51 * WINDOW), "four hours after the third window");
    assert_eq!(told.summary, "freshness is 0.6, for now no longer below 0.5, in domain=cats, segment=new");
}

#[test]
fn absence_is_told_while_others_go_on_and_ends_with_the_next_row_or_is_given_up() {
    let mut player = Player::new("[alerts.rules.silent]\nkind = \"absence\"\nhistory = \"2h\"");
    let close = |player: &mut Player, at: i64, groups: &[[&str; 2]]| {
        let rows: Vec<_> = groups.iter().map(|group| row(*group, [1.0, 0.5, 1.0, 1.0])).collect();
        player.close(at * WINDOW, &rows);
    };
    let all = [["a", "x"], ["b", "x"], ["a", "y"], ["b", "y"]];
    close(&mut player, 1, &all);
    for at in 2..=3 {
        close(&mut player, at, &all[..2]);
    }
    assert_eq!(player.news(), [""; 0]);
    close(&mut player, 4, &all[..2]);
    assert_eq!(player.told[0].attribution[0], ("segment".to_owned(), "y".to_owned()));
    assert!(player.told[0].summary.starts_with("no rows of rows in 3 evaluations in a row in domain=a, segment=y"));
    assert_eq!(player.news(), ["fired a/y", "fired b/y"]);
    close(&mut player, 5, &all[..3]);
    assert_eq!(player.told[0].summary, "rows have come back in domain=a, segment=y");
    assert_eq!(player.news(), ["cleared a/y"]);
    for at in 6..=25 {
        close(&mut player, at, &all[..3]);
    }
    assert_eq!(player.news(), ["no_data b/y"], "two hours after its last row");
    assert_eq!(player.evaluator.tracked(), 3);
}

#[test]
fn a_firing_alert_is_sent_again_when_others_carry_it_and_after_the_interval() {
    let mut player =
        Player::new("[alerts.rules.low]\nkind = \"threshold\"\nmetric = \"freshness\"\nbelow = 0.5\nfire_after = 1");
    let close = |player: &mut Player, at: i64, values: [f64; 4]| {
        let groups = [["a", "x"], ["b", "x"], ["a", "y"], ["b", "y"]];
        let rows: Vec<_> =
            groups.iter().zip(values).map(|(group, value)| row(*group, [10.0, value, 1.0, 0.0])).collect();
        player.close(at * WINDOW, &rows);
    };
    close(&mut player, 1, [0.1, 0.1, 0.9, 0.9]);
    assert_eq!(player.told[0].attribution[0], ("segment".to_owned(), "x".to_owned()));
    assert!(player.told[0].summary.ends_with("; 100 % of the excess lies in segment x"), "{}", player.told[0].summary);
    assert_eq!(player.news(), ["fired a/x", "fired b/x"]);
    close(&mut player, 2, [0.1, 0.1, 0.9, 0.9]);
    assert_eq!(player.news(), [""; 0]);
    close(&mut player, 3, [0.1, 0.9, 0.1, 0.9]);
    assert_eq!(player.news(), ["changed a/x", "fired a/y"]);
    let hours = 4 * HOUR / WINDOW;
    for at in 4..=3 + hours {
        close(&mut player, at, [0.1, 0.9, 0.1, 0.9]);
    }
    let news = player.news();
    assert_eq!(news, ["cleared b/x", "repeated a/x", "repeated a/y"]);
}

#[test]
fn only_groups_that_match_are_judged_and_only_so_many_are_kept() {
    let mut player = Player::new(
        "[alerts.rules.low]\nkind = \"threshold\"\nmetric = \"freshness\"\nbelow = 0.5\nfire_after = 1\nmatch = { domain = \"cat-*\" }",
    );
    player.close(WINDOW, &[row(["cat-1", ""], [1.0, 0.1, 1.0, 0.0]), row(["dog", ""], [1.0, 0.1, 1.0, 0.0])]);
    assert_eq!(player.told[0].summary, "freshness is 0.1, below 0.5, in domain=cat-1");
    assert_eq!(player.news(), ["fired cat-1/"]);

    let text = "[alerts]\nno_data_windows = 3\nrepeat_interval = \"4h\"\nmax_series = 2\n[alerts.rules.gone]\nkind = \"absence\"";
    let file: std::collections::BTreeMap<String, alerting::AlertsConfig> = toml::from_str(text).unwrap();
    let rules = file["alerts"].rules(&[support::rows()], "rows");
    let mut evaluator = alerting::Evaluator::new("worker", support::rows(), 1, rules);
    let _ = evaluator.begin(&mut |_| {});
    let rows = ["a", "b", "c"].map(|domain| row([domain, ""], [1.0, 0.1, 1.0, 0.0]));
    evaluator.close(WINDOW, &rows, &mut |_| {});
    assert_eq!((evaluator.tracked(), evaluator.counts().overflowed), (2, 1));
}

#[test]
fn quiet_series_are_forgotten() {
    let mut player = Player::new(
        "[alerts.rules.spike]\nkind = \"deviation\"\nmetric = \"level\"\ndirection = \"up\"\n\
         [alerts.rules.low]\nkind = \"threshold\"\nmetric = \"freshness\"\nbelow = 0.5",
    );
    for at in 0..6 {
        player.close(at * MINUTE, &[row(["a", "b"], [1.0, 0.1, 1.0, 1.0])]);
    }
    assert_eq!(player.evaluator.tracked(), 2);
    for at in 6..=70 {
        player.close(at * MINUTE, &[row(["c", "d"], [1.0, 0.9, 1.0, 1.0])]);
    }
    assert_eq!(player.evaluator.tracked(), 1, "of c/d one hour of levels");
}

#[test]
fn of_counts_the_excess_itself_is_shared_and_of_means_that_of_all_their_samples() {
    let fewer = "[alerts.rules.few]\nkind = \"threshold\"\nmetric = \"sessions\"\nbelow_median = 0.9\nfire_after = 1\n";
    let mut player = Player::new(fewer);
    let window = |player: &mut Player, at: i64, cats: [f64; 2], dogs: [f64; 2]| {
        let rows = [(["cats", "new"], cats), (["dogs", "new"], dogs)];
        let rows = rows.map(|(group, [sessions, freshness])| row(group, [sessions, freshness, 1.0, 0.0]));
        player.close(at * WINDOW, &rows);
    };
    for at in 1..=6 {
        window(&mut player, at, [1000.0, 0.5], [1000.0, 0.5]);
    }
    // cats lose 990 of the 1490 sessions that are missing: 66 %, less than the 80 % that one value alone would have to carry
    window(&mut player, 7, [10.0, 0.5], [500.0, 0.5]);
    assert_eq!(player.told.len(), 2);
    assert_eq!(player.told[0].attribution, [("domain".to_owned(), "cats, dogs".to_owned())]);
    assert!(player.told[0].summary.contains("100 % of the excess lies in domain cats, dogs"), "{:#?}", player.told[0]);

    // of freshness both fall alike, and dogs have nine times the sessions
    let mut player =
        Player::new("[alerts.rules.low]\nkind = \"threshold\"\nmetric = \"freshness\"\nbelow = 0.5\nfire_after = 1\n");
    window(&mut player, 1, [100.0, 0.4], [900.0, 0.4]);
    assert_eq!(player.told[0].attribution, [("domain".to_owned(), "dogs".to_owned())]);
}

#[test]
fn what_fires_and_cannot_be_judged_any_more_ends_as_if_it_had_no_data() {
    let shift = "[alerts.rules.shift]\nkind = \"change\"\nmetric = \"level\"\ndirection = \"up\"\nsigmas = 3.0\nevery = \"30m\"\n";
    let mut player = Player::new(shift);
    let half_hour = HOUR / 2;
    let level = |at: i64| if at <= 60 { f64::from(u8::from(at % 2 == 0)) } else { 9.0 };
    // rows of a day and a half, then a shift, with which it fires
    for at in 1..=61 {
        player.close(at * half_hour, &[row(["cats", "new"], [50.0, 0.5, 1.0, level(at)])]);
    }
    assert_eq!(player.news(), ["fired cats/new"]);
    // a day without rows, of which two windows are judged: their past is gone when they are back
    for at in 62..=63 {
        player.close(at * half_hour, &[]);
    }
    assert_eq!(player.news(), [""; 0]);
    let mut at = 63 + 48;
    while player.told.is_empty() && at < 63 + 60 {
        at += 1;
        player.close(at * half_hour, &[row(["cats", "new"], [50.0, 0.5, 1.0, 0.0])]);
    }
    assert_eq!(player.told[0].reason, "no_data", "at {at}");
}
