//! Checkpoints of a job: enumerators before sources, everybody before the metadata, the metadata before
//! anybody is told; and what a job begins with.

use super::*;
use crate::config::{CheckpointRetention, RestoreFrom, RestoreTarget};
use crate::job_master::checkpoints::CheckpointTimer;
use crate::job_master::{FoundCheckpoint, StorageWork};
use hurtig_core::ids::CheckpointId;
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::{Assignment, Split};
use hurtig_storage::{CheckpointMetadata, StateHandle};
use hurtig_task::interface::CheckpointPart;

const ONE: CheckpointId = CheckpointId(1);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn checkpointed() -> JobSettings {
    let mut settings = settings(fixed(5));
    settings.checkpoints.interval = Some(SECOND);
    settings
}

pub(super) fn part(execution: ExecutionId) -> CheckpointPart {
    let path = format!("{}-{}", execution.subtask.index, execution.attempt);
    let handle = StateHandle {
        path,
        bytes: 1,
        checksum: 2,
        shared: Vec::new(),
    };
    let shapes = Vec::new();
    CheckpointPart {
        handle: Some(handle),
        shapes,
        stored_in: Duration::from_millis(2),
        overtook: false,
        figures: None,
    }
}

impl Bench {
    /// A job that takes a checkpoint each second, and whose five tasks run.
    pub(super) fn checkpointed() -> Self {
        let mut bench = Self::with(checkpointed());
        bench.offer(3);
        bench.started(true);
        bench.run_all();
        bench.take();
        bench
    }

    pub(super) fn trigger(&mut self) {
        self.now = self.now.after(SECOND);
        self.event(JobEvent::CheckpointTimer(CheckpointTimer::Trigger));
    }

    pub(super) fn remembered(&mut self, checkpoint: CheckpointId, snapshot: &[u8]) {
        let generation = self.brain.splits.generation(SOURCE);
        self.event(JobEvent::EnumeratorSnapshot {
            generation,
            node: SOURCE,
            checkpoint,
            snapshot: snapshot.to_vec(),
        });
    }

    pub(super) fn acknowledge(&mut self, execution: ExecutionId, checkpoint: CheckpointId) {
        self.message(JobMasterMessage::CheckpointAcknowledged {
            execution,
            checkpoint,
            part: part(execution),
        });
    }

    /// Everything up to its publication.
    pub(super) fn collect(&mut self, checkpoint: CheckpointId) -> Option<CheckpointMetadata> {
        self.trigger();
        self.remembered(checkpoint, b"enumerator");
        for execution in self.executions() {
            self.acknowledge(execution, checkpoint);
        }
        self.published()
    }

    pub(super) fn complete(&mut self, checkpoint: CheckpointId) -> CheckpointMetadata {
        let metadata = self.collect(checkpoint).unwrap();
        self.event(JobEvent::CheckpointPublished(checkpoint, Ok(())));
        metadata
    }

    /// What is to be published.
    pub(super) fn published(&self) -> Option<CheckpointMetadata> {
        self.effects.iter().find_map(|effect| match effect {
            JobEffect::Store(StorageWork::Publish { metadata, .. }) => Some((**metadata).clone()),
            _ => None,
        })
    }

    pub(super) fn triggered(&self) -> Vec<ExecutionId> {
        let triggered = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::TriggerCheckpoint { execution, .. } => Some(*execution),
            _ => None,
        });
        triggered.collect()
    }

    pub(super) fn told(&self) -> Vec<CheckpointEvent> {
        let told = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::NotifyCheckpoint { event, .. } => Some(*event),
            _ => None,
        });
        told.collect()
    }

    pub(super) fn discarded(&self) -> Vec<StorageWork> {
        let work = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::Store(work) => Some(work.clone()),
            _ => None,
        });
        work.filter(|work| !matches!(work, StorageWork::Publish { .. } | StorageWork::Load(_)))
            .collect()
    }

    fn asks(&self) -> Vec<ExecutionId> {
        let asks = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::AskEnumerator { reader, .. } => Some(*reader),
            _ => None,
        });
        asks.collect()
    }
}

#[test]
fn enumerators_are_asked_before_sources_are_told() {
    let mut bench = Bench::checkpointed();
    let readers = bench.of(0);
    let request = |execution| JobMasterMessage::SplitRequested {
        execution,
        node: SOURCE,
    };
    bench.message(request(readers[0]));
    assert_eq!(bench.asks(), [readers[0]]);
    bench.take();
    bench.trigger();
    assert_eq!(bench.triggered(), [], "the enumerator is answering");
    let generation = bench.brain.splits.generation(SOURCE);
    bench.event(JobEvent::SplitAssigned {
        generation,
        node: SOURCE,
        reader: readers[0],
        assignment: Assignment::Split(Split {
            id: "a".to_owned(),
            bytes: Vec::new(),
        }),
    });
    bench.message(request(readers[1]));
    let order: Vec<_> = bench
        .take()
        .into_iter()
        .filter(|effect| !matches!(effect, JobEffect::After(..)))
        .collect();
    assert!(
        matches!(
            order[..],
            [JobEffect::SendSplit { .. }, JobEffect::SnapshotEnumerator { .. }]
        ),
        "{order:?}"
    );
    bench.remembered(ONE, b"left");
    let position = |wanted: fn(&JobEffect) -> bool| bench.effects.iter().position(wanted).unwrap();
    let told = position(|effect| matches!(effect, JobEffect::TriggerCheckpoint { .. }));
    let asked = position(|effect| matches!(effect, JobEffect::AskEnumerator { .. }));
    assert!(told < asked, "what is dealt out later comes behind the barriers");
    assert_eq!(bench.triggered(), readers);
}

#[test]
fn tasks_are_told_when_the_metadata_are_durable() {
    let mut bench = Bench::checkpointed();
    let metadata = bench.collect(ONE).unwrap();
    assert_eq!(bench.told(), []);
    assert_eq!(metadata.operators.len(), 2);
    assert_eq!(
        metadata.operators[0].coordinator.as_deref(),
        Some(&b"enumerator"[..])
    );
    let subtasks: Vec<usize> = metadata
        .operators
        .iter()
        .map(|states| states.subtasks.len())
        .collect();
    assert_eq!(subtasks, [2, 3]);
    bench.event(JobEvent::CheckpointPublished(ONE, Ok(())));
    assert_eq!(bench.told(), [CheckpointEvent::Completed(ONE); 5]);
    bench.take();
    bench.complete(CheckpointId(2));
    assert_eq!(
        bench.discarded(),
        [StorageWork::DiscardCheckpoint(ONE)],
        "one is kept"
    );
}

#[test]
fn a_checkpoint_that_a_task_declines_is_deleted_and_the_job_goes_on() {
    let mut bench = Bench::checkpointed();
    bench.trigger();
    bench.remembered(ONE, b"");
    let all = bench.executions();
    bench.acknowledge(all[0], ONE);
    bench.message(JobMasterMessage::CheckpointDeclined {
        execution: all[1],
        checkpoint: ONE,
        reason: "disk full".to_owned(),
    });
    assert_eq!(bench.told(), [CheckpointEvent::Aborted(ONE); 5]);
    assert_eq!(bench.discarded(), [StorageWork::DiscardCheckpoint(ONE)]);
    bench.take();
    // One that was on its way is deleted by itself.
    bench.acknowledge(all[2], ONE);
    let late = part(all[2]).handle.unwrap();
    assert_eq!(bench.discarded(), [StorageWork::DiscardState(late, None)]);
    bench.is(JobStatus::Running);
    bench.take();
    bench.complete(CheckpointId(2));
    assert_eq!(bench.told(), [CheckpointEvent::Completed(CheckpointId(2)); 5]);
}

#[test]
fn a_restart_begins_with_the_latest_checkpoint() {
    let mut bench = Bench::checkpointed();
    bench.complete(ONE);
    // A second one is under way when a task fails.
    bench.trigger();
    bench.remembered(CheckpointId(2), b"later");
    bench.take();
    let all = bench.executions();
    bench.state(all[3], TaskState::Failed);
    assert_eq!(
        bench.discarded(),
        [StorageWork::DiscardCheckpoint(CheckpointId(2))]
    );
    bench.all(TaskState::Canceled);
    bench.restart();
    let state = bench.effects.iter().find_map(|effect| match effect {
        JobEffect::StartEnumerators(sources) => sources[0].state.clone(),
        _ => None,
    });
    assert_eq!(state.as_deref(), Some(&b"enumerator"[..]));
    bench.started(true);
    let deployed = bench.deployments();
    assert_eq!(deployed.len(), 5);
    for descriptor in deployed {
        let restore = descriptor.restore.unwrap();
        assert_eq!((restore.checkpoint, restore.finished), (ONE, false));
        let operator = restore.operators[0].as_ref().unwrap();
        assert_eq!(operator.subtasks.len() as u32, descriptor.parallelism);
    }
    // Checkpoints go on with numbers that were never used.
    bench.run_all();
    bench.take();
    assert!(bench.collect(CheckpointId(3)).is_some());
}

#[test]
fn who_has_no_producer_left_is_told_of_the_checkpoint() {
    let mut bench = Bench::checkpointed();
    let (sources, sinks) = (bench.of(0), bench.of(1));
    bench.state(sources[0], TaskState::Finished);
    bench.trigger();
    bench.remembered(ONE, b"");
    assert_eq!(bench.triggered(), [sources[1]]);
    bench.take();
    // It ends before the barrier reaches it.
    bench.state(sources[1], TaskState::Finished);
    assert_eq!(bench.triggered(), sinks);
    sinks.iter().for_each(|sink| bench.acknowledge(*sink, ONE));
    let metadata = bench.published().unwrap();
    assert!(
        metadata.operators[0]
            .subtasks
            .values()
            .all(|subtask| subtask.finished)
    );
    bench.event(JobEvent::CheckpointPublished(ONE, Ok(())));
    bench.take();
    bench.trigger();
    bench.remembered(CheckpointId(2), b"");
    assert_eq!(bench.triggered(), sinks, "the sources are not there any more");

    bench.state(sinks[0], TaskState::Failed);
    bench.all(TaskState::Canceled);
    bench.restart();
    bench.started(true);
    let finished: Vec<bool> = bench
        .deployments()
        .into_iter()
        .map(|d| d.restore.unwrap().finished)
        .collect();
    assert_eq!(finished, [true, true, false, false, false]);
}

#[test]
fn a_task_that_asks_for_a_checkpoint_gets_one() {
    let mut bench = Bench::new(fixed(0));
    bench.offer(3);
    bench.started(false);
    bench.run_all();
    bench.take();
    let execution = bench.executions()[4];
    bench.message(JobMasterMessage::CheckpointRequested { execution });
    let timer = bench.timers().pop().unwrap();
    assert_eq!(
        timer,
        (
            Duration::ZERO,
            JobEvent::CheckpointTimer(CheckpointTimer::Trigger)
        )
    );
    bench.event(timer.1);
    assert_eq!(bench.triggered().len(), 2);
}

fn restored(found: Result<Option<CheckpointMetadata>, TaskFailure>, allow: bool) -> Bench {
    restored_as(found, allow, true)
}

pub(super) fn restored_as(
    found: Result<Option<CheckpointMetadata>, TaskFailure>,
    allow: bool,
    claim: bool,
) -> Bench {
    let mut settings = checkpointed();
    settings.restore = Some(RestoreFrom {
        checkpoint: RestoreTarget::Latest,
        allow_non_restored_state: allow,
        claim,
    });
    let mut bench = Bench::with(settings);
    assert!(matches!(
        bench.effects.last(),
        Some(JobEffect::Store(StorageWork::Load(_)))
    ));
    bench.take();
    let found = found.map(|found| {
        found.map(|metadata| {
            Box::new(FoundCheckpoint {
                store: None,
                folder: "old/chk-1".to_owned(),
                metadata,
                record: None,
                declared: [].into(),
            })
        })
    });
    bench.event(JobEvent::CheckpointLoaded(found));
    bench
}

#[test]
fn a_job_begins_with_another_ones_checkpoint_and_claims_it() {
    let mut found = Bench::checkpointed().collect(ONE).unwrap();
    found.checkpoint_id = CheckpointId(7);
    found.supersedes = vec!["older/chk-9".to_owned()];
    let mut bench = restored(Ok(Some(found)), false);
    bench.offer(3);
    bench.started(true);
    assert!(
        bench
            .deployments()
            .iter()
            .all(|descriptor| descriptor.restore.is_some())
    );
    bench.run_all();
    bench.take();
    let metadata = bench.complete(CheckpointId(8));
    assert_eq!(
        metadata.supersedes,
        ["older/chk-9", "old/chk-1"],
        "until they are gone"
    );
    let gone = |dir: &str| StorageWork::DiscardClaimed(dir.to_owned());
    assert_eq!(bench.discarded(), [gone("older/chk-9"), gone("old/chk-1")]);
}

/// As when its JobMaster was replaced.
#[test]
fn a_checkpoint_of_the_job_itself_is_kept_until_there_is_another() {
    let mut metadata = Bench::checkpointed().collect(ONE).unwrap();
    metadata.checkpoint_id = CheckpointId(7);
    let folder = hurtig_storage::CheckpointLayout::new(metadata.job_id).checkpoint(CheckpointId(7));
    let mut settings = checkpointed();
    settings.first_checkpoint = CheckpointId(1_000);
    settings.restore = Some(RestoreFrom {
        checkpoint: RestoreTarget::Latest,
        allow_non_restored_state: false,
        claim: true,
    });
    let mut bench = Bench::with(settings);
    let found = FoundCheckpoint {
        store: None,
        folder,
        metadata,
        record: None,
        declared: [].into(),
    };
    bench.event(JobEvent::CheckpointLoaded(Ok(Some(Box::new(found)))));
    bench.offer(3);
    bench.started(true);
    bench.run_all();
    bench.take();
    let next = bench.complete(CheckpointId(1_000));
    assert!(next.supersedes.is_empty(), "nothing of another job is replaced");
    let gone = StorageWork::DiscardCheckpoint(CheckpointId(7));
    assert_eq!(bench.discarded(), [gone], "and not all that the job has");
}

/// As when its JobMaster was replaced: what the job goes on from cannot be read at first.
fn a_later_life() -> (Bench, FoundCheckpoint) {
    let mut metadata = Bench::checkpointed().collect(ONE).unwrap();
    metadata.checkpoint_id = CheckpointId(7);
    let folder = hurtig_storage::CheckpointLayout::new(metadata.job_id).checkpoint(CheckpointId(7));
    let mut settings = checkpointed();
    settings.restart = fixed(5);
    settings.first_checkpoint = CheckpointId(1_000);
    settings.restore = Some(RestoreFrom {
        checkpoint: RestoreTarget::Latest,
        allow_non_restored_state: false,
        claim: true,
    });
    let found = FoundCheckpoint {
        store: None,
        folder,
        metadata,
        record: None,
        declared: [].into(),
    };
    (Bench::with(settings), found)
}

fn loads(bench: &Bench) -> usize {
    let loads = |effect: &&JobEffect| matches!(effect, JobEffect::Store(StorageWork::Load(_)));
    bench.effects.iter().filter(loads).count()
}

#[test]
fn a_job_never_begins_without_the_checkpoint_that_it_cannot_read() {
    let (mut bench, found) = a_later_life();
    bench.offer(3);
    for tries in 2..=3 {
        bench.event(JobEvent::CheckpointLoaded(Err(failure("the store is away"))));
        bench.is(JobStatus::Restarting);
        bench.restart();
        assert_eq!(loads(&bench), tries, "it is read again");
        bench.started(true);
        bench.is(JobStatus::Restarting);
    }
    bench.event(JobEvent::CheckpointLoaded(Ok(Some(Box::new(found)))));
    bench.started(true);
    let deployed = bench.deployments();
    assert_eq!(deployed.len(), 5);
    assert!(deployed.iter().all(|task| task.restore.is_some()));
}

#[test]
fn a_failure_while_the_checkpoint_is_being_read_does_not_begin_without_it() {
    let (mut bench, found) = a_later_life();
    bench.message(JobMasterMessage::WorkerEnded {
        task_manager: HOST,
        cause: "killed".to_owned(),
    });
    bench.is(JobStatus::Restarting);
    bench.restart();
    assert_eq!(loads(&bench), 1, "it is being read");
    let other = TaskManagerId::from_u128(8);
    bench.message(JobMasterMessage::SlotsOffered {
        task_manager: other,
        allocations: (0..3).map(AllocationId::from_u128).collect(),
        exchange: None,
        of: None,
    });
    assert!(
        !bench
            .effects
            .iter()
            .any(|effect| matches!(effect, JobEffect::Deploy { .. }))
    );
    bench.event(JobEvent::CheckpointLoaded(Ok(Some(Box::new(found)))));
    bench.started(true);
    let deployed = bench.deployments();
    assert_eq!(deployed.len(), 5);
    assert!(deployed.iter().all(|task| task.restore.is_some()));
}

#[test]
fn a_later_life_that_cannot_use_its_checkpoint_fails_for_good() {
    let (mut bench, mut found) = a_later_life();
    found.metadata.operators[1].max_parallelism = 64;
    bench.event(JobEvent::CheckpointLoaded(Ok(Some(Box::new(found)))));
    bench.is(JobStatus::Failed);
}

#[test]
fn a_checkpoint_that_was_not_claimed_stays_as_it_is() {
    let found = Bench::checkpointed().collect(ONE).unwrap();
    let mut bench = restored_as(Ok(Some(found)), false, false);
    bench.offer(3);
    bench.started(true);
    bench.run_all();
    let metadata = bench.complete(CheckpointId(2));
    assert!(metadata.supersedes.is_empty());
    assert_eq!(bench.discarded(), []);
    bench.all(TaskState::Finished);
    assert_eq!(bench.discarded(), [StorageWork::DiscardJob], "its own");
}

#[test]
fn state_without_an_operator_is_refused_unless_it_may_be_dropped() {
    let mut found = Bench::checkpointed().collect(ONE).unwrap();
    let mut foreign = found.operators[1].clone();
    foreign.operator = "0123456789abcdef0123456789abcdef".parse().unwrap();
    foreign.uid = Some("gone".to_owned());
    found.operators.push(foreign);
    let bench = restored(Ok(Some(found.clone())), false);
    bench.is(JobStatus::Failed);
    let failure = bench.result().unwrap().failure.clone().unwrap().to_string();
    assert!(
        failure.contains("(uid gone)") && failure.contains("--allow-non-restored-state"),
        "{failure}"
    );
    restored(Ok(Some(found.clone())), true).is(JobStatus::Created);
    found.operators.pop();
    found.operators[1].max_parallelism = 64;
    let bench = restored(Ok(Some(found)), true);
    bench.is(JobStatus::Failed);
    let failure = bench.result().unwrap().failure.clone().unwrap().to_string();
    assert!(
        failure.contains("had max parallelism 64 and has 128"),
        "{failure}"
    );
}

#[test]
fn a_job_without_an_earlier_checkpoint_begins_afresh_and_one_that_cannot_be_read_ends_it() {
    let mut bench = restored(Ok(None), false);
    bench.offer(3);
    bench.started(true);
    assert!(
        bench
            .deployments()
            .iter()
            .all(|descriptor| descriptor.restore.is_none())
    );
    let bench = restored(Err(failure("damaged at byte 7")), false);
    bench.is(JobStatus::Failed);
    let told = bench.result().unwrap().failure.clone().unwrap().to_string();
    assert!(told.contains("damaged at byte 7"), "{told}");
}

#[test]
fn checkpoints_are_kept_as_the_retention_says_and_never_of_a_job_that_has_finished() {
    let deleted = |retention, state| {
        let mut settings = checkpointed();
        settings.retention = retention;
        settings.restart = RestartStrategyConfig::None;
        let mut bench = Bench::with(settings);
        bench.offer(3);
        bench.started(true);
        bench.run_all();
        bench.complete(ONE);
        bench.take();
        match state {
            TaskState::Canceled => bench.message(JobMasterMessage::Cancel),
            TaskState::Failed => bench.state(bench.executions()[0], state),
            _ => {}
        }
        let ends = if state == TaskState::Failed {
            TaskState::Canceled
        } else {
            state
        };
        bench.all(ends);
        assert!(bench.result().is_some());
        bench.discarded() == [StorageWork::DiscardJob]
    };
    use CheckpointRetention::{DeleteOnCancellation, NoExternalizedCheckpoints, RetainOnCancellation};
    let ends = [TaskState::Canceled, TaskState::Failed, TaskState::Finished];
    for (retention, want) in [
        (RetainOnCancellation, [false, false, true]),
        (DeleteOnCancellation, [true, false, true]),
        (NoExternalizedCheckpoints, [true, true, true]),
    ] {
        assert_eq!(ends.map(|state| deleted(retention, state)), want, "{retention:?}");
    }
}

#[test]
fn state_that_cannot_be_restored_fails_the_job_whatever_its_strategy() {
    let found = Bench::checkpointed().collect(ONE).unwrap();
    let mut bench = restored(Ok(Some(found)), false);
    bench.offer(3);
    bench.started(true);
    let execution = bench.executions()[0];
    bench.message(JobMasterMessage::TaskStateChanged {
        execution,
        state: TaskState::Failed,
        failure: Some(failure("damaged").for_good()),
    });
    bench.is(JobStatus::Failing);
}
