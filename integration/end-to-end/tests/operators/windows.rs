//! Windows with every kind of function, against models that hold all records.

use crate::common::{Random, env, env_with, multiset, run, same, sorted};
use hurtig::dataflow::windows::{TriggerContext, TriggerResult};
use hurtig::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Done = std::result::Result<(), UserError>;

/// Key, event time, value.
type Reading = (i64, i64, i64);
/// Key, start and end of a window, and what came out.
type Row<V> = (i64, i64, i64, V);

const OUT_OF_ORDER_MS: i64 = 40;

/// Records whose times go back by at most [`OUT_OF_ORDER_MS`], so that none is late.
fn readings(seed: u64, count: usize) -> Vec<Reading> {
    let mut random = Random(seed);
    let mut highest = -300;
    let mut reading = |_| {
        // Now and then a gap that ends sessions.
        highest += if random.below(40) == 0 {
            150
        } else {
            random.below(6) as i64
        };
        let time = highest - random.below(OUT_OF_ORDER_MS as u64) as i64;
        (random.below(7) as i64, time, random.below(1_000) as i64)
    };
    (0..count).map(&mut reading).collect()
}

fn stream(env: &StreamEnv, readings: &[Reading]) -> DataStream<Reading> {
    let bound = Duration::from_millis(OUT_OF_ORDER_MS as u64);
    env.from_source(
        CollectionSource::new(readings),
        Watermarks::bounded(bound, |r: &Reading| r.1),
    )
}

/// The values of each key and window, in order of arrival.
type Windows = BTreeMap<(i64, i64, i64), Vec<i64>>;

/// Windows that begin at every multiple of `slide` and are `size` long.
fn grid(readings: &[Reading], size: i64, slide: i64) -> Windows {
    let mut windows = Windows::new();
    for &(key, time, value) in readings {
        let mut start = time.div_euclid(slide) * slide;
        while start > time - size {
            windows.entry((key, start, start + size)).or_default().push(value);
            start -= slide;
        }
    }
    windows
}

/// Records of a key with less than `gap` between neighbours.
fn sessions(readings: &[Reading], gap: i64) -> Windows {
    let mut by_key: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    for &(key, time, value) in readings {
        by_key.entry(key).or_default().push((time, value));
    }
    let mut windows = Windows::new();
    for (key, mut records) in by_key {
        records.sort_by_key(|record| record.0);
        let mut from = 0;
        for at in 1..=records.len() {
            if at == records.len() || records[at].0 - records[at - 1].0 > gap {
                let part = &records[from..at];
                let window = (key, part[0].0, part[part.len() - 1].0 + gap);
                windows.insert(window, part.iter().map(|record| record.1).collect());
                from = at;
            }
        }
    }
    windows
}

/// What a function makes of each window.
fn rows<V: Ord>(windows: &Windows, of: impl Fn(&[i64]) -> V) -> BTreeMap<Row<V>, usize> {
    multiset(
        windows
            .iter()
            .map(|((key, start, end), values)| (*key, *start, *end, of(values))),
    )
}

fn ascending(values: &[i64]) -> Vec<i64> {
    sorted(values.to_vec())
}

/// Emits what it is given, sorted, with the window.
struct Tell;

impl ProcessWindowFunction<Reading, i64, TimeWindow, Row<Vec<i64>>> for Tell {
    type WindowState = ();
    type GlobalState = ();

    fn process(
        &mut self,
        key: &i64,
        cx: &mut WindowContext<'_, TimeWindow>,
        elements: Elements<'_, Reading>,
        out: &mut Collector<Row<Vec<i64>>>,
    ) -> Done {
        let values: Vec<i64> = elements.iter().map(|r| r.2).collect();
        out.push((*key, cx.window.start, cx.window.end, ascending(&values)));
        Ok(())
    }
}

/// Emits results of an aggregate, with the window.
struct TellResult;

impl ProcessWindowFunction<i64, i64, TimeWindow, Row<i64>> for TellResult {
    type WindowState = ();
    type GlobalState = ();

    fn process(
        &mut self,
        key: &i64,
        cx: &mut WindowContext<'_, TimeWindow>,
        results: Elements<'_, i64>,
        out: &mut Collector<Row<i64>>,
    ) -> Done {
        assert_eq!(results.len(), 1, "an aggregate has one result");
        out.push((*key, cx.window.start, cx.window.end, *results.first().unwrap()));
        Ok(())
    }
}

fn value_sum() -> Sum<Reading, i64, fn(&Reading) -> i64> {
    Sum::of(|r: &Reading| r.2)
}

/// The last moments of time are in windows that are cut off there. Several sliding or cumulating windows that are cut off
/// are one to the operator that shares panes.
#[test]
fn records_at_the_end_of_time_are_in_windows() {
    fn agree<I>(assigner: impl Fn() -> I, cut_off: impl Fn(&(i64, i64, u64)) -> bool)
    where
        I: hurtig::IntoAssigner<Reading>,
        I::Assigner: WindowAssigner<Reading, Window = TimeWindow>,
    {
        let env = env(2);
        let times = [5, i64::MAX - 40, i64::MAX, i64::MAX - 1, i64::MAX];
        let keyed = stream(&env, &times.map(|time| (1, time, 1))).key_by(|r| r.0);
        let applied = keyed
            .window(assigner())
            .apply(|_, w, elements, out| out.push((w.start, w.end, elements.len() as u64)))
            .collect();
        let counted = keyed
            .window(assigner())
            .aggregate_then(Count::new(), |_, w, n, out| out.push((w.start, w.end, *n)))
            .collect();
        run(&env);
        let (applied, counted) = (sorted(applied.take()), sorted(counted.take()));
        let whole = |windows: &[(i64, i64, u64)]| -> Vec<_> {
            windows.iter().filter(|w| !cut_off(w)).copied().collect()
        };
        assert_eq!(whole(&applied), whole(&counted));
        let last = counted.iter().filter(|w| w.1 == i64::MAX);
        assert!(last.map(|w| w.2).sum::<u64>() >= 3, "{counted:?}");
    }
    agree(|| Tumbling::of(50.millis()), |_| false);
    agree(|| Sliding::of(90.millis(), 30.millis()), |w| w.1 == i64::MAX);
    agree(|| Cumulating::of(60.millis(), 20.millis()), |w| w.1 == i64::MAX);
}

/// Every kind of function on windows of one assigner, in one job.
fn every_function<I>(parallelism: u32, readings: &[Reading], windows: &Windows, assigner: impl Fn() -> I)
where
    I: hurtig::IntoAssigner<Reading>,
    I::Assigner: WindowAssigner<Reading, Window = TimeWindow>,
{
    let env = env(parallelism);
    let keyed = stream(&env, readings).rebalance().map(|r| r).key_by(|r| r.0);
    let reduced = keyed
        .window(assigner())
        .reduce(|kept, next| kept.2 += next.2)
        .collect();
    let aggregated = keyed.window(assigner()).aggregate(value_sum()).collect();
    let counted = keyed
        .window(assigner())
        .aggregate_then(Count::new(), |key, w, count, out| {
            out.push((*key, w.start, w.end, *count));
        })
        .collect();
    let summed = keyed
        .window(assigner())
        .aggregate_process(value_sum(), || TellResult)
        .collect();
    let most = keyed
        .window(assigner())
        .reduce_process(
            |kept, next| {
                if next.2 > kept.2 {
                    *kept = next;
                }
            },
            || Tell,
        )
        .collect();
    let processed = keyed.window(assigner()).process(|| Tell).collect();
    let applied = keyed
        .window(assigner())
        .apply(|key, w, elements, out| out.push((*key, w.start, w.end, elements.len())))
        .collect();
    run(&env);
    let sum = |values: &[i64]| values.iter().sum::<i64>();
    let sums = multiset(windows.iter().map(|((key, ..), values)| (*key, sum(values))));
    same(
        &multiset(reduced.take().into_iter().map(|r| (r.0, r.2))),
        &sums,
        "reduce",
    );
    same(
        &multiset(aggregated.take()),
        &multiset(windows.values().map(|values| sum(values))),
        "aggregate",
    );
    same(
        &multiset(counted.take()),
        &rows(windows, |values| values.len() as u64),
        "aggregate_then",
    );
    same(&multiset(summed.take()), &rows(windows, sum), "aggregate_process");
    let greatest = rows(windows, |values| {
        values.iter().copied().max().into_iter().collect::<Vec<_>>()
    });
    same(&multiset(most.take()), &greatest, "reduce_process");
    same(&multiset(processed.take()), &rows(windows, ascending), "process");
    same(&multiset(applied.take()), &rows(windows, <[i64]>::len), "apply");
}

#[test]
fn every_function_on_tumbling_windows() {
    for (parallelism, seed) in [(1, 1), (2, 2), (4, 3)] {
        let readings = readings(seed, 3_000);
        every_function(parallelism, &readings, &grid(&readings, 50, 50), || {
            Tumbling::of(50.millis())
        });
    }
}

#[test]
fn every_function_on_sliding_windows() {
    for (parallelism, seed) in [(1, 4), (2, 5), (4, 6)] {
        let readings = readings(seed, 2_000);
        every_function(parallelism, &readings, &grid(&readings, 90, 30), || {
            Sliding::of(90.millis(), 30.millis())
        });
    }
}

#[test]
fn every_function_on_session_windows() {
    for (parallelism, seed) in [(1, 7), (2, 8), (4, 9)] {
        let readings = readings(seed, 3_000);
        every_function(parallelism, &readings, &sessions(&readings, 60), || {
            Session::with_gap(60.millis())
        });
    }
}

#[test]
fn windows_over_the_whole_stream_hold_all_keys_and_run_in_one_subtask() {
    for parallelism in [1, 2, 4] {
        let readings = readings(10 + u64::from(parallelism), 2_000);
        let env = env(parallelism);
        let all = stream(&env, &readings).rebalance().map(|r| r);
        let applied = all
            .window_all(Tumbling::of(50.millis()))
            .apply(|_, w, elements, out| {
                out.push((0, w.start, w.end, elements.iter().map(|r| r.2).sum::<i64>()));
            })
            .collect();
        let counted = all
            .window_all(Sliding::of(90.millis(), 30.millis()))
            .aggregate(Count::new())
            .collect();
        run(&env);
        let one_key: Vec<Reading> = readings.iter().map(|r| (0, r.1, r.2)).collect();
        let sums = rows(&grid(&one_key, 50, 50), |values| values.iter().sum::<i64>());
        same(&multiset(applied.take()), &sums, "apply");
        let counts = grid(&one_key, 90, 30)
            .into_values()
            .map(|values| values.len() as u64);
        same(&multiset(counted.take()), &multiset(counts), "aggregate");
    }
}

/// Keeps odd values only.
#[derive(Clone, Copy)]
struct OddOnly;

impl Evictor<Reading, TimeWindow> for OddOnly {
    fn evict_before(&self, elements: &mut Vec<(i64, Reading)>, _: &TimeWindow) {
        elements.retain(|(_, r)| r.2 % 2 == 1);
    }

    fn evict_after(&self, _: &mut Vec<(i64, Reading)>, _: &TimeWindow) {}
}

#[test]
fn evictors_work_before_every_function() {
    for parallelism in [1, 2, 4] {
        let readings = readings(20 + u64::from(parallelism), 2_000);
        let env = env(parallelism);
        let keyed = stream(&env, &readings).key_by(|r| r.0);
        let windows = || keyed.window(Tumbling::of(50.millis())).evictor(OddOnly);
        let applied = windows()
            .apply(|key, w, elements, out| out.push((*key, w.start, w.end, elements.len())))
            .collect();
        let summed = windows().aggregate_process(value_sum(), || TellResult).collect();
        let reduced = windows()
            .reduce_process(|kept, next| kept.2 += next.2, || Tell)
            .collect();
        let last = keyed
            .window(Tumbling::of(50.millis()))
            .evictor(CountEvictor::of(2))
            .process(|| Tell)
            .collect();
        run(&env);
        let odd = |values: &[i64]| -> Vec<i64> { values.iter().copied().filter(|v| v % 2 == 1).collect() };
        let all = grid(&readings, 50, 50);
        same(
            &multiset(applied.take()),
            &rows(&all, |values| odd(values).len()),
            "apply",
        );
        same(
            &multiset(summed.take()),
            &rows(&all, |values| odd(values).iter().sum::<i64>()),
            "aggregate",
        );
        // Nothing can be reduced to nothing: a window without odd values emits nothing then.
        let mut some = all.clone();
        some.retain(|_, values| !odd(values).is_empty());
        let sums = rows(&some, |values| vec![odd(values).iter().sum::<i64>()]);
        same(&multiset(reduced.take()), &sums, "reduce");
        let last_two = rows(&all, |values| {
            ascending(&values[values.len().saturating_sub(2)..])
        });
        same(&multiset(last.take()), &last_two, "count evictor");
    }
}

/// Fires and forgets at every value that 10 divides, and at the end of the window.
#[derive(Clone, Copy)]
struct AtTens;

impl Trigger<Reading, TimeWindow> for AtTens {
    type State = u32;

    fn on_element(&self, r: &Reading, _: i64, cx: &mut TriggerContext<'_, TimeWindow, u32>) -> TriggerResult {
        if *cx.state == 0 {
            cx.register_event_time_timer(cx.window.max_timestamp());
        }
        *cx.state += 1;
        if r.2 % 10 == 0 {
            TriggerResult::FireAndPurge
        } else {
            TriggerResult::Continue
        }
    }

    fn on_event_time(&self, _: i64, _: &mut TriggerContext<'_, TimeWindow, u32>) -> TriggerResult {
        TriggerResult::Fire
    }

    fn on_processing_time(&self, _: i64, _: &mut TriggerContext<'_, TimeWindow, u32>) -> TriggerResult {
        TriggerResult::Continue
    }
}

#[test]
fn a_custom_trigger_decides_when_windows_fire() {
    for parallelism in [1, 2, 4] {
        let readings = readings(30 + u64::from(parallelism), 2_000);
        let env = env(parallelism);
        let windows = || {
            stream(&env, &readings)
                .key_by(|r| r.0)
                .window(Tumbling::of(50.millis()))
                .trigger(AtTens)
        };
        let applied = windows().process(|| Tell).collect();
        let summed = windows().aggregate_process(value_sum(), || TellResult).collect();
        run(&env);
        let mut parts: Vec<Row<Vec<i64>>> = Vec::new();
        for ((key, start, end), values) in grid(&readings, 50, 50) {
            let pieces = values.split_inclusive(|value| value % 10 == 0);
            parts.extend(pieces.map(|piece| (key, start, end, ascending(piece))));
        }
        let sums = multiset(
            parts
                .iter()
                .map(|(key, start, end, values)| (*key, *start, *end, values.iter().sum())),
        );
        same(&multiset(applied.take()), &multiset(parts), "process");
        same(&multiset(summed.take()), &sums, "aggregate");
    }
}

#[test]
fn count_windows_hold_so_many_records_of_a_key_in_order() {
    for parallelism in [1, 2, 4] {
        let readings = readings(40 + u64::from(parallelism), 2_000);
        let env = env(parallelism);
        let fours = stream(&env, &readings)
            .key_by(|r| r.0)
            .window(GlobalWindows::create())
            .trigger(PurgingTrigger::of(CountTrigger::of(4).unwrap()))
            .apply(|key, _, elements, out| {
                out.push((*key, elements.iter().map(|r| r.2).collect::<Vec<_>>()));
            })
            .collect();
        run(&env);
        let mut by_key: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        readings
            .iter()
            .for_each(|r| by_key.entry(r.0).or_default().push(r.2));
        let whole = |(key, values): (i64, Vec<i64>)| {
            let chunks: Vec<_> = values.chunks_exact(4).map(|four| (key, four.to_vec())).collect();
            chunks
        };
        same(
            &multiset(fours.take()),
            &multiset(by_key.into_iter().flat_map(whole)),
            "count windows",
        );
    }
}

/// Numbers the firings of each window, and the windows of each key.
struct Numbered;

impl ProcessWindowFunction<Reading, i64, TimeWindow, Row<(u32, u32)>> for Numbered {
    type WindowState = u32;
    type GlobalState = u32;

    fn process(
        &mut self,
        key: &i64,
        cx: &mut WindowContext<'_, TimeWindow, u32, u32>,
        _: Elements<'_, Reading>,
        out: &mut Collector<Row<(u32, u32)>>,
    ) -> Done {
        *cx.window_state += 1;
        if *cx.window_state == 1 {
            *cx.global_state += 1;
        }
        out.push((
            *key,
            cx.window.start,
            cx.window.end,
            (*cx.global_state, *cx.window_state),
        ));
        Ok(())
    }
}

#[test]
fn window_functions_keep_state_of_windows_and_of_keys() {
    for parallelism in [1, 2, 4] {
        let readings = readings(50 + u64::from(parallelism), 2_000);
        let env = env(parallelism);
        let numbered = stream(&env, &readings)
            .key_by(|r| r.0)
            .window(Tumbling::of(50.millis()))
            .process(|| Numbered)
            .collect();
        run(&env);
        // Without late records each window fires once, and windows of a key in order.
        let mut of_key: BTreeMap<i64, u32> = BTreeMap::new();
        let expected = grid(&readings, 50, 50).into_keys().map(|(key, start, end)| {
            let number = of_key.entry(key).or_default();
            *number += 1;
            (key, start, end, (*number, 1))
        });
        same(
            &multiset(numbered.take()),
            &multiset(expected),
            "numbered windows",
        );
    }
}

#[test]
fn every_record_is_in_a_window_or_late_and_only_late_ones_are() {
    for parallelism in [1, 2, 4] {
        let mut random = Random(60 + u64::from(parallelism));
        let wild: Vec<Reading> = (0..20_000)
            .map(|n| (n % 5, n / 4 - random.below(300) as i64, n))
            .collect();
        let env = env_with(
            parallelism,
            &["pipeline.auto-watermark-interval=1ms", "pipeline.batch-size=16"],
        );
        let late = OutputTag::<Reading>::new("late");
        let windows = env
            .from_source(
                CollectionSource::new(wild.clone()),
                Watermarks::monotonous(|r: &Reading| r.1),
            )
            .key_by(|r| r.0)
            .window(Tumbling::of(20.millis()))
            .side_output_late_data(&late)
            .apply(|_, _, elements, out| elements.iter().for_each(|r| out.push(r.2)));
        let (late, on_time) = (windows.side_output(&late).collect(), windows.collect());
        run(&env);
        let (late, on_time) = (late.take(), on_time.take());
        assert!(
            !late.is_empty(),
            "records that are hundreds of milliseconds behind are late"
        );
        let numbers = on_time.iter().copied().chain(late.iter().map(|r| r.2));
        same(
            &multiset(numbers),
            &multiset(0..20_000),
            "windows and late records together",
        );
        // Late is what comes when event time, at most the greatest time before it, has passed its window.
        let mut greatest = i64::MIN;
        let mut may_be_late = BTreeSet::new();
        for r in &wild {
            if (r.1.div_euclid(20) + 1) * 20 - 1 < greatest {
                may_be_late.insert(*r);
            }
            greatest = greatest.max(r.1);
        }
        assert!(late.iter().all(|r| may_be_late.contains(r)));
    }
}

#[test]
fn allowed_lateness_fires_again_with_what_came_late() {
    for parallelism in [1, 2] {
        let mut random = Random(70 + u64::from(parallelism));
        let wild: Vec<Reading> = (0..20_000)
            .map(|n| (n % 5, n / 4 - random.below(300) as i64, 1))
            .collect();
        let env = env_with(
            parallelism,
            &["pipeline.auto-watermark-interval=1ms", "pipeline.batch-size=16"],
        );
        let late = OutputTag::<Reading>::new("late");
        let windows = env
            .from_source(
                CollectionSource::new(wild.clone()),
                Watermarks::monotonous(|r: &Reading| r.1),
            )
            .key_by(|r| r.0)
            .window(Tumbling::of(20.millis()))
            .allowed_lateness(1.seconds())
            .side_output_late_data(&late)
            .aggregate_then(Count::new(), |key, w, count, out| {
                out.push((*key, w.start, w.end, *count));
            });
        let (late, counts) = (windows.side_output(&late).collect(), windows.collect());
        run(&env);
        assert_eq!(late.take(), Vec::<Reading>::new(), "nothing is a second late");
        let mut last: BTreeMap<(i64, i64, i64), u64> = BTreeMap::new();
        let mut firings = 0;
        for (key, start, end, count) in counts.take() {
            firings += 1;
            let before = last.insert((key, start, end), count).unwrap_or(0);
            assert!(before < count, "a window that fires again has grown");
        }
        let expected = grid(&wild, 20, 20)
            .into_iter()
            .map(|(window, values)| (window, values.len() as u64));
        let greatest: BTreeMap<(i64, i64, i64), u64> = expected.collect();
        same(&last, &greatest, "the last firing");
        assert!(firings > greatest.len(), "late records make windows fire again");
    }
}
