//! The fold's state as bytes.

use grouping::Examples;
use storage::wire::{self, Reader, damaged};
use storage::{Rows, Slab};
use streaming::operator::RestoreError;

use super::{Entries, ItemsFold, Observations, Pane};
use crate::rows::RowEncoder;
use crate::version::{components, encode_vector};
use crate::window_sums::WindowSums;

const VERSION: u8 = 1;

impl<S, E: RowEncoder> ItemsFold<S, E> {
    /// Forgets everything but the settings.
    pub(super) fn clear(&mut self) {
        // the encoder stays
        let Self { slab, by_id, panes, prunable, closing, .. } = self;
        *slab = Slab::default();
        by_id.clear();
        panes.clear();
        prunable.clear();
        *closing = None;
        self.newest = Rows::new(self.settings.vector_dimensions);
        self.heap_bytes = 0;
    }

    /// Appends the whole state.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        into.push(VERSION);
        wire::put_u64(into, u64::from(self.closed.is_some()));
        wire::put_signed(into, i128::from(self.closed.unwrap_or_default()));
        wire::put_u64(into, self.slab.len() as u64);
        let mut bytes = Vec::new();
        for index in &self.by_id {
            let item = &self.slab[*index];
            wire::put_bytes(into, item.id.as_bytes());
            wire::put_u64(into, u64::from(item.since.is_some()));
            if let Some(since) = item.since {
                wire::put_signed(into, i128::from(since));
                bytes.clear();
                encode_vector(self.newest.row(*index), &mut bytes);
                wire::put_bytes(into, &bytes);
            }
            item.observations.write(into);
            item.entries.write(into);
        }
        self.sums.write(into);
        wire::put_u64(into, self.panes.len() as u64);
        for (end, pane) in &self.panes {
            wire::put_signed(into, i128::from(*end));
            pane.write(|item| self.slab[item].id.as_bytes(), into);
        }
        self.examples.write(into);
    }

    /// Reads what [`write`](Self::write) has written, into an empty fold.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        reader.version(VERSION)?;
        let has_closed = reader.u64()? == 1;
        self.closed = Some(reader.time()?).filter(|_| has_closed);
        for number in 0..reader.u64()? {
            let index = self.find_or_insert(reader.text()?);
            if self.slab.len() as u64 != number + 1 {
                return Err(damaged("an item that comes twice"));
            }
            self.read_item(index, reader)?;
        }
        self.sums = WindowSums::read(reader)?;
        for _ in 0..reader.u64()? {
            let end = reader.time()?;
            let pane = Pane::read(reader, self.settings.vector_dimensions, |item_id| self.find(item_id))?;
            pane.iter().for_each(|(version, _)| self.slab[version.item].waiting += 1);
            if self.closed.is_some_and(|closed| end <= closed) || self.panes.insert(end, pane).is_some() {
                return Err(damaged("a slide that is closed or comes twice"));
            }
        }
        self.examples = Examples::read(reader)?;
        Ok(())
    }

    fn read_item(&mut self, index: u32, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        let item = &mut self.slab[index];
        if reader.u64()? == 1 {
            item.since = Some(reader.time()?);
            let row = self.newest.row_mut(index);
            let components = components(reader.bytes()?)?;
            if components.len() != row.len() {
                return Err(damaged("a vector of another length"));
            }
            row.iter_mut().zip(components).for_each(|(component, bytes)| *component = f32::from_le_bytes(*bytes));
        }
        item.observations = Observations::read(reader)?;
        item.entries = Entries::read(reader)?;
        self.heap_bytes += item.entries.bytes() + item.observations.bytes();
        self.list(index);
        Ok(())
    }
}
