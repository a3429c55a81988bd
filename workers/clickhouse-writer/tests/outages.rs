//! Inserts through the real client against a ClickHouse that fails as it is told: what is sent again is the same.

#[path = "common/fake_http.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod fake_http;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clickhouse_writer::batch::{Batch, Original, Place};
use clickhouse_writer::config::{Configuration, defaults};
use clickhouse_writer::deliver::{Destination, Policy, deliver};
use clickhouse_writer::metrics::Metrics;
use clickhouse_writer::server::Server;
use clickhouse_writer::tables::TABLES;
use clickhouse_writer::verdict::{InsertError, Verdict};
use fake_http::{Action, FakeHttp, Request};
use service::{Health, Sources, load};

const POLICY: Policy = Policy {
    max_months: 100,
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(5),
    max_refused: 10,
};

/// Without compression, unless `settings` say so.
fn server(url: &str, settings: &[&str]) -> Server {
    let defaults = defaults();
    let url = format!("url={url}");
    let settings = ["compression=none", &url].into_iter().chain(settings.iter().copied());
    let sets: Vec<String> = settings.map(|setting| format!("clickhouse.{setting}")).collect();
    let loaded = load::<Configuration>(Sources { sets: &sets, ..Sources::of_defaults(&defaults) });
    Server::new(&loaded.unwrap().settings.clickhouse).unwrap()
}

fn batch(rows: i64) -> Batch {
    let mut batch = Batch::default();
    for offset in 0..rows {
        let pushed = batch.push(Place { partition: 0, offset }, Original::default(), Instant::now(), |_, into| {
            into.extend_from_slice(&offset.to_le_bytes());
            Ok::<_, Infallible>(201_401)
        });
        assert!(pushed.is_ok());
    }
    batch.sort();
    batch
}

fn run(server: &Server, rows: i64) -> Result<Batch, InsertError> {
    let metrics = Metrics::new(&service::Metrics::new(), &Health::new(), TABLES);
    let destination = Destination {
        table: TABLES[0],
        topic: "rows".to_owned(),
        statement: "INSERT INTO recwatch.t (a) FORMAT RowBinaryWithNamesAndTypes".to_owned(),
        header: b"header".to_vec(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut batch = batch(rows);
    runtime.block_on(deliver(&mut batch, &destination, server, &POLICY, &metrics)).map(|()| batch)
}

/// A server whose first answers are those of `script`, and `200` from then on.
fn scripted(script: Vec<Action>) -> FakeHttp {
    let next = AtomicUsize::new(0);
    FakeHttp::start(move |_: &Request| {
        let index = next.fetch_add(1, Ordering::SeqCst);
        script.get(index).cloned().unwrap_or(Action::Answer(200, String::new()))
    })
}

#[test]
fn an_insert_whose_acknowledgement_is_lost_is_sent_again_with_the_same_rows_and_token() {
    let overloaded = "Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)";
    let fake = scripted(vec![
        Action::Answer(500, overloaded.to_owned()),
        Action::Cut,
        Action::Answer(503, String::new()),
        Action::Cut,
    ]);
    let batch = run(&server(&fake.url, &[]), 1000).unwrap();
    assert!(batch.refusals().is_empty());
    let requests = fake.requests.lock().unwrap();
    assert_eq!(requests.len(), 5);
    let expected: Vec<u8> = b"header".iter().copied().chain((0..1000_i64).flat_map(i64::to_le_bytes)).collect();
    for request in requests.iter() {
        assert_eq!(request.body, expected);
        assert_eq!(request.parameters, requests[0].parameters);
    }
    let parameters = &requests[0].parameters;
    assert!(parameters["insert_deduplication_token"].starts_with("rows-0:0-999#"), "{parameters:?}");
    assert_eq!(parameters["async_insert"], "0");
    assert_eq!(parameters["query"], "INSERT INTO recwatch.t (a) FORMAT RowBinaryWithNamesAndTypes");
}

#[test]
fn a_server_that_accepts_and_never_answers_is_asked_again() {
    let first = AtomicUsize::new(0);
    let fake = FakeHttp::start(move |_: &Request| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_secs(3)); // longer than answer_timeout
        }
        Action::Answer(200, String::new())
    });
    run(&server(&fake.url, &["answer_timeout=2s"]), 3).unwrap();
    assert_eq!(first_two_tokens_equal(&fake), Some(true));
}

/// The slow request is recorded after the quick one, or not yet.
fn first_two_tokens_equal(fake: &FakeHttp) -> Option<bool> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let requests = fake.requests.lock().unwrap();
        if let [one, two, ..] = &requests[..] {
            let token = |request: &Request| request.parameters["insert_deduplication_token"].clone();
            return Some(token(one) == token(two) && one.body == two.body);
        }
        drop(requests);
        if Instant::now() > deadline {
            return None;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_is_down_is_waited_for() {
    // bound, so that it is nobody else's, and without a listener
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let server = server(&format!("http://{}", socket.local_addr().unwrap()), &[]);
    let error = {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(server.query("SELECT 1")).unwrap_err()
    };
    assert_eq!(error.verdict, Verdict::Retry);
    assert!(error.message.contains("refused"), "{}", error.message);
}

#[test]
fn compressed_bodies_are_smaller_and_marked() {
    let fake = scripted(Vec::new());
    run(&server(&fake.url, &["compression=lz4"]), 1000).unwrap();
    let requests = fake.requests.lock().unwrap();
    assert_eq!(requests[0].parameters["decompress"], "1");
    assert!(requests[0].body.len() < 8000, "{}", requests[0].body.len());
}

#[test]
fn a_wrong_password_ends_the_writer_and_blames_no_row() {
    let answer = "Code: 516. DB::Exception: default: Authentication failed: password is incorrect";
    let fake = scripted(vec![Action::Answer(403, answer.to_owned())]);
    let error = run(&server(&fake.url, &[]), 10).unwrap_err();
    assert_eq!((error.verdict, error.code), (Verdict::Stop, Some(516)));
    assert_eq!(fake.requests.lock().unwrap().len(), 1);
}
