//! When nobody is told of certain alerts.

use serde::{Deserialize, Serialize};

use crate::field::{Input, Limits, check_key};
use crate::{Rejection, Text};

/// A time in which nobody is told of certain alerts (`schemas/Silence.avsc`). Key: `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence<'a> {
    /// Names it; never empty in a checked record.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// Conditions on labels, such as `severity="warning"`, all of which must hold.
    #[serde(borrow)]
    pub matchers: Vec<Text<'a>>,
    /// From when on, epoch ms of the clock, inclusive.
    pub starts_at: i64,
    /// Until when, exclusive.
    pub ends_at: i64,
    /// Who asked for it.
    #[serde(borrow, default)]
    pub created_by: Text<'a>,
    /// Why.
    #[serde(borrow, default)]
    pub comment: Text<'a>,
}

impl Input for Silence<'static> {
    type Raw<'a> = Silence<'a>;

    const REQUIRED: &'static [&'static str] = &["id", "matchers", "starts_at", "ends_at"];

    const TIMES: &'static [&'static str] = &["starts_at", "ends_at"];

    fn check<'a>(raw: Self::Raw<'a>, _limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        check_key("id", &raw.id)?;
        Ok(raw)
    }
}
