//! What a Task actor does for checkpoints that are not like all others, savepoints above all: it learns what they will be
//! before their barriers come.

use crate::actor::TaskActor;
use crate::checkpoint::CheckpointStorage;
use crate::interface::CheckpointOrder;
use actix::{Context, Handler, Message};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Error, Result};
use hurtig_dataflow::operator::CheckpointEvent;

/// What the checkpoint of this id will be.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PrepareCheckpoint(pub(crate) CheckpointId, pub(crate) CheckpointOrder);

impl Handler<PrepareCheckpoint> for TaskActor {
    type Result = ();

    fn handle(&mut self, PrepareCheckpoint(checkpoint, order): PrepareCheckpoint, _: &mut Context<Self>) {
        // A task that is ending says so; that is its answer.
        let Some(core) = &mut self.core else { return };
        if let Some(mode) = order.savepoint().and_then(|order| order.stop) {
            core.prepare_stop(checkpoint, mode);
        }
        self.orders.insert(checkpoint, order);
        self.setup.link.checkpoint_prepared(checkpoint);
    }
}

impl TaskActor {
    /// Where the task's part of a checkpoint is to be stored, and how.
    pub(crate) fn storage_of(&mut self, checkpoint: CheckpointId) -> Result<CheckpointStorage> {
        let storage = self.setup.storage.as_ref();
        let storage =
            storage.ok_or_else(|| Error::internal("a barrier came to a task without checkpoint storage"))?;
        match self.orders.remove(&checkpoint) {
            Some(order) => Ok(storage.ordered(&order)?),
            None => Ok(storage.clone()),
        }
    }

    /// Whether the checkpoint will be a savepoint.
    pub(crate) fn is_savepoint(&self, checkpoint: CheckpointId) -> bool {
        let order = self.orders.get(&checkpoint);
        order.is_some_and(|order| order.savepoint().is_some())
    }

    /// Remembers what has become of a checkpoint.
    pub(crate) fn note(&mut self, event: CheckpointEvent) {
        match event {
            CheckpointEvent::Completed(checkpoint) => {
                self.completed = self.completed.max(checkpoint);
                self.given_up = self.given_up.split_off(&self.completed.0);
            }
            CheckpointEvent::Aborted(checkpoint) => {
                // Its barrier does not come any more.
                self.orders.remove(&checkpoint);
                self.given_up.insert(checkpoint.0);
            }
        }
    }
}
