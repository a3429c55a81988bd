//! A storm of alerts: what it costs in memory, counted by the allocator. How long it holds up others,
//! `cargo stack measure --worker alert-router` measures.
#![allow(unsafe_code)] // a global allocator cannot be written without

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use alert_router::core::{Core, Outcome};
use alert_router::labels::GroupBy;
use alert_router::routing::Style;
use records::AlertState;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const STORM: i64 = 100_000;
/// The storm comes in a minute, a turn has this many of its records.
const PER_TURN: i64 = 500;

/// Feeds the storm to a router whose pager, which is told of everything in these groups, is down; then that it is over.
/// Returns the most memory that was held above what the test itself holds.
fn storm(group_by: GroupBy) -> usize {
    let routing = support::routing(vec![
        (support::receiver("topic", Style::Topic("t".to_owned())), GroupBy::Names(vec!["rule".to_owned()])),
        (support::receiver("pager", Style::Webhook), group_by),
    ]);
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let mut core = Core::new(routing, support::lookup(), 0);
    let (mut now, mut told) = (0, 0);
    let mut turn = |core: &mut Core, now: i64, records: std::ops::Range<i64>, state| {
        for number in records {
            let sequence = if state == AlertState::Firing { 1 } else { 2 };
            let alert = support::alert("slow", "warning", &format!("domain-{number}"), 1, sequence, state);
            let _ = core.alert(&alert, &support::encoded(&alert), now);
        }
        core.advance(now);
        let changes = core.take_changes();
        told += changes.topics.len();
        for send in changes.sends {
            let outcome = Outcome::Failed { message: "down".to_owned(), reached: true, retry_after: None };
            core.outcome(send.group, send.number, outcome, now, 0.5);
        }
    };
    for state in [AlertState::Firing, AlertState::Resolved] {
        for first in (0..STORM).step_by(usize::try_from(PER_TURN).unwrap()) {
            now += 60_000 * PER_TURN / STORM;
            turn(&mut core, now, first..first + PER_TURN, state);
        }
        // the pager's groups have their times, all of them
        for _ in 0..20 {
            now += 30_000;
            turn(&mut core, now, 0..0, state);
        }
    }
    assert_eq!(told, 2 * usize::try_from(STORM).unwrap(), "the topic was told everything");
    PEAK.load(Ordering::Relaxed) - before
}

/// One test, as the allocator counts for all of them.
#[test]
fn a_storm_of_100_000_alerts_fits_into_memory() {
    for group_by in [GroupBy::Names(vec!["rule".to_owned()]), GroupBy::All] {
        let peak = storm(group_by.clone());
        println!("{group_by:?}: at most {} MB were held", peak / 1_000_000);
        assert!(peak < 200_000_000, "{group_by:?}: {peak} bytes");
    }
}
