//! Configuration: defaults < file < environment < `--set`, everything that is wrong told at once.
//!
//! Conventions of a worker's default text, which [`load`] relies on:
//! - it lists **every key**; what it does not list is unknown and refused. A key that may be absent is an empty text.
//! - a table with the key `kind` is a *choice*: giving it with its `kind` replaces it whole, giving single keys changes those.
//! - an empty table is *free-form*: any key may stand in it.
//! - a table of choices alone is *named*: more of them may be added under other names.

mod foreign;
mod layers;
mod loading;
mod problems;
mod secrets;
mod sources;
mod suggestion;
mod tree;
mod types;

pub use loading::{Loaded, load};
pub use problems::{Origin, Problem, Problems, Validate};
pub(crate) use secrets::is_sensitive;
pub use sources::Sources;

/// Joins a worker's own keys and the sections that it uses into its default configuration.
///
/// The part with keys outside of any section must come first, as TOML demands.
pub fn defaults(parts: &[&str]) -> String {
    parts.concat()
}
