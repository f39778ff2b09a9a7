//! [`SavepointWriter`]: a new savepoint, of new operators and those of another savepoint.
//!
//! State files of operators that nothing is changed of are copied byte for byte; those of others are written anew. The
//! `_metadata` come last, so that half a savepoint is none.

use crate::builder::{OperatorBuilder, check_uid};
use crate::error::{Result, StateProcessorError};
use crate::savepoint::{Kinds, Savepoint};
use hurtig_core::ids::{
    AttemptNumber, CheckpointId, ExecutionId, JobId, OperatorId, SubtaskId, random_number,
};
use hurtig_core::key::KEY_HASH_VERSION;
use hurtig_core::time::{Clock, SystemClock};
use hurtig_storage::store_files::STORE_SECTION;
use hurtig_storage::{
    BlobStore, BlobStores, CheckpointLayout, CheckpointMetadata, Compression, METADATA_FORMAT_VERSION,
    METADATA_NAME, OperatorStates, SnapshotFolder, SnapshotKind, StateHandle, StorageError, SubtaskState,
    write_metadata, write_state,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the section is called that a checkpoint has records in which a barrier has overtaken.
const IN_FLIGHT: &str = "hurtig:in-flight";

/// A savepoint that is being made.
///
/// ```
/// use hurtig_state_processor::{OperatorBuilder, Savepoint, SavepointWriter};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let [first, second] = ["first", "second"].map(|name| dir.path().join(name).display().to_string());
/// let counts = OperatorBuilder::new("counts", 128)?.value("count", [("ada", 3_u64), ("bob", 1)])?;
/// let rules = OperatorBuilder::new("rules", 128)?.broadcast("limits", [("eve", 10)])?;
/// SavepointWriter::new("clicks").operator(counts)?.operator(rules)?.write(&first)?;
///
/// let savepoint = Savepoint::open(&first)?;
/// let doubled = savepoint.value::<String, u64>("counts", "count")?.into_iter();
/// let doubled = doubled.map(|entry| entry.map(|(name, count)| (name, 2 * count)));
/// savepoint
///     .modify()?
///     .change_operator("counts", |states| states.value("count", doubled))?
///     .remove_operator("rules")?
///     .write(&second)?;
/// # assert_eq!(Savepoint::open(&second)?.operators().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SavepointWriter {
    base: Option<Savepoint>,
    job_name: String,
    operators: Vec<Part>,
}

/// An operator of a new savepoint.
#[derive(Debug)]
enum Part {
    /// As it is in the savepoint before, maybe under another uid, with the states that it has.
    Carried(OperatorStates, Kinds),
    Built(Box<OperatorBuilder>),
}

impl Part {
    fn states(&self) -> &OperatorStates {
        match self {
            Self::Carried(states, _) => states,
            Self::Built(builder) => &builder.states,
        }
    }
}

impl Savepoint {
    /// A savepoint that has what this one has, to be changed and written to another folder.
    ///
    /// # Errors
    /// For those that cannot be: incremental checkpoints and native savepoints, whose keyed state is in files of RocksDB, and
    /// checkpoints with records that barriers have overtaken.
    pub fn modify(&self) -> Result<SavepointWriter> {
        let refuse = |problem: &str| {
            let problem = format!(
                "'{}' is a {} {problem}; take a canonical savepoint of a job that was restored from it, and change that",
                self.path(),
                self.metadata().kind
            );
            Err(StateProcessorError::Unwritable { problem })
        };
        let has = |section| self.operators().iter().any(|operator| operator.has(section));
        if has(STORE_SECTION) {
            return refuse("whose keyed state is in files of RocksDB");
        }
        if has(IN_FLIGHT) {
            return refuse("with records that barriers have overtaken");
        }
        let operators = self.metadata().operators.iter().zip(self.operators());
        Ok(SavepointWriter {
            base: Some(self.clone()),
            job_name: self.job_name().to_owned(),
            operators: operators
                .map(|(stored, operator)| Part::Carried(stored.clone(), operator.states.clone()))
                .collect(),
        })
    }
}

impl SavepointWriter {
    /// A savepoint without operators.
    pub fn new(job_name: &str) -> Self {
        Self {
            base: None,
            job_name: job_name.to_owned(),
            operators: Vec::new(),
        }
    }

    /// Adds an operator.
    ///
    /// # Errors
    /// When there is one of this uid; [`Self::change_operator`] changes it.
    pub fn operator(mut self, operator: OperatorBuilder) -> Result<Self> {
        self.is_new(operator.states.operator, operator.states.uid.as_deref())?;
        self.operators.push(Part::Built(Box::new(operator)));
        Ok(self)
    }

    /// Drops an operator and its states.
    ///
    /// # Errors
    /// When there is none of this uid.
    pub fn remove_operator(mut self, uid: &str) -> Result<Self> {
        let at = self.find(uid)?;
        self.operators.remove(at);
        Ok(self)
    }

    /// Gives the states of an operator to another uid. So an operator that had none gets one.
    ///
    /// # Errors
    /// When there is no operator `from`, or one of uid `to`, which is not empty.
    pub fn rename_operator(mut self, from: &str, to: &str) -> Result<Self> {
        let at = self.find(from)?;
        check_uid(to)?;
        let id = OperatorId::of_uid(to);
        self.is_new(id, Some(to))?;
        match &mut self.operators[at] {
            Part::Carried(states, _) => (states.operator, states.uid) = (id, Some(to.to_owned())),
            Part::Built(_) => {
                let problem = format!("operator '{from}' is renamed after it was changed; rename it first");
                return Err(StateProcessorError::Unwritable { problem });
            }
        }
        Ok(self)
    }

    /// Changes the states of an operator: those that `change` sets or removes; others stay as they are.
    ///
    /// # Errors
    /// When there is none of this uid, or `change` returns one of another uid, and what `change` fails with.
    pub fn change_operator(
        mut self,
        uid: &str,
        change: impl FnOnce(OperatorBuilder) -> Result<OperatorBuilder>,
    ) -> Result<Self> {
        let at = self.find(uid)?;
        let id = self.operators[at].states().operator;
        let builder = match self.operators.remove(at) {
            Part::Carried(states, had) => OperatorBuilder::of(states, had, self.base.clone()),
            Part::Built(builder) => *builder,
        };
        let changed = change(builder)?;
        if changed.states.operator != id {
            let other = changed.states.uid.as_deref().unwrap_or_default();
            return Err(StateProcessorError::unwritable(format!(
                "the change of operator '{uid}' returns operator '{other}'; return the one that it is handed, or add another \
                 one with `operator`"
            )));
        }
        self.operators.insert(at, Part::Built(Box::new(changed)));
        Ok(self)
    }

    fn find(&self, uid: &str) -> Result<usize> {
        let key = |part: &Part| {
            let states = part.states();
            states.uid.clone().unwrap_or_else(|| states.operator.to_string())
        };
        let found = self.operators.iter().position(|part| key(part) == uid);
        found.ok_or_else(|| {
            let names: Vec<String> = self.operators.iter().map(key).collect();
            StateProcessorError::unwritable(format!("it has no operator '{uid}'; it has {names:?}"))
        })
    }

    fn is_new(&self, id: OperatorId, uid: Option<&str>) -> Result<()> {
        if self.operators.iter().all(|part| part.states().operator != id) {
            return Ok(());
        }
        let uid = uid.unwrap_or_default();
        Err(StateProcessorError::unwritable(format!(
            "it has an operator '{uid}' already; change that with `change_operator`, or name another uid"
        )))
    }

    /// Writes the savepoint to a folder that is new or empty, and returns its whole path: `--restore` takes it.
    ///
    /// # Errors
    /// When the folder has something in it, a file of the savepoint before is damaged, or the disk fails; what was written
    /// is removed then.
    pub fn write(self, path: &str) -> Result<String> {
        self.write_in(path, &BlobStores::local())
    }

    /// As [`write`](Self::write), in any of these stores.
    ///
    /// # Errors
    /// As there.
    pub fn write_in(self, path: &str, stores: &BlobStores) -> Result<String> {
        let folder = SnapshotFolder::of_path(path)?;
        Output::new(&folder, stores)?.write(&self)?;
        Ok(folder.path())
    }

    fn write_to(&self, output: &mut Output<'_>) -> Result<()> {
        let operators = self.operators.iter().map(|part| match (part, &self.base) {
            (Part::Carried(states, _), Some(base)) => output.carry(base, states),
            (Part::Carried(states, _), None) => Ok(states.clone()),
            (Part::Built(builder), _) => output.build(builder),
        });
        let operators = operators.collect::<Result<_>>()?;
        let before = self.base.as_ref().map(Savepoint::metadata);
        let metadata = CheckpointMetadata {
            format_version: METADATA_FORMAT_VERSION,
            checkpoint_id: before.map_or(CheckpointId(1), |before| before.checkpoint_id),
            kind: SnapshotKind::Savepoint,
            job_id: before.map_or_else(JobId::random, |before| before.job_id),
            job_name: self.job_name.clone(),
            triggered_ms: u64::try_from(SystemClock::new().wall_ms()).unwrap_or(0),
            key_hash_version: KEY_HASH_VERSION,
            supersedes: Vec::new(),
            native: None,
            operators,
        };
        let dir = &output.folder.folder;
        let written = write_metadata(&*output.store, dir, &metadata);
        output.noted(format!("{dir}/{METADATA_NAME}"), written)
    }
}

/// Where a savepoint is written to.
struct Output<'a> {
    store: Arc<dyn BlobStore>,
    folder: &'a SnapshotFolder,
    /// Files of the savepoint before and their copies.
    copied: BTreeMap<String, StateHandle>,
    written: Vec<String>,
}

impl<'a> Output<'a> {
    /// A folder that is new or empty.
    fn new(folder: &'a SnapshotFolder, stores: &BlobStores) -> Result<Self> {
        let output = Self {
            store: folder.open(stores)?,
            folder,
            copied: BTreeMap::new(),
            written: Vec::new(),
        };
        let found = output.store.list(&folder.folder);
        if !found.map_err(|error| output.whole(error))?.is_empty() {
            return Err(StateProcessorError::unwritable(format!(
                "there is something in '{}' already; name a folder that is new or empty",
                folder.path()
            )));
        }
        Ok(output)
    }

    /// Writes all of a savepoint, or nothing.
    fn write(&mut self, savepoint: &SavepointWriter) -> Result<()> {
        savepoint.write_to(self).inspect_err(|_| self.forget())
    }

    /// Remembers a file that was written, or may have been. One that was there is somebody else's.
    fn noted<T>(&mut self, path: String, written: Result<T, StorageError>) -> Result<T> {
        if matches!(written, Err(StorageError::AlreadyExists { .. })) {
            return Err(StateProcessorError::unwritable(format!(
                "somebody else has just written to '{}'; name a folder that is new or empty",
                self.folder.path()
            )));
        }
        self.written.push(path);
        written.map_err(|error| self.whole(error))
    }

    fn whole(&self, error: StorageError) -> StateProcessorError {
        error.within(&self.folder.store).into()
    }

    /// An operator as it was.
    fn carry(&mut self, base: &Savepoint, states: &OperatorStates) -> Result<OperatorStates> {
        let mut states = states.clone();
        for subtask in states.subtasks.values_mut() {
            if let Some(handle) = &mut subtask.handle {
                *handle = self.copy(base, handle)?;
            }
        }
        Ok(states)
    }

    /// A file as it was; those of chained operators are copied once.
    fn copy(&mut self, base: &Savepoint, handle: &StateHandle) -> Result<StateHandle> {
        if let Some(copy) = self.copied.get(&handle.path) {
            return Ok(copy.clone());
        }
        let bytes = base.sound_file(handle)?;
        let name = handle.path.rsplit('/').next().unwrap_or(&handle.path);
        let path = format!("{}/{name}", self.folder.folder);
        let written = self.store.put_new(&path, &bytes);
        self.noted(path.clone(), written)?;
        let copy = StateHandle {
            path,
            ..handle.clone()
        };
        self.copied.insert(handle.path.clone(), copy.clone());
        Ok(copy)
    }

    /// A new or changed operator.
    fn build(&mut self, builder: &OperatorBuilder) -> Result<OperatorStates> {
        builder.check_finished()?;
        let mut states = builder.states.clone();
        for index in 0..states.parallelism {
            let handle = self.write_subtask(builder, index)?;
            let before = states.subtasks.remove(&index);
            let finished = before.is_some_and(|before| before.finished);
            let state = SubtaskState {
                handle,
                index_in_file: 0,
                finished,
            };
            states.subtasks.insert(index, state);
        }
        Ok(states)
    }

    fn write_subtask(&mut self, builder: &OperatorBuilder, index: u32) -> Result<Option<StateHandle>> {
        let snapshot = builder.subtask(index)?;
        let execution = ExecutionId {
            subtask: SubtaskId {
                vertex: builder.states.operator.vertex(),
                index,
            },
            attempt: AttemptNumber(0),
        };
        let path = CheckpointLayout::state_file(&self.folder.folder, execution, random_number());
        let written = write_state(&*self.store, &path, &[snapshot], Compression::default());
        self.noted(path, written)
    }

    /// Removes what was written of a savepoint that failed, the metadata first. The failure at hand says more than what this
    /// one fails with.
    fn forget(&self) {
        for path in self.written.iter().rev() {
            let _ = self.store.delete(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_state::{OperatorSnapshot, Redistribution};

    /// A checkpoint whose only operator has a section of this name.
    fn checkpoint(path: &str, section: &str) -> Savepoint {
        let folder = SnapshotFolder::of_path(path).unwrap();
        let store = folder.open(&BlobStores::local()).unwrap();
        let mut snapshot = OperatorSnapshot::default();
        snapshot
            .put_operator(section, Redistribution::Split, &[1])
            .unwrap();
        let file = format!("{}/state", folder.folder);
        let handle = write_state(&*store, &file, &[snapshot], Compression::None).unwrap();
        let mut states = OperatorBuilder::new("operator", 1).unwrap().states;
        let state = SubtaskState {
            handle,
            ..SubtaskState::default()
        };
        states.subtasks.insert(0, state);
        of_states(&folder, states);
        Savepoint::open(path).unwrap()
    }

    /// Writes the metadata of a checkpoint with one operator.
    fn of_states(folder: &SnapshotFolder, states: OperatorStates) {
        let metadata = CheckpointMetadata {
            format_version: METADATA_FORMAT_VERSION,
            checkpoint_id: CheckpointId(3),
            kind: SnapshotKind::Checkpoint,
            job_id: JobId::from_u128(7),
            job_name: "job".to_owned(),
            triggered_ms: 0,
            key_hash_version: KEY_HASH_VERSION,
            supersedes: Vec::new(),
            native: None,
            operators: vec![states],
        };
        write_metadata(
            &*folder.open(&BlobStores::local()).unwrap(),
            &folder.folder,
            &metadata,
        )
        .unwrap();
    }

    fn path_in(folder: &tempfile::TempDir, name: &str) -> String {
        folder.path().join(name).display().to_string()
    }

    #[test]
    fn records_that_barriers_have_overtaken_are_not_taken_along() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| path_in(&folder, name);
        let plain = checkpoint(&path("plain"), "list").modify().unwrap();
        plain.write(&path("copy")).unwrap();
        assert_eq!(
            Savepoint::open(&path("copy")).unwrap().metadata().kind,
            SnapshotKind::Savepoint
        );
        let error = checkpoint(&path("unaligned"), IN_FLIGHT).modify().unwrap_err();
        assert!(error.to_string().contains("overtaken"), "{error}");
    }
    /// Between the look into the folder and the first file, somebody else writes a savepoint there.
    #[test]
    fn what_another_writer_has_put_into_the_folder_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let numbers = |n: u64| {
            let numbers = OperatorBuilder::new("numbers", 4).unwrap();
            SavepointWriter::new("numbers")
                .operator(numbers.value("n", [(n, n)]).unwrap())
                .unwrap()
        };
        let base = path_in(&dir, "base");
        numbers(1).write(&base).unwrap();
        let base = Savepoint::open(&base).unwrap();
        let copies = || base.modify().unwrap();
        for (name, first, second) in [("copies", copies(), copies()), ("new", copies(), numbers(2))] {
            let path = path_in(&dir, name);
            let folder = SnapshotFolder::of_path(&path).unwrap();
            let mut late = Output::new(&folder, &BlobStores::local()).unwrap();
            first.write(&path).unwrap();
            let error = late.write(&second).unwrap_err().to_string();
            assert!(
                error.contains("somebody else") && error.contains(&path),
                "{error}"
            );
            let found = Savepoint::open(&path).unwrap().value::<u64, u64>("numbers", "n");
            let found: Vec<_> = found.unwrap().into_iter().map(Result::unwrap).collect();
            assert_eq!(found, [(1, 1)], "{name}");
            let files = std::fs::read_dir(&path).unwrap().count();
            assert_eq!(files, 2, "what the late one wrote is gone: {name}");
        }
    }

    #[test]
    fn what_a_job_would_not_restore_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_in(&dir, "finished");
        let mut states = OperatorBuilder::new("operator", 1).unwrap().states;
        let state = SubtaskState {
            finished: true,
            ..SubtaskState::default()
        };
        states.subtasks.insert(0, state);
        of_states(&SnapshotFolder::of_path(&path).unwrap(), states);
        let modify = || Savepoint::open(&path).unwrap().modify().unwrap();
        let changed = modify().change_operator("operator", |states| states.value("n", [(1_u8, 1_u8)]));
        let error = changed.unwrap().write(&path_in(&dir, "changed")).unwrap_err();
        assert!(
            error.to_string().contains("'operator'") && error.to_string().contains("had finished"),
            "{error}"
        );
        let again = OperatorBuilder::new("operator", 1).unwrap();
        let again = modify()
            .remove_operator("operator")
            .unwrap()
            .operator(again.value("n", [(1_u8, 1_u8)]).unwrap());
        again.unwrap().write(&path_in(&dir, "again")).unwrap();
        let written = Savepoint::open(&path_in(&dir, "again")).unwrap();
        assert!(!written.metadata().operators[0].subtasks[&0].finished);
    }
}
