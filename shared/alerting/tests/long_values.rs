//! Values of hundreds of KB, as records may have them: groups keep them whole, and nothing else repeats more than people read.

mod support;

use support::{Player, WINDOW, row};

const LOW: &str =
    "[alerts.rules.low]\nkind = \"threshold\"\nmetric = \"freshness\"\nbelow = 0.5\nfire_after = 1\nresolve_after = 1";

fn close(player: &mut Player, at: i64, groups: &[([&str; 2], f64)]) {
    let rows: Vec<_> = groups.iter().map(|(group, freshness)| row(*group, [1.0, *freshness, 1.0, 0.0])).collect();
    player.close(at * WINDOW, &rows);
}

#[test]
fn the_group_is_whole_and_sentence_and_attribution_are_cut_between_characters() {
    let (domain, segment) = ("é".repeat(150_000), "日".repeat(100_000));
    let mut player = Player::new(LOW);
    close(&mut player, 1, &[([&domain, &segment], 0.1), (["b", "x"], 0.9)]);
    close(&mut player, 2, &[([&domain, &segment], 0.9), (["b", "x"], 0.9)]);
    let [fired, cleared] = &player.told[..] else { panic!("{} alerts", player.told.len()) };
    assert!(fired.group == [domain.as_str(), &segment] && cleared.group == fired.group, "not whole");
    let (domain, segment) = ("é".repeat(199) + "…", "日".repeat(199) + "…");
    let place = format!("in domain={domain}, segment={segment}");
    let carried = format!("100 % of the excess lies in domain {domain}");
    assert_eq!(fired.summary, format!("freshness is 0.1, below 0.5, {place}; {carried}"));
    assert_eq!(cleared.summary, format!("freshness is back at 0.9 {place}"));
    let both = format!("{domain}+{segment}");
    let expected = [("domain", domain), ("segment", segment), ("domain+segment", both)];
    assert_eq!(fired.attribution, expected.map(|(name, values)| (name.to_owned(), values)));
}

/// What values take of an alert beside the group: far less than the 64 KiB that a producer takes above the largest record.
#[test]
fn what_is_told_beside_the_group_is_bounded() {
    let values: Vec<String> = (0..4).map(|number| format!("{number}{}", "🦀".repeat(100_000))).collect();
    let groups: Vec<([&str; 2], f64)> = values.iter().map(|value| ([value.as_str(), value.as_str()], 0.1)).collect();
    let mut player = Player::new(LOW);
    close(&mut player, 1, &groups);
    assert_eq!(player.told.len(), 4);
    for told in &player.told {
        assert_eq!(told.attribution.len(), 3);
        let attributed: usize = told.attribution.iter().map(|(_, values)| values.len()).sum();
        assert!(told.summary.len() + attributed < 20_000, "{} + {attributed}", told.summary.len());
    }
}

#[test]
fn values_that_are_told_alike_do_not_change_what_carries_an_alert() {
    let values = ["1", "2"].map(|end| "é".repeat(150_000) + end);
    let [first, second] = [[values[0].as_str(), "x"], [values[1].as_str(), "x"]];
    let mut player = Player::new(LOW);
    close(&mut player, 1, &[(first, 0.1), (second, 0.9)]);
    assert_eq!(player.told.len(), 1);
    let mut restored = Player::restored(LOW, &player.snapshot(), player.remembered.as_ref());
    restored.begin();
    // nine tenths are the second's now, and both are told as the same beginning
    close(&mut restored, 2, &[(first, 0.45), (second, 0.05)]);
    let told: Vec<(&str, bool)> =
        restored.told.iter().map(|told| (told.reason.as_str(), told.group[0] == values[1])).collect();
    assert_eq!(told, [("fired", true)]);
    // what begins otherwise is told
    close(&mut restored, 3, &[(first, 0.45), (["other", "x"], 0.05)]);
    let told = restored.told[1..].iter().map(|told| (told.reason.as_str(), told.group[0].starts_with("other")));
    assert_eq!(told.collect::<Vec<_>>(), [("changed", false), ("fired", true)]);
}
