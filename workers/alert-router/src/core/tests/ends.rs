//! Who was told that an alert fires is told that it is over, whatever stands in the way.

use super::{Bench, Told, alert, expected, failed, over};
use crate::core::changes::Changes;
use crate::core::{Outcome, Stats};
use crate::routing::Style;

const HOUR: i64 = 3_600;

fn refused() -> Outcome {
    Outcome::Refused { message: "401 the token is an old one".to_owned() }
}

impl Bench {
    /// Lets time pass; what is sent is refused.
    fn refused(&mut self, seconds: i64) -> Changes {
        let sent = self.wait(seconds);
        self.answer(&sent, refused());
        let mut changes = self.commit();
        changes.sends = sent.sends;
        changes
    }
}

#[test]
fn an_end_that_is_refused_is_told_anew_at_the_groups_next_time() {
    for style in [Style::Webhook, Style::PagerDuty, Style::Alertmanager { resend_interval: 60_000 }, Style::Lines] {
        let is_body_of_groups = !style.is_immediate();
        let mut bench = Bench::of(style);
        let _ = bench.take(alert(1, "r", "warning", "a"));
        let first = bench.wait(30);
        bench.answer(&first, Outcome::Delivered);
        let _ = bench.take(over(alert(2, "r", "warning", "a")));
        let refused = bench.refused(300);
        assert_eq!((refused.sends.len(), refused.letters.len(), refused.letters[0].reason), (1, 1, "refused"));
        assert!(bench.wait(30).sends.is_empty() || !is_body_of_groups, "not before the group's next time");
        let again = bench.wait(270);
        assert_eq!(again.sends.len(), 1, "the end is told again");
        assert_ne!(again.sends[0].idempotency_key, refused.sends[0].idempotency_key);
        bench.answer(&again, Outcome::Delivered);
        assert_eq!(bench.core.stats(), Stats { receivers: vec![(0, 0)], ..Stats::default() }, "nothing is left");
    }
}

#[test]
fn an_end_that_is_refused_for_five_days_is_told_no_more_and_its_last_letter_says_so() {
    let mut bench = Bench::of(Style::Webhook);
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.delivered(30).len(), 1);
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    let begun = bench.now;
    let mut reasons = Vec::new();
    while bench.core.stats().alerts > 0 {
        assert!(bench.now - begun < 200 * HOUR * 1000, "it is told for ever");
        if reasons.len() % 100 == 1 {
            assert!(bench.restart(bench.core.routing().clone()).is_empty());
        }
        reasons.extend(bench.refused(300).letters.iter().map(|letter| letter.reason));
    }
    assert_eq!((bench.now - begun) / 1000, 120 * HOUR + 300, "from the first refusal on");
    let last = reasons.pop();
    assert_eq!(last, Some("expired"));
    assert!(reasons.len() == 120 * 12 && reasons.iter().all(|reason| *reason == "refused"));
    assert_eq!(bench.core.stats(), Stats { receivers: vec![(0, 0)], ..Stats::default() });
}

#[test]
fn an_alert_that_fires_again_is_told_where_its_end_was_taken_without_a_word() {
    let mut bench = Bench::of(Style::Webhook);
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.delivered(30).len(), 1);
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    let sent = bench.wait(300);
    bench.answer(&sent, failed(true));
    let _ = bench.take(alert(3, "r", "warning", "a"));
    assert_eq!(bench.delivered(300), [expected("firing", &[("a", "firing")])], "it believes perhaps that it is over");
}

#[test]
fn what_was_told_is_read_from_an_older_state() {
    let mut bench = Bench::of(Style::Webhook);
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.delivered(30).len(), 1);
    let _ = bench.commit();
    let told = bench.state.get_mut("told/1/1").unwrap();
    // how it was before there was a time in it: firing, and the number of the notification
    *told = vec![2, 1];
    assert!(bench.restart(bench.core.routing().clone()).is_empty());
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert_eq!(bench.delivered(300), [expected("resolved", &[("a", "resolved")])]);
}

#[test]
fn an_alert_that_fires_again_has_five_days_for_its_next_end() {
    let mut bench = Bench::of(Style::Webhook);
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.delivered(30).len(), 1);
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert_eq!(bench.refused(300).letters.len(), 1);
    let _ = bench.take(alert(3, "r", "warning", "a"));
    for _ in 0..130 {
        let _ = bench.refused(HOUR);
    }
    let _ = bench.take(over(alert(4, "r", "warning", "a")));
    assert_eq!(bench.refused(300).letters[0].reason, "refused");
    let end: Vec<Told> = vec![expected("resolved", &[("a", "resolved")])];
    assert_eq!(bench.delivered(300), end);
}
