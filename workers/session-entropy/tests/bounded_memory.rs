//! What a live session costs, counted by the allocator.
#![allow(unsafe_code)] // a global allocator cannot be written without

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use grouping::Dimension;
use records::{Reason, Rejection};
use session_entropy::event::SessionEvent;
use session_entropy::fold::SessionFold;
use session_entropy::rows::{EntropyRow, FreshnessRow, RowEncoder};
use streaming::operator::{Fold, NoTable, Record, Source, SourceError, Timed};
use streaming::output::FoldOutput;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An event that borrows its ids, so that making it allocates nothing.
struct Click<'a> {
    time: i64,
    session_id: &'a str,
    event_id: &'a str,
    domain: &'a str,
}

impl Timed for Click<'_> {
    fn event_time(&self) -> i64 {
        self.time
    }
}

impl SessionEvent for Click<'_> {
    fn session_id(&self) -> &str {
        self.session_id
    }
    fn event_id(&self) -> &str {
        self.event_id
    }
    fn dimension(&self, dimension: Dimension) -> &str {
        if dimension == Dimension::Domain { self.domain } else { "" }
    }
}

struct NoSource;

impl Source for NoSource {
    type Event<'a> = Click<'a>;
    fn decode<'a>(&mut self, _: &Record<'a>) -> Result<Click<'a>, SourceError> {
        Err(Rejection::new(Reason::Undecodable, "this source decodes nothing").into())
    }
}

struct NoRows;

impl RowEncoder for NoRows {
    fn freshness(&mut self, _: &FreshnessRow<'_>, _: &mut Vec<u8>) {}
    fn entropy(&mut self, _: &EntropyRow<'_>, _: &mut Vec<u8>) {}
}

/// 16 characters that look like nothing in particular.
fn id(number: u64, salt: u64, buffer: &mut [u8; 16]) -> &str {
    let mut mixed = (number ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in buffer.iter_mut() {
        mixed = mixed.rotate_left(4);
        *byte = b"0123456789abcdef"[(mixed & 15) as usize];
    }
    std::str::from_utf8(buffer).unwrap()
}

/// Plays `events` events a session evenly over one window with a bound of 5 s; returns the most that was held after a
/// window end, in bytes a session, with all sessions live at the end.
fn bytes_a_session(sessions: u64, events: u64) -> f64 {
    let settings = support::default_settings();
    let mut out = FoldOutput::new(1);
    let before = LIVE.load(Ordering::Relaxed);
    let mut fold: SessionFold<NoSource, NoRows> = SessionFold::new(&settings, NoRows);
    let (mut most, mut closed) = (0, 0);
    let (first, span) = (1_400_000_000_000_i64, 299_000_i64);
    let count = sessions * events;
    let close_up_to = |fold: &mut SessionFold<NoSource, NoRows>, closed: &mut i64, watermark: i64| {
        while let Some(end) = fold.next_end(*closed).filter(|end| *end <= watermark) {
            fold.close(end, &NoTable, &mut FoldOutput::new(1));
            *closed = end;
        }
        LIVE.load(Ordering::Relaxed) - before
    };
    for number in 0..count {
        let time = first + (i128::from(number) * i128::from(span) / i128::from(count)) as i64;
        let (mut session, mut event) = ([0; 16], [0; 16]);
        let click = Click {
            time,
            session_id: id(number % sessions, 0, &mut session),
            event_id: id(number, 1 << 63, &mut event),
            domain: ["books", "films", "music"][(number % 3) as usize],
        };
        fold.apply(&click, &mut out);
        if number % 1000 == 0 {
            most = most.max(close_up_to(&mut fold, &mut closed, time - 5000));
        }
    }
    let held = LIVE.load(Ordering::Relaxed) - before;
    most = most.max(held);
    let size = fold.size();
    assert_eq!(size.keys, sessions);
    let estimate = size.bytes as f64 / held as f64;
    assert!((0.9..=1.1).contains(&estimate), "size() says {} of {held} bytes", size.bytes);

    // the last event leaves with the first window that begins at or after it; then nobody is kept
    let last_end = settings.windows.leaves_at(settings.windows.pane_end(first + span));
    close_up_to(&mut fold, &mut closed, last_end - 1);
    assert!(fold.size().keys > 0);
    let left = close_up_to(&mut fold, &mut closed, last_end);
    assert_eq!((fold.size().keys, fold.next_end(closed)), (0, None));
    // the table of logarithms, 64 KiB, stays for good
    assert!(left < 80 * 1024, "{left} bytes are left for nobody");
    most as f64 / sessions as f64
}

#[test]
fn a_million_sessions_with_4_events_cost_at_most_300_bytes_each_and_with_16_at_most_400() {
    // one test, since the allocator counts for the whole process
    let with_4 = bytes_a_session(1_000_000, 4);
    let with_16 = bytes_a_session(125_000, 16);
    println!("{with_4:.1} bytes a session with 4 events, {with_16:.1} with 16");
    assert!(with_4 <= 300.0, "{with_4} bytes with 4 events");
    assert!(with_16 <= 400.0, "{with_16} bytes with 16 events");
}
