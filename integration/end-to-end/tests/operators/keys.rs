//! Keys that are slices of large blocks: state keeps the key and not the block.

use crate::common::{env, run};
use hurtig::core::str::Block;
use hurtig::prelude::*;
use std::sync::Arc;

type Done = std::result::Result<(), UserError>;

const BLOCK_BYTES: usize = 100_000;
const KEY_BYTES: usize = 40;

/// Keys too long to stand inline, each in a block of its own with much else.
fn keys(env: &StreamEnv) -> DataStream<Str> {
    env.from_sequence(0, 199).map(|n: i64| {
        let mut text = format!("{n:0KEY_BYTES$}").into_bytes();
        text.resize(BLOCK_BYTES, b'-');
        Str::from_block(&Block::from(text), 0..KEY_BYTES).unwrap()
    })
}

/// Tells how much memory the key that a timer has kept holds.
struct AtTheEnd;

impl KeyedProcessFunction<Str, Str, usize> for AtTheEnd {
    fn process(&mut self, record: Str, cx: KeyedCx<'_, Str>, _: &mut Emitter<'_, usize>) -> Done {
        assert_eq!(record.held_bytes(), BLOCK_BYTES, "records may hold their blocks");
        cx.register_event_timer(i64::MAX - 1);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, Str>,
        out: &mut Emitter<'_, usize>,
    ) -> Done {
        out.emit(cx.key().held_bytes());
        Ok(())
    }
}

#[test]
fn keys_in_state_leave_the_blocks_that_they_came_in() {
    for parallelism in [1, 2] {
        let env = env(parallelism);
        let keyed = keys(&env).key_by(Str::clone);
        let timers = keyed.process(|_| Ok(AtTheEnd)).collect();
        let windows = || keyed.window(GlobalWindows::with_end_of_stream_trigger());
        let fast = windows()
            .aggregate_then(Count::new(), |key, _, _, out| out.push(key.held_bytes()))
            .collect();
        let general = windows()
            .apply(|key: &Str, _, _, out: &mut Collector<usize>| out.push(key.held_bytes()))
            .collect();
        let timed = keys(&env).assign_timestamps_and_watermarks(Watermarks::monotonous(|_: &Str| 5));
        let panes = timed
            .key_by(Str::clone)
            .window(Tumbling::of(1.seconds()))
            .aggregate_then(Count::new(), |key, _, _, out| out.push(key.held_bytes()))
            .collect();
        run(&env);
        for (what, held) in [
            ("panes", panes.take()),
            ("timers", timers.take()),
            ("aggregates", fast.take()),
            ("windows", general.take()),
        ] {
            assert_eq!(held.len(), 200, "{what}");
            let most = held.into_iter().max().unwrap();
            assert!(
                most <= 2 * KEY_BYTES,
                "{what}: a key of {KEY_BYTES} bytes holds {most}"
            );
        }
    }
}

#[test]
fn keys_of_several_parts_leave_their_blocks_too() {
    let env = env(2);
    let keyed = keys(&env).key_by(|key| (key.clone(), 7u32));
    let held = keyed
        .window(GlobalWindows::with_end_of_stream_trigger())
        .aggregate_then(Count::new(), |key: &(Str, u32), _, _, out| {
            out.push(key.0.held_bytes());
        })
        .collect();
    run(&env);
    assert!(held.take().into_iter().all(|held| held <= 2 * KEY_BYTES));
}

#[test]
fn a_key_that_is_borrowed_finds_what_the_owned_one_has_stored() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let lines = env
            .from_sequence(0, 999)
            .map(|n: i64| (Str::from(format!("key {}", n % 13)), n));
        let last = Arc::new(std::sync::Mutex::new(std::collections::BTreeMap::new()));
        let seen = last.clone();
        lines
            .key_by_ref(|record| record.0.as_str())
            .fold(
                || 0i64,
                |key: &str, sum: &mut i64, record| {
                    *sum += record.1;
                    (key.to_owned(), *sum)
                },
            )
            .inspect(move |(key, sum)| {
                seen.lock().unwrap().insert(key.clone(), *sum);
            })
            .collect();
        run(&env);
        let expected = (0..13).map(|key| {
            (
                format!("key {key}"),
                (0..1_000).filter(|n| n % 13 == key).sum::<i64>(),
            )
        });
        assert_eq!(*last.lock().unwrap(), expected.collect());
    }
}
