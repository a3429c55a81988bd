//! What the worker needs to know of an event.

use grouping::Dimension;
use streaming::operator::Timed;

/// An interaction of a session.
pub trait SessionEvent: Timed {
    /// The session; not empty.
    fn session_id(&self) -> &str;

    /// The event; decides between events of one time, as text.
    fn event_id(&self) -> &str;

    /// A dimension's value; empty where the event has none.
    fn dimension(&self, dimension: Dimension) -> &str;

    /// The W3C trace context that the event came with.
    fn traceparent(&self) -> Option<&str> {
        None
    }
}
