//! Single facts: errors of the builder, state of window functions, counting of late records.

use crate::case::Rec;
use crate::driver::snapshot_of;
use hurtig_core::time::{ManualClock, NO_TIMESTAMP};
use hurtig_core::{Batch, UserError};
use hurtig_dataflow::key::ByValue;
use hurtig_dataflow::operator::{
    Budget, Collector, OpenContext, Operator, Progress, Services, SideOutputs, SubtaskInfo,
};
use hurtig_dataflow::timers::TimeDomain;
use hurtig_dataflow::windows::*;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn services() -> Services {
    Services::new(
        SubtaskInfo::single("windows"),
        ManualClock::new(),
        SideOutputs::default(),
    )
}

fn rec(key: u64, value: i64) -> Rec {
    Rec { key, value, gap: 1 }
}

fn feed<Out>(op: &mut dyn Operator<Rec, Out>, services: &Services, records: &[(i64, Rec)]) -> Vec<Out> {
    let (mut batch, mut out) = (Batch::new(), Collector::default());
    records
        .iter()
        .for_each(|(time, rec)| batch.push(rec.clone(), *time));
    let progress = op
        .process(&mut batch, services.cx(), &mut out, &mut Budget::new(1_000))
        .unwrap();
    assert_eq!(progress, Progress::Done);
    std::iter::from_fn(|| out.batch().pop_front())
        .map(|(record, _)| record)
        .collect()
}

fn advance<Out>(op: &mut dyn Operator<Rec, Out>, services: &Services, wm: i64) -> Vec<(Out, i64)> {
    let mut out = Collector::default();
    services.set_watermark(wm);
    op.on_watermark(wm, services.cx(), &mut out, &mut Budget::new(1_000))
        .unwrap();
    std::iter::from_fn(|| out.batch().pop_front()).collect()
}

/// Numbers the firings of each window and of each key.
struct Numbering;

impl<W: Window> ProcessWindowFunction<Rec, u64, W, (u64, u32, u32)> for Numbering {
    type WindowState = u32;
    type GlobalState = u32;

    fn process(
        &mut self,
        key: &u64,
        cx: &mut WindowContext<'_, W, u32, u32>,
        _: Elements<'_, Rec>,
        out: &mut Collector<(u64, u32, u32)>,
    ) -> Result<(), UserError> {
        *cx.window_state += 1;
        *cx.global_state += 1;
        out.push((*key, *cx.window_state, *cx.global_state));
        Ok(())
    }

    fn clear(&mut self, _: &u64, cx: &mut WindowContext<'_, W, u32, u32>) -> Result<(), UserError> {
        // Seen by the next window of the key.
        *cx.global_state += 10 * *cx.window_state;
        Ok(())
    }
}

fn selector() -> ByValue<impl Fn(&Rec) -> u64 + Send + Sync, u64> {
    ByValue::new(|rec: &Rec| rec.key)
}

#[test]
fn window_state_lives_as_long_as_the_window_and_global_state_longer() {
    let make = || {
        let spec = WindowSpec::new(TumblingWindows::event_time(MS(10)).unwrap()).allowed_lateness(MS(5));
        spec.process(selector(), Numbering).unwrap()
    };
    let (mut op, services) = (make(), services());
    op.open(&mut OpenContext::new(&services, None)).unwrap();
    feed(&mut *op, &services, &[(1, rec(7, 0)), (12, rec(7, 0))]);
    assert_eq!(advance(&mut *op, &services, 9), [((7, 1, 1), 9)]);
    let snapshot = snapshot_of(&mut *op, &services);
    let mut op = make();
    op.open(&mut OpenContext::new(&services, Some(&snapshot)))
        .unwrap();
    assert_eq!(feed(&mut *op, &services, &[(2, rec(7, 0))]), [(7, 2, 2)]);
    // The first window is cleared at 14, having fired twice.
    assert_eq!(advance(&mut *op, &services, 19), [((7, 1, 23), 19)]);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let sessions = || WindowSpec::new(SessionWindows::event_time(MS(5)).unwrap());
    let unmergeable = sessions().trigger(DeltaTrigger::of(1.0, |_: &Rec, _: &Rec| 0.0));
    let error = unmergeable.reduce(selector(), |_, _| {}).err().unwrap();
    assert!(
        error.chain().contains("cannot") && error.chain().contains("Delta"),
        "{}",
        error.chain()
    );
    let error = sessions().process(selector(), Numbering).err().unwrap();
    assert!(error.chain().contains("per-window state"), "{}", error.chain());
    assert!(SessionWindows::event_time(MS(0)).is_err());
    assert!(CountTrigger::of(0).is_err());
    assert!(ContinuousEventTimeTrigger::of(MS(0)).is_err());
}

#[test]
fn a_record_without_time_fails_with_advice() {
    let assigner = TumblingWindows::event_time(MS(10)).unwrap();
    let mut op = WindowSpec::new(assigner).reduce(selector(), |_, _| {}).unwrap();
    let services = services();
    op.open(&mut OpenContext::new(&services, None)).unwrap();
    let mut batch = Batch::new();
    batch.push(rec(1, 1), NO_TIMESTAMP);
    let error = op
        .process(
            &mut batch,
            services.cx(),
            &mut Collector::default(),
            &mut Budget::new(9),
        )
        .err()
        .unwrap();
    assert!(error.chain().contains("assign timestamps"), "{}", error.chain());
}

#[test]
fn global_windows_fire_by_count_and_at_the_end_of_the_stream() {
    let add: fn(&mut Rec, Rec) = |into, rec| into.value += rec.value;
    let by_count =
        WindowSpec::new(GlobalWindows::create()).trigger(PurgingTrigger::of(CountTrigger::of(2).unwrap()));
    let mut op = by_count.reduce(AllKeys, add).unwrap();
    let services_a = services();
    op.open(&mut OpenContext::new(&services_a, None)).unwrap();
    let fired = feed(
        &mut *op,
        &services_a,
        &[
            (1, rec(1, 1)),
            (1, rec(2, 2)),
            (1, rec(3, 4)),
            (1, rec(4, 8)),
            (1, rec(5, 9)),
        ],
    );
    assert_eq!(fired.iter().map(|rec| rec.value).collect::<Vec<_>>(), [3, 12]);

    let mut op = WindowSpec::new(GlobalWindows::with_end_of_stream_trigger())
        .reduce(selector(), add)
        .unwrap();
    let services_b = services();
    op.open(&mut OpenContext::new(&services_b, None)).unwrap();
    feed(&mut *op, &services_b, &[(1, rec(1, 1)), (5, rec(1, 2))]);
    assert!(advance(&mut *op, &services_b, 1 << 60).is_empty());
    assert_eq!(advance(&mut *op, &services_b, i64::MAX), [(rec(1, 3), i64::MAX)]);
}

#[test]
fn late_records_that_nobody_takes_are_counted() {
    use hurtig_dataflow::timers::TimeDomain;
    use hurtig_dataflow::windows::fast::{AggregatingWindowOperator, GridParts};
    let parts = GridParts {
        grid: TimeGrid::tumbling(10).unwrap(),
        domain: TimeDomain::Event,
        name: |window| window,
        logic: Incremental::new(Reduce::new(|_: &mut Rec, _: Rec| {})),
        late: Lateness::new(3, None),
    };
    let mut op = AggregatingWindowOperator::<Rec, Rec, _, TimeWindow, _>::new(selector(), parts);
    let services = services();
    op.open(&mut OpenContext::new(&services, None)).unwrap();
    advance(&mut op, &services, 12);
    feed(
        &mut op,
        &services,
        &[(9, rec(1, 1)), (10, rec(1, 1)), (-1, rec(1, 1))],
    );
    assert_eq!(op.late_records_dropped(), 2);
}

/// A window as long as the element's value; two merge when the pause between them is shorter than
/// the longer one.
struct Bouts;

impl WindowAssigner<Rec> for Bouts {
    type Window = TimeWindow;

    fn assign(&self, rec: &Rec, time: i64, windows: &mut Vec<TimeWindow>) -> hurtig_core::Result<()> {
        windows.push(TimeWindow::new(time, time + rec.value));
        Ok(())
    }

    fn domain(&self) -> TimeDomain {
        TimeDomain::Event
    }

    fn default_trigger(&self) -> DefaultTrigger {
        DefaultTrigger::EventTime
    }

    fn is_merging(&self) -> bool {
        true
    }

    fn merge(&self, a: &TimeWindow, b: &TimeWindow) -> Option<TimeWindow> {
        let pause = a.start.max(b.start) - a.end.min(b.end);
        let longer = (a.end - a.start).max(b.end - b.start);
        (pause < longer).then(|| TimeWindow::new(a.start.min(b.start), a.end.max(b.end)))
    }
}

/// What a window grows to by merging with one may merge with another that it passed over.
#[test]
fn windows_of_a_custom_assigner_merge_until_no_two_do() {
    let spec = WindowSpec::new(Bouts);
    let mut op = spec.reduce(selector(), |into: &mut Rec, rec| into.value += rec.value);
    let op = &mut **op.as_mut().unwrap();
    let services = services();
    op.open(&mut OpenContext::new(&services, None)).unwrap();
    // [0, 1) and [7, 10) stay apart; [4, 6) is too far from the first, but what it makes of the
    // second, [4, 10), is not. [40, 41) is far from all.
    feed(
        op,
        &services,
        &[(0, rec(7, 1)), (7, rec(7, 3)), (4, rec(7, 2)), (40, rec(7, 1))],
    );
    // Neither of the windows that have become one fires.
    assert_eq!(advance(op, &services, 8), []);
    assert_eq!(advance(op, &services, 9), [(rec(7, 6), 9)]);
    assert_eq!(advance(op, &services, 40), [(rec(7, 1), 40)]);
}
