//! Delivers one batch: inserts its rows, retrying, splitting and bisecting as the answers ask for.
//!
//! Returns only when every row is in ClickHouse or among the refused, or when a person has to help.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::piece::Piece;
use crate::tables::Table;
use crate::verdict::{InsertError, Verdict};

/// A table of the database, as its columns were found.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The table.
    pub table: &'static Table,
    /// The topic of its rows.
    pub topic: String,
    /// `INSERT INTO … FORMAT RowBinaryWithNamesAndTypes`.
    pub statement: String,
    /// The header of that format.
    pub header: Vec<u8>,
}

/// Where rows are inserted.
pub trait Sink: Send + Sync + 'static {
    /// Inserts `body`, header and rows, at most once for each token that the server remembers.
    fn insert(
        &self,
        destination: &Destination,
        token: &str,
        body: &[u8],
    ) -> impl Future<Output = Result<(), InsertError>> + Send;
}

/// Who is told how inserts go.
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
}

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
    let mut refused: BTreeMap<usize, String> = BTreeMap::new();
    let mut pieces = Piece::all_of(batch, policy.max_months);
    pieces.reverse();
    while let Some(piece) = pieces.pop() {
        let token = piece.token(batch, &destination.topic);
        let body = piece.body(batch, &destination.header);
        let mut pause = policy.first_pause;
        for attempt in 1.. {
            let begun = Instant::now();
            let error = match sink.insert(destination, &token, &body).await {
                Ok(()) => {
                    observer.inserted(table, piece.rows().len(), body.len(), begun.elapsed());
                    break;
                }
                Err(error) => error,
            };
            let parts = match error.verdict {
                Verdict::Stop => return Err(error),
                Verdict::Retry => None,
                Verdict::Split => piece.split(batch),
                Verdict::Refused => match piece.halves() {
                    Some(halves) => Some(halves),
                    None if refused.len() >= policy.max_refused => return Err(too_many_refused(error, policy)),
                    None => {
                        refused.insert(piece.rows()[0], error.message);
                        break;
                    }
                },
            };
            if let Some([first, second]) = parts {
                observer.split(table, &error, piece.rows().len());
                pieces.push(second);
                pieces.push(first);
                break;
            }
            observer.retried(table, &error, attempt, pause);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(policy.longest_pause);
        }
    }
    batch.refuse_rows(&refused);
    Ok(())
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
    use std::time::Duration;

    use super::{Destination, Observer, Policy, Sink, deliver};
    use crate::batch::Batch;
    use crate::batch::tests::batch;
    use crate::tables::{TABLES, Table};
    use crate::verdict::{InsertError, Verdict};

    /// A table in memory that deduplicates by token, refuses row 13, and fails as it is told.
    #[derive(Default)]
    struct Memory {
        rows: Mutex<Vec<u8>>,
        tokens: Mutex<BTreeMap<String, Vec<u8>>>,
        /// Answers to the next inserts; `true`: the rows are stored nevertheless.
        failures: Mutex<Vec<(InsertError, bool)>>,
        inserts: Mutex<usize>,
        max_rows: Option<usize>,
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
        async fn insert(&self, _: &Destination, token: &str, body: &[u8]) -> Result<(), InsertError> {
            *self.inserts.lock().unwrap() += 1;
            let rows = &body[1..];
            let failure = self.failures.lock().unwrap().pop();
            if let Some((error, stored)) = failure {
                if stored {
                    self.store(token, rows);
                }
                return Err(error);
            }
            if self.max_rows.is_some_and(|max| rows.len() > max) {
                return Err(error(Verdict::Split));
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
        InsertError { verdict, code: None, message: format!("{verdict:?}") }
    }

    const POLICY: Policy = Policy {
        max_months: 2,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(1),
        max_refused: 3,
    };

    fn destination() -> Destination {
        Destination { table: TABLES[0], topic: "rows".to_owned(), statement: String::new(), header: vec![b'h'] }
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
}
