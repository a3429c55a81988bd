//! Writer's schemas out of a fuzzer's decisions.

use serde_json::{Value, json};

use crate::input::Input;

const SIZES: [usize; 5] = [0, 0, 1, 3, 16];

const SYMBOLS: [&str; 3] = ["A", "B", "C"];

/// Types inside one another at most.
const DEPTH: usize = 5;

/// Makes types; named ones may be mentioned again.
#[derive(Default)]
pub(crate) struct Schemas {
    names: Vec<String>,
}

impl Schemas {
    /// A type: ordinary ones, such that take no bytes, such that mention others and themselves, such with attributes that say nothing.
    pub(crate) fn type_(&mut self, input: &mut Input<'_>, depth: usize) -> Value {
        if depth >= DEPTH {
            return "null".into();
        }
        match input.below(16) {
            0 | 1 => "null".into(),
            2 => "long".into(),
            3 => "string".into(),
            4 => ["boolean", "int", "float", "double", "bytes"][input.below(5)].into(),
            5 | 6 => json!({"type": "array", "items": self.type_(input, depth + 1)}),
            7 => json!({"type": "map", "values": self.type_(input, depth + 1)}),
            8 => (0..input.below(4)).map(|_| self.type_(input, depth + 1)).collect(),
            9..=11 => self.record(input, depth),
            12 => json!({"type": "fixed", "name": self.name(), "size": SIZES[input.below(5)]}),
            13 => json!({"type": "enum", "name": self.name(), "symbols": SYMBOLS[..input.below(4)]}),
            14 => match self.names.len() {
                0 => "null".into(),
                known => self.names[input.below(known)].clone().into(),
            },
            _ => {
                let logical =
                    ["decimal", "timestamp-millis", "timestamp-micros", "duration", "uuid", "date", "no-such-type"];
                let type_ = ["int", "long", "string", "bytes"][input.below(4)];
                json!({"type": type_, "logicalType": logical[input.below(7)], "scale": -1, "size": "?"})
            }
        }
    }

    fn record(&mut self, input: &mut Input<'_>, depth: usize) -> Value {
        let name = self.name();
        let fields = (0..input.below(6))
            .map(|number| json!({"name": format!("f{number}"), "type": self.type_(input, depth + 1)}))
            .collect::<Vec<_>>();
        json!({"type": "record", "name": name, "fields": fields})
    }

    fn name(&mut self) -> String {
        let name = format!("N{}", self.names.len());
        self.names.push(name.clone());
        name
    }
}
