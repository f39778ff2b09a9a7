//! The reference for programs: an OpenAPI document, `docs/reference/openapi.json`.
//!
//! Objects whose fields are known have no others, in requests and answers: a field that nobody has written down fails the
//! tests that compare answers with this document, and one that nobody reads is refused in a request.

use super::{Fact, Operation, SERVED, contract, rows};
use crate::access::needed;
use crate::artifacts::UPLOAD;
use actix_web::http::Method;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const ABOUT: &str =
    "What a jobmanager answers. Paths, names and types are those of Flink's REST API, wherever there is one.";
const ID: &str = "^[0-9a-fA-F]{32}$";
/// What can stand in a path without an escape, which paths must not have.
const NAME: &str = "^[A-Za-z0-9_-][A-Za-z0-9._-]*$";

/// Neither `.` nor `..` on the way, nor control characters.
const DIRECTORY: &str = r"^(?!(.*/)?\.\.?(/|$))[^\x00-\x1f\x7f-\x9f]*$";

/// What a request may be refused with, and what that means.
const REFUSALS: [(u16, &str); 10] = [
    (400, "The request is malformed, or cannot be served as it is."),
    (401, "It has no token of this cluster."),
    (
        403,
        "The caller's role does not suffice, it comes from a page of another site, or that is switched off.",
    ),
    (404, "What it names is not there, or is forgotten."),
    (408, "It came too slowly, or was not done in time."),
    (409, "The state of the job does not allow it."),
    (413, "The body is too long."),
    (429, "Too many are under way."),
    (500, "Something has failed in the cluster."),
    (
        503,
        "No jobmanager leads, or who would know does not answer. Ask again.",
    ),
];

pub(super) fn document() -> Value {
    let contract = contract();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for row in rows(SERVED, 3) {
        let (operation, summary) = ((row[0], row[1]), row[2]);
        let of_path = paths.entry(operation.1).or_default();
        let described = describe(operation, summary, &contract[&operation]);
        of_path.insert(operation.0.to_lowercase(), described);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Hurtig", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT },
        "servers": [{ "url": "/" }, { "url": "/v1", "description": "The same." }],
        "paths": paths,
        "components": {
            "schemas": { "Errors": errors() },
            "responses": REFUSALS.map(|(status, text)| (status.to_string(), refusal(status, text))).into_iter().collect::<Map<_, _>>(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "Where the cluster has tokens." } },
        },
        "security": [{ "token": [] }, {}],
    })
}

fn errors() -> Value {
    json!({
        "type": "object",
        "properties": { "errors": { "type": "array", "items": { "type": "string" }, "minItems": 1 } },
        "required": ["errors"],
        "additionalProperties": false,
    })
}

fn refusal(status: u16, text: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Errors" });
    let mut refusal = json!({ "description": text, "content": { "application/json": { "schema": schema } } });
    if status == 503 || status == 429 {
        let seconds = json!({ "description": "Seconds until it is worth asking again.", "schema": { "type": "integer" } });
        refusal["headers"] = json!({ "Retry-After": seconds });
    }
    refusal
}

fn describe(operation: Operation, summary: &str, known: &[Fact]) -> Value {
    let (method, path) = operation;
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut described = json!({
        "operationId": operation_id(operation),
        "summary": summary,
        "parameters": parameters(path, known),
        "responses": responses(operation, known),
        "x-hurtig-role": needed(&method, path).0.name(),
    });
    if let Some(body) = request_body(path, known) {
        described["requestBody"] = body;
    }
    described
}

fn operation_id((method, path): Operation) -> String {
    let words = path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.fold(method.to_lowercase(), |id, word| format!("{id}_{word}"))
}

fn parameters(path: &str, known: &[Fact]) -> Vec<Value> {
    let names = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": of_name(name) }));
    let in_query = known.iter().filter(|fact| fact.place == "query").map(|fact| {
        let schema = of_request(fact.field).unwrap_or_else(|| of_kind(fact.kind, false));
        json!({ "name": fact.field, "in": "query", "required": fact.presence == "always", "schema": schema })
    });
    in_path.chain(in_query).collect()
}

/// What stands in a path for a name in braces.
fn of_name(name: &str) -> Value {
    match name {
        "subtaskindex" | "attempt" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "checkpointid" => json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX }),
        "jarid" | "filename" => json!({ "type": "string", "pattern": NAME }),
        _ => json!({ "type": "string", "pattern": ID }),
    }
}

/// What is taken of a field of a request, where its type does not say enough.
fn of_request(field: &str) -> Option<Value> {
    Some(match field {
        "parallelism" => json!({ "type": "integer", "minimum": 1, "maximum": 32_768 }),
        "maxExceptions" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "type" => json!({ "type": "string", "enum": ["full", "on_cpu", "off_cpu"] }),
        "subtaskindex" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "mode" => json!({ "type": "string", "enum": ["cancel"] }),
        "agg" => {
            json!({ "type": "string", "pattern": "^((min|max|avg|sum|skew)(,(min|max|avg|sum|skew))*)?$" })
        }
        "subtasks" => {
            json!({ "type": "string", "pattern": "^([0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*)?$" })
        }
        "jobs" | "taskmanagers" => {
            json!({ "type": "string", "pattern": "^([0-9a-fA-F]{32}(,[0-9a-fA-F]{32})*)?$" })
        }
        "claimMode" | "restoreMode" => json!({ "type": "string", "enum": ["CLAIM", "NO_CLAIM"] }),
        "entryClass" | "entry-class" => json!({ "type": "string", "enum": ["", "main"] }),
        "failureLabelFilter" => json!({ "type": "string", "pattern": "^([^,:]+:[^,]*(,[^,:]+:[^,]*)*)?$" }),
        "jobId" | "applicationId" => json!({ "type": "string", "pattern": ID }),
        "target-directory" | "targetDirectory" => json!({ "type": "string", "pattern": DIRECTORY }),
        "savepoint-path" => json!({ "type": "string", "pattern": "^(/|[A-Za-z][A-Za-z0-9+.-]*://)" }),
        "triggerId" => json!({ "type": "string", "pattern": ID }),
        "checkpointType" => json!({ "type": "string", "enum": ["CONFIGURED", "FULL", "INCREMENTAL"] }),
        "formatType" => json!({ "type": "string", "enum": ["CANONICAL", "NATIVE"] }),
        _ => return None,
    })
}

fn request_body(path: &str, known: &[Fact]) -> Option<Value> {
    if path == UPLOAD {
        let form = json!({
            "type": "object",
            "properties": { "jarfile": { "type": "string", "contentMediaType": "application/octet-stream" } },
            "required": ["jarfile"],
        });
        return Some(json!({ "required": true, "content": { "multipart/form-data": { "schema": form } } }));
    }
    let mut root = Field::default();
    let mut facts = known.iter().filter(|fact| fact.place == "body").peekable();
    facts.peek()?;
    for fact in facts {
        root.add(&path_of(fact.field), fact);
    }
    root.kind = "object";
    let required = root.within.values().any(|field| field.presence == "always");
    Some(json!({ "required": required, "content": { "application/json": { "schema": root.schema(true) } } }))
}

fn responses(operation: Operation, known: &[Fact]) -> Map<String, Value> {
    let mut all: Map<String, Value> = Map::new();
    let answer: Vec<&Fact> = known.iter().filter(|fact| fact.status().is_some()).collect();
    let status = answer.first().map_or("200", |fact| fact.place);
    let mut root = Field {
        kind: "object",
        ..Field::default()
    };
    answer
        .iter()
        .for_each(|fact| root.add(&path_of(fact.field), fact));
    let content = match root.kind {
        "text" => json!({ "text/plain": { "schema": { "type": "string" } } }),
        _ => json!({ "application/json": { "schema": root.schema(false) } }),
    };
    all.insert(
        status.to_owned(),
        json!({ "description": "Done.", "content": content }),
    );
    for (status, _) in REFUSALS
        .iter()
        .filter(|(status, _)| may_be_refused(operation, *status))
    {
        all.insert(
            status.to_string(),
            json!({ "$ref": format!("#/components/responses/{status}") }),
        );
    }
    all
}

/// Which refusals a client of an operation must expect beside those that any request may meet.
fn may_be_refused((method, path): Operation, status: u16) -> bool {
    match status {
        404 => {
            path.contains('{')
                || path == "/jobmanager/log"
                || path == "/jobmanager/stdout"
                || path.ends_with("/metrics")
        }
        409 => {
            method != "GET"
                && (path.starts_with("/jobs/{")
                    || path.starts_with("/applications/")
                    || path.ends_with("/run"))
        }
        429 => path == UPLOAD,
        _ => true,
    }
}

/// What is known of a field, and of those within it.
#[derive(Default)]
struct Field {
    kind: &'static str,
    presence: &'static str,
    within: BTreeMap<String, Field>,
}

impl Field {
    fn add(&mut self, path: &[String], fact: &Fact) {
        match path {
            [] => (self.kind, self.presence) = (fact.kind, fact.presence),
            [first, rest @ ..] => self.within.entry(first.clone()).or_default().add(rest, fact),
        }
    }

    fn schema(&self, of_a_request: bool) -> Value {
        // A list of which nothing is said but what it consists of.
        let kind = if self.within.contains_key("[]") {
            "array"
        } else {
            self.kind
        };
        let mut schema = of_kind(kind, self.presence == "nullable");
        match kind {
            "array" => {
                schema["items"] = self
                    .within
                    .get("[]")
                    .map_or(json!({}), |each| each.schema(of_a_request));
            }
            "empty" => schema["additionalProperties"] = json!(false),
            "object" if !self.within.is_empty() => self.describe_fields(&mut schema, of_a_request),
            _ => {}
        }
        schema
    }

    fn describe_fields(&self, schema: &mut Value, of_a_request: bool) {
        let of_field = |name: &String, field: &Field| {
            let special = of_a_request.then(|| of_request(name)).flatten();
            let known = special.unwrap_or_else(|| field.schema(of_a_request));
            match of_a_request && field.presence == "optional" {
                true => or_null(known),
                false => known,
            }
        };
        let named = || self.within.iter().filter(|(name, _)| *name != "*");
        let properties: Map<String, Value> = named()
            .map(|(name, field)| (name.clone(), of_field(name, field)))
            .collect();
        let owed = named().filter(|(_, field)| matches!(field.presence, "always" | "nullable"));
        let owed: Vec<&String> = owed.map(|(name, _)| name).collect();
        let others = self
            .within
            .get("*")
            .map_or(json!(false), |each| each.schema(of_a_request));
        schema["properties"] = properties.into();
        schema["required"] = json!(owed);
        schema["additionalProperties"] = others;
    }
}

fn of_kind(kind: &str, nullable: bool) -> Value {
    let name = match kind {
        "any" => return json!({}),
        "empty" => "object",
        "text" => "string",
        kind => kind,
    };
    match nullable {
        true => json!({ "type": [name, "null"] }),
        false => json!({ "type": name }),
    }
}

/// What clients write that name every field.
fn or_null(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    if let Some(values) = schema["enum"].as_array_mut() {
        values.push(Value::Null);
    }
    schema
}

/// `a.b[].c` as `a`, `b`, `[]`, `c`.
fn path_of(field: &str) -> Vec<String> {
    let mut path = Vec::new();
    for part in field.split('.').filter(|part| !part.is_empty()) {
        let name = part.trim_end_matches("[]");
        path.extend((!name.is_empty()).then(|| name.to_owned()));
        path.extend((0..(part.len() - name.len()) / 2).map(|_| "[]".to_owned()));
    }
    path
}
