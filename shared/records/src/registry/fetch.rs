//! A schema with all that it refers to, out of as many answers as it takes.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::client::Client;
use super::http::{self, Answer, Failure, Request};
use crate::lookup::{RegisteredSchema, SchemaKind, SchemaRef};

/// Confluent's codes: no such schema, subject, version.
const NO_SCHEMA: i64 = 40_403;
const NO_SUBJECT: i64 = 40_401;
const NO_VERSION: i64 = 40_402;

/// Schemas that one schema may refer to in all, how deep, and the bytes of all of them.
const MAX_REFERENCES: usize = 64;
const MAX_DEPTH: usize = 16;
const MAX_BYTES: usize = 1024 * 1024;

/// What is known about a schema after one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Found(RegisteredSchema),
    /// The registry does not know it, or not all that it refers to: it may later.
    Unknown(String),
    /// The registry has it, and nobody can read it.
    Unusable(String),
    /// Nothing.
    Unavailable(String),
}

/// Asks for a schema and everything that it refers to.
pub(super) async fn fetch(client: &Client, schema: SchemaRef) -> Outcome {
    let result = match schema {
        SchemaRef::Id(id) => ask(client, format!("/schemas/ids/{id}"), &[NO_SCHEMA]).await,
        SchemaRef::Guid(_) => ask_guid(client, schema).await,
    };
    match result {
        Ok(described) => match resolve(client, described).await {
            Ok(found) => Outcome::Found(found),
            Err(outcome) => outcome,
        },
        Err(outcome) => outcome,
    }
}

/// A schema as one answer describes it.
struct Described {
    kind: SchemaKind,
    text: Arc<str>,
    references: Vec<Reference>,
}

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Reference {
    subject: String,
    version: String,
}

async fn ask(client: &Client, path: String, unknown_codes: &[i64]) -> Result<Described, Outcome> {
    let answer = client.ask(&Request::get(path.clone())).await;
    describe(client, &path, unknown_codes, answer)
}

fn describe(
    client: &Client,
    path: &str,
    unknown_codes: &[i64],
    answer: Result<Answer, Failure>,
) -> Result<Described, Outcome> {
    match answer {
        Ok(Answer::Ok(body)) => Described::of(&body)
            .ok_or_else(|| Outcome::Unavailable(format!("{} answers GET {path} without a schema", client.url()))),
        Ok(Answer::NotFound { code, message }) if unknown_codes.contains(&code) => {
            Err(Outcome::Unknown(format!("GET {path}: {message}")))
        }
        Ok(Answer::NotFound { message, .. } | Answer::Refused(message)) => {
            Err(Outcome::Unavailable(format!("{} refuses GET {path}: {message}", client.url())))
        }
        Err(failure) => Err(Outcome::Unavailable(failure.message().to_owned())),
    }
}

/// Older registries have no GUIDs: to them, such a schema is one that they do not know. That it is the registry which says
/// so shows in an answer to another question.
async fn ask_guid(client: &Client, schema: SchemaRef) -> Result<Described, Outcome> {
    let path = format!("/schemas/guids/{schema}");
    match client.ask(&Request::get(path.clone())).await {
        Err(Failure::NoSuchPath(message)) => match client.ask(&Request::get("/schemas/types")).await {
            Ok(Answer::Ok(Value::Array(_))) => {
                Err(Outcome::Unknown(format!("GET {path}: the registry at {} has no GUIDs", client.url())))
            }
            _ => Err(Outcome::Unavailable(message)),
        },
        answer => describe(client, &path, &[NO_SCHEMA], answer),
    }
}

impl Described {
    fn of(body: &Value) -> Option<Self> {
        let references = match &body["references"] {
            Value::Null => Vec::new(),
            Value::Array(references) => references.iter().map(Reference::of).collect::<Option<_>>()?,
            _ => return None,
        };
        let kind = SchemaKind::of_schema_type(body["schemaType"].as_str());
        Some(Self { kind, text: body["schema"].as_str()?.into(), references })
    }
}

impl Reference {
    fn of(value: &Value) -> Option<Self> {
        let version = match &value["version"] {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return None,
        };
        Some(Self { subject: value["subject"].as_str()?.to_owned(), version })
    }

    fn path(&self) -> String {
        format!("/subjects/{}/versions/{}", http::encode(&self.subject), http::encode(&self.version))
    }
}

/// One step of the walk through references.
enum Step {
    Enter(Reference, usize),
    Leave(Reference),
}

/// Collects what a schema refers to, each once.
async fn resolve(client: &Client, root: Described) -> Result<RegisteredSchema, Outcome> {
    let Described { kind, text, references } = root;
    if kind != SchemaKind::Avro {
        return Ok(RegisteredSchema { kind, text, references: Arc::default() });
    }
    let mut bytes = text.len();
    let mut texts: Vec<Arc<str>> = Vec::new();
    let (mut met, mut within) = (HashSet::new(), HashSet::new());
    let mut steps: Vec<Step> = references.into_iter().map(|reference| Step::Enter(reference, 1)).collect();
    while let Some(step) = steps.pop() {
        let (reference, depth) = match step {
            Step::Enter(reference, depth) => (reference, depth),
            Step::Leave(reference) => {
                within.remove(&reference);
                continue;
            }
        };
        let Reference { subject, version } = &reference;
        if within.contains(&reference) {
            return Err(Outcome::Unusable(format!("it refers to itself by way of {subject:?} version {version}")));
        }
        if !met.insert(reference.clone()) {
            continue;
        }
        if met.len() > MAX_REFERENCES || depth > MAX_DEPTH {
            let message = format!("it refers to more than {MAX_REFERENCES} schemas, or deeper than {MAX_DEPTH}");
            return Err(Outcome::Unusable(message));
        }
        let described = ask(client, reference.path(), &[NO_SUBJECT, NO_VERSION, NO_SCHEMA]).await?;
        bytes += described.text.len();
        if bytes > MAX_BYTES {
            return Err(Outcome::Unusable(format!("with what it refers to it has more than {MAX_BYTES} bytes")));
        }
        // One text under two subjects would define its types twice.
        if !texts.contains(&described.text) {
            texts.push(described.text);
        }
        within.insert(reference.clone());
        steps.push(Step::Leave(reference));
        steps.extend(described.references.into_iter().map(|reference| Step::Enter(reference, depth + 1)));
    }
    Ok(RegisteredSchema { kind, text, references: texts.into() })
}
