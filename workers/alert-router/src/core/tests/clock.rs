//! A clock that is set back holds nothing up.

use super::{Bench, alert, expected, failed, over};
use crate::core::Outcome;
use crate::routing::Style;

const HOUR: i64 = 3_600_000;

impl Bench {
    /// Between two turns, of which there are many in a second.
    fn set_back(&mut self) {
        let changes = self.wait(-HOUR / 1000);
        assert!(changes.sends.is_empty(), "{changes:?}");
    }
}

#[test]
fn groups_and_repetitions_wait_no_longer_than_their_time() {
    let mut bench = Bench::of(Style::Webhook);
    bench.now = 10 * HOUR;
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.delivered(30).len(), 1);
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert!(bench.delivered(100).is_empty());
    bench.set_back();
    assert!(bench.delivered(199).is_empty(), "its group has told lately");
    let sent = bench.wait(1);
    assert_eq!(sent.sends.len(), 1);
    bench.answer(&sent, failed(false));
    bench.set_back();
    let again = bench.wait(1);
    assert_eq!(again.sends, sent.sends, "after its pause");
    bench.answer(&again, Outcome::Delivered);
}

#[test]
fn nor_does_a_restart_make_them_wait() {
    let mut bench = Bench::of(Style::Webhook);
    bench.now = 10 * HOUR;
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.delivered(30).len(), 1);
    let _ = bench.take(alert(1, "r", "warning", "b"));
    bench.now -= HOUR;
    let _ = bench.restart(bench.core.routing().clone());
    assert_eq!(bench.delivered(300), [expected("firing", &[("b", "firing"), ("a", "firing")])]);
    let mut repeated = 0;
    for _ in 0..4 * 12 {
        repeated += bench.delivered(300).len();
    }
    assert_eq!(repeated, 1, "four hours later");
}
