//! Connected streams.

use crate::common::{env, multiset, run, same, sorted};
use hurtig::prelude::*;
use std::collections::BTreeMap;

type Done = std::result::Result<(), UserError>;

#[test]
fn co_map_uses_one_function_for_each_input() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let numbers = env.from_sequence(1, 700);
        let words = env
            .from_collection((0..300).map(|n| format!("w{n}")).collect::<Vec<_>>())
            .rebalance();
        let both = numbers
            .connect(&words)
            .map(|n| format!("n{n}"), |word| word + "!")
            .collect();
        run(&env);
        let expected = (1..=700)
            .map(|n| format!("n{n}"))
            .chain((0..300).map(|n| format!("w{n}!")));
        same(&multiset(both.take()), &multiset(expected), "records");
    }
}

#[test]
fn co_flat_map_emits_any_number_and_may_fail() {
    for parallelism in [1, 2] {
        let env = env(parallelism);
        let numbers = env.from_sequence(0, 99);
        let both = numbers
            .connect(&numbers)
            .flat_map(
                |n, out| {
                    (0..n % 4).for_each(|copy| out.emit(n * 10 + copy));
                    Ok(())
                },
                |n, out| {
                    out.emit(-n);
                    Ok(())
                },
            )
            .collect();
        run(&env);
        let first = (0..100).flat_map(|n| (0..n % 4).map(move |copy| n * 10 + copy));
        let expected = first.chain((0..100).map(|n| -n));
        same(&multiset(both.take()), &multiset(expected), "records");
    }
    let env = env(2);
    let numbers = env.from_sequence(0, 99);
    numbers
        .connect(&numbers)
        .flat_map(
            |_, _: &mut Emitter<'_, i64>| Ok(()),
            |n, _| if n == 63 { Err("no 63".into()) } else { Ok(()) },
        )
        .name("Picky")
        .collect();
    let text = crate::common::fails(&env);
    assert!(text.contains("'Picky'") && text.contains("no 63"), "{text}");
}

/// Counts what it has seen of each input, and tells at the end.
struct Tally {
    seen: [u64; 2],
    tag: OutputTag<(u32, u64)>,
}

impl CoProcessFunction<i64, String, String> for Tally {
    fn process_first(&mut self, n: i64, cx: ProcessCx<'_>, out: &mut Emitter<'_, String>) -> Done {
        self.seen[0] += 1;
        cx.side_output(&self.tag, (cx.info().index, self.seen[0]));
        out.emit(n.to_string());
        Ok(())
    }

    fn process_second(&mut self, word: String, _: ProcessCx<'_>, out: &mut Emitter<'_, String>) -> Done {
        self.seen[1] += 1;
        out.emit(word);
        Ok(())
    }
}

#[test]
fn co_process_has_state_and_side_outputs_of_its_subtask() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let tag = OutputTag::<(u32, u64)>::new("seen");
        let side = tag.clone();
        let words = env.from_collection(vec!["a".to_owned(); 500]);
        let both = env
            .from_sequence(1, 1_000)
            .rebalance()
            .connect(&words.broadcast())
            .process(move || Tally {
                seen: [0; 2],
                tag: side.clone(),
            });
        let seen = both.side_output(&tag).collect();
        let both = both.collect();
        run(&env);
        assert_eq!(both.take().len(), 1_000 + 500 * parallelism as usize);
        let mut expected = Vec::new();
        for subtask in 0..parallelism {
            // Dealt out evenly from every producer: 1,000 is a multiple of all.
            expected.extend((1..=1_000 / u64::from(parallelism)).map(|n| (subtask, n)));
        }
        assert_eq!(sorted(seen.take()), expected, "parallelism {parallelism}");
    }
}

/// Sums of both inputs of a key, told when event time ends.
struct Sums {
    first: ValueState<i64>,
    second: ValueState<i64>,
}

type Summed = (i64, i64, i64);

impl KeyedCoProcessFunction<i64, (i64, i64), (i64, String), Summed> for Sums {
    fn process_first(
        &mut self,
        record: (i64, i64),
        cx: KeyedCx<'_, i64>,
        _: &mut Emitter<'_, Summed>,
    ) -> Done {
        let sum = self.first.get_cloned(cx).unwrap_or(0);
        self.first.set(cx, sum + record.1);
        cx.register_event_timer(i64::MAX - 1);
        Ok(())
    }

    fn process_second(
        &mut self,
        record: (i64, String),
        cx: KeyedCx<'_, i64>,
        _: &mut Emitter<'_, Summed>,
    ) -> Done {
        let sum = self.second.get_cloned(cx).unwrap_or(0);
        self.second.set(cx, sum + i64::try_from(record.1.len())?);
        cx.register_event_timer(i64::MAX - 1);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, i64>,
        out: &mut Emitter<'_, Summed>,
    ) -> Done {
        let (first, second) = (self.first.get_cloned(cx), self.second.get_cloned(cx));
        out.emit((*cx.key(), first.unwrap_or(0), second.unwrap_or(0)));
        Ok(())
    }
}

#[test]
fn keyed_co_process_joins_what_belongs_together() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let numbers = env.from_sequence(0, 1_999).map(|n: i64| (n % 61, n));
        let words = env
            .from_sequence(0, 999)
            .map(|n: i64| (n % 83, "x".repeat((n % 7) as usize)));
        let sums = numbers
            .connect(&words)
            .key_by(|record| record.0, |record| record.0)
            .process(|ctx| {
                Ok(Sums {
                    first: ctx.value("first")?,
                    second: ctx.value("second")?,
                })
            })
            .collect();
        run(&env);
        let mut expected: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        (0..2_000).for_each(|n| expected.entry(n % 61).or_default().0 += n);
        (0..1_000).for_each(|n| expected.entry(n % 83).or_default().1 += n % 7);
        let sums = sums.take();
        assert_eq!(sums.len(), expected.len(), "one result a key");
        let found: BTreeMap<i64, (i64, i64)> = sums.into_iter().map(|(key, a, b)| (key, (a, b))).collect();
        same(&found, &expected, "sums");
    }
}

#[test]
fn an_input_that_ends_early_or_is_empty_does_not_hold_the_other_up() {
    for parallelism in [1, 2] {
        let env = env(parallelism);
        let none = env.from_collection(Vec::<String>::new());
        let both = none
            .connect(&env.from_sequence(1, 5_000))
            .map(|word| word.len() as i64, |n| n)
            .collect();
        run(&env);
        assert_eq!(sorted(both.take()), (1..=5_000).collect::<Vec<i64>>());
    }
}
