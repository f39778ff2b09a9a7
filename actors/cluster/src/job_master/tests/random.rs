//! Random lives: whatever tasks do in whatever order, repeated and late messages included, a job
//! ends exactly once, never runs two attempts of a subtask, and always can end.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a step of the world is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A task goes on by itself.
    Advance(usize),
    /// A task fails.
    Fail(usize),
    /// An old message arrives again.
    Repeat(usize),
    /// A timer fires.
    Timer(usize),
    /// Somebody cancels.
    Cancel,
    /// Slots arrive.
    Offer(u128),
    /// The enumerator has started, or fails.
    Enumerator(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let index = || 0..64usize;
    prop_oneof![
        12 => index().prop_map(Step::Advance),
        1 => index().prop_map(Step::Fail),
        2 => index().prop_map(Step::Repeat),
        3 => index().prop_map(Step::Timer),
        1 => Just(Step::Cancel),
        2 => (1..4u128).prop_map(Step::Offer),
        3 => prop::bool::weighted(0.9).prop_map(Step::Enumerator),
    ]
}

/// The world around a JobMaster: tasks as a TaskManager would run them.
struct World {
    bench: Bench,
    /// Tasks that run, with what they last said and whether they were told to stop.
    tasks: BTreeMap<ExecutionId, (TaskState, bool)>,
    said: Vec<(ExecutionId, TaskState)>,
    timers: Vec<JobEvent>,
    ended: usize,
}

impl World {
    fn new(attempts: u32) -> Self {
        let bench = Bench::new(fixed(attempts));
        let mut world = Self {
            bench,
            tasks: BTreeMap::new(),
            said: Vec::new(),
            timers: Vec::new(),
            ended: 0,
        };
        world.absorb();
        world
    }

    fn absorb(&mut self) {
        for effect in self.bench.take() {
            assert_eq!(self.ended, 0, "nothing follows the end: {effect:?}");
            match effect {
                JobEffect::Deploy { descriptor, .. } => {
                    let id = descriptor.execution;
                    let twin = self.tasks.keys().find(|task| task.subtask == id.subtask);
                    assert!(twin.is_none(), "{id} is deployed while {twin:?} runs");
                    self.tasks.insert(id, (TaskState::Deploying, false));
                }
                JobEffect::CancelTask { execution, .. } => {
                    if let Some(task) = self.tasks.get_mut(&execution) {
                        assert!(
                            !std::mem::replace(&mut task.1, true),
                            "{execution} was told twice"
                        );
                    }
                }
                // The cancellation deadline is a matter of another test.
                JobEffect::After(_, event @ JobEvent::RestartDue { .. }) => self.timers.push(event),
                JobEffect::Ended(result) => {
                    assert!(self.tasks.is_empty(), "the job ended while tasks run");
                    assert!(result.status.is_globally_terminal());
                    assert_eq!(result.failure.is_some(), result.status == JobStatus::Failed);
                    self.ended += 1;
                }
                _ => {}
            }
        }
    }

    fn say(&mut self, execution: ExecutionId, state: TaskState) {
        if state.is_terminal() {
            self.tasks.remove(&execution);
        } else if let Some(task) = self.tasks.get_mut(&execution) {
            task.0 = state;
        }
        self.said.push((execution, state));
        self.bench.state(execution, state);
    }

    fn pick(&self, index: usize) -> Option<(ExecutionId, TaskState, bool)> {
        let index = index % self.tasks.len().max(1);
        self.tasks
            .iter()
            .nth(index)
            .map(|(id, (state, told))| (*id, *state, *told))
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Advance(index) => {
                let Some((id, state, told)) = self.pick(index) else {
                    return;
                };
                let next = match state {
                    _ if told && index % 3 == 0 => TaskState::Canceled,
                    TaskState::Deploying => TaskState::Initializing,
                    TaskState::Initializing => TaskState::Running,
                    _ => TaskState::Finished,
                };
                self.say(id, next);
            }
            Step::Fail(index) => {
                if let Some((id, ..)) = self.pick(index) {
                    self.say(id, TaskState::Failed);
                }
            }
            Step::Repeat(index) if !self.said.is_empty() => {
                let (id, state) = self.said[self.said.len() - 1 - index % self.said.len().min(8)];
                // Order is kept for one sender, so only what a task said last can arrive again.
                let is_last = self.said.iter().rfind(|said| said.0 == id) == Some(&(id, state));
                if is_last {
                    self.bench.state(id, state);
                }
            }
            Step::Timer(index) if !self.timers.is_empty() => {
                let timer = self.timers.remove(index % self.timers.len());
                self.bench.event(timer);
            }
            Step::Cancel => self.bench.message(JobMasterMessage::Cancel),
            Step::Offer(slots) => self.bench.offer(slots),
            Step::Enumerator(true) => self.bench.started(true),
            Step::Enumerator(false) => {
                let generation = self.bench.brain.splits.generation(SOURCE);
                let failure = failure("no input");
                self.bench.event(JobEvent::EnumeratorFailed {
                    generation,
                    node: SOURCE,
                    failure,
                });
            }
            Step::Repeat(_) | Step::Timer(_) => {}
        }
        self.absorb();
    }

    /// Lets everything that is under way happen, and nothing new fail.
    fn come_to_rest(&mut self) {
        for _ in 0..2_000 {
            if self.ended > 0 {
                return;
            }
            self.step(Step::Offer(3));
            self.step(Step::Enumerator(true));
            self.step(Step::Timer(0));
            self.step(Step::Advance(1));
        }
    }
}

proptest! {
    #[test]
    fn every_life_ends_exactly_once(steps in prop::collection::vec(step(), 0..200), attempts in 0..4u32) {
        let mut world = World::new(attempts);
        steps.into_iter().for_each(|step| world.step(step));
        world.come_to_rest();
        prop_assert_eq!(world.ended, 1, "stuck in {}", world.bench.brain.status());
    }
}
