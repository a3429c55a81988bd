//! Versions of users' vectors under numbers: their places, and the vectors themselves where samples are taken.

use storage::Rows;

/// Grows by chunks, so that a million versions are never copied to twice the room.
#[derive(Debug)]
pub(crate) struct Versions {
    places: Rows<i32>,
    vectors: Rows<f32>,
    free: Vec<u32>,
    live: usize,
}

impl Versions {
    /// Versions of `directions` places; their vectors are kept where `dimensions` is not 0.
    pub(crate) fn new(directions: usize, dimensions: usize) -> Self {
        Self { places: Rows::new(directions), vectors: Rows::new(dimensions), free: Vec::new(), live: 0 }
    }

    /// Keeps a version; the number is its own until [`remove`](Self::remove).
    pub(crate) fn insert(&mut self, places: &[i32], vector: &[f32]) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            let number = self.live;
            self.places.make_room(number);
            self.vectors.make_room(number);
            u32::try_from(number).expect("memory ends before 2^32 versions")
        });
        self.live += 1;
        self.replace(number, places, vector);
        number
    }

    /// Puts another version under a number.
    pub(crate) fn replace(&mut self, number: u32, places: &[i32], vector: &[f32]) {
        self.places.row_mut(number).copy_from_slice(places);
        if self.vectors.row_length() > 0 {
            self.vectors.row_mut(number).copy_from_slice(vector);
        }
    }

    pub(crate) fn remove(&mut self, number: u32) {
        self.live -= 1;
        self.free.push(number);
    }

    pub(crate) fn places(&self, number: u32) -> &[i32] {
        self.places.row(number)
    }

    /// The vector; empty where none are kept.
    pub(crate) fn vector(&self, number: u32) -> &[f32] {
        self.vectors.row(number)
    }

    /// Number of places and components of a version.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        (self.places.row_length(), self.vectors.row_length())
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.places.bytes() + self.vectors.bytes() + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stay_under_their_numbers_and_freed_numbers_are_given_again() {
        for dimensions in [0, 2] {
            let mut versions = Versions::new(3, dimensions);
            let numbers: Vec<u32> = (0..2000).map(|at| versions.insert(&[at; 3], &[at as f32; 2])).collect();
            for (at, number) in (0..).zip(&numbers) {
                assert_eq!(versions.places(*number), [at; 3]);
                assert_eq!(versions.vector(*number), &[at as f32; 2][..dimensions]);
            }
            let bytes = versions.bytes();
            versions.remove(numbers[700]);
            versions.remove(numbers[9]);
            assert_eq!(versions.insert(&[-1; 3], &[-1.0; 2]), numbers[9]);
            assert_eq!(versions.insert(&[-2; 3], &[-2.0; 2]), numbers[700]);
            assert_eq!((versions.places(numbers[9]), versions.places(numbers[700])), (&[-1; 3][..], &[-2; 3][..]));
            assert!(versions.bytes() < bytes + 1000);
        }
    }
}
