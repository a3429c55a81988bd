//! What a person sees: moving progress on a terminal, plain lines in a pipe, plots.

mod numbers;
pub mod plot;
mod progress;

pub use numbers::{thousands, time_of_day};
pub use progress::progress;
