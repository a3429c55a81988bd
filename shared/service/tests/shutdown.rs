//! A shutdown as its watchers see it.

use std::time::{Duration, Instant};

use service::Shutdown;

#[test]
fn threads_and_tasks_that_wait_are_woken_by_the_request() {
    let shutdown = Shutdown::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| shutdown.wait_blocking());
        let pausing = scope.spawn(|| shutdown.wait_timeout(Duration::from_secs(3600)));
        let task = scope.spawn(|| runtime.block_on(shutdown.wait()));
        assert!(!shutdown.requested());
        shutdown.request();
        blocked.join().unwrap();
        assert!(pausing.join().unwrap());
        task.join().unwrap();
    });
    assert!(shutdown.clone().requested());
    // Whoever comes late is not left waiting.
    runtime.block_on(shutdown.wait());
    shutdown.wait_blocking();
}

#[test]
fn a_pause_lasts_its_time_if_nobody_asks_for_the_end() {
    let start = Instant::now();
    assert!(!Shutdown::new().wait_timeout(Duration::from_millis(20)));
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_last_attempt_is_overdue_only_after_the_end_was_asked_for() {
    let shutdown = Shutdown::new();
    assert!(!shutdown.is_overdue(Duration::ZERO));
    shutdown.request();
    assert!(shutdown.is_overdue(Duration::ZERO) && !shutdown.is_overdue(Duration::from_secs(3600)));
}
