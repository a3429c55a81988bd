//! Which windows are closed when.

use super::{FoldTask, InWork};
use crate::operator::{Closing, Fold};

impl<F: Fold> FoldTask<F> {
    /// Closes the slides that the watermark has reached, or a piece of that.
    pub(super) fn close(&mut self) {
        self.close_piece();
        // of a replay's pieces nobody has a turn between
        while self.replay.is_some() && self.closing.is_some() {
            self.close_piece();
        }
    }

    fn close_piece(&mut self) {
        let Some(mut work) = self.closing.take().or_else(|| self.to_close()) else { return };
        let table = self.table.read();
        loop {
            if let Some(end) = work.end {
                if self.fold.go_on_closing(end, &table, &mut self.closing_out) == Closing::Unfinished {
                    self.closing = Some(work);
                    return;
                }
                work.after = end;
            }
            // an end that is no progress would be closed for ever
            work.end = self.fold.next_end(work.after).filter(|end| *end > work.after && *end <= work.target);
            let Some(end) = work.end else { break };
            self.fold.close(end, &table, &mut self.closing_out);
        }
        self.progress.counts.rows += self.closing_out.records.len() as u64;
        self.out.take_from(&mut self.closing_out);
        self.progress.closed = Some(work.target);
        self.next_boundary = work.target.saturating_add(self.time.windows.slide());
    }

    fn to_close(&self) -> Option<InWork> {
        let watermark = self.progress.watermark.value()?;
        let complete = watermark.min(self.table.complete()).min(self.closable);
        if complete < self.next_boundary || complete == i64::MIN {
            return None;
        }
        let after = self.progress.closed.unwrap_or(i64::MIN);
        Some(InWork { target: self.time.windows.floor(complete), after, end: None })
    }
}
