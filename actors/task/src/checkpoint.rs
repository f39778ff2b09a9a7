//! A task's state on its way to the checkpoint store and back.

use crate::in_flight::{self, ChannelName, Found, groups_of};
use crate::interface::{
    CheckpointOrder, CheckpointPart, OperatorRestore, PartFigures, SavepointOrder, TaskDescriptor,
    TaskRestore,
};
use hurtig_core::ids::{CheckpointId, ExecutionId, JobId, random_number};
use hurtig_core::{Error, Result};
use hurtig_dataflow::chain::{InFlightRestore, TaskCut};
use hurtig_state::{OperatorSnapshot, StoreBackend};
use hurtig_storage::{
    BlobStore, BlobStores, CheckpointLayout, Compression, LocalCopies, NamedBytes, Reader, Reuse,
    SavepointFormat, Scale, SharedFolder, StateHandle, StorageError, forget_files, has_store,
    open_state_groups, redistribute, save_store, write_state,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Where the checkpoints of a job are kept.
#[derive(Clone)]
pub struct CheckpointStorage {
    store: Arc<dyn BlobStore>,
    /// Opens the stores of savepoints, and of what a job begins with.
    places: BlobStores,
    compression: Compression,
    /// Where cuts go, whatever their checkpoint; `None`: into the folder of their checkpoint.
    folder: Option<String>,
    stores: Option<StoreFiles>,
    reuse: Reuse,
    /// The checkpoint that is restored without the records that were in flight.
    without_in_flight: Option<CheckpointId>,
}

/// What becomes of stores with keyed state in checkpoints.
#[derive(Clone)]
pub struct StoreFiles {
    /// Opens stores of whose files a checkpoint consists.
    pub open: Arc<dyn Fn() -> Result<StoreBackend> + Send + Sync>,
    /// The name of the state backend that keeps state in such stores.
    pub backend: &'static str,
    /// Whether the job keeps its state in such stores, so that one can be restored as it is.
    pub adopts: bool,
    /// Whether checkpoints consist of stores' files, so that each writes what the ones before do not have, unless one is
    /// ordered otherwise. Of savepoints, native ones do, and share nothing.
    pub incremental: bool,
    /// Where copies of such files are kept on this disk, if they are.
    pub backup: Option<LocalCopies>,
    /// The same, if tasks that start again read those copies.
    pub from_local: Option<LocalCopies>,
}

impl fmt::Debug for CheckpointStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointStorage({:?})", self.compression)
    }
}

impl CheckpointStorage {
    /// Checkpoints in `store`, with state files compressed so.
    pub fn new(store: Arc<dyn BlobStore>, compression: Compression) -> Self {
        Self {
            store,
            places: BlobStores::local(),
            compression,
            folder: None,
            stores: None,
            reuse: Reuse::Kept,
            without_in_flight: None,
        }
    }

    /// The same with savepoints wherever these can be opened, not in local directories only.
    #[must_use]
    pub fn with_places(self, places: BlobStores) -> Self {
        Self { places, ..self }
    }

    /// The same that restores a checkpoint without the records that were in flight when it was taken.
    #[must_use]
    pub fn without_in_flight_of(self, checkpoint: Option<CheckpointId>) -> Self {
        Self {
            without_in_flight: checkpoint,
            ..self
        }
    }

    /// The same with checkpoints that consist of stores' files.
    #[must_use]
    pub fn with_stores(self, stores: StoreFiles) -> Self {
        let stores = Some(stores);
        Self { stores, ..self }
    }

    /// The same with everything in the folder of a savepoint, which may lie in another store.
    fn within(&self, order: &SavepointOrder) -> hurtig_storage::Result<Self> {
        let stores = self.stores.clone();
        let native = stores.filter(|stores| stores.adopts && order.format == SavepointFormat::Native);
        Ok(Self {
            store: order.folder.open(&self.places)?,
            folder: Some(order.folder.folder.clone()),
            stores: native.map(|stores| StoreFiles {
                incremental: true,
                backup: None,
                ..stores
            }),
            reuse: Reuse::Apart,
            ..self.clone()
        })
    }

    /// The same for a checkpoint that is not like all others.
    pub(crate) fn ordered(&self, order: &CheckpointOrder) -> hurtig_storage::Result<Self> {
        let mut ordered = self.clone();
        match order {
            CheckpointOrder::Savepoint(order) => return self.within(order),
            CheckpointOrder::Full => ordered.reuse = Reuse::Nothing,
            CheckpointOrder::Incremental => {
                ordered
                    .stores
                    .iter_mut()
                    .for_each(|stores| stores.incremental = true);
            }
        }
        Ok(ordered)
    }

    /// The state backend that has the job's keyed state, as savepoints that consist of its files call it.
    pub fn backend(&self) -> &'static str {
        match &self.stores {
            Some(stores) if stores.adopts => stores.backend,
            _ => "hashmap",
        }
    }

    /// Whether the job's checkpoints name files of earlier ones.
    pub fn is_incremental(&self) -> bool {
        self.stores.as_ref().is_some_and(|stores| stores.incremental)
    }

    /// Whether a checkpoint of the job can name files of earlier ones.
    pub fn can_be_incremental(&self) -> bool {
        self.stores.as_ref().is_some_and(|stores| stores.adopts)
    }

    fn folder_of(&self, job: JobId, checkpoint: CheckpointId) -> String {
        let own = || CheckpointLayout::new(job).checkpoint(checkpoint);
        self.folder.clone().unwrap_or_else(own)
    }

    /// What opens other stores.
    pub fn places(&self) -> &BlobStores {
        &self.places
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    /// Stores a task's part of a checkpoint. Blocks; the part is durable when it returns. `operators`
    /// are those of the chain, in order.
    pub(crate) fn store_cut(&self, task: &StoredTask, mut cut: TaskCut) -> Result<CheckpointPart> {
        let dir = self.folder_of(task.job, cut.checkpoint);
        let path = CheckpointLayout::state_file(&dir, task.execution, random_number());
        let operators = cut.operators.get_mut(task.skip..).unwrap_or_default();
        let shapes = operators
            .iter_mut()
            .map(|operator| std::mem::take(&mut operator.shapes));
        let shapes = shapes.collect();
        let overtook = cut.in_flight.is_some();
        let mut figures = PartFigures {
            alignment: cut.times.alignment(),
            through: cut.times.through(),
            ..PartFigures::default()
        };
        if let (Some(in_flight), Some(first)) = (cut.in_flight, operators.first_mut()) {
            figures.in_flight_bytes = in_flight::put(in_flight, &task.channels, first)?;
        }
        let mut shared = Vec::new();
        let stored = self
            .save_stores(task, cut.checkpoint, operators, &mut shared)
            .and_then(|named| {
                (figures.named_bytes, figures.new_bytes) = (named.all, named.new);
                write_state(&*self.store, &path, operators, self.compression)
            });
        let mut handle = stored.inspect_err(|_| {
            self.forget(&path);
            forget_files(&*self.store, cut.checkpoint, &shared);
        })?;
        if let Some(handle) = &mut handle {
            handle.shared = shared;
        }
        Ok(CheckpointPart {
            handle,
            shapes,
            stored_in: Duration::ZERO,
            overtook,
            figures: Some(figures),
        })
    }

    /// Writes files of the operators' stores, if checkpoints consist of them.
    fn save_stores(
        &self,
        task: &StoredTask,
        checkpoint: CheckpointId,
        operators: &mut [OperatorSnapshot],
        named: &mut Vec<String>,
    ) -> hurtig_storage::Result<NamedBytes> {
        let mut bytes = NamedBytes::default();
        let Some(stores) = &self.stores else {
            return Ok(bytes);
        };
        if !stores.incremental {
            let stored = operators.iter().filter_map(|operator| operator.stored.as_ref());
            stored.for_each(|stored| {
                stored.forget_uploads(task.completed.0, &task.given_up);
                stored.uploaded_nothing(checkpoint.0);
            });
            return Ok(bytes);
        }
        let shared = SharedFolder {
            folder: self
                .folder
                .clone()
                .unwrap_or_else(|| CheckpointLayout::new(task.job).shared()),
            execution: task.execution,
            checkpoint,
            reuse: self.reuse,
            completed: task.completed.0,
            given_up: task.given_up.clone(),
            local: stores.backup.clone(),
        };
        for operator in operators {
            let of_one = save_store(&*self.store, operator, &shared, named)?;
            bytes.all += of_one.all;
            bytes.new += of_one.new;
        }
        Ok(bytes)
    }

    /// Removes what a failed write may have left. That it fails is no news: the write did too.
    fn forget(&self, path: &str) {
        if let Err(error) = self.store.delete(path) {
            tracing::warn!(path, %error, "what a failed checkpoint left cannot be deleted");
        }
    }

    /// What the operators of a task begin with, in order; `None` for one that the checkpoint does not
    /// know. Blocks.
    pub(crate) fn load(
        &self,
        task: &TaskDescriptor,
        restore: &TaskRestore,
        channels: &[ChannelName],
    ) -> Result<Restored, LoadError> {
        let store = match &restore.store {
            Some(location) => self.places.open(location).map_err(Error::from)?,
            None => self.store.clone(),
        };
        let ignored = self.without_in_flight == Some(restore.checkpoint);
        let mut in_flight = None;
        let load = |(at, (operator, node)): (usize, (&Option<OperatorRestore>, _))| {
            let Some(operator) = operator else { return Ok(None) };
            let channels = if at == 0 { channels } else { &[] };
            let loaded = load_operator(
                ((&store, restore.store.as_deref()), self.stores.as_ref()),
                task,
                operator,
                (channels, ignored),
            );
            let loaded = loaded.map(|(loaded, flying)| {
                in_flight = in_flight.take().or(flying);
                loaded
            });
            let loaded = match &restore.store {
                Some(location) => loaded.map_err(|error| error.within(location)),
                None => loaded,
            };
            loaded.map(Some).map_err(|error| {
                let permanent = !error.can_retry();
                let checkpoint = restore.checkpoint;
                let what = format!("cannot restore operator {node} from checkpoint {checkpoint}");
                let error = Error::from(error).context(what);
                LoadError { error, permanent }
            })
        };
        let operators = restore.operators.iter().zip(&task.operators);
        let operators = operators.enumerate().map(load).collect::<Result<Vec<_>, _>>()?;
        Ok(Restored { operators, in_flight })
    }
}

fn load_operator(
    (store, stores): ((&Arc<dyn BlobStore>, Option<&str>), Option<&StoreFiles>),
    task: &TaskDescriptor,
    operator: &OperatorRestore,
    (channels, without_in_flight): (&[ChannelName], bool),
) -> hurtig_storage::Result<(OperatorSnapshot, Option<InFlightRestore>)> {
    let groups = groups_of(task);
    let (mut found, mut path) = (Found::default(), "");
    let mut files: BTreeMap<&str, Vec<OperatorSnapshot>> = BTreeMap::new();
    let (mut states, mut restored) = (Vec::new(), None);
    for (subtask, state) in &operator.subtasks {
        let Some(handle) = &state.handle else { continue };
        if !files.contains_key(handle.path.as_str()) {
            let read = open_state_groups(store, handle, groups.clone())?;
            files.insert(&handle.path, read);
        }
        let mut state = snapshot_in(&mut files, handle, state.index_in_file)?;
        let taken = found.take_from(*subtask, &mut state);
        taken.map_err(|error| incompatible(&handle.path, error.chain()))?;
        path = &handle.path;
        if has_store(&state) {
            hydrate(&**store.0, stores, (&mut state, handle), groups.clone())?;
            restored = state.restored.take().or(restored);
        }
        states.push((*subtask, state));
    }
    let dealt = match without_in_flight || found.is_empty() {
        true => Ok(None),
        false => found.deal(operator.parallelism, task, channels),
    };
    let in_flight = dealt.map_err(|problem| incompatible(path, problem))?;
    let to = Scale {
        parallelism: task.parallelism,
        max_parallelism: task.max_parallelism,
    };
    let mut dealt = redistribute(states, operator.scale(), to)?;
    let index = task.execution.subtask.index as usize;
    let mut own = dealt.swap_remove(index);
    own.restored = restored;
    own.shapes.clone_from(&operator.shapes);
    Ok((own, in_flight))
}

fn incompatible(path: &str, problem: String) -> StorageError {
    let path = path.to_owned();
    StorageError::Incompatible { path, problem }
}

/// Makes of a store's files what is of use to a task with these key groups.
fn hydrate(
    blobs: &dyn BlobStore,
    stores: Option<&StoreFiles>,
    (snapshot, handle): (&mut OperatorSnapshot, &StateHandle),
    groups: Range<u16>,
) -> hurtig_storage::Result<()> {
    let Some(StoreFiles {
        open,
        adopts,
        from_local,
        ..
    }) = stores
    else {
        let problem = "it names files of RocksDB, and this program was built without that: build it with the feature \
                       'rocksdb', or restore a canonical savepoint";
        return Err(incompatible(&handle.path, problem.to_owned()));
    };
    let stores = &open().map_err(StorageError::State)?;
    let local = from_local.as_ref();
    let folder = handle.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let reader = Reader {
        blobs,
        folder,
        stores,
        local,
    };
    reader.hydrate(snapshot, groups, *adopts)
}

/// Why state cannot be loaded.
pub(crate) struct LoadError {
    pub(crate) error: Error,
    /// Whether it will not be different the next time.
    pub(crate) permanent: bool,
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        let permanent = false;
        Self { error, permanent }
    }
}

/// What a task begins with.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// What its operators remembered.
    pub(crate) operators: Vec<Option<OperatorSnapshot>>,
    /// What was on its way to it.
    pub(crate) in_flight: Option<InFlightRestore>,
}

/// Whose state is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredTask {
    pub(crate) job: JobId,
    pub(crate) execution: ExecutionId,
    /// The parts of the dataflow that stand before the first operator: a head that only reads channels.
    pub(crate) skip: usize,
    /// The last checkpoint that the task knows to be complete.
    pub(crate) completed: CheckpointId,
    /// Later ones that it knows to have been given up.
    pub(crate) given_up: BTreeSet<u64>,
    /// The channels that lead to it.
    pub(crate) channels: Arc<[ChannelName]>,
}

fn snapshot_in(
    files: &mut BTreeMap<&str, Vec<OperatorSnapshot>>,
    handle: &StateHandle,
    index: u32,
) -> hurtig_storage::Result<OperatorSnapshot> {
    let snapshots = files.get_mut(handle.path.as_str());
    let snapshot = snapshots.and_then(|snapshots| snapshots.get_mut(index as usize));
    snapshot.map(std::mem::take).ok_or_else(|| {
        let problem =
            format!("it holds no state of an operator {index}, which the checkpoint's metadata names");
        incompatible(&handle.path, problem)
    })
}
