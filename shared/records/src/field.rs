//! Fields as the bytes have them: decoding never fails over a value of an unexpected type, so that each record is judged
//! by the same rules whatever its format and its writer's schema.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::key::RecordKey;
use crate::{AvroRecord, Reason, Rejection, Text};

/// What a record is checked against beyond its own rules.
#[derive(Clone, Copy)]
#[doc(hidden)]
pub struct Limits<'r> {
    /// The length that vectors have; `None`: any.
    pub vector_length: Option<usize>,
    /// The record's key, where it must be the entity.
    pub key: Option<RecordKey<'r>>,
}

impl Limits<'_> {
    /// Whether the key is beyond doubt one that a record of this entity may have.
    #[inline]
    pub(crate) fn key_is(&self, entity: &str) -> bool {
        !entity.is_empty() && self.key.as_ref().is_none_or(|key| key.is(entity))
    }
}

/// A record that a [`Decoder`](crate::Decoder) reads.
pub trait Input: AvroRecord {
    /// The record as the bytes have it.
    type Raw<'a>: Deserialize<'a>;

    /// Fields without a default.
    const REQUIRED: &'static [&'static str];

    /// Fields that are epoch milliseconds.
    const TIMES: &'static [&'static str];

    /// The field by which results are kept, whose text the record's key must be; `None` where any key will do.
    const ENTITY: Option<&'static str> = None;

    /// Checks a record, in the order of the reasons from `missing_field` to `bad_vector`.
    #[doc(hidden)]
    fn check<'a>(raw: Self::Raw<'a>, limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection>;

    /// Decodes and checks a datum that was written with exactly `Self::SCHEMA`, by a shorter way; `None` where there is
    /// no such way, and for everything that is not a good record beyond doubt.
    #[doc(hidden)]
    fn read_own<'a>(datum: &'a [u8], limits: &Limits<'_>) -> Option<Self::Of<'a>> {
        let _ = (datum, limits);
        None
    }
}

/// Refuses an empty key field.
pub(crate) fn check_key(name: &str, key: &str) -> Result<(), Rejection> {
    if key.is_empty() {
        return Err(Rejection::new(Reason::EmptyKey, format!("{name} is empty")));
    }
    Ok(())
}

/// Refuses an empty entity, and a record whose key is not its entity.
pub(crate) fn check_entity<R: Input>(entity: &str, limits: &Limits<'_>) -> Result<(), Rejection> {
    let name = R::ENTITY.unwrap_or_default();
    check_key(name, entity)?;
    limits.key.as_ref().map_or(Ok(()), |key| key.require(name, entity))
}

fn missing(name: &str, what: &str) -> Rejection {
    Rejection::new(Reason::MissingField, format!("{name} is {what}"))
}

fn bad_value(name: &str, what: impl fmt::Display) -> Rejection {
    Rejection::new(Reason::BadValue, format!("{name} is {what}"))
}

const ABSENT: &str = "absent or null";

/// Visits of a [`Visitor`] that stand for a null or for a value of another type.
macro_rules! visit_otherwise {
    (null => $null:expr; other => $other:path;) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($null)
        }
        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok($null)
        }
        fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
            inner.deserialize_any(self)
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($other("a boolean"))
        }
        fn visit_bytes<E>(self, _: &[u8]) -> Result<Self::Value, E> {
            Ok($other("bytes"))
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($other("an object"))
        }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
    };
}

macro_rules! visit_no_float {
    ($other:path) => {
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($other("a number"))
        }
    };
}

macro_rules! visit_no_seq {
    ($other:path) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok($other("a list"))
        }
    };
}

macro_rules! visit_no_integer {
    ($other:path) => {
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($other("a number"))
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($other("a number"))
        }
    };
}

macro_rules! visit_no_text {
    ($other:path) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($other("a text"))
        }
    };
}

/// A text.
#[derive(Debug, Default)]
pub(crate) enum TextField<'a> {
    #[default]
    Absent,
    Text(Text<'a>),
    Other(&'static str),
}

impl<'a> TextField<'a> {
    pub(crate) fn required(self, name: &str) -> Result<Text<'a>, Rejection> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Absent => Err(missing(name, ABSENT)),
            Self::Other(what) => Err(missing(name, &format!("{what}, not a text"))),
        }
    }

    pub(crate) fn optional(self, name: &str) -> Result<Option<Text<'a>>, Rejection> {
        match self {
            Self::Text(text) => Ok(Some(text)),
            Self::Absent => Ok(None),
            Self::Other(what) => Err(bad_value(name, format_args!("{what}, not a text"))),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TextField<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;

        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = TextField<'de>;

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(TextField::Text(Text::from(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextField::Text(Text::from(text.to_owned())))
            }
            visit_otherwise! { null => TextField::Absent; other => TextField::Other; }
            visit_no_integer! { TextField::Other }
            visit_no_float! { TextField::Other }
            visit_no_seq! { TextField::Other }
        }

        deserializer.deserialize_any(FieldVisitor)
    }
}

/// The values of an enumeration.
pub(crate) trait Symbolic: Copy + 'static {
    const SYMBOLS: &'static [(&'static str, Self)];
}

/// A value of an enumeration.
#[derive(Debug, Default)]
pub(crate) enum SymbolField<T> {
    #[default]
    Absent,
    Known(T),
    Unknown(Box<str>),
    Other(&'static str),
}

impl<T: Symbolic> SymbolField<T> {
    pub(crate) fn required(self, name: &str) -> Result<Self, Rejection> {
        match self {
            Self::Absent => Err(missing(name, ABSENT)),
            Self::Other(what) => Err(missing(name, &format!("{what}, not a text"))),
            present => Ok(present),
        }
    }

    pub(crate) fn known(self, name: &str) -> Result<T, Rejection> {
        let found = match self {
            Self::Known(value) => return Ok(value),
            Self::Unknown(symbol) => format!("{symbol:?}"),
            Self::Absent => ABSENT.to_owned(),
            Self::Other(what) => what.to_owned(),
        };
        let allowed: Vec<_> = T::SYMBOLS.iter().map(|(symbol, _)| *symbol).collect();
        Err(bad_value(name, format_args!("{found}, not one of {}", allowed.join(", "))))
    }
}

impl<'de, T: Symbolic> Deserialize<'de> for SymbolField<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor<T>(PhantomData<T>);

        impl<'de, T: Symbolic> Visitor<'de> for FieldVisitor<T> {
            type Value = SymbolField<T>;

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(match T::SYMBOLS.iter().find(|(symbol, _)| *symbol == text) {
                    Some((_, value)) => SymbolField::Known(*value),
                    None => SymbolField::Unknown(text.chars().take(64).collect()),
                })
            }
            visit_otherwise! { null => SymbolField::Absent; other => SymbolField::Other; }
            visit_no_integer! { SymbolField::Other }
            visit_no_float! { SymbolField::Other }
            visit_no_seq! { SymbolField::Other }
        }

        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

/// Doubles from here on need not be the whole number that was meant: the next one may be two away.
const EXACT_IN_DOUBLE: f64 = 9_007_199_254_740_992.0;

/// How far from the number that a text says a double may lie that was read from it, as a share: `serde_json` rounds twice where a
/// text has many digits, as `1780000001000.000000` does.
const READ_WITHIN: f64 = 2.0 * f64::EPSILON;

/// As [`EXACT_IN_DOUBLE`], of single precision.
const EXACT_IN_FLOAT: f32 = 16_777_216.0;

/// An integer.
#[derive(Debug, Default)]
pub(crate) enum LongField {
    #[default]
    Absent,
    Integer(i64),
    /// A number that is no integer of 64 bits, or not for certain.
    Number(f64, &'static str),
    Other(&'static str),
}

impl LongField {
    /// Of a number with a point or an exponent, which is how writers whose only number is a double write integers too.
    fn of_double(number: f64) -> Self {
        let whole = number.round();
        match number {
            _ if !number.is_finite() => Self::Number(number, "not finite"),
            _ if number.abs() >= EXACT_IN_DOUBLE => Self::Number(number, "out of the range in which a double is exact"),
            _ if (number - whole).abs() > number.abs() * READ_WITHIN => Self::Number(number, "not a whole number"),
            _ => Self::Integer(whole as i64),
        }
    }

    fn of_float(number: f32) -> Self {
        if number.abs() >= EXACT_IN_FLOAT && number.is_finite() {
            return Self::Number(number.into(), "out of the range in which a float is exact");
        }
        Self::of_double(number.into())
    }

    pub(crate) fn required(self, name: &str) -> Result<Self, Rejection> {
        match self {
            Self::Absent => Err(missing(name, ABSENT)),
            present => Ok(present),
        }
    }

    /// An event time.
    pub(crate) fn time(self, name: &str) -> Result<i64, Rejection> {
        match self {
            Self::Integer(time) => crate::check_event_time(name, time),
            other => Err(other.no_integer(name)),
        }
    }

    pub(crate) fn optional_int(self, name: &str) -> Result<Option<i32>, Rejection> {
        match self {
            Self::Absent => Ok(None),
            Self::Integer(value) => i32::try_from(value)
                .map(Some)
                .map_err(|_| bad_value(name, format_args!("{value}, beyond a 32-bit integer"))),
            other => Err(other.no_integer(name)),
        }
    }

    fn no_integer(&self, name: &str) -> Rejection {
        match self {
            Self::Absent => bad_value(name, ABSENT),
            Self::Integer(value) => bad_value(name, value),
            Self::Number(number, fault) => bad_value(name, format_args!("{number:e}, {fault}; an integer is expected")),
            Self::Other(what) => bad_value(name, format_args!("{what}, not an integer")),
        }
    }
}

impl<'de> Deserialize<'de> for LongField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;

        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = LongField;

            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(LongField::Integer(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                let beyond = LongField::Number(value as f64, "beyond a 64-bit integer");
                Ok(i64::try_from(value).map_or(beyond, LongField::Integer))
            }
            fn visit_f32<E>(self, value: f32) -> Result<Self::Value, E> {
                Ok(LongField::of_float(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(LongField::of_double(value))
            }
            visit_otherwise! { null => LongField::Absent; other => LongField::Other; }
            visit_no_text! { LongField::Other }
            visit_no_seq! { LongField::Other }
        }

        deserializer.deserialize_any(FieldVisitor)
    }
}

/// A vector of numbers.
#[derive(Debug, Default)]
pub(crate) enum VectorField {
    #[default]
    Absent,
    Numbers(Vec<f32>),
    Other(&'static str),
}

impl VectorField {
    /// Any fault is a `bad_vector`, absence included.
    pub(crate) fn checked(self, name: &str, length: Option<usize>) -> Result<Vec<f32>, Rejection> {
        let bad = |what: String| Err(Rejection::new(Reason::BadVector, format!("{name} is {what}")));
        let numbers = match self {
            Self::Numbers(numbers) => numbers,
            Self::Absent => return bad(ABSENT.to_owned()),
            Self::Other(what) => return bad(format!("{what}, not a list of numbers")),
        };
        match length {
            _ if numbers.is_empty() => bad("empty".to_owned()),
            Some(length) if length != numbers.len() => bad(format!("{} numbers long, not {length}", numbers.len())),
            _ => match numbers.iter().position(|number| !number.is_finite()) {
                Some(index) => bad(format!("not finite: number {index} is {}", numbers[index])),
                None if numbers.iter().all(|number| *number == 0.0) => bad("all zero, it has no direction".to_owned()),
                None => Ok(numbers),
            },
        }
    }
}

impl<'de> Deserialize<'de> for VectorField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;

        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = VectorField;

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut numbers = Vec::new();
                let mut other = false;
                while let Some(element) = seq.next_element::<Number>()? {
                    match element.0 {
                        Some(number) => numbers.push(number),
                        None => other = true,
                    }
                }
                Ok(if other {
                    VectorField::Other("a list with something else in it")
                } else {
                    VectorField::Numbers(numbers)
                })
            }
            visit_otherwise! { null => VectorField::Absent; other => VectorField::Other; }
            visit_no_integer! { VectorField::Other }
            visit_no_float! { VectorField::Other }
            visit_no_text! { VectorField::Other }
        }

        deserializer.deserialize_any(FieldVisitor)
    }
}

/// A vector's component, rounded to an `f32`; `None` where it is no number.
struct Number(Option<f32>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;

        fn no_number(_: &'static str) -> Number {
            Number(None)
        }

        impl<'de> Visitor<'de> for NumberVisitor {
            type Value = Number;

            fn visit_f32<E>(self, number: f32) -> Result<Self::Value, E> {
                Ok(Number(Some(number)))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Number(Some(number as f32)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Number(Some(number as f32)))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Number(Some(number as f32)))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Number(None))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Number(None))
            }
            fn visit_bytes<E>(self, _: &[u8]) -> Result<Self::Value, E> {
                Ok(Number(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            visit_no_text! { no_number }
            visit_no_seq! { no_number }
        }

        deserializer.deserialize_any(NumberVisitor)
    }
}
