//! The life of operators in a chain, and how long their output waits for its buffer to fill.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hurtig_core::element::WatermarkStatus;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::{Clock, ManualClock};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Element, Event, Result};
use hurtig_dataflow::chain::{
    GateHead, InputGate, Link, Node, OperatorNode, Round, Tail, TaskCore, TaskParts,
};
use hurtig_dataflow::operator::{
    Budget, Collector, Cx, OpenContext, Operator, Progress, Services, SideOutputs, SubtaskInfo,
};
use hurtig_dataflow::operators::{AssignWatermarks, Watermarks};
use hurtig_dataflow::testing::Harness;
use hurtig_exchange::{
    ChannelOptions, EdgeWriter, FlushPolicy, Partitioner, Receiver, Sender, Signal, channel,
};
use hurtig_state::OperatorSnapshot;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

const WIDE: ChannelOptions = ChannelOptions::bounded(1_000, 1 << 30);

type Diary = Arc<Mutex<Vec<String>>>;

/// Passes records on, writes its calls down, and lets time go by.
struct Diarist {
    name: &'static str,
    diary: Diary,
    clock: Arc<ManualClock>,
    each: Duration,
}

impl Diarist {
    fn note(&self, what: &str) {
        self.diary.lock().unwrap().push(format!("{} {what}", self.name));
    }
}

impl Operator<i64, i64> for Diarist {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let from = ctx.restored().map_or("scratch", |_| "snapshot");
        self.note(&format!("open from {from}"));
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<i64>,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        while let Some((n, _)) = input.pop_front() {
            b.spend();
            self.clock.advance(self.each);
            self.note(&format!("record {n}"));
            out.push(n);
        }
        Ok(Progress::Done)
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        _: Cx<'_>,
        _: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        self.note(&format!("watermark {wm}"));
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _: &mut OperatorSnapshot) -> Result<()> {
        self.note("snapshot");
        Ok(())
    }

    fn end_input(&mut self, _: Cx<'_>, _: &mut Collector<i64>, _: &mut Budget) -> Result<Progress> {
        self.note("end");
        Ok(Progress::Done)
    }

    fn close(&mut self) -> Result<()> {
        self.note("close");
        Ok(())
    }
}

struct Rig {
    core: TaskCore,
    input: Sender<i64>,
    output: Receiver<i64>,
    clock: Arc<ManualClock>,
    diary: Diary,
}

/// Two diarists, of which the second takes `each` for a record, and a buffer with that timeout.
fn rig(each: Duration, timeout: Option<Duration>) -> Rig {
    let clock = ManualClock::new();
    let diary = Diary::default();
    let node = |name, each| {
        let operator = Diarist {
            name,
            diary: diary.clone(),
            clock: clock.clone(),
            each,
        };
        node(name, operator, &clock)
    };
    let nodes = vec![node("first", Duration::ZERO), node("second", each)];
    build(nodes, timeout, (clock, diary.clone()))
}

fn node(name: &str, operator: impl Operator<i64, i64> + 'static, clock: &Arc<ManualClock>) -> Box<dyn Node> {
    let services = Services::new(SubtaskInfo::single(name), clock.clone(), SideOutputs::default());
    Box::new(OperatorNode::new(operator, services))
}

fn build(nodes: Vec<Box<dyn Node>>, timeout: Option<Duration>, shared: (Arc<ManualClock>, Diary)) -> Rig {
    let (clock, diary) = shared;
    clock.advance(Duration::from_secs(1));
    let (input, receiver) = channel(WIDE, Signal::new(), Signal::new());
    let (sender, output) = channel(WIDE, Signal::new(), Signal::new());
    let policy = FlushPolicy {
        batch_size: 1_000,
        timeout,
        ..FlushPolicy::default()
    };
    let edge = EdgeWriter::new(vec![sender], Partitioner::Forward, TypeInfo::of(), policy);
    let links = (0..=nodes.len()).map(|_| Box::new(Link::<i64>::new(16)) as _);
    let parts = TaskParts {
        head: Box::new(GateHead::new(InputGate::new(vec![receiver]))),
        links: links.collect(),
        nodes,
        outlet: Box::new(Tail::new(vec![edge])),
        signal: Signal::new(),
        buffer_timeout: timeout,
    };
    Rig {
        core: TaskCore::new(parts, clock.clone()),
        input,
        output,
        clock,
        diary,
    }
}

impl Rig {
    fn round(&mut self) -> Round {
        let mut task = Context::from_waker(Waker::noop());
        self.core.round(&mut task, Duration::from_nanos(1)).unwrap()
    }

    fn send(&self, n: i64) {
        self.input.try_send(Batch::from_records(vec![n]), 8);
    }

    fn received(&self) -> usize {
        std::iter::from_fn(|| self.output.try_recv()).count()
    }
}

#[test]
fn operators_open_from_the_tail_and_end_and_close_from_the_head() {
    let mut rig = rig(Duration::ZERO, None);
    rig.core
        .open(&|place| (place == 1).then(OperatorSnapshot::default))
        .unwrap();
    rig.send(1);
    rig.input.send_event(Event::Watermark(7));
    rig.input.send_event(Event::Barrier(CheckpointId(1).into()));
    while !matches!(rig.round(), Round::Idle(_)) {}
    assert!(rig.core.take_cut().is_some());
    rig.send(2);
    rig.input.send_event(Event::EndOfInput);
    while rig.round() != Round::Finished {}
    let lines = rig.diary.lock().unwrap().clone();
    let of = |name: &str| -> Vec<String> {
        let own = lines.iter().filter_map(|line| line.strip_prefix(name));
        own.map(str::to_owned).collect()
    };
    assert_eq!(
        of("first "),
        [
            "open from snapshot",
            "record 1",
            "watermark 7",
            "snapshot",
            "record 2",
            "watermark 9223372036854775807",
            "end",
            "close"
        ]
    );
    assert_eq!(of("second ")[0], "open from scratch");
    assert_eq!(of("second ")[1..], of("first ")[1..]);
    let at = |line: &str| lines.iter().position(|l| l == line).unwrap();
    assert!(at("second open from scratch") < at("first open from snapshot"));
    assert!(at("first end") < at("second end"));
    assert!(at("second end") < at("first close"));
    assert!(at("first close") < at("second close"));
}

/// Records of a task that is never idle, each 3 ms after the other: when do they leave?
fn first_leaves_after(timeout: Option<Duration>) -> Option<Duration> {
    const EACH: Duration = Duration::from_millis(3);
    let mut rig = rig(EACH, timeout);
    rig.core.open(&|_| None).unwrap();
    for n in 0..40 {
        rig.send(n);
    }
    let started = rig.clock.now();
    let mut left = None;
    loop {
        let round = rig.round();
        let waited = rig.clock.now().since(started).saturating_sub(EACH);
        if !matches!(round, Round::Busy) {
            assert!(
                left.is_some() || rig.received() > 0,
                "a task that goes idle keeps nothing"
            );
            return left;
        }
        if rig.received() > 0 && left.is_none() {
            left = Some(waited);
        }
    }
}

#[test]
fn the_buffer_timeout_bounds_the_wait_under_load() {
    assert_eq!(first_leaves_after(None), None, "-1: full buffers only");
    let at_once = first_leaves_after(Some(Duration::ZERO)).unwrap();
    assert!(
        at_once <= Duration::from_millis(3),
        "0: each record, not after {at_once:?}"
    );
    let timeout = Duration::from_millis(10);
    let waited = first_leaves_after(Some(timeout)).unwrap();
    // Buffers are looked at four times in a timeout, between records.
    let bound = timeout + timeout / 4 + Duration::from_millis(3);
    assert!(timeout <= waited && waited <= bound, "after {waited:?}");
}

/// What reaches the consumer now: `n` for a record, `wm n`, `Idle`, `Active`, `end`.
fn said(rig: &mut Rig) -> Vec<String> {
    while matches!(rig.round(), Round::Busy) {}
    // An idle flush may wait for its pause.
    rig.clock.advance(Duration::from_millis(1));
    while matches!(rig.round(), Round::Busy) {}
    let mut said = Vec::new();
    while let Some(element) = rig.output.try_recv() {
        match element {
            Element::Batch(mut batch) => said.extend(batch.records().iter().map(ToString::to_string)),
            Element::Event(Event::Watermark(wm)) => said.push(format!("wm {wm}")),
            Element::Event(Event::Status(status)) => said.push(format!("{status:?}")),
            Element::Event(Event::EndOfInput) => said.push("end".to_owned()),
            Element::Event(event @ (Event::Barrier(_) | Event::Backlog(_))) => {
                panic!("nobody sent {event:?}")
            }
        }
    }
    said
}

#[test]
fn idleness_in_mid_stream_is_that_of_the_strategy() {
    let strategy = Watermarks::monotonous(|n: &i64| *n).with_idleness(Duration::from_millis(100));
    let clock = ManualClock::new();
    let assign = node("assign", AssignWatermarks::new(strategy, Duration::ZERO), &clock);
    let passes = Diarist {
        name: "next",
        diary: Diary::default(),
        clock: clock.clone(),
        each: Duration::ZERO,
    };
    let next = node("next", passes, &clock);
    let mut rig = build(vec![assign, next], None, (clock, Diary::default()));
    rig.core.open(&|_| None).unwrap();
    rig.send(10);
    assert_eq!(said(&mut rig), ["10", "wm 9"]);
    rig.input.send_event(Event::Status(WatermarkStatus::Idle));
    assert!(said(&mut rig).is_empty(), "what comes from above ends here");
    rig.clock.advance(Duration::from_millis(100));
    assert_eq!(said(&mut rig), ["Idle"]);
    rig.input.send_event(Event::Status(WatermarkStatus::Active));
    assert!(said(&mut rig).is_empty());
    rig.send(20);
    assert_eq!(
        said(&mut rig),
        ["20", "Active", "wm 19"],
        "a watermark of an idle input is ignored"
    );
    rig.clock.advance(Duration::from_millis(101));
    assert_eq!(said(&mut rig), ["Idle"]);
    rig.input.send_event(Event::EndOfInput);
    assert_eq!(said(&mut rig), ["Active", "wm 9223372036854775807", "end"]);
}

#[test]
fn idleness_passes_operators_that_do_not_decide_about_it() {
    let mut rig = rig(Duration::ZERO, None);
    rig.core.open(&|_| None).unwrap();
    rig.input.send_event(Event::Status(WatermarkStatus::Idle));
    assert_eq!(said(&mut rig), ["Idle"]);
    rig.input.send_event(Event::Status(WatermarkStatus::Active));
    assert_eq!(said(&mut rig), ["Active"]);
}

#[test]
fn a_consumer_that_holds_up_the_operator_does_not_make_it_idle() {
    let strategy = || Watermarks::monotonous(|n: &i64| *n).with_idleness(Duration::from_millis(100));
    let mut harness = Harness::new(move || AssignWatermarks::new(strategy(), Duration::ZERO)).unwrap();
    harness.push(10, 0).unwrap();
    // The call that was due after 100 ms comes after 5 s.
    harness.processing_time(5_000).unwrap();
    assert!(!harness.is_idle(), "held up");
    harness.processing_time(5_100).unwrap();
    assert!(harness.is_idle());
    harness.push(11, 0).unwrap();
    assert!(!harness.is_idle());
}
