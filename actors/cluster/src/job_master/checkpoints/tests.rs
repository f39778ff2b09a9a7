//! What a coordinator decides, step by step, and what holds whatever happens.

use super::CheckpointEffect as E;
use super::*;
use hurtig_core::ids::{AttemptNumber, VertexId};
use proptest::prelude::*;
use std::collections::BTreeSet;

const SECOND: Duration = Duration::from_secs(1);
const TRIGGER: CheckpointTimer = CheckpointTimer::Trigger;

fn at(millis: u64) -> Time {
    Time::ZERO.after(Duration::from_millis(millis))
}

fn execution(index: u32) -> ExecutionId {
    let subtask = SubtaskId {
        vertex: VertexId::from_u128(1),
        index,
    };
    ExecutionId {
        subtask,
        attempt: AttemptNumber(0),
    }
}

/// Task 0 is a source, 1 and 2 are not.
fn tasks(stage: TaskStage) -> Vec<CheckpointTask> {
    let task = |index| CheckpointTask {
        execution: execution(index),
        source: index == 0,
        stage,
    };
    (0..3).map(task).collect()
}

struct Rig {
    coordinator: CheckpointCoordinator<&'static str>,
    tasks: Vec<CheckpointTask>,
}

/// The coordinator and what it asked for at its start.
fn rig(tolerable_failures: u32, min_pause: Duration) -> Rig {
    let settings = CheckpointSettings {
        interval: Some(SECOND),
        interval_during_backlog: None,
        timeout: 10 * SECOND,
        min_pause,
        tolerable_failures,
    };
    let mut coordinator = CheckpointCoordinator::new(settings, CheckpointId(1));
    let mut out = Vec::new();
    coordinator.start(at(0), &mut out);
    assert_eq!(out, [E::After(SECOND, TRIGGER)]);
    Rig {
        coordinator,
        tasks: tasks(TaskStage::Running),
    }
}

impl Rig {
    fn timer(&mut self, now: u64, timer: CheckpointTimer) -> Vec<E<&'static str>> {
        let mut out = Vec::new();
        self.coordinator.on_timer(at(now), timer, &self.tasks, &mut out);
        out
    }

    fn ack(&mut self, checkpoint: u64, index: u32) -> Vec<E<&'static str>> {
        let mut out = Vec::new();
        self.coordinator
            .acknowledge(CheckpointId(checkpoint), execution(index), "state", &mut out);
        out
    }

    fn published(&mut self, now: u64, checkpoint: u64, result: Result<(), String>) -> Vec<E<&'static str>> {
        let mut out = Vec::new();
        self.coordinator
            .published(at(now), CheckpointId(checkpoint), result, &mut out);
        out
    }

    /// Triggers checkpoint `id` at `now`.
    fn begin(&mut self, now: u64, id: u64) {
        let expire = CheckpointTimer::Expire(CheckpointId(id));
        assert_eq!(
            self.timer(now, TRIGGER),
            [
                E::Trigger(CheckpointId(id), vec![execution(0)]),
                E::After(10 * SECOND, expire)
            ]
        );
    }
}

#[test]
fn a_checkpoint_is_complete_only_when_it_is_published() {
    let mut rig = rig(0, Duration::ZERO);
    rig.begin(1_000, 1);
    assert_eq!(rig.ack(1, 0), []);
    assert_eq!(rig.ack(1, 2), []);
    let published = rig.ack(1, 1);
    let [E::Publish(cut)] = &published[..] else {
        panic!("{published:?}")
    };
    assert_eq!((cut.checkpoint, cut.subtasks.len()), (CheckpointId(1), 3));
    assert!(
        cut.subtasks
            .values()
            .all(|part| *part == SubtaskCut::State("state"))
    );
    assert_eq!(rig.coordinator.latest(), None);
    assert_eq!(
        rig.published(1_500, 1, Ok(())),
        [
            E::Completed(CheckpointId(1)),
            E::After(Duration::from_millis(500), TRIGGER)
        ]
    );
    assert_eq!(rig.coordinator.latest(), Some(CheckpointId(1)));
    rig.begin(2_000, 2);
}

#[test]
fn a_second_acknowledgement_and_a_late_one_are_discarded() {
    let mut rig = rig(9, Duration::ZERO);
    rig.begin(1_000, 1);
    assert_eq!(rig.ack(1, 0), []);
    assert_eq!(rig.ack(1, 0), [E::Discard(CheckpointId(1), "state")]);
    assert_eq!(rig.ack(7, 1), [E::Discard(CheckpointId(7), "state")]);
    let replaced = ExecutionId {
        attempt: AttemptNumber(9),
        ..execution(1)
    };
    let mut out = Vec::new();
    rig.coordinator
        .acknowledge(CheckpointId(1), replaced, "other", &mut out);
    assert_eq!(out, [E::Discard(CheckpointId(1), "other")]);
    rig.timer(11_000, CheckpointTimer::Expire(CheckpointId(1)));
    assert_eq!(rig.ack(1, 1), [E::Discard(CheckpointId(1), "state")]);
}

#[test]
fn what_takes_too_long_is_given_up_and_named() {
    let mut rig = rig(1, Duration::ZERO);
    rig.begin(1_000, 1);
    rig.ack(1, 0);
    let missing = AbortReason::Expired(vec![execution(1), execution(2)]);
    let expire = CheckpointTimer::Expire(CheckpointId(1));
    assert_eq!(
        rig.timer(11_000, expire),
        [
            E::Aborted(CheckpointId(1), missing),
            E::After(Duration::from_millis(500), TRIGGER)
        ]
    );
    assert_eq!(rig.timer(11_000, expire), [], "once");
    rig.begin(11_500, 2);
    let failed = rig.timer(21_500, CheckpointTimer::Expire(CheckpointId(2)));
    assert!(
        matches!(&failed[1], E::FailJob(text) if text.contains("2nd in a row") && text.contains("is 1")),
        "{failed:?}"
    );
}

#[test]
fn success_forgives_failures() {
    let mut rig = rig(1, Duration::ZERO);
    for id in [1, 3, 5] {
        rig.begin(id * 20_000, id);
        let mut out = Vec::new();
        let declined = (execution(1), "disk full".to_owned());
        rig.coordinator
            .decline(at(id * 20_000), CheckpointId(id), declined, &mut out);
        assert!(
            out.iter().all(|effect| !matches!(effect, E::FailJob(_))),
            "{out:?}"
        );
        rig.begin(id * 20_000 + 10_000, id + 1);
        (0..3).for_each(|index| drop(rig.ack(id + 1, index)));
        rig.published(id * 20_000 + 11_000, id + 1, Ok(()));
    }
}

#[test]
fn metadata_that_cannot_be_written_ends_the_checkpoint() {
    let mut rig = rig(0, Duration::ZERO);
    rig.begin(1_000, 1);
    (0..3).for_each(|index| drop(rig.ack(1, index)));
    let out = rig.published(1_500, 1, Err("disk full".to_owned()));
    assert_eq!(
        out[0],
        E::Aborted(CheckpointId(1), AbortReason::NotPublished("disk full".to_owned()))
    );
    assert_eq!(rig.coordinator.latest(), None);
    assert_eq!(
        rig.published(1_600, 1, Ok(())),
        [],
        "what was given up stays given up"
    );
}

#[test]
fn a_task_that_finishes_owes_nothing_and_is_recorded_as_finished() {
    let mut rig = rig(0, Duration::ZERO);
    rig.begin(1_000, 1);
    rig.ack(1, 0);
    rig.ack(1, 1);
    let mut out = Vec::new();
    rig.coordinator.task_finished(execution(2), &mut out);
    let [E::Publish(cut)] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(cut.subtasks[&execution(2).subtask], SubtaskCut::Finished);
    assert_eq!(cut.subtasks[&execution(1).subtask], SubtaskCut::State("state"));
}

#[test]
fn nothing_begins_while_a_task_cannot_take_part_or_no_source_is_left() {
    let mut rig = rig(0, Duration::ZERO);
    rig.tasks[1].stage = TaskStage::Other;
    assert_eq!(rig.timer(1_000, TRIGGER), [E::After(SECOND, TRIGGER)]);
    rig.tasks[1].stage = TaskStage::Running;
    rig.tasks[0].stage = TaskStage::Finished;
    assert_eq!(rig.timer(2_000, TRIGGER), [E::After(SECOND, TRIGGER)]);
}

#[test]
fn a_pause_follows_each_checkpoint() {
    let mut rig = rig(0, 3 * SECOND);
    rig.begin(1_000, 1);
    (0..3).for_each(|index| drop(rig.ack(1, index)));
    let out = rig.published(1_200, 1, Ok(()));
    assert_eq!(out[1], E::After(3 * SECOND, TRIGGER));
    assert_eq!(rig.timer(2_000, TRIGGER), [], "too early, and another timer runs");
    rig.begin(4_200, 2);
}

#[test]
fn a_stop_ends_what_is_under_way_without_blame() {
    let mut rig = rig(0, Duration::ZERO);
    rig.begin(1_000, 1);
    let mut out = Vec::new();
    rig.coordinator.stop(at(1_100), &mut out);
    assert_eq!(out, [E::Aborted(CheckpointId(1), AbortReason::Stopped)]);
    assert_eq!(
        rig.timer(9_000, TRIGGER),
        [],
        "nothing is triggered before the next start"
    );
    rig.coordinator.start(at(9_000), &mut out);
    rig.begin(10_000, 2);
}

#[derive(Clone, Debug)]
enum Step {
    Timers(u64),
    Ack(u32),
    Decline(u32),
    Finish(u32),
    Published(bool),
    /// Somebody asks for a savepoint, or for a checkpoint.
    Ask(bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u64..12_000).prop_map(Step::Timers),
        6 => (0_u32..3).prop_map(Step::Ack),
        1 => (0_u32..3).prop_map(Step::Decline),
        1 => (1_u32..3).prop_map(Step::Finish),
        3 => any::<bool>().prop_map(Step::Published),
        2 => any::<bool>().prop_map(Step::Ask),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// Each checkpoint ends once; it completes only after all its parts were there and published; ids
    /// only grow; one is under way at a time.
    #[test]
    fn every_checkpoint_ends_once(steps in prop::collection::vec(step(), 0..120)) {
        let mut rig = rig(u32::MAX, Duration::ZERO);
        let (mut now, mut timers) = (0_u64, vec![(1_000, TRIGGER)]);
        let (mut open, mut publishing, mut last) = (None, None, 0);
        let (mut ended, mut completed) = (BTreeSet::new(), 0);
        let (mut asked, mut waiting) = (0, BTreeSet::new());
        for step in steps {
            let mut out = Vec::new();
            let pending = rig.coordinator.pending().map_or(last, |id| id.0);
            match step {
                Step::Timers(millis) => {
                    now += millis;
                    let (due, later): (Vec<_>, Vec<_>) = timers.drain(..).partition(|(at, _)| *at <= now);
                    timers = later;
                    due.into_iter().for_each(|(_, timer)| out.extend(rig.timer(now, timer)));
                }
                Step::Ack(index) => out = rig.ack(pending, index),
                Step::Decline(index) => {
                    let declined = (execution(index), "no".to_owned());
                    rig.coordinator.decline(at(now), CheckpointId(pending), declined, &mut out);
                }
                Step::Finish(index) => {
                    rig.tasks[index as usize].stage = TaskStage::Finished;
                    rig.coordinator.task_finished(execution(index), &mut out);
                }
                Step::Published(well) => {
                    if let Some(id) = publishing.take() {
                        let result = if well { Ok(()) } else { Err("no".to_owned()) };
                        out = rig.published(now, id, result);
                    }
                }
                Step::Ask(savepoint) => {
                    asked += 1;
                    waiting.insert(asked);
                    let kind = match savepoint {
                        true => RequestKind::Savepoint { stop: false },
                        false => RequestKind::Checkpoint,
                    };
                    rig.coordinator.request_snapshot(SnapshotRequest { id: asked, kind }, &mut out);
                }
                Step::Restart => {
                    rig.coordinator.stop(at(now), &mut out);
                    rig.tasks = tasks(TaskStage::Running);
                    rig.coordinator.start(at(now), &mut out);
                }
            }
            for effect in out {
                match effect {
                    E::Trigger(CheckpointId(id), _) => {
                        prop_assert!(open.is_none() && id == last + 1);
                        (open, last) = (Some(id), id);
                    }
                    E::Publish(cut) => {
                        prop_assert_eq!((Some(cut.checkpoint.0), cut.subtasks.len()), (open, 3));
                        prop_assert!(publishing.replace(cut.checkpoint.0).is_none_or(|id| ended.contains(&id)));
                    }
                    E::Completed(CheckpointId(id)) | E::Aborted(CheckpointId(id), _) => {
                        prop_assert_eq!(open.take(), Some(id));
                        prop_assert!(ended.insert(id), "ended twice");
                        completed = id;
                    }
                    E::After(wait, timer) => timers.push((now + wait.as_millis() as u64, timer)),
                    E::Begin(CheckpointId(id), request) => {
                        prop_assert!(open.is_none() && id == last + 1 && waiting.contains(&request.id));
                        (open, last) = (Some(id), id);
                    }
                    E::Taken(CheckpointId(id), request) if request.kind == RequestKind::Checkpoint => {
                        prop_assert!(completed == id && waiting.remove(&request.id), "it is complete first");
                    }
                    E::Taken(CheckpointId(id), request) => {
                        prop_assert_eq!(open.take(), Some(id));
                        prop_assert!(ended.insert(id) && waiting.remove(&request.id));
                    }
                    E::NotTaken(id, _) => prop_assert!(waiting.remove(&id), "answered twice"),
                    E::Discard(..) => {}
                    E::FailJob(why) => prop_assert!(false, "{}", why),
                }
            }
        }
        // It goes on: whatever was under way ends, and another begins.
        rig.tasks = tasks(TaskStage::Running);
        let (before, mut begun) = (last, last);
        for _ in 0..200 {
            now += 1_000;
            let (due, later): (Vec<_>, Vec<_>) = timers.drain(..).partition(|(at, _)| *at <= now);
            timers = later;
            for (_, timer) in due {
                for effect in rig.timer(now, timer) {
                    match effect {
                        E::Trigger(CheckpointId(id), _) => last = id,
                        E::Begin(CheckpointId(id), _) => begun = id,
                        E::NotTaken(id, _) => prop_assert!(waiting.remove(&id), "answered twice"),
                        E::After(wait, timer) => timers.push((now + wait.as_millis() as u64, timer)),
                        _ => {}
                    }
                }
            }
            if let Some(id) = publishing.take() {
                for effect in rig.published(now, id, Ok(())) {
                    match effect {
                        E::After(wait, timer) => timers.push((now + wait.as_millis() as u64, timer)),
                        E::Taken(_, request) => prop_assert!(waiting.remove(&request.id)),
                        _ => {}
                    }
                }
            }
        }
        prop_assert!(last > before, "no checkpoint after {} and {}", before, begun);
        prop_assert!(waiting.is_empty(), "nobody answered {:?}", waiting);
    }
}

/// A coordinator that takes checkpoints only when it is asked.
fn on_request() -> Rig {
    let settings = CheckpointSettings::default();
    Rig {
        coordinator: CheckpointCoordinator::new(settings, CheckpointId(1)),
        tasks: tasks(TaskStage::Running),
    }
}

impl Rig {
    fn request(&mut self, now: u64) -> Vec<E<&'static str>> {
        let mut out = Vec::new();
        self.coordinator.request(at(now), &mut out);
        out
    }
}

#[test]
fn a_requested_checkpoint_does_not_wait_for_an_interval() {
    let mut rig = on_request();
    assert_eq!(rig.request(5), [], "the tasks do not all run yet");
    let mut out = Vec::new();
    rig.coordinator.start(at(10), &mut out);
    assert_eq!(out, [E::After(Duration::ZERO, TRIGGER)]);
    let expire = E::After(Duration::from_secs(600), CheckpointTimer::Expire(CheckpointId(1)));
    let trigger = E::Trigger(CheckpointId(1), vec![execution(0)]);
    assert_eq!(rig.timer(10, TRIGGER), [trigger, expire]);
    // Another task ends behind the barrier: it needs one more.
    assert_eq!(rig.request(20), [E::After(Duration::ZERO, TRIGGER)]);
    assert_eq!(rig.timer(20, TRIGGER), [], "one at a time");
    (0..3).for_each(|index| drop(rig.ack(1, index)));
    let done = rig.published(30, 1, Ok(()));
    assert_eq!(
        done,
        [E::Completed(CheckpointId(1)), E::After(Duration::ZERO, TRIGGER)]
    );
    assert!(matches!(
        rig.timer(30, TRIGGER)[0],
        E::Trigger(CheckpointId(2), _)
    ));
    (0..3).for_each(|index| drop(rig.ack(2, index)));
    assert_eq!(
        rig.published(40, 2, Ok(())),
        [E::Completed(CheckpointId(2))],
        "nobody asked for more"
    );
}

#[test]
fn a_checkpoint_that_was_asked_for_needs_no_interval_and_is_one_like_any_other() {
    let mut rig = on_request();
    let mut out = Vec::new();
    let request = |id| SnapshotRequest {
        id,
        kind: RequestKind::Checkpoint,
    };
    rig.coordinator.start(at(0), &mut out);
    (1..=3).for_each(|id| rig.coordinator.request_snapshot(request(id), &mut out));
    let begun = rig.timer(5, TRIGGER);
    assert_eq!(begun[0], E::Begin(CheckpointId(1), request(1)));
    assert_eq!(
        rig.timer(6, TRIGGER),
        [],
        "one at a time, in the order in which they were asked for"
    );
    (0..3).for_each(|index| drop(rig.ack(1, index)));
    assert_eq!(
        rig.published(10, 1, Ok(())),
        [
            E::Completed(CheckpointId(1)),
            E::Taken(CheckpointId(1), request(1)),
            E::After(Duration::ZERO, TRIGGER)
        ]
    );
    assert_eq!(rig.coordinator.latest(), Some(CheckpointId(1)));
    assert_eq!(rig.timer(10, TRIGGER)[0], E::Begin(CheckpointId(2), request(2)));
    let mut out = Vec::new();
    let declined = (execution(1), "disk full".to_owned());
    rig.coordinator
        .decline(at(11), CheckpointId(2), declined, &mut out);
    assert!(
        matches!(&out[1], E::NotTaken(2, why) if why.contains("disk full")),
        "{out:?}"
    );
    assert_eq!(rig.timer(11, TRIGGER)[0], E::Begin(CheckpointId(3), request(3)));
}

#[test]
fn a_checkpoint_that_was_asked_for_counts_among_the_failures() {
    let mut rig = rig(0, Duration::ZERO);
    let (id, mut out) = (7, Vec::new());
    let kind = RequestKind::Checkpoint;
    rig.coordinator
        .request_snapshot(SnapshotRequest { id, kind }, &mut out);
    rig.timer(1, TRIGGER);
    let declined = (execution(1), "no".to_owned());
    rig.coordinator
        .decline(at(2), CheckpointId(1), declined, &mut out);
    assert!(
        out.iter().any(|effect| matches!(effect, E::FailJob(_))),
        "{out:?}"
    );
    assert!(
        out.iter().any(|effect| matches!(effect, E::NotTaken(7, _))),
        "{out:?}"
    );
}
