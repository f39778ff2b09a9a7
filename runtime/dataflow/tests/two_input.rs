//! The head that reads two streams: against a merger over all channels, with every order of arrival,
//! and with operators that will not read both at all times.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::element::WatermarkStatus;
use hurtig_core::time::ManualClock;
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Element, Event, Result};
use hurtig_dataflow::chain::*;
use hurtig_dataflow::operator::*;
use hurtig_dataflow::operators::{WatermarkMerger, WatermarkUpdate};
use hurtig_exchange::{
    ChannelOptions, EdgeWriter, FlushPolicy, Partitioner, Receiver, Sender, Signal, channel,
};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Which input the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wants {
    Both,
    /// The first alone until it has brought so many records.
    First(u32),
    Second(u32),
}

/// Emits records of the first input as they are, those of the second negated.
struct Recorder {
    wants: Wants,
    seen: [u32; 2],
    /// Records that one call takes at most.
    a_call: usize,
}

const LAST: i64 = 0;

impl Recorder {
    fn take<T: Into<i64>>(
        &mut self,
        from: usize,
        input: &mut Batch<T>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Progress {
        for _ in 0..self.a_call {
            if input.is_empty() || out.full() || !b.spend() {
                break;
            }
            let (n, time) = input.pop_front().unwrap();
            let n: i64 = n.into();
            self.seen[from] += 1;
            out.push_at(if from == 0 { n } else { -n }, time);
        }
        if input.is_empty() {
            Progress::Done
        } else {
            Progress::More
        }
    }
}

impl TwoInputOperator<i64, i32, i64> for Recorder {
    fn process_first(
        &mut self,
        input: &mut Batch<i64>,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        Ok(self.take(0, input, out, b))
    }

    fn process_second(
        &mut self,
        input: &mut Batch<i32>,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        Ok(self.take(1, input, out, b))
    }

    fn wants(&self) -> InputMask {
        match self.wants {
            Wants::First(until) if self.seen[0] < until => InputMask::First,
            Wants::Second(until) if self.seen[1] < until => InputMask::Second,
            _ => InputMask::Both,
        }
    }

    fn end_input(&mut self, _: Cx<'_>, out: &mut Collector<i64>, _: &mut Budget) -> Result<Progress> {
        out.push_at(LAST, 0);
        Ok(Progress::Done)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Records(usize),
    Event(Event),
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Record(i64),
    Event(Event),
}

struct Rig {
    core: TaskCore,
    first: Vec<Sender<i64>>,
    second: Vec<Sender<i32>>,
    output: Receiver<i64>,
    clock: Arc<ManualClock>,
    sent: i32,
}

/// One more than it may take.
const WIDE: ChannelOptions = ChannelOptions::bounded(1_000, usize::MAX);

impl Rig {
    fn new((first, second): (usize, usize), recorder: Recorder, output: ChannelOptions) -> Self {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(1));
        let (first, of_first): (Vec<_>, Vec<_>) = (0..first)
            .map(|_| channel(WIDE, Signal::new(), Signal::new()))
            .unzip();
        let (second, of_second): (Vec<_>, Vec<_>) = (0..second)
            .map(|_| channel(WIDE, Signal::new(), Signal::new()))
            .unzip();
        let (sender, output) = channel(output, Signal::new(), Signal::new());
        let policy = FlushPolicy {
            batch_size: 4,
            ..FlushPolicy::default()
        };
        let writer = EdgeWriter::new(vec![sender], Partitioner::Forward, TypeInfo::of(), policy);
        let services = Services::new(
            SubtaskInfo::single("both"),
            clock.clone(),
            SideOutputs::new(Vec::new()),
        );
        let head = TwoInputHead::new(
            recorder,
            InputGate::new(of_first),
            InputGate::new(of_second),
            services,
        );
        let parts = TaskParts {
            head: Box::new(head),
            nodes: Vec::new(),
            links: vec![Box::new(Link::<i64>::new(4))],
            outlet: Box::new(Tail::new(vec![writer])),
            signal: Signal::new(),
            buffer_timeout: Some(Duration::from_millis(10)),
        };
        let mut core = TaskCore::new(parts, clock.clone());
        core.open(&|_| None).unwrap();
        Self {
            core,
            first,
            second,
            output,
            clock,
            sent: 0,
        }
    }

    /// Puts an element into a channel, the first input's channels first. Returns what the operator
    /// has to emit for it.
    fn feed(&mut self, channel: usize, step: &Step) -> Vec<i64> {
        let records = match step {
            Step::Records(count) => *count,
            Step::Event(_) => 0,
        };
        let numbers: Vec<i32> = (1..=i32::try_from(records).unwrap())
            .map(|n| self.sent + n)
            .collect();
        self.sent += i32::try_from(records).unwrap();
        let is_first = channel < self.first.len();
        match (step, is_first) {
            (Step::Records(_), true) => {
                let batch = Batch::from_records(numbers.iter().map(|&n| i64::from(n)).collect());
                self.first[channel].try_send(batch, 8);
            }
            (Step::Records(_), false) => {
                self.second[channel - self.first.len()].try_send(Batch::from_records(numbers.clone()), 8);
            }
            (Step::Event(event), true) => self.first[channel].send_event(*event),
            (Step::Event(event), false) => self.second[channel - self.first.len()].send_event(*event),
        }
        let sign = if is_first { 1 } else { -1 };
        numbers.into_iter().map(|n| i64::from(n) * sign).collect()
    }

    fn round(&mut self) -> Round {
        self.clock.advance(Duration::from_millis(1));
        let mut task = Context::from_waker(Waker::noop());
        self.core.round(&mut task, Duration::from_millis(1)).unwrap()
    }

    /// Rounds until nothing is left to do.
    fn settle(&mut self) -> Round {
        for _ in 0..1_000 {
            let round = self.round();
            if !matches!(round, Round::Busy | Round::Idle(Some(_))) {
                return round;
            }
        }
        panic!("the task never comes to rest");
    }

    fn one(&self) -> Vec<Seen> {
        match self.output.try_recv() {
            Some(Element::Batch(mut batch)) => batch.records().iter().map(|&n| Seen::Record(n)).collect(),
            Some(Element::Event(event)) => vec![Seen::Event(event)],
            None => Vec::new(),
        }
    }

    fn seen(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let more = self.one();
            if more.is_empty() {
                return seen;
            }
            seen.extend(more);
        }
    }
}

/// What a channel brings, without the end.
fn channel_steps(idleness: bool) -> impl Strategy<Value = Vec<Step>> {
    let status = if idleness { 2 } else { 0 };
    let step = prop_oneof![
        4 => (1usize..6).prop_map(Step::Records),
        4 => (0i64..5).prop_map(|by| Step::Event(Event::Watermark(by))),
        status => Just(Step::Event(Event::Status(WatermarkStatus::Idle))),
        status => Just(Step::Event(Event::Status(WatermarkStatus::Active))),
    ];
    prop::collection::vec(step, 0..10).prop_map(rising)
}

/// Makes the watermarks of a channel rise, and each channel end.
fn rising(mut steps: Vec<Step>) -> Vec<Step> {
    let mut time = 0;
    for step in &mut steps {
        if let Step::Event(Event::Watermark(by)) = step {
            time += *by;
            *by = time;
        }
    }
    steps.push(Step::Event(Event::EndOfInput));
    steps
}

type Script = ((usize, usize), Vec<VecDeque<Step>>, Vec<usize>);

/// Channels of both inputs with what they bring, and whose turn it is at each step.
fn script(idleness: bool) -> impl Strategy<Value = Script> {
    (1usize..4, 1usize..4).prop_flat_map(move |(first, second)| {
        let channels =
            prop::collection::vec(channel_steps(idleness).prop_map(VecDeque::from), first + second);
        (
            Just((first, second)),
            channels,
            prop::collection::vec(0usize..first + second, 0..60),
        )
    })
}

/// The elements of a script in the order of their turns; what has no turn comes last.
fn in_turn((_, channels, turns): &Script) -> Vec<(usize, Step)> {
    let mut left = channels.clone();
    let mut order: Vec<(usize, Step)> = Vec::new();
    for &channel in turns {
        order.extend(left[channel].pop_front().map(|step| (channel, step)));
    }
    for (channel, steps) in left.into_iter().enumerate() {
        order.extend(steps.into_iter().map(|step| (channel, step)));
    }
    order
}

fn merge(merger: &mut WatermarkMerger, channel: usize, step: &Step) -> WatermarkUpdate {
    match step {
        Step::Records(_) | Step::Event(Event::Barrier(_) | Event::Backlog(_)) => WatermarkUpdate::NONE,
        Step::Event(Event::Watermark(wm)) => merger.watermark(channel, *wm),
        Step::Event(Event::Status(status)) => merger.status(channel, *status),
        Step::Event(Event::EndOfInput) => merger.end(channel),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Element by element: records pass, and events are those of one merger over all channels.
    #[test]
    fn both_inputs_share_one_event_time(script in script(true), a_call in 1usize..5) {
        let recorder = Recorder { wants: Wants::Both, seen: [0; 2], a_call };
        let mut rig = Rig::new(script.0, recorder, WIDE);
        let mut merger = WatermarkMerger::new(script.0.0 + script.0.1);
        for (channel, step) in in_turn(&script) {
            let mut expected: Vec<Seen> = rig.feed(channel, &step).into_iter().map(Seen::Record).collect();
            expected.extend(merge(&mut merger, channel, &step).events().map(Seen::Event));
            if merger.all_ended() {
                expected.extend([Seen::Record(LAST), Seen::Event(Event::EndOfInput)]);
            }
            let round = rig.settle();
            prop_assert_eq!(round == Round::Finished, merger.all_ended());
            prop_assert_eq!(rig.seen(), expected, "{} at channel {}", format!("{step:?}"), channel);
        }
        prop_assert!(merger.all_ended());
    }

    /// Everything at once and in any order: nothing is lost, nothing is late, the operator gets the
    /// input that it asks for.
    #[test]
    fn no_order_of_arrival_loses_or_delays_a_record(
        script in script(false),
        wants in prop_oneof![Just(Wants::Both), (0u32..20).prop_map(Wants::First), (0u32..20).prop_map(Wants::Second)],
        (a_call, every) in (1usize..5, 1usize..8),
    ) {
        let narrow = ChannelOptions::bounded(1, usize::MAX);
        let recorder = Recorder { wants, seen: [0; 2], a_call };
        let mut rig = Rig::new(script.0, recorder, narrow);
        // What each record must not be later than, and which channel it came by.
        let mut sent: Vec<(i64, usize, i64)> = Vec::new();
        let mut time = vec![i64::MIN; script.1.len()];
        let mut seen = Vec::new();
        for (at, (channel, step)) in in_turn(&script).into_iter().enumerate() {
            if let Step::Event(Event::Watermark(wm)) = step {
                time[channel] = wm;
            }
            let records = rig.feed(channel, &step);
            sent.extend(records.into_iter().map(|n| (n, channel, time[channel])));
            if at % every == 0 {
                rig.round();
                seen.extend(rig.one());
            }
        }
        for _ in 0..10_000 {
            let round = rig.round();
            if round == Round::Finished {
                break;
            }
            seen.extend(rig.one());
        }
        seen.extend(rig.seen());
        prop_assert_eq!(seen.last(), Some(&Seen::Event(Event::EndOfInput)), "the task does not end: {:?}", wants);
        check(&seen, &sent, script.1.len())?;
        asked_for(&seen, wants, &sent)?;
    }
}

/// Each record once, in order of its channel, and never behind event time.
fn check(
    seen: &[Seen],
    sent: &[(i64, usize, i64)],
    channels: usize,
) -> std::result::Result<(), TestCaseError> {
    let mut now = i64::MIN;
    let mut of_channel: Vec<Vec<i64>> = vec![Vec::new(); channels];
    for seen in seen {
        match seen {
            Seen::Event(Event::Watermark(wm)) => {
                prop_assert!(*wm > now, "event time goes on");
                now = *wm;
            }
            Seen::Record(LAST) => {}
            Seen::Record(n) => {
                let (_, channel, time) = sent.iter().find(|sent| sent.0 == *n).copied().unwrap();
                of_channel[channel].push(*n);
                prop_assert!(
                    now <= time,
                    "record {} of channel {} is late: {} behind {}",
                    n,
                    channel,
                    time,
                    now
                );
            }
            Seen::Event(_) => {}
        }
    }
    for (channel, found) in of_channel.iter().enumerate() {
        let expected: Vec<i64> = sent
            .iter()
            .filter(|sent| sent.1 == channel)
            .map(|sent| sent.0)
            .collect();
        prop_assert_eq!(found, &expected, "channel {}", channel);
    }
    Ok(())
}

/// As long as an input is asked for alone and brings records, none of the other comes.
fn asked_for(
    seen: &[Seen],
    wants: Wants,
    sent: &[(i64, usize, i64)],
) -> std::result::Result<(), TestCaseError> {
    let (sign, until) = match wants {
        Wants::Both => return Ok(()),
        Wants::First(until) => (1, until),
        Wants::Second(until) => (-1, until),
    };
    let brought = sent.iter().filter(|sent| sent.0 * sign > 0).count();
    let records = seen.iter().filter_map(|seen| match seen {
        Seen::Record(n) if *n != LAST => Some(*n),
        _ => None,
    });
    let alone = usize::try_from(until).unwrap().min(brought);
    let early = records.take(alone).find(|n| n * sign < 0);
    prop_assert!(early.is_none(), "{:?} came although {:?}", early, wants);
    Ok(())
}

#[test]
fn inputs_have_turns_when_both_have_records() {
    let mut rig = Rig::new(
        (2, 1),
        Recorder {
            wants: Wants::Both,
            seen: [0; 2],
            a_call: 10,
        },
        WIDE,
    );
    for _ in 0..20 {
        rig.feed(0, &Step::Records(1));
        rig.feed(2, &Step::Records(1));
    }
    rig.settle();
    let mut ahead = 0i32;
    let mut count = 0;
    for seen in rig.seen() {
        if let Seen::Record(n) = seen {
            ahead += if n > 0 { 1 } else { -1 };
            count += 1;
            assert!(ahead.abs() <= 1, "one input is {ahead} batches ahead");
        }
    }
    assert_eq!(count, 40);
}

#[test]
fn an_input_that_has_ended_is_not_waited_for() {
    for wants in [Wants::First(9), Wants::Second(9)] {
        let mut rig = Rig::new(
            (1, 1),
            Recorder {
                wants,
                seen: [0; 2],
                a_call: 10,
            },
            WIDE,
        );
        let (ends, brings) = if wants == Wants::First(9) { (0, 1) } else { (1, 0) };
        rig.feed(ends, &Step::Event(Event::EndOfInput));
        let records = rig.feed(brings, &Step::Records(3));
        rig.settle();
        let found: Vec<Seen> = rig.seen();
        assert_eq!(found, records.into_iter().map(Seen::Record).collect::<Vec<_>>());
        rig.feed(brings, &Step::Event(Event::EndOfInput));
        assert_eq!(rig.settle(), Round::Finished);
    }
}

/// Puts everything aside.
struct Aside;

impl TwoInputOperator<i64, i32, i64> for Aside {
    fn process_first(
        &mut self,
        input: &mut Batch<i64>,
        cx: Cx<'_>,
        _: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        while !input.is_empty() {
            if cx.side_full() || !b.spend() {
                return Ok(Progress::More);
            }
            let (n, time) = input.pop_front().unwrap();
            cx.side_output(&OutputTag::<i64>::new("side"), n, time);
        }
        Ok(Progress::Done)
    }

    fn process_second(
        &mut self,
        _: &mut Batch<i32>,
        _: Cx<'_>,
        _: &mut Collector<i64>,
        _: &mut Budget,
    ) -> Result<Progress> {
        Ok(Progress::Done)
    }
}

#[test]
fn a_full_side_output_of_the_head_is_back_pressure() {
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(1));
    let narrow = ChannelOptions::bounded(1, usize::MAX);
    let writer = |options| {
        let (sender, receiver) = channel::<i64>(options, Signal::new(), Signal::new());
        let policy = FlushPolicy {
            batch_size: 4,
            ..FlushPolicy::default()
        };
        let writer = EdgeWriter::new(vec![sender], Partitioner::Forward, TypeInfo::of(), policy);
        (writer, receiver)
    };
    let ((main, _of_main), (side, of_side)) = (writer(WIDE), writer(narrow));
    let (first, of_first) = channel(WIDE, Signal::new(), Signal::new());
    let (_second, of_second) = channel(WIDE, Signal::new(), Signal::new());
    let sides = SideOutputs::new(vec![Box::new(SidePort::new("side".into(), vec![side]))]);
    let services = Services::new(SubtaskInfo::single("both"), clock.clone(), sides);
    let (first_gate, second_gate) = (InputGate::new(vec![of_first]), InputGate::new(vec![of_second]));
    let parts = TaskParts {
        head: Box::new(TwoInputHead::new(Aside, first_gate, second_gate, services)),
        nodes: Vec::new(),
        links: vec![Box::new(Link::<i64>::new(4))],
        outlet: Box::new(Tail::new(vec![main])),
        signal: Signal::new(),
        buffer_timeout: None,
    };
    let mut core = TaskCore::new(parts, clock.clone());
    core.open(&|_| None).unwrap();
    first.try_send(Batch::from_records((1..=100).collect()), 8);
    let mut task = Context::from_waker(Waker::noop());
    let mut round = || {
        clock.advance(Duration::from_millis(1));
        core.round(&mut task, Duration::from_millis(1)).unwrap()
    };
    assert!(
        matches!(round(), Round::BackPressured(_)),
        "the side output is full"
    );
    let mut aside = 0;
    while let Some(Element::Batch(batch)) = of_side.try_recv() {
        aside += batch.len();
        round();
    }
    assert_eq!((aside, round()), (100, Round::Idle(None)));
}
