//! The operators under test, built from a case.

use crate::case::{Assign, Case, Evict, Rec, Trig};
use crate::model::{Fired, PURGING};
use hurtig_core::{Result, UserError};
use hurtig_dataflow::key::ByValue;
use hurtig_dataflow::operator::{Collector, Operator, OutputTag};
use hurtig_dataflow::timers::TimeDomain;
use hurtig_dataflow::windows::*;
use hurtig_state::AggregateFunction;
use std::time::Duration;

pub(crate) type Subject = Box<dyn Operator<Rec, Fired>>;

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

/// Any assigner of time windows.
#[derive(Clone, Copy)]
pub(crate) enum AnyAssigner {
    Aligned(AlignedWindows),
    Session(SessionWindows),
    Dynamic(DynamicSessionWindows<fn(&Rec) -> i64>),
    Parity(i64, TimeDomain),
}

macro_rules! each {
    ($self:expr, $a:ident => $call:expr, $size:ident, $domain:ident => $parity:expr) => {
        match $self {
            AnyAssigner::Aligned($a) => $call,
            AnyAssigner::Session($a) => $call,
            AnyAssigner::Dynamic($a) => $call,
            AnyAssigner::Parity($size, $domain) => $parity,
        }
    };
}

impl WindowAssigner<Rec> for AnyAssigner {
    type Window = TimeWindow;

    fn assign(&self, rec: &Rec, time: i64, windows: &mut Vec<TimeWindow>) -> Result<()> {
        each!(self, a => a.assign(rec, time, windows), size, _d => {
            let odd = rec.value.rem_euclid(2);
            windows.push(TimeWindow::new(time - odd, time - odd + size));
            windows.push(TimeWindow::new(time, time + 2 * size));
            Ok(())
        })
    }
    fn domain(&self) -> TimeDomain {
        each!(self, a => WindowAssigner::<Rec>::domain(a), _s, domain => *domain)
    }
    fn default_trigger(&self) -> DefaultTrigger {
        each!(self, a => WindowAssigner::<Rec>::default_trigger(a), _s, domain => match domain {
            TimeDomain::Event => DefaultTrigger::EventTime,
            TimeDomain::Processing => DefaultTrigger::ProcessingTime,
        })
    }
    fn is_merging(&self) -> bool {
        each!(self, a => WindowAssigner::<Rec>::is_merging(a), _s, _d => false)
    }
    fn merge(&self, x: &TimeWindow, y: &TimeWindow) -> Option<TimeWindow> {
        each!(self, a => WindowAssigner::<Rec>::merge(a, x, y), _s, _d => None)
    }
    fn pattern(&self) -> Pattern<TimeWindow> {
        each!(self, a => WindowAssigner::<Rec>::pattern(a), _s, _d => Pattern::Other)
    }
    fn session_gap(&self, rec: &Rec) -> i64 {
        each!(self, a => a.session_gap(rec), _s, _d => 0)
    }
}

pub(crate) fn assigner(case: &Case) -> AnyAssigner {
    let event = case.event_time;
    let domain = if event {
        TimeDomain::Event
    } else {
        TimeDomain::Processing
    };
    match case.assign {
        Assign::Tumbling { size, offset } => {
            let made = if event {
                TumblingWindows::event_time(ms(size))
            } else {
                TumblingWindows::processing_time(ms(size))
            };
            AnyAssigner::Aligned(made.unwrap().with_offset(offset).unwrap())
        }
        Assign::Sliding { size, slide, offset } => {
            let make = if event {
                SlidingWindows::event_time
            } else {
                SlidingWindows::processing_time
            };
            AnyAssigner::Aligned(make(ms(size), ms(slide)).unwrap().with_offset(offset).unwrap())
        }
        Assign::Cumulating { max, step } => {
            let make = if event {
                CumulatingWindows::event_time
            } else {
                CumulatingWindows::processing_time
            };
            AnyAssigner::Aligned(make(ms(max), ms(step)).unwrap())
        }
        Assign::Session { gap } => {
            let make = if event {
                SessionWindows::event_time
            } else {
                SessionWindows::processing_time
            };
            AnyAssigner::Session(make(ms(gap)).unwrap())
        }
        Assign::DynamicSession => AnyAssigner::Dynamic(if event {
            DynamicSessionWindows::event_time(|rec: &Rec| rec.gap)
        } else {
            DynamicSessionWindows::processing_time(|rec: &Rec| rec.gap)
        }),
        Assign::Parity { size } => AnyAssigner::Parity(size, domain),
    }
}

/// Every built-in trigger behind one type, and a custom one.
#[derive(Clone, Copy)]
pub(crate) struct AnyTrigger {
    trig: Trig,
    default: DefaultTrigger,
}

#[derive(Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct AnyState {
    unit: (),
    count: u64,
    next: Option<i64>,
    last: trigger::LastElement<Rec>,
}

type Tcx<'a> = TriggerContext<'a, TimeWindow, AnyState>;
type Delta = fn(&Rec, &Rec) -> f64;

macro_rules! ask {
    ($self:ident, $cx:ident, $call:ident($($arg:expr),*), $odd:expr) => {
        match $self.trig {
            Trig::Default | Trig::Foreign => Trigger::<Rec, _>::$call(&$self.default, $($arg,)* &mut $cx.project(|s| &mut s.unit)),
            Trig::Count(n) => Trigger::<Rec, _>::$call(&CountTrigger::of(n).unwrap(), $($arg,)* &mut $cx.project(|s| &mut s.count)),
            Trig::ContinuousEvent(i) => Trigger::<Rec, _>::$call(
                &ContinuousEventTimeTrigger::of(ms(i)).unwrap(), $($arg,)* &mut $cx.project(|s| &mut s.next)),
            Trig::ContinuousProcessing(i) => Trigger::<Rec, _>::$call(
                &ContinuousProcessingTimeTrigger::of(ms(i)).unwrap(), $($arg,)* &mut $cx.project(|s| &mut s.next)),
            Trig::Delta(t) => {
                let delta: Delta = |last, new| (new.value - last.value) as f64;
                Trigger::<Rec, _>::$call(&DeltaTrigger::of(t, delta), $($arg,)* &mut $cx.project(|s| &mut s.last))
            }
            Trig::EndOfStream => Trigger::<Rec, _>::$call(&EndOfStreamTrigger, $($arg,)* &mut $cx.project(|s| &mut s.unit)),
            Trig::Never => Trigger::<Rec, _>::$call(&NeverTrigger, $($arg,)* &mut $cx.project(|s| &mut s.unit)),
            Trig::Odd => $odd,
        }
    };
}

impl Trigger<Rec, TimeWindow> for AnyTrigger {
    type State = AnyState;

    fn on_element(&self, rec: &Rec, time: i64, cx: &mut Tcx<'_>) -> TriggerResult {
        ask!(self, cx, on_element(rec, time), {
            cx.register_event_time_timer(time);
            cx.state.count += 1;
            if cx.state.count % 2 == 1 {
                TriggerResult::Fire
            } else if PURGING.contains(&rec.value) {
                TriggerResult::Purge
            } else {
                TriggerResult::Continue
            }
        })
    }
    fn on_event_time(&self, time: i64, cx: &mut Tcx<'_>) -> TriggerResult {
        ask!(self, cx, on_event_time(time), {
            if cx.state.count.is_multiple_of(2) {
                TriggerResult::Fire
            } else {
                TriggerResult::Continue
            }
        })
    }
    fn on_processing_time(&self, time: i64, cx: &mut Tcx<'_>) -> TriggerResult {
        ask!(self, cx, on_processing_time(time), TriggerResult::Continue)
    }
    fn can_merge(&self) -> bool {
        !matches!(self.trig, Trig::Delta(_) | Trig::EndOfStream | Trig::Odd)
    }
    fn merge_state(&self, into: &mut AnyState, from: AnyState) {
        let merge = |t: &dyn Fn(&mut Option<i64>, Option<i64>), into: &mut _, from| t(into, from);
        Trigger::<Rec, TimeWindow>::merge_state(&CountTrigger::of(1).unwrap(), &mut into.count, from.count);
        merge(
            &|a, b| {
                Trigger::<Rec, TimeWindow>::merge_state(
                    &ContinuousEventTimeTrigger::of(ms(1)).unwrap(),
                    a,
                    b,
                );
            },
            &mut into.next,
            from.next,
        );
    }
    fn on_merge(&self, cx: &mut Tcx<'_>) {
        ask!(self, cx, on_merge(), ());
    }
    fn clear(&self, cx: &mut Tcx<'_>) {
        ask!(self, cx, clear(), ());
    }
    fn as_default(&self) -> Option<TimeDomain> {
        match self.trig {
            Trig::Default | Trig::Foreign => Trigger::<Rec, TimeWindow>::as_default(&self.default),
            _ => None,
        }
    }
}

/// Every built-in evictor behind one type.
#[derive(Clone, Copy)]
pub(crate) struct AnyEvictor(Evict);

impl AnyEvictor {
    fn run(&self, elements: &mut Vec<Timestamped<Rec>>, w: &TimeWindow, before: bool) {
        fn go<E: Evictor<Rec, TimeWindow>>(
            e: E,
            v: &mut Vec<Timestamped<Rec>>,
            w: &TimeWindow,
            before: bool,
        ) {
            if before {
                e.evict_before(v, w);
            } else {
                e.evict_after(v, w);
            }
        }
        let delta: Delta = |a, last| (a.value - last.value).abs() as f64;
        match self.0 {
            Evict::None => {}
            Evict::Count(n, false) => go(CountEvictor::of(n), elements, w, before),
            Evict::Count(n, true) => go(CountEvictor::of(n).after(), elements, w, before),
            Evict::Time(t, false) => go(TimeEvictor::of(ms(t)), elements, w, before),
            Evict::Time(t, true) => go(TimeEvictor::of(ms(t)).after(), elements, w, before),
            Evict::Delta(t, false) => go(DeltaEvictor::of(t, delta), elements, w, before),
            Evict::Delta(t, true) => go(DeltaEvictor::of(t, delta).after(), elements, w, before),
        }
    }
}

impl Evictor<Rec, TimeWindow> for AnyEvictor {
    fn evict_before(&self, elements: &mut Vec<Timestamped<Rec>>, window: &TimeWindow) {
        self.run(elements, window, true);
    }
    fn evict_after(&self, elements: &mut Vec<Timestamped<Rec>>, window: &TimeWindow) {
        self.run(elements, window, false);
    }
}

/// Collects values in order: neither shareable nor commutative.
pub(crate) struct Listing;

impl AggregateFunction for Listing {
    type In = Rec;
    type Acc = Vec<i64>;
    type Out = Vec<i64>;
    fn create(&self) -> Vec<i64> {
        Vec::new()
    }
    fn add(&self, acc: &mut Vec<i64>, rec: Rec) {
        acc.push(rec.value);
    }
    fn result(&self, acc: &Vec<i64>) -> Vec<i64> {
        acc.clone()
    }
    fn merge(&self, acc: &mut Vec<i64>, other: Vec<i64>) {
        acc.extend(other);
    }
}

/// Count and sum: shareable.
pub(crate) struct Sum;

impl AggregateFunction for Sum {
    type In = Rec;
    type Acc = (i64, i64);
    type Out = Vec<i64>;
    const SHAREABLE: bool = true;
    fn create(&self) -> (i64, i64) {
        (0, 0)
    }
    fn add(&self, acc: &mut (i64, i64), rec: Rec) {
        *acc = (acc.0 + 1, acc.1 + rec.value);
    }
    fn result(&self, acc: &(i64, i64)) -> Vec<i64> {
        vec![acc.0, acc.1]
    }
    fn merge(&self, acc: &mut (i64, i64), other: (i64, i64)) {
        *acc = (acc.0 + other.0, acc.1 + other.1);
    }
}

fn add(into: &mut Rec, rec: Rec) {
    into.value += rec.value;
}

type Pcx<'a> = WindowContext<'a, TimeWindow>;

fn all(
    key: &u64,
    cx: &mut Pcx<'_>,
    elements: Elements<'_, Rec>,
    out: &mut Collector<Fired>,
) -> Result<(), UserError> {
    let values = elements.iter().map(|rec| rec.value).collect();
    out.push((
        *key,
        (cx.window.start, cx.window.end),
        values,
        cx.window.max_timestamp(),
    ));
    Ok(())
}

fn one(
    key: &u64,
    cx: &mut Pcx<'_>,
    result: Elements<'_, Vec<i64>>,
    out: &mut Collector<Fired>,
) -> Result<(), UserError> {
    let values = result.first().unwrap().clone();
    out.push((
        *key,
        (cx.window.start, cx.window.end),
        values,
        cx.window.max_timestamp(),
    ));
    Ok(())
}

/// Always the general operator: a state that is never set keeps it off the fast paths.
struct OneGenerally;

impl ProcessWindowFunction<Vec<i64>, u64, TimeWindow, Fired> for OneGenerally {
    type WindowState = ();
    type GlobalState = u8;
    fn process(
        &mut self,
        key: &u64,
        cx: &mut WindowContext<'_, TimeWindow, (), u8>,
        result: Elements<'_, Vec<i64>>,
        out: &mut Collector<Fired>,
    ) -> Result<(), UserError> {
        out.push((
            *key,
            (cx.window.start, cx.window.end),
            result.first().unwrap().clone(),
            cx.window.max_timestamp(),
        ));
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// All elements, evicting if the case says so.
    Elements,
    /// An aggregate with whatever the case says.
    Aggregate,
    /// The same with a reducing function, which has no result of nothing.
    Reducing,
    /// An aggregate whose operator is chosen.
    Fast { shareable: bool },
    /// The same by the general operator.
    General { shareable: bool },
}

pub(crate) fn late_tag() -> OutputTag<Rec> {
    OutputTag::new("late")
}

pub(crate) fn build(case: &Case, kind: Kind) -> Subject {
    let selector = ByValue::new(|rec: &Rec| rec.key);
    let assigner = assigner(case);
    let default = match case.event_time == (case.trig != Trig::Foreign) {
        true => DefaultTrigger::EventTime,
        false => DefaultTrigger::ProcessingTime,
    };
    let trigger = AnyTrigger {
        trig: case.trig,
        default,
    };
    let mut spec = WindowSpec::new(assigner).allowed_lateness(ms(case.lateness));
    if case.side {
        spec = spec.side_output_late(late_tag());
    }
    if case.purging {
        let spec = spec.trigger(PurgingTrigger::of(trigger));
        return finish(case, spec, selector, kind).unwrap();
    }
    finish(case, spec.trigger(trigger), selector, kind).unwrap()
}

fn finish<T, F>(
    case: &Case,
    spec: WindowSpec<Rec, AnyAssigner, T>,
    selector: ByValue<F, u64>,
    kind: Kind,
) -> Result<Subject>
where
    T: Trigger<Rec, TimeWindow>,
    F: Fn(&Rec) -> u64 + Send + Sync + 'static,
{
    match kind {
        Kind::Elements if case.evict == Evict::None => spec.process(selector, ProcessFn(all)),
        Kind::Elements => spec
            .evictor(AnyEvictor(case.evict))
            .process(selector, ProcessFn(all)),
        Kind::Aggregate if case.evict == Evict::None => {
            spec.aggregate_then(selector, Listing, ProcessFn(one))
        }
        Kind::Aggregate => {
            let spec = spec.evictor(AnyEvictor(case.evict));
            spec.aggregate_then(selector, Listing, ProcessFn(one))
        }
        Kind::Reducing if case.evict == Evict::None => spec.reduce_then(selector, add, ProcessFn(all)),
        Kind::Reducing => {
            let spec = spec.evictor(AnyEvictor(case.evict));
            spec.reduce_then(selector, add, ProcessFn(all))
        }
        Kind::Fast { shareable: true } => spec.aggregate_then(selector, Sum, ProcessFn(one)),
        Kind::Fast { shareable: false } => spec.aggregate_then(selector, Listing, ProcessFn(one)),
        Kind::General { shareable: true } => spec.aggregate_then(selector, Sum, OneGenerally),
        Kind::General { shareable: false } => spec.aggregate_then(selector, Listing, OneGenerally),
    }
}
