//! The one place where a panic becomes a value.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Code that was called has panicked. Whatever it was changing is in an unknown state: it must not
/// be called again, only dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Panicked {
    /// What the panic said.
    pub message: String,
}

impl Panicked {
    /// From what `catch_unwind` or a joined thread returned.
    pub fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self {
            message: text.unwrap_or_else(|| "a panic without a message".to_owned()),
        }
    }
}

/// Calls `work`; a panic becomes an error. The caller promises not to touch again what `work` was
/// changing, other than to drop it.
///
/// # Errors
/// When `work` panicked.
pub fn guard<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked::from_payload(&*payload))
}

/// Drives a future; a panic in it becomes an error, and the future is not polled again.
///
/// # Errors
/// When the future panicked.
pub async fn guarded<F: Future>(future: F) -> Result<F::Output, Panicked> {
    Guarded { future: pin!(future) }.await
}

struct Guarded<'a, F> {
    future: Pin<&'a mut F>,
}

impl<F: Future> Future for Guarded<'_, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match guard(|| self.future.as_mut().poll(cx)) {
            Ok(poll) => poll.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}
