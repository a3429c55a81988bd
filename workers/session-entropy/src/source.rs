//! The interactions topic as the fold's source.

use grouping::Dimension;
use records::names::with_bounded_names;
use records::{DecodeError, Decoder, Interaction};
use streaming::headers::Headers;
use streaming::operator::{Record, Source, SourceError, Timed};

use crate::event::SessionEvent;

/// Decodes interactions.
pub struct Interactions(pub Decoder<Interaction<'static>>);

impl Source for Interactions {
    type Event<'a> = Click<'a>;

    fn decode<'a>(&mut self, record: &Record<'a>) -> Result<Click<'a>, SourceError> {
        match self.0.decode_with_headers(record.key, record.value, record.headers) {
            Ok(interaction) => Ok(Click(with_bounded_names(interaction, record.value), record.headers)),
            Err(DecodeError::Rejected(rejection)) => Err(SourceError::Rejected(rejection)),
            Err(DecodeError::NoAnswer(error)) => Err(SourceError::NotNow(error.to_string())),
        }
    }
}

/// An interaction as the fold sees it.
pub struct Click<'a>(Interaction<'a>, &'a dyn Headers);

impl Timed for Click<'_> {
    fn event_time(&self) -> i64 {
        self.0.event_time
    }
}

impl SessionEvent for Click<'_> {
    fn session_id(&self) -> &str {
        &self.0.session_id
    }

    fn event_id(&self) -> &str {
        &self.0.event_id
    }

    fn dimension(&self, dimension: Dimension) -> &str {
        dimension.of(&self.0)
    }

    fn traceparent(&self) -> Option<&str> {
        grouping::traceparent(self.1)
    }
}
