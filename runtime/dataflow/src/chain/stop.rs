//! The end of a task whose job stops with a savepoint.
//!
//! A task that is told of the stop before the barrier holds still behind its cut: it takes nothing in,
//! fires nothing and emits nothing, until the savepoint is complete or was given up. So no record that the
//! savepoint does not hold reaches a sink, and a job whose savepoint failed goes on as if nothing had been.

use super::{Round, TaskCore};
use crate::operator::CheckpointEvent;
use hurtig_core::Result;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use serde::{Deserialize, Serialize};
use std::task::Context;
use std::time::Duration;

/// How a job stops with a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopMode {
    /// Where it stands: event time does not end and no timer fires, so that it can go on later.
    Suspend,
    /// As if its input had ended: event time ends, and timers and windows fire, before the savepoint is
    /// taken.
    Drain,
}

/// A stop that a task was told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    checkpoint: CheckpointId,
    mode: StopMode,
    stage: Stage,
}

/// How far a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The savepoint is to come.
    Announced,
    /// The task's part was taken: it holds still.
    Held,
    /// The savepoint is complete.
    Over,
}

impl TaskCore {
    /// The job is to stop with this savepoint. Said before any task is told to begin it.
    pub fn prepare_stop(&mut self, checkpoint: CheckpointId, mode: StopMode) {
        let stage = Stage::Announced;
        self.stop = Some(Stop {
            checkpoint,
            mode,
            stage,
        });
    }

    /// Ends a task whose job was restored from the savepoint that it had stopped with: it has been opened,
    /// so that what was to be committed is, and does nothing else.
    pub fn end_stopped(&mut self) {
        self.stop = Some(Stop {
            checkpoint: CheckpointId(0),
            mode: StopMode::Suspend,
            stage: Stage::Over,
        });
        self.signal.ring();
    }

    /// Whether the task holds still behind its cut.
    pub(super) fn is_held(&self) -> bool {
        self.stop.is_some_and(|stop| stop.stage == Stage::Held)
    }

    /// The savepoint before which the input is to end.
    pub(super) fn drains_for(&self) -> Option<CheckpointId> {
        let stop = self
            .stop
            .filter(|stop| stop.mode == StopMode::Drain && stop.stage == Stage::Announced);
        stop.map(|stop| stop.checkpoint)
    }

    /// A cut was taken.
    pub(super) fn hold_behind(&mut self, checkpoint: CheckpointId) {
        if let Some(stop) = self.stop.as_mut().filter(|stop| stop.checkpoint == checkpoint) {
            stop.stage = Stage::Held;
        }
    }

    /// Operators were told what became of a checkpoint.
    pub(super) fn stop_on(&mut self, event: CheckpointEvent) {
        match event {
            CheckpointEvent::Aborted(checkpoint) => {
                self.stop = self.stop.filter(|stop| stop.checkpoint != checkpoint);
            }
            CheckpointEvent::Completed(checkpoint) => {
                if let Some(stop) = self.stop.as_mut().filter(|stop| stop.checkpoint == checkpoint) {
                    stop.stage = Stage::Over;
                }
            }
        }
    }

    /// The round of a task that holds still or has stopped.
    pub(super) fn stopping(
        &mut self,
        now: Time,
        quantum: Duration,
        task: &mut Context<'_>,
    ) -> Result<Option<Round>> {
        match self.stop.map(|stop| stop.stage) {
            None | Some(Stage::Announced) => Ok(None),
            Some(Stage::Held) => {
                // Whoever makes room, completes the savepoint or gives it up rings.
                self.signal.listen(task.waker());
                let settled = self.settle(now);
                Ok(Some(if !self.finish_scan(now, quantum)? {
                    Round::Busy
                } else if settled {
                    Round::Idle(None)
                } else {
                    Round::BackPressured(None)
                }))
            }
            Some(Stage::Over) => {
                if !self.was_finished {
                    self.close()?;
                }
                Ok(Some(Round::Finished))
            }
        }
    }

    /// Goes on with snapshots, which have all the time now, until the quantum is over. True when they have
    /// ended.
    fn finish_scan(&mut self, started: Time, quantum: Duration) -> Result<bool> {
        while self.scan.is_going_on() {
            self.scan_slice()?;
            if self.clock.now().since(started) >= quantum {
                break;
            }
        }
        Ok(!self.scan.is_going_on())
    }

    /// Sends barriers on that found no room. What came behind them in the chain stays where it is.
    fn settle(&mut self, now: Time) -> bool {
        let settled = self.outlet.settle(now) & self.head.settle(now);
        self.nodes
            .iter_mut()
            .fold(settled, |settled, node| node.settle(now) & settled)
    }
}
