//! Silences on the real broker: the command, all partitions of their topic, and records that are no silence.

#[path = "common/peers.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod peers;
#[path = "common/rig.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod rig;
mod support;

use std::collections::BTreeMap;

use records::dead_letter;
use rig::{DEADLINE, Instance, Rig, courses, firing, silence, silence_between};
use testkit::{Outgoing, Recorded, eventually};

/// All alerts to a topic.
const ROUTES: &str = r#"
    [route]
    receiver = "analytics"
    group_by = ["..."]
    group_interval = "1s"
    [receivers.analytics]
    type = "topic"
    topic = "{name}.routes"
"#;

/// Waits until these many silences hold for the router.
fn silences(router: &Instance, count: f64) {
    eventually("the silences", DEADLINE, || (router.metric("recwatch_alert_router_silences") == count).then_some(()));
}

#[test]
fn silences_are_added_listed_and_expired_by_the_command() {
    let rig = Rig::new("consumer", ROUTES);
    let router = rig.start("one").active();
    let id = rig
        .command(&[
            "silence",
            "add",
            "--matcher",
            "domain=~\"bo.*\"",
            "--for",
            "2h",
            "--comment",
            "known",
            "--created-by",
            "me",
        ])
        .unwrap();
    let is_id = |line: &&str| line.len() == 16 && line.chars().all(|c| c.is_ascii_hexdigit());
    let id = id.lines().find(is_id).unwrap().to_owned();
    silences(&router, 1.0);
    rig.send(&[firing("slow", "books", 1), firing("slow", "films", 1)]);
    eventually("the topic", DEADLINE, || (rig.read("routes").len() == 1).then_some(()));
    let listed = rig.command(&["silence", "list"]).unwrap();
    assert!(listed.contains(&id) && listed.contains("active") && listed.contains("by me: known"), "{listed}");
    rig.command(&["silence", "expire", &id]).unwrap();
    eventually("the silenced one, at its group's next time", DEADLINE, || {
        courses(&rig.read("routes")).contains_key("books").then_some(())
    });
    assert!(!rig.command(&["silence", "list"]).unwrap().contains(&id));
    assert!(rig.command(&["silence", "list", "--all"]).unwrap().contains("expired"));
    assert!(rig.command(&["silence", "expire", "nothing"]).unwrap_err().contains("there is no silence"));
    router.stop();
}

#[test]
fn silences_of_all_partitions_are_listed_expired_and_heard() {
    let rig = Rig::new("consumer", ROUTES);
    let topic = rig.silences(3);
    let put = |partition, domain: &str| {
        let matcher = format!("domain={domain:?}");
        testkit::produce(&topic, [silence(domain, &[&matcher]).in_partition(partition)]);
    };
    put(0, "books");
    put(1, "films");
    let router = rig.start("one").active();
    silences(&router, 2.0);
    // one that comes while the router runs
    put(2, "music");
    silences(&router, 3.0);
    let listed = rig.command(&["silence", "list"]).unwrap();
    for domain in ["books", "films", "music"] {
        assert!(listed.contains(&format!("domain={domain:?}  by me: known")), "{domain} in {listed}");
        rig.send(&[firing("slow", domain, 1)]);
    }
    rig.send(&[firing("slow", "games", 1)]);
    eventually("the one that is not silenced", DEADLINE, || (rig.read("routes").len() == 1).then_some(()));
    let alert = rig.alert_file(&firing("slow", "music", 1));
    let told = rig.command(&["test", "--alert", &alert]).unwrap();
    assert!(told.contains("silenced by music"), "{told}");

    // An end lies where the id's hash says, which is another partition than where these silences were put.
    for domain in ["books", "films", "music"] {
        rig.command(&["silence", "expire", domain]).unwrap();
    }
    let put_in = BTreeMap::from([("books", 0), ("films", 1), ("music", 2)]);
    let has_moved = |record: &Recorded| put_in[record.key_text().as_str()] != record.partition;
    assert!(rig.read("silences").iter().any(has_moved), "no id has records in two partitions");
    let before_its_time = rig.command(&["silence", "list"]).unwrap();
    assert!(!before_its_time.contains("active"), "{before_its_time}");
    assert_eq!(rig.command(&["silence", "list", "--all"]).unwrap().matches("expired").count(), 3);
    eventually("all of them", DEADLINE, || (courses(&rig.read("routes")).len() == 4).then_some(()));
    router.stop();
    // and for one that reads them from their beginning
    let router = rig.start("one").active();
    silences(&router, 0.0);
    rig.send(&[firing("fast", "music", 1)]);
    eventually("a further one", DEADLINE, || (rig.read("routes").len() == 5).then_some(()));
    router.stop();
}

#[test]
fn what_is_no_silence_is_dead_lettered_once_and_silences_nothing() {
    let rig = Rig::new("consumer", ROUTES);
    let topic = rig.silences(2);
    let good = |id: &str| silence(id, &["domain=\"books\""]);
    let ends_first = silence_between("ends-first", &["domain=\"books\""], 2_000, 1_000);
    // (record, reason, what the message says)
    let bad: [(Outgoing, &str, &str); 5] = [
        (Outgoing::new("text", "no silence").with_header("traceparent", "00-1"), "undecodable", "framing"),
        (silence("nobody", &[]), "bad_value", "at least one matcher"),
        (silence("half", &["domain=~\"(\""]), "bad_value", "domain=~"),
        (Outgoing { key: Some("other".into()), ..good("mine") }, "bad_value", "\"other\""),
        (ends_first, "bad_value", "ends_at 1000 is before starts_at 2000"),
    ];
    let count = bad.len();
    let partition = |number: usize| i32::try_from(number % 2).unwrap();
    let in_place = |number: usize| bad[number].0.clone().in_partition(partition(number));
    // Three are there before the router is, behind a good one of the same id; two come later.
    testkit::produce(&topic, [good("nobody").in_partition(partition(1))]);
    testkit::produce(&topic, (0..3).map(in_place));
    let router = rig.start("one").active();
    testkit::produce(&topic, (3..count).map(in_place));
    testkit::produce(&topic, [good("good")]);
    silences(&router, 1.0);
    let letters =
        eventually("their letters", DEADLINE, || Some(rig.read("dead-letters")).filter(|found| found.len() == count));

    let lie = rig.read("silences");
    for (outgoing, reason, says) in &bad {
        let key = outgoing.key.as_deref();
        let letter = letters.iter().find(|letter| letter.key.as_deref() == key).unwrap_or_else(|| panic!("{key:?}"));
        assert_eq!(letter.value, outgoing.value);
        assert_eq!(letter.headers[..outgoing.headers.len()], outgoing.headers[..]);
        let header = |name| String::from_utf8_lossy(letter.header(name).unwrap_or_default()).into_owned();
        let place = lie.iter().find(|record| record.key.as_deref() == key && record.value == outgoing.value).unwrap();
        assert_eq!(header(dead_letter::TOPIC), topic);
        assert_eq!(header(dead_letter::PARTITION), place.partition.to_string());
        assert_eq!(header(dead_letter::OFFSET), place.offset.to_string());
        assert_eq!(header(dead_letter::CONNECTOR), "alert-router");
        assert_eq!(header(dead_letter::STAGE), "decode");
        assert_eq!(header(dead_letter::EXCEPTION_CLASS), *reason);
        assert!(header(dead_letter::EXCEPTION_MESSAGE).contains(says), "{}", header(dead_letter::EXCEPTION_MESSAGE));
    }
    let counted = |router: &Instance, reason: &str| {
        router.metric(&format!("recwatch_alert_router_dead_letters_total{{reason={reason:?}}}"))
    };
    eventually("the counts", DEADLINE, || {
        (counted(&router, "undecodable") == 1.0 && counted(&router, "bad_value") == 4.0).then_some(())
    });
    // What was good before is no more, and the list has only what is good.
    let listed = rig.command(&["silence", "list", "--all"]).unwrap();
    assert_eq!(listed.matches("by me: known").count(), 1, "{listed}");

    // A crash repeats none: the offsets were moved in the letters' transactions.
    router.worker.kill9().unwrap();
    let router = rig.start("one").active();
    testkit::produce(&rig.topic("alerts"), [Outgoing::new("last", "no alert")]);
    let letters =
        eventually("one more letter", DEADLINE, || Some(rig.read("dead-letters")).filter(|found| found.len() > count));
    assert_eq!(letters.len(), count + 1);
    assert!(letters.iter().any(|letter| letter.key_text() == "last"));
    eventually("its count", DEADLINE, || (counted(&router, "undecodable") == 1.0).then_some(()));
    assert_eq!(counted(&router, "bad_value"), 0.0);
    router.stop();
}
