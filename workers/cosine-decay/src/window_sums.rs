//! The sums of groups over a sliding window.

use std::collections::BTreeMap;

use storage::wire::{self, Reader, damaged};
use streaming::operator::RestoreError;

use crate::summary::Sliding;

/// Shares by group.
pub(crate) type Groups<S> = BTreeMap<Box<[u8]>, S>;

/// The share of a group, which is made known where needed.
pub(crate) fn share_of<'a, S: Default>(groups: &'a mut Groups<S>, key: &[u8]) -> &'a mut S {
    if !groups.contains_key(key) {
        groups.insert(key.into(), S::default());
    }
    groups.get_mut(key).expect("inserted above")
}

/// A window's sums are those of its panes: the newest one is added, those that leave are taken back. So a slide costs its
/// own groups, however many slides a window has.
#[derive(Debug)]
pub(crate) struct WindowSums<S> {
    /// By the ends of the panes.
    panes: BTreeMap<i64, Groups<S>>,
    totals: Groups<S>,
}

impl<S> Default for WindowSums<S> {
    fn default() -> Self {
        Self { panes: BTreeMap::new(), totals: Groups::new() }
    }
}

impl<S: Sliding> WindowSums<S> {
    /// Adds the shares of a pane.
    pub(crate) fn enter(&mut self, pane_end: i64, groups: Groups<S>) {
        if groups.is_empty() {
            return;
        }
        for (key, share) in &groups {
            share_of(&mut self.totals, key).merge(share);
        }
        self.panes.insert(pane_end, groups);
    }

    /// Takes back the panes that end at or before `time`.
    pub(crate) fn evict(&mut self, time: i64) {
        while let Some(entry) = self.panes.first_entry()
            && *entry.key() <= time
        {
            for (key, share) in entry.remove() {
                let Some(total) = self.totals.get_mut(&key) else { continue };
                total.subtract(&share);
                if *total == S::default() {
                    self.totals.remove(&key);
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// The window's groups.
    pub(crate) fn totals(&self) -> &Groups<S> {
        &self.totals
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let groups = self.panes.values().map(Groups::len).sum::<usize>() + self.totals.len();
        groups * (size_of::<S>() + 64)
    }

    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        wire::put_u64(into, self.panes.len() as u64);
        for (end, groups) in &self.panes {
            wire::put_signed(into, i128::from(*end));
            wire::put_u64(into, groups.len() as u64);
            for (key, share) in groups {
                wire::put_bytes(into, key);
                bytes.clear();
                share.encode(&mut bytes);
                wire::put_bytes(into, &bytes);
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut sums = Self::default();
        for _ in 0..reader.u64()? {
            let end = reader.time()?;
            let mut groups = Groups::new();
            for _ in 0..reader.u64()? {
                let key = reader.bytes()?;
                groups.insert(key.into(), S::decode(reader.bytes()?)?);
            }
            if groups.is_empty() || sums.panes.contains_key(&end) {
                return Err(damaged("a pane that is empty or comes twice"));
            }
            sums.enter(end, groups);
        }
        Ok(sums)
    }
}
