//! How far two samples of vectors lie apart: projections on directions, distances on a line.

mod directions;
mod histogram;
mod moments;
mod scale;
mod split_mix;
mod wasserstein;

pub use directions::{Directions, norm};
pub use histogram::Histogram;
pub use moments::Moments;
pub use scale::{Scale, ScaleError};
pub use split_mix::SplitMix64;
pub use wasserstein::wasserstein;
