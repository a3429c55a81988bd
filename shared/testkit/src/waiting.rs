//! Waiting for a condition instead of for a time.

use std::time::{Duration, Instant};

const ASK_EVERY: Duration = Duration::from_millis(20);

/// Asks until there is an answer, and returns it.
///
/// # Panics
/// There is none within `deadline`; the message names `what` was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, deadline: Duration, mut answer: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(begun.elapsed() < deadline, "{what}: not within {deadline:?}");
        std::thread::sleep(ASK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::eventually;

    #[test]
    fn the_first_answer_is_returned() {
        let mut asked = 0;
        let answer = eventually("the third answer", Duration::from_secs(10), || {
            asked += 1;
            (asked == 3).then_some("yes")
        });
        assert_eq!((answer, asked), ("yes", 3));
    }

    #[test]
    #[should_panic(expected = "a miracle: not within 30ms")]
    fn what_never_comes_is_named() {
        eventually::<()>("a miracle", Duration::from_millis(30), || None);
    }
}
