//! What the worker needs to know of an event.

use streaming::operator::Timed;

/// A user has a new vector in a domain.
pub trait VectorEvent: Timed {
    /// The user; not empty.
    fn user_id(&self) -> &str;

    /// The domain that the vector belongs to.
    fn domain(&self) -> &str;

    /// The event; decides between versions of one time, as text.
    fn event_id(&self) -> &str;

    /// The vector: of the configured length, finite, and not all zero.
    fn vector(&self) -> &[f32];

    /// The W3C trace context that the event came with.
    fn traceparent(&self) -> Option<&str> {
        None
    }
}
