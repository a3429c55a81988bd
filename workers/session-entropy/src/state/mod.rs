//! The parts that a fold's state is made of. They are laid out for millions of sessions: no allocation for a usual
//! session beyond its slot.

pub(crate) mod gaps;
pub(crate) mod groups;
pub(crate) mod pane;
pub(crate) mod session;
