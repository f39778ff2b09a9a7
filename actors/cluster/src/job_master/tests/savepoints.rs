//! Savepoints of a job: everybody knows of one before its barrier, it counts as no checkpoint, and who asked
//! for it is answered once, when it is durable or when the job has ended with it.

use super::checkpoints::checkpointed;
use super::*;
use crate::config::{RestoreFrom, RestoreTarget};
use crate::job_master::checkpoints::{CheckpointTimer, RequestId};
use crate::job_master::{FoundCheckpoint, FoundRecord, StorageWork};
use hurtig_core::ids::CheckpointId;
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_storage::{CheckpointMetadata, SavepointFormat, SnapshotFolder, SnapshotKind};
use hurtig_task::interface::SavepointOrder;

const ONE: CheckpointId = CheckpointId(1);
const TWO: CheckpointId = CheckpointId(2);
const ASKED: RequestId = 5;

fn folder() -> SnapshotFolder {
    SnapshotFolder {
        store: "/elsewhere".to_owned(),
        folder: "savepoint-1".to_owned(),
    }
}

impl Bench {
    pub(super) fn ask(&mut self, id: RequestId, stop: Option<StopMode>) {
        let folder = folder();
        let format = SavepointFormat::Canonical;
        let order = SavepointOrder { folder, stop, format };
        self.event(JobEvent::SavepointRequested(id, order));
    }

    /// The timers of the coordinator that are due at once.
    pub(super) fn due(&mut self) {
        let due: Vec<JobEvent> = self
            .timers()
            .into_iter()
            .filter_map(|(delay, event)| delay.is_zero().then_some(event))
            .collect();
        due.into_iter().for_each(|event| self.event(event));
    }

    pub(super) fn prepared(&mut self, execution: ExecutionId, checkpoint: CheckpointId) {
        self.message(JobMasterMessage::CheckpointPrepared {
            execution,
            checkpoint,
        });
    }

    fn answers(&self) -> Vec<(RequestId, Result<String, String>)> {
        let answers = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::AnswerSavepoint(id, result) => Some((*id, result.clone())),
            _ => None,
        });
        answers.collect()
    }

    /// A savepoint up to the triggers of its sources.
    fn begin_savepoint(&mut self, checkpoint: CheckpointId, stop: Option<StopMode>) {
        self.ask(ASKED, stop);
        self.due();
        for execution in self.executions() {
            self.prepared(execution, checkpoint);
        }
        self.remembered(checkpoint, b"enumerator");
    }

    /// A savepoint up to its publication.
    fn collect_savepoint(&mut self, checkpoint: CheckpointId, stop: Option<StopMode>) -> CheckpointMetadata {
        self.begin_savepoint(checkpoint, stop);
        for execution in self.executions() {
            self.acknowledge(execution, checkpoint);
        }
        self.published().unwrap()
    }
}

#[test]
fn all_tasks_know_of_a_savepoint_before_its_barrier_comes() {
    let mut bench = Bench::checkpointed();
    bench.ask(ASKED, None);
    bench.due();
    let all = bench.executions();
    let told: Vec<ExecutionId> = bench
        .effects
        .iter()
        .filter_map(|effect| match effect {
            JobEffect::PrepareCheckpoint {
                execution,
                checkpoint: ONE,
                ..
            } => Some(*execution),
            _ => None,
        })
        .collect();
    assert_eq!(told, all);
    for execution in &all[..3] {
        bench.prepared(*execution, ONE);
        // Said twice it counts once.
        bench.prepared(*execution, ONE);
    }
    // One that finishes meanwhile has nothing to prepare.
    bench.state(all[3], TaskState::Finished);
    let asked = |effect: &JobEffect| matches!(effect, JobEffect::SnapshotEnumerator { .. });
    assert!(!bench.effects.iter().any(asked), "one has not answered");
    bench.prepared(all[4], ONE);
    assert!(bench.effects.iter().any(asked));
    assert_eq!(bench.triggered(), []);
    bench.remembered(ONE, b"");
    assert_eq!(bench.triggered(), bench.of(0));
}

#[test]
fn a_savepoint_is_no_checkpoint() {
    let mut bench = Bench::checkpointed();
    bench.complete(ONE);
    bench.take();
    let metadata = bench.collect_savepoint(TWO, None);
    assert_eq!(metadata.kind, SnapshotKind::Savepoint);
    assert!(bench.effects.iter().any(|effect| matches!(
        effect,
        JobEffect::Store(StorageWork::Publish { savepoint: Some(SavepointOrder { folder: to, stop: None, .. }), .. })
            if *to == folder()
    )));
    assert_eq!(bench.answers(), [], "it is not durable");
    bench.event(JobEvent::CheckpointPublished(TWO, Ok(())));
    assert_eq!(
        bench.answers(),
        [(ASKED, Ok("/elsewhere/savepoint-1".to_owned()))]
    );
    assert_eq!(bench.told(), [], "sinks commit with checkpoints");
    assert_eq!(bench.discarded(), [], "the retained checkpoint stays");
    // What fails now goes on from the checkpoint.
    let all = bench.executions();
    bench.state(all[0], TaskState::Failed);
    bench.all(TaskState::Canceled);
    bench.restart();
    bench.started(true);
    let deployed = bench.deployments();
    assert!(
        deployed
            .iter()
            .all(|d| d.restore.as_ref().unwrap().checkpoint == ONE)
    );
    bench.run_all();
    bench.take();
    bench.complete(CheckpointId(3));
    assert_eq!(bench.discarded(), [StorageWork::DiscardCheckpoint(ONE)]);
}

#[test]
fn a_savepoint_needs_no_interval_and_waits_for_the_checkpoint_under_way() {
    let mut bench = Bench::new(fixed(5));
    bench.ask(ASKED, None);
    bench.offer(3);
    bench.started(true);
    bench.run_all();
    bench.due();
    assert!(
        bench
            .effects
            .iter()
            .any(|effect| matches!(effect, JobEffect::PrepareCheckpoint { .. })),
        "it was asked for before the tasks ran"
    );
    let mut bench = Bench::checkpointed();
    bench.trigger();
    bench.ask(ASKED, None);
    bench.due();
    let begun = |bench: &Bench| {
        let begun = |effect: &JobEffect| matches!(effect, JobEffect::PrepareCheckpoint { .. });
        bench.effects.iter().any(begun)
    };
    assert!(!begun(&bench), "one at a time");
    bench.remembered(ONE, b"");
    for execution in bench.executions() {
        bench.acknowledge(execution, ONE);
    }
    bench.take();
    bench.event(JobEvent::CheckpointPublished(ONE, Ok(())));
    bench.due();
    assert!(begun(&bench));
}

#[test]
fn what_becomes_of_a_savepoint_that_fails_is_told_and_deleted() {
    let mut bench = Bench::checkpointed();
    bench.begin_savepoint(ONE, None);
    let all = bench.executions();
    bench.take();
    bench.acknowledge(all[0], ONE);
    bench.message(JobMasterMessage::CheckpointDeclined {
        execution: all[1],
        checkpoint: ONE,
        reason: "disk full".to_owned(),
    });
    let answers = bench.answers();
    assert!(
        matches!(&answers[..], [(ASKED, Err(why))] if why.contains("disk full")),
        "{answers:?}"
    );
    assert_eq!(bench.discarded(), [StorageWork::DiscardSavepoint(folder())]);
    assert_eq!(bench.told(), [CheckpointEvent::Aborted(ONE); 5]);
    bench.is(JobStatus::Running);
    bench.take();
    // A part that comes late lies where the savepoint would have been.
    bench.acknowledge(all[2], ONE);
    let late = super::checkpoints::part(all[2]).handle.unwrap();
    assert_eq!(
        bench.discarded(),
        [StorageWork::DiscardState(late, Some("/elsewhere".to_owned()))]
    );
    // A failed task ends it too, and says why.
    bench.take();
    bench.begin_savepoint(TWO, None);
    bench.state(all[3], TaskState::Failed);
    let answers = bench.answers();
    assert!(
        matches!(&answers[..], [(ASKED, Err(why))] if why.contains("boom")),
        "{answers:?}"
    );
}

#[test]
fn savepoints_that_take_too_long_are_given_up() {
    let mut bench = Bench::checkpointed();
    bench.begin_savepoint(ONE, None);
    bench.take();
    bench.event(JobEvent::CheckpointTimer(CheckpointTimer::Expire(ONE)));
    let answers = bench.answers();
    assert!(
        matches!(&answers[..], [(ASKED, Err(why))] if why.contains("timed out")),
        "{answers:?}"
    );
    // One that cannot begin is not waited for for ever.
    let mut bench = Bench::new(fixed(0));
    bench.ask(ASKED, None);
    bench.event(JobEvent::CheckpointTimer(CheckpointTimer::GiveUp(ASKED)));
    let answers = bench.answers();
    assert!(
        matches!(&answers[..], [(ASKED, Err(why))] if why.contains("execution.checkpointing.timeout")),
        "{answers:?}"
    );
    bench.event(JobEvent::CheckpointTimer(CheckpointTimer::GiveUp(ASKED)));
    assert_eq!(bench.answers().len(), 1, "answered once");
}

#[test]
fn a_stop_is_answered_when_the_job_has_ended() {
    let mut bench = Bench::checkpointed();
    bench.complete(ONE);
    bench.collect_savepoint(TWO, Some(StopMode::Suspend));
    bench.take();
    bench.event(JobEvent::CheckpointPublished(TWO, Ok(())));
    assert_eq!(bench.told(), [CheckpointEvent::Completed(TWO); 5]);
    assert_eq!(bench.answers(), []);
    bench.ask(6, None);
    let refused = bench.answers().pop().unwrap();
    assert!(refused.0 == 6 && refused.1.unwrap_err().contains("stopping"));
    bench.take();
    bench.now = bench.now.after(Duration::from_secs(9));
    bench.event(JobEvent::CheckpointTimer(CheckpointTimer::Trigger));
    assert_eq!(bench.triggered(), [], "nothing is left to be saved");
    bench.all(TaskState::Finished);
    assert_eq!(bench.result().unwrap().status, JobStatus::Finished);
    assert_eq!(
        bench.answers(),
        [(ASKED, Ok("/elsewhere/savepoint-1".to_owned()))]
    );
    assert_eq!(bench.discarded(), [StorageWork::DiscardJobBut(TWO)]);
    bench.take();
    bench.ask(7, None);
    assert!(bench.answers()[0].1.is_err(), "refused, not forgotten");
}

#[test]
fn a_drained_job_leaves_no_record() {
    let mut bench = Bench::checkpointed();
    bench.collect_savepoint(ONE, Some(StopMode::Drain));
    bench.event(JobEvent::CheckpointPublished(ONE, Ok(())));
    bench.all(TaskState::Finished);
    assert_eq!(bench.answers().len(), 1);
    // Nothing but the record was ever stored.
    assert_eq!(bench.discarded(), [StorageWork::DiscardJob]);
}

#[test]
fn after_the_savepoint_of_a_stop_it_only_goes_forward() {
    let mut bench = Bench::checkpointed();
    bench.complete(ONE);
    bench.collect_savepoint(TWO, Some(StopMode::Suspend));
    bench.event(JobEvent::CheckpointPublished(TWO, Ok(())));
    // A sink cannot commit.
    let all = bench.executions();
    bench.state(all[4], TaskState::Failed);
    bench.all(TaskState::Canceled);
    bench.is(JobStatus::Restarting);
    bench.restart();
    bench.take();
    bench.started(true);
    for descriptor in bench.deployments() {
        let restore = descriptor.restore.unwrap();
        assert_eq!((restore.checkpoint, restore.stopped), (TWO, true));
        assert_eq!(restore.store.as_deref(), Some("/elsewhere"));
    }
    bench.run_all();
    bench.now = bench.now.after(Duration::from_secs(9));
    bench.event(JobEvent::CheckpointTimer(CheckpointTimer::Trigger));
    assert_eq!(bench.triggered(), []);
    bench.all(TaskState::Finished);
    assert!(matches!(&bench.answers()[..], [(ASKED, Ok(_))]));
}

#[test]
fn a_stop_that_ends_otherwise_says_where_the_savepoint_is() {
    let mut bench = Bench::checkpointed();
    bench.collect_savepoint(ONE, Some(StopMode::Suspend));
    bench.event(JobEvent::CheckpointPublished(ONE, Ok(())));
    bench.message(JobMasterMessage::Cancel);
    bench.all(TaskState::Canceled);
    let answers = bench.answers();
    assert!(
        matches!(&answers[..], [(ASKED, Err(why))] if why.contains("/elsewhere/savepoint-1") && why.contains("CANCELED")),
        "{answers:?}"
    );
    // Before it is complete there is none.
    let mut bench = Bench::checkpointed();
    bench.begin_savepoint(ONE, Some(StopMode::Suspend));
    bench.take();
    bench.message(JobMasterMessage::Cancel);
    assert_eq!(
        bench.discarded(),
        [
            StorageWork::DiscardSavepoint(folder()),
            StorageWork::DiscardCheckpoint(ONE)
        ]
    );
    assert!(bench.answers()[0].1.is_err());
    bench.event(JobEvent::CheckpointPublished(ONE, Ok(())));
    assert_eq!(bench.told(), [CheckpointEvent::Aborted(ONE); 5]);
}

#[test]
fn a_drain_that_fails_goes_on_from_the_latest_checkpoint() {
    let mut bench = Bench::checkpointed();
    bench.complete(ONE);
    // Before sources were told, nothing has happened.
    bench.ask(ASKED, Some(StopMode::Drain));
    bench.due();
    bench.event(JobEvent::CheckpointTimer(CheckpointTimer::Expire(TWO)));
    bench.is(JobStatus::Running);
    bench.take();
    bench.begin_savepoint(CheckpointId(3), Some(StopMode::Drain));
    bench.event(JobEvent::CheckpointTimer(CheckpointTimer::Expire(CheckpointId(
        3,
    ))));
    bench.is(JobStatus::Restarting);
    let answers = bench.answers();
    assert!(matches!(&answers[..], [(ASKED, Err(_))]), "{answers:?}");
}

/// A job that begins with a savepoint in another store.
fn restored(target: RestoreTarget, claim: bool, record: Option<&str>) -> Bench {
    let mut metadata = Bench::checkpointed().collect_savepoint(ONE, None);
    metadata.supersedes = Vec::new();
    let mut settings = checkpointed();
    settings.restore = Some(RestoreFrom {
        checkpoint: target,
        allow_non_restored_state: false,
        claim,
    });
    let mut bench = Bench::with(settings);
    let SnapshotFolder { store, folder } = folder();
    let found = FoundCheckpoint {
        store: Some(store),
        folder,
        metadata,
        record: record.map(|folder| FoundRecord {
            folder: folder.to_owned(),
            supersedes: vec!["other/chk-3".to_owned()],
        }),
        declared: [].into(),
    };
    bench.event(JobEvent::CheckpointLoaded(Ok(Some(Box::new(found)))));
    bench.offer(3);
    bench.started(true);
    let deployed = bench.deployments();
    assert_eq!(deployed.len(), 5);
    for descriptor in deployed {
        let restore = descriptor.restore.unwrap();
        assert_eq!(restore.store.as_deref(), Some("/elsewhere"));
        assert!(!restore.stopped, "it goes on");
    }
    bench.run_all();
    bench.take();
    bench
}

#[test]
fn a_savepoint_is_deleted_only_if_it_was_named_and_claimed() {
    let claims = |target, claim, record| {
        let mut bench = restored(target, claim, record);
        bench.complete(TWO);
        bench.discarded()
    };
    let named = || RestoreTarget::Folder(folder());
    let gone = |what: &str| StorageWork::DiscardClaimed(what.to_owned());
    let whole = "/elsewhere/savepoint-1";
    assert_eq!(claims(named(), false, None), []);
    assert_eq!(claims(named(), true, None), [gone(whole)]);
    // Who goes on from it, however it was found, makes the record of the stop untrue.
    let record = Some("job/chk-1");
    // What the stopped job had still to delete goes with it.
    let [left, stop] = ["other/chk-3", "job/chk-1"];
    assert_eq!(claims(named(), false, record), [left, stop].map(gone));
    assert_eq!(claims(named(), true, record), [left, whole, stop].map(gone));
    assert_eq!(
        claims(RestoreTarget::Latest, true, record),
        [left, stop].map(gone)
    );
    assert_eq!(claims(RestoreTarget::Latest, false, record), []);
}

#[test]
fn what_became_of_checkpoints_is_counted() {
    let mut bench = Bench::checkpointed();
    bench.complete(ONE);
    bench.take();
    bench.begin_savepoint(TWO, None);
    bench.now = bench.now.after(Duration::from_secs(3));
    for execution in bench.executions() {
        bench.acknowledge(execution, TWO);
    }
    bench.event(JobEvent::CheckpointPublished(TWO, Ok(())));
    bench.take();
    bench.trigger();
    bench.remembered(CheckpointId(3), b"");
    let declined = bench.executions()[0];
    bench.message(JobMasterMessage::CheckpointDeclined {
        execution: declined,
        checkpoint: CheckpointId(3),
        reason: "disk full".to_owned(),
    });
    // One that ends with its job is no failure.
    bench.ask(ASKED, None);
    bench.due();
    bench.message(JobMasterMessage::Cancel);
    let found = bench.brain.checkpoint_statistics(bench.now, 0);
    assert_eq!((found.triggered, found.completed, found.failed), (4, 2, 1));
    let savepoint = found.last_savepoint.as_ref().unwrap();
    assert_eq!(
        (savepoint.checkpoint, savepoint.duration, savepoint.bytes),
        // The five parts lie in three files of a byte: tasks of the two vertices share their names here.
        (TWO, Duration::from_secs(3), 3)
    );
    assert_eq!(found.last_checkpoint.as_ref().unwrap().checkpoint, ONE);
    let ids: Vec<u64> = found.history.iter().map(|record| record.checkpoint.0).collect();
    assert_eq!((ids, found.in_progress), (vec![3, 2, 1], 0));
    assert_eq!(found.duration_ms.max, 3_000);
    let [of_sources, of_sinks] = [0, 1].map(|vertex| {
        let vertex = bench.brain.graph().job_graph().vertices[vertex].id;
        found.of(TWO).unwrap().vertices[&vertex].clone()
    });
    assert_eq!(
        (of_sources.subtasks, of_sources.acknowledged, of_sources.bytes),
        (2, 2, 2)
    );
    assert_eq!(
        (of_sinks.subtasks, of_sinks.acknowledged, of_sinks.bytes),
        (3, 3, 3)
    );
    assert_eq!(of_sinks.parts[&2].stored_in, Some(Duration::from_millis(2)));
    let given_up = &found.of(CheckpointId(3)).unwrap().vertices;
    assert!(given_up.values().all(|vertex| vertex.acknowledged == 0));
    let failure = found.last_failure.as_ref().unwrap();
    assert!(
        failure.checkpoint == CheckpointId(3) && failure.cause.as_ref().unwrap().contains("disk full"),
        "{failure:?}"
    );
}

fn begins_again(bench: &Bench) -> bool {
    let starts = |effect: &JobEffect| matches!(effect, JobEffect::StartEnumerators(_));
    bench.effects.iter().any(starts)
}

/// The leader may have recorded it already, and whoever recovers the job goes on from that.
#[test]
fn what_fails_while_a_checkpoint_is_made_durable_waits_and_goes_on_from_it() {
    for durable in [true, false] {
        let mut bench = Bench::checkpointed();
        bench.collect(ONE).unwrap();
        bench.take();
        bench.state(bench.executions()[0], TaskState::Failed);
        bench.all(TaskState::Canceled);
        bench.restart();
        assert!(!begins_again(&bench), "nobody knows yet from where");
        bench.take();
        let published = if durable {
            Ok(())
        } else {
            Err("disk full".to_owned())
        };
        bench.event(JobEvent::CheckpointPublished(ONE, published));
        assert!(begins_again(&bench));
        let gone: &[StorageWork] = if durable {
            &[]
        } else {
            &[StorageWork::DiscardCheckpoint(ONE)]
        };
        assert_eq!(bench.discarded(), gone);
        bench.started(true);
        let restored = bench.deployments();
        assert!(!restored.is_empty());
        for deployed in restored {
            let from = deployed.restore.as_ref().map(|restore| restore.checkpoint);
            assert_eq!(from, durable.then_some(ONE));
        }
    }
}

#[test]
fn a_stop_whose_savepoint_was_being_made_durable_when_a_task_failed_only_goes_forward() {
    let mut bench = Bench::checkpointed();
    bench.collect_savepoint(ONE, Some(StopMode::Suspend));
    bench.take();
    bench.state(bench.executions()[0], TaskState::Failed);
    bench.all(TaskState::Canceled);
    bench.restart();
    assert!(!begins_again(&bench) && bench.answers().is_empty());
    bench.event(JobEvent::CheckpointPublished(ONE, Ok(())));
    bench.started(true);
    let deployed = bench.deployments();
    let stopped = deployed
        .iter()
        .filter(|deployed| deployed.restore.as_ref().unwrap().stopped);
    assert_eq!(stopped.count(), 5, "all of them commit and end");
    bench.run_all();
    bench.all(TaskState::Finished);
    assert_eq!(bench.result().unwrap().status, JobStatus::Finished);
    assert_eq!(
        bench.answers(),
        [(ASKED, Ok("/elsewhere/savepoint-1".to_owned()))]
    );
}

#[test]
fn who_is_cancelled_while_a_savepoint_is_made_durable_ends_when_that_is_known() {
    let mut bench = Bench::checkpointed();
    bench.collect_savepoint(ONE, Some(StopMode::Suspend));
    bench.message(JobMasterMessage::Cancel);
    bench.all(TaskState::Canceled);
    assert!(bench.result().is_none());
    bench.event(JobEvent::CheckpointPublished(ONE, Ok(())));
    assert_eq!(bench.result().unwrap().status, JobStatus::Canceled);
    let answers = bench.answers();
    assert!(
        matches!(&answers[..], [(ASKED, Err(why))] if why.contains("is complete") && why.contains("CANCELED")),
        "{answers:?}"
    );
    let kept =
        |work: &StorageWork| !matches!(work, StorageWork::DiscardSavepoint(_) | StorageWork::DiscardJob);
    assert!(bench.discarded().iter().all(kept), "{:?}", bench.discarded());
}

/// The JobMaster that has taken the savepoint is gone: the next one takes none, commits that one, and ends.
#[test]
fn a_stop_that_a_predecessor_has_begun_commits_and_ends_without_another_savepoint() {
    let metadata = Bench::checkpointed().collect_savepoint(ONE, Some(StopMode::Suspend));
    let settings = JobSettings {
        first_checkpoint: CheckpointId(70),
        stopped: Some(StopMode::Suspend),
        restore: Some(RestoreFrom {
            checkpoint: RestoreTarget::Folder(folder()),
            allow_non_restored_state: false,
            claim: false,
        }),
        ..checkpointed()
    };
    let mut bench = Bench::with(settings);
    bench.event(JobEvent::CheckpointLoaded(Ok(Some(Box::new(FoundCheckpoint {
        store: Some("/elsewhere".to_owned()),
        folder: "savepoint-1".to_owned(),
        metadata,
        record: Some(FoundRecord {
            folder: "job/chk-1".to_owned(),
            supersedes: vec!["other/chk-3".to_owned()],
        }),
        declared: [].into(),
    })))));
    bench.offer(3);
    bench.started(true);
    let deployed = bench.deployments();
    assert!(deployed.len() == 5 && deployed.iter().all(|one| one.restore.as_ref().unwrap().stopped));
    bench.run_all();
    bench.trigger();
    bench.ask(ASKED, Some(StopMode::Suspend));
    bench.due();
    assert!(bench.triggered().is_empty() && bench.published().is_none());
    let answers = bench.answers();
    assert!(
        matches!(&answers[..], [(ASKED, Err(why))] if why.contains("is stopping")),
        "{answers:?}"
    );
    bench.take();
    // What fails now is repeated from there.
    bench.state(bench.executions()[0], TaskState::Failed);
    bench.all(TaskState::Canceled);
    bench.restart();
    bench.started(true);
    assert!(
        bench
            .deployments()
            .iter()
            .all(|one| one.restore.as_ref().unwrap().stopped)
    );
    bench.run_all();
    bench.all(TaskState::Finished);
    assert_eq!(bench.result().unwrap().status, JobStatus::Finished);
    assert_eq!(bench.answers(), [(0, Ok("/elsewhere/savepoint-1".to_owned()))]);
    assert_eq!(
        bench.discarded(),
        [
            StorageWork::DiscardJobBut(ONE),
            StorageWork::DiscardClaimed("other/chk-3".to_owned())
        ],
        "the savepoint is not the job's"
    );
}
