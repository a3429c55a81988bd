//! One generated interaction, named as in the recordings.

use serde::Serialize;

/// What a shopper did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// A recommendation was shown.
    Impression,
    /// It was clicked.
    Click,
    /// An item was put into the cart.
    Cart,
    /// It was bought.
    Purchase,
}

/// One interaction; serialised with serde it is a line of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Unique.
    pub event_id: String,
    /// The recommendation request that led here.
    pub request_id: Option<String>,
    /// The session; the record's key. Empty where the client lost it.
    pub session_id: String,
    /// The shopper.
    pub user_id: String,
    /// The item.
    pub item_id: String,
    /// What was done.
    pub kind: Kind,
    /// The shop's department.
    pub domain: &'static str,
    /// The page.
    pub surface: Option<&'static str>,
    /// Whose kind of shopper.
    pub user_segment: &'static str,
    /// Which recommender answered.
    pub rec_strategy: &'static str,
    /// The arm of the experiment.
    pub ab_group: &'static str,
    /// The kind of item.
    pub item_type: Option<&'static str>,
    /// The place in the list of recommendations, from 1.
    pub position: Option<i32>,
    /// Event time in epoch ms.
    pub event_time: i64,
}
