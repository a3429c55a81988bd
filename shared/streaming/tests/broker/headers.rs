//! Headers that librdkafka does not take apart.

use kafka::copied_headers;
use rdkafka::Message as _;
use rdkafka::message::Headers as _;
use records::truncation::UNREADABLE_HEADERS;
use testkit::{Outgoing, eventually, produce};

use crate::common::{DEADLINE, at, create_topic, unique};
use crate::reading::{Isolation, reader};

#[test]
fn more_headers_than_librdkafka_takes_apart_are_marked_and_none_are_none() {
    let topic = create_topic("headers", 1);
    let many = (0..100_001).fold(Outgoing::new("k", "many"), |record, _| record.with_header("", ""));
    let some = Outgoing::new("k", "some").with_header("a", "1");
    produce(&topic, [many, some, Outgoing::new("k", "none")].into_iter().map(|record| record.in_partition(0)));
    let consumer = reader(Isolation::ReadCommitted, &unique("group"));
    rdkafka::consumer::Consumer::assign(&consumer, &at(&topic, 0, 0)).expect("assigned");
    let mut found = Vec::new();
    eventually("three records", DEADLINE, || {
        if let Some(Ok(message)) = consumer.poll(std::time::Duration::from_millis(50)) {
            let headers = copied_headers(&message, UNREADABLE_HEADERS);
            let headers = headers.map(|headers| {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                headers.iter().map(|header| (header.key.to_owned(), header.value.map(text))).collect::<Vec<_>>()
            });
            found.push((message.headers().is_none(), headers));
        }
        (found.len() == 3).then_some(())
    });
    let header = |name: &str, value: &str| Some(vec![(name.to_owned(), Some(value.to_owned()))]);
    let mark = header("recwatch.truncated.headers.from.count", "unreadable, more than 100000");
    assert_eq!(found, [(true, mark), (false, header("a", "1")), (true, None)]);
}
