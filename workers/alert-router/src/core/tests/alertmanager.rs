//! An Alertmanager that was away is never told that what fires has ended.

use serde_json::Value;

use super::{Bench, alert, failed, over};
use crate::civil::rfc3339;
use crate::core::Outcome;
use crate::core::changes::Changes;
use crate::routing::Style;

const RESEND: i64 = 60_000;

fn bench() -> Bench {
    Bench::of(Style::Alertmanager { resend_interval: RESEND })
}

/// (domain, endsAt) of what is sent.
fn ends(changes: &Changes) -> Vec<(String, String)> {
    let bodies = changes.sends.iter().map(|send| serde_json::from_slice::<Value>(&send.body).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    bodies
        .flat_map(|body| body.as_array().unwrap().clone())
        .map(|alert| (text(&alert["labels"]["domain"]), text(&alert["endsAt"])))
        .collect()
}

/// It is away for so many seconds: what it is sent meanwhile, each time with the time.
fn away(bench: &mut Bench, seconds: i64) -> Vec<(i64, Changes)> {
    let mut sent = Vec::new();
    for _ in 0..seconds / 10 {
        let changes = bench.wait(10);
        bench.answer(&changes, failed(false));
        if !changes.sends.is_empty() {
            sent.push((bench.now, changes));
        }
    }
    sent
}

#[test]
fn what_is_sent_again_ends_ahead_of_the_time_when_it_is_sent() {
    for restarts in [false, true] {
        let mut bench = bench();
        let _ = bench.take(alert(1, "r", "warning", "a"));
        let mut sent = away(&mut bench, 300);
        if restarts {
            let _ = bench.restart(bench.core.routing().clone());
            sent.extend(away(&mut bench, 300));
        }
        assert!(sent.len() > 5, "{}", sent.len());
        for (now, changes) in &sent {
            for (_, end) in ends(changes) {
                // as text, times of one form are in order
                assert!(end > rfc3339(now + 2 * RESEND), "sent at {}, ends at {end}", rfc3339(*now));
            }
        }
        let _ = bench.take(over(alert(2, "r", "warning", "a")));
        let told = ends(&bench.wait(120)).len();
        assert_eq!(told, usize::from(restarts), "its end, where it is not certain that nobody was told");
    }
}

#[test]
fn within_a_resend_interval_a_repetition_is_the_same() {
    let mut bench = bench();
    let _ = bench.take(alert(1, "r", "warning", "a"));
    let sent = away(&mut bench, 40);
    assert!(sent.len() > 2);
    assert!(sent.iter().all(|(_, changes)| changes.sends == sent[0].1.sends));
}

#[test]
fn a_repetition_of_what_fires_is_begun_anew_too() {
    let mut bench = bench();
    for domain in ["a", "b", "c", "d", "e"] {
        let _ = bench.take(alert(1, "r", "warning", domain));
    }
    for _ in 0..3 {
        let sent = bench.wait(0);
        bench.answer(&sent, Outcome::Delivered);
    }
    // the repetition's first piece gets through, its second one does not
    let sent = bench.wait(60);
    assert_eq!(ends(&sent).len(), 3);
    bench.answer(&sent, Outcome::Delivered);
    let sent = away(&mut bench, 300);
    for (now, changes) in &sent {
        assert!(ends(changes).iter().all(|(_, end)| *end > rfc3339(now + 2 * RESEND)));
    }
    let mut told = Vec::new();
    for _ in 0..30 {
        let changes = bench.wait(2);
        bench.answer(&changes, Outcome::Delivered);
        told.extend(ends(&changes).into_iter().map(|(domain, _)| domain));
    }
    told.sort();
    told.dedup();
    assert_eq!(told, ["a", "b", "c", "d", "e"], "within a minute it knows of all of them");
}
