//! Barriers through a chain: what a cut holds, what is held back for it, and how it is given up.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::ids::CheckpointId;
use hurtig_core::time::{MAX_WATERMARK, ManualClock, Time};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Barrier, Batch, Element, Event, Result};
use hurtig_dataflow::chain::*;
use hurtig_dataflow::operator::*;
use hurtig_dataflow::operators::Watermarks;
use hurtig_dataflow::source::{SourceReader, SourceStatus};
use hurtig_exchange::{
    ChannelOptions, EdgeWriter, FlushPolicy, Partitioner, Receiver, Sender, Signal, channel,
};
use hurtig_state::{OperatorSnapshot, Redistribution};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const ONE: CheckpointId = CheckpointId(1);
const TWO: CheckpointId = CheckpointId(2);

/// Adds up what it has seen, emits it, and says what it was told.
#[derive(Default)]
struct Sum {
    sum: i64,
    /// Emits this record before each barrier.
    before: Option<i64>,
    told: Arc<Mutex<Vec<CheckpointEvent>>>,
    /// Whether what it has seen is committed by checkpoints.
    commits: bool,
    /// Its sum at the last barrier, and at the last checkpoint that has completed.
    prepared: (CheckpointId, i64),
    committed: i64,
}

impl Operator<i64, i64> for Sum {
    fn process(
        &mut self,
        input: &mut Batch<i64>,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        while !input.is_empty() {
            if out.full() || !b.spend() {
                return Ok(Progress::More);
            }
            let (n, time) = input.pop_front().unwrap();
            self.sum += n;
            out.push_at(n, time);
        }
        Ok(Progress::Done)
    }

    fn before_barrier(
        &mut self,
        id: CheckpointId,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        if let Some(record) = self.before {
            out.push_at(record, 0);
        }
        self.prepared = (id, self.sum);
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("sum", Redistribution::Split, &[self.sum])
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent, _: Cx<'_>) -> Result<()> {
        self.told.lock().unwrap().push(event);
        if event == CheckpointEvent::Completed(self.prepared.0) {
            self.committed = self.prepared.1;
        }
        Ok(())
    }

    fn uncommitted(&self) -> bool {
        self.commits && self.committed != self.sum
    }
}

/// Emits 1, 2, 3, …, two in a call, and remembers where it stands.
#[derive(Default)]
struct Count(i64);

impl SourceReader<i64> for Count {
    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        out.push(self.0 + 1);
        out.push(self.0 + 2);
        self.0 += 2;
        let status = if self.0 >= 8 {
            SourceStatus::Finished
        } else {
            SourceStatus::More
        };
        Poll::Ready(Ok(status))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("at", Redistribution::Split, &[self.0])
    }
}

struct Rig {
    core: TaskCore,
    inputs: Vec<Sender<i64>>,
    output: Receiver<i64>,
    told: Arc<Mutex<Vec<CheckpointEvent>>>,
    clock: Arc<ManualClock>,
}

fn ends(max_batches: usize) -> (Sender<i64>, Receiver<i64>) {
    let options = ChannelOptions::bounded(max_batches, usize::MAX);
    channel(options, Signal::new(), Signal::new())
}

fn services() -> Services {
    let side = SideOutputs::new(Vec::new());
    Services::new(SubtaskInfo::single("op"), ManualClock::new(), side)
}

fn rig(head: Box<dyn Head>, inputs: Vec<Sender<i64>>, sums: usize, before: Option<i64>) -> Rig {
    let sum = move |told| Sum {
        before,
        told,
        ..Sum::default()
    };
    rig_of((head, inputs), (0..sums).map(|_| sum), 1_000)
}

type Told = Arc<Mutex<Vec<CheckpointEvent>>>;

fn rig_of<F: FnOnce(Told) -> Sum>(
    (head, inputs): (Box<dyn Head>, Vec<Sender<i64>>),
    sums: impl ExactSizeIterator<Item = F>,
    room: usize,
) -> Rig {
    let told = Told::default();
    let (sender, output) = ends(room);
    let edge = EdgeWriter::new(
        vec![sender],
        Partitioner::Forward,
        TypeInfo::of(),
        FlushPolicy {
            batch_size: 2,
            ..FlushPolicy::default()
        },
    );
    let links = sums.len();
    let node = |sum: F| Box::new(OperatorNode::new(sum(told.clone()), services())) as Box<dyn Node>;
    let link = |_| Box::new(Link::<i64>::new(16)) as Box<dyn AnyLink>;
    let parts = TaskParts {
        head,
        nodes: sums.map(node).collect(),
        links: (0..=links).map(link).collect(),
        outlet: Box::new(Tail::new(vec![edge])),
        signal: Signal::new(),
        buffer_timeout: None,
    };
    let clock = ManualClock::new();
    let mut core = TaskCore::new(parts, clock.clone()).taking_checkpoints(true);
    core.open(&|_| None).unwrap();
    Rig {
        core,
        inputs,
        output,
        told,
        clock,
    }
}

fn gate(inputs: usize, sums: usize) -> Rig {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..inputs).map(|_| ends(1_000)).unzip();
    rig(
        Box::new(GateHead::new(InputGate::new(receivers))),
        senders,
        sums,
        None,
    )
}

fn source(before: Option<i64>) -> Rig {
    let strategy = Watermarks::none();
    let head = SourceHead::new(Box::new(Count::default()), strategy, Duration::ZERO, services());
    rig(Box::new(head), Vec::new(), 2, before)
}

impl Rig {
    fn send(&self, input: usize, records: &[i64]) {
        self.inputs[input].try_send(Batch::from_records(records.to_vec()), 8);
    }

    fn barrier(&self, input: usize, checkpoint: CheckpointId) {
        self.inputs[input].send_event(Event::Barrier(checkpoint.into()));
    }

    /// Turns the chain until it rests; what came out, barriers as negative numbers.
    fn run(&mut self) -> Vec<i64> {
        let mut task = Context::from_waker(Waker::noop());
        for _ in 0..50 {
            if self.core.round(&mut task, Duration::from_secs(1)).unwrap() != Round::Busy {
                break;
            }
        }
        let mut seen = Vec::new();
        while let Some(element) = self.output.try_recv() {
            match element {
                Element::Batch(mut batch) => seen.extend_from_slice(batch.records()),
                Element::Event(Event::Barrier(Barrier {
                    checkpoint: CheckpointId(id),
                    ..
                })) => seen.push(-(id as i64)),
                Element::Event(_) => {}
            }
        }
        seen
    }

    /// The checkpoint of the next cut with what each operator remembered.
    fn cut(&mut self, state: &str) -> Option<(CheckpointId, Vec<Vec<i64>>)> {
        let TaskCut {
            checkpoint,
            operators,
            ..
        } = self.core.take_cut()?;
        Some((
            checkpoint,
            operators.iter().map(|one| one.operator(state).unwrap()).collect(),
        ))
    }
}

#[test]
fn a_cut_holds_what_came_before_the_barriers_of_all_inputs_and_nothing_else() {
    let mut rig = gate(2, 2);
    rig.send(0, &[1, 2]);
    rig.barrier(0, ONE);
    rig.send(0, &[100]);
    rig.send(1, &[4]);
    assert_eq!(rig.run(), [1, 2, 4], "what follows a barrier is held back");
    assert!(rig.core.take_cut().is_none());
    rig.send(1, &[8]);
    rig.barrier(1, ONE);
    rig.send(1, &[200]);
    let seen = rig.run();
    assert_eq!(seen[..2], [8, -1]);
    assert!(seen[2..] == [100, 200] || seen[2..] == [200, 100], "{seen:?}");
    assert_eq!(rig.cut("sum"), Some((ONE, vec![vec![], vec![15], vec![15]])));
    assert!(rig.core.take_cut().is_none(), "a cut is taken once");
}

#[test]
fn a_cut_knows_when_its_barriers_came_and_how_long_they_took() {
    let (millis, mut rig) = (Duration::from_millis, gate(2, 1));
    let at = |ms| Time::ZERO.after(millis(ms));
    rig.clock.advance(millis(10));
    rig.barrier(0, ONE);
    assert_eq!(rig.run(), [] as [i64; 0]);
    rig.clock.advance(millis(30));
    rig.barrier(1, ONE);
    assert_eq!(rig.run(), [-1]);
    let times = rig.core.take_cut().unwrap().times;
    assert_eq!(
        (times.came, times.alignment(), times.through()),
        (at(10), millis(30), Duration::ZERO)
    );
    // Both come at once, and long after the gate was last looked at.
    rig.clock.advance(millis(60));
    rig.barrier(0, TWO);
    rig.barrier(1, TWO);
    assert_eq!(rig.run(), [-2]);
    let times = rig.core.take_cut().unwrap().times;
    assert_eq!((times.came, times.alignment()), (at(100), Duration::ZERO));
    // A source makes its barrier when it is told, and sends it when it is turned.
    let mut rig = source(None);
    rig.clock.advance(millis(5));
    rig.core.trigger(ONE).unwrap();
    rig.clock.advance(millis(2));
    rig.run();
    let times = rig.core.take_cut().unwrap().times;
    assert_eq!(
        (times.came, times.alignment(), times.through()),
        (at(5), Duration::ZERO, millis(2))
    );
    // Producers that have all ended send no more barriers: the task is told itself, at rest for long.
    let mut rig = gate(1, 1);
    rig.inputs[0].send_event(Event::EndOfInput);
    rig.clock.advance(millis(7));
    rig.core.trigger(ONE).unwrap();
    rig.run();
    let times = rig.core.take_cut().unwrap().times;
    assert_eq!((times.came, times.alignment()), (at(7), Duration::ZERO));
}

#[test]
fn an_input_that_has_ended_is_not_waited_for() {
    let mut rig = gate(2, 1);
    rig.send(0, &[1]);
    rig.barrier(0, ONE);
    rig.send(1, &[2]);
    rig.inputs[1].send_event(Event::EndOfInput);
    assert_eq!(rig.run(), [1, 2, -1]);
    assert_eq!(rig.cut("sum"), Some((ONE, vec![vec![], vec![3]])));
}

#[test]
fn event_time_that_ends_before_the_input_ends_nothing_else() {
    let mut rig = gate(2, 1);
    for input in 0..2 {
        rig.inputs[input].send_event(Event::Watermark(MAX_WATERMARK));
    }
    assert_eq!(rig.run(), [] as [i64; 0]);
    rig.send(0, &[1]);
    rig.barrier(0, ONE);
    rig.barrier(1, ONE);
    rig.send(1, &[2]);
    assert_eq!(rig.run(), [1, -1, 2], "a barrier and records behind it");
    assert_eq!(rig.cut("sum"), Some((ONE, vec![vec![], vec![1]])));
    // The producers have finished, and the news of one is still on the way.
    rig.inputs[1].send_event(Event::EndOfInput);
    assert_eq!(rig.run(), [] as [i64; 0]);
    rig.core.trigger(TWO).unwrap();
    assert_eq!(rig.run(), [] as [i64; 0]);
    rig.inputs[0].send_event(Event::EndOfInput);
    assert_eq!(rig.run(), [-2]);
    assert_eq!(rig.cut("sum"), Some((TWO, vec![vec![], vec![3]])));
    assert_eq!(rig.round(), Round::Finished);
}

#[test]
fn an_aborted_alignment_lets_its_inputs_go_and_is_told_to_operators() {
    let mut rig = gate(2, 1);
    rig.barrier(0, ONE);
    rig.send(0, &[1]);
    assert_eq!(rig.run(), [] as [i64; 0]);
    rig.core.on_checkpoint(CheckpointEvent::Aborted(ONE)).unwrap();
    assert_eq!(rig.run(), [1]);
    rig.barrier(1, ONE);
    rig.send(1, &[2]);
    assert_eq!(rig.run(), [2], "a late barrier blocks nothing");
    rig.barrier(0, TWO);
    rig.barrier(1, TWO);
    assert_eq!(rig.run(), [-2]);
    assert_eq!(rig.cut("sum"), Some((TWO, vec![vec![], vec![3]])));
    rig.core.on_checkpoint(CheckpointEvent::Completed(TWO)).unwrap();
    let told = rig.told.lock().unwrap().clone();
    assert_eq!(
        told,
        [CheckpointEvent::Aborted(ONE), CheckpointEvent::Completed(TWO)]
    );
}

#[test]
fn a_source_cuts_between_two_calls_and_operators_emit_before_the_barrier() {
    let mut rig = source(Some(1_000));
    rig.core.trigger(ONE).unwrap();
    let seen = rig.run();
    let barrier = seen.iter().position(|&n| n == -1).unwrap();
    let (_, cut) = rig.cut("at").unwrap();
    let read = cut[0][0];
    let before: Vec<i64> = (1..=read).chain([1_000, 1_000]).collect();
    assert_eq!(seen[..barrier], before);
    assert_eq!(seen.last(), Some(&8), "what follows the barrier is all there");
    rig.core.trigger(TWO).unwrap();
    assert!(
        rig.core.take_cut().is_none(),
        "behind the end of input no barrier follows"
    );
}

#[test]
fn an_aborted_checkpoint_sends_no_barrier() {
    let mut rig = source(None);
    rig.core.trigger(ONE).unwrap();
    rig.core.on_checkpoint(CheckpointEvent::Aborted(ONE)).unwrap();
    assert!(rig.run().iter().all(|&n| n > 0));
    assert!(rig.core.take_cut().is_none());
}

/// A source of 1 to 8 before an operator whose sums are committed by checkpoints.
fn committing(room: usize) -> Rig {
    let strategy = Watermarks::none();
    let head = SourceHead::new(Box::new(Count::default()), strategy, Duration::ZERO, services());
    let sum = |told| Sum {
        told,
        commits: true,
        ..Sum::default()
    };
    rig_of((Box::new(head), Vec::new()), [sum].into_iter(), room)
}

impl Rig {
    fn round(&mut self) -> Round {
        let mut task = Context::from_waker(Waker::noop());
        self.core.round(&mut task, Duration::from_secs(1)).unwrap()
    }
}

#[test]
fn a_task_with_something_to_commit_ends_behind_a_checkpoint() {
    let mut rig = committing(1_000);
    assert_eq!(rig.run(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(rig.round(), Round::Idle(None));
    assert!(rig.core.take_checkpoint_request());
    assert!(!rig.core.take_checkpoint_request(), "once");
    rig.core.trigger(ONE).unwrap();
    assert_eq!(rig.round(), Round::Idle(None));
    assert_eq!(rig.cut("sum").unwrap().1, [vec![], vec![36]]);
    rig.core.on_checkpoint(CheckpointEvent::Aborted(ONE)).unwrap();
    assert_eq!(rig.round(), Round::Idle(None));
    assert!(rig.core.take_checkpoint_request(), "another one is needed");
    rig.core.trigger(TWO).unwrap();
    assert_eq!(rig.round(), Round::Idle(None));
    assert_eq!(rig.cut("sum").unwrap().1, [vec![], vec![36]]);
    rig.core.on_checkpoint(CheckpointEvent::Completed(TWO)).unwrap();
    assert_eq!(rig.round(), Round::Finished);
}

#[test]
fn a_checkpoint_that_came_too_late_for_a_barrier_is_taken_at_the_end() {
    let mut rig = committing(1);
    // The source has ended, and what it sent waits for room.
    for _ in 0..20 {
        rig.round();
    }
    assert!(matches!(rig.round(), Round::BackPressured(_)));
    rig.core.trigger(ONE).unwrap();
    assert!(rig.core.take_cut().is_none());
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.extend(rig.run());
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(!rig.core.take_checkpoint_request(), "it has one");
    assert_eq!(rig.cut("sum").unwrap().1, [vec![], vec![36]]);
    rig.core.on_checkpoint(CheckpointEvent::Completed(ONE)).unwrap();
    assert_eq!(rig.round(), Round::Finished);
}

#[test]
fn what_came_behind_a_barrier_waits_for_the_next_checkpoint_at_the_end_too() {
    let (sender, receiver) = ends(1_000);
    let head = Box::new(GateHead::new(InputGate::new(vec![receiver])));
    let sum = |told| Sum {
        commits: true,
        told,
        ..Sum::default()
    };
    let mut rig = rig_of((head, vec![sender]), std::iter::once(sum), 1_000);
    rig.send(0, &[1]);
    rig.barrier(0, ONE);
    rig.send(0, &[2]);
    rig.inputs[0].send_event(Event::EndOfInput);
    rig.run();
    assert_eq!(rig.cut("sum").unwrap().1, [vec![], vec![1]]);
    // Its producer finished before the checkpoint was complete, so it is told itself.
    rig.core.trigger(ONE).unwrap();
    rig.run();
    assert!(
        rig.core.take_cut().is_none(),
        "it was cut before the second record"
    );
    assert!(rig.core.take_checkpoint_request());
    rig.core.on_checkpoint(CheckpointEvent::Completed(ONE)).unwrap();
    assert!(matches!(rig.round(), Round::Idle(None)));
    assert!(
        rig.core.take_checkpoint_request(),
        "the second record is in none yet"
    );
    rig.core.trigger(TWO).unwrap();
    rig.run();
    assert_eq!(rig.cut("sum").unwrap().1, [vec![], vec![3]]);
    rig.core.on_checkpoint(CheckpointEvent::Completed(TWO)).unwrap();
    assert_eq!(rig.round(), Round::Finished);
}

#[test]
fn a_task_that_had_finished_calls_nobody() {
    let mut rig = committing(1_000);
    rig.core.finish_at_once();
    assert_eq!(rig.round(), Round::Finished);
    assert_eq!(rig.run(), [0_i64; 0]);
}
