//! How far two samples of vectors lie apart: projections on directions, distances on a line, an optimal transport beside.

mod directions;
mod histogram;
mod moments;
mod scale;
mod sinkhorn;
mod split_mix;
mod wasserstein;

pub use directions::Directions;
pub use histogram::Histogram;
pub use moments::Moments;
pub use scale::{Scale, ScaleError};
pub use sinkhorn::Sinkhorn;
pub use split_mix::SplitMix64;
pub use wasserstein::wasserstein;
