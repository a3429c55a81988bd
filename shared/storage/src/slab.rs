//! Values under small numbers that stay theirs until they are removed.

const CHUNK: usize = 512;

/// Grows by chunks, so that a million values are never copied to twice the room.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
    live: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), live: 0 }
    }
}

impl<T: Default> Slab<T> {
    /// Keeps a value; the number is its place until [`remove`](Self::remove).
    pub fn insert(&mut self, value: T) -> u32 {
        self.live += 1;
        if let Some(index) = self.free.pop() {
            self[index] = value;
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("one with room was just made sure of");
        chunk.push(value);
        u32::try_from(before + chunk.len() - 1).expect("memory ends before 2^32 values")
    }

    /// Takes a value out; its number may be given to another one.
    pub fn remove(&mut self, index: u32) -> T {
        self.live -= 1;
        self.free.push(index);
        std::mem::take(&mut self[index])
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// All places in use since the slab was made; a free one holds a default value.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.chunks.iter().flatten())
    }

    /// Number of values that there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Bytes held, without what values hold on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.capacity() * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;
    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_freed_ones_are_given_again() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..2000).map(|value| slab.insert(value)).collect();
        assert!((0..2000).all(|value| slab[numbers[value]] == value));
        assert_eq!(slab.remove(numbers[700]), 700);
        assert_eq!(slab.len(), 1999);
        let capacity = slab.capacity();
        let again = slab.insert(7);
        assert_eq!((again, slab[again], slab.capacity()), (numbers[700], 7, capacity));
    }
}
