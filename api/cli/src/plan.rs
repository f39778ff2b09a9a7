//! The graph of a job for people: sources first.

use crate::table::{Table, cell};
use serde_json::Value;

/// Digits of an id that tell vertices of one job apart.
const SHORT: usize = 8;

/// A plan as the REST API has it, as a table.
pub(crate) fn text(plan: &Value) -> String {
    let mut table = Table::new(&["VERTEX", "PARALLELISM", "INPUTS", "DESCRIPTION"]);
    // They come with the consumers first.
    for node in plan["nodes"].as_array().into_iter().flatten().rev() {
        let inputs = node["inputs"].as_array().into_iter().flatten();
        let inputs: Vec<String> = inputs
            .map(|input| format!("{} {}", cell(&input["ship_strategy"]), short(&input["id"])))
            .collect();
        table.row([
            short(&node["id"]),
            cell(&node["parallelism"]),
            inputs.join(", "),
            plain(node["description"].as_str().unwrap_or_default()),
        ]);
    }
    format!("{}\n\n{}", cell(&plan["name"]), table.text())
}

fn short(id: &Value) -> String {
    cell(id).chars().take(SHORT).collect()
}

/// Descriptions are written for pages.
fn plain(html: &str) -> String {
    let lines = html.split("<br/>").map(str::trim).filter(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join("; ");
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sources_come_first_and_markup_is_gone() {
        let plan = json!({ "name": "n", "nodes": [
            { "id": "bbbbbbbbbbbb", "parallelism": 1, "description": "Sink<br/>",
              "inputs": [{ "id": "aaaaaaaaaaaa", "ship_strategy": "HASH" }] },
            { "id": "aaaaaaaaaaaa", "parallelism": 2, "description": "a &amp;&lt;b&gt;<br/>:- c<br/>" },
        ]});
        let text = text(&plan);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "n");
        assert!(
            lines[3].starts_with("aaaaaaaa  2") && lines[3].ends_with("a &<b>; :- c"),
            "{text}"
        );
        assert!(lines[4].contains("HASH aaaaaaaa"), "{text}");
    }
}
