//! Operators with planted bugs: the torture kit must find each, and name what is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use hurtig_core::{Batch, Error, Result, UserError};
use hurtig_dataflow::function::{Emitter, KeyedCx, KeyedProcessFunction};
use hurtig_dataflow::key::ByValue;
use hurtig_dataflow::operator::{Budget, Collector, Cx, OpenContext, Operator, OutputTag, Progress};
use hurtig_dataflow::operators::{FlatMapIter, KeyedProcess, Reduce, rolling};
use hurtig_dataflow::testing::{Script, Torture, TortureFailure, Violation};
use hurtig_dataflow::timers::{EVENT_SECTION, PROCESSING_SECTION, TimeDomain};
use hurtig_state::{OperatorSnapshot, Redistribution, ValueState};
use std::sync::Arc;

fn script() -> Script<i64> {
    Script::new()
        .records((0..20).map(|n| (n, 10 + n % 5)))
        .watermark(12)
        .processing_time(40)
        .records((20..30).map(|n| (n, 50)))
        .watermark(60)
        .processing_time(200)
}

fn caught<O: Operator<i64, i64> + 'static>(factory: impl Fn() -> O + 'static) -> TortureFailure {
    Torture::new(factory)
        .run(&script())
        .expect_err("the planted bug was not found")
}

/// Whether the failure is of the expected kind; shows it otherwise.
macro_rules! assert_finds {
    ($factory:expr, $violation:pat) => {
        let failure = caught($factory);
        assert!(
            matches!(failure.violation, $violation),
            "found something else: {failure}"
        );
    };
}

/// An operator that is right except in what it does to its snapshot.
struct Forgets<O> {
    inner: O,
    forget: fn(&mut OperatorSnapshot),
}

impl<O: Operator<i64, i64>> Operator<i64, i64> for Forgets<O> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.inner.open(ctx)
    }
    fn process(
        &mut self,
        input: &mut Batch<i64>,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.inner.process(input, cx, out, b)
    }
    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.inner.on_watermark(wm, cx, out, b)
    }
    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.inner.on_processing_time(now, cx, out, b)
    }
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.inner.snapshot(snapshot)?;
        (self.forget)(snapshot);
        Ok(())
    }
}

/// Counts by key and reports by timers of both domains.
struct Counting(ValueState<i64>);

impl KeyedProcessFunction<i64, i64, i64> for Counting {
    fn process(&mut self, n: i64, cx: KeyedCx<'_, i64>, _: &mut Emitter<'_, i64>) -> Result<(), UserError> {
        self.0.update(cx, |count| *count += 1);
        cx.register_event_timer(n % 3 + 12);
        cx.register_processing_timer(n % 4 + 35);
        Ok(())
    }
    fn on_timer(
        &mut self,
        time: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, i64>,
        out: &mut Emitter<'_, i64>,
    ) -> Result<(), UserError> {
        out.emit(time * 1_000 + cx.key() * 100 + self.0.get_cloned(cx).unwrap_or(0));
        Ok(())
    }
}

fn by_remainder() -> Arc<ByValue<impl Fn(&i64) -> i64, i64>> {
    Arc::new(ByValue::new(|n: &i64| n % 3))
}

fn counting() -> impl Operator<i64, i64> {
    KeyedProcess::with_state(by_remainder(), |ctx| Ok(Counting(ctx.value("count")?)))
}

#[test]
fn the_operators_that_bugs_are_planted_into_are_sound() {
    Torture::new(counting).run(&script()).unwrap();
    Torture::new(|| Planted(Bug::None, 0)).run(&script()).unwrap();
}

#[test]
fn timers_left_out_of_the_snapshot() {
    let no_event = |s: &mut OperatorSnapshot| drop(s.keyed.remove(EVENT_SECTION));
    assert_finds!(
        move || Forgets {
            inner: counting(),
            forget: no_event
        },
        Violation::OutputDiffers { .. }
    );
    let no_processing = |s: &mut OperatorSnapshot| drop(s.keyed.remove(PROCESSING_SECTION));
    assert_finds!(
        move || Forgets {
            inner: counting(),
            forget: no_processing
        },
        Violation::OutputDiffers { .. }
    );
}

#[test]
fn one_timer_or_value_left_out_of_the_snapshot() {
    let one_timer = |s: &mut OperatorSnapshot| drop(s.keyed.get_mut(EVENT_SECTION).and_then(Vec::pop));
    assert_finds!(
        move || Forgets {
            inner: counting(),
            forget: one_timer
        },
        Violation::OutputDiffers { .. }
    );
    let one_value = |s: &mut OperatorSnapshot| drop(s.keyed.get_mut("count").and_then(Vec::pop));
    assert_finds!(
        move || Forgets {
            inner: counting(),
            forget: one_value
        },
        Violation::OutputDiffers { .. }
    );
}

#[test]
fn rolling_state_left_out_of_the_snapshot() {
    let sum = || {
        Reduce::new(
            by_remainder(),
            Arc::new(rolling::sum(|n: &i64| *n, |n, sum| *n = sum)),
        )
    };
    let nothing = |s: &mut OperatorSnapshot| s.keyed.clear();
    assert_finds!(
        move || Forgets {
            inner: sum(),
            forget: nothing
        },
        Violation::OutputDiffers { .. }
    );
}

#[test]
fn an_iterator_lost_in_the_snapshot() {
    let repeat = || FlatMapIter::new(Arc::new(|n: i64| (0..n % 4).map(move |i| n * 10 + i)));
    let nothing = |s: &mut OperatorSnapshot| s.operator.clear();
    assert_finds!(
        move || Forgets {
            inner: repeat(),
            forget: nothing
        },
        Violation::OutputDiffers { .. }
    );
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    DoneWithInputLeft,
    MoreForever,
    IgnoresFull,
    IgnoresFuel,
    LosesRecordWhenFull,
    DependsOnBatches,
    TimeOfFirstRecord,
    ReordersWithinBatch,
    WaitsForNothing,
    Panics,
    SnapshotTakesStateAway,
    RestoresTwice,
    FailsToRestore,
    EmitsWatermarkTwice,
}

/// Emits the running sum, with a bug.
struct Planted(Bug, i64);

impl Planted {
    fn step(&mut self, input: &mut Batch<i64>, out: &mut Collector<i64>) {
        let first = input.time(0);
        if self.0 == Bug::ReordersWithinBatch && input.len() > 1 {
            input.records_mut().swap(0, 1);
        }
        let (n, time) = input.pop_front().unwrap();
        self.1 += n;
        if self.0 == Bug::LosesRecordWhenFull && out.room() == 1 && n % 2 == 0 {
            return;
        }
        out.push_at(
            self.1,
            if self.0 == Bug::TimeOfFirstRecord {
                first.max(12)
            } else {
                time
            },
        );
    }
}

impl Operator<i64, i64> for Planted {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        if let Some(snapshot) = ctx.restored() {
            if self.0 == Bug::FailsToRestore {
                return Err(Error::user("cannot read the sum"));
            }
            self.1 = snapshot.operator::<i64>("sum")?.iter().sum();
            if self.0 == Bug::RestoresTwice {
                self.1 *= 2;
            }
        }
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<i64>,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        if self.0 == Bug::DependsOnBatches {
            self.1 += input.len() as i64 / 10;
        }
        if self.0 == Bug::TimeOfFirstRecord && input.len() > 4 {
            let time = input.time(0);
            input.assign_common_time(time);
        }
        while !input.is_empty() {
            if out.full() && self.0 != Bug::IgnoresFull {
                return Ok(Progress::More);
            }
            if self.0 != Bug::IgnoresFuel && !b.spend() {
                return Ok(Progress::More);
            }
            match self.0 {
                Bug::MoreForever if input.len() == 3 => continue,
                Bug::WaitsForNothing if input.len() == 3 => return Ok(Progress::Wait),
                Bug::Panics if out.len() == 5 => panic!("planted"),
                _ => self.step(input, out),
            }
            if self.0 == Bug::DoneWithInputLeft && input.len() == 1 {
                return Ok(Progress::Done);
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        if self.0 == Bug::EmitsWatermarkTwice {
            // Emits before it asks for fuel, so a call that is repeated emits again.
            out.push_at(self.1, wm);
            if !b.spend() || b.left() == 0 || out.full() {
                return Ok(if out.len().is_multiple_of(3) {
                    Progress::Done
                } else {
                    Progress::More
                });
            }
        }
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("sum", Redistribution::Split, &[self.1])?;
        if self.0 == Bug::SnapshotTakesStateAway {
            self.1 = 0;
        }
        Ok(())
    }
}

/// Returns More at once, every second time, without having done anything.
struct Idler(bool);

impl Operator<i64, i64> for Idler {
    fn process(
        &mut self,
        input: &mut Batch<i64>,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.0 = !self.0;
        if self.0 {
            return Ok(Progress::More);
        }
        let n = b.take(input.len().min(out.room()));
        out.batch().append(input, n);
        Ok(if input.is_empty() {
            Progress::Done
        } else {
            Progress::More
        })
    }
}

#[test]
fn more_without_progress() {
    assert_finds!(|| Idler(false), Violation::NoProgress);
}

#[test]
fn done_with_input_left() {
    assert_finds!(
        || Planted(Bug::DoneWithInputLeft, 0),
        Violation::DoneWithInput { left: 1 }
    );
}

#[test]
fn more_for_ever() {
    assert_finds!(|| Planted(Bug::MoreForever, 0), Violation::NeverDone { .. });
}

#[test]
fn full_output_ignored() {
    assert_finds!(
        || Planted(Bug::IgnoresFull, 0),
        Violation::Overshot { .. } | Violation::PushedIntoFull { .. }
    );
}

#[test]
fn fuel_ignored() {
    assert_finds!(
        || Planted(Bug::IgnoresFuel, 0),
        Violation::OverBudget { fuel: 1, .. }
    );
}

#[test]
fn records_lost_or_changed() {
    for bug in [
        Bug::LosesRecordWhenFull,
        Bug::DependsOnBatches,
        Bug::TimeOfFirstRecord,
        Bug::ReordersWithinBatch,
        Bug::SnapshotTakesStateAway,
        Bug::RestoresTwice,
    ] {
        let failure = caught(move || Planted(bug, 0));
        assert!(
            matches!(failure.violation, Violation::OutputDiffers { .. }),
            "{bug:?} found as {failure}"
        );
    }
}

#[test]
fn waiting_for_nothing() {
    assert_finds!(|| Planted(Bug::WaitsForNothing, 0), Violation::WaitsForNothing);
}

#[test]
fn panics_and_errors() {
    let failure = caught(|| Planted(Bug::Panics, 0));
    assert!(failure.to_string().contains("panicked: planted"), "{failure}");
    let failure = caught(|| Planted(Bug::FailsToRestore, 0));
    assert!(failure.to_string().contains("cannot read the sum"), "{failure}");
}

#[test]
fn output_repeated_with_the_call() {
    let failure = caught(|| Planted(Bug::EmitsWatermarkTwice, 0));
    let expected = matches!(
        failure.violation,
        Violation::OutputDiffers { .. } | Violation::PushedIntoFull { .. } | Violation::NeverDone { .. }
    );
    assert!(expected, "{failure}");
}

/// Sends everything to a side output and never asks whether it is full.
struct Sideways(OutputTag<i64>);

impl Operator<i64, i64> for Sideways {
    fn process(
        &mut self,
        input: &mut Batch<i64>,
        cx: Cx<'_>,
        _: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        while !input.is_empty() {
            if !b.spend() {
                return Ok(Progress::More);
            }
            let (n, time) = input.pop_front().unwrap();
            cx.side_output(&self.0, n, time);
        }
        Ok(Progress::Done)
    }
}

#[test]
fn full_side_output_ignored() {
    let tag = OutputTag::<i64>::new("side");
    let made = tag.clone();
    let failure = Torture::new(move || Sideways(made.clone()))
        .side(&tag)
        .run(&script())
        .expect_err("not found");
    assert!(
        matches!(
            failure.violation,
            Violation::PushedIntoFull { .. } | Violation::Overshot { .. }
        ),
        "{failure}"
    );
}

#[test]
fn a_failure_says_where_and_what() {
    let text = caught(|| Planted(Bug::RestoresTwice, 0)).to_string();
    assert!(text.contains("restored after every return"), "{text}");
    assert!(text.contains("plain:") && text.contains("here:"), "{text}");
}
