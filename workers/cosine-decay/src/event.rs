//! What the worker needs to know of its events.

use grouping::Dimension;
use streaming::operator::Timed;

/// An interaction of a session with an item.
pub trait ClickEvent: Timed {
    /// The session; not empty.
    fn session_id(&self) -> &str;

    /// The event; orders events of one time, as text.
    fn event_id(&self) -> &str;

    /// The item.
    fn item_id(&self) -> &str;

    /// A dimension's value; empty where the event has none.
    fn dimension(&self, dimension: Dimension) -> &str;

    /// The W3C trace context that the event came with.
    fn traceparent(&self) -> Option<&str> {
        None
    }
}

/// An item's vector changes.
pub trait ItemEvent: Timed {
    /// The item; not empty.
    fn item_id(&self) -> &str;

    /// The event; decides between versions of one time, as text.
    fn event_id(&self) -> &str;

    /// The new version; `None` where the item is deleted.
    fn version(&self) -> Option<NewVersion<'_>>;

    /// The W3C trace context that the event came with.
    fn traceparent(&self) -> Option<&str> {
        None
    }
}

/// A new version of an item's vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewVersion<'a> {
    /// The domain that the vector belongs to.
    pub domain: &'a str,
    /// The model that made it.
    pub model_version: &'a str,
    /// The vector: of the configured length, finite, and not all zero.
    pub vector: &'a [f32],
}
