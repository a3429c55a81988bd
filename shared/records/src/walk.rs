//! Bounds what a datum may cost by its bytes.
//!
//! Some values take no bytes: nulls, fixed of size 0, records of nothing else. A decoder visits them all the same, and a small
//! datum may hold any number of them: records nested in records are exponentially many, the elements of an array are as many as
//! it says. Everything else takes at least a byte when it is visited: also an array, a map, a union and an enum.
//!
//! So each schema is judged once. Nearly every one is *linear*: values that take no bytes stand only next to others that do, and
//! a datum of `n` bytes cannot cost more than [`budget`]`(n)` visits, whatever it holds. Where that is not sure, as with an array
//! of nulls, each datum is walked before it is decoded, and refused where it exceeds its budget. Where no datum could keep to
//! it, the schema is refused.

use serde_avro_fast::schema::{RegularType, SchemaKey, SchemaMut, SchemaNode};

use crate::datum::Datum;

/// Values that a datum may hold beside those that its bytes pay for.
pub(crate) const FREE_VISITS: usize = 1000;

/// Values that each byte of a datum pays for.
pub(crate) const VISITS_PER_BYTE: usize = 32;

/// Values without bytes that may stand beside each byte of a value, so that a schema is linear. With those that the bytes are of,
/// that is below [`VISITS_PER_BYTE`].
const FREE_PER_BYTE: usize = 16;

/// Depth to which data are decoded: records, arrays, maps and unions inside one another.
pub(crate) const MAX_DEPTH: usize = 64;

/// Depth of a schema, along names too, so that what recurses over it has a bounded stack.
const MAX_SCHEMA_DEPTH: usize = 200;

/// Values that a datum of so many bytes may hold.
pub(crate) fn budget(bytes: usize) -> usize {
    FREE_VISITS.saturating_add(bytes.saturating_mul(VISITS_PER_BYTE))
}

/// What decoding with a schema costs.
#[derive(Debug)]
pub(crate) enum Cost {
    /// Linear in a datum's bytes, whatever it holds.
    Linear,
    /// It depends: each datum is walked before it is decoded.
    Walked(Walk),
}

/// What a node costs without any union's, array's or map's content, which pay for themselves.
#[derive(Debug, Clone, Copy)]
struct Own {
    /// Visits that take no bytes, its own included.
    free: usize,
    /// Bytes that it takes at least.
    bytes: usize,
    /// Records inside one another.
    depth: usize,
}

impl Own {
    /// Whether its bytes pay for it, wherever and however often it stands.
    fn is_linear(self) -> bool {
        self.free <= FREE_PER_BYTE.saturating_mul(self.bytes.max(1))
    }
}

/// Judges a schema.
///
/// # Errors
/// Where no datum could be decoded within its budget, or the schema is too deep.
pub(crate) fn judge(schema: &SchemaMut) -> Result<Cost, String> {
    let nodes = schema.nodes();
    let mut owns = vec![None; nodes.len()];
    for key in 0..nodes.len() {
        own(nodes, SchemaKey::from_idx(key), 0, &mut owns)?;
    }
    let own = |key: SchemaKey| owns[key.idx()].unwrap_or(Own { free: 0, bytes: 1, depth: 0 });
    check_depth(nodes, SchemaKey::root(), 0, &mut vec![false; nodes.len()])?;
    let is_linear = nodes.iter().all(|node| match &node.type_ {
        // each element must bring a byte of its own; a map's has its key, a union's variant its index
        RegularType::Array(array) => own(array.items).bytes > 0 && own(array.items).is_linear(),
        RegularType::Map(map) => own(map.values).is_linear(),
        RegularType::Union(union) => union.variants.iter().all(|variant| own(*variant).is_linear()),
        _ => true,
    });
    Ok(if is_linear { Cost::Linear } else { Cost::Walked(Walk::new(schema)) })
}

/// Fills in what a node costs by itself. It recurses into records of records only, as deep as data may be.
fn own(nodes: &[SchemaNode], key: SchemaKey, depth: usize, owns: &mut [Option<Own>]) -> Result<Own, String> {
    if let Some(own) = owns[key.idx()] {
        return Ok(own);
    }
    let too_deep = || format!("its records are nested without end, or deeper than {MAX_DEPTH}");
    let takes = |bytes| Own { free: usize::from(bytes == 0), bytes, depth: 0 };
    let found = match &nodes[key.idx()].type_ {
        RegularType::Null => takes(0),
        RegularType::Float => takes(4),
        RegularType::Double => takes(8),
        RegularType::Fixed(fixed) => takes(fixed.size),
        RegularType::Record(record) => {
            if depth >= MAX_DEPTH {
                return Err(too_deep());
            }
            let mut sum = Own { free: 1, bytes: 0, depth: 1 };
            for field in &record.fields {
                let field = own(nodes, field.type_, depth + 1, owns)?;
                sum.free = sum.free.saturating_add(field.free);
                sum.bytes = sum.bytes.saturating_add(field.bytes);
                sum.depth = sum.depth.max(field.depth + 1);
            }
            if sum.free > FREE_VISITS {
                let name = record.name.fully_qualified_name();
                return Err(format!("record {name} has more than {FREE_VISITS} values that take no bytes"));
            }
            if sum.depth > MAX_DEPTH {
                return Err(too_deep());
            }
            sum
        }
        _ => takes(1),
    };
    owns[key.idx()] = Some(found);
    Ok(found)
}

/// Bounds the recursion of whatever visits each node once, in the order of mention.
fn check_depth(nodes: &[SchemaNode], key: SchemaKey, depth: usize, seen: &mut [bool]) -> Result<(), String> {
    if std::mem::replace(&mut seen[key.idx()], true) {
        return Ok(());
    }
    if depth >= MAX_SCHEMA_DEPTH {
        return Err(format!("its types lie deeper than {MAX_SCHEMA_DEPTH} inside one another"));
    }
    let mut inside = |key: SchemaKey| check_depth(nodes, key, depth + 1, seen);
    match &nodes[key.idx()].type_ {
        RegularType::Array(array) => inside(array.items),
        RegularType::Map(map) => inside(map.values),
        RegularType::Union(union) => union.variants.iter().try_for_each(|variant| inside(*variant)),
        RegularType::Record(record) => record.fields.iter().try_for_each(|field| inside(field.type_)),
        _ => Ok(()),
    }
}

/// Walks data before they are decoded.
#[derive(Debug)]
pub(crate) struct Walk(Vec<SchemaNode>);

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walked {
    /// At the end of the datum, or where it is no datum: a decoder finds that in as many visits.
    Within(usize),
    /// The budget was not enough.
    Beyond,
    /// A block has another length than it says, so that who passes over it reads something else than who reads it.
    Block,
}

impl Walk {
    /// Over the data of a schema that [`judge`] has not refused.
    pub(crate) fn new(schema: &SchemaMut) -> Self {
        Self(schema.nodes().to_vec())
    }

    /// Walks a datum, in at most [`budget`] visits.
    pub(crate) fn walk(&self, datum: &[u8]) -> Walked {
        let budget = budget(datum.len());
        let mut state = Walking { nodes: &self.0, datum: Datum::new(datum), left: budget };
        match state.visit(SchemaKey::root(), MAX_DEPTH) {
            Ok(()) | Err(Stop::NoDatum) => Walked::Within(budget - state.left),
            Err(Stop::Beyond) => Walked::Beyond,
            Err(Stop::Block) => Walked::Block,
        }
    }
}

struct Walking<'w, 'd> {
    nodes: &'w [SchemaNode],
    datum: Datum<'d>,
    left: usize,
}

enum Stop {
    NoDatum,
    Beyond,
    Block,
}

impl Walking<'_, '_> {
    fn visit(&mut self, key: SchemaKey, depth: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(1).ok_or(Stop::Beyond)?;
        let inside = || depth.checked_sub(1).ok_or(Stop::NoDatum);
        let nodes = self.nodes;
        match &nodes[key.idx()].type_ {
            RegularType::Null => Ok(()),
            RegularType::Boolean => self.pass(1),
            RegularType::Int | RegularType::Long | RegularType::Enum(_) => self.long().map(drop),
            RegularType::Float => self.pass(4),
            RegularType::Double => self.pass(8),
            RegularType::Fixed(fixed) => self.pass(fixed.size),
            RegularType::Bytes | RegularType::String => self.pass_text(),
            RegularType::Array(array) => {
                let inside = inside()?;
                self.blocks(|walking| walking.visit(array.items, inside))
            }
            RegularType::Map(map) => {
                let inside = inside()?;
                self.blocks(|walking| {
                    walking.pass_text()?;
                    walking.visit(map.values, inside)
                })
            }
            RegularType::Union(union) => {
                let variant = usize::try_from(self.long()?).ok().and_then(|index| union.variants.get(index));
                self.visit(*variant.ok_or(Stop::NoDatum)?, inside()?)
            }
            RegularType::Record(record) => {
                let inside = inside()?;
                record.fields.iter().try_for_each(|field| self.visit(field.type_, inside))
            }
        }
    }

    fn blocks(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), Stop>) -> Result<(), Stop> {
        loop {
            let count = self.long()?;
            let end = match count {
                0 => return Ok(()),
                1.. => None,
                // the block's length in bytes comes first
                _ => {
                    let bytes = usize::try_from(self.long()?).map_err(|_| Stop::Block)?;
                    Some(self.datum.len().checked_sub(bytes).ok_or(Stop::Block)?)
                }
            };
            for _ in 0..count.unsigned_abs() {
                element(self)?;
            }
            if end.is_some_and(|end| end != self.datum.len()) {
                return Err(Stop::Block);
            }
        }
    }

    fn long(&mut self) -> Result<i64, Stop> {
        self.datum.any_long().ok_or(Stop::NoDatum)
    }

    fn pass(&mut self, bytes: usize) -> Result<(), Stop> {
        self.datum.pass(bytes).ok_or(Stop::NoDatum)
    }

    fn pass_text(&mut self) -> Result<(), Stop> {
        let bytes = usize::try_from(self.long()?).map_err(|_| Stop::NoDatum)?;
        self.pass(bytes)
    }
}
