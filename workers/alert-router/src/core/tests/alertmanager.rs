//! An Alertmanager that was away is never told that what fires has ended.

use serde_json::Value;

use super::{Bench, alert, failed, over};
use crate::core::Outcome;
use crate::core::changes::Changes;
use crate::routing::Style;
use crate::timestamp::rfc3339;

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

/// It would say that what it hears nothing of is over.
#[test]
fn a_mute_time_keeps_back_what_is_new_and_goes_on_with_what_is_known() {
    let mut routing =
        super::routing(vec![super::receiver("default", Style::Alertmanager { resend_interval: RESEND })], &[]);
    let night = crate::mute_time::MuteTime { times: vec![(0, 30)], ..Default::default() };
    routing.mute_times.insert("night".to_owned(), vec![night]);
    routing.root.mute_times = vec!["night".to_owned()];
    let mut bench = Bench::new(routing);
    // five minutes before midnight
    bench.now = 86_400_000 - 300_000;
    let _ = bench.take(alert(1, "r", "warning", "a"));
    let mut last = 0;
    let mut first_of_b = None;
    for second in 1..=2400 {
        let changes = bench.wait(1);
        bench.answer(&changes, Outcome::Delivered);
        for (domain, end) in ends(&changes) {
            assert!(end > rfc3339(bench.now + 2 * RESEND));
            if domain == "b" {
                first_of_b.get_or_insert(second);
            } else {
                last = second;
            }
        }
        assert!(second - last < 3 * RESEND / 1000, "a was not told for {} s at {second}", second - last);
        if second == 600 {
            let _ = bench.take(alert(1, "r", "warning", "b"));
        }
    }
    let first_of_b = first_of_b.unwrap();
    assert!((2100..2100 + RESEND / 1000 + 1).contains(&first_of_b), "b was told at {first_of_b}");
}
