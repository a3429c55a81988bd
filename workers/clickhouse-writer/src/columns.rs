//! Whether a table has the columns that rows need.

use crate::tables::Table;

/// A column of a table of the database: name and type.
pub type Found = (String, String);

/// The columns to send, with the types that the server has for them.
///
/// # Errors
/// Everything that does not fit.
pub fn fit<'a>(
    table: &'static Table,
    database: &str,
    found: &'a [Found],
) -> Result<Vec<(&'static str, &'a str)>, String> {
    let name = format!("{database}.{}", table.name);
    if found.is_empty() {
        return Err(format!("table {name} does not exist: create it with clickhouse-writer --apply-ddl"));
    }
    let mut columns = Vec::new();
    let mut problems = Vec::new();
    for column in table.columns {
        let accepted = column.kind.accepted_types();
        match found.iter().find(|(name, _)| name == column.name) {
            Some((_, type_name)) if accepted.contains(&type_name.as_str()) => {
                columns.push((column.name, type_name.as_str()));
            }
            Some((_, type_name)) => {
                problems.push(format!("{} is {type_name}, not {}", column.name, accepted.join(" or ")));
            }
            None => problems.push(format!("{} ({}) is missing", column.name, accepted.join(" or "))),
        }
    }
    if problems.is_empty() {
        return Ok(columns);
    }
    Err(format!(
        "table {name} does not fit: {}; alter it, or rename it and create it again with clickhouse-writer --apply-ddl",
        problems.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::{Found, fit};
    use crate::tables::TABLES;

    fn all() -> Vec<Found> {
        let columns = TABLES[1].columns.iter();
        columns.map(|column| (column.name.to_owned(), column.kind.accepted_types()[0].to_owned())).collect()
    }

    #[test]
    fn a_table_with_all_columns_and_more_fits() {
        let mut found = all();
        found.push(("inserted_at".to_owned(), "DateTime64(3, 'UTC')".to_owned()));
        assert_eq!(fit(TABLES[1], "recwatch", &found).unwrap().len(), TABLES[1].columns.len());
    }

    #[test]
    fn everything_that_does_not_fit_is_reported_at_once() {
        let mut found = all();
        found.retain(|(name, _)| name != "band");
        for (name, type_name) in &mut found {
            if name == "events" {
                *type_name = "Int64".to_owned();
            }
        }
        let problems = fit(TABLES[1], "recwatch", &found).unwrap_err();
        for part in ["recwatch.session_freshness", "events is Int64, not UInt64", "band (String", "is missing"] {
            assert!(problems.contains(part), "{part} in {problems}");
        }
        assert!(fit(TABLES[1], "recwatch", &[]).unwrap_err().contains("--apply-ddl"));
    }
}
