//! Side outputs through real tasks.

use crate::common::{Here, env, multiset, run, same, sorted};
use hurtig::prelude::*;
use std::collections::BTreeMap;

type Done = std::result::Result<(), UserError>;

/// Numbers that 3 divides go aside as they are, those that 5 divides as text; all others go on.
struct Sort {
    threes: OutputTag<i64>,
    fives: OutputTag<String>,
}

impl ProcessFunction<i64, i64> for Sort {
    fn process(&mut self, n: i64, cx: ProcessCx<'_>, out: &mut Emitter<'_, i64>) -> Done {
        match (n % 3, n % 5) {
            (0, _) => cx.side_output(&self.threes, n),
            (_, 0) => cx.side_output(&self.fives, n.to_string()),
            _ => out.emit(n),
        }
        Ok(())
    }
}

fn tags() -> (OutputTag<i64>, OutputTag<String>) {
    (OutputTag::new("threes"), OutputTag::new("fives"))
}

fn sort((threes, fives): (OutputTag<i64>, OutputTag<String>)) -> impl Fn() -> Sort + Send + Sync {
    move || Sort {
        threes: threes.clone(),
        fives: fives.clone(),
    }
}

fn threes() -> Vec<i64> {
    (0..3_000).filter(|n| n % 3 == 0).collect()
}

fn fives() -> Vec<String> {
    let fives = (0..3_000).filter(|n| n % 3 != 0 && n % 5 == 0);
    sorted(fives.map(|n| n.to_string()).collect())
}

fn others() -> Vec<i64> {
    (0..3_000).filter(|n| n % 3 != 0 && n % 5 != 0).collect()
}

#[test]
fn each_output_gets_its_records() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let main = env.from_sequence(0, 2_999).process(sort(tags()));
        let (threes_tag, fives_tag) = tags();
        let (by_three, by_five) = (
            main.side_output(&threes_tag).collect(),
            main.side_output(&fives_tag).collect(),
        );
        let main = main.collect();
        run(&env);
        assert_eq!(sorted(by_three.take()), threes(), "parallelism {parallelism}");
        assert_eq!(sorted(by_five.take()), fives(), "parallelism {parallelism}");
        assert_eq!(sorted(main.take()), others(), "parallelism {parallelism}");
    }
}

#[test]
fn a_side_output_that_alone_is_read_brings_its_records_and_not_the_main_ones() {
    for parallelism in [1, 2, 4] {
        for chained in [true, false] {
            let env = env(parallelism);
            if !chained {
                env.disable_operator_chaining();
            }
            let main = env.from_sequence(0, 2_999).process(sort(tags()));
            let doubled = main.side_output(&tags().0).map(|n| n * 2).collect();
            run(&env);
            let expected: Vec<i64> = threes().into_iter().map(|n| n * 2).collect();
            assert_eq!(sorted(doubled.take()), expected, "parallelism {parallelism}");
        }
    }
}

#[test]
fn a_side_output_has_any_number_of_readers_with_partitionings_of_their_own() {
    let env = env(2);
    let main = env.from_sequence(0, 2_999).process(sort(tags()));
    let side = main.side_output(&tags().0);
    let everywhere = side.broadcast().process(|| Here).set_parallelism(3).collect();
    let first = side.global().process(|| Here).collect();
    let counts = side.key_by(|n| n % 2).count().collect();
    run(&env);
    let expected: BTreeMap<(i64, u32), usize> = threes()
        .into_iter()
        .flat_map(|n| (0..3).map(move |at| ((n, at), 1)))
        .collect();
    same(&multiset(everywhere.take()), &expected, "broadcast");
    let expected: BTreeMap<(i64, u32), usize> = threes().into_iter().map(|n| ((n, 0), 1)).collect();
    same(&multiset(first.take()), &expected, "global");
    let all = counts.take();
    assert_eq!(all.len(), 1_000);
    assert_eq!(
        all.iter().filter(|(key, _)| *key == 1).map(|(_, n)| *n).max(),
        Some(500)
    );
}

#[test]
fn a_side_output_may_join_the_main_output_again() {
    for parallelism in [1, 2] {
        let env = env(parallelism);
        let main = env.from_sequence(0, 2_999).process(sort(tags()));
        let (by_three, by_five) = (main.side_output(&tags().0), main.side_output(&tags().1));
        let parsed = by_five.try_map(|text| Ok(text.parse::<i64>()?));
        let all = main.union(&by_three).union(&parsed).collect();
        run(&env);
        assert_eq!(sorted(all.take()), (0..3_000).collect::<Vec<i64>>());
    }
}

#[test]
fn operators_in_the_middle_of_a_chain_have_side_outputs() {
    for parallelism in [1, 2] {
        let env = env(parallelism);
        let first = env.from_sequence(0, 2_999).process(sort(tags()));
        let second = first.map(|n| n * 15).process(sort(tags()));
        let (early, late) = (
            first.side_output(&tags().0).collect(),
            second.side_output(&tags().0).collect(),
        );
        let rest = second.map(|n| n).collect();
        run(&env);
        assert_eq!(sorted(early.take()), threes());
        assert_eq!(
            sorted(late.take()),
            others().into_iter().map(|n| n * 15).collect::<Vec<_>>()
        );
        assert_eq!(rest.take(), Vec::<i64>::new());
    }
}

/// Every second record of a key goes aside.
struct EverySecond {
    odd: ValueState<bool>,
    tag: OutputTag<i64>,
}

impl KeyedProcessFunction<i64, i64, i64> for EverySecond {
    fn process(&mut self, n: i64, cx: KeyedCx<'_, i64>, out: &mut Emitter<'_, i64>) -> Done {
        let odd = self.odd.get_cloned(cx).unwrap_or(false);
        self.odd.set(cx, !odd);
        if odd {
            cx.side_output(&self.tag, n);
        } else {
            out.emit(n);
        }
        Ok(())
    }
}

#[test]
fn keyed_functions_have_side_outputs() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let tag = OutputTag::<i64>::new("second");
        let side = tag.clone();
        let main = env.from_sequence(0, 999).key_by(|n| n % 10).process(move |ctx| {
            Ok(EverySecond {
                odd: ctx.value("odd")?,
                tag: side.clone(),
            })
        });
        let (second, first) = (main.side_output(&tag).collect(), main.collect());
        run(&env);
        let (first, second) = (first.take(), second.take());
        let keys = |records: &[i64]| multiset(records.iter().map(|n| n % 10));
        let fifty: BTreeMap<i64, usize> = (0..10).map(|key| (key, 50)).collect();
        same(&keys(&first), &fifty, "main output");
        same(&keys(&second), &fifty, "side output");
        assert_eq!(sorted([first, second].concat()), (0..1_000).collect::<Vec<i64>>());
    }
}

/// Counts a window's records, and hands them on into a side output.
struct Both {
    tag: OutputTag<i64>,
}

impl ProcessWindowFunction<i64, i64, TimeWindow, usize> for Both {
    type WindowState = ();
    type GlobalState = ();

    fn process(
        &mut self,
        _: &i64,
        cx: &mut WindowContext<'_, TimeWindow>,
        elements: Elements<'_, i64>,
        out: &mut Collector<usize>,
    ) -> std::result::Result<(), UserError> {
        out.push(elements.len());
        for number in elements.iter() {
            cx.side_output(&self.tag, *number, cx.window.start);
        }
        Ok(())
    }
}

#[test]
fn window_functions_have_side_outputs() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let tag = OutputTag::<i64>::new("all");
        let side = tag.clone();
        let source = SequenceSource::new(0, 999);
        let windows = env
            .from_source(source, Watermarks::bounded(1_000.millis(), |n: &i64| *n))
            .key_by(|n| n % 7)
            .window(Tumbling::of(100.millis()))
            .process(move || Both { tag: side.clone() });
        let (counts, all) = (windows.collect(), windows.side_output(&tag).collect());
        run(&env);
        assert_eq!(counts.take().into_iter().sum::<usize>(), 1_000);
        assert_eq!(sorted(all.take()), (0..1_000).collect::<Vec<i64>>());
    }
}
