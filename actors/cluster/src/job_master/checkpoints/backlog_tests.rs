//! Which interval counts when, against a model that looks every millisecond.

use super::CheckpointEffect as E;
use super::*;
use hurtig_core::ids::{AttemptNumber, VertexId};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Time {
    Time::ZERO.after(Duration::from_millis(millis))
}

/// A coordinator of one task, which takes part at once, and its timers.
struct Rig {
    coordinator: CheckpointCoordinator<()>,
    task: CheckpointTask,
    timers: Vec<Time>,
    /// When checkpoints and savepoints have begun.
    begun: Vec<u64>,
}

impl Rig {
    fn new(interval: Option<Duration>, during: Option<Duration>) -> Self {
        let subtask = SubtaskId {
            vertex: VertexId::from_u128(1),
            index: 0,
        };
        let settings = CheckpointSettings {
            interval,
            interval_during_backlog: during,
            ..CheckpointSettings::default()
        };
        let mut rig = Self {
            coordinator: CheckpointCoordinator::new(settings, CheckpointId(1)),
            task: CheckpointTask {
                execution: ExecutionId {
                    subtask,
                    attempt: AttemptNumber(0),
                },
                source: true,
                stage: TaskStage::Running,
            },
            timers: Vec::new(),
            begun: Vec::new(),
        };
        rig.call(0, |coordinator, out| coordinator.start(at(0), out));
        rig
    }

    fn call(
        &mut self,
        now: u64,
        call: impl FnOnce(&mut CheckpointCoordinator<()>, &mut Vec<CheckpointEffect<()>>),
    ) {
        let mut effects = Vec::new();
        call(&mut self.coordinator, &mut effects);
        for effect in effects {
            self.follow(now, effect);
        }
    }

    fn follow(&mut self, now: u64, effect: CheckpointEffect<()>) {
        let execution = self.task.execution;
        match effect {
            E::After(delay, CheckpointTimer::Trigger) => self.timers.push(at(now).after(delay)),
            E::Trigger(id, _) | E::Begin(id, _) => {
                self.begun.push(now);
                self.call(now, |coordinator, out| {
                    coordinator.acknowledge(id, execution, (), out);
                });
            }
            E::Publish(cut) => {
                let id = cut.checkpoint;
                self.call(now, |coordinator, out| {
                    coordinator.published(at(now), id, Ok(()), out);
                });
            }
            _ => {}
        }
    }

    fn backlog(&mut self, now: u64, backlog: bool) {
        self.call(now, |coordinator, out| {
            coordinator.set_backlog(at(now), backlog, out);
        });
    }

    /// Lets all timers go off that are due.
    fn tick(&mut self, now: u64) {
        while let Some(due) = self.timers.iter().position(|timer| *timer <= at(now)) {
            self.timers.swap_remove(due);
            let tasks = [self.task];
            self.call(now, |coordinator, out| {
                coordinator.on_timer(at(now), CheckpointTimer::Trigger, &tasks, out);
            });
        }
    }

    fn run(&mut self, millis: std::ops::Range<u64>) -> Vec<u64> {
        millis.for_each(|now| self.tick(now));
        std::mem::take(&mut self.begun)
    }
}

#[test]
fn no_checkpoint_is_taken_during_backlog_and_one_at_once_behind_it() {
    let mut rig = Rig::new(Some(SECOND), Some(Duration::ZERO));
    assert_eq!(rig.run(0..2_500), [1_000, 2_000]);
    rig.backlog(2_500, true);
    assert!(rig.run(2_500..60_000).is_empty());
    rig.backlog(60_000, false);
    assert_eq!(rig.run(60_000..62_500), [60_000, 61_000, 62_000]);
    rig.backlog(62_500, true);
    rig.backlog(62_700, false);
    assert_eq!(
        rig.run(62_500..63_500),
        [63_000],
        "the usual interval was not over"
    );
}

#[test]
fn a_longer_interval_counts_from_the_last_checkpoint() {
    let mut rig = Rig::new(Some(SECOND), Some(5 * SECOND));
    assert_eq!(rig.run(0..1_500), [1_000]);
    rig.backlog(1_500, true);
    assert_eq!(rig.run(1_500..13_000), [6_000, 11_000]);
    rig.backlog(13_000, false);
    assert_eq!(rig.run(13_000..14_500), [13_000, 14_000]);
}

#[test]
fn without_another_interval_backlog_changes_nothing() {
    let mut rig = Rig::new(Some(SECOND), None);
    rig.backlog(0, true);
    assert_eq!(rig.run(0..2_500), [1_000, 2_000]);
    let mut rig = Rig::new(None, None);
    rig.backlog(0, true);
    rig.backlog(1, false);
    assert!(rig.run(0..2_500).is_empty());
}

#[test]
fn what_is_asked_for_is_done_during_backlog_too() {
    let mut rig = Rig::new(Some(SECOND), Some(Duration::ZERO));
    rig.backlog(0, true);
    let kind = RequestKind::Savepoint { stop: false };
    let request = SnapshotRequest { id: 7, kind };
    rig.call(100, |coordinator, out| {
        coordinator.request_snapshot(request, out);
    });
    assert_eq!(rig.run(100..200), [100]);
    // A task has to have a checkpoint to finish; what backlog does meanwhile does not put it off.
    rig.call(300, |coordinator, out| coordinator.request(at(300), out));
    rig.backlog(300, false);
    rig.backlog(300, true);
    assert_eq!(rig.run(300..5_000), [300]);
    // It is tried again while the tasks are not ready.
    rig.task.stage = TaskStage::Other;
    rig.call(5_000, |coordinator, out| coordinator.request(at(5_000), out));
    assert!(rig.run(5_000..5_500).is_empty());
    rig.task.stage = TaskStage::Running;
    assert_eq!(rig.run(5_500..9_000), [6_000]);
}

#[test]
fn a_restart_during_backlog_begins_with_its_interval() {
    let mut rig = Rig::new(Some(SECOND), Some(3 * SECOND));
    rig.backlog(100, true);
    rig.call(500, |coordinator, out| coordinator.stop(at(500), out));
    assert!(rig.run(500..4_000).is_empty());
    rig.call(4_000, |coordinator, out| coordinator.start(at(4_000), out));
    assert_eq!(rig.run(4_000..8_000), [7_000]);
    // The end of backlog is heard while the job restarts.
    rig.call(8_000, |coordinator, out| coordinator.suspend(at(8_000), out));
    rig.backlog(8_500, false);
    assert!(rig.run(8_000..9_000).is_empty());
    rig.call(9_000, |coordinator, out| coordinator.start(at(9_000), out));
    assert_eq!(rig.run(9_000..10_500), [10_000]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_checkpoint_begins_when_the_interval_that_counts_is_over_and_never_else(
        interval in 20_u64..100,
        longer in prop::option::of(prop_oneof![Just(None), (0_u64..200).prop_map(Some)]),
        turns in prop::collection::vec((0_u64..60, any::<bool>()), 0..40),
    ) {
        // `Some(None)` is none during backlog, `Some(Some(more))` a longer interval.
        let during = longer.map(|longer| longer.map_or(0, |more| interval + more));
        let millis = Duration::from_millis;
        let mut rig = Rig::new(Some(millis(interval)), during.map(millis));
        let (mut now, mut backlog, mut last, mut want) = (0, false, 0, Vec::new());
        for (wait, turn) in turns {
            for tick in now..now + wait {
                let counts = during.filter(|_| backlog).unwrap_or(interval);
                if counts > 0 && tick >= last + counts {
                    want.push(tick);
                    last = tick;
                }
                rig.tick(tick);
            }
            now += wait;
            backlog = turn;
            rig.backlog(now, turn);
            prop_assert!(rig.timers.len() <= 4, "timers pile up: {:?}", rig.timers);
        }
        prop_assert_eq!(rig.begun, want);
    }
}
