//! Backlog: who is told, what tasks begin with, and when checkpoints are taken meanwhile.

use super::*;
use crate::job_master::checkpoints::CheckpointTimer;

impl Bench {
    fn backlog(&mut self, backlog: bool) {
        let generation = self.brain.splits.generation(SOURCE);
        self.backlog_of(generation, backlog);
    }

    fn backlog_of(&mut self, generation: u32, backlog: bool) {
        self.event(JobEvent::BacklogChanged {
            generation,
            node: SOURCE,
            backlog,
        });
    }

    /// Who was told of backlog, and what.
    fn told_backlog(&mut self) -> Vec<(ExecutionId, bool)> {
        let told = self.take().into_iter().filter_map(|effect| match effect {
            JobEffect::SetBacklog {
                to,
                execution,
                node,
                backlog,
            } => {
                assert_eq!((to, node), (HOST, SOURCE));
                Some((execution, backlog))
            }
            _ => None,
        });
        told.collect()
    }

    fn in_backlog(&self) -> Vec<usize> {
        let counts = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::SourcesInBacklog(sources) => Some(*sources),
            _ => None,
        });
        counts.collect()
    }
}

#[test]
fn readers_that_are_deployed_are_told_and_others_begin_with_it() {
    let mut bench = Bench::new(fixed(3));
    bench.offer(3);
    bench.backlog(true);
    assert_eq!(bench.told_backlog(), [], "nobody is there yet");
    bench.started(true);
    for task in bench.deployments() {
        let reads = task.inputs.is_empty();
        assert_eq!(task.backlog, reads, "{}", task.name);
        assert!(task.inputs.iter().all(|input| input.backlog), "{}", task.name);
    }
    bench.backlog(true);
    assert_eq!(bench.told_backlog(), [], "they know");
    // Also those that are being started: it comes behind their deployment.
    bench.backlog(false);
    let readers = bench.of(0);
    assert_eq!(bench.told_backlog(), [(readers[0], false), (readers[1], false)]);
}

#[test]
fn an_enumerator_that_is_made_anew_says_it_anew() {
    let mut bench = Bench::running(fixed(3));
    bench.backlog(true);
    assert_eq!(bench.in_backlog(), [1]);
    let first = bench.brain.splits.generation(SOURCE);
    let failed = bench.executions()[4];
    bench.state(failed, TaskState::Failed);
    bench
        .executions()
        .into_iter()
        .filter(|execution| *execution != failed)
        .for_each(|execution| bench.state(execution, TaskState::Canceled));
    bench.restart();
    assert_eq!(bench.in_backlog(), [1, 0], "nothing is known of the new one");
    bench.take();
    bench.backlog_of(first, true);
    assert!(bench.in_backlog().is_empty(), "one that was replaced");
    bench.started(true);
    assert!(bench.deployments().iter().all(|task| !task.backlog));
}

#[test]
fn a_source_whose_readers_have_finished_is_in_no_backlog() {
    let mut bench = Bench::running(fixed(3));
    bench.backlog(true);
    let readers = bench.of(0);
    bench.state(readers[0], TaskState::Finished);
    assert_eq!(bench.in_backlog(), [1]);
    bench.state(readers[1], TaskState::Finished);
    assert_eq!(bench.in_backlog(), [1, 0]);
    bench.take();
    bench.backlog(false);
    assert_eq!(bench.told_backlog(), [], "they are gone");
}

#[test]
fn no_checkpoint_is_taken_during_backlog_and_one_behind_it() {
    let began = |bench: &Bench| {
        let mut effects = bench.effects.iter();
        effects.any(|effect| matches!(effect, JobEffect::SnapshotEnumerator { .. }))
    };
    let mut settings = super::checkpoints::checkpointed();
    settings.checkpoints.interval_during_backlog = Some(Duration::ZERO);
    let mut bench = Bench::with(settings);
    bench.offer(3);
    bench.backlog(true);
    bench.started(true);
    bench.run_all();
    assert_eq!(
        bench
            .timers()
            .iter()
            .filter(|(_, event)| matches!(event, JobEvent::CheckpointTimer(CheckpointTimer::Trigger)))
            .count(),
        0
    );
    for _ in 0..3 {
        bench.trigger();
    }
    assert!(!began(&bench));
    bench.take();
    bench.backlog(false);
    let at_once = (
        Duration::ZERO,
        JobEvent::CheckpointTimer(CheckpointTimer::Trigger),
    );
    assert!(bench.timers().contains(&at_once), "{:?}", bench.timers());
    bench.event(at_once.1);
    assert!(began(&bench));
}
