//! Plan runs: what differs between the two, and whether their graphs do.

use crate::wire::Plan;
use hurtig_dataflow::graph::JobGraph;
use std::collections::BTreeMap;

/// The first run's graph, if the second one is the same but for the random id of the job.
pub(super) fn compare(one: &JobGraph, other: &JobGraph) -> Plan {
    let same_id = JobGraph {
        id: one.id,
        ..other.clone()
    };
    if *one == same_id {
        return Plan::Graph(Box::new(one.clone()));
    }
    let json = |graph: &JobGraph| {
        let mut json = serde_json::to_value(graph).unwrap_or_default();
        // It differs because something else does.
        json.as_object_mut().map(|fields| fields.remove("fingerprint"));
        json
    };
    let place = difference(&json(one), &json(&same_id), "");
    Plan::Refused(format!(
        "the program builds another graph each time it is run; the first difference is at {}. What a graph depends on must be \
         arguments and settings, and not time, environment or the order of a hash map",
        place.unwrap_or_else(|| "the graph".to_owned())
    ))
}

/// Where two values differ first.
fn difference(one: &serde_json::Value, other: &serde_json::Value, at: &str) -> Option<String> {
    use serde_json::Value::{Array, Object};
    match (one, other) {
        (Object(one), Object(other)) => {
            let keys = one
                .keys()
                .chain(other.keys().filter(|key| !one.contains_key(*key)));
            let null = serde_json::Value::Null;
            keys.into_iter().find_map(|key| {
                let [one, other] = [one, other].map(|object| object.get(key).unwrap_or(&null));
                difference(one, other, &format!("{at}.{key}"))
            })
        }
        (Array(one), Array(other)) if one.len() == other.len() => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(index, (one, other))| difference(one, other, &format!("{at}[{index}]")))
        }
        _ if one == other => None,
        _ => Some(format!("`{}` ({one} and {other})", at.trim_start_matches('.'))),
    }
}

/// All of a process's environment. The two runs of a plan have different ones, on which a graph must not depend.
pub(super) fn environment(second: bool) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<_, _> = [("HURTIG_LOG".to_owned(), "info".to_owned())].into();
    if second {
        environment.insert("TZ".to_owned(), "Pacific/Chatham".to_owned());
        environment.insert("LANG".to_owned(), "tr_TR.UTF-8".to_owned());
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named_by_its_place() {
        let one = json!({"vertices": [{"name": "a", "parallelism": 1}, {"name": "b"}]});
        let other = json!({"vertices": [{"name": "a", "parallelism": 2}, {"name": "c"}]});
        let found = difference(&one, &other, "").unwrap();
        assert_eq!(found, "`vertices[0].parallelism` (1 and 2)");
        assert_eq!(difference(&one, &one, ""), None);
        assert_eq!(
            difference(&json!({"a": 1}), &json!({}), "").unwrap(),
            "`a` (1 and null)"
        );
    }
}
