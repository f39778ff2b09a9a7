//! [`Faults`]: what goes wrong with the server, when a test says so.

use hyper::{Method, Response, StatusCode};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What goes wrong with the next requests, and how many there were.
#[derive(Debug, Default)]
pub struct Faults {
    lost_answers: AtomicU32,
    busy: AtomicU32,
    writes: AtomicU64,
}

impl Faults {
    /// The next writes are carried out, and their connections break before the answer.
    pub fn lose_answers(&self, writes: u32) {
        self.lost_answers.store(writes, Ordering::SeqCst);
    }

    /// The next requests are answered with 503 and nothing else happens.
    pub fn be_busy(&self, requests: u32) {
        self.busy.store(requests, Ordering::SeqCst);
    }

    /// How many requests that write there have been.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    pub(crate) fn before(&self, method: &Method) -> Option<Response<s3s::Body>> {
        if writes(method) {
            self.writes.fetch_add(1, Ordering::SeqCst);
        }
        if !take(&self.busy) {
            return None;
        }
        let page = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code></Error>".to_owned();
        let mut answer = Response::new(s3s::Body::from(page));
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        Some(answer)
    }

    pub(crate) fn loses(&self, method: &Method) -> bool {
        writes(method) && take(&self.lost_answers)
    }
}

fn writes(method: &Method) -> bool {
    *method == Method::PUT || *method == Method::POST
}

/// Takes one, if there is one.
fn take(count: &AtomicU32) -> bool {
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1))
        .is_ok()
}
