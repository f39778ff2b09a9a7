//! Functions over a stream and one that is broadcast.

use crate::common::{env, env_with, multiset, run, sorted};
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::{until, wait};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Done = std::result::Result<(), UserError>;

const RECORDS: u64 = 3_000;
const KEYS: u64 = 30;
/// Behind all records.
const END: i64 = 1_000_000;

fn rules() -> Vec<(String, u64)> {
    (1..=20).map(|n| (format!("rule {}", n % 8), n)).collect()
}

/// Counts a key's records; at the end of time says how many there were, times what the rules come to.
struct Priced {
    count: ValueState<u64>,
}

impl KeyedBroadcastProcessFunction<u64, u64, (String, u64), (u64, u64)> for Priced {
    type State = BroadcastState<String, u64>;

    fn state(&self) -> Self::State {
        BroadcastState::new("rules")
    }

    fn process(
        &mut self,
        _: u64,
        _: &Self::State,
        cx: KeyedCx<'_, u64>,
        _: &mut Emitter<'_, (u64, u64)>,
    ) -> Done {
        self.count.set(cx, self.count.get_cloned(cx).unwrap_or(0) + 1);
        cx.register_event_timer(END);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (name, price): (String, u64),
        rules: &mut Self::State,
        _: KeyedBroadcastCx<'_, u64>,
        _: &mut Emitter<'_, (u64, u64)>,
    ) -> Done {
        // A sum, so that a record that is given twice or not at all shows.
        let price = rules.get(&name).unwrap_or(&0) + price;
        rules.put(name, price);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: (i64, TimeDomain),
        rules: &Self::State,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, (u64, u64)>,
    ) -> Done {
        let price: u64 = rules.iter().map(|(_, price)| price).sum();
        out.emit((*cx.key(), self.count.get_cloned(cx).unwrap_or(0) * price));
        Ok(())
    }
}

/// The result, and how many records were made.
fn priced(env: &StreamEnv, rate: u64) -> (hurtig::CollectHandle<(u64, u64)>, Arc<AtomicU64>) {
    let made = Arc::new(AtomicU64::new(0));
    let count = made.clone();
    let number = move |i| {
        count.fetch_add(1, Ordering::Relaxed);
        i
    };
    let numbers = env
        .from_source(
            GeneratorSource::new(RECORDS, number).rate(rate),
            Watermarks::monotonous(|n: &u64| *n as i64),
        )
        .uid("numbers");
    let rules = env.from_collection(rules()).uid("rules");
    let priced = numbers
        .key_by(|n| n % KEYS)
        .connect_broadcast(&rules)
        .process(|ctx| {
            Ok(Priced {
                count: ctx.value("count")?,
            })
        })
        .uid("priced")
        .collect();
    (priced, made)
}

fn expected() -> Vec<(u64, u64)> {
    let price: u64 = rules().iter().map(|(_, price)| price).sum();
    (0..KEYS).map(|key| (key, RECORDS / KEYS * price)).collect()
}

#[test]
fn every_subtask_knows_every_rule_once() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let (priced, _) = priced(&env, 1_000_000);
        run(&env);
        assert_eq!(sorted(priced.take()), expected(), "parallelism {parallelism}");
    }
}

#[test]
fn rules_are_in_savepoints_at_any_parallelism() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("savepoints").display().to_string();
    let mut restore: Vec<String> = Vec::new();
    for parallelism in [2, 3, 1] {
        let settings: Vec<&str> = restore.iter().map(String::as_str).collect();
        let env = env_with(parallelism, &settings);
        let (priced, made) = priced(&env, 1_000);
        let path = wait(async {
            let job = env.execute_async("priced").await.unwrap();
            until("some records", async || made.load(Ordering::Relaxed) >= 300).await;
            job.stop(Some(&dir), false).await.unwrap()
        });
        assert!(priced.take().is_empty(), "nothing fires at a stop");
        restore = vec![format!("execution.state-recovery.path={path}")];
    }
    let settings: Vec<&str> = restore.iter().map(String::as_str).collect();
    let env = env_with(4, &settings);
    let (priced, made) = priced(&env, 1_000_000);
    run(&env);
    assert_eq!(sorted(priced.take()), expected());
    let made = made.load(Ordering::Relaxed);
    assert!((1..=RECORDS - 900).contains(&made), "it went on: {made}");
}

/// Says which subtask was given which rule.
struct Told;

impl BroadcastProcessFunction<i64, (String, u64), (u32, u64)> for Told {
    type State = BroadcastState<u64, ()>;

    fn state(&self) -> Self::State {
        BroadcastState::new("told")
    }

    fn process(
        &mut self,
        _: i64,
        _: &Self::State,
        _: ProcessCx<'_>,
        _: &mut Emitter<'_, (u32, u64)>,
    ) -> Done {
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (_, number): (String, u64),
        told: &mut Self::State,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, (u32, u64)>,
    ) -> Done {
        if told.put(number, ()).is_none() {
            out.emit((cx.info().index, number));
        }
        Ok(())
    }
}

#[test]
fn without_keys_every_subtask_is_told_too() {
    let env = env(3);
    let numbers = env.from_sequence(1, 100);
    let rules = env.from_collection(rules());
    let told = numbers.connect_broadcast(&rules).process(|| Told).collect();
    run(&env);
    let expected: BTreeMap<(u32, u64), usize> = (0..3)
        .flat_map(|subtask| (1..=20).map(move |number| ((subtask, number), 1)))
        .collect();
    assert_eq!(multiset(told.take()), expected);
}
