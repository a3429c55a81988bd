//! Parses Avro schemas in bounded time, depth and memory.
//!
//! Whoever may write to a topic may register a schema, so its text is input like a record's bytes. `serde_avro_fast` decodes by
//! schemas that are built here, since its own parser takes a time exponential in the nesting of records and follows names into
//! the depth, and since it refuses attributes that Avro says to ignore: logical types that are not valid, among others.

use std::collections::HashMap;

use serde_avro_fast::schema::{
    Array, Enum, Fixed, LogicalType, Map, Name, Record, RecordField, RegularType, SchemaKey, SchemaMut, SchemaNode,
    Union, UnknownLogicalType,
};
use serde_json::{Map as Object, Value};

/// Bytes that a schema's text has at most, those that it refers to each apart.
pub(crate) const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// Types that a schema mentions at most, those that it refers to included.
pub(crate) const MAX_TYPES: usize = 10_000;

/// Bytes that a name with its namespace has at most.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// The logical types of times, with the type that each is valid for. Others change nothing of what is read.
const TIMES: [(&str, Underlying); 9] = [
    ("date", Underlying::Int),
    ("time-millis", Underlying::Int),
    ("time-micros", Underlying::Long),
    ("timestamp-millis", Underlying::Long),
    ("timestamp-micros", Underlying::Long),
    ("timestamp-nanos", Underlying::Long),
    ("local-timestamp-millis", Underlying::Long),
    ("local-timestamp-micros", Underlying::Long),
    ("local-timestamp-nanos", Underlying::Long),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Underlying {
    Int,
    Long,
}

/// Parses a schema, whose named types may also be those of `references`. What is not there to be decoded with is left out:
/// documentation, defaults, and all logical types but those of times where they are valid.
///
/// # Errors
/// What is wrong with it, or which bound it exceeds.
pub(crate) fn parse(text: &str, references: &[impl AsRef<str>]) -> Result<SchemaMut, String> {
    let mut parser = Parser::default();
    let root = value(text)?;
    parser.type_(&root, None)?;
    for reference in references {
        parser.type_(&value(reference.as_ref())?, None)?;
    }
    parser.resolved().map(SchemaMut::from_nodes)
}

/// The text as JSON, whose depth `serde_json` bounds.
fn value(text: &str) -> Result<Value, String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("it has {} bytes, more than {MAX_TEXT_BYTES}", text.len()));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Parser {
    nodes: Vec<SchemaNode>,
    mentioned: usize,
    /// The named types by full name.
    names: HashMap<String, SchemaKey>,
    /// Names that were mentioned before they were defined, in the order of their placeholders: as they are in the namespace that they
    /// stand in, and in none.
    unresolved: Vec<(String, String)>,
}

/// Keys from here on stand for the unresolved names.
const PLACEHOLDERS: usize = usize::MAX / 2;

impl Parser {
    fn type_(&mut self, schema: &Value, namespace: Option<&str>) -> Result<SchemaKey, String> {
        self.mentioned += 1;
        if self.mentioned > MAX_TYPES {
            return Err(format!("it mentions more than {MAX_TYPES} types"));
        }
        match schema {
            Value::String(name) => match primitive(name) {
                Some(type_) => Ok(self.push(type_.into())),
                None => self.reference(name, namespace),
            },
            Value::Array(variants) => {
                let key = self.push(RegularType::Null.into());
                let variants = variants.iter().map(|variant| self.type_(variant, namespace));
                let union = Union::new(variants.collect::<Result<_, _>>()?);
                Ok(self.set(key, union.into()))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => self.object(object, name, namespace),
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.type_(inner, namespace),
                _ => Err("a type has no \"type\"".to_owned()),
            },
            _ => Err("a type is neither a text, nor a list, nor an object".to_owned()),
        }
    }

    fn object(
        &mut self,
        object: &Object<String, Value>,
        type_: &str,
        namespace: Option<&str>,
    ) -> Result<SchemaKey, String> {
        if let Some(primitive) = primitive(type_) {
            let logical_type = time(object, &primitive);
            let key = self.push(primitive.into());
            self.nodes[key.idx()].logical_type = logical_type;
            return Ok(key);
        }
        let key = match type_ {
            "array" | "map" | "record" | "error" | "enum" | "fixed" => self.push(RegularType::Null.into()),
            name => return self.reference(name, namespace),
        };
        let node = match type_ {
            "array" => Array::new(self.type_(attribute(object, "items", type_)?, namespace)?).into(),
            "map" => Map::new(self.type_(attribute(object, "values", type_)?, namespace)?).into(),
            "enum" => {
                let name = self.define(object, namespace, key)?;
                Enum::new(Name::from_fully_qualified_name(name), symbols(object)?).into()
            }
            "fixed" => {
                let name = self.define(object, namespace, key)?;
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| format!("fixed {name} has no \"size\" in bytes"))?;
                Fixed::new(Name::from_fully_qualified_name(name), size).into()
            }
            _ => {
                let name = self.define(object, namespace, key)?;
                let fields = self.fields(object, &name)?;
                Record::new(Name::from_fully_qualified_name(name), fields).into()
            }
        };
        Ok(self.set(key, node))
    }

    fn fields(&mut self, object: &Object<String, Value>, record: &str) -> Result<Vec<RecordField>, String> {
        let namespace = record.rsplit_once('.').map(|(namespace, _)| namespace);
        let fields = object.get("fields").and_then(Value::as_array);
        let fields = fields.ok_or_else(|| format!("record {record} has no list of \"fields\""))?;
        let mut parsed = Vec::with_capacity(fields.len());
        for field in fields {
            let name = field.get("name").and_then(Value::as_str);
            let name = name.ok_or_else(|| format!("a field of {record} has no \"name\""))?;
            let type_ = field.get("type").ok_or_else(|| format!("field {} has no \"type\"", within_name(name)))?;
            parsed.push(RecordField::new(within_name(name), self.type_(type_, namespace)?));
        }
        Ok(parsed)
    }

    /// Gives a named type its place, and returns its full name.
    fn define(
        &mut self,
        object: &Object<String, Value>,
        enclosing: Option<&str>,
        key: SchemaKey,
    ) -> Result<String, String> {
        let Some(name) = object.get("name").and_then(Value::as_str) else {
            return Err("a record, an enum or a fixed has no \"name\"".to_owned());
        };
        let namespace = object.get("namespace").and_then(Value::as_str).or(enclosing);
        let name = full_name(name, namespace)?;
        match self.names.insert(name.clone(), key) {
            None => Ok(name),
            Some(_) => Err(format!("{name} is defined twice")),
        }
    }

    fn reference(&mut self, name: &str, namespace: Option<&str>) -> Result<SchemaKey, String> {
        // a name without a dot is looked for in the namespace that it stands in, then without one
        let inside = full_name(name, namespace)?;
        let bare = full_name(name, None)?;
        if let Some(key) = self.names.get(&inside) {
            return Ok(*key);
        }
        self.unresolved.push((inside, bare));
        Ok(SchemaKey::from_idx(PLACEHOLDERS + self.unresolved.len() - 1))
    }

    /// The nodes, with what was mentioned before it was defined.
    fn resolved(mut self) -> Result<Vec<SchemaNode>, String> {
        let find = |(inside, bare): &(String, String)| {
            let found = self.names.get(inside).or_else(|| self.names.get(bare));
            found.copied().ok_or_else(|| format!("{inside} is defined nowhere"))
        };
        let keys = self.unresolved.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let resolve = |key: &mut SchemaKey| {
            if let Some(place) = key.idx().checked_sub(PLACEHOLDERS) {
                *key = keys[place];
            }
        };
        for node in &mut self.nodes {
            match &mut node.type_ {
                RegularType::Array(array) => resolve(&mut array.items),
                RegularType::Map(map) => resolve(&mut map.values),
                RegularType::Union(union) => union.variants.iter_mut().for_each(resolve),
                RegularType::Record(record) => record.fields.iter_mut().for_each(|field| resolve(&mut field.type_)),
                _ => {}
            }
        }
        Ok(self.nodes)
    }

    fn push(&mut self, node: SchemaNode) -> SchemaKey {
        self.nodes.push(node);
        SchemaKey::from_idx(self.nodes.len() - 1)
    }

    fn set(&mut self, key: SchemaKey, type_: RegularType) -> SchemaKey {
        self.nodes[key.idx()] = type_.into();
        key
    }
}

fn primitive(name: &str) -> Option<RegularType> {
    Some(match name {
        "null" => RegularType::Null,
        "boolean" => RegularType::Boolean,
        "int" => RegularType::Int,
        "long" => RegularType::Long,
        "float" => RegularType::Float,
        "double" => RegularType::Double,
        "bytes" => RegularType::Bytes,
        "string" => RegularType::String,
        _ => return None,
    })
}

/// The logical type, where it is that of a time and valid for the type.
fn time(object: &Object<String, Value>, type_: &RegularType) -> Option<LogicalType> {
    let underlying = match type_ {
        RegularType::Int => Underlying::Int,
        RegularType::Long => Underlying::Long,
        _ => return None,
    };
    let name = object.get("logicalType")?.as_str()?;
    TIMES.contains(&(name, underlying)).then(|| LogicalType::Unknown(UnknownLogicalType::new(name)))
}

fn attribute<'v>(object: &'v Object<String, Value>, name: &str, type_: &str) -> Result<&'v Value, String> {
    object.get(name).ok_or_else(|| format!("a type {type_} has no {name:?}"))
}

fn symbols(object: &Object<String, Value>) -> Result<Vec<String>, String> {
    let symbols = object.get("symbols").and_then(Value::as_array);
    let symbols = symbols.and_then(|symbols| symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned)).collect());
    symbols.ok_or_else(|| "an enum has no list of \"symbols\"".to_owned())
}

/// The full name of a type that is called `name` in `namespace`.
fn full_name(name: &str, namespace: Option<&str>) -> Result<String, String> {
    let namespace = namespace.filter(|namespace| !namespace.is_empty() && !name.contains('.'));
    let length = name.len() + namespace.map_or(0, |namespace| namespace.len() + 1);
    if length > MAX_NAME_BYTES {
        return Err(format!("the name {}… has {length} bytes, more than {MAX_NAME_BYTES}", within_name(name)));
    }
    Ok(match namespace {
        Some(namespace) => format!("{namespace}.{name}"),
        // a leading dot says that there is no namespace
        None => name.strip_prefix('.').unwrap_or(name).to_owned(),
    })
}

/// As much of a field's name as is told apart and shown.
fn within_name(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}
