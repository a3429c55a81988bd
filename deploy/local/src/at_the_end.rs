//! Reporting to another thread that work is over, however it ended.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets its flag when it is dropped, by a panic too.
pub(crate) struct AtTheEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
