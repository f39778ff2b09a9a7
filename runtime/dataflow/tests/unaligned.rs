//! Barriers that overtake: what a cut holds of the records in flight, and what becomes of it at a restore.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::element::WatermarkStatus;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::{MAX_WATERMARK, ManualClock, Time};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Barrier, Batch, Element, Event, Result};
use hurtig_dataflow::chain::*;
use hurtig_dataflow::operator::*;
use hurtig_dataflow::operators::Watermarks;
use hurtig_dataflow::source::{SourceReader, SourceStatus};
use hurtig_exchange::{
    BarrierMode, ChannelKind, ChannelOptions, EdgeWriter, FlushPolicy, InFlight, Partitioner, Receiver,
    SendOutcome, Sender, Signal, channel,
};
use hurtig_state::{OperatorSnapshot, Redistribution};
use proptest::prelude::*;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const ONE: CheckpointId = CheckpointId(1);
const TWO: CheckpointId = CheckpointId(2);

/// A barrier that may overtake so many milliseconds after the clock began.
fn after(checkpoint: CheckpointId, ms: u64) -> Barrier {
    Barrier {
        checkpoint,
        overtakes: Some(Time::ZERO.after(Duration::from_millis(ms))),
    }
}

/// Remembers every record that it has seen, in order, and that none of them was late.
#[derive(Default)]
struct Log {
    seen: Vec<i64>,
    late: Vec<i64>,
}

impl Log {
    fn see(&mut self, record: i64, time: i64, cx: Cx<'_>) {
        self.seen.push(record);
        if time <= cx.watermark() {
            self.late.push(record);
        }
    }

    fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("seen", Redistribution::Split, &self.seen)?;
        snapshot.put_operator("late", Redistribution::Split, &self.late)
    }

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        if let Some(restored) = ctx.restored() {
            self.seen = restored.operator("seen")?;
            self.late = restored.operator("late")?;
        }
        Ok(())
    }
}

impl Operator<i64, i64> for Log {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Log::open(self, ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<i64>,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        while !input.is_empty() {
            if out.full() || !b.spend() {
                return Ok(Progress::More);
            }
            let (n, time) = input.pop_front().unwrap();
            self.see(n, time, cx);
            out.push_at(n, time);
        }
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        Log::snapshot(self, snapshot)
    }
}

impl TwoInputOperator<i64, i64, i64> for Log {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Log::open(self, ctx)
    }

    fn process_first(
        &mut self,
        input: &mut Batch<i64>,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        Operator::process(self, input, cx, out, b)
    }

    fn process_second(
        &mut self,
        input: &mut Batch<i64>,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        Operator::process(self, input, cx, out, b)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        Log::snapshot(self, snapshot)
    }
}

fn services(clock: &Arc<ManualClock>) -> Services {
    let side = SideOutputs::new(Vec::new());
    Services::new(SubtaskInfo::single("op"), clock.clone(), side)
}

fn ends(
    max_batches: usize,
    barriers: BarrierMode,
    producer: Signal,
    consumer: Signal,
) -> (Sender<i64>, Receiver<i64>) {
    let options = ChannelOptions {
        max_batches,
        max_bytes: usize::MAX,
    };
    let (sender, receiver) = channel(ChannelKind { options, barriers }, producer, consumer);
    (sender, receiver.of_types(TypeInfo::of()))
}

/// A task that logs what it reads.
struct Rig {
    core: TaskCore,
    inputs: Vec<Sender<i64>>,
    output: Receiver<i64>,
    clock: Arc<ManualClock>,
    /// Records that have left before the barrier of [`ONE`], and behind it.
    left: [Vec<i64>; 2],
    barrier_seen: bool,
}

/// How a task is built.
#[derive(Clone, Debug)]
struct Build {
    modes: Vec<BarrierMode>,
    two_inputs: bool,
    room: usize,
}

impl Build {
    fn rig(&self) -> Rig {
        let (clock, own) = (ManualClock::new(), Signal::new());
        let ends = |mode: &BarrierMode| ends(64, *mode, Signal::new(), own.clone());
        let (inputs, mut receivers): (Vec<_>, Vec<_>) = self.modes.iter().map(ends).unzip();
        let (head, nodes): (Box<dyn Head>, Vec<Box<dyn Node>>) = if self.two_inputs {
            let second = receivers.split_off(1);
            let (first, second) = (InputGate::new(receivers), InputGate::new(second));
            let head = TwoInputHead::new(Log::default(), first, second, services(&clock));
            (Box::new(head), Vec::new())
        } else {
            let node = OperatorNode::<i64, i64, _>::new(Log::default(), services(&clock));
            let head = GateHead::new(InputGate::new(receivers));
            (Box::new(head), vec![Box::new(node)])
        };
        self.task(head, nodes, inputs, (own, clock))
    }

    fn task(
        &self,
        head: Box<dyn Head>,
        nodes: Vec<Box<dyn Node>>,
        inputs: Vec<Sender<i64>>,
        (own, clock): (Signal, Arc<ManualClock>),
    ) -> Rig {
        let (sender, output) = self::ends(self.room, BarrierMode::Overtakes, own.clone(), Signal::new());
        let policy = FlushPolicy {
            batch_size: 2,
            ..FlushPolicy::default()
        };
        let edge = EdgeWriter::new(vec![sender], Partitioner::Forward, TypeInfo::of(), policy);
        let parts = TaskParts {
            head,
            links: (0..=nodes.len())
                .map(|_| Box::new(Link::<i64>::new(4)) as Box<dyn AnyLink>)
                .collect(),
            nodes,
            outlet: Box::new(Tail::new(vec![edge])),
            signal: own,
            buffer_timeout: None,
        };
        Rig {
            core: TaskCore::new(parts, clock.clone()).taking_checkpoints(true),
            inputs,
            output,
            clock,
            left: [Vec::new(), Vec::new()],
            barrier_seen: false,
        }
    }

    fn fresh(&self) -> Rig {
        let mut rig = self.rig();
        rig.core.open(&|_| None).unwrap();
        rig
    }

    fn restored(&self, cut: &TaskCut, same_channels: bool) -> Rig {
        let mut rig = self.rig();
        rig.core.open(&|at| cut.operators.get(at).cloned()).unwrap();
        if let Some(in_flight) = &cut.in_flight {
            rig.core.replay(self.replayed(in_flight, same_channels)).unwrap();
        }
        rig
    }

    fn replayed(&self, in_flight: &InFlight, same_channels: bool) -> InFlightRestore {
        let channel = |(at, state): (usize, &hurtig_exchange::ChannelState)| RestoredChannel {
            input: u8::from(self.two_inputs && at > 0),
            state: state.clone(),
            keep: None,
        };
        InFlightRestore {
            watermark: in_flight.watermark,
            channels: in_flight.channels.iter().enumerate().map(channel).collect(),
            same_channels,
        }
    }
}

fn gate(inputs: usize, room: usize) -> Build {
    Build {
        modes: vec![BarrierMode::Overtakes; inputs],
        two_inputs: false,
        room,
    }
}

impl Rig {
    fn send(&self, input: usize, records: &[(i64, i64)]) {
        let mut batch = Batch::new();
        records
            .iter()
            .for_each(|&(record, time)| batch.push(record, time));
        assert!(matches!(self.inputs[input].try_send(batch, 8), SendOutcome::Sent));
    }

    fn event(&self, input: usize, event: Event) {
        self.inputs[input].send_event(event);
    }

    fn round(&mut self) -> Round {
        let mut task = Context::from_waker(Waker::noop());
        self.core.round(&mut task, Duration::ZERO).unwrap()
    }

    /// Rounds until the task rests.
    fn settle(&mut self) -> Round {
        for _ in 0..10_000 {
            match self.round() {
                Round::Busy => {}
                round => return round,
            }
        }
        panic!("the task never rests");
    }

    /// Reads at most `n` elements of the output.
    fn drain(&mut self, n: usize) {
        for _ in 0..n {
            if let Some(announced) = self.output.take_announcement() {
                // What is queued came before the barrier.
                let mut captured = Vec::new();
                self.output.capture(0, announced.boundary, &mut captured).unwrap();
                self.barrier_seen = true;
                for one in captured {
                    if let hurtig_exchange::Captured::Batch(kept) = one {
                        let mut batch = kept.decode(&TypeInfo::<i64>::of(), |_| true).unwrap();
                        self.left[0].extend_from_slice(batch.records());
                        (0..batch.len()).for_each(|_| self.left[1].push(i64::MIN));
                    }
                }
            }
            match self.output.try_recv() {
                Some(Element::Batch(mut batch)) => {
                    for &record in batch.records() {
                        let behind = usize::from(self.barrier_seen);
                        // Captured ones were counted when they were overtaken.
                        match self.left[1].iter().position(|&one| one == i64::MIN) {
                            Some(at) if behind == 1 => drop(self.left[1].remove(at)),
                            _ => self.left[behind].push(record),
                        }
                    }
                }
                Some(Element::Event(Event::Barrier(_))) => self.barrier_seen = true,
                Some(_) => {}
                None => return,
            }
        }
    }

    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.round() == Round::Finished {
                self.drain(usize::MAX);
                return;
            }
            self.drain(3);
        }
        panic!("the task never finishes");
    }
}

fn logged(cut: &TaskCut, what: &str) -> Vec<i64> {
    cut.operators
        .iter()
        .flat_map(|one| one.operator::<i64>(what).unwrap())
        .collect()
}

#[test]
fn a_barrier_overtakes_what_waits_and_the_cut_holds_it() {
    let mut rig = gate(2, 1).fresh();
    for n in 0..30 {
        rig.send(0, &[(n, 10 * n)]);
    }
    assert!(matches!(rig.settle(), Round::BackPressured(_)));
    rig.event(0, Event::Barrier(after(ONE, 0)));
    rig.send(0, &[(1_000, 1_000)]);
    assert!(matches!(rig.settle(), Round::BackPressured(_)));
    assert!(
        rig.core.take_cut().is_none(),
        "the other channel's records are to come"
    );
    rig.send(1, &[(50, 500)]);
    rig.settle();
    rig.event(1, Event::Barrier(after(ONE, 0)));
    rig.send(1, &[(2_000, 2_000)]);
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    let in_flight = cut.in_flight.clone().unwrap();
    assert!(rig.core.take_cut().is_none(), "once");
    let mut restored = gate(2, 100).restored(&cut, true);
    restored.send(0, &[(1_000, 1_000)]);
    restored.settle();
    restored.drain(100);
    let seen = logged(&cut, "seen");
    assert!(seen.len() < 30, "{seen:?} left nothing in flight");
    let mut all = [seen, restored.left[0].clone()].concat();
    assert_eq!(all.pop(), Some(1_000), "new records come last");
    all.sort_unstable();
    let wanted: Vec<i64> = (0..30).chain([50]).collect();
    assert_eq!(all, wanted, "{in_flight:?}");
}

#[test]
fn a_barrier_overtakes_the_rest_of_a_batch() {
    for two_inputs in [false, true] {
        let mut build = gate(2, 3);
        build.two_inputs = two_inputs;
        let mut rig = build.fresh();
        let records: Vec<(i64, i64)> = (0..100).map(|n| (n, n)).collect();
        rig.send(0, &records);
        assert!(matches!(rig.settle(), Round::BackPressured(_)));
        (0..2).for_each(|input| rig.event(input, Event::Barrier(after(ONE, 0))));
        rig.settle();
        let cut = rig.core.take_cut().unwrap();
        let seen = logged(&cut, "seen");
        assert!(seen.len() < 30, "{} of the batch were read", seen.len());
        for _ in 0..100 {
            rig.settle();
            rig.drain(10);
        }
        let all: Vec<i64> = (0..100).collect();
        assert_eq!(rig.left.concat(), all, "the run goes on");
        build.room = 100;
        let mut restored = build.restored(&cut, true);
        restored.settle();
        restored.drain(100);
        assert_eq!([seen, restored.left[0].clone()].concat(), all);
    }
}

#[test]
fn where_all_producers_have_finished_the_barrier_overtakes_what_they_have_left() {
    let mut rig = gate(2, 3).fresh();
    for n in 0..30 {
        rig.send(0, &[(n, n)]);
        rig.send(1, &[(1_000 + n, n)]);
    }
    // The barrier of one of them came before its end.
    rig.event(1, Event::Barrier(after(ONE, 0)));
    rig.send(1, &[(2_000, 2_000)]);
    (0..2).for_each(|input| rig.event(input, Event::EndOfInput));
    rig.settle();
    rig.core.trigger(after(ONE, 0)).unwrap();
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    let mut restored = gate(2, 100).restored(&cut, true);
    (0..2).for_each(|input| restored.event(input, Event::EndOfInput));
    restored.finish();
    let seen = [logged(&cut, "seen"), restored.left[0].clone()].concat();
    let all: Vec<i64> = (0..30).chain(1_000..1_030).collect();
    let sorted = |mut records: Vec<i64>| {
        records.sort_unstable();
        records
    };
    assert_eq!(sorted(seen), all);
}

#[test]
fn a_barrier_waits_for_its_time_and_then_for_nothing() {
    let mut rig = gate(2, 100).fresh();
    rig.event(0, Event::Barrier(after(ONE, 5)));
    rig.send(0, &[(1, 1)]);
    let wake = Time::ZERO.after(Duration::from_millis(5));
    assert_eq!(rig.settle(), Round::Idle(Some(wake)));
    assert_eq!(rig.output.backlog().0, 0, "the channel is blocked");
    rig.clock.advance(Duration::from_millis(5));
    rig.settle();
    rig.drain(100);
    assert!(rig.barrier_seen);
    assert_eq!(rig.left, [vec![], vec![1]]);
    assert!(rig.core.take_cut().is_none());
    rig.event(1, Event::EndOfInput);
    rig.settle();
    let in_flight = rig.core.take_cut().unwrap().in_flight.unwrap();
    assert!(
        in_flight
            .channels
            .iter()
            .all(|channel| channel.elements.is_empty())
    );
}

#[test]
fn in_time_an_announced_barrier_is_like_any_other() {
    let mut rig = gate(2, 100).fresh();
    rig.send(0, &[(1, 1)]);
    rig.event(0, Event::Barrier(after(ONE, 5)));
    rig.send(0, &[(100, 100)]);
    rig.event(1, Event::Barrier(after(ONE, 5)));
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    assert_eq!((logged(&cut, "seen"), cut.in_flight), (vec![1], None));
}

#[test]
fn at_least_once_reads_on_behind_a_barrier() {
    let mut build = gate(2, 100);
    build.modes = vec![BarrierMode::Passes; 2];
    let mut rig = build.fresh();
    rig.event(0, Event::Barrier(ONE.into()));
    rig.send(0, &[(1, 1)]);
    rig.settle();
    rig.drain(100);
    assert_eq!(
        rig.left[0],
        [1],
        "the barrier waits for the other channel, the record does not"
    );
    rig.event(1, Event::Barrier(ONE.into()));
    rig.send(1, &[(2, 2)]);
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    assert_eq!((logged(&cut, "seen"), cut.in_flight), (vec![1], None));
}

#[test]
fn an_aborted_checkpoint_leaves_nothing_and_the_next_one_is_whole() {
    let mut rig = gate(2, 100).fresh();
    rig.event(0, Event::Barrier(after(ONE, 0)));
    rig.settle();
    rig.core.on_checkpoint(CheckpointEvent::Aborted(ONE)).unwrap();
    rig.send(1, &[(1, 1)]);
    rig.event(1, Event::Barrier(after(ONE, 0)));
    rig.settle();
    assert!(rig.core.take_cut().is_none());
    for input in 0..2 {
        rig.event(input, Event::Barrier(after(TWO, 0)));
    }
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    assert_eq!((cut.checkpoint, logged(&cut, "seen")), (TWO, vec![1]));
}

#[test]
fn a_part_that_a_newer_checkpoint_cut_short_is_never_handed_out() {
    let mut rig = gate(2, 100).fresh();
    rig.event(0, Event::Barrier(after(ONE, 0)));
    rig.settle();
    rig.event(0, Event::Barrier(after(TWO, 0)));
    rig.event(1, Event::Barrier(after(TWO, 0)));
    rig.settle();
    assert!(rig.core.take_cut().is_none());
    rig.core.on_checkpoint(CheckpointEvent::Aborted(ONE)).unwrap();
    assert_eq!(rig.core.take_cut().unwrap().checkpoint, TWO);
}

#[test]
fn an_idle_channel_is_idle_in_the_replay_and_active_behind_it() {
    let mut rig = gate(2, 1).fresh();
    rig.event(1, Event::Watermark(10));
    rig.event(1, Event::Status(WatermarkStatus::Idle));
    rig.event(0, Event::Watermark(100));
    rig.settle();
    for n in 0..6 {
        rig.send(0, &[(n, 200 + n)]);
    }
    rig.settle();
    for input in 0..2 {
        rig.event(input, Event::Barrier(after(ONE, 0)));
    }
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    assert_eq!(cut.in_flight.as_ref().unwrap().watermark, 100);
    let mut restored = gate(2, 100).restored(&cut, true);
    restored.settle();
    // Its producer takes the channel for active: what it says counts at once.
    restored.event(0, Event::Watermark(400));
    restored.settle();
    let stats = restored.core.stats();
    assert_eq!(
        stats[0].watermark, 400,
        "an input that is behind is waited for once it has caught up"
    );
    restored.event(1, Event::Watermark(400));
    restored.settle();
    restored.event(0, Event::Watermark(500));
    restored.settle();
    assert_eq!(restored.core.stats()[0].watermark, 400);
}

/// Emits 1, 2, 3, … for ever, and remembers where it stands.
struct Count(i64);

impl SourceReader<i64> for Count {
    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        while !out.full() && b.spend() {
            self.0 += 1;
            out.push(self.0);
        }
        Poll::Ready(Ok(SourceStatus::More))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("at", Redistribution::Split, &[self.0])
    }
}

#[test]
fn a_barrier_leaves_a_task_that_nobody_makes_room_for_and_so_does_all_before_it() {
    let (clock, own) = (ManualClock::new(), Signal::new());
    let strategy = Watermarks::none();
    let head = SourceHead::new(Box::new(Count(0)), strategy, Duration::ZERO, services(&clock));
    let node = OperatorNode::<i64, i64, _>::new(Log::default(), services(&clock));
    let mut rig = gate(0, 4).task(Box::new(head), vec![Box::new(node)], Vec::new(), (own, clock));
    rig.core.open(&|_| None).unwrap();
    assert!(matches!(rig.settle(), Round::BackPressured(_)));
    rig.core.trigger(after(ONE, 5)).unwrap();
    let wake = Time::ZERO.after(Duration::from_millis(5));
    assert_eq!(rig.settle(), Round::BackPressured(Some(wake)));
    assert!(rig.core.take_cut().is_none());
    rig.clock.advance(Duration::from_millis(5));
    assert!(matches!(rig.settle(), Round::BackPressured(_)));
    let cut = rig.core.take_cut().unwrap();
    let at = cut.operators[0].operator::<i64>("at").unwrap()[0];
    assert_eq!(logged(&cut, "seen"), (1..=at).collect::<Vec<_>>());
    rig.drain(1_000);
    assert_eq!(
        rig.left[0],
        (1..=at).collect::<Vec<_>>(),
        "all before the boundary"
    );
    assert_eq!(rig.left[1].first(), Some(&(at + 1)));
    let (waiting, _) = rig.output.backlog();
    rig.settle();
    assert!(
        waiting <= 4 && rig.output.backlog().0 <= 4,
        "the overdraft has ended"
    );
}

/// What happens next in a run.
#[derive(Clone, Debug)]
enum Step {
    /// Records on a channel, which follow its earlier ones.
    Send(usize, i64),
    /// The channel's watermark.
    Watermark(usize),
    Idle(usize),
    Barrier(usize),
    Round,
    Drain(usize),
    Advance(u64),
}

fn step(inputs: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..inputs, 1_i64..4).prop_map(|(input, n)| Step::Send(input, n)),
        2 => (0..inputs).prop_map(Step::Watermark),
        1 => (0..inputs).prop_map(Step::Idle),
        2 => (0..inputs).prop_map(Step::Barrier),
        4 => Just(Step::Round),
        1 => (1_usize..6).prop_map(Step::Drain),
        1 => (1_u64..4).prop_map(Step::Advance),
    ]
}

/// What the producer of a channel has sent: record `n` of it has the time `10 * n`.
#[derive(Clone, Debug, Default)]
struct Producer {
    sent: i64,
    idle: bool,
    /// How many were sent before the barrier of [`ONE`], and how far the watermark was.
    cut: Option<(i64, i64)>,
    watermark: i64,
}

impl Producer {
    /// One that has sent so many records in earlier lives.
    fn begin(sent: i64) -> Self {
        Self {
            sent,
            watermark: i64::MIN,
            ..Self::default()
        }
    }

    fn all(&self, input: i64) -> Vec<i64> {
        (0..self.sent).map(|n| input * 1_000 + n).collect()
    }

    fn send(&mut self, rig: &Rig, input: usize, n: i64) {
        if std::mem::take(&mut self.idle) {
            rig.event(input, Event::Status(WatermarkStatus::Active));
        }
        let records: Vec<(i64, i64)> = (self.sent..self.sent + n)
            .map(|n| (input as i64 * 1_000 + n, 10 * n))
            .collect();
        rig.send(input, &records);
        self.sent += n;
    }

    fn watermark(&mut self, rig: &Rig, input: usize) {
        let watermark = 10 * self.sent - 5;
        if !self.idle && watermark > self.watermark {
            self.watermark = watermark;
            rig.event(input, Event::Watermark(watermark));
        }
    }

    fn barrier(&mut self, rig: &Rig, input: usize, barrier: Barrier) {
        if self.cut.is_none() {
            self.cut = Some((self.sent, self.watermark));
            rig.event(input, Event::Barrier(barrier));
        }
    }
}

fn per_channel(records: &[i64], inputs: usize) -> Vec<Vec<i64>> {
    let of = |input: i64| records.iter().copied().filter(move |n| n / 1_000 == input);
    (0..inputs as i64).map(|input| of(input).collect()).collect()
}

fn follow(rig: &mut Rig, producers: &mut [Producer], steps: &[Step], barrier: Option<Barrier>) {
    for step in steps {
        match *step {
            Step::Send(input, n) if rig.inputs[input].has_room() => producers[input].send(rig, input, n),
            Step::Send(..) => {}
            Step::Watermark(input) => producers[input].watermark(rig, input),
            Step::Idle(input) => {
                if !std::mem::replace(&mut producers[input].idle, true) {
                    rig.event(input, Event::Status(WatermarkStatus::Idle));
                }
            }
            Step::Barrier(input) => {
                if let Some(barrier) = barrier {
                    producers[input].barrier(rig, input, barrier);
                }
            }
            Step::Round => drop(rig.round()),
            Step::Drain(n) => rig.drain(n),
            Step::Advance(ms) => rig.clock.advance(Duration::from_millis(ms)),
        }
    }
}

/// Lives that each end with a checkpoint, from which the next one begins.
fn live(
    build: &Build,
    lives: &[Vec<Step>],
    overtakes: Option<u64>,
    same_channels: bool,
) -> Result<(), TestCaseError> {
    let inputs = build.modes.len();
    let mut cut: Option<TaskCut> = None;
    let (mut sent, mut seen) = (vec![0; inputs], Vec::new());
    for (life, steps) in (1..).zip(lives) {
        let mut rig = match &cut {
            None => build.fresh(),
            Some(cut) => build.restored(cut, same_channels),
        };
        let mut producers: Vec<Producer> = sent.iter().map(|&sent| Producer::begin(sent)).collect();
        let last = life == lives.len() as u64;
        let id = CheckpointId(life);
        let barrier = overtakes.map_or(id.into(), |ms| after(id, ms));
        follow(&mut rig, &mut producers, steps, (!last).then_some(barrier));
        if last {
            (0..inputs).for_each(|input| rig.event(input, Event::EndOfInput));
            rig.finish();
            let all: Vec<Vec<i64>> = (0..).zip(&producers).map(|(at, one)| one.all(at)).collect();
            seen.extend(rig.left.concat());
            prop_assert_eq!(per_channel(&seen, inputs), all);
            return Ok(());
        }
        for (input, producer) in producers.iter_mut().enumerate() {
            producer.barrier(&rig, input, barrier);
            sent[input] = producer.cut.unwrap().0;
        }
        let mut taken = rig.core.take_cut();
        for _ in 0..10_000 {
            if taken.is_some() && rig.barrier_seen {
                break;
            }
            rig.round();
            rig.drain(3);
            taken = taken.or_else(|| rig.core.take_cut());
        }
        seen.extend(&rig.left[0]);
        let taken = taken.unwrap();
        prop_assert_eq!(&logged(&taken, "seen"), &seen);
        let idles = lives.iter().flatten().any(|step| matches!(step, Step::Idle(_)));
        prop_assert!(
            idles || logged(&taken, "late").is_empty(),
            "records of a replay were late"
        );
        cut = Some(taken);
    }
    Ok(())
}

fn play(build: &Build, steps: &[Step], barrier: Barrier, same_channels: bool) -> Result<(), TestCaseError> {
    let inputs = build.modes.len();
    let mut rig = build.fresh();
    let mut producers = vec![Producer::begin(0); inputs];
    follow(&mut rig, &mut producers, steps, Some(barrier));
    for (input, producer) in producers.iter_mut().enumerate() {
        producer.barrier(&rig, input, barrier);
        rig.event(input, Event::EndOfInput);
    }
    let mut cut = None;
    for _ in 0..10_000 {
        cut = cut.or_else(|| rig.core.take_cut());
        if rig.round() == Round::Finished {
            break;
        }
        rig.drain(3);
    }
    rig.drain(usize::MAX);
    let cut = cut.or_else(|| rig.core.take_cut()).unwrap();
    prop_assert_eq!(
        &logged(&cut, "seen"),
        &rig.left[0],
        "what left before the barrier is what was seen"
    );
    let all: Vec<Vec<i64>> = producers
        .iter()
        .enumerate()
        .map(|(input, producer)| producer.all(input as i64))
        .collect();
    prop_assert_eq!(
        &per_channel(&rig.left.concat(), inputs),
        &all,
        "the uninterrupted run"
    );

    // The restored run: what was sent behind the barriers is sent again.
    let mut restored = build.restored(&cut, same_channels);
    for (input, producer) in producers.iter().enumerate() {
        let (sent, _) = producer.cut.unwrap();
        let mut again = Producer::begin(sent);
        while again.sent < producer.sent {
            again.send(&restored, input, 1);
            again.watermark(&restored, input);
        }
        restored.event(input, Event::EndOfInput);
    }
    restored.finish();
    let seen = [logged(&cut, "seen"), restored.left[0].clone()].concat();
    prop_assert_eq!(&per_channel(&seen, inputs), &all, "the restored run");
    prop_assert_eq!(restored.core.stats().last().unwrap().watermark, MAX_WATERMARK);
    if !steps.iter().any(|step| matches!(step, Step::Idle(_))) {
        let late = logged(&cut, "late");
        prop_assert!(late.is_empty(), "late: {:?}", late);
    }
    Ok(())
}

fn build() -> impl Strategy<Value = Build> {
    let mode = prop_oneof![4 => Just(BarrierMode::Overtakes), 1 => Just(BarrierMode::Blocks)];
    let modes = prop::collection::vec(mode, 2..4);
    (modes, any::<bool>(), 1_usize..4).prop_map(|(modes, two_inputs, room)| Build {
        modes,
        two_inputs,
        room,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]
    #[test]
    fn a_restore_from_any_cut_is_the_uninterrupted_run(
        build in build(),
        steps in prop::collection::vec(step(2), 0..60),
        overtakes in prop::option::weighted(0.9, 0_u64..6),
        same_channels in any::<bool>(),
    ) {
        let barrier = overtakes.map_or(ONE.into(), |ms| after(ONE, ms));
        play(&build, &steps, barrier, same_channels)?;
    }

    #[test]
    fn any_number_of_restores_is_the_uninterrupted_run(
        build in build(),
        lives in prop::collection::vec(prop::collection::vec(step(2), 0..40), 2..5),
        overtakes in prop::option::weighted(0.9, 0_u64..6),
        same_channels in any::<bool>(),
    ) {
        live(&build, &lives, overtakes, same_channels)?;
    }
}
