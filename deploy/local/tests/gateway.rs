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
