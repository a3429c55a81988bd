//! ClickHouse as the writer uses it: inserts, the check of its tables, and statements of the DDL.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use service::{Shutdown, Throttle};

use crate::answer::Answer;
use crate::columns::{self, Found};
use crate::config::{ClickHouse, Compression};
use crate::deliver::{Destination, Insert, Sink};
use crate::http::{Http, Request};
use crate::read_back;
use crate::rowbinary;
use crate::tables::Table;
use crate::verdict::{InsertError, Patience, Verdict};
use crate::{lz4, verdict};

/// An insert's answer is empty, or one of ClickHouse's exceptions, or a page of which only the beginning matters.
const LARGEST_INSERT_ANSWER: usize = 16 * 1024;
/// Columns and names of some thousand tables.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;

/// A ClickHouse server or cluster behind one address.
#[derive(Clone)]
pub struct Server {
    http: Http,
    url: String,
    database: String,
    compression: Compression,
    first_pause: Duration,
    longest_pause: Duration,
    patience: Duration,
    /// Of read back acknowledgements.
    log: Arc<Mutex<Throttle>>,
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

/// What a question about the database is answered with.
#[derive(Debug, serde::Deserialize)]
struct Row<T> {
    proof: String,
    found: T,
}

impl Server {
    /// A client for the configured server; connects to nothing yet.
    ///
    /// # Errors
    /// Where the certificates cannot be read.
    pub fn new(config: &ClickHouse) -> anyhow::Result<Self> {
        Ok(Self {
            http: Http::new(config)?,
            url: config.url.as_str().to_owned(),
            database: config.database.clone(),
            compression: config.compression,
            first_pause: config.first_pause.as_duration(),
            longest_pause: config.longest_pause.as_duration(),
            patience: config.unexpected_answer_timeout.as_duration(),
            log: Arc::new(Mutex::new(Throttle::new(Duration::from_secs(60)))),
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

    /// Asks until ClickHouse answers; `None` where the end was asked for first.
    ///
    /// # Errors
    /// Where the set-up is at fault (a wrong password), or where nothing but unexpected answers comes for
    /// `clickhouse.unexpected_answer_timeout`.
    pub async fn until_answered<T>(
        &self,
        shutdown: &Shutdown,
        ask: impl AsyncFn() -> Result<T, InsertError>,
    ) -> Result<Option<T>, InsertError> {
        let mut pause = self.first_pause;
        let mut patience = Patience::new(self.patience);
        loop {
            let answer = tokio::select! {
                answer = ask() => answer,
                () = shutdown.wait() => return Ok(None),
            };
            let error = match answer {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) if error.verdict == Verdict::Stop => return Err(error),
                Err(error) => patience.bear(error, tokio::time::Instant::now())?,
            };
            let wait = verdict::wait(pause, &error);
            tracing::warn!(url = self.url, %error, pause = ?wait, "waiting for ClickHouse");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.wait() => return Ok(None),
            }
            pause = (pause * 2).min(self.longest_pause);
        }
    }

    /// Whether ClickHouse is there.
    ///
    /// # Errors
    /// Where it is not.
    pub async fn ping(&self) -> Result<(), InsertError> {
        self.ask::<u8>("1 AS found").await.map(|_| ())
    }

    /// Checks that a table has the columns that rows need, and prepares inserts into it.
    ///
    /// # Errors
    /// Where it has not, with every difference at once; or where ClickHouse does not answer.
    pub async fn destination(&self, table: &'static Table, topic: &str) -> Result<Destination, TableError> {
        let select = format!(
            "groupArray((name, type)) AS found FROM system.columns WHERE database = '{}' AND table = '{}'",
            self.database, table.name
        );
        let found: Vec<Found> = self.ask(&select).await?;
        let columns = columns::fit(table, &self.database, &found).map_err(TableError::Unfit)?;
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let name = format!("{}.{}", self.database, table.name);
        Ok(Destination {
            table,
            topic: topic.to_owned(),
            statement: format!("INSERT INTO {name} ({}) FORMAT RowBinaryWithNamesAndTypes", names.join(", ")),
            header: rowbinary::header(columns.into_iter()),
            name,
        })
    }

    /// The names of the database's tables and views.
    ///
    /// # Errors
    /// Where ClickHouse does not answer.
    pub async fn tables(&self) -> Result<Vec<String>, InsertError> {
        self.ask(&format!("groupArray(name) AS found FROM system.tables WHERE database = '{}'", self.database)).await
    }

    /// Runs a statement of the DDL. That it was run is to be looked at afterwards: its answer is empty, and may be anybody's.
    ///
    /// # Errors
    /// What ClickHouse says, judged.
    pub async fn execute(&self, sql: &str) -> Result<(), InsertError> {
        let answer = self.query(sql).await?;
        if answer.is_empty() {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&answer);
        let message = format!("a statement was answered with {:?}, and not with nothing", verdict::shortened(&body));
        Err(InsertError::new(Verdict::Unexpected, &message))
    }

    /// Asks for `SELECT …, {select}`, whose column `found` is the answer. Beside it the answer has to hold a number that
    /// only a server could compute: so it is ClickHouse's, whatever has become of its headers.
    async fn ask<T: serde::de::DeserializeOwned>(&self, select: &str) -> Result<T, InsertError> {
        let number: u32 = rand::random();
        let sql = format!("SELECT toString({number} + 1) AS proof, {select} FORMAT JSONEachRow");
        let answer = self.query(&sql).await?;
        let proof = (u64::from(number) + 1).to_string();
        match serde_json::from_slice::<Row<T>>(&answer) {
            Ok(row) if row.proof == proof => Ok(row.found),
            _ => {
                let body = verdict::shortened(&String::from_utf8_lossy(&answer));
                let message = format!(
                    "the answer to a question about the database is not ClickHouse's, does clickhouse.url lead to it? It is {body:?}"
                );
                Err(InsertError::new(Verdict::Unexpected, &message))
            }
        }
    }

    async fn query(&self, sql: &str) -> Result<Vec<u8>, InsertError> {
        let query_id = query_id();
        let request = Request {
            parameters: &[("query_id", &query_id), ("wait_end_of_query", "1")],
            body: sql.as_bytes().to_vec().into(),
            encoding: None,
            largest_answer: LARGEST_ANSWER,
        };
        let answer = self.http.post(request).await.map_err(|error| InsertError::unanswered(&error))?;
        answer.is_success().map(<[u8]>::to_vec).map_err(|error| match error.verdict {
            // a question cannot be split
            Verdict::Split(_) => InsertError { verdict: Verdict::Unexpected, ..error },
            _ => error,
        })
    }

    async fn post(&self, destination: &Destination, insert: &Insert<'_>, id: &str) -> Result<Answer, InsertError> {
        let (body, encoding) = match self.compression {
            Compression::None => (insert.body.clone(), None),
            Compression::Lz4 => (
                lz4::compress(&insert.body)
                    .map_err(|error| InsertError::new(Verdict::Stop, &format!("compression: {error}")))?,
                Some(lz4::ENCODING),
            ),
        };
        let parameters: &[(&str, &str)] = &[
            ("query", &destination.statement),
            ("query_id", id),
            // Servers since 26.3 collect small inserts by themselves unless asked not to; the token would then not be the
            // batch's, and an acknowledgement could come before the rows.
            ("async_insert", "0"),
            ("wait_for_async_insert", "1"),
            ("insert_deduplicate", "1"),
            ("insert_deduplication_token", insert.token),
            // headers with the whole count, and no exception behind them
            ("wait_end_of_query", "1"),
        ];
        let request = Request { parameters, body, encoding, largest_answer: LARGEST_INSERT_ANSWER };
        self.http.post(request).await.map_err(|error| InsertError::unanswered(&error))
    }

    /// Whether the table holds all rows of an insert.
    async fn holds(&self, destination: &Destination, insert: &Insert<'_>) -> Result<(), InsertError> {
        for question in read_back::questions(destination, insert.rows(), insert.body.len()) {
            let found: String = self.ask(&question.select).await?;
            if found != question.expected.to_string() {
                let message = format!("{found} of {} rows are in {}", question.expected, destination.name);
                return Err(InsertError::new(Verdict::Unexpected, &message));
            }
        }
        Ok(())
    }
}

impl Sink for Server {
    async fn insert(&self, destination: &Destination, insert: &Insert<'_>) -> Result<(), InsertError> {
        let id = query_id();
        let answer = self.post(destination, insert, &id).await?;
        let Err(mut error) = answer.acknowledges(&id, insert.len()) else {
            return Ok(());
        };
        if error.verdict != Verdict::Unexpected || !answer.may_be_acknowledgement() {
            return Err(error);
        }
        match self.holds(destination, insert).await {
            Ok(()) => {
                let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(left_out) = log.pass(std::time::Instant::now()) {
                    let table = destination.table.name;
                    tracing::warn!(table, reason = %error, left_out, "rows were read back, which costs, to acknowledge them");
                }
                Ok(())
            }
            Err(reading) => {
                error.message.push_str(&format!("; the rows were asked for, but: {reading}"));
                Err(error)
            }
        }
    }
}

/// New for each request.
fn query_id() -> String {
    format!("recwatch-{:032x}", rand::random::<u128>())
}
