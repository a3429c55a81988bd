//! Whatever restarts there are, the same rows lead to the same alerts, each told once.

mod support;

use alerting::{Row, RuleSet, Terms};
use proptest::prelude::*;
use support::{Player, Told, WINDOW, row, rules};

const ALL_KINDS: &str = r#"
[alerts.rules.low]
kind = "threshold"
metric = "freshness"
below = 0.4
fire_after = 2
resolve_after = 1
require = { sessions = 2 }

[alerts.rules.halved]
kind = "threshold"
metric = "level"
below_median = 0.5
history = "1h"
fire_after = 1

[alerts.rules.spike]
kind = "deviation"
metric = "level"
direction = "up"
margin = 0.1
fire_after = 1
resolve_after = 1

[alerts.rules.shift]
kind = "change"
metric = "freshness"
direction = "up"
sigmas = 2.0
learned = true

[alerts.rules.silent]
kind = "absence"
windows = 2
history = "30m"
"#;

const OTHERS: &str = r#"
[alerts.rules.low]
kind = "threshold"
metric = "freshness"
below = 0.6
fire_after = 1

[alerts.rules.silent]
kind = "absence"
windows = 2
history = "30m"
"#;

const GROUPS: [[&str; 2]; 4] = [["a", "x"], ["b", "x"], ["a", "y"], ["b", "y"]];

/// Windows of five minutes: for each group whether it has a row, and its values.
fn windows() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let values = (prop::bool::weighted(0.8), 0_u8..10, 0_u8..=10, 0_u8..20);
    let window = prop::collection::vec(values, GROUPS.len()).prop_map(|groups| {
        let rows = groups.into_iter().zip(GROUPS).filter(|((there, ..), _)| *there);
        let values =
            |sessions, freshness, level| [f64::from(sessions), f64::from(freshness) / 10.0, 1.0, f64::from(level)];
        rows.map(|((_, sessions, freshness, level), group)| row(group, values(sessions, freshness, level))).collect()
    });
    prop::collection::vec(window, 1..70)
}

fn close(player: &mut Player, windows: &[Vec<Row>], from: usize, to: usize) {
    for (at, rows) in windows.iter().enumerate().take(to).skip(from) {
        player.close((at as i64 + 1) * WINDOW, rows);
    }
}

/// Each life begins with a firing record, goes on without gaps, and ends with its only resolution.
fn assert_lives(told: &[Told]) {
    for fired in told.iter().filter(|told| told.reason == "fired") {
        let life: Vec<&Told> = told.iter().filter(|other| other.alert_id == fired.alert_id).collect();
        let sequences: Vec<i64> = life.iter().map(|told| told.sequence).collect();
        assert_eq!(sequences, (1..=life.len() as i64).collect::<Vec<_>>(), "{life:#?}");
        let ended = life.iter().position(|told| ["cleared", "no_data", "rule_removed"].contains(&told.reason.as_str()));
        assert!(ended.is_none_or(|at| at == life.len() - 1), "{life:#?}");
    }
    let lives = told.iter().filter(|told| told.reason == "fired").count();
    let ids: std::collections::BTreeSet<&String> = told.iter().map(|told| &told.alert_id).collect();
    assert_eq!(ids.len(), lives);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn restarts_with_a_replay_change_nothing(
        windows in windows(), cuts in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..4)
    ) {
        let mut straight = Player::new(ALL_KINDS);
        close(&mut straight, &windows, 0, windows.len());
        assert_lives(&straight.told);

        let mut cuts: Vec<usize> = cuts.iter().map(|(cut, _)| cut.index(windows.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut player, mut told, mut at, mut snapshot_at) = (Player::new(ALL_KINDS), Vec::new(), 0_usize, 0_usize);
        let mut snapshot = player.snapshot();
        for cut in cuts {
            // a snapshot halfway, a crash at the cut, a replay of what lies between
            let halfway: usize = (at + cut) / 2;
            close(&mut player, &windows, at, halfway);
            if halfway.is_multiple_of(2) {
                (snapshot, snapshot_at) = (player.snapshot(), halfway);
            }
            close(&mut player, &windows, halfway, cut);
            told.append(&mut player.told);
            let remembered = player.remembered.clone();
            player = Player::restored(ALL_KINDS, &snapshot, remembered.as_ref());
            close(&mut player, &windows, snapshot_at, cut);
            player.told.clear();
            player.begin();
            prop_assert!(player.told.is_empty(), "nothing is news: {:?}", player.told);
            at = cut;
        }
        close(&mut player, &windows, at, windows.len());
        told.append(&mut player.told);
        prop_assert_eq!(&told, &straight.told);
        prop_assert_eq!(player.snapshot(), straight.snapshot());
        prop_assert_eq!(player.evaluator.tracked(), straight.evaluator.tracked());
    }

    #[test]
    fn other_rules_begin_behind_the_replay_and_alerts_of_the_old_ones_end_once(
        windows in windows(), snapshot_at: prop::sample::Index, changed_at: prop::sample::Index, again_at: prop::sample::Index
    ) {
        let changed_at = changed_at.index(windows.len() + 1);
        let snapshot_at = snapshot_at.index(changed_at + 1);
        let again_at = changed_at + again_at.index(windows.len() + 1 - changed_at);

        // without crashes: the old rules, then the new ones
        let mut straight = Player::new(ALL_KINDS);
        close(&mut straight, &windows, 0, changed_at);
        let mut changed = Player::restored(OTHERS, &straight.snapshot(), straight.remembered.as_ref());
        changed.begin();
        close(&mut changed, &windows, changed_at, windows.len());
        let expected = [straight.told.clone(), changed.told].concat();
        assert_lives(&expected);

        // stopped behind an older snapshot; the old rules are no longer configured, but the replay runs under them
        let mut before = Player::new(ALL_KINDS);
        close(&mut before, &windows, 0, snapshot_at);
        let snapshot = before.snapshot();
        close(&mut before, &windows, snapshot_at, changed_at);
        let mut told = before.told.clone();
        let mut player = Player::restored(OTHERS, &snapshot, before.remembered.as_ref());
        close(&mut player, &windows, snapshot_at, changed_at);
        player.told.clear();
        player.begin();
        close(&mut player, &windows, changed_at, again_at);
        told.append(&mut player.told);
        // and once more, before there was another snapshot
        let mut again = Player::restored(OTHERS, &snapshot, player.remembered.as_ref());
        close(&mut again, &windows, snapshot_at, again_at);
        again.told.clear();
        again.begin();
        prop_assert!(again.told.is_empty(), "ended before: {:?}", again.told);
        close(&mut again, &windows, again_at, windows.len());
        told.append(&mut again.told);
        prop_assert_eq!(told, expected);
    }

    /// What holds for all rules may change at each start, and replays from older snapshots cross several such changes.
    #[test]
    fn a_replay_runs_under_what_held_for_all_rules_then(
        windows in windows(),
        starts in prop::collection::vec((any::<prop::sample::Index>(), 1..5_u32, 1..9_i64, 1..4_u64), 1..4),
        snapshot_at: prop::sample::Index,
    ) {
        let mut starts: Vec<(usize, RuleSet)> = starts
            .iter()
            .map(|(at, no_data_windows, repeat_after, max_series)| {
                let repeat_interval = repeat_after * WINDOW;
                let terms = Terms { no_data_windows: *no_data_windows, repeat_interval, max_series: *max_series };
                (at.index(windows.len() + 1), RuleSet { terms, ..rules(ALL_KINDS) })
            })
            .collect();
        starts.sort_by_key(|(at, _)| *at);
        let snapshot_at = snapshot_at.index(starts[0].0 + 1);

        // stopped with a snapshot each time, so that nothing is replayed
        let mut straight = Player::new(ALL_KINDS);
        let (mut told, mut at) = (Vec::new(), 0);
        // each start replays all that lies behind the one snapshot
        let mut player = Player::new(ALL_KINDS);
        close(&mut player, &windows, 0, snapshot_at);
        let snapshot = player.snapshot();
        close(&mut player, &windows, snapshot_at, starts[0].0);
        let mut told_with_replays = std::mem::take(&mut player.told);
        for (number, (start, rules)) in starts.iter().enumerate() {
            close(&mut straight, &windows, at, *start);
            told.append(&mut straight.told);
            straight = Player::restored_under(rules.clone(), &straight.snapshot(), straight.remembered.as_ref());
            straight.begin();
            told.append(&mut straight.told);

            player = Player::restored_under(rules.clone(), &snapshot, player.remembered.as_ref());
            close(&mut player, &windows, snapshot_at, *start);
            player.told.clear();
            player.begin();
            let until = starts.get(number + 1).map_or(windows.len(), |(next, _)| *next);
            close(&mut player, &windows, *start, until);
            told_with_replays.append(&mut player.told);
            at = *start;
        }
        close(&mut straight, &windows, at, windows.len());
        told.append(&mut straight.told);
        prop_assert_eq!(told_with_replays, told);
        prop_assert_eq!(player.snapshot(), straight.snapshot());
    }

    #[test]
    fn no_bytes_make_restoring_panic(bytes: Vec<u8>) {
        let mut player = Player::new(ALL_KINDS);
        let _ = player.evaluator.restore(&bytes);
        let _ = player.evaluator.recall(&bytes);
    }
}

#[test]
fn rules_are_remembered_when_they_change_and_not_otherwise() {
    let first = Player::new(ALL_KINDS);
    let remembered = first.remembered.clone().unwrap();
    let mut same = Player::restored(ALL_KINDS, &first.snapshot(), Some(&remembered));
    assert!(!same.evaluator.begin(&mut |_| {}));
    let mut other = Player::restored(OTHERS, &first.snapshot(), Some(&remembered));
    assert!(other.evaluator.begin(&mut |_| {}));
    assert_eq!(Player::new("").remembered, None, "there is nothing to remember of no rules");
}
