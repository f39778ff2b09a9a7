//! What a Task actor does for checkpoints: it loads its state before it begins, and stores each cut
//! while records flow on.

use crate::actor::{Beginning, TaskActor, TaskLoop};
use crate::checkpoint::{LoadError, StoredTask};
use crate::interface::TaskFailure;
use actix::{ActorFutureExt, AsyncContext, Context};
use hurtig_core::steps::{Step, reached};
use hurtig_core::{Error, Result};
use hurtig_dataflow::chain::TaskCut;
use hurtig_dataflow::graph::TaskState;

impl TaskActor {
    /// How many parts of the dataflow stand before the first operator.
    pub(crate) fn parts_before_operators(&self) -> usize {
        self.setup
            .places
            .iter()
            .take_while(|place| place.is_none())
            .count()
    }

    /// Begins as the descriptor says, once state is loaded.
    pub(crate) fn restore(&mut self, ctx: &mut Context<Self>) {
        let begins = match &self.setup.descriptor.restore {
            None => Beginning::Afresh,
            Some(restore) if restore.finished => Beginning::Finished,
            Some(_) => return self.load(ctx),
        };
        ctx.spawn(TaskLoop::new(begins));
    }

    fn load(&mut self, ctx: &mut Context<Self>) {
        let (storage, descriptor) = (self.setup.storage.clone(), self.setup.descriptor.clone());
        let channels = self.setup.channels.clone();
        let load = move || match (storage, &descriptor.restore) {
            (Some(storage), Some(restore)) => storage.load(&descriptor, restore, &channels),
            _ => Err(Error::internal("a task is to be restored and has no checkpoint storage").into()),
        };
        let loaded = actix::fut::wrap_future(tokio::task::spawn_blocking(load));
        ctx.spawn(loaded.map(
            |loaded, task: &mut Self, ctx: &mut Context<Self>| match flatten(loaded) {
                Ok(restored) => {
                    reached(Step::Loaded);
                    ctx.spawn(TaskLoop::new(Beginning::Restored(restored)));
                }
                Err(LoadError { error, permanent }) => {
                    let failure = TaskFailure::new(&error, None);
                    let failure = if permanent { failure.for_good() } else { failure };
                    task.end(ctx, TaskState::Failed, Some(failure));
                }
            },
        ));
    }

    /// Begins to store what operators remembered at barriers that have left the task.
    pub(crate) fn store_cuts(&mut self, ctx: &mut Context<Self>) {
        while let Some(cut) = self.core.as_mut().and_then(|core| core.take_cut()) {
            self.store(cut, ctx);
        }
    }

    fn store(&mut self, cut: TaskCut, ctx: &mut Context<Self>) {
        let checkpoint = cut.checkpoint;
        let task = StoredTask {
            job: self.setup.descriptor.job,
            execution: self.setup.descriptor.execution,
            skip: self.parts_before_operators(),
            completed: self.completed,
            given_up: self.given_up.clone(),
            channels: self.setup.channels.clone(),
        };
        let storage = self.storage_of(checkpoint);
        let clock = self.setup.clock.clone();
        let store = move || {
            reached(Step::Cut);
            let (began, came) = (clock.now(), cut.times.came);
            let mut part = storage?.store_cut(&task, cut)?;
            let now = clock.now();
            part.stored_in = now.since(began);
            if let Some(figures) = &mut part.figures {
                let ago = i64::try_from(now.since(came).as_millis()).unwrap_or(i64::MAX);
                figures.came_ms = clock.wall_ms().saturating_sub(ago);
            }
            reached(Step::PartStored);
            Ok::<_, Error>(part)
        };
        self.storing += 1;
        let stored = actix::fut::wrap_future(tokio::task::spawn_blocking(store));
        ctx.spawn(
            stored.map(move |stored, task: &mut Self, ctx: &mut Context<Self>| {
                task.storing -= 1;
                match flatten(stored) {
                    Ok(part) => task.setup.link.acknowledge(checkpoint, part),
                    Err(error) => task.setup.link.decline(checkpoint, error.chain()),
                }
                task.say_end(ctx);
            }),
        );
    }
}

/// A panic on a blocking thread is an error like any other.
fn flatten<T, E: From<Error>>(result: Result<Result<T, E>, tokio::task::JoinError>) -> Result<T, E> {
    result
        .unwrap_or_else(|panic| Err(Error::internal(format!("checkpoint storage panicked: {panic}")).into()))
}
