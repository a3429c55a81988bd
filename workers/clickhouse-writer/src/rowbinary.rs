//! ClickHouse's RowBinary: values one after the other, in the order of the columns, without names.
//!
//! Rows are encoded once, when they arrive; a batch that is sent again is the same bytes. In front of a batch stands
//! the header of `RowBinaryWithNamesAndTypes`, so that a table altered while the writer runs is an error of the
//! server instead of shifted columns.

/// Appends values to a row.
#[derive(Debug)]
pub struct RowWriter<'a>(&'a mut Vec<u8>);

impl<'a> RowWriter<'a> {
    /// Appends to `into`.
    pub fn new(into: &'a mut Vec<u8>) -> Self {
        Self(into)
    }

    /// `String` or `LowCardinality(String)`.
    pub fn text(&mut self, value: &str) -> &mut Self {
        variable_length(self.0, value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    /// `DateTime64(3, 'UTC')`, from milliseconds since the epoch.
    pub fn time(&mut self, epoch_millis: i64) -> &mut Self {
        self.0.extend_from_slice(&epoch_millis.to_le_bytes());
        self
    }

    /// `UInt64`.
    pub fn count(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// `Float64`.
    pub fn float(&mut self, value: f64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// `Bool`.
    pub fn flag(&mut self, value: bool) -> &mut Self {
        self.0.push(u8::from(value));
        self
    }

    /// The number of elements of an array, or of pairs of a map; these follow, one after the other.
    pub fn length(&mut self, count: usize) -> &mut Self {
        variable_length(self.0, count as u64);
        self
    }

    /// `Nullable(String)`.
    pub fn optional_text(&mut self, value: Option<&str>) -> &mut Self {
        self.0.push(u8::from(value.is_none()));
        if let Some(value) = value {
            self.text(value);
        }
        self
    }

    /// `Nullable(Float64)`: one byte says whether it is null, and nothing follows where it is.
    pub fn optional_float(&mut self, value: Option<f64>) -> &mut Self {
        match value {
            None => self.0.push(1),
            Some(value) => {
                self.0.push(0);
                self.float(value);
            }
        }
        self
    }
}

/// Writes the header of `RowBinaryWithNamesAndTypes`: the number of columns, their names, their types.
pub fn header<'a>(columns: impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone) -> Vec<u8> {
    let mut bytes = Vec::new();
    variable_length(&mut bytes, columns.len() as u64);
    let mut writer = RowWriter::new(&mut bytes);
    for (name, _) in columns.clone() {
        writer.text(name);
    }
    for (_, type_name) in columns {
        writer.text(type_name);
    }
    bytes
}

/// LEB128, as ClickHouse writes lengths.
fn variable_length(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::{RowWriter, header};

    #[test]
    fn values_are_written_as_clickhouse_documents_them() {
        let mut bytes = Vec::new();
        RowWriter::new(&mut bytes)
            .text("né")
            .time(1)
            .count(2)
            .float(0.5)
            .optional_float(None)
            .optional_float(Some(0.0))
            .flag(true)
            .length(1)
            .text("k")
            .optional_text(Some("v"))
            .optional_text(None);
        let expected: Vec<u8> = [
            &[3, b'n', 0xc3, 0xa9][..],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0xe0, 0x3f],
            &[1],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1],
            &[1, 1, b'k', 0, 1, b'v', 1],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_text_of_200_bytes_has_a_length_of_two_bytes() {
        let mut bytes = Vec::new();
        RowWriter::new(&mut bytes).text(&"x".repeat(200));
        assert_eq!(bytes[..3], [0xc8, 0x01, b'x']);
        assert_eq!(bytes.len(), 202);
    }

    #[test]
    fn the_header_lists_names_then_types() {
        let bytes = header([("a", "UInt64"), ("b", "String")].into_iter());
        assert_eq!(bytes, b"\x02\x01a\x01b\x06UInt64\x06String");
    }
}
