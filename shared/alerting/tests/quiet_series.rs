//! How often a change is found where there is none.

mod support;

use measures::SplitMix64;
use support::{HOUR, Player, WINDOW, row};

/// Quiet windows to a false alarm at 8 sigmas, where mean and sigma are known (METRICS.md, section 5; `measures` tests it).
const RUN_LENGTH: f64 = 19_000.0;

/// Mean and sigma are not known, but those of 288 values: off by a seventeenth and a twenty-fourth of a sigma. Since the run
/// length grows exponentially with both, alarms come more often: 1.6 times, in five million windows.
const AS_ESTIMATED: f64 = 1.6;

#[test]
fn changes_of_quiet_series_are_found_as_often_as_a_day_of_values_allows() {
    let mut player = Player::new("[alerts.rules.shift]\nkind = \"change\"\nmetric = \"level\"\ndirection = \"up\"");
    let mut random = SplitMix64::new(5);
    let groups: Vec<String> = (0..150).map(|group| format!("g{group:03}")).collect();
    let windows = 30 * 288;
    for at in 1..=windows {
        let rows: Vec<_> =
            groups.iter().map(|group| row([group, ""], [1.0, 0.5, 1.0, random.next_normals()[0]])).collect();
        player.close(at * WINDOW, &rows);
    }
    // before that the baseline has less than its day
    let settled = |end: i64| end > 25 * HOUR;
    let fired = player.told.iter().filter(|told| told.reason == "fired" && settled(told.window_end)).count() as f64;
    let judged = ((windows - 25 * 12) * groups.len() as i64) as f64;
    let run = judged / fired;
    // about 100 alarms: three standard errors are a third
    let expected = RUN_LENGTH / AS_ESTIMATED;
    assert!(run > expected / 1.33 && run < expected * 1.33, "one in {run:.0} windows");
}
