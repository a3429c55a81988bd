//! TODO
pub mod generator;
