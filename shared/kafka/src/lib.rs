//! What all clients of Kafka here share: settings of group members and readers, rebalances that are only recorded, topics
//! that are read to their ends, the settings of topics, and transactions with the traps around their calls. It knows no
//! record and no state.

mod admin;
mod contexts;
mod group_member;
mod headers;
mod identity;
mod reading;
mod settings;
mod topic_limits;
mod topics;
mod transactions;

pub use admin::{delete_offsets, describe_topics};
pub use contexts::{Reader, ReaderContext, log};
pub use group_member::{GroupMember, Partitions, Rebalance, RebalanceRecorder};
pub use headers::{copied, copied_headers, read_headers};
pub use identity::{TopicChange, TopicId, TopicIdentity, recreated};
pub use reading::{ReadFailure, partitions, read_to_end, read_whole, reader};
pub use settings::{
    ASK, ASK_AT_START, FETCH_AGAIN, LARGEST_RECORD, instance, manual_offsets, membership, one, unless_set,
};
pub use topic_limits::TopicLimits;
pub use topics::topic_settings;
pub use transactions::{RETRY_LIMIT, Refused, Transactions, is_refused_for_good, is_retriable, is_too_large};
