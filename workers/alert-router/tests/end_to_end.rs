//! The router's binary on a real broker: topics exactly once, webhooks under the same key, and one active instance.

#[path = "common/peers.rs"]
mod peers;
#[path = "common/rig.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod rig;
mod support;

use std::collections::BTreeMap;

use alert_router::deliver::signature;
use rand::{RngExt as _, SeedableRng as _};
use rig::{DEADLINE, Rig, courses, firing, resolved, told};
use testkit::{Outgoing, eventually};

const SECRET: &str = "a shared secret";

/// All alerts to a topic and to a webhook.
const BOTH: &str = r#"
    external_url = "http://router"
    [route]
    receiver = "pager"
    group_by = ["rule"]
    group_wait = "0s"
    group_interval = "1s"
    [[route.routes]]
    receiver = "analytics"
    group_by = ["..."]
    continue = true
    [[route.routes]]
    matchers = ['rule!="quiet"']
    [receivers.analytics]
    type = "topic"
    topic = "{name}.routes"
    [receivers.pager]
    type = "webhook"
    url = "{url}/hook"
    secret = "a shared secret"
    headers = { Authorization = "Bearer token" }
    first_pause = "50ms"
    longest_pause = "200ms"
"#;

fn course(statuses: &[&str]) -> Vec<String> {
    statuses.iter().map(|&status| status.to_owned()).collect()
}

#[test]
fn an_alert_is_told_to_its_routes_signed_and_its_end_too() {
    let rig = Rig::new("consumer", BOTH);
    let router = rig.start("one").active();
    rig.send(&[firing("slow", "books", 1), firing("quiet", "films", 1)]);
    eventually("the webhook", DEADLINE, || (rig.peers.hooks().len() == 1).then_some(()));
    eventually("the topic", DEADLINE, || (rig.read("routes").len() == 2).then_some(()));
    rig.send(&[resolved("slow", "books", 1)]);
    eventually("the end at the webhook", DEADLINE, || (rig.peers.hooks().len() == 2).then_some(()));

    let hooks = rig.peers.hooks();
    for hook in &hooks {
        assert_eq!(hook.headers["x-recwatch-signature-256"], format!("sha256={}", signature(SECRET, &hook.body)));
        assert_eq!(hook.headers["authorization"], "Bearer token");
        assert_eq!(hook.headers["content-type"], "application/json");
        assert_eq!(hook.json()["groupKey"], r#"{}/{rule!="quiet"}:{rule="slow"}"#);
        assert_eq!(hook.json()["externalURL"], "http://router");
    }
    assert_eq!([hooks[0].status(), hooks[1].status()], ["firing", "resolved"]);
    assert_ne!(hooks[0].headers["idempotency-key"], hooks[1].headers["idempotency-key"]);
    let routes = rig.read("routes");
    let expected = [("books".to_owned(), course(&["firing", "resolved"])), ("films".to_owned(), course(&["firing"]))];
    assert_eq!(courses(&routes), BTreeMap::from(expected));
    // the two alerts lie in different partitions, of which either may be read first
    let of_books = routes.iter().find(|record| record.key_text().contains("books")).unwrap();
    assert_eq!(
        of_books.key_text(),
        r#"{}/{}:{domain="books", kind="threshold", metric="share_scattered", rule="slow", severity="warning", worker="session-entropy"}"#
    );
    assert!(of_books.header("recwatch.notification").is_some());
    eventually("the counts", DEADLINE, || {
        let notifications = router.metric("recwatch_alert_router_notifications_total");
        (notifications == 5.0 && router.metric("recwatch_alert_router_alerts_firing") == 1.0).then_some(())
    });
    router.stop();
}

#[test]
fn what_is_killed_at_any_moment_tells_topics_once_and_webhooks_under_the_same_key() {
    let rig = Rig::new("classic", BOTH);
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(20);
    let domains = ["a", "b", "c", "d"];
    let mut lives = [0_i64; 4];
    let mut fires = [false; 4];
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut router = rig.start("one").active();
    for _ in 0..20 {
        let sent = random.random_range(1..6);
        for _ in 0..sent {
            let number = random.random_range(0..4_usize);
            let (life, domain) = (&mut lives[number], domains[number]);
            fires[number] = !fires[number];
            let status = if fires[number] { "firing" } else { "resolved" };
            expected.entry(domain.to_owned()).or_default().push(status.to_owned());
            *life += i64::from(fires[number]);
            rig.send(&[if fires[number] { firing("slow", domain, *life) } else { resolved("slow", domain, *life) }]);
        }
        // a moment is what the router has read by then, not a time
        let read = random.random_range(0..=sent);
        if read > 0 {
            let metric = "recwatch_alert_router_records_read_total";
            eventually("records read", DEADLINE, || (router.metric(metric) >= f64::from(read)).then_some(()));
        }
        if random.random_bool(0.3) {
            rig.peers.answer([503, 500][random.random_range(0..2_usize)]);
        }
        router.worker.kill9().unwrap();
        rig.peers.answer(200);
        router = rig.start("one");
        if random.random_bool(0.7) {
            router = router.active();
        }
    }
    let router = router.active();
    for (number, domain) in domains.iter().enumerate().filter(|(number, _)| fires[*number]) {
        expected.entry((*domain).to_owned()).or_default().push("resolved".to_owned());
        rig.send(&[resolved("slow", domain, lives[number])]);
    }
    eventually("everything on the topic", DEADLINE, || {
        let told: usize = courses(&rig.read("routes")).values().map(Vec::len).sum();
        (told >= expected.values().map(Vec::len).sum()).then_some(())
    });
    eventually("the end of all alerts at the webhook", DEADLINE, || {
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        rig.peers.hooks().iter().for_each(|hook| last.extend(told(&hook.json())));
        last.values().all(|status| status == "resolved").then_some(())
    });
    let routes = rig.read("routes");
    assert_eq!(courses(&routes), expected, "each transition once, in order");
    let names: std::collections::BTreeSet<_> =
        routes.iter().map(|record| record.header("recwatch.notification")).collect();
    assert_eq!(names.len(), routes.len());

    // Repetitions are those of one notification, and none comes behind a newer one.
    let hooks = rig.peers.hooks();
    let mut order: Vec<&str> = Vec::new();
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for hook in &hooks {
        let key = hook.headers["idempotency-key"].as_str();
        assert_eq!(*bodies.entry(key).or_insert(&hook.body), hook.body, "one key, two bodies");
        if order.last() != Some(&key) {
            assert!(!order.contains(&key), "{key} comes behind a newer one");
            order.push(key);
        }
    }
    router.stop();
}

#[test]
fn a_standby_says_so_and_takes_over_when_the_active_one_is_killed() {
    let rig = Rig::new("consumer", BOTH);
    let one = rig.start("one").active();
    let two = rig.start("two");
    eventually("a standby", DEADLINE, || two.ready().filter(|text| text.contains("role: standing by")));
    assert_eq!(two.metric("recwatch_alert_router_active"), 0.0);
    rig.send(&[firing("slow", "books", 1)]);
    eventually("the topic", DEADLINE, || (rig.read("routes").len() == 1).then_some(()));
    one.worker.kill9().unwrap();
    rig.send(&[resolved("slow", "books", 1), firing("slow", "films", 1)]);
    let two = two.active();
    eventually("the topic", DEADLINE, || (rig.read("routes").len() == 3).then_some(()));
    let expected = [("books".to_owned(), course(&["firing", "resolved"])), ("films".to_owned(), course(&["firing"]))];
    assert_eq!(courses(&rig.read("routes")), BTreeMap::from(expected));
    // An orderly end hands over at once.
    let three = rig.start("three");
    eventually("a standby", DEADLINE, || three.ready());
    two.stop();
    three.active().stop();
}

#[test]
fn what_cannot_be_read_or_delivered_is_found_in_the_dead_letters_with_the_reason() {
    let rig = Rig::new("consumer", BOTH);
    rig.peers.answer(400);
    let router = rig.start("one").active();
    testkit::produce(&rig.topic("alerts"), [Outgoing::new("key", "no alert").with_header("traceparent", "00-1")]);
    rig.send(&[firing("slow", "books", 1)]);
    let letters =
        eventually("two letters", DEADLINE, || Some(rig.read("dead-letters")).filter(|found| found.len() >= 2));
    let reason = |name: &str| {
        let found = letters
            .iter()
            .find(|letter| letter.header("__connect.errors.exception.class.name") == Some(name.as_bytes()));
        found.unwrap_or_else(|| panic!("{name}"))
    };
    let unreadable = reason("undecodable");
    assert_eq!((unreadable.key_text(), unreadable.value_text()), ("key".to_owned(), "no alert".to_owned()));
    assert_eq!(unreadable.header("traceparent"), Some(&b"00-1"[..]));
    let refused = reason("refused");
    assert_eq!(refused.header("recwatch.receiver"), Some(&b"pager"[..]));
    let hook = rig.peers.hooks().remove(0);
    assert_eq!(refused.value.as_ref(), Some(&hook.body));
    assert_eq!(refused.header("recwatch.notification"), Some(hook.headers["idempotency-key"].as_bytes()));
    rig.peers.answer(200);
    eventually("the next attempt, at the group's next time", DEADLINE, || {
        (router.metric("recwatch_alert_router_notifications_total{receiver=\"pager\"}") == 1.0).then_some(())
    });
    router.stop();
}

#[test]
fn the_test_command_says_which_routes_an_alert_takes_and_why() {
    let rig = Rig::new("consumer", BOTH);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/examples/Alert/firing.json");
    let told = rig.command(&["test", "--alert", example]).unwrap();
    for line in [
        r#"severity="warning""#,
        "route.routes[0] (every alert): matches, and goes on to the next",
        r#"route.routes[1] (rule!="quiet"): matches"#,
        "taken: route.routes[1] -> receiver pager",
        r#"group {}/{rule!="quiet"}:{rule="freshness-scattered"}"#,
        "group_wait 0s, group_interval 1s, repeat_interval 4h",
        "silences: not known",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
}

#[test]
fn a_router_that_waits_for_the_registry_says_so_and_tells_when_it_is_back() {
    let rig = Rig::new("consumer", BOTH);
    let router = rig.start("one").active();
    rig.peers.registry_is_away(true);
    rig.send(&[firing("slow", "books", 1)]);
    let stalled = "recwatch_alert_router_stalled_seconds";
    eventually("the stall", DEADLINE, || (router.metric(stalled) > 0.0 && router.ready().is_none()).then_some(()));
    assert!(rig.read("routes").is_empty() && rig.read("dead-letters").is_empty());
    let waiting = format!("waiting: partition 0 of {} for a schema, since 20", rig.topic("alerts"));
    let (status, body) = router.readyz();
    assert!(status == 503 && body.contains(&waiting), "{status}: {body}");
    assert_eq!(router.metric(r#"recwatch_waiting_partitions{reason="schema"}"#), 1.0);
    // it ends well while it waits, and so does the next one
    router.stop();
    let router = rig.start("one");
    rig.peers.registry_is_away(false);
    eventually("the topic", DEADLINE, || (rig.read("routes").len() == 1).then_some(()));
    eventually("readiness", DEADLINE, || (router.is_active() && router.metric(stalled) == 0.0).then_some(()));
    router.stop();
}

#[test]
fn topics_that_do_not_fit_stop_the_start_and_are_named() {
    let rig = Rig::new("consumer", BOTH);
    let create = |kind: &str, settings: &[(&str, &str)]| {
        stack::create_topic(&testkit::brokers(), &rig.topic(kind), 1, settings).unwrap();
    };
    // what fires for longer than a topic keeps would be forgotten
    create("state", &[("cleanup.policy", "compact,delete")]);
    create("routes", &[("max.message.bytes", "100000")]);
    let told = rig.command(&["--create-topics"]).unwrap_err();
    for problem in [
        ".state has cleanup.policy = compact,delete, compact is needed",
        ".routes has max.message.bytes = 100000, 1000000 are needed",
    ] {
        assert!(told.contains(problem), "{problem} in {told}");
    }
}

#[test]
fn missing_topics_stop_the_start_and_are_named() {
    let rig = Rig::new("consumer", BOTH);
    let told = rig.command(&[]).unwrap_err();
    for kind in ["silences", "dead-letters", "state", "routes"] {
        assert!(told.contains(&rig.topic(kind)), "{kind} in {told}");
    }
    assert!(told.contains("--create-topics"), "{told}");
}
