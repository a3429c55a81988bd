//! What is usual for a series of values, and when it is left.

mod beta;
mod cusum;
mod shares;
mod sorted_window;
mod upper_tail;

pub use beta::BetaBaseline;
pub use cusum::{Cusum, CusumBaseline, CusumStep, CusumThreshold, cusum_step};
pub use shares::share_entropy;
pub use sorted_window::SortedWindow;
pub use upper_tail::UpperTail;
