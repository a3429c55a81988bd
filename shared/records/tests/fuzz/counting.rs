//! Counts the values that `serde_avro_fast` visits, by being what they are decoded into.

use std::cell::Cell;

use records::inspect::{self, Judged};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};

/// Decodes a datum as a decoder does and fails where that visits more values than the datum's bytes pay for. The fields of the
/// outermost record are read, or passed over as fields are that a reader does not know.
pub(crate) fn assert_bounded(judged: &Judged, datum: &[u8]) {
    let most = inspect::budget(datum.len());
    for pass_over in [false, true] {
        let mut config = DeserializerConfig::new(judged.schema());
        config.max_seq_size = datum.len();
        config.allowed_depth = inspect::MAX_DEPTH;
        let visits = Cell::new(0);
        let count = Count { visits: &visits, most, pass_over: false, inside: pass_over };
        let _ = count.deserialize(DeserializerState::with_config(SliceRead::new(datum), config).deserializer());
        let bytes = datum.len();
        assert!(visits.get() <= most, "{bytes} bytes cost more than {most} values: {}", judged.schema().json());
    }
}

#[derive(Clone, Copy)]
struct Count<'c> {
    visits: &'c Cell<usize>,
    most: usize,
    pass_over: bool,
    /// Whether what is inside is passed over.
    inside: bool,
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.visits.set(self.visits.get() + 1);
        if self.visits.get() > self.most {
            return Err(D::Error::custom("too many"));
        }
        let inside = Count { pass_over: self.inside, ..self };
        if self.pass_over { deserializer.deserialize_ignored_any(inside) } else { deserializer.deserialize_any(inside) }
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}
