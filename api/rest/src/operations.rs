//! What is begun by one request and asked after by another: what has become of it, as clients read it.

use hurtig_ha::records::IntentOutcome;
use serde_json::{Value, json};

/// Under way, or what has come of it: `done` says what, when it went well.
pub(crate) fn status(outcome: Option<&IntentOutcome>, done: impl FnOnce(&IntentOutcome) -> Value) -> Value {
    let Some(outcome) = outcome else {
        return json!({ "status": { "id": "IN_PROGRESS" } });
    };
    let operation = match &outcome.error {
        None => done(outcome),
        Some(why) => json!({ "failure-cause": { "class": "failure", "stack-trace": why } }),
    };
    json!({ "status": { "id": "COMPLETED" }, "operation": operation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_has_no_operation_and_what_has_failed_says_why() {
        let of =
            |outcome: Option<&IntentOutcome>| status(outcome, |done| json!({ "location": done.location }));
        assert_eq!(of(None), json!({ "status": { "id": "IN_PROGRESS" } }));
        let mut outcome = IntentOutcome {
            location: Some("/s/savepoint-1".to_owned()),
            ..IntentOutcome::default()
        };
        let done = of(Some(&outcome));
        assert_eq!(done["status"]["id"], "COMPLETED");
        assert_eq!(done["operation"], json!({ "location": "/s/savepoint-1" }));
        outcome.error = Some("no directory".to_owned());
        let failed = of(Some(&outcome));
        assert_eq!(failed["status"]["id"], "COMPLETED");
        assert_eq!(
            failed["operation"]["failure-cause"]["stack-trace"],
            "no directory"
        );
    }
}
