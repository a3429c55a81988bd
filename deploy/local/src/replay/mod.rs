//! `cargo stack replay`.

mod watermarks;
