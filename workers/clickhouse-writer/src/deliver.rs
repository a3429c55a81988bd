//! Delivers one batch: inserts its rows, retrying, splitting and bisecting as the answers ask for.
//!
//! Returns only when every row is in ClickHouse or among the refused, or when a person has to help.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::batch::{Batch, REFUSED_BY_CLICKHOUSE, TOO_LARGE};
use crate::piece::Piece;
use crate::tables::Table;
use crate::verdict::{InsertError, Patience, SingleRow, Verdict, wait};

/// A table of the database, as its columns were found.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The table.
    pub table: &'static Table,
    /// Its name with the database's.
    pub name: String,
    /// The topic of its rows.
    pub topic: String,
    /// `INSERT INTO … FORMAT RowBinaryWithNamesAndTypes`.
    pub statement: String,
    /// The header of that format.
    pub header: Vec<u8>,
}

/// What one INSERT carries.
#[derive(Debug)]
pub struct Insert<'a> {
    batch: &'a Batch,
    piece: &'a Piece,
    /// Equal for equal rows.
    pub token: &'a str,
    /// Header and rows.
    pub body: Bytes,
}

impl<'a> Insert<'a> {
    /// How many rows it has.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "pieces are never empty")]
    pub fn len(&self) -> usize {
        self.piece.rows().len()
    }

    /// Its rows, encoded.
    pub fn rows(&self) -> impl Iterator<Item = &'a [u8]> {
        self.piece.rows().iter().map(|&index| self.batch.encoded(&self.batch.rows()[index]))
    }
}

/// Where rows are inserted.
pub trait Sink: Send + Sync + 'static {
    /// Inserts rows, at most once for each token that the server remembers, and returns when they are proven to be in.
    fn insert(
        &self,
        destination: &Destination,
        insert: &Insert<'_>,
    ) -> impl Future<Output = Result<(), InsertError>> + Send;
}

/// Who observes how inserts go.
pub trait Observer: Send + Sync + 'static {
    /// An insert was acknowledged.
    fn inserted(&self, table: &'static Table, rows: usize, bytes: usize, took: Duration);
    /// An insert failed, and is sent again in `pause`; `attempt` counts from 1.
    fn retried(&self, table: &'static Table, error: &InsertError, attempt: u32, pause: Duration);
    /// A piece is cut in two.
    fn split(&self, table: &'static Table, error: &InsertError, rows: usize);
}

/// How an insert is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Table partitions (months) in one insert, at least 1.
    pub max_months: usize,
    /// Pause before the first repetition; doubled for each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Above as many refused rows of one batch, the table is at fault and not the rows.
    pub max_refused: usize,
    /// When nothing but unexpected answers has come for so long, the delivery ends.
    pub unexpected_answer_timeout: Duration,
}

/// No limit on the way is so low: what refuses as few bytes as too large refuses everything, and no row is at fault.
const SMALLEST_LIMIT: usize = 1024;

/// Inserts the rows of a sorted batch; rows that ClickHouse refuses for good are moved to the batch's refusals.
///
/// # Errors
/// Where the set-up is at fault ([`Verdict::Stop`]): repeating would not help, and the rows are not to blame.
pub async fn deliver(
    batch: &mut Batch,
    destination: &Destination,
    sink: &impl Sink,
    policy: &Policy,
    observer: &impl Observer,
) -> Result<(), InsertError> {
    let table = destination.table;
    let mut refused: BTreeMap<usize, (&'static str, String)> = BTreeMap::new();
    let mut patience = Patience::new(policy.unexpected_answer_timeout);
    let mut pieces = Piece::all_of(batch, policy.max_months);
    pieces.reverse();
    while let Some(piece) = pieces.pop() {
        let token = piece.token(batch, &destination.topic);
        let body = piece.body(batch, &destination.header).into();
        let insert = Insert { batch, piece: &piece, token: &token, body };
        let mut pause = policy.first_pause;
        for attempt in 1.. {
            let begun = Instant::now();
            let error = match sink.insert(destination, &insert).await {
                Ok(()) => {
                    patience.restore();
                    observer.inserted(table, insert.len(), insert.body.len(), begun.elapsed());
                    break;
                }
                Err(error) => of_single_row(error, &insert),
            };
            let reason = match error.verdict {
                Verdict::Split(_) => TOO_LARGE,
                _ => REFUSED_BY_CLICKHOUSE,
            };
            let parts = match error.verdict {
                Verdict::Stop => return Err(error),
                Verdict::Retry | Verdict::Unexpected => None,
                Verdict::Split(_) if insert.len() > 1 => piece.split(batch),
                Verdict::Refused if insert.len() > 1 => piece.halves(),
                Verdict::Split(_) | Verdict::Refused => {
                    if refused.len() >= policy.max_refused {
                        return Err(too_many_refused(error, policy));
                    }
                    patience.restore();
                    refused.insert(piece.rows()[0], (reason, error.message));
                    break;
                }
            };
            if let Some([first, second]) = parts {
                patience.restore();
                observer.split(table, &error, insert.len());
                pieces.push(second);
                pieces.push(first);
                break;
            }
            let error = patience.bear(error, tokio::time::Instant::now())?;
            let wait = wait(pause, &error);
            observer.retried(table, &error, attempt, wait);
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(policy.longest_pause);
        }
    }
    batch.refuse_rows(&refused);
    Ok(())
}

/// What "too large" means where there is nothing to split.
fn of_single_row(error: InsertError, insert: &Insert<'_>) -> InsertError {
    let Verdict::Split(single) = error.verdict else { return error };
    if insert.len() > 1 {
        return error;
    }
    let verdict = match single {
        SingleRow::Retry => Verdict::Retry,
        SingleRow::Unexpected => Verdict::Unexpected,
        SingleRow::Refuse if insert.body.len() <= SMALLEST_LIMIT => Verdict::Unexpected,
        SingleRow::Refuse => error.verdict,
    };
    let message = format!("a single row, {} bytes with the header: {}", insert.body.len(), error.message);
    InsertError { verdict, message, ..error }
}

/// A constraint or a view that refuses everything would otherwise empty the topic into the dead letters, row by row.
fn too_many_refused(last: InsertError, policy: &Policy) -> InsertError {
    let message = format!(
        "more than batch.max_refused = {} rows of one batch are refused, the last one with: {}; correct the table, or \
         raise batch.max_refused (or lower batch.max_rows) to hand such rows on to the dead letters",
        policy.max_refused, last.message
    );
    InsertError { verdict: Verdict::Stop, message, ..last }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use super::{Destination, Insert, Observer, Policy, SMALLEST_LIMIT, Sink, deliver};
    use crate::batch::tests::batch;
    use crate::batch::{Batch, Original, Place};
    use crate::tables::{TABLES, Table};
    use crate::verdict::{InsertError, SingleRow, Verdict};

    /// A table in memory that deduplicates by token, refuses row 13, and fails as it is asked to.
    #[derive(Default)]
    struct Memory {
        rows: Mutex<Vec<u8>>,
        tokens: Mutex<BTreeMap<String, Vec<u8>>>,
        /// Answers to the next inserts; `true`: the rows are stored nevertheless.
        failures: Mutex<Vec<(InsertError, bool)>>,
        inserts: Mutex<usize>,
        max_rows: Option<usize>,
        /// A proxy before it takes no larger body.
        max_bytes: Option<usize>,
    }

    impl Memory {
        fn store(&self, token: &str, rows: &[u8]) {
            let mut tokens = self.tokens.lock().unwrap();
            match tokens.get(token) {
                Some(before) => assert_eq!(before, rows, "one token, two contents"),
                None => {
                    tokens.insert(token.to_owned(), rows.to_vec());
                    self.rows.lock().unwrap().extend_from_slice(rows);
                }
            }
        }

        fn sorted(&self) -> Vec<u8> {
            let mut rows = self.rows.lock().unwrap().clone();
            rows.sort_unstable();
            rows
        }
    }

    impl Sink for Memory {
        async fn insert(&self, destination: &Destination, insert: &Insert<'_>) -> Result<(), InsertError> {
            *self.inserts.lock().unwrap() += 1;
            let token = insert.token;
            let rows = &insert.body[destination.header.len()..];
            assert_eq!(rows, insert.rows().collect::<Vec<_>>().concat());
            let failure = self.failures.lock().unwrap().pop();
            if let Some((error, stored)) = failure {
                if stored {
                    self.store(token, rows);
                }
                return Err(error);
            }
            if self.max_rows.is_some_and(|max| rows.len() > max) {
                return Err(error(Verdict::Split(SingleRow::Retry)));
            }
            if self.max_bytes.is_some_and(|max| insert.body.len() > max) {
                return Err(error(Verdict::Split(SingleRow::Refuse)));
            }
            if rows.contains(&13) {
                return Err(error(Verdict::Refused));
            }
            self.store(token, rows);
            Ok(())
        }
    }

    impl Observer for Memory {
        fn inserted(&self, _: &'static Table, _: usize, _: usize, _: Duration) {}
        fn retried(&self, _: &'static Table, _: &InsertError, _: u32, _: Duration) {}
        fn split(&self, _: &'static Table, _: &InsertError, _: usize) {}
    }

    fn error(verdict: Verdict) -> InsertError {
        InsertError::new(verdict, &format!("{verdict:?}"))
    }

    const POLICY: Policy = Policy {
        max_months: 2,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(1),
        max_refused: 3,
        unexpected_answer_timeout: Duration::from_secs(120),
    };

    fn destination() -> Destination {
        Destination {
            table: TABLES[0],
            name: String::new(),
            topic: "rows".to_owned(),
            statement: String::new(),
            header: vec![b'h'],
        }
    }

    fn sorted(rows: &[(i32, i64, i64, u8)]) -> Batch {
        let mut batch = batch(rows);
        batch.sort();
        batch
    }

    fn twenty() -> Batch {
        sorted(&(0..20).map(|n| (n % 3, i64::from(n), 201_401 + i64::from(n % 5), n as u8)).collect::<Vec<_>>())
    }

    async fn run(memory: &Memory, mut batch: Batch) -> Result<Batch, InsertError> {
        deliver(&mut batch, &destination(), memory, &POLICY, memory).await.map(|()| batch)
    }

    #[tokio::test]
    async fn one_poison_row_is_found_and_all_others_are_inserted_once() {
        let memory = Memory::default();
        let batch = run(&memory, twenty()).await.unwrap();
        assert_eq!(memory.sorted(), (0..20).filter(|n| *n != 13).collect::<Vec<u8>>());
        assert_eq!(batch.refusals().len(), 1);
        let refusal = &batch.refusals()[0];
        assert_eq!((refusal.place.offset, refusal.stage, refusal.reason), (13, "insert", "refused_by_clickhouse"));
        assert_eq!(refusal.original.value.as_deref(), Some(&[13][..]));
        assert_eq!(batch.rows().len(), 19);
    }

    #[tokio::test]
    async fn an_insert_that_was_stored_but_not_acknowledged_is_sent_again_under_the_same_token() {
        let failures =
            vec![(error(Verdict::Retry), true), (error(Verdict::Retry), false), (error(Verdict::Retry), true)];
        let memory = Memory { failures: Mutex::new(failures), ..Memory::default() };
        run(&memory, sorted(&[(0, 1, 201_401, 1), (0, 2, 201_401, 2)])).await.unwrap();
        assert_eq!(memory.sorted(), [1, 2]);
        assert_eq!(*memory.inserts.lock().unwrap(), 4);
        assert_eq!(memory.tokens.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_insert_above_a_limit_is_split_until_it_fits() {
        let memory = Memory { max_rows: Some(3), ..Memory::default() };
        let rows: Vec<_> = (20..60).map(|n| (0, i64::from(n), 201_401, n)).collect();
        let batch = run(&memory, sorted(&rows)).await.unwrap();
        assert_eq!(memory.sorted(), (20..60).collect::<Vec<u8>>());
        assert!(batch.refusals().is_empty());
    }

    #[tokio::test]
    async fn a_fault_of_the_set_up_ends_the_delivery() {
        let memory = Memory { failures: Mutex::new(vec![(error(Verdict::Stop), false)]), ..Memory::default() };
        assert_eq!(run(&memory, twenty()).await.unwrap_err().verdict, Verdict::Stop);
        assert!(memory.sorted().is_empty());
    }

    #[tokio::test]
    async fn a_table_that_refuses_row_after_row_ends_the_delivery() {
        let memory = Memory::default();
        let rows = |poison: u8| {
            (0..10).map(|n| (0, i64::from(n), 201_401, if n < poison { 13 } else { n })).collect::<Vec<_>>()
        };
        assert_eq!(run(&memory, sorted(&rows(3))).await.unwrap().refusals().len(), 3);
        let error = run(&memory, sorted(&rows(4))).await.unwrap_err();
        assert_eq!(error.verdict, Verdict::Stop);
        assert!(error.message.contains("batch.max_refused = 3"), "{error}");
    }

    #[tokio::test]
    async fn a_batch_of_refused_records_alone_inserts_nothing() {
        let memory = Memory::default();
        run(&memory, Batch::default()).await.unwrap();
        assert_eq!(*memory.inserts.lock().unwrap(), 0);
    }

    /// Rows of 500 bytes; those in `large` of 5,000.
    fn of_sizes(large: &[usize]) -> Batch {
        let mut batch = Batch::default();
        for offset in 0..20 {
            let size = if large.contains(&offset) { 5_000 } else { 500 };
            let place = Place { partition: 0, offset: offset as i64 };
            let pushed = batch.push(place, Original::default(), Instant::now(), |_, into| {
                into.resize(into.len() + size, offset as u8 + 20);
                Ok::<_, ()>(201_401)
            });
            assert!(pushed.is_ok());
        }
        batch.sort();
        batch
    }

    #[tokio::test]
    async fn a_row_that_is_too_large_by_itself_is_refused_and_the_others_are_inserted_below_the_limit() {
        let memory = Memory { max_bytes: Some(2_000), ..Memory::default() };
        let batch = run(&memory, of_sizes(&[7, 11])).await.unwrap();
        let refused: Vec<_> = batch.refusals().iter().map(|refusal| (refusal.place.offset, refusal.reason)).collect();
        assert_eq!(refused, [(7, "too_large"), (11, "too_large")]);
        assert!(batch.refusals()[0].message.contains("a single row, 5001 bytes"), "{:?}", batch.refusals()[0]);
        assert_eq!(memory.rows.lock().unwrap().len(), 18 * 500);
    }

    /// Time passes by itself where everybody sleeps.
    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_takes_no_row_at_all_ends_the_delivery_and_blames_none() {
        let memory = Memory { max_bytes: Some(100), ..Memory::default() };
        const { assert!(SMALLEST_LIMIT > 501) };
        let error = run(&memory, of_sizes(&[])).await.unwrap_err();
        assert_eq!(error.verdict, Verdict::Stop);
        assert!(error.message.contains("unexpected_answer_timeout"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn unexpected_answers_end_the_delivery_after_their_time_and_not_before() {
        let unexpected = |count| vec![(error(Verdict::Unexpected), false); count];
        let policy = Policy { longest_pause: Duration::from_secs(10), first_pause: Duration::from_secs(10), ..POLICY };
        for (answers, is_over) in [(12, false), (13, true)] {
            let memory = Memory { failures: Mutex::new(unexpected(answers)), ..Memory::default() };
            let mut batch = twenty();
            let result = deliver(&mut batch, &destination(), &memory, &policy, &memory).await;
            assert_eq!(result.is_err(), is_over, "{answers}");
        }
        // an outage in between is no unexpected answer
        let mut failures = unexpected(20);
        failures[10] = (error(Verdict::Retry), false);
        let memory = Memory { failures: Mutex::new(failures), ..Memory::default() };
        let mut batch = twenty();
        deliver(&mut batch, &destination(), &memory, &policy, &memory).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_an_answer_asks_for_is_kept_within_a_minute() {
        for (asked, kept) in [(7, 7), (86_400, 60)] {
            let mut busy = error(Verdict::Retry);
            busy.retry_after = Some(Duration::from_secs(asked));
            let memory = Memory { failures: Mutex::new(vec![(busy, false)]), ..Memory::default() };
            let begun = tokio::time::Instant::now();
            run(&memory, sorted(&[(0, 1, 201_401, 1)])).await.unwrap();
            assert_eq!(begun.elapsed().as_secs(), kept);
        }
    }
}
