//! The JobGraph as Flink's plan JSON, which dashboards and `info` read.

use super::job::{JobEdge, JobGraph, JobVertex};
use serde_json::{Value, json};

impl JobGraph {
    /// The plan, in the shape of `GET /jobs/:jobid/plan`'s `plan` field.
    pub fn plan_json(&self) -> Value {
        let nodes: Vec<Value> = self
            .vertices
            .iter()
            .map(|vertex| self.node_json(vertex))
            .collect();
        json!({ "jid": self.id.to_string(), "name": self.name, "type": "STREAMING", "nodes": nodes })
    }

    fn node_json(&self, vertex: &JobVertex) -> Value {
        let mut node = json!({
            "id": vertex.id.to_string(),
            "parallelism": vertex.parallelism,
            "operator": "",
            "operator_strategy": "",
            "description": html(&vertex.description),
            "optimizer_properties": {},
        });
        let inputs: Vec<Value> = self.inputs(vertex.id).enumerate().map(input_json).collect();
        if !inputs.is_empty() {
            node["inputs"] = Value::Array(inputs);
        }
        node
    }
}

fn input_json((number, edge): (usize, &JobEdge)) -> Value {
    json!({
        "num": number,
        "id": edge.from.to_string(),
        "ship_strategy": edge.partition.ship_strategy(),
        "exchange": "pipelined_bounded",
    })
}

/// Descriptions are shown as HTML: line breaks become tags, everything else is text.
fn html(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\n' => html.push_str("<br/>"),
            other => html.push(other),
        }
    }
    html
}
