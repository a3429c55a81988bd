//! What a person sees.

pub mod plot;
