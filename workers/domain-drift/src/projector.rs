//! Vectors to places: what histograms and moments are made of.

use std::sync::Arc;

use measures::{Directions, Scale, norm};

/// What is done with a vector before it is projected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalise {
    /// It is divided by its norm: projections lie in `[-1, 1]`.
    L2,
    /// Nothing.
    None,
}

/// Projects vectors on the directions and says where in the range the projections lie.
#[derive(Debug, Clone)]
pub struct Projector {
    directions: Arc<Directions>,
    scale: Scale,
    normalise: Normalise,
    projections: Vec<f64>,
}

impl Projector {
    /// Projects on `directions`, into the range of `scale`.
    #[must_use]
    pub fn new(directions: Directions, scale: Scale, normalise: Normalise) -> Self {
        let projections = vec![0.0; directions.count()];
        Self { directions: Arc::new(directions), scale, normalise, projections }
    }

    /// The directions.
    #[must_use]
    pub fn directions(&self) -> &Directions {
        &self.directions
    }

    /// The range and its bins.
    #[must_use]
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// Sets `places` to those of a vector, one a direction.
    pub fn project(&mut self, vector: &[f32], places: &mut [i32]) {
        self.directions.project(vector, &mut self.projections);
        let length = match self.normalise {
            Normalise::L2 => norm(vector),
            Normalise::None => 1.0,
        };
        for (place, projection) in places.iter_mut().zip(&self.projections) {
            *place = self.scale.place(projection / length);
        }
    }

    /// A vector as its distances to others are measured.
    #[must_use]
    pub fn normalised(&self, vector: &[f32]) -> Vec<f64> {
        let length = match self.normalise {
            Normalise::L2 => norm(vector),
            Normalise::None => 1.0,
        };
        vector.iter().map(|component| f64::from(*component) / length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normalised_vector_lies_where_its_direction_does() {
        let scale = Scale::new(-1.0, 1.0, 2048).unwrap();
        let mut projector = Projector::new(Directions::new(3, 2, 42), scale, Normalise::L2);
        let (mut one, mut other) = ([0; 3], [0; 3]);
        projector.project(&[0.75, -0.5], &mut one);
        projector.project(&[3.0, -2.0], &mut other);
        assert_eq!(one, other);
        let normalised = projector.normalised(&[3.0, -4.0]);
        assert_eq!(normalised, [0.6, -0.8]);

        let mut as_it_is = Projector::new(Directions::new(3, 2, 42), scale, Normalise::None);
        as_it_is.project(&[3.0, -2.0], &mut other);
        assert_ne!(one, other);
        assert_eq!(as_it_is.normalised(&[3.0, -4.0]), [3.0, -4.0]);
    }
}
