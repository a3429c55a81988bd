//! Rows of one length, one behind the other.

use std::ops::Range;

/// Rows in a chunk.
const CHUNK: usize = 512;

/// Grows by chunks, so that a million rows are never copied to twice the room. Rows go by the numbers that somebody else
/// gives out, as [`Slab`](crate::Slab) does.
#[derive(Debug)]
pub struct Rows<T> {
    length: usize,
    chunks: Vec<Box<[T]>>,
}

impl<T: Copy + Default> Rows<T> {
    /// Rows of `length` values each.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self { length, chunks: Vec::new() }
    }

    /// Makes room for the row with that number, and all below it.
    pub fn make_room(&mut self, number: usize) {
        while number / CHUNK >= self.chunks.len() {
            self.chunks.push(vec![T::default(); CHUNK * self.length].into_boxed_slice());
        }
    }

    /// Values of a row.
    #[must_use]
    pub fn row_length(&self) -> usize {
        self.length
    }

    fn place(&self, number: u32) -> (usize, Range<usize>) {
        let start = number as usize % CHUNK * self.length;
        (number as usize / CHUNK, start..start + self.length)
    }

    /// A row that there is room for.
    #[must_use]
    #[inline]
    pub fn row(&self, number: u32) -> &[T] {
        let (chunk, range) = self.place(number);
        &self.chunks[chunk][range]
    }

    /// A row that there is room for.
    #[must_use]
    #[inline]
    pub fn row_mut(&mut self, number: u32) -> &mut [T] {
        let (chunk, range) = self.place(number);
        &mut self.chunks[chunk][range]
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * self.length * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_under_their_numbers() {
        let mut rows = Rows::new(3);
        for number in 0..2000_u32 {
            rows.make_room(number as usize);
            rows.row_mut(number).fill(number);
        }
        assert!((0..2000).all(|number| rows.row(number) == [number; 3]));
        assert_eq!(rows.bytes(), 4 * CHUNK * 3 * 4);
    }
}
