//! What an item's vector costs in the table, counted by the allocator.
#![allow(unsafe_code)] // a global allocator cannot be written without

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use cosine_decay::table::ItemTable;
use cosine_decay::version::{VersionKey, encode_vector};
use streaming::operator::Table;

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

#[test]
fn a_million_items_of_64_dimensions_take_less_than_400_megabytes() {
    let items = 1_000_000;
    let mut table = ItemTable::new(64);
    let before = LIVE.load(Ordering::Relaxed);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for item in 0..items {
        key.clear();
        value.clear();
        let (item_id, event_id) = (format!("item-{item:08}"), format!("00000000-0000-0000-0000-{item:012}"));
        VersionKey { item_id: &item_id, event_time: item, event_id: &event_id }.encode(&mut key);
        encode_vector(&[item as f32 + 1.0; 64], &mut value);
        table.put(&key, &value, None).unwrap();
    }
    let held = LIVE.load(Ordering::Relaxed) - before;
    assert!(held < 400_000_000, "{held} bytes");
    let told = table.size().bytes as usize;
    assert!(told.abs_diff(held) < held / 20, "size() tells {told} of {held} bytes");
    assert_eq!(table.as_of("item-00000007", 7), Some([8.0_f32; 64].as_slice()));
}
