//! Collecting a stream into the client.

use hurtig_core::{Batch, Error, Result};
use hurtig_dataflow::operator::Cx;
use hurtig_dataflow::sink::{Sink, SinkWriter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Records that a client may collect before it takes them; more fail the job.
const MAX_COLLECTED: usize = 64 << 20;

type Shared<T> = Arc<Mutex<Vec<T>>>;

fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, Vec<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a stream has carried, on the client's side.
#[derive(Debug)]
pub struct CollectHandle<T> {
    records: Shared<T>,
}

impl<T> CollectHandle<T> {
    /// Takes what has arrived since the last call. After the job has finished that is everything;
    /// while it runs, call it now and then.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *lock(&self.records))
    }
}

/// The sink behind `DataStream::collect`.
#[derive(Debug)]
pub struct CollectSink<T> {
    records: Shared<T>,
}

impl<T> CollectSink<T> {
    /// A sink and the handle that reads it.
    pub fn new() -> (Self, CollectHandle<T>) {
        let records = Shared::default();
        (
            Self {
                records: records.clone(),
            },
            CollectHandle { records },
        )
    }
}

impl<T: Send + 'static> Sink<T> for CollectSink<T> {
    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        Box::new(CollectWriter {
            records: self.records.clone(),
        })
    }
}

struct CollectWriter<T> {
    records: Shared<T>,
}

impl<T: Send> SinkWriter<T> for CollectWriter<T> {
    fn write(&mut self, batch: &mut Batch<T>, _cx: Cx<'_>) -> Result<()> {
        let mut records = lock(&self.records);
        if records.len() + batch.len() > MAX_COLLECTED {
            return Err(Error::user(format!(
                "the client has not taken its collected records, and more than {MAX_COLLECTED} are waiting: \
                 write large results to files, or call CollectHandle::take while the job runs"
            )));
        }
        records.extend(batch.drain(usize::MAX));
        batch.reset_if_empty();
        Ok(())
    }
}
