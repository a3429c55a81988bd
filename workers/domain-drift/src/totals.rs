//! What the users of a domain in the window add up to in one partition, kept up while they come and go.

use std::collections::BTreeSet;

use measures::{Histogram, Moments, Scale};

use crate::summary::{DirectionSums, Summary};

/// Running sums over the newest vectors of a domain's users.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    users: u64,
    out_of_range: u64,
    /// By direction, then by bin.
    counts: Box<[u32]>,
    moments: Box<[Moments]>,
    /// The users by what orders them for the sample; empty where none is taken.
    pub(crate) by_hash: BTreeSet<(u64, u32)>,
}

impl Totals {
    /// No users.
    pub(crate) fn new(directions: usize, scale: &Scale) -> Self {
        Self {
            counts: vec![0; directions * scale.bins() as usize].into_boxed_slice(),
            moments: vec![Moments::default(); directions].into_boxed_slice(),
            ..Self::default()
        }
    }

    pub(crate) fn users(&self) -> u64 {
        self.users
    }

    /// Adds a user by the places of the newest vector.
    pub(crate) fn add(&mut self, places: &[i32], scale: &Scale) {
        self.users += 1;
        let counts = self.counts.chunks_exact_mut(scale.bins() as usize);
        for ((place, counts), moments) in places.iter().zip(counts).zip(&mut self.moments) {
            counts[scale.bin(*place) as usize] += 1;
            moments.add(*place);
            self.out_of_range += u64::from(scale.is_outside(*place));
        }
    }

    /// Takes back what [`add`](Self::add) has added with the same places.
    pub(crate) fn remove(&mut self, places: &[i32], scale: &Scale) {
        self.users -= 1;
        let counts = self.counts.chunks_exact_mut(scale.bins() as usize);
        for ((place, counts), moments) in places.iter().zip(counts).zip(&mut self.moments) {
            counts[scale.bin(*place) as usize] -= 1;
            moments.remove(*place);
            self.out_of_range -= u64::from(scale.is_outside(*place));
        }
    }

    /// The sums as a summary, without a sample.
    pub(crate) fn summary(&self, scale: &Scale) -> Summary {
        let counts = self.counts.chunks_exact(scale.bins() as usize);
        let sums = |(counts, moments): (&[u32], &Moments)| DirectionSums {
            histogram: Histogram::of_counts(counts),
            moments: *moments,
        };
        Summary {
            users: self.users,
            out_of_range: self.out_of_range,
            overflowed: 0,
            directions: counts.zip(&self.moments).map(sums).collect(),
            sample: Vec::new(),
            example: None,
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // a tree's nodes are two thirds full
        size_of_val(&*self.counts) + size_of_val(&*self.moments) + self.by_hash.len() * size_of::<(u64, u32)>() * 3 / 2
    }
}
