//! The mathematics of recwatch, without IO, clocks or randomness.
//!
//! What is summed over sessions, subtracted again, or merged between partitions is an integer: a count, or a
//! [`Fixed`]. So the order of events, restarts and the number of partitions cannot change a result by a single bit.
//!
//! - [`Bins`] decides in which bin of a histogram a gap lies, [`BinCounts`] counts compactly,
//! - [`Scorer`] turns counts into an entropy and its normalised form, [`GapEntropy`] keeps one over a sliding window,
//! - [`Band`], [`GridCounts`] and [`Fixed`] are what aggregates are made of,
//! - [`Directions`] project vectors, a [`Scale`] makes places of projections; of these [`Histogram`]s and [`Moments`] are
//!   made, whose distances and deviations say how far two samples of vectors lie apart; [`Sinkhorn`] checks that,
//! - [`cosine`] says how alike two vectors are, [`decay`] what is left of that after a time, [`SignedGridCounts`] gives
//!   quantiles of both; [`DecayFit`] is calibrated on successive versions of vectors, a [`Search`] for the
//!   [`Nearest`] and [`slope`] tell how an item moves among its neighbours,
//! - [`SortedWindow`], [`Cusum`] and [`BetaBaseline`] know what is usual for a series and when it is left, [`share_entropy`]
//!   how concentrated what is too much is.

mod band;
mod bin_counts;
mod bins;
mod cosine;
mod drift;
mod entropy;
mod fixed;
mod gap_entropy;
mod grid;
mod log2;
mod series;
mod signed_grid;
mod vector;

pub use band::Band;
pub use bin_counts::BinCounts;
pub use bins::{Bins, BinsError, MAX_BINS};
pub use cosine::{DecayFit, Nearest, Search, Side, cosine, decay, half_life_hours, reciprocal_norm, retention, slope};
pub use drift::{Directions, Histogram, Moments, Scale, ScaleError, Sinkhorn, SplitMix64, wasserstein};
pub use entropy::{Estimator, Normalise, Score, Scorer};
pub use fixed::Fixed;
pub use gap_entropy::GapEntropy;
pub use grid::{GRID_STEPS, GridCounts, Quantile};
pub use series::{
    BetaBaseline, Cusum, CusumBaseline, CusumStep, CusumThreshold, SortedWindow, UpperTail, cusum_step, share_entropy,
};
pub use signed_grid::SignedGridCounts;
pub use vector::{dot, norm};
