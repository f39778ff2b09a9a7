//! Unions: everything of every input, once.

use crate::common::{Here, env, env_with, multiset, run, same, sorted};
use hurtig::prelude::*;
use std::collections::BTreeMap;

#[test]
fn a_union_holds_every_record_of_every_input_in_the_order_of_its_subtask() {
    for parallelism in [1, 2, 4] {
        let env = env(1);
        let sequence = |from, to| env.from_sequence(from, to).set_parallelism(parallelism);
        let first = sequence(0, 999)
            .process(|| Here)
            .set_parallelism(parallelism)
            .map(|(n, at)| (0, at, n))
            .set_parallelism(parallelism);
        let second = env
            .from_collection((1_000..1_500).collect::<Vec<i64>>())
            .process(|| Here)
            .map(|(n, at)| (1, at, n));
        let third = sequence(5_000, 5_999)
            .rebalance()
            .process(|| Here)
            .map(|(n, at)| (2, at, n));
        let all = first.union(&second).union(&third).global().collect();
        run(&env);
        let all = all.take();
        let expected: Vec<i64> = (0..1_500).chain(5_000..6_000).collect();
        assert_eq!(
            sorted(all.iter().map(|r| r.2).collect()),
            expected,
            "parallelism {parallelism}"
        );
        let mut last: BTreeMap<(i32, u32), i64> = BTreeMap::new();
        for (input, subtask, n) in all.into_iter().filter(|r| r.0 != 2) {
            assert!(last.insert((input, subtask), n).is_none_or(|before| before < n));
        }
    }
}

#[test]
fn a_union_of_a_stream_with_itself_holds_everything_twice() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let numbers = env.from_sequence(1, 500).map(|n: i64| n * 3);
        let twice = numbers.union(&numbers).map(|n| n).collect();
        run(&env);
        let expected: BTreeMap<i64, usize> = (1..=500).map(|n| (n * 3, 2)).collect();
        same(
            &multiset(twice.take()),
            &expected,
            &format!("parallelism {parallelism}"),
        );
    }
}

#[test]
fn each_part_of_a_union_keeps_its_own_partitioning() {
    let env = env(2);
    let numbers = env.from_sequence(0, 999);
    // Twice the same producer and the same consumer, by different ways.
    let both = numbers.broadcast().union(&numbers.global());
    let arrived = both.process(|| Here).set_parallelism(3).collect();
    run(&env);
    let arrived = arrived.take();
    for subtask in 0..3 {
        let here = arrived.iter().filter(|(_, at)| *at == subtask).map(|(n, _)| *n);
        // Everyone has the broadcast; the first one also what goes to the first.
        let copies = if subtask == 0 { 2 } else { 1 };
        let expected: BTreeMap<i64, usize> = (0..1_000).map(|n| (n, copies)).collect();
        same(&multiset(here), &expected, &format!("subtask {subtask}"));
    }
}

#[test]
fn a_keyed_union_brings_the_same_keys_together() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let evens = env.from_sequence(0, 999).filter(|n| n % 2 == 0);
        let odds = env.from_sequence(0, 999).filter(|n| n % 2 == 1);
        let counts = evens.union(&odds).key_by(|n| n % 10 / 2).count().collect();
        run(&env);
        let mut last = BTreeMap::new();
        for (key, count) in counts.take() {
            let most = last.entry(key).or_insert(0);
            *most = count.max(*most);
        }
        assert_eq!(last, (0..5).map(|key| (key, 200)).collect());
    }
}

#[test]
fn event_time_of_a_union_is_the_least_of_its_inputs() {
    for parallelism in [1, 2] {
        let env = env_with(parallelism, &["pipeline.auto-watermark-interval=1ms"]);
        let times = || Watermarks::monotonous(|n: &i64| *n);
        let fast = env.from_source(SequenceSource::new(0, 20_000), times());
        let slow = env.from_source(SequenceSource::new(0, 9_999), times());
        let late = OutputTag::<i64>::new("late");
        let sums = fast
            .union(&slow)
            .key_by(|n| n % 3)
            .window(Tumbling::of(100.millis()))
            .side_output_late_data(&late)
            .aggregate_then(Count::new(), |key, window, count, out| {
                out.push((*key, window.start, *count));
            });
        let late = sums.side_output(&late).collect();
        let sums = sums.collect();
        run(&env);
        assert_eq!(
            late.take(),
            Vec::<i64>::new(),
            "no input is ahead of the union's event time"
        );
        let mut expected = BTreeMap::new();
        for n in (0..=20_000).chain(0..=9_999) {
            *expected.entry((n % 3, n / 100 * 100)).or_insert(0u64) += 1;
        }
        let found: BTreeMap<(i64, i64), u64> = sums.take().into_iter().map(|(k, w, c)| ((k, w), c)).collect();
        same(&found, &expected, "windows");
    }
}
