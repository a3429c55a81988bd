//! Every example of `schemas/` becomes a row that ClickHouse would read back as the example.

use std::fs;
use std::path::Path;

use apache_avro::types::Value as AvroValue;
use apache_avro::writer::datum::GenericDatumWriter;
use clickhouse_writer::tables::{Kind, TABLES, Table};
use records::{FixedSchemas, SCHEMAS, wire};
use serde_json::{Map, Value};

const ID: i32 = 7;

/// Name and text of the schema of a table's rows: the one whose topic its documentation names.
fn schema(table: &Table) -> (&'static str, &'static str) {
    *SCHEMAS.iter().find(|(_, text)| text.contains(&format!("Topic {},", table.topic))).unwrap()
}

/// RowBinary to JSON, as far as [`Kind`] goes.
fn read_row(table: &Table, mut bytes: &[u8]) -> Value {
    let row: Map<String, Value> =
        table.columns.iter().map(|column| (column.name.to_owned(), read(column.kind, &mut bytes))).collect();
    assert!(bytes.is_empty(), "{}: {} bytes too many", table.name, bytes.len());
    Value::Object(row)
}

fn read(kind: Kind, bytes: &mut &[u8]) -> Value {
    match kind {
        Kind::Text => {
            let length = usize::from(take::<1>(bytes)[0]);
            assert!(length < 0x80, "no example has a text this long");
            let (text, rest) = bytes.split_at(length);
            *bytes = rest;
            String::from_utf8(text.to_vec()).unwrap().into()
        }
        Kind::Time => i64::from_le_bytes(take(bytes)).into(),
        Kind::Count => u64::from_le_bytes(take(bytes)).into(),
        Kind::Float => f64::from_le_bytes(take(bytes)).into(),
        Kind::OptionalFloat if take::<1>(bytes)[0] == 1 => Value::Null,
        Kind::OptionalFloat => read(Kind::Float, bytes),
        Kind::Flag => (take::<1>(bytes)[0] == 1).into(),
        Kind::OptionalText if take::<1>(bytes)[0] == 1 => Value::Null,
        Kind::OptionalText => read(Kind::Text, bytes),
        Kind::TextMap => read_list(&[("name", Kind::Text), ("value", Kind::Text)], bytes),
        Kind::CountMap => read_list(&[("name", Kind::Text), ("count", Kind::Count)], bytes),
        Kind::Shares => {
            let fields =
                [("dimensions", Kind::Text), ("values", Kind::Text), ("share", Kind::Float), ("entropy", Kind::Float)];
            read_list(&fields, bytes)
        }
    }
}

fn read_list(fields: &[(&str, Kind)], bytes: &mut &[u8]) -> Value {
    let length = take::<1>(bytes)[0];
    let mut read_one = || fields.iter().map(|(name, kind)| ((*name).to_owned(), read(*kind, bytes))).collect();
    (0..length).map(|_| Value::Object(read_one())).collect()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (taken, rest) = bytes.split_first_chunk().unwrap();
    *bytes = rest;
    *taken
}

#[test]
fn every_example_is_a_row_of_its_table() {
    for table in TABLES {
        let (name, text) = schema(table);
        let avro = apache_avro::Schema::parse_str(text).unwrap();
        let mut decoder = (table.decoder)(Box::new(FixedSchemas::default().with(ID, text)));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/examples").join(name);
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let json: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
            let value = AvroValue::try_from(json.clone()).unwrap().resolve(&avro).unwrap();
            let datum = GenericDatumWriter::builder(&avro).build().unwrap().write_value_to_vec(value).unwrap();
            let record = [wire::header(ID).as_slice(), &datum].concat();

            let mut row = Vec::new();
            let time = decoder.decode(None, Some(&record), &mut row).unwrap();
            assert_eq!(read_row(table, &row), json, "{}", file.display());
            let expected = json.get("window_end").unwrap_or_else(|| &json["event_time"]);
            assert_eq!(Value::from(time), *expected, "{}", file.display());
        }
    }
}
