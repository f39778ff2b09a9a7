//! [`WriteAheadSink`]: exactly once into targets that only know 'write these records'.

use crate::operator::{CheckpointEvent, Cx, OpenContext};
use crate::sink::{Sink, SinkWriter};
use hurtig_core::error::{UserError, user_failure};
use hurtig_core::ids::{CheckpointId, random_number};
use hurtig_core::{Batch, Error, Result};
use hurtig_state::{OperatorSnapshot, Redistribution, StateShape};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;
use std::sync::Arc;

/// Which records: those that one writer took before the barrier of one checkpoint. No other records, of this or
/// another job, ever have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommitId {
    /// A random number that the writer gave itself when it was opened.
    pub writer: u64,
    /// The writer's subtask.
    pub subtask: u32,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{}", self.writer, self.subtask, self.checkpoint)
    }
}

/// What a [`WriteAheadSink`] writes to: one for each subtask.
pub trait WriteAheadTarget<T>: Send {
    /// Writes the records of a checkpoint that has completed. Called once for each id, unless the task fails
    /// meanwhile, or before the next checkpoint: then again, unless [`Self::is_committed`] says that it was done.
    ///
    /// # Errors
    /// When they may not have been written. The job goes on from its checkpoint, and tries again.
    fn write(&mut self, records: Vec<T>, id: &CommitId) -> std::result::Result<(), UserError>;

    /// Whether the records of `id` were written: asked when a job goes on from a checkpoint. A target that keeps a
    /// ledger, which it writes in one transaction with the records, answers from it. One that takes the same
    /// records twice without harm needs none.
    ///
    /// # Errors
    /// When it cannot be told. The job tries again.
    fn is_committed(&mut self, id: &CommitId) -> std::result::Result<bool, UserError> {
        let _ = id;
        Ok(false)
    }
}

impl<T, F> WriteAheadTarget<T> for F
where
    F: FnMut(Vec<T>, &CommitId) -> std::result::Result<(), UserError> + Send,
{
    fn write(&mut self, records: Vec<T>, id: &CommitId) -> std::result::Result<(), UserError> {
        self(records, id)
    }
}

/// Makes the target of a subtask.
type Make<W> = Arc<dyn Fn() -> std::result::Result<W, UserError> + Send + Sync>;

/// Keeps records in the job's checkpoints until one has completed, and then hands them to a target that cannot
/// prepare anything itself: a web service, a queue, a key-value store.
///
/// **Delivery.** Every record reaches the target, and nothing does that a restore could take back. Records come twice only
/// if the task fails between the write and the next checkpoint; a target with a ledger
/// ([`WriteAheadTarget::is_committed`]) or one that does not mind repetition turns that into exactly once. In
/// a job without checkpoints records are handed over as they come, and come again if it restarts.
///
/// **Cost.** Records between two checkpoints lie in memory and are copied into each checkpoint, so this is for
/// moderate rates. At most [`WriteAheadSink::max_records`] may wait.
///
/// ```
/// use hurtig_core::UserError;
/// use hurtig_dataflow::sink::Sink;
/// use hurtig_dataflow::write_ahead::{CommitId, WriteAheadSink};
///
/// // A store in which the same key and value twice are the same as once.
/// let sink = WriteAheadSink::new(|| {
///     let mut client = std::collections::BTreeMap::new();
///     Ok(move |records: Vec<(String, u64)>, _: &CommitId| {
///         client.extend(records);
///         Ok::<(), UserError>(())
///     })
/// });
/// Sink::<(String, u64)>::validate(&sink).unwrap();
/// ```
pub struct WriteAheadSink<W> {
    make: Make<W>,
    max_records: usize,
}

/// How many records of a subtask may wait by default.
const DEFAULT_MAX_RECORDS: usize = 4 * 1024 * 1024;

impl<W> fmt::Debug for WriteAheadSink<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteAheadSink(max_records: {})", self.max_records)
    }
}

impl<W> WriteAheadSink<W> {
    /// Hands records to what `target` makes, once for each subtask and attempt: a [`WriteAheadTarget`] or a closure.
    pub fn new(target: impl Fn() -> std::result::Result<W, UserError> + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(target),
            max_records: DEFAULT_MAX_RECORDS,
        }
    }

    /// How many records of a subtask may wait for a checkpoint (4 Mi by default); the job fails when there are more.
    #[must_use]
    pub fn max_records(mut self, records: usize) -> Self {
        self.max_records = records;
        self
    }
}

impl<T, W> Sink<T> for WriteAheadSink<W>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    W: WriteAheadTarget<T> + 'static,
{
    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        Box::new(WriteAheadWriter {
            make: self.make.clone(),
            max_records: self.max_records,
            target: None,
            writer: 0,
            subtask: 0,
            takes_checkpoints: false,
            written: 0,
            records: Vec::new(),
            waiting: Vec::new(),
        })
    }

    fn blocking(&self) -> bool {
        true
    }
}

/// Name of the snapshot's section: each entry is dealt to some subtask, which writes it.
const WAITING: &str = "write-ahead";

/// Records that wait for their checkpoint.
#[derive(Serialize, Deserialize)]
struct Waiting<R> {
    id: CommitId,
    records: R,
}

struct WriteAheadWriter<T, W> {
    make: Make<W>,
    max_records: usize,
    target: Option<W>,
    writer: u64,
    subtask: u32,
    takes_checkpoints: bool,
    /// How often a job without checkpoints has written.
    written: u64,
    /// Since the last barrier.
    records: Vec<T>,
    waiting: Vec<Waiting<Vec<T>>>,
}

impl<T: Serialize, W: WriteAheadTarget<T>> WriteAheadWriter<T, W> {
    fn id(&self, checkpoint: CheckpointId) -> CommitId {
        CommitId {
            writer: self.writer,
            subtask: self.subtask,
            checkpoint,
        }
    }

    fn target(&mut self) -> Result<&mut W> {
        let target = self.target.as_mut();
        target.ok_or_else(|| Error::internal("a sink was written to before it was opened"))
    }

    fn hand_over(&mut self, records: Vec<T>, id: &CommitId) -> Result<()> {
        let count = records.len();
        let written = self.target()?.write(records, id);
        written
            .map_err(|e| user_failure(e).context(format!("cannot write the {count} records of commit {id}")))
    }

    /// Writes what the restored snapshot holds and was not written.
    fn recover(&mut self, restored: Vec<Waiting<Vec<T>>>) -> Result<()> {
        for Waiting { id, records } in restored {
            let asked = self.target()?.is_committed(&id);
            let question = || format!("cannot tell whether commit {id} was written");
            if !asked.map_err(|e| user_failure(e).context(question()))? {
                self.hand_over(records, &id)?;
            }
        }
        Ok(())
    }
}

impl<T, W> SinkWriter<T> for WriteAheadWriter<T, W>
where
    T: Serialize + DeserializeOwned + Send,
    W: WriteAheadTarget<T>,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.writer = random_number();
        self.subtask = ctx.info().index;
        self.takes_checkpoints = ctx.takes_checkpoints();
        let made = (self.make)();
        self.target = Some(made.map_err(|e| user_failure(e).context("cannot open the target of a sink"))?);
        let restored = ctx
            .restored()
            .map_or(Ok(Vec::new()), |state| state.operator(WAITING))?;
        self.recover(restored)
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let shape = StateShape::operator::<Waiting<Vec<T>>>();
        ctx.declare([(WAITING.to_owned(), shape)].into())
    }

    fn write(&mut self, batch: &mut Batch<T>, _: Cx<'_>) -> Result<()> {
        let count = batch.len();
        self.records.extend(batch.drain(count));
        batch.reset_if_empty();
        if !self.takes_checkpoints {
            return Ok(());
        }
        let waiting: usize = self.waiting.iter().map(|waiting| waiting.records.len()).sum();
        if waiting + self.records.len() > self.max_records {
            return Err(Error::user(format!(
                "more than {} records wait for a checkpoint: take checkpoints more often, or set max_records",
                self.max_records
            )));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.takes_checkpoints || self.records.is_empty() {
            return Ok(());
        }
        self.written += 1;
        let records = std::mem::take(&mut self.records);
        self.hand_over(records, &self.id(CheckpointId(self.written)))
    }

    fn before_barrier(&mut self, checkpoint: CheckpointId) -> Result<()> {
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            let id = self.id(checkpoint);
            self.waiting.push(Waiting { id, records });
        }
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator(WAITING, Redistribution::Split, &self.waiting)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        // What waits for a checkpoint that was given up is in the next one too.
        let CheckpointEvent::Completed(done) = event else {
            return Ok(());
        };
        let all = std::mem::take(&mut self.waiting);
        let (ready, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|waiting| waiting.id.checkpoint <= done);
        self.waiting = rest;
        ready
            .into_iter()
            .try_for_each(|waiting| self.hand_over(waiting.records, &waiting.id))
    }

    fn uncommitted(&self) -> bool {
        self.takes_checkpoints && !(self.records.is_empty() && self.waiting.is_empty())
    }

    fn close(&mut self) -> Result<()> {
        self.flush()
    }
}
