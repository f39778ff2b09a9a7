//! Checkpoints that somebody asked for: like those of the interval, but for what tasks were told of them, and who asked is
//! answered once.

use super::checkpoints::checkpointed;
use super::*;
use crate::config::CheckpointKind;
use crate::job_master::checkpoints::RequestId;
use crate::job_master::{SnapshotType, StorageWork, WantedCheckpoint};
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_storage::SnapshotKind;
use hurtig_task::interface::CheckpointOrder;

const ONE: CheckpointId = CheckpointId(1);
const TWO: CheckpointId = CheckpointId(2);
const ASKED: RequestId = 5;

impl Bench {
    /// A job that takes no checkpoint by itself, and whose five tasks run.
    fn without_interval() -> Self {
        let mut settings = checkpointed();
        settings.checkpoints.interval = None;
        let mut bench = Self::with(settings);
        bench.offer(3);
        bench.started(true);
        bench.run_all();
        bench.take();
        bench
    }

    fn want(&mut self, id: RequestId, kind: CheckpointKind, order: Option<CheckpointOrder>) {
        self.event(JobEvent::CheckpointWanted(id, WantedCheckpoint { kind, order }));
        self.due();
    }

    fn wanted(&self) -> Vec<(RequestId, Result<CheckpointId, String>)> {
        let answers = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::AnswerCheckpoint(id, result) => Some((*id, result.clone())),
            _ => None,
        });
        answers.collect()
    }

    fn told_of(&self) -> Vec<(ExecutionId, CheckpointOrder)> {
        let told = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::PrepareCheckpoint { execution, order, .. } => Some((*execution, order.clone())),
            _ => None,
        });
        told.collect()
    }

    /// All parts, and the metadata.
    fn complete_requested(&mut self, checkpoint: CheckpointId) {
        self.remembered(checkpoint, b"enumerator");
        for execution in self.executions() {
            self.acknowledge(execution, checkpoint);
        }
        assert_eq!(self.published().unwrap().kind, SnapshotKind::Checkpoint);
        assert_eq!(self.wanted(), [], "it is not durable");
        self.event(JobEvent::CheckpointPublished(checkpoint, Ok(())));
    }
}

#[test]
fn a_checkpoint_that_was_asked_for_is_committed_kept_and_subsumed_like_any_other() {
    let mut bench = Bench::without_interval();
    bench.want(ASKED, CheckpointKind::Configured, None);
    assert_eq!(bench.told_of(), [], "nobody has to know anything of it");
    bench.complete_requested(ONE);
    assert_eq!(bench.told(), [CheckpointEvent::Completed(ONE); 5]);
    assert_eq!(bench.wanted(), [(ASKED, Ok(ONE))]);
    bench.take();
    bench.want(6, CheckpointKind::Configured, None);
    bench.complete_requested(TWO);
    assert_eq!(
        bench.discarded(),
        [StorageWork::DiscardCheckpoint(ONE)],
        "one is kept"
    );
    // What fails now goes on from it.
    bench.take();
    let all = bench.executions();
    bench.state(all[0], TaskState::Failed);
    bench.all(TaskState::Canceled);
    bench.restart();
    bench.started(true);
    let deployed = bench.deployments();
    assert!(
        deployed
            .iter()
            .all(|task| task.restore.as_ref().unwrap().checkpoint == TWO)
    );
}

#[test]
fn all_tasks_know_what_a_checkpoint_will_be_before_its_barrier_comes() {
    let mut bench = Bench::without_interval();
    bench.want(ASKED, CheckpointKind::Full, Some(CheckpointOrder::Full));
    let all = bench.executions();
    let told: Vec<_> = all.iter().map(|task| (*task, CheckpointOrder::Full)).collect();
    assert_eq!(bench.told_of(), told);
    let asked = |bench: &Bench| {
        let asked = |effect: &JobEffect| matches!(effect, JobEffect::SnapshotEnumerator { .. });
        bench.effects.iter().any(asked)
    };
    all[1..].iter().for_each(|task| bench.prepared(*task, ONE));
    assert!(!asked(&bench), "one has not answered");
    bench.prepared(all[0], ONE);
    assert!(asked(&bench));
    bench.complete_requested(ONE);
    assert_eq!(bench.wanted(), [(ASKED, Ok(ONE))]);
    let statistics = bench.brain.checkpoint_statistics(bench.now, 0);
    let last = statistics.last_checkpoint.as_ref().unwrap();
    assert_eq!(last.kind, SnapshotType::Checkpoint(CheckpointKind::Full));
    assert_eq!(statistics.last_savepoint, None);
}

#[test]
fn a_checkpoint_that_was_asked_for_and_fails_is_told_deleted_and_counted() {
    let mut bench = Bench::without_interval();
    bench.want(ASKED, CheckpointKind::Full, Some(CheckpointOrder::Full));
    let all = bench.executions();
    all.iter().for_each(|task| bench.prepared(*task, ONE));
    bench.remembered(ONE, b"");
    bench.take();
    bench.message(JobMasterMessage::CheckpointDeclined {
        execution: all[1],
        checkpoint: ONE,
        reason: "disk full".to_owned(),
    });
    let answers = bench.wanted();
    assert!(
        matches!(&answers[..], [(ASKED, Err(why))] if why.contains("disk full")),
        "{answers:?}"
    );
    assert_eq!(bench.discarded(), [StorageWork::DiscardCheckpoint(ONE)]);
    let failure = bench
        .brain
        .checkpoint_statistics(bench.now, 0)
        .last_failure
        .unwrap();
    assert_eq!(failure.kind, SnapshotType::Checkpoint(CheckpointKind::Full));
    bench.is(JobStatus::Running);
    // The next one is like all others.
    bench.take();
    bench.want(6, CheckpointKind::Configured, None);
    assert_eq!(bench.told_of(), []);
    bench.complete_requested(TWO);
}

#[test]
fn nobody_who_asked_for_a_checkpoint_is_left_without_an_answer() {
    let mut bench = Bench::without_interval();
    bench.want(ASKED, CheckpointKind::Configured, None);
    bench.want(6, CheckpointKind::Configured, None);
    bench.ask(7, Some(StopMode::Suspend));
    // One is under way, and two wait.
    bench.message(JobMasterMessage::Cancel);
    bench.all(TaskState::Canceled);
    let ids: Vec<RequestId> = bench.wanted().iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [ASKED, 6]);
    assert!(bench.wanted().iter().all(|(_, answer)| answer.is_err()));
    bench.take();
    bench.want(8, CheckpointKind::Configured, None);
    let answers = bench.wanted();
    assert!(
        matches!(&answers[..], [(8, Err(why))] if why.contains("CANCELED")),
        "{answers:?}"
    );
}
