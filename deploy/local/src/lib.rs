//! TODO
pub mod generator;
pub mod recording;
pub mod terminal;
