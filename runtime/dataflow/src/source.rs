//! The source contract: readers that produce batches, and the enumerators that deal out splits.

use crate::operator::{Accumulators, Budget, Collector, OpenContext};
use hurtig_core::Result;
use hurtig_core::time::Time;
use hurtig_state::OperatorSnapshot;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// What a reader's call achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceStatus {
    /// There may be more at once: fuel or room ran out, or the end of a chunk was reached.
    More,
    /// The split that was being read has ended; its watermark no longer counts.
    SplitFinished,
    /// Nothing is due before this engine time, though records may have been added in this call. The
    /// loop counts as idle until then. It calls the reader again when the clock has reached the time
    /// (at once when that lies in the past), and earlier only if the reader's waker was woken: a
    /// reader that gave its waker to nobody may take the next call as the news that it is due.
    WaitUntil(Time),
    /// Nothing will ever follow.
    Finished,
}

/// A piece of a source's input, opaque to the engine: MessagePack with named fields of whatever
/// the source calls a split (a file range, a partition).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Unique within the source; names the split in watermarks, metrics and logs.
    pub id: String,
    /// What the reader needs to know.
    pub bytes: Vec<u8>,
}

/// One subtask's reader. It never blocks: a reader that must wait for the outside returns
/// `Poll::Pending` and arranges for the context's waker to be called.
pub trait SourceReader<T>: Send {
    /// Called once, on the thread that will run the reader. Restores positions if there are any.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// As [`Operator::declare`](crate::operator::Operator::declare).
    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Appends records to `out` until it is full, fuel ran out, or nothing is ready. All records of
    /// one call belong to one split. `Pending` only when `out` was not added to.
    ///
    /// # Errors
    /// Any error fails the task. Malformed input is not an error: it is counted and skipped, or
    /// handed on as data.
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Collector<T>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>>;

    /// The split that the last records came from: an index that is new for each split.
    fn current_split(&self) -> u64 {
        0
    }

    /// Whether the reader wants another split now. The engine asks after each call.
    fn wants_split(&self) -> bool {
        false
    }

    /// Receives a split that was asked for, or `None` when there are no more and never will be.
    fn add_split(&mut self, split: Option<Split>) -> Result<()> {
        let _ = split;
        Ok(())
    }

    /// Adds what was counted since the last call (malformed records) to the job's accumulators.
    /// Called after each [`SourceReader::poll_batch`].
    fn publish(&mut self, accumulators: &Accumulators) {
        let _ = accumulators;
    }

    /// Adds the reading positions to `snapshot`.
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let _ = snapshot;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What an enumerator answers a reader that asks for a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// Read this.
    Split(Split),
    /// Nothing now; ask again after so many milliseconds.
    Later(u64),
    /// Nothing now or ever.
    NoMore,
}

/// What an enumerator can say to its job: at any time, from any thread.
#[derive(Clone)]
pub struct EnumeratorContext {
    said: Arc<Said>,
}

struct Said {
    backlog: AtomicBool,
    /// Called after something was said.
    listener: Box<dyn Fn() + Send + Sync>,
}

impl EnumeratorContext {
    /// A context that calls `listener` behind everything that was said, on the thread that said it. It must not block.
    pub fn new(listener: impl Fn() + Send + Sync + 'static) -> Self {
        let said = Said {
            backlog: AtomicBool::new(false),
            listener: Box::new(listener),
        };
        Self { said: Arc::new(said) }
    }

    /// Says that what the source's readers read from now on is backlog (old records, which nobody waits for), or is not
    /// any more. At first it is not, also after a restore.
    ///
    /// It reaches every reader before a split that is dealt out afterwards, and then operators in order with the
    /// records. A reader that is still busy with an older split takes the rest of that for what was said last.
    pub fn set_backlog(&self, backlog: bool) {
        if self.said.backlog.swap(backlog, Ordering::AcqRel) != backlog {
            (self.said.listener)();
        }
    }

    /// What was said last.
    pub fn is_backlog(&self) -> bool {
        self.said.backlog.load(Ordering::Acquire)
    }
}

impl fmt::Debug for EnumeratorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnumeratorContext(backlog: {})", self.is_backlog())
    }
}

/// Discovers splits and deals them out to readers. It lives with the JobMaster, one a source, and
/// may block briefly (it lists folders): it is called on a thread that may.
///
/// An enumerator that reads a history before it follows what is new says so, so that the job may take fewer checkpoints
/// meanwhile (`execution.checkpointing.interval-during-backlog`) and operators may put off what is not urgent:
///
/// ```
/// use hurtig_dataflow::source::{Assignment, EnumeratorContext, Split, SplitEnumerator};
///
/// /// Deals out what was there at the start, and then, when the readers are through with it, what has come since.
/// struct History { old: Vec<Split>, reading: u32, context: Option<EnumeratorContext> }
///
/// impl SplitEnumerator for History {
///     fn open(&mut self, context: EnumeratorContext) {
///         context.set_backlog(true);
///         self.context = Some(context);
///     }
///     fn start(&mut self, parallelism: u32) -> hurtig_core::Result<()> {
///         self.reading = parallelism;
///         Ok(())
///     }
///     fn next_split(&mut self, _reader: u32) -> hurtig_core::Result<Assignment> {
///         if let Some(split) = self.old.pop() {
///             return Ok(Assignment::Split(split));
///         }
///         // Who asks has read what it had.
///         self.reading = self.reading.saturating_sub(1);
///         if let Some(context) = self.context.as_ref().filter(|_| self.reading == 0) {
///             context.set_backlog(false);
///         }
///         Ok(Assignment::NoMore)
///     }
/// #   fn add_back(&mut self, splits: Vec<Split>) { self.old.extend(splits); }
/// #   fn snapshot(&mut self) -> hurtig_core::Result<Vec<u8>> { Ok(Vec::new()) }
/// #   fn restore(&mut self, _: &[u8], parallelism: u32) -> hurtig_core::Result<()> { self.start(parallelism) }
///     // …
/// }
/// ```
pub trait SplitEnumerator: Send {
    /// Gives the enumerator the way to its job. Called once, before anything else.
    fn open(&mut self, context: EnumeratorContext) {
        let _ = context;
    }

    /// Finds the splits; called once before any reader starts. Missing input is an error here, so
    /// that the job fails before it runs.
    fn start(&mut self, parallelism: u32) -> Result<()>;

    /// Answers subtask `reader` that asks for work.
    fn next_split(&mut self, reader: u32) -> Result<Assignment>;

    /// Takes back splits of a reader that failed.
    fn add_back(&mut self, splits: Vec<Split>);

    /// What it remembers: every split that exists is either in here or was dealt out before. The bytes
    /// are its own; MessagePack with named fields lets it evolve.
    fn snapshot(&mut self) -> Result<Vec<u8>>;

    /// Begins where a snapshot stood; called once, instead of [`SplitEnumerator::start`].
    fn restore(&mut self, snapshot: &[u8], parallelism: u32) -> Result<()>;
}

/// What a program knows about a source before it runs: how to make its readers.
pub trait Source<T>: Send + Sync + 'static {
    /// Whether the input ends by itself.
    fn bounded(&self) -> bool;

    /// Checks what can be checked before the job starts (paths, options).
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The environment's `source.max-record-bytes`, for sources that were given no limit of their own.
    fn set_default_max_record_bytes(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// A reader for one subtask.
    fn reader(&self) -> Box<dyn SourceReader<T>>;

    /// The enumerator, for sources with splits.
    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator>> {
        None
    }

    /// Whether the reader blocks its thread and needs one of its own.
    fn blocking(&self) -> bool {
        false
    }

    /// The largest parallelism that makes sense; sockets and standard input have 1.
    fn parallelism_limit(&self) -> Option<u32> {
        None
    }
}
