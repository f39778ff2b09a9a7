//! Collecting a stream into the client.

use hurtig_core::{Batch, Error, Result};
use hurtig_dataflow::operator::Cx;
use hurtig_dataflow::sink::{Sink, SinkWriter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Records that a client may collect before it takes them; more fail the job.
const MAX_COLLECTED: usize = 64 << 20;

/// What has arrived, or nothing any more once the handle is gone.
type Shared<T> = Arc<Mutex<Option<Vec<T>>>>;

fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, Option<Vec<T>>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a stream has carried, on the client's side. Without it, what arrives is dropped.
#[derive(Debug)]
pub struct CollectHandle<T> {
    records: Shared<T>,
}

impl<T> CollectHandle<T> {
    /// Takes what has arrived since the last call. After the job has finished that is everything;
    /// while it runs, call it now and then.
    pub fn take(&self) -> Vec<T> {
        lock(&self.records)
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

impl<T> Drop for CollectHandle<T> {
    fn drop(&mut self) {
        // Nobody will take them: records dropped here, outside the lock, and from now on.
        let abandoned = lock(&self.records).take();
        drop(abandoned);
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
        let records: Shared<T> = Arc::new(Mutex::new(Some(Vec::new())));
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
        let Some(records) = records.as_mut() else {
            drop(records);
            batch.clear();
            return Ok(());
        };
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
