//! Inserts by HTTP against a ClickHouse that fails as a test wants it: what is sent again is the same, and only
//! ClickHouse's own answer counts.

#[path = "common/fake_http.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod fake_http;

use std::collections::{BTreeMap, BTreeSet};
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
    unexpected_answer_timeout: Duration::from_secs(3600),
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
    run_under(POLICY, server, rows)
}

fn run_under(policy: Policy, server: &Server, rows: i64) -> Result<Batch, InsertError> {
    let metrics = Metrics::new(&service::Metrics::new(), &Health::new(), TABLES);
    let destination = Destination {
        table: TABLES[0],
        name: "recwatch.t".to_owned(),
        topic: "rows".to_owned(),
        statement: "INSERT INTO recwatch.t (a) FORMAT RowBinaryWithNamesAndTypes".to_owned(),
        header: b"header".to_vec(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut batch = batch(rows);
    runtime.block_on(deliver(&mut batch, &destination, server, &policy, &metrics)).map(|()| batch)
}

/// What ClickHouse answers when it has written all rows of an insert.
fn acknowledgement(request: &Request) -> Action {
    let id = request.parameters["query_id"].clone();
    let headers = vec![
        ("X-ClickHouse-Query-Id", id),
        ("X-ClickHouse-Summary", r#"{"read_rows":"0","written_rows":"1000000"}"#.to_owned()),
    ];
    Action::Whole(200, headers, String::new())
}

/// An exception of ClickHouse.
fn exception(status: u16, code: &str, text: &str) -> Action {
    Action::Whole(status, vec![("X-ClickHouse-Exception-Code", code.to_owned())], text.to_owned())
}

/// A server whose first answers are those of `script`, and acknowledgements from then on.
fn scripted(script: Vec<Action>) -> FakeHttp {
    let next = AtomicUsize::new(0);
    FakeHttp::start(move |request: &Request| {
        let index = next.fetch_add(1, Ordering::SeqCst);
        script.get(index).cloned().unwrap_or_else(|| acknowledgement(request))
    })
}

#[test]
fn an_insert_whose_acknowledgement_is_lost_is_sent_again_with_the_same_rows_and_token() {
    let overloaded = "Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)";
    let fake =
        scripted(vec![exception(500, "202", overloaded), Action::Cut, Action::Answer(503, String::new()), Action::Cut]);
    let batch = run(&server(&fake.url, &[]), 1000).unwrap();
    assert!(batch.refusals().is_empty());
    let requests = fake.requests.lock().unwrap();
    assert_eq!(requests.len(), 5);
    let expected: Vec<u8> = b"header".iter().copied().chain((0..1000_i64).flat_map(i64::to_le_bytes)).collect();
    for request in requests.iter() {
        assert_eq!(request.body, expected);
        assert_eq!(but_the_id(request), but_the_id(&requests[0]));
    }
    let ids: BTreeSet<&String> = requests.iter().map(|request| &request.parameters["query_id"]).collect();
    assert_eq!(ids.len(), 5, "each attempt has its own");
    let parameters = &requests[0].parameters;
    assert!(parameters["insert_deduplication_token"].starts_with("rows-0:0-999#"), "{parameters:?}");
    for (name, value) in [("async_insert", "0"), ("wait_for_async_insert", "1"), ("wait_end_of_query", "1")] {
        assert_eq!(parameters[name], value, "{name}");
    }
    assert_eq!(parameters["query"], "INSERT INTO recwatch.t (a) FORMAT RowBinaryWithNamesAndTypes");
}

fn but_the_id(request: &Request) -> BTreeMap<String, String> {
    let mut parameters = request.parameters.clone();
    parameters.remove("query_id");
    parameters
}

#[test]
fn a_server_that_accepts_and_never_answers_is_asked_again() {
    let first = AtomicUsize::new(0);
    let fake = FakeHttp::start(move |request: &Request| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_secs(3)); // longer than answer_timeout
        }
        acknowledgement(request)
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
        runtime.block_on(server.ping()).unwrap_err()
    };
    assert_eq!(error.verdict, Verdict::Retry);
    assert!(error.message.contains("refused"), "{}", error.message);
}

#[test]
fn compressed_bodies_are_smaller_and_marked() {
    let fake = scripted(Vec::new());
    run(&server(&fake.url, &["compression=lz4"]), 1000).unwrap();
    let requests = fake.requests.lock().unwrap();
    assert_eq!(requests[0].headers["content-encoding"], "lz4");
    assert!(requests[0].body.len() < 8000, "{}", requests[0].body.len());
    assert_eq!(requests[0].body[..4], [0x04, 0x22, 0x4d, 0x18], "an LZ4 frame");
}

#[test]
fn a_wrong_password_ends_the_writer_and_blames_no_row() {
    let answer = "Code: 516. DB::Exception: default: Authentication failed: password is incorrect";
    let fake = scripted(vec![exception(403, "516", answer)]);
    let error = run(&server(&fake.url, &[]), 10).unwrap_err();
    assert_eq!((error.verdict, error.code), (Verdict::Stop, Some(516)));
    assert_eq!(fake.requests.lock().unwrap().len(), 1);
}

const PAGE: &str = "<html><head><title>Sign in</title></head></html>";

/// Each answer comes six times; the rows count only with the acknowledgement behind them.
#[test]
fn no_answer_of_another_server_acknowledges_rows() {
    let other = |name: &'static str, value: &str| Action::Whole(200, vec![(name, value.to_owned())], String::new());
    let answers = [
        Action::Answer(200, PAGE.to_owned()),
        Action::Answer(200, "Ok.\n".to_owned()),
        Action::Answer(200, "1\n".to_owned()),
        Action::Answer(204, String::new()),
        other("X-ClickHouse-Exception-Code", "202"),
        Action::Whole(302, vec![("Location", "/login".to_owned())], PAGE.to_owned()),
        Action::Answer(307, String::new()),
        Action::Answer(400, "Port 9000 is for clickhouse-client program".to_owned()),
        Action::Answer(401, PAGE.to_owned()),
        Action::Answer(403, PAGE.to_owned()),
        Action::Answer(404, PAGE.to_owned()),
        Action::Answer(407, PAGE.to_owned()),
        Action::Answer(429, String::new()),
        Action::Answer(502, PAGE.to_owned()),
    ];
    for answer in answers {
        let fake = scripted(vec![answer.clone(); 6]);
        let batch = run(&server(&fake.url, &[]), 100).unwrap();
        assert!(batch.refusals().is_empty() && batch.rows().len() == 100, "{answer:?}");
        assert_eq!(fake.requests.lock().unwrap().len(), 7, "{answer:?}");
    }
}

/// An empty 200 without its headers may come from a ClickHouse behind a proxy: then the table is asked for the rows.
#[test]
fn an_empty_200_counts_only_when_the_rows_can_be_read_back() {
    // a server that answers everything with nothing, one that misses a row of those asked for, and one that has them all
    for missing in [None, Some(1), Some(0)] {
        let fake = FakeHttp::start(move |request: &Request| {
            let sql = String::from_utf8_lossy(&request.body);
            if request.parameters.contains_key("query") {
                return Action::Answer(200, String::new());
            }
            let Some(missing) = missing else { return Action::Answer(200, String::new()) };
            let behind = |mark: &str| sql.split_once(mark).unwrap().1;
            let proof = behind("toString(").split_once(" + 1").unwrap().0.parse::<u64>().unwrap() + 1;
            let found = behind("hash IN (").split_once(')').unwrap().0.split(',').count() - missing;
            Action::Answer(200, format!(r#"{{"proof":"{proof}","found":"{found}"}}"#))
        });
        let policy = Policy { unexpected_answer_timeout: Duration::from_millis(50), ..POLICY };
        match (run_under(policy, &server(&fake.url, &[]), 100), missing) {
            (Ok(batch), Some(0)) => assert_eq!(batch.rows().len(), 100),
            (Err(error), None | Some(1)) => {
                assert_eq!(error.verdict, Verdict::Stop);
                assert!(error.message.contains("no header X-ClickHouse-Query-Id"), "{error}");
            }
            (result, _) => panic!("{missing:?}: {result:?}"),
        }
    }
}

/// As a proxy refuses what is larger than 3,000 bytes, with `status` and `body`.
fn limited(status: u16, body: &'static str) -> FakeHttp {
    FakeHttp::start(move |request: &Request| match request.body.len() {
        0..=3_000 => acknowledgement(request),
        _ => Action::Answer(status, body.to_owned()),
    })
}

#[test]
fn a_413_splits_the_batch_whatever_its_body() {
    for body in ["", PAGE, "413 Payload Too Large", "Code: 241. DB::Exception: no"] {
        let fake = limited(413, body);
        let batch = run(&server(&fake.url, &[]), 1_000).unwrap();
        assert!(batch.refusals().is_empty(), "{body:?}");
        let requests = fake.requests.lock().unwrap();
        let header = b"header".len();
        let mut rows: Vec<u8> = Vec::new();
        for request in requests.iter().filter(|request| request.body.len() <= 3_000) {
            rows.extend_from_slice(&request.body[header..]);
        }
        assert_eq!(rows, (0..1_000_i64).flat_map(i64::to_le_bytes).collect::<Vec<_>>(), "{body:?}");
    }
}

/// Early, while most of the body is still to be sent: as nginx does by the length alone.
#[test]
fn a_413_that_comes_before_the_body_is_sent_splits_the_batch() {
    let fake = FakeHttp::start_looking_at_heads(
        |head| (head.length > 100_000).then(|| Action::Answer(413, PAGE.to_owned())),
        acknowledgement,
    );
    let batch = run(&server(&fake.url, &[]), 1_000_000).unwrap();
    assert!(batch.refusals().is_empty());
    let bytes: usize = fake.requests.lock().unwrap().iter().map(|request| request.body.len() - b"header".len()).sum();
    assert_eq!(bytes, 8_000_000);
}

#[test]
fn a_page_for_ever_ends_the_writer_with_what_came() {
    for (status, body) in
        [(401, PAGE), (403, PAGE), (404, ""), (404, PAGE), (407, PAGE), (302, PAGE), (200, PAGE), (200, "")]
    {
        let fake = FakeHttp::start(move |_: &Request| Action::Answer(status, body.to_owned()));
        let policy = Policy { unexpected_answer_timeout: Duration::from_millis(200), ..POLICY };
        let error = run_under(policy, &server(&fake.url, &[]), 10).unwrap_err();
        assert_eq!(error.verdict, Verdict::Stop, "{status}");
        assert!(error.message.contains(&format!("HTTP {status}")), "{error}");
        assert!(fake.requests.lock().unwrap().len() > 2, "it may be a proxy that restarts");
    }
}

#[test]
fn what_is_asked_at_the_start_is_believed_only_when_it_was_computed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let echo = |text: &str| text.to_owned();
    for body in [echo(""), echo(PAGE), echo("1\n"), echo("Ok.\n"), echo(r#"{"proof":"1","found":1}"#)] {
        let fake = FakeHttp::start(move |_: &Request| Action::Answer(200, body.clone()));
        let server = server(&fake.url, &[]);
        assert_eq!(runtime.block_on(server.ping()).unwrap_err().verdict, Verdict::Unexpected);
        assert!(runtime.block_on(server.destination(TABLES[0], "t")).is_err());
        assert!(runtime.block_on(server.tables()).is_err());
    }
    let fake = FakeHttp::start(|_: &Request| Action::Answer(200, PAGE.to_owned()));
    assert_eq!(runtime.block_on(server(&fake.url, &[]).execute("CREATE")).unwrap_err().verdict, Verdict::Unexpected);
}

#[test]
fn the_wait_for_clickhouse_at_the_start_ends_with_the_page_that_came_and_at_once_when_asked_to() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fake = FakeHttp::start(|_: &Request| Action::Answer(404, PAGE.to_owned()));
    let shutdown = service::Shutdown::new();
    let impatient = server(&fake.url, &["unexpected_answer_timeout=300ms", "longest_pause=100ms"]);
    let end = runtime.block_on(impatient.until_answered(&shutdown, async || impatient.ping().await)).unwrap_err();
    assert!(end.message.contains("HTTP 404") && end.message.contains("Sign in"), "{end}");
    // one that hangs
    let (parked, park) = std::sync::mpsc::channel::<()>();
    let park = std::sync::Mutex::new(park);
    let hangs = FakeHttp::start(move |_: &Request| {
        let _ = park.lock().unwrap().recv();
        Action::Cut
    });
    let patient = server(&hangs.url, &[]);
    let stop = shutdown.clone();
    let answer = runtime.block_on(async {
        tokio::join!(patient.until_answered(&shutdown, async || patient.ping().await), async { stop.request() }).0
    });
    assert_eq!(answer, Ok(None));
    drop(parked);
}
