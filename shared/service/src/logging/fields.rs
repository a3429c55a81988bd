//! The fields of one event.

use std::fmt;

use tracing::field::{Field, Visit};

use super::text::Bounded;

/// An event's text and its fields.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// What the code says about the event; it may hold values of its own.
    pub(super) message: Option<String>,
    /// The others, in their order.
    pub(super) others: Vec<(&'static str, Logged)>,
}

/// A field's value.
#[derive(Debug)]
pub(super) enum Logged {
    /// A number or a truth value, as it is written everywhere.
    Plain(String),
    /// A text.
    Text(String),
    /// Something that was formatted as text.
    Formatted(String),
}

impl Fields {
    fn push(&mut self, field: &Field, value: Logged) {
        // Of records of the crate `log`: where in the code they come from.
        if !field.name().starts_with("log.") {
            self.others.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // The event's own text comes first. A later field of that name is a value like any other.
        if field.name() == "message" && field.index() == 0 {
            self.message = Some(Bounded::of(value));
        } else {
            self.push(field, Logged::Formatted(Bounded::of(value)));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Logged::Text(Bounded::of_text(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Logged::Plain(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Logged::Plain(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Logged::Plain(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for a number that is none.
        let text = value.to_string();
        self.push(field, if value.is_finite() { Logged::Plain(text) } else { Logged::Text(text) });
    }
}
