//! What a person sees: moving progress on a terminal, plain lines in a pipe, plots.

pub mod plot;
mod progress;

pub use progress::progress;
