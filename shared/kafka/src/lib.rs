//! What all clients of Kafka here share: settings of group members and readers, rebalances that are only recorded, and
//! transactions with the traps around their calls. It knows no record, no state and no loop.

mod contexts;
mod settings;
mod transactions;

pub use contexts::{Reader, ReaderContext, Rebalance, RebalanceRecorder, log};
pub use settings::{ASK, FETCH_AGAIN, instance, manual_offsets, membership, one, unless_set};
pub use transactions::{RETRY_LIMIT, Transactions, is_retriable, is_too_large};
