//! How often a change is found where there is none.

mod support;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use support::{Player, WINDOW, row};

/// Quiet windows to a false alarm (METRICS.md, section 5).
const RUN_LENGTH: f64 = 19_000.0;

#[test]
fn changes_of_quiet_series_are_found_as_often_as_the_definition_says() {
    let mut player = Player::new("[alerts.rules.shift]\nkind = \"change\"\nmetric = \"level\"\ndirection = \"up\"");
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let groups: Vec<String> = (0..150).map(|group| format!("g{group:03}")).collect();
    let windows = 30 * 288;
    for at in 1..=windows {
        let mut normal = || {
            let (u, v): (f64, f64) = (random.random(), random.random());
            (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        let rows: Vec<_> = groups.iter().map(|group| row([group, ""], [1.0, 0.5, 1.0, normal()])).collect();
        player.close(at * WINDOW, &rows);
    }
    let fired = player.told.iter().filter(|told| told.reason == "fired").count() as f64;
    let judged = (windows * groups.len() as i64) as f64;
    let run = judged / fired;
    println!("{fired} false alarms, one in {run:.0} windows");
    assert!(run > RUN_LENGTH / 1.5 && run < RUN_LENGTH * 1.5, "one in {run:.0} windows");
}
