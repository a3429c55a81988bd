//! How alike vectors are, how fast that wears off, and how an item moves among its neighbours.

mod decay_fit;
mod nearest;
mod search;
mod similarity;
mod slope;

pub use decay_fit::{DecayFit, half_life_hours, retention};
pub use nearest::Nearest;
pub use search::{Search, reciprocal_norm};
pub use similarity::{Side, cosine, decay};
pub use slope::slope;
