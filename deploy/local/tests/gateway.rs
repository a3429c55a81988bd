//! The gateway serves the official ClickHouse client and plain HTTP.

use std::sync::OnceLock;
use std::time::Duration;

use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};
use stack::{Components, Options, Stack, http, progress};

const ANSWER: Duration = Duration::from_secs(60);

fn shared() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        let components = Components { clickhouse: true, ..Components::NONE };
        Stack::start(&Options { components, ..Options::default() }, &progress::Silent).unwrap()
    })
}

fn client() -> Client {
    Client::default().with_url(shared().clickhouse_url()).with_compression(clickhouse::Compression::None)
}

fn query(statement: &str) -> String {
    shared().clickhouse_query(statement).unwrap()
}

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
struct Line {
    number: u64,
    text: String,
}

/// Every row has newline bytes in its text, and every number whose low bytes are 10 has them in binary, too.
fn lines(count: u64) -> impl Iterator<Item = Line> {
    (0..count).map(|number| Line { number, text: format!("\n\n{number}\n\r\n") })
}

fn create(table: &str) {
    query(&format!(
        "CREATE TABLE default.{table} (number UInt64, text String) ENGINE = MergeTree ORDER BY number \
         SETTINGS non_replicated_deduplication_window = 100"
    ));
}

async fn insert(client: &Client, table: &str, count: u64, token: Option<&str>) -> clickhouse::error::Result<()> {
    let mut insert = client.insert::<Line>(table).await?;
    if let Some(token) = token {
        insert = insert.with_setting("insert_deduplication_token", token);
    }
    for line in lines(count) {
        insert.write(&line).await?;
    }
    insert.end().await
}

#[tokio::test]
async fn binary_rows_full_of_newlines_arrive_whole() {
    create("newlines");
    insert(&client(), "newlines", 200_000, None).await.unwrap();
    let expected: u64 = (0..200_000).sum();
    assert_eq!(
        query("SELECT count(), uniqExact(number), sum(number) FROM newlines"),
        format!("200000\t200000\t{expected}\n")
    );
    assert_eq!(
        query("SELECT countIf(text = concat('\\n\\n', toString(number), '\\n\\r\\n')) FROM newlines"),
        "200000\n"
    );

    let mut read = client().query("SELECT number, text FROM newlines ORDER BY number").fetch::<Line>().unwrap();
    let mut count = 0;
    for expected in lines(200_000) {
        assert_eq!(read.next().await.unwrap(), Some(expected));
        count += 1;
    }
    assert_eq!(read.next().await.unwrap(), None);
    assert_eq!(count, 200_000);
}

#[tokio::test]
async fn a_deduplication_token_holds_for_a_batch_of_several_blocks() {
    create("tokens");
    let count = 2_500_000; // a block has at most about a million rows
    for _ in 0..2 {
        insert(&client(), "tokens", count, Some("partition 0, offsets 0 to 2500000")).await.unwrap();
    }
    assert_eq!(query("SELECT count() FROM tokens"), format!("{count}\n"));
    insert(&client(), "tokens", 10, Some("partition 0, offsets 2500000 to 2500010")).await.unwrap();
    assert_eq!(query("SELECT count() FROM tokens"), format!("{}\n", count + 10));
}

#[tokio::test]
async fn errors_are_clickhouse_s_own() {
    let unknown = client().query("SELECT nonsense").fetch_one::<u8>().await.unwrap_err();
    assert!(unknown.to_string().contains("Code: 47. DB::Exception: Unknown expression identifier"), "{unknown}");
    let answer = http::post(&shared().clickhouse_url(), "text/plain", "SELECT nonsense", ANSWER).unwrap();
    assert_eq!(answer.status, 500);
    let answer =
        http::post(&format!("{}/?decompress=1", shared().clickhouse_url()), "text/plain", "x", ANSWER).unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("switch compression off"), "{}", answer.body);
    // The engine is none the worse for it.
    assert_eq!(query("SELECT 1"), "1\n");
}

#[test]
fn a_setting_is_of_its_own_statement_only() {
    let url = shared().clickhouse_url();
    let statement = "SELECT getSetting('max_block_size')";
    let usual = query(statement);
    let set = http::post(&format!("{url}/?max_block_size=777"), "text/plain", statement, ANSWER).unwrap().ok().unwrap();
    assert_eq!(set, "777\n");
    assert_eq!(query(statement), usual);
    let unknown = http::post(&format!("{url}/?max_blok_size=7"), "text/plain", "SELECT 1", ANSWER).unwrap();
    assert_eq!(unknown.status, 500);
    assert!(unknown.body.contains("max_blok_size"), "{}", unknown.body);
}

#[test]
fn inserts_bring_their_data_in_every_way_that_clickhouse_allows() {
    let url = shared().clickhouse_url();
    create("ways");
    let post = |query: &str, body: &str| {
        let url = url_with_query(&url, query);
        http::post(&url, "text/plain", body, ANSWER).unwrap().ok().unwrap()
    };
    query("INSERT INTO ways VALUES (1, 'inline\n\nvalues'), (2, 'b')");
    query(
        "INSERT INTO ways (number, text) FORMAT JSONEachRow\n{\"number\": 3, \"text\": \"\\n\\n\"}\n\n{\"number\": 4, \"text\": \"d\"}",
    );
    post("INSERT INTO `default`.`ways` (`text`, `number`) FORMAT CSV", "\"five\n\n\",5\nsix,6\n");
    post("INSERT INTO ways VALUES", "(7, 'g'), (8, 'h')");
    post("INSERT INTO ways SETTINGS max_threads = 1 FORMAT TSV", "9\ti\n");
    query("INSERT INTO ways SELECT number + 10, 'select' FROM numbers(2)");
    assert_eq!(
        query("SELECT groupArray(number) FROM (SELECT number FROM ways ORDER BY number)"),
        "[1,2,3,4,5,6,7,8,9,10,11]\n"
    );
    assert_eq!(
        query("SELECT text FROM ways WHERE number IN (1, 3, 5) ORDER BY number FORMAT JSONEachRow"),
        "{\"text\":\"inline\\n\\nvalues\"}\n{\"text\":\"\\n\\n\"}\n{\"text\":\"five\\n\\n\"}\n"
    );
}

#[test]
fn the_format_of_an_answer_is_the_statement_s_or_the_default_asked_for() {
    let url = shared().clickhouse_url();
    let ask = |parameters: &str, statement: &str| {
        http::post(&format!("{url}/{parameters}"), "text/plain", statement, ANSWER).unwrap().ok().unwrap()
    };
    assert_eq!(ask("", "SELECT 1 AS a, 'x' AS b"), "1\tx\n");
    assert_eq!(ask("?default_format=JSONEachRow", "SELECT 1 AS a"), "{\"a\":1}\n");
    assert_eq!(ask("?default_format=JSONEachRow", "SELECT 1 AS a FORMAT CSV"), "1\n");
    assert_eq!(ask("?database=system", "SELECT currentDatabase()"), "system\n");
    assert_eq!(http::get(&url_with_query(&url, "SELECT 2"), ANSWER).unwrap().ok().unwrap(), "2\n");
    assert_eq!(ask("?param_least=3", "SELECT {least:UInt8}"), "3\n");
}

/// `url/?query=…` with the statement escaped.
fn url_with_query(url: &str, statement: &str) -> String {
    let escaped: String = statement.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("{url}/?query={escaped}")
}

/// The answer of one request with its headers, names in small letters.
fn headers_of(
    url: &str,
    body: impl Into<reqwest::blocking::Body>,
    encoding: Option<&str>,
) -> (u16, reqwest::header::HeaderMap) {
    let client = reqwest::blocking::Client::builder().no_proxy().timeout(ANSWER).build().unwrap();
    let mut request = client.post(url).body(body);
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    let answer = request.send().unwrap();
    (answer.status().as_u16(), answer.headers().clone())
}

fn written_rows(headers: &reqwest::header::HeaderMap) -> String {
    let summary: serde_json::Value = serde_json::from_slice(headers["x-clickhouse-summary"].as_bytes()).unwrap();
    summary["written_rows"].as_str().unwrap().to_owned()
}

/// What an acknowledgement is recognised by: whose it is, and how many rows.
#[test]
fn an_answer_names_its_query_and_the_rows_that_the_engine_wrote() {
    create("counted");
    let url = shared().clickhouse_url();
    let insert = |id: &str, token: &str, body: &'static str| {
        let url = url_with_query(&url, "INSERT INTO counted FORMAT TSV");
        headers_of(&format!("{url}&query_id={id}&insert_deduplication_token={token}&wait_end_of_query=1"), body, None)
    };
    let (status, headers) = insert("first", "a", "1\tx\n2\ty\n3\tz\n");
    assert_eq!((status, &headers["x-clickhouse-query-id"]), (200, &"first".parse().unwrap()));
    assert_eq!(written_rows(&headers), "3");
    // known by its token: nothing is stored, and the engine reports the rows all the same
    let (status, headers) = insert("second", "a", "1\tx\n2\ty\n3\tz\n");
    assert_eq!((status, &headers["x-clickhouse-query-id"]), (200, &"second".parse().unwrap()));
    assert_eq!(written_rows(&headers), "3");
    assert_eq!(query("SELECT count() FROM counted"), "3\n");
    // no rows, and no statement that writes
    assert_eq!(written_rows(&insert("third", "b", "").1), "0");
    assert_eq!(written_rows(&headers_of(&url, "SELECT 1", None).1), "0");
    let (status, headers) = headers_of(&format!("{url}/?query_id=wrong"), "SELECT nonsense", None);
    assert_eq!(status, 500);
    assert_eq!(headers["x-clickhouse-query-id"], "wrong");
    assert_eq!(headers["x-clickhouse-exception-code"], "47");
    assert!(!headers.contains_key("x-clickhouse-summary"));
    // where none is given, each answer has its own
    let ids = [(); 2].map(|()| headers_of(&url, "SELECT 1", None).1["x-clickhouse-query-id"].clone());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_body_compressed_as_an_lz4_frame_is_read_by_the_engine() {
    create("compressed");
    let rows: String = (0..10_000).map(|number| format!("{number}\trow {number}\n")).collect();
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut encoder, rows.as_bytes()).unwrap();
    let frame = encoder.finish().unwrap();
    let url = url_with_query(&shared().clickhouse_url(), "INSERT INTO compressed FORMAT TSV");
    let (status, headers) = headers_of(&url, frame.clone(), Some("lz4"));
    assert_eq!((status, written_rows(&headers).as_str()), (200, "10000"));
    assert_eq!(query("SELECT count(), sum(number) FROM compressed"), "10000\t49995000\n");
    // half of a frame is no error to the engine: only the count says what is missing
    let (status, headers) = headers_of(&url, frame[..frame.len() / 2].to_vec(), Some("lz4"));
    assert_eq!((status, written_rows(&headers).as_str()), (200, "0"));
    assert_eq!(query("SELECT count() FROM compressed"), "10000\n");
}
