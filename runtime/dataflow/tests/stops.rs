//! Stops with a savepoint: nothing follows the cut, and a savepoint that fails leaves no trace.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::ids::CheckpointId;
use hurtig_core::time::{Clock, ManualClock};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Barrier, Batch, Element, Event, Result};
use hurtig_dataflow::chain::*;
use hurtig_dataflow::operator::*;
use hurtig_dataflow::operators::Watermarks;
use hurtig_dataflow::source::{SourceReader, SourceStatus, Split};
use hurtig_exchange::{
    ChannelOptions, EdgeWriter, FlushPolicy, Partitioner, Receiver, Sender, Signal, channel,
};
use hurtig_state::{OperatorSnapshot, Redistribution, ScanBudget};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const STOP: CheckpointId = CheckpointId(7);
/// What a watermark at the end of event time is among the records of [`Rig::run`].
const LAST: i64 = -1_000;

/// Passes records on, and fires a timer of processing time again and again, 1 for each.
#[derive(Default)]
struct Ticks {
    seen: i64,
    /// Calls that its snapshot still takes.
    scans: u32,
    told: Arc<Mutex<Vec<&'static str>>>,
}

impl Operator<i64, i64> for Ticks {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        ctx.cx().schedule(10);
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<i64>,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        while !input.is_empty() {
            if out.full() {
                return Ok(Progress::More);
            }
            let (n, time) = input.pop_front().unwrap();
            self.seen += 1;
            out.push_at(n, time);
        }
        Ok(Progress::Done)
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        out.push_at(1_000 + now, 0);
        cx.schedule(now + 10);
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.scans = 1_000;
        snapshot.put_operator("seen", Redistribution::Split, &[self.seen])
    }

    fn continue_snapshot(&mut self, _: &mut OperatorSnapshot, _: &mut ScanBudget) -> Result<bool> {
        self.scans = self.scans.saturating_sub(1);
        Ok(self.scans == 0)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent, _: Cx<'_>) -> Result<()> {
        if matches!(event, CheckpointEvent::Completed(_)) {
            self.told.lock().unwrap().push("commit");
        }
        Ok(())
    }

    fn end_input(&mut self, _: Cx<'_>, _: &mut Collector<i64>, _: &mut Budget) -> Result<Progress> {
        self.told.lock().unwrap().push("end");
        Ok(Progress::Done)
    }

    fn close(&mut self) -> Result<()> {
        self.told.lock().unwrap().push("close");
        Ok(())
    }
}

/// Emits 1, 2, 3, … and remembers where it stands, and how many splits it was given.
#[derive(Default)]
struct Count {
    at: i64,
    splits: i64,
}

impl SourceReader<i64> for Count {
    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        if self.at == 6 {
            return Poll::Pending;
        }
        self.at += 1;
        out.push(self.at);
        Poll::Ready(Ok(SourceStatus::More))
    }

    fn add_split(&mut self, split: Option<Split>) -> Result<()> {
        self.splits += i64::from(split.is_some());
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("seen", Redistribution::Split, &[self.at, self.splits])
    }
}

struct Rig {
    core: TaskCore,
    clock: Arc<ManualClock>,
    output: Receiver<i64>,
    told: Arc<Mutex<Vec<&'static str>>>,
}

fn ends(max_batches: usize) -> (Sender<i64>, Receiver<i64>) {
    let options = ChannelOptions::bounded(max_batches, usize::MAX);
    channel(options, Signal::new(), Signal::new())
}

/// A head and two operators, with so much room behind them.
fn rig(clock: Arc<ManualClock>, head: Box<dyn Head>, room: usize) -> Rig {
    let told = Arc::default();
    let (sender, output) = ends(room);
    let policy = FlushPolicy {
        batch_size: 1,
        ..FlushPolicy::default()
    };
    let edge = EdgeWriter::new(vec![sender], Partitioner::Forward, TypeInfo::of(), policy);
    let node = |_| {
        let ticks = Ticks {
            told: Arc::clone(&told),
            ..Ticks::default()
        };
        Box::new(OperatorNode::new(ticks, services(&clock))) as Box<dyn Node>
    };
    let link = |_| Box::new(Link::<i64>::new(16)) as Box<dyn AnyLink>;
    let parts = TaskParts {
        head,
        nodes: (0..2).map(node).collect(),
        links: (0..3).map(link).collect(),
        outlet: Box::new(Tail::new(vec![edge])),
        signal: Signal::new(),
        buffer_timeout: None,
    };
    let mut core = TaskCore::new(parts, clock.clone()).taking_checkpoints(true);
    core.open(&|_| None).unwrap();
    Rig {
        core,
        clock,
        output,
        told,
    }
}

fn services(clock: &Arc<ManualClock>) -> Services {
    let clock: Arc<dyn Clock> = clock.clone();
    Services::new(SubtaskInfo::single("op"), clock, SideOutputs::new(Vec::new()))
}

fn source(room: usize) -> Rig {
    let clock = ManualClock::new();
    let reader = Box::new(Count::default());
    let head = SourceHead::new(reader, Watermarks::none(), Duration::ZERO, services(&clock));
    rig(clock, Box::new(head), room)
}

fn gate() -> (Rig, Vec<Sender<i64>>) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| ends(1_000)).unzip();
    let head = GateHead::new(InputGate::new(receivers));
    (rig(ManualClock::new(), Box::new(head), 1_000), senders)
}

impl Rig {
    fn turn(&mut self) -> Round {
        let mut task = Context::from_waker(Waker::noop());
        let mut round = Round::Busy;
        for _ in 0..50 {
            round = self.core.round(&mut task, Duration::from_secs(1)).unwrap();
            if round != Round::Busy {
                break;
            }
        }
        round
    }

    /// Turns the chain until it rests; what came out, barriers as negative numbers.
    fn run(&mut self) -> (Vec<i64>, bool) {
        let (mut seen, mut finished) = (Vec::new(), false);
        while !finished {
            finished = self.turn() == Round::Finished;
            let before = seen.len();
            while let Some(element) = self.output.try_recv() {
                match element {
                    Element::Batch(mut batch) => seen.extend_from_slice(batch.records()),
                    Element::Event(Event::Barrier(Barrier {
                        checkpoint: CheckpointId(id),
                        ..
                    })) => seen.push(-(id as i64)),
                    Element::Event(Event::Watermark(i64::MAX)) => seen.push(LAST),
                    Element::Event(_) => {}
                }
            }
            if seen.len() == before {
                break;
            }
        }
        (seen, finished)
    }

    fn cut(&mut self) -> Option<Vec<Vec<i64>>> {
        self.cut_of(STOP)
    }

    fn cut_of(&mut self, checkpoint: CheckpointId) -> Option<Vec<Vec<i64>>> {
        let cut = self.core.take_cut()?;
        assert_eq!(cut.checkpoint, checkpoint);
        Some(
            cut.operators
                .iter()
                .map(|one| one.operator("seen").unwrap())
                .collect(),
        )
    }

    fn told(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// Timers of processing time are due.
    fn wait(&self) {
        self.clock.advance(Duration::from_millis(100));
    }

    fn complete(&mut self) {
        self.core.on_checkpoint(CheckpointEvent::Completed(STOP)).unwrap();
    }
}

#[test]
fn nothing_follows_the_cut_of_a_task_that_stops() {
    let mut rig = source(1_000);
    rig.core.prepare_stop(STOP, StopMode::Suspend);
    rig.core.trigger(STOP).unwrap();
    rig.wait();
    let (seen, finished) = rig.run();
    assert_eq!(seen.last(), Some(&-7), "{seen:?}");
    assert!(!finished, "it waits for the savepoint");
    // The first operator's timer was due before the barrier came.
    assert_eq!(rig.cut(), Some(vec![vec![0, 0], vec![0], vec![1]]));
    rig.wait();
    assert_eq!(rig.run(), (vec![], false), "no timer fires, no record is read");
    rig.complete();
    assert_eq!(rig.run(), (vec![], true), "nor does event time end");
    assert_eq!(rig.told(), ["commit", "commit", "close", "close"]);
}

#[test]
fn a_savepoint_that_fails_lets_the_task_go_on_as_if_nothing_had_been() {
    let mut rig = source(1_000);
    rig.core.prepare_stop(STOP, StopMode::Suspend);
    rig.core.trigger(STOP).unwrap();
    assert_eq!(rig.run(), (vec![-7], false));
    rig.core.on_checkpoint(CheckpointEvent::Aborted(STOP)).unwrap();
    assert_eq!(rig.run(), (vec![1, 2, 3, 4, 5, 6], false));
    rig.wait();
    assert!(!rig.run().0.is_empty(), "timers fire again");
    assert_eq!(rig.told(), [""; 0]);
}

#[test]
fn a_barrier_without_room_leaves_a_task_that_holds_still() {
    let mut rig = source(1);
    // Two records lie before the barrier: one in the channel, one in the writer's buffer.
    assert!(matches!(rig.turn(), Round::BackPressured(_)));
    rig.core.prepare_stop(STOP, StopMode::Suspend);
    rig.core.trigger(STOP).unwrap();
    let (seen, finished) = rig.run();
    let before: Vec<i64> = (1..seen.len() as i64).collect();
    assert_eq!(seen, [&before[..], &[-7]].concat());
    assert!(!finished && !before.is_empty());
    assert_eq!(rig.cut().unwrap()[0], [before.len() as i64, 0]);
    rig.complete();
    assert_eq!(rig.run(), (vec![], true));
}

#[test]
fn what_comes_behind_the_barrier_of_one_input_is_never_seen() {
    let (mut rig, inputs) = gate();
    rig.core.prepare_stop(STOP, StopMode::Suspend);
    let batch = |n| Batch::from_records(vec![n]);
    inputs[0].try_send(batch(1), 8);
    inputs[0].send_event(Event::Barrier(STOP.into()));
    inputs[0].try_send(batch(100), 8);
    inputs[1].try_send(batch(2), 8);
    inputs[1].send_event(Event::Barrier(STOP.into()));
    inputs[1].try_send(batch(200), 8);
    assert_eq!(rig.run(), (vec![1, 2, -7], false));
    assert_eq!(rig.cut(), Some(vec![vec![], vec![2], vec![2]]));
    drop(inputs);
    rig.complete();
    assert_eq!(rig.run(), (vec![], true));
    assert_eq!(rig.told(), ["commit", "commit", "close", "close"]);
}

#[test]
fn a_drain_ends_event_time_before_the_cut_and_keeps_the_position() {
    let mut rig = source(1_000);
    rig.core.prepare_stop(STOP, StopMode::Drain);
    let mut task = Context::from_waker(Waker::noop());
    let _ = rig.core.round(&mut task, Duration::ZERO).unwrap();
    rig.core.trigger(STOP).unwrap();
    // It was dealt out behind the savepoint's part of the enumerator.
    let split = Split {
        id: "late".to_owned(),
        bytes: Vec::new(),
    };
    rig.core.add_split(Some(split)).unwrap();
    let (seen, finished) = rig.run();
    assert_eq!(seen.last(), Some(&LAST), "{seen:?}");
    assert!(!finished, "it waits for the savepoint");
    assert_eq!(rig.told(), ["end", "end"]);
    let read = seen.len() as i64 - 1;
    assert_eq!(rig.cut(), Some(vec![vec![read, 0], vec![read], vec![read]]));
    assert!(rig.core.take_cut().is_none(), "a cut is taken once");
    rig.complete();
    assert_eq!(rig.run(), (vec![], true));
    assert_eq!(rig.told(), ["commit", "commit", "close", "close"]);
}

#[test]
fn a_task_drains_when_its_producers_have() {
    let (mut rig, inputs) = gate();
    rig.core.prepare_stop(STOP, StopMode::Drain);
    inputs[0].try_send(Batch::from_records(vec![1]), 8);
    inputs[0].send_event(Event::EndOfInput);
    assert_eq!(rig.run(), (vec![1], false));
    assert_eq!(rig.cut(), None);
    inputs[1].send_event(Event::EndOfInput);
    assert!(!rig.run().1);
    assert_eq!(rig.cut(), Some(vec![vec![], vec![1], vec![1]]));
    rig.complete();
    assert!(rig.run().1);
}

#[test]
fn a_job_that_stops_again_opens_and_closes_and_does_nothing_else() {
    let mut rig = source(1_000);
    rig.core.end_stopped();
    rig.wait();
    assert_eq!(rig.run(), (vec![], true));
    assert_eq!(rig.told(), ["close", "close"]);
}

#[test]
fn a_split_that_was_dealt_out_behind_a_checkpoint_is_not_part_of_it() {
    for given_up in [false, true] {
        let mut rig = source(1);
        // Nobody takes what it emits, so the barrier waits.
        rig.turn();
        rig.core.trigger(STOP).unwrap();
        let split = Split {
            id: "late".to_owned(),
            bytes: Vec::new(),
        };
        rig.core.add_split(Some(split)).unwrap();
        if given_up {
            rig.core.on_checkpoint(CheckpointEvent::Aborted(STOP)).unwrap();
        }
        rig.run();
        let splits = |cut: Vec<Vec<i64>>| cut[0][1];
        assert_eq!(rig.cut().map(splits), (!given_up).then_some(0));
        let next = CheckpointId(STOP.0 + 1);
        rig.core.trigger(next).unwrap();
        rig.run();
        assert_eq!(rig.cut_of(next).map(splits), Some(1), "of the next one it is");
    }
}
