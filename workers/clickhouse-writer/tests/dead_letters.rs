//! Dead letters that are larger than their topic takes, on a real broker.

use clickhouse_writer::batch::{Original, Place, Refusal};
use clickhouse_writer::dead_letters::DeadLetters;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use records::{dead_letter, truncation};
use testkit::{Recorded, read_committed};

fn refusal(offset: i64, key: usize, value: usize, header: usize) -> Refusal {
    let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some(&vec![b'x'; header]) });
    Refusal {
        place: Place { partition: 3, offset },
        original: Original {
            key: Some(vec![b'k'; key].into()),
            value: Some(vec![b'v'; value].into()),
            headers: Some(headers),
            timestamp: None,
        },
        stage: "decode",
        reason: "undecodable",
        message: "no datum".to_owned(),
    }
}

fn said(record: &Recorded, name: &str) -> Option<String> {
    record.header(name).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// Those of `sizes` (key, value, header) that a topic with this limit has taken, by their offsets, and how many it has not.
async fn handed_on(limit: &str, sizes: &[(usize, usize, usize)]) -> (Vec<Recorded>, usize) {
    let topic = testkit::topic("letters", 1, &[("max.message.bytes", limit)]);
    let mut kafka = ClientConfig::new();
    kafka.set("bootstrap.servers", testkit::brokers());
    let letters = DeadLetters::new(&kafka, &topic).unwrap();
    let refusals = sizes.iter().enumerate();
    let refusals: Vec<Refusal> =
        refusals.map(|(at, (key, value, header))| refusal(at as i64, *key, *value, *header)).collect();
    let too_large = letters.publish("rows", &refusals).await.unwrap();
    let mut found = read_committed(&topic);
    found.sort_by_key(|record| said(record, dead_letter::OFFSET).unwrap().parse::<i64>().unwrap());
    (found, too_large.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_topic_does_not_take_is_cut_and_says_so() {
    // random bytes would be needed for the brokers to count them all; the producer's own limit counts these
    let sizes = [(40_000_000, 4, 4), (1, 4, 40_000_000), (1, 4, 4)];
    let (found, too_large) = handed_on("1048576", &sizes).await;
    assert_eq!((found.len(), too_large), (3, 0));
    let marks = |at: usize| truncation::MARKS.map(|name| said(&found[at], name));
    assert_eq!(marks(0), [None, Some("40000000".to_owned()), None, None]);
    assert_eq!(marks(1), [None, None, Some("40000001".to_owned()), Some("1".to_owned())]);
    assert_eq!(marks(2), [None, None, None, None]);
    assert_eq!(found[0].value_text(), "vvvv");
    assert_eq!(said(&found[1], dead_letter::TOPIC).as_deref(), Some("rows"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_ones_are_no_batch_that_is_too_large_and_what_never_fits_is_reported() {
    let small = vec![(1, 4, 4); 300];
    let (found, too_large) = handed_on("1500", &small).await;
    assert_eq!((found.len(), too_large), (300, 0));
    let (found, too_large) = handed_on("200", &small[..5]).await;
    assert_eq!((found.len(), too_large), (0, 5));
}
