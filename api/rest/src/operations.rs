//! What is begun by one request and asked after by another: savepoints, checkpoints, and their disposal.

use crate::error::RestError;
use actix_web::http::StatusCode;
use hurtig_core::ids::JobId;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Requests that are remembered.
const REMEMBERED: usize = 1_000;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A savepoint of a job, which may stop with it.
    Savepoint(JobId),
    /// A checkpoint of a job.
    Checkpoint(JobId),
    /// A savepoint is deleted.
    Disposal,
}

/// Requests and their outcomes, the last ones.
#[derive(Default)]
pub(crate) struct Operations(Mutex<VecDeque<Requested>>);

struct Requested {
    what: Operation,
    trigger: String,
    /// `None`: it is under way.
    outcome: Option<Result<Value, String>>,
}

impl Operations {
    fn with<T>(&self, act: impl FnOnce(&mut VecDeque<Requested>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True: the request is new.
    pub(crate) fn begin(&self, what: Operation, trigger: &str) -> Result<bool, RestError> {
        self.with(|all| {
            if all.iter().any(|known| known.is(what, trigger)) {
                return Ok(false);
            }
            if all.len() >= REMEMBERED {
                let over = all.iter().position(|known| known.outcome.is_some());
                let full = || {
                    let text = format!("{REMEMBERED} requests are under way: wait for one to end");
                    RestError::new(StatusCode::SERVICE_UNAVAILABLE, text)
                };
                all.remove(over.ok_or_else(full)?);
            }
            let (trigger, outcome) = (trigger.to_owned(), None);
            all.push_back(Requested {
                what,
                trigger,
                outcome,
            });
            Ok(true)
        })
    }

    pub(crate) fn end(&self, what: Operation, trigger: &str, outcome: Result<Value, String>) {
        self.with(|all| {
            if let Some(known) = all.iter_mut().find(|known| known.is(what, trigger)) {
                known.outcome = Some(outcome);
            }
        });
    }

    /// What has become of a request; `None`: it is not known.
    pub(crate) fn status(&self, what: Operation, trigger: &str) -> Option<Value> {
        self.with(|all| {
            let known = all.iter().find(|known| known.is(what, trigger))?;
            let operation = match &known.outcome {
                None => return Some(json!({ "status": { "id": "IN_PROGRESS" } })),
                Some(Ok(done)) => done.clone(),
                Some(Err(why)) => json!({ "failure-cause": { "class": "failure", "stack-trace": why } }),
            };
            Some(json!({ "status": { "id": "COMPLETED" }, "operation": operation }))
        })
    }
}

impl Requested {
    fn is(&self, what: Operation, trigger: &str) -> bool {
        self.what == what && self.trigger == trigger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: u128) -> Operation {
        Operation::Savepoint(JobId::from_u128(number))
    }

    #[test]
    fn a_request_is_one_savepoint_however_often_it_is_made() {
        let all = Operations::default();
        assert!(all.begin(of(1), "a").unwrap() && !all.begin(of(1), "a").unwrap());
        assert!(all.begin(of(2), "a").unwrap(), "of another job");
        assert!(
            all.begin(Operation::Checkpoint(JobId::from_u128(1)), "a")
                .unwrap()
        );
        let under_way = all.status(of(1), "a").unwrap();
        assert_eq!(under_way, json!({ "status": { "id": "IN_PROGRESS" } }));
        all.end(of(1), "a", Ok(json!({ "location": "/s/savepoint-1" })));
        all.end(of(2), "a", Err("no directory".to_owned()));
        let done = all.status(of(1), "a").unwrap();
        assert_eq!(done["operation"], json!({ "location": "/s/savepoint-1" }));
        let failed = all.status(of(2), "a").unwrap();
        assert_eq!(
            failed["operation"]["failure-cause"]["stack-trace"],
            "no directory"
        );
        assert!(!all.begin(of(1), "a").unwrap() && all.status(of(1), "b").is_none());
    }

    #[test]
    fn the_oldest_outcome_is_forgotten_and_nothing_that_is_under_way() {
        let all = Operations::default();
        for number in 0..REMEMBERED as u128 {
            assert!(all.begin(of(number), "a").unwrap());
        }
        assert!(all.begin(of(5_000), "a").is_err());
        all.end(of(3), "a", Ok(json!({})));
        assert!(all.begin(of(5_000), "a").unwrap());
        assert!(all.status(of(3), "a").is_none() && all.status(of(2), "a").is_some());
    }
}
