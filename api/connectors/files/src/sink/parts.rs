//! Writes the parts of one subtask.

use super::bucket::{BucketAssigner, BucketTime};
use super::folder::FileSink;
use super::format::{PartEncoder, PartFormat};
use super::memory::{OpenPart, PendingPart, Recovered, recover, remember};
use super::names::join;
use super::output::{Output, complete, create_bucket, create_folder};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Result};
use hurtig_dataflow::operator::{CheckpointEvent, Cx, OpenContext};
use hurtig_dataflow::sink::SinkWriter;
use hurtig_state::OperatorSnapshot;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// A part that is being written.
struct Part<E> {
    /// Its name with the bucket before it.
    name: String,
    output: Output,
    encoder: E,
    begun_ms: i64,
    written_ms: i64,
}

/// Writes the parts of one subtask.
pub(super) struct PartWriter<T, F: PartFormat<T>, B> {
    sink: FileSink<F, B>,
    subtask: u32,
    /// By subtask the number of its next part: this one's, and those whose parts it answers for.
    counters: BTreeMap<u32, u64>,
    /// By bucket.
    open: BTreeMap<String, Part<F::Encoder>>,
    takes_checkpoints: bool,
    /// Complete parts that wait for a checkpoint.
    pending: Vec<PendingPart>,
    /// Times of the batch that is being written.
    times: Vec<i64>,
    record: PhantomData<fn(T)>,
}

impl<T, F: PartFormat<T>, B: BucketAssigner<T>> PartWriter<T, F, B> {
    pub(super) fn new(sink: FileSink<F, B>) -> Self {
        Self {
            sink,
            subtask: 0,
            counters: BTreeMap::new(),
            open: BTreeMap::new(),
            takes_checkpoints: false,
            pending: Vec::new(),
            times: Vec::new(),
            record: PhantomData,
        }
    }

    /// Begins a part.
    fn begin(&mut self, bucket: &str, now: i64) -> Result<Part<F::Encoder>> {
        let folder = self.sink.folder_of(bucket)?;
        create_bucket(&self.sink.folder, &folder)?;
        let counter = self.counters.entry(self.subtask).or_default();
        let name = self.sink.names.name(self.subtask, *counter);
        *counter += 1;
        Ok(Part {
            output: Output::create(folder.join(&name))?,
            name: join(bucket, &name),
            encoder: self.sink.format.begin(0)?,
            begun_ms: now,
            written_ms: now,
        })
    }

    /// Goes on with a part of the restored snapshot.
    fn resume(&mut self, old: OpenPart) -> Result<()> {
        let Some(output) = self.reopen(&old)? else {
            return Ok(());
        };
        let part = Part {
            encoder: self.sink.format.begin(old.length)?,
            output,
            begun_ms: old.begun_ms,
            written_ms: old.written_ms,
            name: old.name,
        };
        self.open
            .insert(super::names::bucket_of(&part.name).to_owned(), part);
        Ok(())
    }

    fn reopen(&self, old: &OpenPart) -> Result<Option<Output>> {
        let target = self.sink.folder.join(&old.name);
        if self.takes_checkpoints {
            Output::resume_part(target, old.length)
        } else {
            // A former attempt may have made it visible, and all that it wrote comes again.
            Output::resume_any(target, old.length).map(Some)
        }
    }

    fn write_run(&mut self, bucket: &str, records: &[T], cx: Cx<'_>) -> Result<()> {
        let now = cx.processing_time();
        if !self.open.contains_key(bucket) {
            let part = self.begin(bucket, now)?;
            wake(cx, self.sink.rolling.due_ms(now, now));
            self.open.insert(bucket.to_owned(), part);
        }
        let Some(part) = self.open.get_mut(bucket) else {
            return Ok(());
        };
        part.written_ms = now;
        part.encoder.encode(records, &mut part.output.buffer)?;
        let bytes = part.output.length() + part.encoder.buffered_bytes();
        if self.sink.rolling.is_full(bytes) {
            return self.complete_part(bucket);
        }
        part.output.write_if_full()
    }

    /// Writes records of several buckets, those that follow each other in one together.
    fn write_buckets(&mut self, records: &[T], cx: Cx<'_>) -> Result<()> {
        let now = cx.processing_time();
        let (mut bucket, mut next) = (String::new(), String::new());
        let mut begin = 0;
        for (i, record) in records.iter().enumerate() {
            next.clear();
            let time = BucketTime::new(self.times[i], now);
            self.sink.buckets.assign(record, time, &mut next)?;
            if i > 0 && next != bucket {
                self.write_run(&bucket, &records[begin..i], cx)?;
                begin = i;
            }
            std::mem::swap(&mut bucket, &mut next);
        }
        self.write_run(&bucket, &records[begin..], cx)
    }

    /// The bucket's part is complete.
    fn complete_part(&mut self, bucket: &str) -> Result<()> {
        let Some(mut part) = self.open.remove(bucket) else {
            return Ok(());
        };
        part.encoder.finish(&mut part.output.buffer)?;
        self.settle(part.name, self.subtask, part.output)
    }

    /// Commits what is complete, or leaves it for a checkpoint.
    fn settle(&mut self, name: String, subtask: u32, mut output: Output) -> Result<()> {
        if !self.takes_checkpoints {
            return output.finish();
        }
        output.promise()?;
        self.pending.push(PendingPart::new(name, subtask));
        Ok(())
    }

    /// Completes the parts that `is_complete`.
    fn complete_where(&mut self, is_complete: impl Fn(&Part<F::Encoder>) -> bool) -> Result<()> {
        let complete = self.open.iter().filter(|(_, part)| is_complete(part));
        let buckets: Vec<String> = complete.map(|(bucket, _)| bucket.clone()).collect();
        buckets.iter().try_for_each(|bucket| self.complete_part(bucket))
    }

    /// Asks to be called when the next part is complete.
    fn schedule(&self, cx: Cx<'_>) {
        let due = |part: &Part<_>| self.sink.rolling.due_ms(part.begun_ms, part.written_ms);
        if let Some(next) = self.open.values().map(due).min() {
            wake(cx, next);
        }
    }

    /// Takes over what the restored snapshot holds.
    fn take_over(&mut self, recovered: Recovered) -> Result<()> {
        self.counters = recovered.counters;
        for part in recovered.open {
            if F::RESUMABLE && part.subtask == self.subtask {
                self.resume(part)?;
            } else if let Some(output) = self.reopen(&part)? {
                self.settle(part.name, part.subtask, output)?;
            }
        }
        Ok(())
    }
}

/// Asks for a call at a time that will come.
fn wake(cx: Cx<'_>, due_ms: i64) {
    if due_ms < i64::MAX {
        cx.schedule(due_ms);
    }
}

impl<T: Send, F: PartFormat<T>, B: BucketAssigner<T>> SinkWriter<T> for PartWriter<T, F, B> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        create_folder(&self.sink.folder)?;
        self.subtask = ctx.info().index;
        self.takes_checkpoints = ctx.takes_checkpoints();
        let recovered = recover(&self.sink, !B::ONE, ctx)?;
        self.take_over(recovered)?;
        self.schedule(ctx.cx());
        Ok(())
    }

    fn write(&mut self, batch: &mut Batch<T>, cx: Cx<'_>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if B::ONE {
            self.write_run("", batch.records(), cx)?;
        } else {
            self.times.clear();
            self.times.extend((0..batch.len()).map(|i| batch.time(i)));
            self.write_buckets(batch.records(), cx)?;
        }
        batch.clear();
        Ok(())
    }

    fn on_processing_time(&mut self, now: i64, cx: Cx<'_>) -> Result<()> {
        let policy = self.sink.rolling;
        self.complete_where(|part| policy.due_ms(part.begun_ms, part.written_ms) <= now)?;
        self.schedule(cx);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.open.values_mut().try_for_each(|part| part.output.flush())
    }

    fn before_barrier(&mut self, id: CheckpointId) -> Result<()> {
        if self.sink.rolling.rolls_on_checkpoint() || !F::RESUMABLE {
            self.complete_where(|_| true)?;
        }
        self.open
            .values_mut()
            .try_for_each(|part| part.output.promise())?;
        let new = self.pending.iter_mut().filter(|part| part.checkpoint.is_none());
        new.for_each(|part| part.checkpoint = Some(id));
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let open = self.open.values().map(|part| OpenPart {
            name: part.name.clone(),
            subtask: self.subtask,
            length: part.output.length(),
            begun_ms: part.begun_ms,
            written_ms: part.written_ms,
        });
        remember(snapshot, &self.pending, &open.collect::<Vec<_>>(), &self.counters)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        // Parts of a checkpoint that was given up are committed by the next one, which holds them too.
        let CheckpointEvent::Completed(done) = event else {
            return Ok(());
        };
        let committed = |part: &PendingPart| part.checkpoint.is_some_and(|id| id <= done);
        for part in self.pending.iter().filter(|part| committed(part)) {
            complete(&self.sink.folder.join(&part.name))?;
        }
        self.pending.retain(|part| !committed(part));
        Ok(())
    }

    fn uncommitted(&self) -> bool {
        self.takes_checkpoints && !(self.open.is_empty() && self.pending.is_empty())
    }

    fn end_input(&mut self) -> Result<()> {
        self.complete_where(|_| true)
    }

    fn close(&mut self) -> Result<()> {
        self.complete_where(|_| true)
    }
}
