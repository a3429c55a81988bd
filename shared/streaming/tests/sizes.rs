//! Records that no topic takes whole, and topics that take little, on a real broker.

mod running;
mod toy;

use std::time::Duration;

use prometheus_client::registry::Registry;
use records::{dead_letter, truncation};
use running::{DEADLINE, Instance, kafka, wait_for};
use streaming::{Runtime, Telemetry, Topology};
use testkit::{Outgoing, Recorded, eventually, produce_with, read_committed};

/// Topics count compressed bytes.
const COMPRESSED: &[(&str, &str)] = &[("compression.type", "lz4"), ("message.max.bytes", "60000000")];

fn event(key: &[u8], time: i64, partition: i32) -> Outgoing {
    Outgoing::new(key, format!("{time},1")).in_partition(partition)
}

/// Good records of both partitions, so that all windows up to `time` close.
fn good(time: i64) -> impl Iterator<Item = Outgoing> {
    (0..2).flat_map(move |partition| (0..40).map(move |at| event(b"good", time - 40 + at, partition)))
}

fn start(worker: &str, source: &str) -> (Instance, Telemetry) {
    start_as(toy::topology(worker, source, Duration::from_secs(600)))
}

fn prepare(topology: Topology) -> anyhow::Result<Runtime> {
    Runtime::new(topology, toy::config("only"), kafka(), 2, running::CREATING, &service::Health::new())
}

fn start_as(topology: Topology) -> (Instance, Telemetry) {
    let runtime = prepare(topology).unwrap();
    let telemetry = runtime.telemetry();
    (Instance::of(runtime), telemetry)
}

fn too_large(telemetry: &Telemetry, topic: &str) -> u64 {
    let mut registry = Registry::default();
    telemetry.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let start = format!("records_too_large_total{{topic=\"{topic}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(start.as_str())).map_or(0, |count| count.parse().unwrap())
}

fn said(record: &Recorded, name: &str) -> Option<String> {
    record
        .headers
        .iter()
        .rev()
        .find(|(other, _)| other == name)?
        .1
        .as_ref()
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

fn length(bytes: &Option<Vec<u8>>) -> usize {
    bytes.as_ref().map_or(0, Vec::len)
}

fn closed(time: i64) -> i64 {
    (time - toy::BOUND).div_euclid(toy::SLIDE) * toy::SLIDE
}

#[test]
fn keys_and_headers_that_no_topic_takes_whole_are_handed_on_cut_and_stop_nobody() {
    let source = testkit::topic("amounts", 2, &[("max.message.bytes", "1048576")]);
    let worker = testkit::unique("toy");
    let (instance, telemetry) = start(&worker, &source);
    produce_with(COMPRESSED, &source, good(10_000));
    wait_for(&worker, &source, 80, closed(9_999));
    let long = |byte: u8, length: usize| vec![byte; length];
    let hostile = [
        Outgoing::new(long(b'k', 6_000_000), "junk"),
        Outgoing::new("k", "junk").with_header("h", long(b'x', 6_000_000)),
        event(&long(b'k', 900_000), 1_000, 0).with_header("h", long(b'x', 5_000_000)),
        Outgoing { headers: vec![("h".to_owned(), None); 90_000], ..Outgoing::new("k", "junk") },
        Outgoing { headers: vec![("h".to_owned(), None); 300_000], ..Outgoing::new("k", "junk") },
        Outgoing::new("k", "junk").with_header(&"n".repeat(5_000_000), "x").with_header("", ""),
        Outgoing::new(long(b'k', 3_000_000), long(b'v', 3_000_000)).with_header("h", long(b'x', 3_000_000)),
    ];
    let count = hostile.len() as u64;
    produce_with(COMPRESSED, &source, hostile.into_iter().map(|record| record.in_partition(0)));
    produce_with(COMPRESSED, &source, good(11_000));
    wait_for(&worker, &source, 160 + count, closed(10_999));
    instance.stop().unwrap();

    let mut letters = read_committed(&format!("{worker}.dead-letters"));
    letters.sort_by_key(|letter| said(letter, dead_letter::OFFSET).unwrap().parse::<i64>().unwrap());
    let late = read_committed(&format!("{worker}.late"));
    let [key, header, many, very_many, name, all] = &letters[..] else { panic!("{} letters", letters.len()) };
    let [late] = &late[..] else { panic!("{} late", late.len()) };
    let marks = |record: &Recorded| truncation::MARKS.map(|name| said(record, name));
    let some = |number: usize| Some(number.to_string());
    assert_eq!(marks(key), [None, some(6_000_000), None, None]);
    assert_eq!(marks(header), [None, None, some(6_000_001), some(1)]);
    assert_eq!(marks(late), [None, None, some(5_000_001), some(1)]);
    assert_eq!(length(&late.key), 900_000);
    assert_eq!(said(late, dead_letter::EXCEPTION_CLASS).as_deref(), Some("late"));
    assert_eq!(marks(many), [None, None, None, None], "they fit");
    assert_eq!(many.headers.len(), 90_000 + 7);
    assert_eq!(said(very_many, truncation::HEADER_COUNT).as_deref(), Some("unreadable, more than 100000"));
    assert_eq!(marks(name), [None, None, some(5_000_001), some(2)]);
    assert_eq!(name.headers[0], (String::new(), Some(Vec::new())), "the one that fits stays");
    assert_eq!(marks(all), [some(3_000_000), some(3_000_000), some(3_000_001), some(1)]);
    let header = &all.headers[0];
    for part in [length(&all.key), length(&all.value), length(&header.1)] {
        assert!((1_000_000..2_000_000).contains(&part), "{part}: they share what there is");
    }
    for letter in &letters {
        assert_eq!(said(letter, dead_letter::TOPIC).as_deref(), Some(source.as_str()));
    }
    assert_eq!(too_large(&telemetry, &format!("{worker}.dead-letters")), 0);
    // it goes on where it stood
    let (again, _) = start(&worker, &source);
    produce_with(COMPRESSED, &source, good(12_000));
    wait_for(&worker, &source, 240 + count, closed(11_999));
    again.stop().unwrap();
}

#[test]
fn a_topic_that_takes_little_gets_what_it_takes_and_the_rest_is_counted() {
    let source = testkit::topic("amounts", 2, &[]);
    let worker = testkit::unique("toy");
    let topics = ["late", "letters", "sums"].map(|name| testkit::topic(name, 1, &[("max.message.bytes", "2048")]));
    let [late, letters, sums] = &topics;
    let mut topology = toy::topology(&worker, &source, Duration::from_secs(600));
    (topology.late_topic, topology.dead_letter_topic) = (late.clone(), letters.clone());
    topology.outputs[0].name.clone_from(sums);
    let (instance, telemetry) = start_as(topology);
    produce_with(&[], &source, good(10_000));
    wait_for(&worker, &source, 80, closed(9_999));
    // hundreds of them in one transaction, which would be one batch
    let small = (0..500).map(|at| event(format!("k{at}").as_bytes(), 1_000, 0));
    let large = [event(&[b'k'; 300_000], 1_000, 0), Outgoing::new("k", vec![b'v'; 300_000]).in_partition(0)];
    // its row has its key twice
    let row = event(&[b'r'; 1_500], 10_500, 0);
    produce_with(&[], &source, small.chain(large).chain([row]));
    produce_with(&[], &source, good(11_000));
    wait_for(&worker, &source, 160 + 503, closed(10_999));
    let found = read_committed(late);
    assert_eq!(found.len(), 501);
    let cut = found.iter().find(|record| said(record, truncation::KEY_BYTES).is_some()).unwrap();
    assert!((500..2_048).contains(&length(&cut.key)), "{}", length(&cut.key));
    assert_eq!(read_committed(letters).len(), 1);
    let rows = |key: u8| read_committed(sums).iter().filter(|row| row.key.as_ref().unwrap()[0] == key).count() as u64;
    assert!(rows(b'g') > 5, "{}", rows(b'g'));
    assert_eq!(rows(b'r'), 0);
    eventually("one is counted for each of its windows", DEADLINE, || (too_large(&telemetry, sums) == 3).then_some(()));
    assert_eq!(too_large(&telemetry, late), 0);

    // from now on it takes less than why takes
    running::topics::set(letters, "max.message.bytes", "200");
    let more = (0..20).map(|_| Outgoing::new("k", "junk").in_partition(1));
    produce_with(&[], &source, more);
    produce_with(&[], &source, good(12_000));
    wait_for(&worker, &source, 240 + 523, closed(11_999));
    eventually("all are counted", DEADLINE, || (too_large(&telemetry, letters) == 20).then_some(()));
    assert_eq!(read_committed(letters).len(), 1);
    instance.stop().unwrap();
}

#[test]
fn an_internal_topic_that_takes_too_little_stops_the_start_and_ends_an_instance_by_name() {
    let source = testkit::topic("amounts", 2, &[]);
    let worker = testkit::unique("toy");
    let (instance, _) = start(&worker, &source);
    produce_with(&[], &source, good(10_000));
    wait_for(&worker, &source, 80, closed(9_999));
    let repartition = format!("recwatch.internal.{worker}.{source}.repartition");
    // the markers of transactions still fit
    running::topics::set(&repartition, "max.message.bytes", "200");
    let incompressible: Vec<u8> = (0..600_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long = (0..2).map(|partition| event(&incompressible, 10_950, partition));
    produce_with(&[], &source, long.chain(good(11_000)));
    let ended = format!("{:#}", instance.end().unwrap_err());
    assert!(ended.contains(&format!("{repartition} takes records of ")), "{ended}");
    assert!(ended.contains("raise its max.message.bytes"), "{ended}");

    let topology = toy::topology(&worker, &source, Duration::from_secs(600));
    let Err(error) = prepare(topology) else { panic!("it starts") };
    let refused = format!("{error:#}");
    assert!(refused.contains(&format!("{repartition} has max.message.bytes = 200")), "{refused}");

    running::topics::set(&repartition, "max.message.bytes", "5000000");
    let (again, _) = start(&worker, &source);
    wait_for(&worker, &source, 162, closed(10_999));
    again.stop().unwrap();
}
