//! The OpenAPI document that a server has, and answers that are held against it.

use crate::kit::Cluster;
use serde_json::{Map, Value};

/// A method and a path with names in braces.
pub(crate) type Operation = (String, String);

pub(crate) struct Document(Value);

impl Document {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self(cluster.get("/openapi.json"))
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let of_path = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().unwrap().keys();
            methods
                .map(|method| (method.to_uppercase(), path.clone()))
                .collect::<Vec<_>>()
        };
        paths.flat_map(of_path).collect()
    }

    fn responses(&self, (method, path): &Operation) -> &Map<String, Value> {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        operation["responses"].as_object().unwrap()
    }

    /// The status of an answer that is no refusal.
    pub(crate) fn success(&self, operation: &Operation) -> u16 {
        let statuses = self.responses(operation).keys();
        let mut good = statuses.filter_map(|status| status.parse().ok());
        good.find(|status| *status < 400).unwrap()
    }

    /// What is wrong with an answer, by its place.
    pub(crate) fn check(&self, operation: &Operation, status: u16, body: &[u8]) -> Vec<String> {
        let responses = self.responses(operation);
        let Some(response) = responses.get(&status.to_string()) else {
            let text = String::from_utf8_lossy(body);
            return vec![format!("the document knows no status {status}: {text}")];
        };
        let content = self.resolve(response)["content"].as_object().unwrap();
        let Some(described) = content.get("application/json") else {
            return Vec::new();
        };
        match serde_json::from_slice(body) {
            Ok(value) => {
                let mut problems = Vec::new();
                self.validate(&described["schema"], &value, "", &mut problems);
                problems
            }
            Err(error) => vec![error.to_string()],
        }
    }

    fn resolve<'a>(&'a self, part: &'a Value) -> &'a Value {
        let Some(name) = part["$ref"].as_str() else {
            return part;
        };
        self.0.pointer(name.trim_start_matches('#')).unwrap()
    }

    fn validate(&self, schema: &Value, value: &Value, place: &str, problems: &mut Vec<String>) {
        let schema = self.resolve(schema);
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        if !kinds.is_empty() && !kinds.iter().any(|kind| is(kind, value)) {
            return problems.push(format!("{place} is no {}: {value}", kinds.join(" or ")));
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            problems.push(format!("{place} is none of {allowed:?}: {value}"));
        }
        match value {
            Value::Array(all) => {
                let numbered = all.iter().enumerate();
                numbered.for_each(|(at, one)| {
                    self.validate(&schema["items"], one, &format!("{place}[{at}]"), problems);
                });
            }
            Value::Object(fields) => self.validate_fields(schema, fields, place, problems),
            _ => {}
        }
    }

    fn validate_fields(
        &self,
        schema: &Value,
        fields: &Map<String, Value>,
        place: &str,
        problems: &mut Vec<String>,
    ) {
        for (name, value) in fields {
            let place = format!("{place}.{name}");
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(known), _) => self.validate(known, value, &place, problems),
                (None, Value::Bool(false)) => problems.push(format!("{place} is not known")),
                (None, others) => self.validate(others, value, &place, problems),
            }
        }
        let owed = schema["required"].as_array().into_iter().flatten();
        let missing = owed.filter(|name| !fields.contains_key(name.as_str().unwrap()));
        problems.extend(missing.map(|name| format!("{place}.{} is missing", name.as_str().unwrap())));
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("the document has a type '{other}'"),
    }
}
