//! The DDL of `schemas/clickhouse`, embedded, and how it is applied. Every statement may be run again.

use anyhow::Context as _;
use service::Shutdown;

use crate::server::Server;

/// File names and texts, in the order in which they are applied.
pub const FILES: &[(&str, &str)] = &[
    ("00_database.sql", include_str!("../../../schemas/clickhouse/00_database.sql")),
    ("10_session_entropy.sql", include_str!("../../../schemas/clickhouse/10_session_entropy.sql")),
    ("11_session_entropy_final.sql", include_str!("../../../schemas/clickhouse/11_session_entropy_final.sql")),
    ("20_session_freshness.sql", include_str!("../../../schemas/clickhouse/20_session_freshness.sql")),
    ("21_session_freshness_final.sql", include_str!("../../../schemas/clickhouse/21_session_freshness_final.sql")),
    ("30_domain_drift.sql", include_str!("../../../schemas/clickhouse/30_domain_drift.sql")),
    ("31_domain_drift_final.sql", include_str!("../../../schemas/clickhouse/31_domain_drift_final.sql")),
    ("40_cosine_decay.sql", include_str!("../../../schemas/clickhouse/40_cosine_decay.sql")),
    ("41_cosine_decay_final.sql", include_str!("../../../schemas/clickhouse/41_cosine_decay_final.sql")),
    ("50_decay_rate.sql", include_str!("../../../schemas/clickhouse/50_decay_rate.sql")),
    ("51_decay_rate_final.sql", include_str!("../../../schemas/clickhouse/51_decay_rate_final.sql")),
    ("60_retrain_requests.sql", include_str!("../../../schemas/clickhouse/60_retrain_requests.sql")),
    ("61_retrain_requests_final.sql", include_str!("../../../schemas/clickhouse/61_retrain_requests_final.sql")),
    ("70_alerts.sql", include_str!("../../../schemas/clickhouse/70_alerts.sql")),
    ("71_alerts_final.sql", include_str!("../../../schemas/clickhouse/71_alerts_final.sql")),
    ("72_alerts_firing.sql", include_str!("../../../schemas/clickhouse/72_alerts_firing.sql")),
];

/// Creates what is missing; false where the end was asked for first.
///
/// # Errors
/// What ClickHouse says to the first statement that it refuses, and the statement's file; or what is missing afterwards.
pub async fn apply(server: &Server, shutdown: &Shutdown) -> anyhow::Result<bool> {
    for (name, text) in FILES {
        for statement in statements(text, server.database()) {
            let applied = server.until_answered(shutdown, async || server.execute(&statement).await).await;
            if applied.with_context(|| format!("{name} is refused"))?.is_none() {
                return Ok(false);
            }
        }
        tracing::info!(file = name, database = server.database(), "applied");
    }
    let Some(found) = server.until_answered(shutdown, async || server.tables().await).await? else {
        return Ok(false);
    };
    let missing: Vec<&str> = created().filter(|name| !found.iter().any(|found| found == name)).collect();
    anyhow::ensure!(
        missing.is_empty(),
        "every statement was answered, but {} has no {}: something between here and ClickHouse answers in its place",
        server.database(),
        missing.join(", ")
    );
    Ok(true)
}

/// The names of tables and views, which their files are named after.
fn created() -> impl Iterator<Item = &'static str> {
    FILES
        .iter()
        .filter_map(|(name, _)| name.strip_suffix(".sql")?.split_once('_'))
        .filter(|(number, _)| *number != "00")
        .map(|(_, name)| name)
}

/// The statements of a file: a `;` at the end of a line ends one. The files say `recwatch` for the database.
fn statements(text: &str, database: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    for line in text.lines().filter(|line| !line.starts_with("--")) {
        statement.push_str(line);
        statement.push('\n');
        if line.trim_end().ends_with(';') {
            let whole = std::mem::take(&mut statement);
            statements.push(whole.trim().trim_end_matches(';').to_owned());
        }
    }
    if !statement.trim().is_empty() {
        statements.push(statement.trim().to_owned());
    }
    if database != "recwatch" {
        for statement in &mut statements {
            *statement = statement
                .replace("recwatch.", &format!("{database}."))
                .replace("EXISTS recwatch", &format!("EXISTS {database}"));
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{FILES, statements};
    use crate::tables::{Kind, TABLES};

    #[test]
    fn every_file_of_the_folder_is_applied_in_the_order_of_the_names() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/clickhouse");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sql"))
            .collect();
        names.sort();
        assert_eq!(names, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    #[test]
    fn each_file_is_one_statement_that_may_be_run_again() {
        for (name, text) in FILES {
            let statements = statements(text, "recwatch");
            assert_eq!(statements.len(), 1, "{name}");
            let again = statements[0].contains("IF NOT EXISTS") || statements[0].contains("CREATE OR REPLACE");
            assert!(again && !statements[0].contains(';'), "{name}");
        }
    }

    #[test]
    fn another_database_takes_every_place_of_the_name() {
        for (name, text) in FILES {
            for statement in statements(text, "other") {
                assert!(!statement.contains("recwatch"), "{name}: {statement}");
            }
        }
    }

    /// Columns of the table's DDL, as (name, type), in order.
    fn columns_of_ddl(table: &str) -> Vec<(String, String)> {
        let file = FILES.iter().find(|(name, _)| name.ends_with(&format!("_{table}.sql"))).unwrap();
        let statement = statements(file.1, "recwatch").remove(0);
        let body = statement.split_once("\n(\n").unwrap().1.split_once("\n)\n").unwrap().0;
        body.lines()
            .map(|line| {
                let (name, rest) = line.trim().split_once(' ').unwrap();
                let rest = rest.trim_start();
                let end = [" CODEC", " DEFAULT", " COMMENT", ","].iter().filter_map(|word| {
                    // the comma inside DateTime64(3, 'UTC') ends nothing
                    rest.match_indices(word)
                        .map(|(at, _)| at)
                        .find(|at| rest[..*at].matches('(').count() == rest[..*at].matches(')').count())
                });
                let type_name = rest[..end.min().unwrap_or(rest.len())].trim();
                (name.to_owned(), type_name.to_owned())
            })
            .collect()
    }

    #[test]
    fn the_ddl_has_each_column_that_is_sent_in_a_type_that_takes_it_and_only_inserted_at_besides() {
        for table in TABLES {
            let ddl: BTreeMap<String, String> = columns_of_ddl(table.name).into_iter().collect();
            for column in table.columns {
                let type_name = ddl.get(column.name).unwrap_or_else(|| panic!("{}.{}", table.name, column.name));
                assert!(column.kind.accepted_types().contains(&type_name.as_str()), "{}: {type_name}", column.name);
            }
            assert_eq!(ddl.len(), table.columns.len() + 1, "{}", table.name);
            assert_eq!(ddl["inserted_at"], "DateTime64(3, 'UTC')");
        }
    }

    /// The Avro schema of a table's rows is the one whose name in snake case is the table's, or its singular.
    fn avro_fields(table: &str) -> BTreeMap<String, Kind> {
        let name: String = table.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        let (_, text) = records::SCHEMAS
            .iter()
            .find(|(schema, _)| [*schema, &format!("{schema}s")].contains(&name.as_str()))
            .unwrap();
        let schema: serde_json::Value = serde_json::from_str(text).unwrap();
        let kind = |field: &serde_json::Value| match &field["type"] {
            serde_json::Value::String(name) if name == "string" => Kind::Text,
            serde_json::Value::String(name) if name == "long" => Kind::Count,
            serde_json::Value::String(name) if name == "double" => Kind::Float,
            serde_json::Value::String(name) if name == "boolean" => Kind::Flag,
            serde_json::Value::Array(union) if union[0] == "null" && union[1] == "double" => Kind::OptionalFloat,
            serde_json::Value::Object(logical)
                if logical.get("logicalType").is_some_and(|it| it == "timestamp-millis") =>
            {
                Kind::Time
            }
            serde_json::Value::Array(union) if union[0] == "null" && union[1] == "string" => Kind::OptionalText,
            serde_json::Value::Object(state) if state["type"] == "enum" => Kind::Text,
            serde_json::Value::Object(list) if list["items"]["name"] == "AlertLabel" => Kind::TextMap,
            serde_json::Value::Object(list) if list["items"]["name"] == "AlertSamples" => Kind::CountMap,
            serde_json::Value::Object(list) if list["items"]["name"] == "AlertAttribution" => Kind::Shares,
            other => panic!("{other}"),
        };
        let fields = schema["fields"].as_array().unwrap();
        fields.iter().map(|field| (field["name"].as_str().unwrap().to_owned(), kind(field))).collect()
    }

    #[test]
    fn the_columns_that_are_sent_are_the_fields_of_the_avro_schema() {
        for table in TABLES {
            let sent: BTreeMap<String, Kind> =
                table.columns.iter().map(|column| (column.name.to_owned(), column.kind)).collect();
            assert_eq!(sent, avro_fields(table.name), "{}", table.name);
        }
    }

    /// What identifies a row.
    fn identity(table: &str) -> &'static [&'static str] {
        match table {
            "session_entropy" | "cosine_decay" => &[
                "window_start",
                "window_end",
                "domain",
                "surface",
                "user_segment",
                "rec_strategy",
                "ab_group",
                "item_type",
            ],
            "session_freshness" => &[
                "window_start",
                "window_end",
                "domain",
                "surface",
                "user_segment",
                "rec_strategy",
                "ab_group",
                "item_type",
                "session_id",
            ],
            "domain_drift" => &["window_start", "window_end", "kind", "sources", "target"],
            "decay_rate" => &["window_start", "window_end", "domain"],
            "retrain_requests" => &["event_time", "item_id"],
            "alerts" => &["window_end", "alert_id", "sequence"],
            other => panic!("what identifies a row of {other}?"),
        }
    }

    #[test]
    fn the_sorting_key_is_what_identifies_a_row() {
        for table in TABLES {
            let file = FILES.iter().find(|(name, _)| name.ends_with(&format!("_{}.sql", table.name))).unwrap();
            let key = file.1.split_once("ORDER BY (").unwrap().1.split_once(')').unwrap().0;
            let key: Vec<&str> = key.split(", ").collect();
            assert_eq!(key, identity(table.name), "{}", table.name);
        }
    }
}
