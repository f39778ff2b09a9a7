//! Checkpoints of a task: its part is stored while it runs, it begins with it again, and its end waits.

use crate::world::*;
use actix_rt::System;
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Result};
use hurtig_dataflow::graph::TaskState;
use hurtig_dataflow::operator::{Budget, CheckpointEvent, Collector, Cx, OpenContext, Operator, Progress};
use hurtig_dataflow::program::{NodeCode, TypedOperator, TypedSource};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
use hurtig_state::{OperatorSnapshot, Redistribution};
use hurtig_storage::{
    BlobStore, Compression, LocalStore, MemoryStore, SavepointFormat, SnapshotFolder, SubtaskState,
    read_state,
};
use hurtig_task::interface::{
    CheckpointOrder, CheckpointPart, OperatorRestore, SavepointOrder, TaskFactory, TaskHandle, TaskRestore,
};
use hurtig_task::{CheckpointStorage, LinkedProgram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

const ONE: CheckpointId = CheckpointId(1);
const TWO: CheckpointId = CheckpointId(2);

/// Counts how often it was restored, and waits for input that never comes; or ends at once when a
/// barrier has passed.
struct Lives {
    lives: u64,
    ends: bool,
    passed: bool,
}

impl SourceReader<u64> for Lives {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let before = ctx
            .restored()
            .map_or(Ok(Vec::new()), |state| state.operator::<u64>("lives"))?;
        self.lives = before.first().map_or(0, |lives| lives + 1);
        Ok(())
    }

    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        _: &mut Collector<u64>,
        _: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        if self.ends && self.passed {
            return Poll::Ready(Ok(SourceStatus::Finished));
        }
        Poll::Pending
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.passed = true;
        snapshot.put_operator("lives", Redistribution::Split, &[self.lives])
    }
}

struct LivesSource {
    ends: bool,
}

impl Source<u64> for LivesSource {
    fn bounded(&self) -> bool {
        self.ends
    }

    fn reader(&self) -> Box<dyn SourceReader<u64>> {
        Box::new(Lives {
            lives: 0,
            ends: self.ends,
            passed: false,
        })
    }
}

/// Remembers what it was told of checkpoints.
#[derive(Default)]
struct Listens {
    completed: Vec<u64>,
}

impl Operator<u64, u64> for Listens {
    fn process(
        &mut self,
        input: &mut Batch<u64>,
        _: Cx<'_>,
        _: &mut Collector<u64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        input.clear();
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("completed", Redistribution::Split, &self.completed)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent, _: Cx<'_>) -> Result<()> {
        if let CheckpointEvent::Completed(CheckpointId(id)) = event {
            self.completed.push(id);
        }
        Ok(())
    }
}

fn job(ends: bool, store: Arc<dyn BlobStore>) -> LinkedProgram {
    let source = NodeCode::Source(Box::new(TypedSource::new(LivesSource { ends }, silent())));
    let sink = NodeCode::OneInput(Box::new(TypedOperator::<u64, u64, _>::new(Listens::default)));
    chain_of(source, sink).with_checkpoints(CheckpointStorage::new(store, Compression::Lz4))
}

fn restore(part: &CheckpointPart, finished: bool) -> TaskRestore {
    let operator = |index_in_file| {
        let state = SubtaskState {
            handle: part.handle.clone(),
            index_in_file,
            finished,
        };
        Some(OperatorRestore {
            parallelism: 1,
            max_parallelism: 128,
            shapes: [].into(),
            subtasks: [(0, state)].into(),
        })
    };
    TaskRestore {
        checkpoint: ONE,
        store: None,
        stopped: false,
        finished,
        operators: vec![operator(0), operator(1)],
    }
}

fn start_with(job: &LinkedProgram, restore: Option<TaskRestore>) -> (TaskHandle, Receiver<Told>) {
    let (sender, told) = tokio::sync::mpsc::channel(4_096);
    let mut descriptor = descriptor(job.job_graph(), 2);
    descriptor.restore = restore;
    (job.start_task(descriptor, Box::new(Link(sender))).unwrap(), told)
}

async fn stored(told: &mut Receiver<Told>) -> (CheckpointId, CheckpointPart) {
    loop {
        match next(told).await {
            Told::Stored(checkpoint, part) => return (checkpoint, part),
            Told::Declined(_, reason) => panic!("declined: {reason}"),
            Told::State(state, _) => panic!("{state}"),
            Told::Split(_) | Told::Report(_) | Told::WantsCheckpoint | Told::Prepared(_) => {}
        }
    }
}

/// What the two operators of the chain have stored.
fn contents(store: &dyn BlobStore, part: &CheckpointPart) -> (Vec<u64>, Vec<u64>) {
    let operators = read_state(store, part.handle.as_ref().unwrap()).unwrap();
    let list = |at: usize, name: &str| operators[at].operator::<u64>(name).unwrap();
    (list(0, "lives"), list(1, "completed"))
}

#[test]
fn a_task_begins_with_what_it_stored() {
    System::new().block_on(async {
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
        let job = job(false, store.clone());
        let (task, mut told) = start_with(&job, None);
        running(&mut told).await;
        task.trigger_checkpoint(ONE);
        let (checkpoint, part) = stored(&mut told).await;
        assert_eq!((checkpoint, contents(&*store, &part)), (ONE, (vec![0], vec![])));
        task.notify_checkpoint(CheckpointEvent::Completed(ONE));
        task.trigger_checkpoint(TWO);
        let (_, part) = stored(&mut told).await;
        assert_eq!(
            contents(&*store, &part),
            (vec![0], vec![1]),
            "it was told in between"
        );
        task.cancel();

        let (again, mut told) = start_with(&job, Some(restore(&part, false)));
        running(&mut told).await;
        again.trigger_checkpoint(CheckpointId(3));
        let (_, part) = stored(&mut told).await;
        assert_eq!(contents(&*store, &part).0, [1], "restored once");
        again.cancel();
    });
}

#[test]
fn a_task_whose_state_is_gone_fails_and_says_which_file() {
    System::new().block_on(async {
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
        let job = job(false, store.clone());
        let (task, mut told) = start_with(&job, None);
        running(&mut told).await;
        task.trigger_checkpoint(ONE);
        let (_, part) = stored(&mut told).await;
        task.cancel();
        let path = &part.handle.as_ref().unwrap().path;
        store.delete(path).unwrap();
        let (_task, mut told) = start_with(&job, Some(restore(&part, false)));
        assert_eq!(state(&mut told).await.0, TaskState::Initializing);
        let (ended, failure) = state(&mut told).await;
        let failure = failure.unwrap();
        assert!(failure.permanent, "it will not come back");
        let failure = failure.message;
        assert_eq!(ended, TaskState::Failed);
        assert!(
            failure.contains(path) && failure.contains("does not exist"),
            "{failure}"
        );
    });
}

#[test]
fn a_store_that_fails_costs_the_checkpoint_and_not_the_task() {
    System::new().block_on(async {
        let nowhere = LocalStore::open("/dev/null/checkpoints").unwrap();
        let job = job(false, Arc::new(nowhere));
        let (task, mut told) = start_with(&job, None);
        running(&mut told).await;
        for checkpoint in [ONE, TWO] {
            task.trigger_checkpoint(checkpoint);
            let reason = loop {
                match next(&mut told).await {
                    Told::Declined(id, reason) if id == checkpoint => break reason,
                    Told::Report(_) => {}
                    _ => panic!("the task goes on"),
                }
            };
            assert!(reason.contains("cannot"), "{reason}");
        }
        task.cancel();
    });
}

/// A store that keeps writers waiting until it is opened.
#[derive(Default)]
struct Slow {
    store: MemoryStore,
    /// Somebody waits.
    entered: AtomicBool,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Slow {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

struct Opens(Arc<Slow>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl BlobStore for Slow {
    fn put_new(&self, path: &str, bytes: &[u8]) -> hurtig_storage::Result<()> {
        self.entered.store(true, Ordering::Release);
        let open = self.open.lock().unwrap();
        let _open = self.opened.wait_while(open, |open| !*open).unwrap();
        self.store.put_new(path, bytes)
    }
    fn get(&self, path: &str) -> hurtig_storage::Result<Vec<u8>> {
        self.store.get(path)
    }
    fn get_range(&self, path: &str, range: std::ops::Range<u64>) -> hurtig_storage::Result<Vec<u8>> {
        self.store.get_range(path, range)
    }
    fn exists(&self, path: &str) -> hurtig_storage::Result<bool> {
        self.store.exists(path)
    }
    fn list(&self, folder: &str) -> hurtig_storage::Result<Vec<String>> {
        self.store.list(folder)
    }
    fn delete(&self, path: &str) -> hurtig_storage::Result<()> {
        self.store.delete(path)
    }
    fn delete_all(&self, folder: &str) -> hurtig_storage::Result<()> {
        self.store.delete_all(folder)
    }
    fn sweep(&self, folder: &str) -> hurtig_storage::Result<usize> {
        self.store.sweep(folder)
    }
}

/// A checkpoint that takes a task for finished has not what the task read behind the barrier.
#[test]
fn a_task_is_not_over_before_its_part_is_stored() {
    System::new().block_on(async {
        for cancelled in [false, true] {
            let store = Arc::new(Slow::default());
            // A test that fails must not wait for the writer.
            let _opens = Opens(store.clone());
            let job = job(!cancelled, store.clone());
            let (task, mut told) = start_with(&job, None);
            running(&mut told).await;
            task.trigger_checkpoint(ONE);
            while !store.entered.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
            if cancelled {
                task.cancel();
            }
            // Long enough for an end that does not wait: that none comes is the subject.
            let waiting = async {
                loop {
                    let early = told.recv().await;
                    assert!(
                        matches!(early, Some(Told::Report(_))),
                        "its part is still being stored"
                    );
                }
            };
            let waited = tokio::time::timeout(Duration::from_millis(300), waiting).await;
            assert!(waited.is_err());
            store.open();
            assert_eq!(stored(&mut told).await.0, ONE);
            let how = if cancelled {
                TaskState::Canceled
            } else {
                TaskState::Finished
            };
            assert_eq!(state(&mut told).await.0, how);
        }
    });
}

#[test]
fn a_task_that_had_finished_ends_at_once() {
    System::new().block_on(async {
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
        let part = CheckpointPart {
            handle: None,
            shapes: vec![],
            stored_in: std::time::Duration::ZERO,
            overtook: false,
            figures: None,
        };
        // Its reader would wait for ever.
        let (_task, mut told) = start_with(&job(false, store), Some(restore(&part, true)));
        running(&mut told).await;
        assert_eq!(state(&mut told).await.0, TaskState::Finished);
    });
}

#[test]
fn an_operator_that_the_checkpoint_does_not_know_begins_afresh() {
    System::new().block_on(async {
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
        let begins = TaskRestore {
            checkpoint: ONE,
            store: None,
            stopped: false,
            finished: false,
            operators: vec![None, None],
        };
        let (task, mut told) = start_with(&job(false, store.clone()), Some(begins));
        running(&mut told).await;
        task.trigger_checkpoint(TWO);
        let (_, part) = stored(&mut told).await;
        assert_eq!(contents(&*store, &part).0, [0]);
        task.cancel();
    });
}

#[test]
fn a_savepoint_lies_where_it_was_ordered_and_is_restored_from_there() {
    System::new().block_on(async {
        let (own, elsewhere) = (Arc::new(MemoryStore::default()), tempfile::tempdir().unwrap());
        let job = job(false, own.clone());
        let (task, mut told) = start_with(&job, None);
        running(&mut told).await;
        let location = elsewhere.path().to_str().unwrap().to_owned();
        let folder = SnapshotFolder {
            store: location.clone(),
            folder: "savepoint-1".to_owned(),
        };
        let order = CheckpointOrder::Savepoint(SavepointOrder {
            folder,
            stop: None,
            format: SavepointFormat::Canonical,
        });
        task.prepare_checkpoint(ONE, order.clone());
        while !matches!(next(&mut told).await, Told::Prepared(ONE)) {}
        task.trigger_checkpoint(ONE);
        let (_, part) = stored(&mut told).await;
        let path = part.handle.as_ref().unwrap().path.clone();
        assert!(path.starts_with("savepoint-1/"), "{path}");
        assert!(elsewhere.path().join(&path).is_file());
        assert!(own.list("").unwrap().is_empty());
        // The next one is a checkpoint again, also after a savepoint that was given up.
        task.prepare_checkpoint(TWO, order);
        task.notify_checkpoint(CheckpointEvent::Aborted(TWO));
        task.trigger_checkpoint(CheckpointId(3));
        let (_, third) = stored(&mut told).await;
        assert_eq!(own.list("").unwrap(), [third.handle.unwrap().path]);
        task.cancel();

        let mut begins = restore(&part, false);
        begins.store = Some(location.clone());
        let (again, mut told) = start_with(&job, Some(begins.clone()));
        running(&mut told).await;
        again.trigger_checkpoint(CheckpointId(4));
        let (_, part) = stored(&mut told).await;
        assert_eq!(contents(&*own, &part).0, [1]);
        again.cancel();

        // What is missing there is named by its whole path.
        std::fs::remove_file(elsewhere.path().join(&path)).unwrap();
        let (_task, mut told) = start_with(&job, Some(begins.clone()));
        assert_eq!(state(&mut told).await.0, TaskState::Initializing);
        let (failed, failure) = state(&mut told).await;
        let text = failure.unwrap().message;
        assert!(
            failed == TaskState::Failed && text.contains(&format!("{location}/{path}")),
            "{text}"
        );
    });
}

#[test]
fn a_job_that_has_stopped_with_a_savepoint_commits_and_ends() {
    System::new().block_on(async {
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
        let job = job(false, store.clone());
        let (task, mut told) = start_with(&job, None);
        running(&mut told).await;
        task.trigger_checkpoint(ONE);
        let (_, part) = stored(&mut told).await;
        task.cancel();
        let mut begins = restore(&part, false);
        begins.stopped = true;
        // Its reader would wait for ever.
        let (_task, mut told) = start_with(&job, Some(begins));
        running(&mut told).await;
        assert_eq!(state(&mut told).await.0, TaskState::Finished);
    });
}
