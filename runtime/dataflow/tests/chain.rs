//! The chain, turned by hand: order, waiting, side outputs, back pressure, ends and failures.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::element::WatermarkStatus;
use hurtig_core::time::{Clock, ManualClock};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Element, Error, Event, Result};
use hurtig_dataflow::chain::*;
use hurtig_dataflow::operator::*;
use hurtig_exchange::{
    ChannelOptions, EdgeWriter, FlushPolicy, Partitioner, Receiver, Sender, Signal, channel,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const WIDE: ChannelOptions = ChannelOptions::bounded(1_000, usize::MAX);
const NARROW: ChannelOptions = ChannelOptions::bounded(1, usize::MAX);

/// What the operator under test does; one for all tests, so that nodes can be put in any order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Add(i64),
    /// One record a call.
    Slowly,
    /// Each record twice into the side output as well.
    Aside,
    /// Waits on each watermark for a future, which opens the gate.
    WaitsOnWatermark,
    HoldsWatermark,
    Schedules,
    Nothing,
    Panics,
    Fails,
}

struct Op {
    does: Does,
    closed: Arc<AtomicU32>,
    opened: Arc<Mutex<bool>>,
    spawned: bool,
    delivered: bool,
}

fn tag() -> OutputTag<i64> {
    OutputTag::new("side")
}

impl Operator<i64, i64> for Op {
    fn process(
        &mut self,
        input: &mut Batch<i64>,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        match self.does {
            Does::Nothing => return Ok(Progress::More),
            Does::Panics => panic!("planted"),
            Does::Fails => return Err(Error::user("planted")),
            _ => {}
        }
        while !input.is_empty() {
            if out.full() || cx.side_full() || !b.spend() {
                return Ok(Progress::More);
            }
            let (n, time) = input.pop_front().unwrap();
            match self.does {
                Does::Add(more) => out.push_at(n + more, time),
                Does::Aside => {
                    cx.side_output(&tag(), n, time);
                    cx.side_output(&tag(), -n, time);
                    out.push_at(n, time);
                }
                _ => out.push_at(n, time),
            }
            if self.does == Does::Schedules {
                cx.schedule(n);
            }
            if self.does == Does::Slowly && !input.is_empty() {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        match self.does {
            Does::WaitsOnWatermark if !self.delivered => {
                if !self.spawned {
                    self.spawned = true;
                    let opened = self.opened.clone();
                    cx.spawn(Box::pin(std::future::poll_fn(move |_| {
                        if *opened.lock().unwrap() {
                            Poll::Ready(Box::new(()) as Box<_>)
                        } else {
                            Poll::Pending
                        }
                    })));
                }
                return Ok(Progress::Wait);
            }
            Does::HoldsWatermark => {
                cx.hold_watermark();
                out.watermark(wm - 100);
            }
            _ => {}
        }
        Ok(Progress::Done)
    }

    fn on_completion(
        &mut self,
        _: &mut Completion,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        self.delivered = true;
        out.push_at(-1, 0);
        Ok(Progress::Done)
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        out.push_at(-now, now);
        Ok(Progress::Done)
    }

    fn end_input(&mut self, _: Cx<'_>, out: &mut Collector<i64>, _: &mut Budget) -> Result<Progress> {
        out.push_at(1_000_000, 0);
        Ok(Progress::Done)
    }

    fn close(&mut self) -> Result<()> {
        self.closed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Record(i64),
    Event(Event),
}
use Seen::{Event as E, Record as R};

fn wm(time: i64) -> Seen {
    E(Event::Watermark(time))
}

const END: Seen = E(Event::EndOfInput);
const LAST: Seen = R(1_000_000);

struct Rig {
    core: TaskCore,
    inputs: Vec<Sender<i64>>,
    main: Vec<Receiver<i64>>,
    side: Receiver<i64>,
    clock: Arc<ManualClock>,
    closed: Arc<AtomicU32>,
    opened: Arc<Mutex<bool>>,
}

fn edge(options: ChannelOptions, batch: usize) -> (EdgeWriter<i64>, Receiver<i64>) {
    let (sender, receiver) = channel(options, Signal::new(), Signal::new());
    let policy = FlushPolicy {
        batch_size: batch,
        ..FlushPolicy::default()
    };
    (
        EdgeWriter::new(vec![sender], Partitioner::Forward, TypeInfo::of(), policy),
        receiver,
    )
}

struct Plan {
    does: Vec<Does>,
    inputs: usize,
    main: Vec<ChannelOptions>,
    side: ChannelOptions,
    batch: usize,
}

fn plan(does: &[Does]) -> Plan {
    Plan {
        does: does.to_vec(),
        inputs: 1,
        main: vec![WIDE],
        side: WIDE,
        batch: 4,
    }
}

impl Plan {
    fn build(self) -> Rig {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(1));
        let (closed, opened) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(false)));
        let ends = (0..self.inputs).map(|_| channel(WIDE, Signal::new(), Signal::new()));
        let (inputs, receivers): (Vec<_>, Vec<_>) = ends.unzip();
        let (edges, main): (Vec<_>, Vec<_>) = self.main.iter().map(|o| edge(*o, self.batch)).unzip();
        let (side_edge, side) = edge(self.side, self.batch);
        let mut side_edge = Some(side_edge);
        let mut links: Vec<Box<dyn AnyLink>> = vec![Box::new(Link::<i64>::new(self.batch))];
        let mut nodes: Vec<Box<dyn Node>> = Vec::new();
        for &does in &self.does {
            let port = if does == Does::Aside {
                side_edge.take()
            } else {
                None
            };
            let sinks =
                port.map(|edge| Box::new(SidePort::new("side".into(), vec![edge])) as Box<dyn SideSink>);
            let side = SideOutputs::new(sinks.into_iter().collect());
            let op = Op {
                does,
                closed: closed.clone(),
                opened: opened.clone(),
                spawned: false,
                delivered: false,
            };
            nodes.push(Box::new(OperatorNode::new(
                op,
                Services::new(SubtaskInfo::single("op"), clock.clone(), side),
            )));
            links.push(Box::new(Link::<i64>::new(self.batch)));
        }
        let parts = TaskParts {
            head: Box::new(GateHead::new(InputGate::new(receivers))),
            nodes,
            links,
            outlet: Box::new(Tail::new(edges)),
            signal: Signal::new(),
            buffer_timeout: Some(Duration::from_millis(10)),
        };
        let mut core = TaskCore::new(parts, clock.clone());
        core.open(&|_| None).unwrap();
        Rig {
            core,
            inputs,
            main,
            side,
            clock,
            closed,
            opened,
        }
    }
}

impl Rig {
    fn send(&self, input: usize, records: &[i64]) {
        self.inputs[input].try_send(Batch::from_records(records.to_vec()), 8 * records.len());
    }

    fn event(&self, input: usize, event: Event) {
        self.inputs[input].send_event(event);
    }

    fn round(&mut self) -> Result<Round> {
        let mut task = Context::from_waker(Waker::noop());
        self.core.round(&mut task, Duration::from_millis(1))
    }

    fn closed(&self) -> u32 {
        self.closed.load(Ordering::SeqCst)
    }
}

fn one(receiver: &Receiver<i64>) -> Option<Vec<Seen>> {
    Some(match receiver.try_recv()? {
        Element::Batch(mut batch) => batch.records().iter().map(|&n| R(n)).collect(),
        Element::Event(event) => vec![E(event)],
    })
}

fn all(receiver: &Receiver<i64>) -> Vec<Seen> {
    std::iter::from_fn(|| one(receiver)).flatten().collect()
}

#[test]
fn records_and_events_pass_several_nodes_in_order_and_everything_is_closed_once() {
    let mut rig = plan(&[Does::Slowly, Does::Add(10), Does::Slowly, Does::Add(100)]).build();
    rig.send(0, &[1, 2, 3, 4, 5, 6, 7]);
    rig.event(0, Event::Watermark(5));
    rig.send(0, &[8]);
    rig.event(0, Event::EndOfInput);
    assert_eq!(rig.round().unwrap(), Round::Finished);
    assert_eq!(rig.closed(), 4);
    let records = |from: i64, to: i64| (from..=to).map(|n| R(n + 110));
    let mut expected: Vec<_> = records(1, 7).chain([wm(5)]).chain(records(8, 8)).collect();
    // Each operator's own last record, by what comes behind it.
    expected.extend([R(1_000_110), R(1_000_110), R(1_000_100), R(1_000_100)]);
    let seen: Vec<_> = all(&rig.main[0]);
    let without_end: Vec<_> = seen.iter().filter(|s| **s != wm(i64::MAX)).cloned().collect();
    expected.truncate(9);
    assert_eq!(without_end[..9], expected);
    assert_eq!(seen.last(), Some(&END));
    assert_eq!(
        seen.iter()
            .filter(|s| matches!(s, R(n) if *n >= 1_000_000))
            .count(),
        4
    );
}

#[test]
fn a_call_that_waits_goes_on_after_its_completion() {
    let mut rig = plan(&[Does::WaitsOnWatermark]).build();
    rig.send(0, &[1]);
    rig.event(0, Event::Watermark(5));
    rig.send(0, &[2]);
    assert_eq!(rig.round().unwrap(), Round::Idle(None));
    assert_eq!(all(&rig.main[0]), [R(1)]);
    *rig.opened.lock().unwrap() = true;
    rig.clock.advance(Duration::from_millis(1));
    rig.round().unwrap();
    rig.clock.advance(Duration::from_millis(1));
    rig.round().unwrap();
    assert_eq!(all(&rig.main[0]), [R(-1), wm(5), R(2)]);
}

#[test]
fn a_held_watermark_is_replaced_by_the_operators_own() {
    let mut rig = plan(&[Does::HoldsWatermark]).build();
    rig.event(0, Event::Watermark(500));
    rig.event(0, Event::Watermark(600));
    rig.round().unwrap();
    assert_eq!(all(&rig.main[0]), [wm(500)]);
}

#[test]
fn processing_time_is_due_when_it_was_asked_for() {
    let mut rig = plan(&[Does::Schedules]).build();
    rig.send(0, &[1_007]);
    let at = rig.clock.now().after(Duration::from_millis(7));
    assert_eq!(rig.round().unwrap(), Round::Idle(Some(at)));
    assert_eq!(all(&rig.main[0]), [R(1_007)]);
    rig.clock.advance(Duration::from_millis(7));
    assert_eq!(rig.round().unwrap(), Round::Idle(None));
    assert_eq!(all(&rig.main[0]), [R(-1_007)]);
}

#[test]
fn a_timer_that_is_overdue_behind_a_full_output_wakes_nobody() {
    let narrow = Plan {
        main: vec![NARROW],
        ..plan(&[Does::Schedules])
    };
    let mut rig = narrow.build();
    for _ in 0..6 {
        rig.send(0, &[1_007; 4]);
    }
    assert!(matches!(rig.round().unwrap(), Round::BackPressured(Some(_))));
    rig.clock.advance(Duration::from_millis(50));
    assert_eq!(rig.round().unwrap(), Round::BackPressured(None));
    let mut seen = all(&rig.main[0]);
    while !matches!(rig.round().unwrap(), Round::Idle(_)) {
        seen.extend(all(&rig.main[0]));
    }
    seen.extend(all(&rig.main[0]));
    assert!(seen.contains(&R(-1_050)), "it is due when there is room");
}

/// Takes one element at a time from `slow` and everything from the others until the task is over.
fn drain_slowly(rig: &mut Rig) -> (Vec<Vec<Seen>>, Vec<Seen>, usize) {
    let (mut main, mut side, mut pressed) = (vec![Vec::new(); rig.main.len()], Vec::new(), 0);
    for _ in 0..10_000 {
        let round = rig.round().unwrap();
        pressed += usize::from(matches!(round, Round::BackPressured(_)));
        for (seen, receiver) in main.iter_mut().zip(&rig.main) {
            seen.extend(one(receiver).into_iter().flatten());
        }
        side.extend(one(&rig.side).into_iter().flatten());
        if round == Round::Finished {
            main.iter_mut()
                .zip(&rig.main)
                .for_each(|(seen, receiver)| seen.extend(all(receiver)));
            side.extend(all(&rig.side));
            return (main, side, pressed);
        }
    }
    panic!("the task does not end");
}

#[test]
fn full_outputs_hold_the_task_up_and_lose_nothing() {
    for (main, side) in [(NARROW, WIDE), (WIDE, NARROW), (NARROW, NARROW)] {
        let mut rig = Plan {
            main: vec![main, NARROW],
            side,
            ..plan(&[Does::Slowly, Does::Aside])
        }
        .build();
        for part in 0..5 {
            let records: Vec<_> = (part * 20 + 1..=part * 20 + 20).collect();
            rig.send(0, &records);
            if part < 4 {
                rig.event(0, Event::Watermark(part));
            }
        }
        rig.event(0, Event::EndOfInput);
        let (mains, side, pressed) = drain_slowly(&mut rig);
        assert!(pressed > 3, "{pressed} times");
        assert_eq!(rig.closed(), 2);
        let mut expected: Vec<Seen> = Vec::new();
        let mut aside: Vec<Seen> = Vec::new();
        for n in 1..=100 {
            expected.push(R(n));
            aside.extend([R(n), R(-n)]);
            if n % 20 == 0 && n < 100 {
                expected.push(wm(n / 20 - 1));
                aside.push(wm(n / 20 - 1));
            }
        }
        // The last record of the first node passes through the second, whose own is not put aside.
        expected.extend([LAST, LAST, END]);
        aside.extend([LAST, R(-1_000_000), END]);
        let strip =
            |seen: &[Seen]| -> Vec<Seen> { seen.iter().filter(|s| **s != wm(i64::MAX)).cloned().collect() };
        mains.iter().for_each(|seen| assert_eq!(strip(seen), expected));
        assert_eq!(strip(&side), aside);
    }
}

#[test]
fn failures_poison_the_chain_and_name_the_node() {
    for does in [Does::Panics, Does::Fails, Does::Nothing] {
        let mut rig = plan(&[Does::Add(1), does, Does::Add(1)]).build();
        rig.send(0, &[1]);
        let error = rig.round().unwrap_err();
        if does != Does::Nothing {
            assert!(error.chain().contains("planted"), "{}", error.chain());
        }
        assert_eq!(rig.core.failed_at(), Some(2));
        assert!(rig.round().is_err() && rig.core.trigger(hurtig_core::ids::CheckpointId(1)).is_err());
        assert_eq!((rig.core.failed_at(), rig.closed()), (Some(2), 0));
    }
}

#[test]
fn going_idle_hands_over_at_most_once_in_the_pause() {
    let mut rig = plan(&[Does::Add(0)]).build();
    rig.send(0, &[1]);
    assert_eq!(rig.round().unwrap(), Round::Idle(None));
    assert_eq!(all(&rig.main[0]), [R(1)]);
    let again = rig.clock.now().after(Duration::from_micros(500));
    rig.clock.advance(Duration::from_micros(100));
    rig.send(0, &[2]);
    assert_eq!(rig.round().unwrap(), Round::Idle(Some(again)));
    assert_eq!(all(&rig.main[0]), []);
    rig.clock.advance(Duration::from_micros(400));
    assert_eq!(rig.round().unwrap(), Round::Idle(None));
    assert_eq!(all(&rig.main[0]), [R(2)]);
}

#[test]
fn channels_of_a_union_have_turns_and_the_watermark_is_the_least() {
    let mut rig = Plan {
        inputs: 16,
        batch: 1_024,
        ..plan(&[Does::Add(0)])
    }
    .build();
    for input in 0..16 {
        (0..20).for_each(|_| rig.send(input, &[input as i64]));
    }
    rig.round().unwrap();
    let mut counts = [0_i64; 16];
    for seen in all(&rig.main[0]) {
        let R(input) = seen else { continue };
        counts[input as usize] += 1;
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 1, "{counts:?}");
    }
    for input in 1..16 {
        rig.event(input, Event::Watermark(100 + input as i64));
    }
    rig.round().unwrap();
    assert_eq!(all(&rig.main[0]), []);
    rig.event(0, Event::Watermark(7));
    rig.round().unwrap();
    assert_eq!(all(&rig.main[0]), [wm(7)]);
    rig.event(0, Event::Status(WatermarkStatus::Idle));
    rig.round().unwrap();
    assert_eq!(all(&rig.main[0]), [wm(101)]);
}

/// A task under load, with its input never empty: records leave when they have waited for the buffer
/// timeout, and not before.
#[test]
fn under_load_records_wait_for_the_buffer_timeout_and_no_longer() {
    let mut rig = Plan {
        batch: 1_000,
        ..plan(&[Does::Slowly])
    }
    .build();
    let timeout = Duration::from_millis(10);
    let mut sent: Vec<(i64, hurtig_core::time::Time)> = Vec::new();
    let mut left: Vec<Duration> = Vec::new();
    rig.send(0, &[0, 1]);
    for n in 2..400 {
        // One record a millisecond comes in; the quantum is over at once, so the task is never idle.
        rig.send(0, &[n]);
        sent.push((n - 2, rig.clock.now()));
        let mut task = Context::from_waker(Waker::noop());
        assert_eq!(rig.core.round(&mut task, Duration::ZERO).unwrap(), Round::Busy);
        for seen in all(&rig.main[0]) {
            let R(n) = seen else { panic!("no events: {seen:?}") };
            let came = sent.iter().find(|(sent, _)| *sent == n).unwrap().1;
            left.push(rig.clock.now().since(came));
        }
        rig.clock.advance(Duration::from_millis(1));
    }
    assert!(left.len() > 300, "{} records left under load", left.len());
    let longest = left.iter().max().unwrap();
    // Looked at every quarter of the timeout, and a record may need a few rounds to pass the chain.
    assert!(
        *longest <= timeout * 5 / 4 + Duration::from_millis(4),
        "{longest:?}"
    );
    assert!(
        *longest >= timeout,
        "records are not sent on one by one: {longest:?}"
    );
}
