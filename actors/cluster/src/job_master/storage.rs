//! The JobMaster's work in the checkpoint store: one piece at a time, in the order of its decisions, on
//! threads that may block. So what is deleted after it was written stays deleted.

use super::events::{FoundCheckpoint, FoundRecord, JobEvent, StorageWork};
use crate::config::{RestoreFrom, RestoreTarget};
use hurtig_core::ids::{CheckpointId, JobId};
use hurtig_core::steps::{Step, reached};
use hurtig_core::time::{Clock, Time};
use hurtig_core::{Error, Fault};
use hurtig_kit::{Panicked, guard};
use hurtig_storage::{
    BlobStore, BlobStores, CheckpointLayout, CheckpointMetadata, METADATA_NAME, SavepointFormat,
    SnapshotFolder, StopRecord, checkpoint_of, delete_snapshot, is_whole, latest_checkpoint, read_metadata,
    write_metadata,
};
use hurtig_task::CheckpointStorage;
use hurtig_task::interface::{SavepointOrder, TaskFactory, TaskFailure};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whose checkpoints they are, and where they lie.
#[derive(Clone)]
pub struct JobStorage {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// The store.
    pub storage: Option<CheckpointStorage>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Its program.
    pub factory: Arc<dyn TaskFactory>,
    /// What could not be deleted.
    pub postponed: Postponed,
}

impl JobStorage {
    /// Does one piece of work. Blocks.
    pub fn carry_out(&self, work: StorageWork) -> Option<JobEvent> {
        match work {
            StorageWork::Load(from) => Some(JobEvent::CheckpointLoaded(self.load(&from))),
            StorageWork::Publish {
                metadata,
                triggered,
                savepoint,
            } => {
                let checkpoint = metadata.checkpoint_id;
                let published = self.publish(*metadata, triggered, savepoint);
                if published.is_ok() {
                    self.discard_postponed();
                }
                let published = published.map_err(|error| error.chain());
                reached(Step::Published);
                Some(JobEvent::CheckpointPublished(checkpoint, published))
            }
            discard => {
                if let Err(error) = self.discard(&discard) {
                    tracing::warn!(job = %self.job, ?discard, error = error.chain(), "a checkpoint cannot be deleted");
                    self.postponed.push(discard);
                }
                None
            }
        }
    }

    /// Deletes what could not be deleted when the store was away: it is back. Who fails again waits for the next time,
    /// and so do all behind it.
    fn discard_postponed(&self) {
        while let Some(discard) = self.postponed.pop() {
            if let Err(error) = self.discard(&discard) {
                tracing::warn!(job = %self.job, ?discard, error = error.chain(), "a checkpoint still cannot be deleted");
                self.postponed.push(discard);
                return;
            }
        }
    }

    fn store(&self) -> Result<&dyn BlobStore, Error> {
        let storage = self.storage.as_ref();
        storage
            .map(|storage| &**storage.store())
            .ok_or_else(|| Error::internal("the job has no checkpoint storage"))
    }

    fn backend(&self) -> &'static str {
        self.storage.as_ref().map_or("", CheckpointStorage::backend)
    }

    /// Refuses a native savepoint of another state backend: what its files are is that backend's own affair.
    fn check_backend(&self, found: &FoundCheckpoint) -> Result<(), Error> {
        let (native, own) = (found.metadata.native.as_deref(), self.backend());
        let Some(native) = native.filter(|native| *native != own) else {
            return Ok(());
        };
        let store = found.store.as_deref().unwrap_or_default();
        let path = match store {
            "" => found.folder.clone(),
            store => format!("{}/{}", store.trim_end_matches('/'), found.folder),
        };
        Err(Error::user(format!(
            "cannot restore the job from '{path}': it is a native savepoint, which consists of files of the state backend \
             '{native}', and the job's state.backend.type is '{own}': set it to '{native}', or restore a canonical savepoint, \
             which any state backend reads"
        )))
    }

    fn places(&self) -> BlobStores {
        let storage = self.storage.as_ref();
        storage
            .map(|storage| storage.places().clone())
            .unwrap_or_default()
    }

    fn load(&self, from: &RestoreFrom) -> Result<Option<Box<FoundCheckpoint>>, TaskFailure> {
        let load = || {
            let mut found = match &from.checkpoint {
                RestoreTarget::Folder(folder) => Some(self.named(folder)?),
                RestoreTarget::Latest => self.latest()?,
            };
            if let Some(found) = &found {
                self.check_backend(found)?;
            }
            if let Some(found) = &mut found
                && found
                    .metadata
                    .operators
                    .iter()
                    .any(|states| !states.states.is_empty())
            {
                found.declared = self.factory.declared_states();
            }
            Ok(found)
        };
        match guard(load) {
            Ok(Ok(found)) => {
                reached(Step::Found);
                Ok(found.map(Box::new))
            }
            Ok(Err(error)) => Err(TaskFailure::new(&error, None)),
            Err(panicked) => Err(failure_of(panicked)),
        }
    }

    fn named(&self, folder: &SnapshotFolder) -> Result<FoundCheckpoint, Error> {
        let metadata = folder
            .read(&self.places())
            .map_err(|error| Error::from(error).context(format!("cannot restore the job from '{folder}'")))?;
        let store = self.store()?;
        let own = store.location();
        let record = CheckpointLayout::new(metadata.job_id).checkpoint(metadata.checkpoint_id);
        let stop = StopRecord::read(store, &record)?;
        Ok(FoundCheckpoint {
            store: (own.as_ref() != Some(&folder.store)).then(|| folder.store.clone()),
            folder: folder.folder.clone(),
            metadata,
            record: stop.map(|stop| FoundRecord {
                folder: record,
                supersedes: stop.supersedes,
            }),
            declared: BTreeMap::new(),
        })
    }

    fn latest(&self) -> Result<Option<FoundCheckpoint>, Error> {
        let store = self.store()?;
        let Some((_, folder)) = latest_checkpoint(store, None, Some(&self.name))? else {
            return Ok(None);
        };
        if let Some(stop) = StopRecord::read(store, &folder)? {
            let found = self.named(&stop.savepoint)?;
            let supersedes = stop.supersedes;
            return Ok(Some(FoundCheckpoint {
                record: Some(FoundRecord { folder, supersedes }),
                ..found
            }));
        }
        let metadata = read_metadata(store, &folder)?;
        Ok(Some(FoundCheckpoint {
            store: None,
            folder,
            metadata,
            record: None,
            declared: BTreeMap::new(),
        }))
    }

    fn publish(
        &self,
        mut metadata: CheckpointMetadata,
        triggered: Time,
        savepoint: Option<SavepointOrder>,
    ) -> Result<(), Error> {
        let ago = self.clock.now().since(triggered).as_millis();
        let now = u128::try_from(self.clock.wall_ms()).unwrap_or(0);
        metadata.triggered_ms = u64::try_from(now.saturating_sub(ago)).unwrap_or(0);
        let dir = CheckpointLayout::new(self.job).checkpoint(metadata.checkpoint_id);
        reached(Step::Publishing);
        let Some(SavepointOrder { folder, stop, format }) = savepoint else {
            return Ok(write_metadata(self.store()?, &dir, &metadata)?);
        };
        // A savepoint is its owner's; what the job goes on from is not.
        let supersedes = std::mem::take(&mut metadata.supersedes);
        metadata.native = (format == SavepointFormat::Native).then(|| self.backend().to_owned());
        write_metadata(&*folder.open(&self.places())?, &folder.folder, &metadata)?;
        if stop.is_some() {
            reached(Step::SavepointComplete);
            // Before anybody commits: a restore of the latest checkpoint must not go back behind that.
            let record = StopRecord::of(&metadata, folder).superseding(supersedes);
            record.write(self.store()?, &dir)?;
        }
        Ok(())
    }

    fn discard(&self, work: &StorageWork) -> Result<(), Error> {
        let (store, layout) = (self.store()?, CheckpointLayout::new(self.job));
        match work {
            StorageWork::DiscardCheckpoint(id) => discard_folder(store, &layout.checkpoint(*id)),
            StorageWork::DiscardSavepoint(folder) => {
                discard_folder(&*folder.open(&self.places())?, &folder.folder)
            }
            StorageWork::DiscardClaimed(dir) => discard_claimed(store, dir, &self.places()),
            StorageWork::DiscardState(handle, Some(other)) => {
                let other = self.places().open(other)?;
                // All that a savepoint names is its own.
                let files: Vec<String> = handle.shared.iter().chain([&handle.path]).cloned().collect();
                Ok(other.delete_each(&files)?)
            }
            StorageWork::DiscardState(handle, None) => Ok(store.delete(&handle.path)?),
            StorageWork::SweepShared { up_to, kept } => sweep_shared(store, layout, (*up_to, kept)),
            StorageWork::DiscardJob => {
                store.delete_all(&layout.root())?;
                reached(Step::Cleared);
                Ok(())
            }
            StorageWork::DiscardJobBut(stopped) => discard_all_but(store, layout, *stopped),
            StorageWork::Load(_) | StorageWork::Publish { .. } => Ok(()),
        }
    }
}

/// The metadata go first: without them nobody takes what is left for a checkpoint.
fn discard_folder(store: &dyn BlobStore, dir: &str) -> Result<(), Error> {
    reached(Step::Discarding);
    store.delete(&format!("{dir}/{METADATA_NAME}"))?;
    reached(Step::HalfDiscarded);
    Ok(store.delete_all(dir)?)
}

/// Deletes the files that no checkpoint names, of those that were written for checkpoints up to one.
fn sweep_shared(
    store: &dyn BlobStore,
    layout: CheckpointLayout,
    (up_to, kept): (CheckpointId, &BTreeSet<String>),
) -> Result<(), Error> {
    let mut files = store.list(&layout.shared())?;
    files.retain(|path| {
        let old = checkpoint_of(path).is_some_and(|checkpoint| checkpoint <= up_to.0);
        old && !kept.contains(path)
    });
    Ok(store.delete_each(&files)?)
}

/// Deletes all that a job has stored but the record of the savepoint that it has stopped with.
fn discard_all_but(
    store: &dyn BlobStore,
    layout: CheckpointLayout,
    stopped: CheckpointId,
) -> Result<(), Error> {
    let kept = layout.checkpoint(stopped);
    let below = format!("{}/", layout.root());
    let mut folders: Vec<String> = Vec::new();
    for path in store.list(&layout.root())? {
        let name = path.strip_prefix(&below).and_then(|rest| rest.split_once('/'));
        folders.extend(name.map(|(name, _)| format!("{below}{name}")));
    }
    folders.dedup();
    let others = folders.iter().filter(|folder| **folder != kept);
    others
        .into_iter()
        .try_for_each(|folder| discard_folder(store, folder))
}

/// Deletes a checkpoint of another job, and with it all that the job left: it has ended. Of a savepoint, or
/// of a checkpoint that was moved, it deletes no more than what it names: others may have put files there.
fn discard_claimed(store: &dyn BlobStore, dir: &str, places: &BlobStores) -> Result<(), Error> {
    if is_whole(dir) {
        let SnapshotFolder { store, folder } = SnapshotFolder::of_path(dir)?;
        return discard_claimed(&*places.open(&store)?, &folder, places);
    }
    let root = dir.rsplit_once('/').map(|(root, _)| root);
    let Some(root) = root.filter(|root| root.parse::<JobId>().is_ok()) else {
        return Ok(delete_snapshot(store, dir)?);
    };
    discard_folder(store, dir)?;
    Ok(store.delete_all(root)?)
}

pub(super) fn failure_of(panicked: Panicked) -> TaskFailure {
    TaskFailure::panic(Fault::Internal, panicked, None)
}

/// How many discards wait for the store to come back; more are left to the end of the job, which deletes all.
const MAX_POSTPONED: usize = 256;

/// What could not be deleted. No name is used twice, so it may be deleted at any later time.
#[derive(Clone, Default)]
pub struct Postponed(Arc<Mutex<VecDeque<StorageWork>>>);

impl Postponed {
    fn push(&self, work: StorageWork) {
        let mut waiting = self.waiting();
        // The next sweep does all that this one did, and at its end a job deletes everything or waits for nobody.
        let again = matches!(
            work,
            StorageWork::DiscardCheckpoint(_)
                | StorageWork::DiscardSavepoint(_)
                | StorageWork::DiscardClaimed(_)
                | StorageWork::DiscardState(..)
        );
        if again && waiting.len() < MAX_POSTPONED {
            waiting.push_back(work);
        }
    }

    fn pop(&self) -> Option<StorageWork> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<StorageWork>> {
        // Every change is one call of the queue, so a panic elsewhere left it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that waits for its turn.
#[derive(Default)]
pub struct StorageQueue {
    waiting: VecDeque<StorageWork>,
    /// What could not be deleted.
    pub postponed: Postponed,
    busy: bool,
    held: bool,
}

impl StorageQueue {
    /// A piece of work, to be done after all others.
    pub fn push(&mut self, work: StorageWork) {
        self.waiting.push_back(work);
    }

    /// The piece whose turn it is.
    pub fn begin_next(&mut self) -> Option<StorageWork> {
        if self.busy || self.held {
            return None;
        }
        let work = self.waiting.pop_front()?;
        self.busy = true;
        Some(work)
    }

    /// The piece that was under way is done.
    pub fn done(&mut self) {
        self.busy = false;
    }

    /// What is still to be done.
    pub fn waiting(&self) -> impl Iterator<Item = &StorageWork> {
        self.waiting.iter()
    }

    /// Nothing is begun until [`Self::release`].
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// What waits goes on.
    pub fn release(&mut self) {
        self.held = false;
    }

    /// Whether nothing is to be done.
    pub fn is_idle(&self) -> bool {
        !self.busy && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::NodeId;
    use hurtig_core::key::KEY_HASH_VERSION;
    use hurtig_core::time::SystemClock;
    use hurtig_dataflow::graph::{GraphSettings, JobGraph, NodeKind, StreamEdge, StreamGraph, StreamNode};
    use hurtig_dataflow::source::SplitEnumerator;
    use hurtig_storage::{Compression, METADATA_FORMAT_VERSION, MemoryStore, SnapshotKind, StorageError};
    use hurtig_task::interface::{TaskDescriptor, TaskHandle, TaskLink};
    use std::ops::Range;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_sweep_leaves_what_is_named_or_still_being_written() {
        let store = MemoryStore::default();
        let layout = CheckpointLayout::new(JobId::from_u128(5));
        let path = |name: &str| format!("{}/{name}", layout.shared());
        for name in ["1-a", "2-a", "3-a", "10-a", "unknown"] {
            store.put_new(&path(name), b"x").unwrap();
        }
        let kept = BTreeSet::from([path("1-a")]);
        sweep_shared(&store, layout, (CheckpointId(3), &kept)).unwrap();
        let mut left = store.list(&layout.shared()).unwrap();
        left.sort();
        assert_eq!(left, ["1-a", "10-a", "unknown"].map(path));
        let none = CheckpointLayout::new(JobId::from_u128(6));
        sweep_shared(&store, none, (CheckpointId(3), &kept)).unwrap();
    }

    /// A store that deletes nothing while it is away.
    struct Away(MemoryStore, AtomicBool);

    impl Away {
        fn here(&self) -> hurtig_storage::Result<&MemoryStore> {
            match self.1.load(Ordering::SeqCst) {
                true => Err(StorageError::Io {
                    action: "reach",
                    path: String::new(),
                    source: std::io::ErrorKind::TimedOut.into(),
                }),
                false => Ok(&self.0),
            }
        }
    }

    impl BlobStore for Away {
        fn put_new(&self, path: &str, bytes: &[u8]) -> hurtig_storage::Result<()> {
            self.here()?.put_new(path, bytes)
        }
        fn get(&self, path: &str) -> hurtig_storage::Result<Vec<u8>> {
            self.0.get(path)
        }
        fn get_range(&self, path: &str, range: Range<u64>) -> hurtig_storage::Result<Vec<u8>> {
            self.0.get_range(path, range)
        }
        fn exists(&self, path: &str) -> hurtig_storage::Result<bool> {
            self.0.exists(path)
        }
        fn list(&self, folder: &str) -> hurtig_storage::Result<Vec<String>> {
            self.0.list(folder)
        }
        fn delete(&self, path: &str) -> hurtig_storage::Result<()> {
            self.here()?.delete(path)
        }
        fn delete_all(&self, folder: &str) -> hurtig_storage::Result<()> {
            self.here()?.delete_all(folder)
        }
        fn sweep(&self, folder: &str) -> hurtig_storage::Result<usize> {
            self.0.sweep(folder)
        }
    }

    /// A program that is never run.
    struct NeverRun(JobGraph);

    impl TaskFactory for NeverRun {
        fn job_graph(&self) -> &JobGraph {
            &self.0
        }
        fn enumerator(&self, _: NodeId) -> Option<Box<dyn SplitEnumerator>> {
            None
        }
        fn start_task(
            &self,
            _: TaskDescriptor,
            _: Box<dyn TaskLink>,
        ) -> Result<TaskHandle, hurtig_core::Error> {
            Err(hurtig_core::Error::internal("it is never run"))
        }
    }

    #[test]
    fn what_could_not_be_deleted_is_deleted_when_the_store_is_back() {
        let store = Arc::new(Away(MemoryStore::default(), AtomicBool::new(false)));
        let mut graph = StreamGraph::new();
        let source = graph.add_node(StreamNode::new("in", "Source", NodeKind::Source));
        let sink = graph.add_node(StreamNode::new("out", "Sink", NodeKind::Sink));
        graph.add_edge(StreamEdge::new(source, sink));
        let graph = graph
            .job_graph(JobId::from_u128(5), &GraphSettings::default())
            .unwrap();
        let storage = JobStorage {
            job: JobId::from_u128(5),
            name: "job".to_owned(),
            storage: Some(CheckpointStorage::new(store.clone(), Compression::None)),
            clock: SystemClock::new(),
            factory: Arc::new(NeverRun(graph)),
            postponed: Postponed::default(),
        };
        let publish = |id| {
            let metadata = CheckpointMetadata {
                format_version: METADATA_FORMAT_VERSION,
                checkpoint_id: CheckpointId(id),
                kind: SnapshotKind::Checkpoint,
                job_id: storage.job,
                job_name: "job".to_owned(),
                triggered_ms: 0,
                key_hash_version: KEY_HASH_VERSION,
                supersedes: Vec::new(),
                native: None,
                operators: Vec::new(),
            };
            let work = StorageWork::Publish {
                metadata: Box::new(metadata),
                triggered: storage.clock.now(),
                savepoint: None,
            };
            let done = storage.carry_out(work);
            matches!(done, Some(JobEvent::CheckpointPublished(_, Ok(()))))
        };
        assert!(publish(1) && publish(2) && publish(3));
        store.1.store(true, Ordering::SeqCst);
        for id in [1, 2] {
            assert_eq!(
                storage.carry_out(StorageWork::DiscardCheckpoint(CheckpointId(id))),
                None
            );
        }
        assert!(!publish(4));
        assert_eq!(store.0.list("").unwrap().len(), 3);
        store.1.store(false, Ordering::SeqCst);
        assert!(publish(5));
        let layout = CheckpointLayout::new(storage.job);
        let left = [3, 5].map(|id| format!("{}/{METADATA_NAME}", layout.checkpoint(CheckpointId(id))));
        assert_eq!(store.0.list("").unwrap(), left);
    }
}
