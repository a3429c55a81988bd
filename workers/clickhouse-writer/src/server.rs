//! ClickHouse as the writer uses it: inserts, the check of its tables, and statements of the DDL.

use std::time::Duration;

use clickhouse::Client;
use clickhouse::error::Error;
use service::Shutdown;
use tokio::io::AsyncWriteExt as _;

use crate::config::{ClickHouse, Compression};
use crate::deliver::{Destination, Sink};
use crate::rowbinary;
use crate::tables::Table;
use crate::tls;
use crate::verdict::{InsertError, Verdict};

/// A ClickHouse server or cluster behind one address.
#[derive(Clone)]
pub struct Server {
    client: Client,
    url: String,
    database: String,
    send_timeout: Duration,
    answer_timeout: Duration,
    longest_pause: Duration,
}

/// Why a table cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// ClickHouse does not answer, or not as it should; asked again it may.
    #[error(transparent)]
    Server(#[from] InsertError),
    /// The table is missing, or has other columns.
    #[error("{0}")]
    Unfit(String),
}

impl Server {
    /// A client for the configured server; connects to nothing yet.
    ///
    /// # Errors
    /// Where the certificates cannot be read.
    pub fn new(config: &ClickHouse) -> anyhow::Result<Self> {
        let mut client = tls::client(config.ca_location.as_deref())?
            .with_url(config.url.as_str())
            .with_compression(match config.compression {
                Compression::None => clickhouse::Compression::None,
                Compression::Lz4 => clickhouse::Compression::Lz4,
            })
            .with_product_info("recwatch", env!("CARGO_PKG_VERSION"));
        if !config.user.is_empty() {
            client = client.with_user(&config.user);
        }
        if !config.password.is_empty() {
            client = client.with_password(config.password.expose());
        }
        Ok(Self {
            client,
            url: config.url.as_str().to_owned(),
            database: config.database.clone(),
            send_timeout: config.send_timeout.as_duration(),
            answer_timeout: config.answer_timeout.as_duration(),
            longest_pause: config.longest_pause.as_duration(),
        })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The database of the tables.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Waits until ClickHouse answers at all; false where the end was asked for first.
    ///
    /// # Errors
    /// Where the set-up is at fault (a wrong password): waiting would not help.
    pub async fn wait_until_up(&self, shutdown: &Shutdown) -> Result<bool, InsertError> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.query("SELECT 1").await {
                Ok(_) => return Ok(true),
                Err(error) if error.verdict == Verdict::Stop => return Err(error),
                Err(error) => tracing::warn!(url = self.url, %error, ?pause, "waiting for ClickHouse"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.wait() => return Ok(false),
            }
            pause = (pause * 2).min(self.longest_pause);
        }
    }

    /// Checks that a table has the columns that rows need, and prepares inserts into it.
    ///
    /// # Errors
    /// Where it has not, with every difference at once; or where ClickHouse does not answer.
    pub async fn destination(&self, table: &'static Table, topic: &str) -> Result<Destination, TableError> {
        let sql = format!(
            "SELECT name, type FROM system.columns WHERE database = '{}' AND table = '{}' FORMAT JSONEachRow",
            self.database, table.name
        );
        let answer = self.query(&sql).await?;
        let found = parse_columns(&answer).map_err(|error| InsertError::unanswered(&error))?;
        let columns = fit(table, &self.database, &found).map_err(TableError::Unfit)?;
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        Ok(Destination {
            table,
            topic: topic.to_owned(),
            statement: format!(
                "INSERT INTO {}.{} ({}) FORMAT RowBinaryWithNamesAndTypes",
                self.database,
                table.name,
                names.join(", ")
            ),
            header: rowbinary::header(columns.into_iter()),
        })
    }

    /// Runs a statement that answers with text.
    ///
    /// # Errors
    /// What ClickHouse says, judged.
    pub async fn query(&self, sql: &str) -> Result<Vec<u8>, InsertError> {
        let answer = async { self.client.query_raw(sql).fetch_bytes("JSONEachRow")?.collect().await };
        match tokio::time::timeout(self.answer_timeout, answer).await {
            Ok(Ok(bytes)) => Ok(bytes.to_vec()),
            Ok(Err(error)) => Err(judged(&error)),
            Err(_) => Err(InsertError::unanswered(&format!("no answer within {:?}", self.answer_timeout))),
        }
    }

    async fn try_insert(&self, destination: &Destination, token: &str, body: &[u8]) -> Result<(), Error> {
        let mut insert = self
            .client
            .insert_formatted_with(&destination.statement)
            // Servers since 26.3 collect small inserts by themselves unless told not to; the token would then not be the
            // batch's, and an acknowledgement could come before the rows.
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", token)
            .with_timeouts(Some(self.send_timeout), Some(self.answer_timeout))
            .buffered();
        insert.write_all(body).await?;
        insert.end().await
    }
}

impl Sink for Server {
    async fn insert(&self, destination: &Destination, token: &str, body: &[u8]) -> Result<(), InsertError> {
        self.try_insert(destination, token, body).await.map_err(|error| judged(&error))
    }
}

fn judged(error: &Error) -> InsertError {
    match error {
        Error::BadResponse(answer) => InsertError::from_answer(answer),
        Error::InvalidParams(_) | Error::Unsupported(_) => {
            InsertError { verdict: Verdict::Stop, code: None, message: error.to_string() }
        }
        _ => InsertError::unanswered(&chain(error)),
    }
}

/// An error with its causes: the library's own text for a refused connection says only that there was one.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[derive(serde::Deserialize)]
struct FoundColumn {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
}

fn parse_columns(answer: &[u8]) -> Result<Vec<FoundColumn>, String> {
    serde_json::Deserializer::from_slice(answer)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the answer about the table's columns cannot be read: {error}"))
}

/// The columns to send, with the types that the server has for them; or everything that does not fit.
fn fit<'a>(
    table: &'static Table,
    database: &str,
    found: &'a [FoundColumn],
) -> Result<Vec<(&'static str, &'a str)>, String> {
    let name = format!("{database}.{}", table.name);
    if found.is_empty() {
        return Err(format!("table {name} does not exist: create it with clickhouse-writer --apply-ddl"));
    }
    let mut columns = Vec::new();
    let mut problems = Vec::new();
    for column in table.columns {
        let accepted = column.kind.accepted_types();
        match found.iter().find(|found| found.name == column.name) {
            Some(found) if accepted.contains(&found.type_name.as_str()) => {
                columns.push((column.name, found.type_name.as_str()));
            }
            Some(found) => {
                problems.push(format!("{} is {}, not {}", column.name, found.type_name, accepted.join(" or ")))
            }
            None => problems.push(format!("{} ({}) is missing", column.name, accepted.join(" or "))),
        }
    }
    if problems.is_empty() {
        return Ok(columns);
    }
    Err(format!(
        "table {name} does not fit: {}; alter it, or rename it and create it anew with clickhouse-writer --apply-ddl",
        problems.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::{FoundColumn, fit, parse_columns};
    use crate::tables::TABLES;

    fn all() -> Vec<FoundColumn> {
        TABLES[1]
            .columns
            .iter()
            .map(|column| FoundColumn {
                name: column.name.to_owned(),
                type_name: column.kind.accepted_types()[0].to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_table_with_all_columns_and_more_fits() {
        let mut found = all();
        found.push(FoundColumn { name: "inserted_at".to_owned(), type_name: "DateTime64(3, 'UTC')".to_owned() });
        assert_eq!(fit(TABLES[1], "recwatch", &found).unwrap().len(), TABLES[1].columns.len());
    }

    #[test]
    fn everything_that_does_not_fit_is_told_at_once() {
        let mut found = all();
        found.retain(|column| column.name != "band");
        for column in &mut found {
            if column.name == "events" {
                column.type_name = "Int64".to_owned();
            }
        }
        let told = fit(TABLES[1], "recwatch", &found).unwrap_err();
        for part in ["recwatch.session_freshness", "events is Int64, not UInt64", "band (String", "is missing"] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(fit(TABLES[1], "recwatch", &[]).unwrap_err().contains("--apply-ddl"));
    }

    #[test]
    fn the_answer_about_columns_is_read() {
        let answer =
            b"{\"name\":\"window_end\",\"type\":\"DateTime64(3, 'UTC')\"}\n{\"name\":\"a\",\"type\":\"String\"}\n";
        let found = parse_columns(answer).unwrap();
        assert_eq!((found.len(), found[0].type_name.as_str()), (2, "DateTime64(3, 'UTC')"));
    }
}
