//! `Interaction`: a user met an item.

use serde::{Deserialize, Serialize};

use crate::datum::Datum;
use crate::field::{Input, Limits, LongField, SymbolField, Symbolic, TextField, check_entity};
use crate::{EVENT_TIMES, Rejection, Text};

/// What happened between user and item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InteractionKind {
    /// The item was shown.
    Impression,
    /// The item was clicked.
    Click,
    /// The item went into the cart.
    Cart,
    /// The item was bought.
    Purchase,
}

impl Symbolic for InteractionKind {
    const SYMBOLS: &'static [(&'static str, Self)] =
        &[("IMPRESSION", Self::Impression), ("CLICK", Self::Click), ("CART", Self::Cart), ("PURCHASE", Self::Purchase)];
}

/// A user met an item (`schemas/Interaction.avsc`). Key: `session_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interaction<'a> {
    /// Unique; orders events of one time, as text.
    #[serde(borrow)]
    pub event_id: Text<'a>,
    /// The recommendation request that showed the item.
    #[serde(borrow)]
    pub request_id: Option<Text<'a>>,
    /// The session; never empty in a checked record.
    #[serde(borrow)]
    pub session_id: Text<'a>,
    /// The user.
    #[serde(borrow)]
    pub user_id: Text<'a>,
    /// The item.
    #[serde(borrow)]
    pub item_id: Text<'a>,
    /// What happened.
    pub kind: InteractionKind,
    /// The catalogue that the item belongs to.
    #[serde(borrow)]
    pub domain: Text<'a>,
    /// Where the item was shown.
    #[serde(borrow)]
    pub surface: Option<Text<'a>>,
    /// The user's segment.
    #[serde(borrow)]
    pub user_segment: Option<Text<'a>>,
    /// The strategy that recommended the item.
    #[serde(borrow)]
    pub rec_strategy: Option<Text<'a>>,
    /// The experiment arm.
    #[serde(borrow)]
    pub ab_group: Option<Text<'a>>,
    /// The item's type.
    #[serde(borrow)]
    pub item_type: Option<Text<'a>>,
    /// Place in the list.
    pub position: Option<i32>,
    /// When it happened, epoch ms; one of [`EVENT_TIMES`] in a checked record.
    pub event_time: i64,
}

/// An interaction as the bytes have it, before it is checked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[doc(hidden)]
pub struct RawInteraction<'a> {
    #[serde(borrow)]
    event_id: TextField<'a>,
    #[serde(borrow)]
    request_id: TextField<'a>,
    #[serde(borrow)]
    session_id: TextField<'a>,
    #[serde(borrow)]
    user_id: TextField<'a>,
    #[serde(borrow)]
    item_id: TextField<'a>,
    kind: SymbolField<InteractionKind>,
    #[serde(borrow)]
    domain: TextField<'a>,
    #[serde(borrow)]
    surface: TextField<'a>,
    #[serde(borrow)]
    user_segment: TextField<'a>,
    #[serde(borrow)]
    rec_strategy: TextField<'a>,
    #[serde(borrow)]
    ab_group: TextField<'a>,
    #[serde(borrow)]
    item_type: TextField<'a>,
    position: LongField,
    event_time: LongField,
}

impl Input for Interaction<'static> {
    type Raw<'a> = RawInteraction<'a>;

    const REQUIRED: &'static [&'static str] =
        &["event_id", "session_id", "user_id", "item_id", "kind", "domain", "event_time"];

    const TIMES: &'static [&'static str] = &["event_time"];

    const ENTITY: Option<&'static str> = Some("session_id");

    fn check<'a>(raw: Self::Raw<'a>, limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        // missing_field, empty_key, bad_key, bad_value, in this order
        let session_id = raw.session_id.required("session_id")?;
        let event_id = raw.event_id.required("event_id")?;
        let user_id = raw.user_id.required("user_id")?;
        let item_id = raw.item_id.required("item_id")?;
        let kind = raw.kind.required("kind")?;
        let domain = raw.domain.required("domain")?;
        let event_time = raw.event_time.required("event_time")?;
        check_entity::<Self>(&session_id, limits)?;
        Ok(Interaction {
            event_time: event_time.time("event_time")?,
            kind: kind.known("kind")?,
            request_id: raw.request_id.optional("request_id")?,
            surface: raw.surface.optional("surface")?,
            user_segment: raw.user_segment.optional("user_segment")?,
            rec_strategy: raw.rec_strategy.optional("rec_strategy")?,
            ab_group: raw.ab_group.optional("ab_group")?,
            item_type: raw.item_type.optional("item_type")?,
            position: raw.position.optional_int("position")?,
            event_id,
            session_id,
            user_id,
            item_id,
            domain,
        })
    }

    fn read_own<'a>(datum: &'a [u8], limits: &Limits<'_>) -> Option<Self::Of<'a>> {
        let mut datum = Datum::new(datum);
        // evaluated in this order, the schema's
        let record = Interaction {
            event_id: datum.text()?,
            request_id: datum.nullable(Datum::text)?,
            session_id: datum.text()?,
            user_id: datum.text()?,
            item_id: datum.text()?,
            kind: InteractionKind::SYMBOLS.get(datum.index()?)?.1,
            domain: datum.text()?,
            surface: datum.nullable(Datum::text)?,
            user_segment: datum.nullable(Datum::text)?,
            rec_strategy: datum.nullable(Datum::text)?,
            ab_group: datum.nullable(Datum::text)?,
            item_type: datum.nullable(Datum::text)?,
            position: datum.nullable(|datum| i32::try_from(datum.long()?).ok())?,
            event_time: datum.long()?,
        };
        let is_good = datum.is_empty() && limits.key_is(&record.session_id) && EVENT_TIMES.contains(&record.event_time);
        is_good.then_some(record)
    }
}
