//! What a Task actor does for savepoints: it learns where they go before their barriers come.

use crate::actor::TaskActor;
use crate::checkpoint::CheckpointStorage;
use crate::interface::SavepointOrder;
use actix::{Context, Handler, Message};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Error, Result};
use hurtig_dataflow::operator::CheckpointEvent;

/// The checkpoint of this id will be a savepoint.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PrepareSavepoint(pub(crate) CheckpointId, pub(crate) SavepointOrder);

impl Handler<PrepareSavepoint> for TaskActor {
    type Result = ();

    fn handle(&mut self, PrepareSavepoint(checkpoint, order): PrepareSavepoint, _: &mut Context<Self>) {
        // A task that is ending says so; that is its answer.
        let Some(core) = &mut self.core else { return };
        if let Some(mode) = order.stop {
            core.prepare_stop(checkpoint, mode);
        }
        self.savepoints.insert(checkpoint, order.folder);
        self.setup.link.savepoint_prepared(checkpoint);
    }
}

impl TaskActor {
    /// Where the task's part of a checkpoint is to be stored.
    pub(crate) fn storage_of(&mut self, checkpoint: CheckpointId) -> Result<CheckpointStorage> {
        let storage = self.setup.storage.as_ref();
        let storage =
            storage.ok_or_else(|| Error::internal("a barrier came to a task without checkpoint storage"))?;
        match self.savepoints.remove(&checkpoint) {
            Some(folder) => Ok(storage.within(&folder)?),
            None => Ok(storage.clone()),
        }
    }

    /// The barrier of a savepoint that was given up does not come any more.
    pub(crate) fn forget_savepoint(&mut self, event: CheckpointEvent) {
        if let CheckpointEvent::Aborted(checkpoint) = event {
            self.savepoints.remove(&checkpoint);
        }
    }
}
