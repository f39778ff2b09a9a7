//! Bodies of requests: how long they may be and how slowly they may come.

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use futures_util::{StreamExt as _, future::poll_fn, stream};
use hurtig_core::time::{Clock, Time};
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::RestError;

/// The largest body but that of an upload.
pub(crate) const MAX_BODY: u64 = 1 << 20;
/// What may come of an upload before the content of its file: who parses forms keeps that in memory.
const MAX_FORM: u64 = 256 << 10;
/// How long a body may take at least.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes a second that a body must come with beyond that, on average.
const MIN_RATE: u64 = 32 << 10;

/// What was wrong with a body while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    TooLong(u64),
    TooSlow,
}

struct Account {
    payload: RefCell<Payload>,
    clock: Arc<dyn Clock>,
    /// How much may come.
    limit: Cell<u64>,
    /// What the whole body may have.
    whole: u64,
    broken: Cell<Option<Broken>>,
}

/// The account of a request's body; clones are the same.
#[derive(Clone)]
pub(crate) struct Allowance(Rc<Account>);

impl Allowance {
    /// Of the body of an ordinary request, or of an upload of at most so many bytes.
    pub(crate) fn new(payload: Payload, upload: Option<u64>, clock: Arc<dyn Clock>) -> Self {
        let whole = upload.unwrap_or(MAX_BODY);
        let limit = upload.map_or(MAX_BODY, |most| most.min(MAX_FORM));
        Self(Rc::new(Account {
            payload: RefCell::new(payload),
            clock,
            limit: Cell::new(limit),
            whole,
            broken: Cell::new(None),
        }))
    }

    /// The head of a form is over: what comes is a file.
    pub(crate) fn file_begins(&self) {
        self.0.limit.set(self.0.whole);
    }

    /// Whether a body of so many bytes is allowed.
    pub(crate) fn check(&self, announced: Option<u64>) -> Result<(), RestError> {
        match announced {
            Some(length) if length > self.0.whole => Err(too_long(self.0.whole)),
            _ => Ok(()),
        }
    }

    /// What to answer if the body was not what it may be.
    pub(crate) fn broken(&self) -> Option<RestError> {
        self.0.broken.get().map(|broken| match broken {
            Broken::TooLong(limit) => too_long(limit),
            Broken::TooSlow => {
                let text = format!(
                    "the body comes too slowly: after {GRACE:?} it must have come with {} KiB a second",
                    MIN_RATE >> 10
                );
                RestError::new(StatusCode::REQUEST_TIMEOUT, text)
            }
        })
    }

    /// The body as it may be read.
    pub(crate) fn payload(&self) -> Payload {
        let reading = Reading {
            begin: self.0.clock.now(),
            received: 0,
            account: self.0.clone(),
        };
        let parts = stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.next().await? {
                Ok(bytes) => Some((Ok(bytes), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        });
        // Forms are read beyond their ends.
        let payload = Box::pin(parts.fuse());
        Payload::Stream { payload }
    }
}

fn too_long(limit: u64) -> RestError {
    let text = format!("the body has more than the {limit} bytes that it may have here");
    RestError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

/// An answer, and the body of its request. The server closes a connection behind an answer if somebody holds what was not read of the
/// body; what nobody holds and has no announced end, it would read for ever.
pub(crate) struct Answer {
    body: BoxBody,
    _request: Allowance,
}

impl Answer {
    pub(crate) fn new(body: BoxBody, request: Allowance) -> Self {
        Self {
            body,
            _request: request,
        }
    }
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

struct Reading {
    begin: Time,
    received: u64,
    account: Rc<Account>,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes, PayloadError>> {
        let due = GRACE + Duration::from_millis(self.received.saturating_mul(1_000) / MIN_RATE);
        let left = due.saturating_sub(self.account.clock.now().since(self.begin));
        let part = poll_fn(|cx| self.account.payload.borrow_mut().poll_next_unpin(cx));
        let Ok(next) = tokio::time::timeout(left, part).await else {
            self.account.broken.set(Some(Broken::TooSlow));
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Some(Err(PayloadError::Incomplete(Some(late))));
        };
        let bytes = match next? {
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(error)),
        };
        self.received += bytes.len() as u64;
        let limit = self.account.limit.get();
        if self.received > limit {
            self.account.broken.set(Some(Broken::TooLong(limit)));
            return Some(Err(PayloadError::Overflow));
        }
        Some(Ok(bytes))
    }
}
