//! A task that logs what it reads, and ways to feed, cut and restore it.

use hurtig_core::ids::CheckpointId;
use hurtig_core::time::{ManualClock, Time};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Barrier, Batch, Element, Event, Result};
use hurtig_dataflow::chain::*;
use hurtig_dataflow::operator::*;
use hurtig_exchange::{
    BarrierMode, ChannelKind, ChannelOptions, EdgeWriter, FlushPolicy, InFlight, Partitioner, Receiver,
    RecordCodec, SendOutcome, Sender, Signal, channel,
};
use hurtig_state::{OperatorSnapshot, Redistribution};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

pub(crate) const ONE: CheckpointId = CheckpointId(1);
pub(crate) const TWO: CheckpointId = CheckpointId(2);

/// A barrier that may overtake so many milliseconds after the clock began.
pub(crate) fn after(checkpoint: CheckpointId, ms: u64) -> Barrier {
    Barrier {
        checkpoint,
        overtakes: Some(Time::ZERO.after(Duration::from_millis(ms))),
    }
}

/// Remembers every record that it has seen, in order, which of them were late, and which were no backlog.
#[derive(Default)]
pub(crate) struct Log {
    seen: Vec<i64>,
    late: Vec<i64>,
    /// Records that came in this life while the operator was not in backlog.
    live: Arc<Mutex<Vec<i64>>>,
    /// What it was told of backlog in this life.
    told: Vec<bool>,
}

impl Log {
    pub(crate) fn see(&mut self, record: i64, time: i64, cx: Cx<'_>) {
        self.seen.push(record);
        if time <= cx.watermark() {
            self.late.push(record);
        }
        if !cx.is_backlog() {
            self.live.lock().unwrap().push(record);
        }
    }

    fn tell(&mut self, backlog: bool, cx: Cx<'_>) {
        assert_eq!(cx.is_backlog(), backlog);
        assert_ne!(self.told.last().copied().unwrap_or(false), backlog, "it turns");
        self.told.push(backlog);
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

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        _: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        self.tell(backlog, cx);
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

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        _: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        self.tell(backlog, cx);
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        Log::snapshot(self, snapshot)
    }
}

pub(crate) fn services(clock: &Arc<ManualClock>) -> Services {
    let side = SideOutputs::new(Vec::new());
    Services::new(SubtaskInfo::single("op"), clock.clone(), side)
}

pub(crate) fn ends(
    max_batches: usize,
    barriers: BarrierMode,
    producer: Signal,
    consumer: Signal,
) -> (Sender<i64>, Receiver<i64>) {
    let options = ChannelOptions::bounded(max_batches, usize::MAX);
    let (sender, receiver) = channel(ChannelKind { options, barriers }, producer, consumer);
    (sender, receiver.keeping_by(RecordCodec::new(TypeInfo::of())))
}

/// A task that logs what it reads.
pub(crate) struct Rig {
    pub(crate) core: TaskCore,
    pub(crate) inputs: Vec<Sender<i64>>,
    pub(crate) output: Receiver<i64>,
    pub(crate) clock: Arc<ManualClock>,
    /// Records that have left before the barrier of [`ONE`], and behind it.
    pub(crate) left: [Vec<i64>; 2],
    pub(crate) barrier_seen: bool,
    /// Records that the task has seen while it was not in backlog.
    pub(crate) live: Arc<Mutex<Vec<i64>>>,
    /// What the task has told its consumer of backlog.
    pub(crate) told: Vec<bool>,
}

/// How a task is built.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) modes: Vec<BarrierMode>,
    pub(crate) two_inputs: bool,
    pub(crate) room: usize,
}

impl Build {
    pub(crate) fn rig(&self) -> Rig {
        let (clock, own) = (ManualClock::new(), Signal::new());
        let ends = |mode: &BarrierMode| ends(64, *mode, Signal::new(), own.clone());
        let (inputs, mut receivers): (Vec<_>, Vec<_>) = self.modes.iter().map(ends).unzip();
        let log = Log::default();
        let live = Arc::clone(&log.live);
        let (head, nodes): (Box<dyn Head>, Vec<Box<dyn Node>>) = if self.two_inputs {
            let second = receivers.split_off(1);
            let (first, second) = (InputGate::new(receivers), InputGate::new(second));
            let head = TwoInputHead::new(log, first, second, services(&clock));
            (Box::new(head), Vec::new())
        } else {
            let node = OperatorNode::<i64, i64, _>::new(log, services(&clock));
            let head = GateHead::new(InputGate::new(receivers));
            (Box::new(head), vec![Box::new(node)])
        };
        let rig = self.task(head, nodes, inputs, (own, clock));
        Rig { live, ..rig }
    }

    pub(crate) fn task(
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
            live: Arc::default(),
            told: Vec::new(),
        }
    }

    pub(crate) fn fresh(&self) -> Rig {
        let mut rig = self.rig();
        rig.core.open(&|_| None).unwrap();
        rig
    }

    pub(crate) fn restored(&self, cut: &TaskCut, same_channels: bool) -> Rig {
        self.restored_in_backlog(cut, same_channels, &vec![false; self.modes.len()])
    }

    /// A task whose channels begin in backlog or not.
    pub(crate) fn restored_in_backlog(&self, cut: &TaskCut, same_channels: bool, backlog: &[bool]) -> Rig {
        let mut rig = self.rig();
        rig.core.begin_in_backlog(backlog);
        rig.core.open(&|at| cut.operators.get(at).cloned()).unwrap();
        if let Some(in_flight) = &cut.in_flight {
            rig.core.replay(self.replayed(in_flight, same_channels)).unwrap();
        }
        rig
    }

    pub(crate) fn replayed(&self, in_flight: &InFlight, same_channels: bool) -> InFlightRestore {
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

pub(crate) fn gate(inputs: usize, room: usize) -> Build {
    Build {
        modes: vec![BarrierMode::Overtakes; inputs],
        two_inputs: false,
        room,
    }
}

impl Rig {
    pub(crate) fn send(&self, input: usize, records: &[(i64, i64)]) {
        let mut batch = Batch::new();
        records
            .iter()
            .for_each(|&(record, time)| batch.push(record, time));
        assert!(matches!(self.inputs[input].try_send(batch, 8), SendOutcome::Sent));
    }

    pub(crate) fn event(&self, input: usize, event: Event) {
        self.inputs[input].send_event(event);
    }

    pub(crate) fn round(&mut self) -> Round {
        let mut task = Context::from_waker(Waker::noop());
        self.core.round(&mut task, Duration::ZERO).unwrap()
    }

    /// Rounds until the task rests.
    pub(crate) fn settle(&mut self) -> Round {
        for _ in 0..10_000 {
            match self.round() {
                Round::Busy => {}
                round => return round,
            }
        }
        panic!("the task never rests");
    }

    /// Reads at most `n` elements of the output.
    pub(crate) fn drain(&mut self, n: usize) {
        for _ in 0..n {
            if let Some(announced) = self.output.take_announcement() {
                // What is queued came before the barrier.
                let mut captured = Vec::new();
                self.output.capture(0, announced.boundary, &mut captured).unwrap();
                self.barrier_seen = true;
                for one in captured {
                    if let hurtig_exchange::Captured::Batch(kept) = one {
                        let mut batch = kept
                            .decode(&TypeInfo::<i64>::of(), None::<fn(u64) -> bool>)
                            .unwrap();
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
                Some(Element::Event(Event::Backlog(backlog))) => self.told.push(backlog),
                Some(_) => {}
                None => return,
            }
        }
    }

    pub(crate) fn finish(&mut self) {
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

pub(crate) fn logged(cut: &TaskCut, what: &str) -> Vec<i64> {
    cut.operators
        .iter()
        .flat_map(|one| one.operator::<i64>(what).unwrap())
        .collect()
}
