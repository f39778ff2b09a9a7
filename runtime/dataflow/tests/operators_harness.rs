//! Built-in operators with expected outputs worked out by hand, through the public harness.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use hurtig_core::UserError;
use hurtig_core::metrics::{Counter, MetricValue};
use hurtig_core::time::{DurationExt, MAX_WATERMARK, NO_TIMESTAMP};
use hurtig_dataflow::function::{Emitter, KeyedCx, KeyedProcessFunction, ProcessCx};
use hurtig_dataflow::key::ByValue;
use hurtig_dataflow::operator::{OpenContext, SubtaskInfo};
use hurtig_dataflow::operators::*;
use hurtig_dataflow::rich::{MapFunction, RichMap};
use hurtig_dataflow::testing::{Emitted, Harness};
use hurtig_dataflow::timers::TimeDomain;
use hurtig_state::{StateDescriptor, StateTtlConfig, ValueState};
use std::sync::Arc;
use std::time::Duration;

type Sale = (char, i64, u32);

fn by_shop() -> Arc<ByValue<impl Fn(&Sale) -> char, char>> {
    Arc::new(ByValue::new(|sale: &Sale| sale.0))
}

fn rolled<F: Fn(&mut Sale, Sale) + Send + Sync + 'static>(reduce: F) -> Vec<Sale> {
    let reduce = Arc::new(reduce);
    let mut harness = Harness::new(move || Reduce::new(by_shop(), reduce.clone())).unwrap();
    harness
        .push_all([
            (('a', 5, 1), 1),
            (('b', 2, 2), 2),
            (('a', 3, 3), 3),
            (('a', 3, 4), 4),
            (('b', 9, 5), 5),
        ])
        .unwrap();
    harness.values()
}

/// As in Flink: sum, min and max keep the other fields of the first record, min_by and max_by take
/// the whole record, the first of equal ones.
#[test]
fn rolling_aggregates_keep_the_fields_that_flink_keeps() {
    let get = |s: &Sale| s.1;
    let set = |s: &mut Sale, n| s.1 = n;
    assert_eq!(
        rolled(rolling::sum(get, set)),
        [('a', 5, 1), ('b', 2, 2), ('a', 8, 1), ('a', 11, 1), ('b', 11, 2)]
    );
    assert_eq!(
        rolled(rolling::min(get, set)),
        [('a', 5, 1), ('b', 2, 2), ('a', 3, 1), ('a', 3, 1), ('b', 2, 2)]
    );
    assert_eq!(
        rolled(rolling::max(get, set)),
        [('a', 5, 1), ('b', 2, 2), ('a', 5, 1), ('a', 5, 1), ('b', 9, 2)]
    );
    assert_eq!(
        rolled(rolling::min_by(get)),
        [('a', 5, 1), ('b', 2, 2), ('a', 3, 3), ('a', 3, 3), ('b', 2, 2)]
    );
    assert_eq!(
        rolled(rolling::max_by(get)),
        [('a', 5, 1), ('b', 2, 2), ('a', 5, 1), ('a', 5, 1), ('b', 9, 5)]
    );
}

#[test]
fn a_failing_closure_says_what_it_said() {
    let parse = |text: &'static str| text.parse::<i64>().map_err(UserError::from);
    let mut harness = Harness::new(move || TryMap::new(Arc::new(parse))).unwrap();
    harness.push("4", 1).unwrap();
    let error = harness.push("four", 2).unwrap_err();
    assert_eq!(error.fault(), hurtig_core::Fault::User);
    assert!(error.chain().contains("invalid digit"), "{}", error.chain());
    assert_eq!(harness.records(), [(4, 1)]);
}

#[test]
fn watermarks_made_in_mid_stream_replace_those_from_above() {
    let strategy = || Watermarks::bounded(10.millis(), |n: &i64| n * 100);
    let mut harness = Harness::new(move || AssignWatermarks::new(strategy(), 0.millis())).unwrap();
    harness.push(5, 1).unwrap();
    harness.watermark(4_000).unwrap();
    harness.push(3, 2).unwrap();
    harness.watermark(MAX_WATERMARK).unwrap();
    let expected = [
        Emitted::Record(5, 500),
        Emitted::Watermark(489),
        Emitted::Record(3, 300),
        Emitted::Watermark(MAX_WATERMARK),
    ];
    assert_eq!(harness.output(), expected);
}

#[test]
fn watermarks_behind_records_are_sent_behind_each_of_them_in_mid_stream() {
    let strategy = || Watermarks::bounded(10.millis(), |n: &i64| n * 100).with_emit_on_event(2);
    let mut harness = Harness::new(move || AssignWatermarks::new(strategy(), 1.hours())).unwrap();
    harness.push_all([(5, 0), (3, 0), (4, 0)]).unwrap();
    harness.push_all([(7, 0), (8, 0)]).unwrap();
    let expected = [
        Emitted::Record(5, 500),
        Emitted::Record(3, 300),
        Emitted::Watermark(489),
        Emitted::Record(4, 400),
        Emitted::Record(7, 700),
        Emitted::Watermark(689),
        Emitted::Record(8, 800),
    ];
    assert_eq!(harness.output(), expected);
}

/// Counts by key, and says so 100 ms of processing time after the first record.
struct Count(ValueState<u64>);

impl KeyedProcessFunction<u64, u64, (u64, u64)> for Count {
    fn process(
        &mut self,
        _: u64,
        cx: KeyedCx<'_, u64>,
        _: &mut Emitter<'_, (u64, u64)>,
    ) -> Result<(), UserError> {
        let count = self.0.update(cx, |count| {
            *count += 1;
            *count
        });
        if count == 1 {
            cx.register_processing_timer(cx.processing_time() + 100);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        domain: TimeDomain,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, (u64, u64)>,
    ) -> Result<(), UserError> {
        assert_eq!(domain, TimeDomain::Processing);
        out.emit((*cx.key(), self.0.get_cloned(cx).unwrap_or(0)));
        self.0.clear(cx);
        Ok(())
    }
}

fn counting() -> impl hurtig_dataflow::operator::Operator<u64, (u64, u64)> {
    KeyedProcess::with_state(Arc::new(ByValue::new(|n: &u64| *n)), |ctx| {
        Ok(Count(ctx.value("count")?))
    })
}

#[test]
fn processing_timers_survive_a_restore() {
    let mut harness = Harness::new(counting).unwrap();
    harness.processing_time(1_000).unwrap();
    harness.push_all([(7, 1), (7, 2)]).unwrap();
    assert_eq!(harness.scheduled(), Some(1_100));
    let snapshot = harness.snapshot().unwrap();
    let mut restored = harness.restore(&snapshot).unwrap();
    assert_eq!(restored.scheduled(), Some(1_100));
    restored.push(7, 3).unwrap();
    restored.processing_time(1_099).unwrap();
    assert!(restored.records().is_empty());
    restored.processing_time(1_100).unwrap();
    assert_eq!(restored.records(), [((7, 3), NO_TIMESTAMP)]);
}

/// Plans a timer of each time 10 later; a negative record takes back those of the positive one.
struct Plans;

impl KeyedProcessFunction<u64, i64, (u64, TimeDomain, i64)> for Plans {
    fn process(
        &mut self,
        n: i64,
        cx: KeyedCx<'_, u64>,
        _: &mut Emitter<'_, (u64, TimeDomain, i64)>,
    ) -> Result<(), UserError> {
        if n < 0 {
            cx.delete_event_timer(10 - n);
            cx.delete_processing_timer(10 - n);
        } else {
            cx.register_event_timer(n + 10);
            cx.register_event_timer(n + 10);
            cx.register_processing_timer(n + 10);
            cx.register_processing_timer(n + 10);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        domain: TimeDomain,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, (u64, TimeDomain, i64)>,
    ) -> Result<(), UserError> {
        out.emit((*cx.key(), domain, time));
        Ok(())
    }
}

#[test]
fn timers_fire_once_for_a_key_and_time_and_not_when_they_were_taken_back() {
    use TimeDomain::{Event, Processing};
    let make = || {
        let by_half = Arc::new(ByValue::new(|n: &i64| n.unsigned_abs() % 2));
        KeyedProcess::new(by_half, || Plans)
    };
    let mut harness = Harness::new(make).unwrap();
    // 4 and 6 are of one key, 5 and 7 of the other; -9 has nothing to take back.
    harness
        .push_all([4, 5, 6, 7, -4, -7, -9].map(|n| (n, 0)))
        .unwrap();
    harness.watermark(100).unwrap();
    harness.processing_time(100).unwrap();
    let fired: Vec<_> = harness.records().into_iter().map(|(fired, _)| fired).collect();
    assert_eq!(
        fired,
        [
            (1, Event, 15),
            (0, Event, 16),
            (1, Processing, 15),
            (0, Processing, 16)
        ]
    );
}

/// State and timers of a snapshot are divided by key group: two new subtasks have each key once.
#[test]
fn a_snapshot_is_divided_between_more_subtasks() {
    let mut harness = Harness::new(counting).unwrap();
    harness.push_all((0..50).map(|n| (n, 1))).unwrap();
    let snapshot = harness.snapshot().unwrap();
    let mut all = Vec::new();
    for (index, key_groups) in [(0, 0..64), (1, 64..128)] {
        let info = SubtaskInfo {
            index,
            parallelism: 2,
            key_groups,
            ..SubtaskInfo::single("count")
        };
        let mut part = Harness::as_subtask(counting, info, Some(&snapshot)).unwrap();
        part.processing_time(100).unwrap();
        let fired = part.values();
        assert!(fired.len() > 10, "subtask {index} fired {} timers", fired.len());
        all.extend(fired);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq((0..50).map(|n| (n, 1))));
}

/// Counts by key, and forgets a key that has not come for 50 ms.
struct Recent(ValueState<u64>);

impl KeyedProcessFunction<u64, u64, (u64, u64)> for Recent {
    fn process(
        &mut self,
        _: u64,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, (u64, u64)>,
    ) -> Result<(), UserError> {
        let count = self.0.update(cx, |count| {
            *count += 1;
            *count
        });
        out.emit((*cx.key(), count));
        Ok(())
    }
}

fn recent() -> impl hurtig_dataflow::operator::Operator<u64, (u64, u64)> {
    KeyedProcess::with_state(Arc::new(ByValue::new(|n: &u64| *n)), |ctx| {
        let ttl = StateTtlConfig::new(Duration::from_millis(50)).cleanup_full_snapshot();
        Ok(Recent(
            ctx.value(StateDescriptor::new("count").enable_time_to_live(ttl))?,
        ))
    })
}

#[test]
fn a_time_to_live_goes_by_the_operators_clock_and_survives_a_restore() {
    let mut harness = Harness::new(recent).unwrap();
    harness.processing_time(1_000).unwrap();
    harness.push_all([(7, 1), (7, 2), (8, 2)]).unwrap();
    harness.processing_time(1_049).unwrap();
    harness.push(7, 3).unwrap();
    assert_eq!(harness.values(), [(7, 1), (7, 2), (8, 1), (7, 3)]);
    harness.processing_time(1_050).unwrap();
    let snapshot = harness.snapshot().unwrap();
    assert_eq!(snapshot.keyed("count").len(), 1, "8 has expired");
    let mut restored = harness.restore(&snapshot).unwrap();
    restored.processing_time(1_098).unwrap();
    restored.push_all([(7, 4), (8, 4)]).unwrap();
    restored.processing_time(1_148).unwrap();
    restored.push(7, 5).unwrap();
    assert_eq!(restored.values(), [(7, 4), (8, 1), (7, 1)]);
}

/// Adds a parameter of the job, and counts.
#[derive(Default)]
struct Add {
    more: i64,
    records: Option<Counter>,
}

impl MapFunction<i64, i64> for Add {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.more = ctx
            .job_parameters()
            .get("more")
            .ok_or("no parameter 'more'")?
            .parse()?;
        self.records = Some(ctx.metrics().child("group", "mine").counter("records"));
        Ok(())
    }

    fn map(&mut self, n: i64, _: ProcessCx<'_>) -> Result<i64, UserError> {
        self.records.iter().for_each(Counter::inc);
        Ok(n + self.more)
    }
}

#[test]
fn functions_find_parameters_and_show_metrics() {
    let make = || Process::new(|| RichMap(Add::default()));
    let error = Harness::new(make).unwrap_err().to_string();
    assert_eq!(error, "no parameter 'more'");
    let parameters = [("more".to_owned(), "5".to_owned())].into();
    let mut harness = Harness::with_parameters(make, parameters).unwrap();
    harness.push_all([(1, 1), (2, 2)]).unwrap();
    assert_eq!(harness.values(), [6, 7]);
    let metrics = harness.metrics();
    assert_eq!(
        (metrics[0].name.as_str(), &metrics[0].value),
        ("records", &MetricValue::Counter(2))
    );
    assert_eq!(metrics[0].scope.get("group"), Some("mine"));
    let snapshot = harness.snapshot().unwrap();
    let restored = harness.restore(&snapshot).unwrap();
    assert_eq!(
        restored.metrics()[0].value,
        MetricValue::Counter(0),
        "a new attempt measures anew"
    );
}
