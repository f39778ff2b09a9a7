//! Backlog in a chain: who is told, when, and what goes before the news.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hurtig_core::element::WatermarkStatus;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::{MAX_WATERMARK, ManualClock};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Element, Event, Result, UserError};
use hurtig_dataflow::broadcast::KeyedBroadcastCx;
use hurtig_dataflow::chain::{
    AnyLink, GateHead, Head, InputGate, Link, Node, OperatorNode, Round, SourceHead, Tail, TaskCore,
    TaskParts,
};
use hurtig_dataflow::function::{Emitter, KeyedCx, KeyedProcessFunction, ProcessCx, ProcessFunction};
use hurtig_dataflow::operator::{
    Budget, Collector, Cx, Operator, OutputTag, Progress, Services, SideOutputs, SubtaskInfo,
};
use hurtig_dataflow::operators::Watermarks;
use hurtig_dataflow::source::{SourceReader, SourceStatus};
use hurtig_dataflow::testing::{Script, Torture, for_keyed_process_function, for_process_function};
use hurtig_exchange::{
    ChannelOptions, EdgeWriter, FlushPolicy, Partitioner, Receiver, SendOutcome, Sender, Signal, channel,
};
use hurtig_state::{OperatorSnapshot, Redistribution, ValueState};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const WIDE: ChannelOptions = ChannelOptions::bounded(1_000, 1 << 30);

/// A record, with whether it was taken for backlog.
type Seen = Arc<Mutex<Vec<(i64, bool)>>>;

/// Keeps records back while they are backlog, and gives out two a call when it is over.
#[derive(Default)]
struct Holds {
    held: Vec<i64>,
    seen: Seen,
}

impl Operator<i64, i64> for Holds {
    fn open(&mut self, ctx: &mut hurtig_dataflow::operator::OpenContext<'_>) -> Result<()> {
        if let Some(restored) = ctx.restored() {
            self.held = restored.operator("held")?;
        }
        Ok(())
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
            self.seen.lock().unwrap().push((n, cx.is_backlog()));
            if cx.is_backlog() {
                self.held.push(n);
            } else {
                out.push_at(n, time);
            }
        }
        Ok(Progress::Done)
    }

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        assert_eq!(cx.is_backlog(), backlog);
        for _ in 0..2 {
            if backlog || self.held.is_empty() {
                return Ok(Progress::Done);
            }
            if out.full() || !b.spend() {
                return Ok(Progress::More);
            }
            out.push_at(self.held.remove(0), 0);
        }
        Ok(Progress::More)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("held", Redistribution::Split, &self.held)
    }
}

struct Rig {
    core: TaskCore,
    inputs: Vec<Sender<i64>>,
    output: Receiver<i64>,
    seen: Seen,
}

fn task(head: Box<dyn Head>, inputs: Vec<Sender<i64>>, clock: &Arc<ManualClock>) -> Rig {
    let (sender, output) = channel(WIDE, Signal::new(), Signal::new());
    let policy = FlushPolicy {
        batch_size: 1_000,
        ..FlushPolicy::default()
    };
    let edge = EdgeWriter::new(vec![sender], Partitioner::Forward, TypeInfo::of(), policy);
    let services = |name| Services::new(SubtaskInfo::single(name), clock.clone(), SideOutputs::default());
    let holds = Holds::default();
    let seen = Arc::clone(&holds.seen);
    let nodes: Vec<Box<dyn Node>> = vec![Box::new(OperatorNode::new(holds, services("holds")))];
    let parts = TaskParts {
        head,
        links: (0..=nodes.len())
            .map(|_| Box::new(Link::<i64>::new(16)) as Box<dyn AnyLink>)
            .collect(),
        nodes,
        outlet: Box::new(Tail::new(vec![edge])),
        signal: Signal::new(),
        buffer_timeout: None,
    };
    let mut core = TaskCore::new(parts, clock.clone());
    core.open(&|_| None).unwrap();
    Rig {
        core,
        inputs,
        output,
        seen,
    }
}

fn gate(inputs: usize) -> Rig {
    let ends = (0..inputs).map(|_| channel(WIDE, Signal::new(), Signal::new()));
    let (inputs, receivers): (Vec<_>, Vec<_>) = ends.unzip();
    task(
        Box::new(GateHead::new(InputGate::new(receivers))),
        inputs,
        &ManualClock::new(),
    )
}

impl Rig {
    fn send(&self, input: usize, record: i64) {
        let mut batch = Batch::new();
        batch.push(record, record);
        assert!(matches!(self.inputs[input].try_send(batch, 8), SendOutcome::Sent));
    }

    fn settle(&mut self) -> Round {
        let mut task = Context::from_waker(Waker::noop());
        for _ in 0..10_000 {
            match self.core.round(&mut task, Duration::ZERO).unwrap() {
                Round::Busy => {}
                round => return round,
            }
        }
        panic!("the task never rests");
    }

    /// What has left, as text.
    fn out(&self) -> String {
        let mut out = Vec::new();
        while let Some(element) = self.output.try_recv() {
            match element {
                Element::Batch(mut batch) => out.extend(batch.records().iter().map(ToString::to_string)),
                Element::Event(Event::Backlog(backlog)) => {
                    out.push(if backlog { "[" } else { "]" }.to_owned());
                }
                Element::Event(Event::Watermark(MAX_WATERMARK)) => out.push("max".to_owned()),
                Element::Event(Event::Watermark(wm)) => out.push(format!("w{wm}")),
                Element::Event(Event::Barrier(_)) => out.push("|".to_owned()),
                Element::Event(Event::EndOfInput) => out.push("end".to_owned()),
                Element::Event(Event::Status(_)) => {}
            }
        }
        out.join(" ")
    }
}

#[test]
fn what_an_operator_has_kept_back_goes_before_the_end_of_backlog() {
    let mut rig = gate(1);
    rig.send(0, 1);
    rig.inputs[0].send_event(Event::Backlog(true));
    (2..=6).for_each(|n| rig.send(0, n));
    rig.inputs[0].send_event(Event::Watermark(6));
    rig.inputs[0].send_event(Event::Backlog(false));
    rig.send(0, 7);
    rig.settle();
    assert_eq!(rig.out(), "1 [ w6 2 3 4 5 6 ] 7");
}

#[test]
fn the_end_of_input_ends_backlog_before_event_time_ends() {
    let mut rig = gate(2);
    rig.inputs[0].send_event(Event::Backlog(true));
    rig.send(0, 1);
    rig.inputs[1].send_event(Event::EndOfInput);
    rig.settle();
    assert_eq!(rig.out(), "[");
    rig.inputs[0].send_event(Event::EndOfInput);
    assert_eq!(rig.settle(), Round::Finished);
    assert_eq!(rig.out(), "1 ] max end");
}

#[test]
fn a_channel_whose_event_time_has_ended_may_be_in_backlog_still() {
    let mut rig = gate(1);
    rig.inputs[0].send_event(Event::Backlog(true));
    rig.inputs[0].send_event(Event::Watermark(MAX_WATERMARK));
    rig.send(0, 1);
    rig.settle();
    assert_eq!(rig.out(), "[ max");
    rig.inputs[0].send_event(Event::EndOfInput);
    rig.settle();
    assert_eq!(rig.out(), "1 ] end");
}

/// What happens to a task, one thing at a time.
#[derive(Clone, Copy, Debug)]
enum Step {
    Record(usize),
    Backlog(usize, bool),
    Status(usize, bool),
    Watermark(usize),
    End(usize),
}

const INPUTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let input = 0..INPUTS;
    prop_oneof![
        8 => input.clone().prop_map(Step::Record),
        4 => (input.clone(), any::<bool>()).prop_map(|(input, backlog)| Step::Backlog(input, backlog)),
        2 => (input.clone(), any::<bool>()).prop_map(|(input, idle)| Step::Status(input, idle)),
        1 => input.clone().prop_map(Step::Watermark),
        1 => input.prop_map(Step::End),
    ]
}

/// Each record was taken for backlog if any channel that had not ended was in it.
fn play(steps: &[Step], begin: [bool; INPUTS]) -> Result<(), TestCaseError> {
    let mut rig = gate(INPUTS);
    rig.core.begin_in_backlog(&begin);
    rig.settle();
    let (mut backlog, mut ended, mut want) = (begin, [false; INPUTS], Vec::new());
    let mut out = rig.out();
    for (n, step) in (0..).zip(steps) {
        let (Step::Record(input)
        | Step::Backlog(input, _)
        | Step::Status(input, _)
        | Step::Watermark(input)
        | Step::End(input)) = *step;
        if ended[input] {
            continue;
        }
        match *step {
            Step::Record(_) => {
                rig.send(input, n);
                want.push((n, backlog.contains(&true)));
            }
            Step::Backlog(_, now) => {
                backlog[input] = now;
                rig.inputs[input].send_event(Event::Backlog(now));
            }
            Step::Status(_, idle) => rig.inputs[input].send_event(Event::Status(if idle {
                WatermarkStatus::Idle
            } else {
                WatermarkStatus::Active
            })),
            Step::Watermark(_) => rig.inputs[input].send_event(Event::Watermark(n)),
            Step::End(_) => {
                (ended[input], backlog[input]) = (true, false);
                rig.inputs[input].send_event(Event::EndOfInput);
            }
        }
        rig.settle();
        out += &rig.out();
    }
    prop_assert_eq!(&*rig.seen.lock().unwrap(), &want);
    // Consumers are told each turn, once.
    let turns: String = out.chars().filter(|c| matches!(c, '[' | ']')).collect();
    prop_assert!(
        turns == "[]".repeat(turns.len() / 2) + &"[".repeat(turns.len() % 2),
        "{}",
        out
    );
    prop_assert_eq!(turns.ends_with('['), backlog.contains(&true));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn every_record_is_backlog_if_any_channel_is_in_it(
        steps in prop::collection::vec(step(), 0..60),
        begin in any::<[bool; INPUTS]>(),
    ) {
        play(&steps, begin)?;
    }
}

/// Emits so many records, waits for more room for them, and finishes at zero.
struct Batches(Arc<Mutex<Vec<Option<i64>>>>);

impl SourceReader<i64> for Batches {
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        let next = self.0.lock().unwrap().pop();
        match next {
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(None) => Poll::Ready(Ok(SourceStatus::Finished)),
            Some(Some(record)) => {
                out.push_at(record, record);
                Poll::Ready(Ok(SourceStatus::More))
            }
        }
    }
}

type Feed = Arc<Mutex<Vec<Option<i64>>>>;

fn source() -> (Rig, Feed) {
    let (clock, feed) = (ManualClock::new(), Feed::default());
    let services = Services::new(
        SubtaskInfo::single("source"),
        clock.clone(),
        SideOutputs::default(),
    );
    let head = SourceHead::new(
        Box::new(Batches(Arc::clone(&feed))),
        Watermarks::none(),
        Duration::ZERO,
        services,
    );
    (task(Box::new(head), Vec::new(), &clock), feed)
}

#[test]
fn a_source_says_what_it_was_told_before_what_it_reads_then() {
    let (mut rig, feed) = source();
    let read = |rig: &mut Rig, record| {
        feed.lock().unwrap().push(Some(record));
        rig.settle();
    };
    rig.core.begin_in_backlog(&[true]);
    read(&mut rig, 1);
    assert!(rig.core.stats()[0].backlog, "the source itself");
    rig.core.set_backlog(true);
    read(&mut rig, 2);
    rig.core.set_backlog(false);
    read(&mut rig, 3);
    rig.core.set_backlog(true);
    rig.core.set_backlog(false);
    read(&mut rig, 4);
    assert_eq!(rig.out(), "[ 1 2 ] 3 4", "only turns are news");
    let stats = rig.core.stats();
    assert!(!stats[0].backlog && !stats[1].backlog);
}

#[test]
fn a_barrier_goes_before_what_was_said_of_backlog_after_it() {
    let (mut rig, feed) = source();
    rig.core.trigger(CheckpointId(1)).unwrap();
    rig.core.set_backlog(true);
    feed.lock().unwrap().push(Some(1));
    rig.settle();
    assert_eq!(rig.out(), "| [");
    rig.core.set_backlog(false);
    rig.settle();
    assert_eq!(rig.out(), "1 ]");
}

#[test]
fn a_source_that_ends_is_in_backlog_no_more_and_hears_nothing_of_it() {
    let (mut rig, feed) = source();
    rig.core.set_backlog(true);
    feed.lock().unwrap().extend([None, Some(1)]);
    rig.settle();
    rig.core.set_backlog(true);
    assert_eq!(rig.settle(), Round::Finished);
    assert_eq!(rig.out(), "[ 1 ] max end");
}

#[test]
fn an_operator_that_keeps_backlog_back_is_sound_wherever_it_is_interrupted() {
    let script = Script::new()
        .records([(1, 10), (2, 20)])
        .backlog(true)
        .records([(3, 30), (4, 40), (5, 50)])
        .watermark(50)
        .backlog(false)
        .record(6, 60)
        .backlog(true)
        .record(7, 70);
    Torture::new(Holds::default).run(&script).unwrap();
}

/// Forgets to keep what it holds back.
#[derive(Default)]
struct Forgets(Holds);

impl Operator<i64, i64> for Forgets {
    fn process(
        &mut self,
        input: &mut Batch<i64>,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.0.process(input, cx, out, b)
    }

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.0.on_backlog(backlog, cx, out, b)
    }
}

#[test]
fn backlog_left_out_of_the_snapshot_is_found() {
    let script = Script::new()
        .backlog(true)
        .records([(3, 30), (4, 40), (5, 50)])
        .backlog(false);
    assert!(Torture::new(Forgets::default).run(&script).is_err());
}

/// Counts by key, and says how many there were when they are not backlog any more; live records it says at once.
struct CountsBacklog(ValueState<i64>);

impl KeyedProcessFunction<i64, i64, (i64, i64)> for CountsBacklog {
    fn process(
        &mut self,
        _: i64,
        cx: KeyedCx<'_, i64>,
        out: &mut Emitter<'_, (i64, i64)>,
    ) -> Result<(), UserError> {
        let count = self.0.get_cloned(cx).unwrap_or(0) + 1;
        self.0.set(cx, count);
        if !cx.is_backlog() {
            out.emit((*cx.key(), count));
        }
        Ok(())
    }

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: KeyedBroadcastCx<'_, i64>,
        out: &mut Emitter<'_, (i64, i64)>,
    ) -> Result<(), UserError> {
        if backlog {
            return Ok(());
        }
        cx.for_each_key(&self.0, |cx| {
            out.emit((*cx.key(), self.0.get_cloned(cx).unwrap_or(0)));
            Ok(())
        })
    }
}

#[test]
fn a_keyed_function_visits_its_keys_when_backlog_ends() {
    let key = |n: &i64| n % 2;
    let mut harness = for_keyed_process_function(key, |ctx| Ok(CountsBacklog(ctx.value("count")?))).unwrap();
    harness.push(1, 1).unwrap();
    harness.backlog(true).unwrap();
    harness.push_all([(2, 2), (3, 3), (5, 5)]).unwrap();
    assert_eq!(harness.values(), [(1, 1)]);
    harness.backlog(false).unwrap();
    let mut counts = harness.records();
    counts.sort_unstable();
    let none = hurtig_core::time::NO_TIMESTAMP;
    assert_eq!(counts, [((0, 1), none), ((1, 3), none)]);
    harness.push(7, 7).unwrap();
    assert_eq!(harness.values(), [(1, 4)]);
}

/// Says where backlog turns, also in a side output.
struct Turns(OutputTag<bool>);

impl ProcessFunction<i64, String> for Turns {
    fn process(
        &mut self,
        record: i64,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        out.emit(format!("{record} {}", cx.is_backlog()));
        Ok(())
    }

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        cx.side_output(&self.0, backlog);
        out.emit(format!("turns to {backlog} at {:?}", cx.timestamp()));
        Ok(())
    }
}

#[test]
fn a_process_function_is_told_where_backlog_turns() {
    let tag = OutputTag::new("turns");
    let make = {
        let tag = tag.clone();
        move || Turns(tag.clone())
    };
    let mut harness = for_process_function(make).unwrap().with_side(&tag);
    harness.push(1, 1).unwrap();
    harness.backlog(true).unwrap();
    harness.backlog(true).unwrap();
    harness.push(2, 2).unwrap();
    harness.finish().unwrap();
    let values = harness.values();
    assert_eq!(
        values,
        [
            "1 false",
            "turns to true at None",
            "2 true",
            "turns to false at None"
        ]
    );
    let side: Vec<bool> = harness.side(&tag).into_iter().map(|(turn, _)| turn).collect();
    assert_eq!(side, [true, false]);
}
