//! Publishing and asking, on a real broker.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use records::{Decoder, DecoderConfig, FixedSchemas, Interaction};
use stack::broker::{Broker, CommittedOffsets};
use stack::publish::Publisher;
use stack::recording::{Content, Feed, Recording};
use stack::{Components, Options, Stack, progress};

/// One broker for all tests here; it dies with this process.
fn kafka() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        let options = Options { components: Components::KAFKA, ..Options::default() };
        Stack::start(&options, &progress::Lines).expect("Kafka starts")
    })
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Keys and their hashes, from the tests of Kafka's own `Utils.murmur2`.
const HASHES: [(&str, i32); 5] = [
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
];

#[test]
fn lines_are_published_in_order_where_kafkas_own_producer_would_put_them() {
    const PARTITIONS: i32 = 7;
    const ROUNDS: usize = 300;
    let topic = Content::Interactions.topic();
    kafka().create_topic(topic, PARTITIONS, &[("max.message.bytes", "4194304")]).unwrap();
    let mut lines = Vec::new();
    for round in 0..ROUNDS {
        for (session, _) in HASHES {
            lines.push(format!(
                r#"{{"event_id":"{round}","session_id":"{session}","user_id":"u","item_id":"i","kind":"CLICK","domain":"d","event_time":5}}"#
            ));
        }
    }
    let large = format!(r#"{{"session_id":"foobar","large":"{}"}}"#, "x".repeat(2_000_000));
    lines.extend([large.clone(), "broken".to_owned(), String::new()]);
    let count = lines.len();

    let before = now();
    let recording =
        Recording::from_reader("test", Content::Interactions, std::io::Cursor::new(lines.join("\n") + "\n")).unwrap();
    let mut feed = Feed::in_file_order(vec![recording]);
    let mut publisher = Publisher::new(&kafka().brokers(), [(Content::Interactions, 7)].into()).unwrap();
    while let Some((origin, line)) = feed.next_line().unwrap() {
        publisher.publish(origin, line).unwrap();
    }
    publisher.flush().unwrap();
    let after = now();
    assert_eq!((publisher.published(), publisher.raw()), (count as u64, 3));

    let broker = Broker::new(&kafka().brokers()).unwrap();
    assert_eq!(broker.partitions(topic).unwrap(), Some(PARTITIONS));
    assert_eq!(broker.ends(topic).unwrap().values().sum::<i64>(), count as i64);
    let registry = FixedSchemas::default().with(7, <Interaction<'static> as records::AvroRecord>::SCHEMA);
    let mut decoder = Decoder::<Interaction<'static>>::new(DecoderConfig::default(), Box::new(registry));
    let mut rounds: BTreeMap<String, usize> = BTreeMap::new();
    let mut raw = BTreeMap::new();
    broker
        .read_all(topic, |message| {
            let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            let time = message.timestamp().to_millis().unwrap();
            assert!((before..=after).contains(&time), "{time} is not when the record was produced");
            let value = message.payload().unwrap();
            let Ok(interaction) = decoder.decode(message.key(), Some(value)) else {
                raw.insert(key, value.to_vec());
                return Ok(());
            };
            assert_eq!(interaction.session_id, key.as_str());
            let round = rounds.entry(key.clone()).or_default();
            assert_eq!(interaction.event_id, round.to_string().as_str());
            *round += 1;
            let (_, hash) = HASHES.into_iter().find(|(session, _)| *session == key).unwrap();
            assert_eq!(message.partition(), (hash & 0x7fff_ffff) % PARTITIONS, "{key}");
            Ok(())
        })
        .unwrap();
    assert_eq!(rounds, HASHES.map(|(session, _)| (session.to_owned(), ROUNDS)).into());
    let expected = [("foobar", large.into_bytes()), ("line-1502", b"broken".to_vec()), ("line-1503", Vec::new())];
    assert_eq!(raw, expected.map(|(key, value)| (key.to_owned(), value)).into());
}

#[test]
fn a_record_that_the_topic_refuses_is_an_error_that_says_so() {
    let topic = Content::ItemEmbeddings.topic();
    kafka().create_topic(topic, 1, &[("max.message.bytes", "1000")]).unwrap();
    // What can be compressed would fit.
    let mut number = 1_u32;
    let noise = std::iter::repeat_with(|| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'0' + (number >> 26) as u8
    });
    let line: Vec<u8> = noise.take(2_000).collect();
    let recording = Recording::from_reader("test", Content::ItemEmbeddings, std::io::Cursor::new(line)).unwrap();
    let mut feed = Feed::in_file_order(vec![recording]);
    let mut publisher = Publisher::new(&kafka().brokers(), BTreeMap::new()).unwrap();
    let (origin, line) = feed.next_line().unwrap().unwrap();
    publisher.publish(origin, line).unwrap();
    let error = publisher.flush().unwrap_err().to_string();
    assert!(error.contains("2000 bytes") && error.contains(topic), "{error}");
}

#[test]
fn offsets_of_an_open_transaction_are_not_committed_and_those_of_a_closed_one_are() {
    const TOPIC: &str = "committed";
    const GROUP: &str = "recwatch.test";
    kafka().create_topic(TOPIC, 2, &[]).unwrap();
    let brokers = kafka().brokers();
    let offsets = CommittedOffsets::new(&brokers, GROUP).unwrap();
    let partitions = [(TOPIC.to_owned(), 0), (TOPIC.to_owned(), 1)];
    let ask = || offsets.ask(partitions.iter()).unwrap();
    assert_eq!(ask(), BTreeMap::new());

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &brokers).set("group.id", GROUP).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let list = |partition: i32, offset: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, partition, Offset::Offset(offset)).unwrap();
        list
    };
    consumer.commit(&list(0, 5), CommitMode::Sync).unwrap();
    let committed = |zero: i64| BTreeMap::from([(partitions[0].clone(), zero)]);
    assert_eq!(ask(), committed(5));

    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &brokers).set("transactional.id", GROUP).create().unwrap();
    let patience = Duration::from_secs(20);
    producer.init_transactions(patience).unwrap();
    producer.begin_transaction().unwrap();
    producer.send_offsets_to_transaction(&list(0, 9), &consumer.group_metadata().unwrap(), patience).unwrap();
    assert_eq!(ask(), committed(5), "the transaction is open");
    producer.commit_transaction(patience).unwrap();
    assert_eq!(ask(), committed(9));
}
