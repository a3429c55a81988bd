//! Records that are handed on, cut to what their topic takes.
//!
//! A topic's limit counts compressed bytes, so a record that one topic holds may be far larger than what another one takes,
//! in its value, its key or its headers. The headers that say where it came from and why always survive.

use std::borrow::Cow;

use crate::dead_letter::EXCEPTION_MESSAGE;

/// Header of a record whose value was cut: how many bytes it had.
pub const VALUE_BYTES: &str = "recwatch.truncated.from.bytes";
/// Header of a record whose key was cut: how many bytes it had.
pub const KEY_BYTES: &str = "recwatch.truncated.key.from.bytes";
/// Header of a record whose own headers were cut or left out: how many bytes their names and values had.
pub const HEADER_BYTES: &str = "recwatch.truncated.headers.from.bytes";
/// Header of a record whose own headers were cut or left out: how many there were.
pub const HEADER_COUNT: &str = "recwatch.truncated.headers.from.count";

/// The headers above.
pub const MARKS: [&str; 4] = [VALUE_BYTES, KEY_BYTES, HEADER_BYTES, HEADER_COUNT];

/// The header in place of a record's own, name and value, where there are more than a client takes apart.
pub const UNREADABLE_HEADERS: (&str, &str) = (HEADER_COUNT, "unreadable, more than 100000");

/// What a batch of one record takes at most beside key, value and headers.
const FRAME: usize = 128;
/// What a header takes at most beside its name and value.
const HEADER_FRAME: usize = 10;
/// What the marks take, with numbers of 20 digits.
const MARKS_BYTES: usize =
    VALUE_BYTES.len() + KEY_BYTES.len() + HEADER_BYTES.len() + HEADER_COUNT.len() + 4 * (20 + HEADER_FRAME);
/// Where many large headers do not fit, each is cut to this many bytes at least, and those at the end are left out.
const HEADER_SHARE: usize = 256;

/// A header: its name, and its value where it has one.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// How large the parts of a record were before it was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Bytes of the key.
    pub key: usize,
    /// Bytes of the value.
    pub value: usize,
    /// Bytes of the names and values of its own headers.
    pub headers: usize,
    /// How many headers of its own it had.
    pub header_count: usize,
}

impl Sizes {
    /// Of a record with these own headers.
    #[must_use]
    pub fn of<'a>(key: Option<&[u8]>, value: Option<&[u8]>, own: impl IntoIterator<Item = Header<'a>>) -> Self {
        let mut sizes =
            Self { key: key.map_or(0, <[u8]>::len), value: value.map_or(0, <[u8]>::len), ..Self::default() };
        for (name, value) in own {
            sizes.headers += name.len() + value.map_or(0, <[u8]>::len);
            sizes.header_count += 1;
        }
        sizes
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn total(&self) -> usize {
        self.key + self.value + self.headers
    }
}

/// A record to be handed on.
#[derive(Debug, Clone, Copy)]
pub struct HandedOn<'a, 'h> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// The headers that it had.
    pub own: &'h [Header<'a>],
    /// The headers that say where it came from and why it is handed on.
    pub added: &'h [Header<'a>],
    /// What it had before it was first cut.
    pub original: Sizes,
}

/// A record that a topic takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted<'a> {
    /// The key, or its beginning.
    pub key: Option<&'a [u8]>,
    /// The value, or its beginning.
    pub value: Option<&'a [u8]>,
    /// The headers that are left of its own, the added ones, and those that say what was cut.
    pub headers: Vec<(&'a str, Option<Cow<'a, [u8]>>)>,
    /// How many of these are its own; they come first.
    pub own: usize,
}

/// An upper bound of what a batch of this record alone takes, in bytes, uncompressed.
#[must_use]
pub fn batch_bytes<'a>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl IntoIterator<Item = Header<'a>>,
) -> usize {
    FRAME + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers.into_iter().map(size).sum::<usize>()
}

fn size((name, value): Header<'_>) -> usize {
    name.len() + value.map_or(0, <[u8]>::len) + HEADER_FRAME
}

/// Cuts a record so that a batch of it alone has at most `limit` bytes. The largest of key, value and own headers are cut
/// first, so that small parts stay whole; of the added headers only the message is cut. `None` where the added ones alone
/// do not fit.
#[must_use]
pub fn fit<'a>(record: &HandedOn<'a, '_>, limit: usize) -> Option<Fitted<'a>> {
    let HandedOn { key, value, own, added, original } = *record;
    let whole = Sizes::of(key, value, own.iter().copied());
    let is_cut_already = original != whole;
    let own_bytes = whole.headers + own.len() * HEADER_FRAME;
    let all = batch_bytes(key, value, added.iter().copied()) + own_bytes + if is_cut_already { MARKS_BYTES } else { 0 };
    if all <= limit {
        let headers = own.iter().chain(added).map(|(name, value)| (*name, value.map(Cow::Borrowed)));
        let mut fitted = Fitted { key, value, headers: headers.collect(), own: own.len() };
        mark(&mut fitted, &whole, &original);
        return Some(fitted);
    }
    let is_message = |(name, _): &Header<'a>| *name == EXCEPTION_MESSAGE;
    let fixed: usize =
        added.iter().map(|header| if is_message(header) { size((header.0, None)) } else { size(*header) }).sum();
    let room = limit.checked_sub(FRAME + MARKS_BYTES + fixed)?;
    let message = added.iter().find(|header| is_message(header)).and_then(|header| header.1);
    let message = message.map(|message| beginning(message, room / 2));
    let room = room - message.map_or(0, <[u8]>::len);
    let [key_room, value_room, own_room] = shares([whole.key, whole.value, own_bytes], room);
    let mut headers = fit_headers(own, own_bytes, own_room);
    let kept = Sizes::of(None, None, headers.iter().copied());
    let added = added.iter().map(|header| if is_message(header) { (header.0, message) } else { *header });
    headers.extend(added);
    let first = |bytes: &'a [u8], room: usize| &bytes[..bytes.len().min(room)];
    let mut fitted = Fitted {
        key: key.map(|key| first(key, key_room)),
        value: value.map(|value| first(value, value_room)),
        headers: headers.into_iter().map(|(name, value)| (name, value.map(Cow::Borrowed))).collect(),
        own: kept.header_count,
    };
    let left = Sizes { key: whole.key.min(key_room), value: whole.value.min(value_room), ..kept };
    mark(&mut fitted, &left, &original);
    Some(fitted)
}

/// Says of each part that is not whole how large it was.
fn mark(fitted: &mut Fitted<'_>, left: &Sizes, original: &Sizes) {
    let mut says = |name, number: usize| {
        fitted.headers.push((name, Some(Cow::Owned(number.to_string().into_bytes()))));
    };
    if left.value < original.value {
        says(VALUE_BYTES, original.value);
    }
    if left.key < original.key {
        says(KEY_BYTES, original.key);
    }
    if (left.headers, left.header_count) != (original.headers, original.header_count) {
        says(HEADER_BYTES, original.headers);
        says(HEADER_COUNT, original.header_count);
    }
}

/// How much of `room` each part gets: small ones what they need, the others the same.
fn shares<const N: usize>(sizes: [usize; N], mut room: usize) -> [usize; N] {
    let mut order: [usize; N] = std::array::from_fn(|index| index);
    order.sort_by_key(|index| sizes[*index]);
    let mut shares = [0; N];
    for (at, index) in order.into_iter().enumerate() {
        shares[index] = sizes[index].min(room / (N - at));
        room -= shares[index];
    }
    shares
}

/// Those of a record's headers that fit, in their order: values of large ones are cut, and what does not fit even so is
/// left out.
fn fit_headers<'a>(own: &[Header<'a>], bytes: usize, mut room: usize) -> Vec<Header<'a>> {
    if bytes <= room {
        return own.to_vec();
    }
    let most = largest_share(own, room).max(HEADER_SHARE);
    let mut fitting = Vec::new();
    for &(name, value) in own {
        let most = most.min(room);
        let header = match value {
            Some(value) if size((name, None)) < most => {
                (name, Some(&value[..value.len().min(most - size((name, None)))]))
            }
            _ => (name, value),
        };
        if size(header) <= most {
            room -= size(header);
            fitting.push(header);
        }
    }
    fitting
}

/// So large may each header be for all of them to fit.
fn largest_share(own: &[Header<'_>], mut room: usize) -> usize {
    let mut sizes: Vec<usize> = own.iter().map(|header| size(*header)).collect();
    sizes.sort_unstable();
    for (at, size) in sizes.iter().enumerate() {
        let share = room / (sizes.len() - at);
        if *size > share {
            return share;
        }
        room -= size;
    }
    usize::MAX
}

/// The first bytes of a text, cut between characters.
fn beginning(text: &[u8], bytes: usize) -> &[u8] {
    if text.len() <= bytes {
        return text;
    }
    let end = std::str::from_utf8(text).map_or(bytes, |text| text.floor_char_boundary(bytes));
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dead_letter::Error;

    const MESSAGE: &str = "event_time 1000 is at or below the partition's watermark 1795230000000";

    fn added() -> Vec<(&'static str, Vec<u8>)> {
        let error = Error {
            worker: "session-entropy",
            topic: "recsys.interactions.v1",
            partition: 3,
            offset: i64::MAX,
            stage: "watermark",
            reason: "late",
            message: MESSAGE,
        };
        error.headers().map(|(name, value)| (name, value.into_owned())).collect()
    }

    struct Input {
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        own: Vec<(String, Option<Vec<u8>>)>,
    }

    /// What [`fit`] makes of it: key, value, headers.
    type Output = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

    fn fitted(input: &Input, limit: usize) -> Option<Output> {
        let own: Vec<Header<'_>> = input.own.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let added = added();
        let added: Vec<Header<'_>> = added.iter().map(|(name, value)| (*name, Some(value.as_slice()))).collect();
        let (key, value) = (input.key.as_deref(), input.value.as_deref());
        let original = Sizes::of(key, value, own.iter().copied());
        let fitted = fit(&HandedOn { key, value, own: &own, added: &added, original }, limit)?;
        let headers = fitted.headers.iter();
        let headers = headers.map(|(name, value)| ((*name).to_owned(), value.as_deref().map(<[u8]>::to_vec)));
        Some((fitted.key.map(<[u8]>::to_vec), fitted.value.map(<[u8]>::to_vec), headers.collect()))
    }

    /// Kafka's own encoding at its widest, by hand: 61 bytes of a batch, 6 numbers of a record and 2 of a header.
    fn written(output: &Output) -> usize {
        let (key, value, headers) = output;
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = headers.iter().map(|(name, value)| name.len() + length(value) + 2 * 5).sum();
        61 + 1 + 6 * 10 + length(key) + length(value) + headers
    }

    fn header<'a>(output: &'a Output, name: &str) -> Option<&'a str> {
        let (_, value) = output.2.iter().rev().find(|(other, _)| other == name)?;
        Some(std::str::from_utf8(value.as_deref()?).unwrap())
    }

    #[test]
    fn a_record_that_fits_stays_as_it_is() {
        let own = vec![("traceparent".to_owned(), Some(b"00".to_vec())), (String::new(), None)];
        let input = Input { key: Some(b"k".to_vec()), value: None, own: own.clone() };
        let (key, value, headers) = fitted(&input, 2_000).unwrap();
        assert_eq!((key, value), (Some(b"k".to_vec()), None));
        assert_eq!(headers[..2], own);
        assert!(headers[2..].iter().all(|(name, _)| name.starts_with("__connect.errors.")), "{headers:?}");
    }

    /// The records of a topic whose limit counts compressed bytes.
    #[test]
    fn the_largest_parts_are_cut_and_the_others_stay_whole() {
        let large = |byte: u8, length: usize| Some(vec![byte; length]);
        let trace = ("traceparent".to_owned(), Some(b"00-1".to_vec()));
        let key = Input { key: large(b'k', 6_000_000), value: large(b'v', 4), own: vec![trace.clone()] };
        let output = fitted(&key, 4_000_000).unwrap();
        assert_eq!((output.1.as_deref(), &output.2[0]), (Some(b"vvvv".as_slice()), &trace));
        assert!(output.0.as_ref().unwrap().len() > 3_990_000);
        assert_eq!((header(&output, KEY_BYTES), header(&output, VALUE_BYTES)), (Some("6000000"), None));

        let headers = vec![("h".to_owned(), large(b'x', 5_000_000)), trace.clone()];
        let late = Input { key: large(b'k', 900_000), value: large(b'v', 900_300), own: headers };
        let output = fitted(&late, 4_000_000).unwrap();
        assert_eq!((output.0, output.1.clone()), (late.key.clone(), late.value.clone()));
        let output = fitted(&late, 4_000_000).unwrap();
        assert!(output.2[0].1.as_ref().unwrap().len() > 2_000_000 && output.2[1] == trace, "the small one behind it");
        let says = [HEADER_BYTES, HEADER_COUNT, VALUE_BYTES, KEY_BYTES].map(|name| header(&output, name));
        assert_eq!(says, [Some("5000016"), Some("2"), None, None]);
    }

    #[test]
    fn of_very_many_headers_the_first_ones_stay() {
        let own = (0..300_000).map(|number| (format!("h{number}"), Some(b"x".to_vec()))).collect();
        let output = fitted(&Input { key: None, value: None, own }, 100_000).unwrap();
        assert!(written(&output) <= 100_000 && output.2.len() > 4_000, "{} headers", output.2.len());
        assert_eq!((output.2[0].0.as_str(), header(&output, HEADER_COUNT)), ("h0", Some("300000")));
    }

    #[test]
    fn a_topic_of_2_kb_gets_why_and_the_beginning_of_everything() {
        let input = Input {
            key: Some(vec![b'k'; 5_000]),
            value: Some(vec![b'v'; 5_000]),
            own: vec![("n".repeat(70_000), None), ("h".to_owned(), Some(vec![b'x'; 5_000]))],
        };
        let output = fitted(&input, 2_048).unwrap();
        assert!(output.0.as_ref().unwrap().len() > 300 && output.1.as_ref().unwrap().len() > 300);
        assert!(written(&output) <= 2_048, "{}", written(&output));
        assert!(header(&output, "h").is_some());
        assert_eq!(header(&output, EXCEPTION_MESSAGE), Some(MESSAGE));
        assert_eq!(fitted(&input, 600), None, "why alone does not fit");
    }

    fn bytes(most: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
        let length = prop_oneof![0..40_usize, 0..most];
        prop::option::of((any::<u8>(), length).prop_map(|(byte, length)| vec![byte; length]))
    }

    proptest! {
        #[test]
        fn what_is_handed_on_fits_says_where_it_came_from_and_what_is_missing(
            key in bytes(9_000),
            value in bytes(9_000),
            own in prop::collection::vec(("[a-zé]{0,3}", 0..3_000_usize, bytes(5_000)), 0..40),
            limit in 900..20_000_usize,
            then in 900..20_000_usize,
        ) {
            let own = own.into_iter().map(|(name, repeated, value)| (name.repeat(repeated / 3), value)).collect();
            let input = Input { key, value, own };
            let output = fitted(&input, limit).unwrap();
            prop_assert!(written(&output) <= limit.max(written_whole(&input)), "{}", written(&output));
            prop_assert!(written(&output) <= limit || output == whole(&input));
            for (name, value) in added() {
                let found = header(&output, name).unwrap().as_bytes();
                let is_there = found == value || (name == EXCEPTION_MESSAGE && value.starts_with(found));
                prop_assert!(is_there, "{}", name);
            }
            let is_beginning = |cut: &Option<Vec<u8>>, whole: &Option<Vec<u8>>| match (cut, whole) {
                (Some(cut), Some(whole)) => whole.starts_with(cut),
                (cut, whole) => cut == whole,
            };
            prop_assert!(is_beginning(&output.0, &input.key) && is_beginning(&output.1, &input.value));
            let said = |name| header(&output, name).map(|number| number.parse::<usize>().unwrap());
            let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
            prop_assert_eq!(said(KEY_BYTES), (output.0 != input.key).then(|| length(&input.key)));
            prop_assert_eq!(said(VALUE_BYTES), (output.1 != input.value).then(|| length(&input.value)));
            let is_whole = output.2.starts_with(&input.own);
            prop_assert_eq!(said(HEADER_COUNT), (!is_whole).then_some(input.own.len()));
            let headers = input.own.iter().map(|(name, value)| name.len() + length(value)).sum::<usize>();
            prop_assert_eq!(said(HEADER_BYTES), (!is_whole).then_some(headers));
            again(&input, limit, then)?;
        }
    }

    fn whole(input: &Input) -> Output {
        fitted(input, usize::MAX).unwrap()
    }

    fn written_whole(input: &Input) -> usize {
        written(&whole(input))
    }

    /// A topic that takes less than was known: what was cut is cut again, and says the same.
    fn again(input: &Input, limit: usize, then: usize) -> Result<(), TestCaseError> {
        let own: Vec<Header<'_>> = input.own.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let added = added();
        let added: Vec<Header<'_>> = added.iter().map(|(name, value)| (*name, Some(value.as_slice()))).collect();
        let (key, value) = (input.key.as_deref(), input.value.as_deref());
        let original = Sizes::of(key, value, own.iter().copied());
        let first = fit(&HandedOn { key, value, own: &own, added: &added, original }, limit).unwrap();
        let kept = first.headers.iter().take_while(|(name, _)| !name.starts_with("__connect.errors."));
        let kept: Vec<Header<'_>> = kept.map(|(name, value)| (*name, value.as_deref())).collect();
        let record = HandedOn { key: first.key, value: first.value, own: &kept, added: &added, original };
        let second = fit(&record, then).unwrap();
        let headers = second.headers.iter();
        let headers = headers.map(|(name, value)| ((*name).to_owned(), value.as_deref().map(<[u8]>::to_vec)));
        let output = (second.key.map(<[u8]>::to_vec), second.value.map(<[u8]>::to_vec), headers.collect());
        prop_assert!(written(&output) <= then || output == whole(input));
        let said = header(&output, KEY_BYTES).map(str::to_owned);
        prop_assert_eq!(said, (output.0 != input.key).then(|| original.key.to_string()));
        prop_assert!(header(&output, crate::dead_letter::OFFSET).is_some());
        Ok(())
    }
}
