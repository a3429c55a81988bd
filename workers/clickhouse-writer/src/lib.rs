//! clickhouse-writer: reads the row topics of recwatch and inserts them into ClickHouse, each row once.
//!
//! ```text
//! source ──▶ lane (decode, batch) ──▶ deliver (insert, retry, split, bisect) ──▶ dead letters ──▶ commit
//! ```
//!
//! A lane is one table and its topic. Offsets are committed only when ClickHouse has acknowledged every row below them;
//! what ClickHouse is told twice is one row, by its deduplication token and by the table's key.
//!
//! Rights that it needs:
//! - Kafka: Read on the row topics and on the group `recwatch.clickhouse-writer`; Describe, DescribeConfigs and Write on
//!   the dead letters' topic (DescribeConfigs also on the row topics; without it, their cleanup policies are not
//!   checked). `--create-topics`: Create on these topics. `--reset-state`: Delete on the group.
//! - ClickHouse: `INSERT` and `SHOW COLUMNS` on the tables; `SELECT`, where a proxy takes the headers from ClickHouse's
//!   answers, so that rows have to be read back. `--apply-ddl`: `CREATE DATABASE`, and on the database
//!   `CREATE TABLE`, `CREATE VIEW`, `DROP VIEW`, `SELECT`.
//! - Schema registry: Read on the subjects of the row topics.

pub mod answer;
pub mod batch;
pub mod codes;
pub mod columns;
mod commits;
pub mod config;
pub mod ddl;
pub mod dead_letters;
pub mod deliver;
pub mod http;
pub mod lane;
pub mod lz4;
pub mod metrics;
pub mod month;
pub mod piece;
pub mod read_back;
pub mod rowbinary;
pub mod server;
pub mod source;
pub mod tables;
pub mod topics;
pub mod verdict;
mod waiting;
pub mod worker;
