//! Checkpoints and savepoints that somebody asks a JobMaster for: where they go, and who is answered.

use super::checkpoints::RequestId;
use super::events::{JobEvent, WantedCheckpoint};
use super::savepoints::STOPPED_BEFORE;
use super::shell::JobMaster;
use crate::config::CheckpointKind;
use crate::error::ClusterError;
use hurtig_core::ids::{CheckpointId, JobId, random_number};
use hurtig_dataflow::chain::StopMode;
use hurtig_kit::{Reply, ShellCx};
use hurtig_storage::{BlobStores, CheckpointLayout, SavepointFormat, SnapshotFolder};
use hurtig_task::CheckpointStorage;
use hurtig_task::interface::{CheckpointOrder, SavepointOrder};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Names of what is over that are remembered: the leader asks again for what it has not recorded.
const MAX_NAMED: usize = 256;

/// What somebody who wants a savepoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavepointCall {
    /// Of which job.
    pub(crate) job: JobId,
    /// The directory that it goes into; `None`: the job's own.
    pub(crate) dir: Option<String>,
    /// How the job stops with it; `None`: it goes on.
    pub(crate) stop: Option<StopMode>,
    /// In which form it holds keyed state; `None`: as the job's settings say.
    pub(crate) format: Option<SavepointFormat>,
    /// The same call again is the same savepoint; `None`: each is another one.
    pub(crate) trigger: Option<String>,
}

/// What somebody who wants a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointCall {
    /// Of which job.
    pub(crate) job: JobId,
    /// What it is to be.
    pub(crate) kind: CheckpointKind,
    /// The same call again is the same checkpoint; `None`: each is another one.
    pub(crate) trigger: Option<String>,
}

/// A checkpoint that somebody asked for, and that is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenCheckpoint {
    /// Its id.
    pub id: CheckpointId,
    /// Its folder's whole path; `None`: the job keeps its checkpoints in memory.
    pub path: Option<String>,
}

type Asker<T> = Reply<Result<T, ClusterError>>;

/// Those who wait for what they have asked for.
#[derive(Default)]
pub(super) struct Askers {
    savepoints: Asked<String>,
    checkpoints: Asked<TakenCheckpoint>,
    /// Where savepoints go that were asked for by name.
    folders: Vec<(SnapshotFolder, String)>,
    next: RequestId,
}

/// What was asked for of one kind. What has a name is done once, whoever asks again.
struct Asked<T> {
    waiting: BTreeMap<RequestId, Vec<Asker<T>>>,
    named: BTreeMap<String, Named<T>>,
    /// Names of what is over, oldest first.
    over: VecDeque<String>,
}

enum Named<T> {
    UnderWay(RequestId),
    Over(Result<T, ClusterError>),
}

impl<T> Default for Asked<T> {
    fn default() -> Self {
        let (waiting, named, over) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Self { waiting, named, over }
    }
}

impl<T: Clone> Asked<T> {
    /// Gives the asker back if what he asks for is to be begun.
    fn known(&mut self, name: Option<&String>, asker: Asker<T>) -> Option<Asker<T>> {
        match name.and_then(|name| self.named.get(name)) {
            None => return Some(asker),
            Some(Named::Over(result)) => asker.send(result.clone()),
            Some(Named::UnderWay(id)) => {
                let waiting = self.waiting.entry(*id).or_default();
                waiting.retain(Reply::is_wanted);
                waiting.push(asker);
            }
        }
        None
    }

    fn begin(&mut self, id: RequestId, name: Option<String>, askers: Vec<Asker<T>>) {
        self.waiting.insert(id, askers);
        if let Some(name) = name {
            self.named.insert(name, Named::UnderWay(id));
        }
    }

    fn end(&mut self, id: RequestId, result: &Result<T, ClusterError>) {
        let waiting = self.waiting.remove(&id).unwrap_or_default();
        waiting.into_iter().for_each(|asker| asker.send(result.clone()));
        let is = |named: &Named<T>| matches!(named, Named::UnderWay(under_way) if *under_way == id);
        let name = self.named.iter().find(|(_, named)| is(named));
        let Some(name) = name.map(|(name, _)| name.clone()) else {
            return;
        };
        self.over.push_back(name.clone());
        self.named.insert(name, Named::Over(result.clone()));
        if self.over.len() > MAX_NAMED
            && let Some(oldest) = self.over.pop_front()
        {
            self.named.remove(&oldest);
        }
    }
}

impl Askers {
    fn next(&mut self) -> RequestId {
        self.next += 1;
        self.next
    }

    /// A stop that was asked for under this name has its savepoint already.
    pub(super) fn stopped_before(&mut self, name: Option<String>) {
        self.savepoints.begin(STOPPED_BEFORE, name, Vec::new());
    }

    /// Under which name a savepoint was asked for that goes there.
    pub(super) fn name_of(&self, folder: &SnapshotFolder) -> Option<String> {
        let found = self.folders.iter().find(|(known, _)| known == folder);
        found.map(|(_, name)| name.clone())
    }
}

impl JobMaster {
    pub(super) fn savepoint(
        &mut self,
        call: SavepointCall,
        reply: Reply<Result<String, ClusterError>>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let Some(reply) = self.askers.savepoints.known(call.trigger.as_ref(), reply) else {
            return;
        };
        let folder = match self.savepoint_folder(call.dir) {
            Ok(folder) => folder,
            Err(cause) => {
                return reply.send(Err(ClusterError::Savepoint {
                    job: self.job(),
                    cause,
                }));
            }
        };
        let id = self.askers.next();
        if let Some(name) = &call.trigger {
            self.askers.folders.push((folder.clone(), name.clone()));
        }
        self.askers.savepoints.begin(id, call.trigger, vec![reply]);
        let order = SavepointOrder {
            folder,
            stop: call.stop,
            format: call.format.unwrap_or(self.settings.savepoint_format),
        };
        self.decide(JobEvent::SavepointRequested(id, order), cx);
    }

    /// A folder that no savepoint had before.
    fn savepoint_folder(&self, dir: Option<String>) -> Result<SnapshotFolder, String> {
        let dir = dir.or_else(|| self.settings.savepoint_dir.clone()).ok_or(
            "nobody said where it goes: name a directory, or set execution.checkpointing.savepoint-dir",
        )?;
        let storage = self.factory.checkpoints();
        let places = storage.as_ref().map(|storage| storage.places().clone());
        let store = places.unwrap_or_else(BlobStores::local).open(&dir);
        let store = store.map_err(|error| error.to_string())?;
        let store = store
            .location()
            .ok_or_else(|| format!("the directory '{dir}' cannot be named: its path is not Unicode"))?;
        let checkpoints = storage.and_then(|storage| storage.store().location());
        // Such folders are deleted with the checkpoints of their jobs.
        let within = checkpoints.and_then(|root| {
            let rest = store
                .strip_prefix(root.trim_end_matches('/'))?
                .strip_prefix('/')?;
            rest.split('/').next()?.parse::<JobId>().ok()
        });
        if within.is_some() {
            return Err(format!(
                "'{store}' lies among the checkpoints of a job, which are deleted: name another directory"
            ));
        }
        let folder = CheckpointLayout::new(self.job()).savepoint(random_number());
        Ok(SnapshotFolder { store, folder })
    }

    pub(super) fn answer_savepoint(&mut self, id: RequestId, result: Result<String, String>) {
        let job = self.job();
        let result = result.map_err(|cause| ClusterError::Savepoint { job, cause });
        self.askers.savepoints.end(id, &result);
        let named = &self.askers.savepoints.named;
        let under_way = |name: &String| matches!(named.get(name), Some(Named::UnderWay(_)));
        self.askers.folders.retain(|(_, name)| under_way(name));
    }

    pub(super) fn checkpoint(
        &mut self,
        call: CheckpointCall,
        reply: Reply<Result<TakenCheckpoint, ClusterError>>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let Some(reply) = self.askers.checkpoints.known(call.trigger.as_ref(), reply) else {
            return;
        };
        match self.order_for(call.kind) {
            Ok(order) => {
                let id = self.askers.next();
                self.askers.checkpoints.begin(id, call.trigger, vec![reply]);
                let kind = call.kind;
                self.decide(
                    JobEvent::CheckpointWanted(id, WantedCheckpoint { kind, order }),
                    cx,
                );
            }
            Err(cause) => reply.send(Err(ClusterError::Checkpoint {
                job: self.job(),
                cause,
            })),
        }
    }

    /// What tasks have to know of such a checkpoint.
    fn order_for(&self, kind: CheckpointKind) -> Result<Option<CheckpointOrder>, String> {
        let keeps = self.settings.checkpoints.interval.is_some();
        let storage = self.factory.checkpoints();
        let storage = storage.filter(|storage| keeps || storage.store().location().is_some());
        let storage = storage.ok_or(
            "the job has no place for checkpoints: set execution.checkpointing.dir, or execution.checkpointing.interval to \
             keep them in memory",
        )?;
        order_for(kind, storage)
    }

    pub(super) fn answer_checkpoint(&mut self, id: RequestId, result: Result<CheckpointId, String>) {
        let job = self.job();
        let taken = result.map(|id| TakenCheckpoint {
            id,
            path: self.path_of(id),
        });
        let taken = taken.map_err(|cause| ClusterError::Checkpoint { job, cause });
        self.askers.checkpoints.end(id, &taken);
    }

    fn path_of(&self, checkpoint: CheckpointId) -> Option<String> {
        let store = self.factory.checkpoints()?.store().location()?;
        let folder = CheckpointLayout::new(self.job()).checkpoint(checkpoint);
        Some(SnapshotFolder { store, folder }.path())
    }
}

fn order_for(kind: CheckpointKind, storage: &CheckpointStorage) -> Result<Option<CheckpointOrder>, String> {
    match (kind, storage.is_incremental()) {
        (CheckpointKind::Full, true) => Ok(Some(CheckpointOrder::Full)),
        (CheckpointKind::Incremental, false) if storage.can_be_incremental() => {
            Ok(Some(CheckpointOrder::Incremental))
        }
        (CheckpointKind::Incremental, false) => Err(
            "an incremental checkpoint was asked for, and the job's state backend 'hashmap' has no files of which one could \
             consist: ask for a full one, or set state.backend.type to 'rocksdb'"
                .to_owned(),
        ),
        (CheckpointKind::Configured, _) | (CheckpointKind::Full, false) | (CheckpointKind::Incremental, true) => {
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_storage::{Compression, MemoryStore};
    use hurtig_task::StoreFiles;
    use std::sync::Arc;

    fn storage(stores: Option<bool>) -> CheckpointStorage {
        let storage = CheckpointStorage::new(Arc::new(MemoryStore::default()), Compression::None);
        match stores {
            None => storage,
            Some(incremental) => storage.with_stores(StoreFiles {
                backend: "rocksdb",
                open: Arc::new(|| Err(hurtig_core::Error::internal("nobody opens it"))),
                adopts: true,
                incremental,
                backup: None,
                from_local: None,
            }),
        }
    }

    #[test]
    fn what_has_a_name_is_asked_for_once_however_often_it_is_asked() {
        let mut asked = Asked::<u32>::default();
        let name = "a".to_owned();
        let ask = |asked: &mut Asked<u32>, name: Option<&String>| {
            let (reply, answer) = Reply::new();
            (asked.known(name, reply), answer)
        };
        let (new, mut first) = ask(&mut asked, Some(&name));
        asked.begin(1, Some(name.clone()), vec![new.unwrap()]);
        let (again, mut second) = ask(&mut asked, Some(&name));
        assert!(again.is_none(), "it is under way");
        assert!(
            ask(&mut asked, None).0.is_some(),
            "what has no name is another one"
        );
        asked.end(1, &Ok(7));
        let (late, mut third) = ask(&mut asked, Some(&name));
        assert!(late.is_none(), "it is over");
        for answer in [&mut first, &mut second, &mut third] {
            assert!(matches!(answer.try_recv(), Ok(Ok(7))));
        }
        for other in 2..=(MAX_NAMED as u64 + 1) {
            asked.begin(other, Some(other.to_string()), Vec::new());
            asked.end(other, &Ok(0));
        }
        assert_eq!(asked.named.len(), MAX_NAMED, "names are forgotten in the end");
        assert!(ask(&mut asked, Some(&name)).0.is_some());
    }

    #[test]
    fn tasks_are_told_what_they_would_not_do_anyway() {
        let (heap, full, incremental) = (storage(None), storage(Some(false)), storage(Some(true)));
        for storage in [&heap, &full, &incremental] {
            assert_eq!(order_for(CheckpointKind::Configured, storage), Ok(None));
        }
        assert_eq!(order_for(CheckpointKind::Full, &heap), Ok(None));
        assert_eq!(order_for(CheckpointKind::Full, &full), Ok(None));
        let order = order_for(CheckpointKind::Full, &incremental);
        assert_eq!(order, Ok(Some(CheckpointOrder::Full)));
        let order = order_for(CheckpointKind::Incremental, &full);
        assert_eq!(order, Ok(Some(CheckpointOrder::Incremental)));
        assert_eq!(order_for(CheckpointKind::Incremental, &incremental), Ok(None));
        let refused = order_for(CheckpointKind::Incremental, &heap).unwrap_err();
        assert!(refused.contains("state.backend.type"), "{refused}");
    }
}
