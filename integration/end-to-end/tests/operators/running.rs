//! How jobs run: accumulators, failures, cancellation, parallelism, slots, chains, collecting.

use crate::common::{Here, env, env_with, fails, multiset, run, same, sorted};
use hurtig::core::accumulators::AccumulatorValue as Value;
use hurtig::dataflow::graph::JobStatus;
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::{until, wait};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

type Done = std::result::Result<(), UserError>;

/// Keeps accounts of what passes.
struct Accounts;

impl ProcessFunction<i64, i64> for Accounts {
    fn process(&mut self, n: i64, cx: ProcessCx<'_>, out: &mut Emitter<'_, i64>) -> Done {
        let accounts = cx.accumulators();
        accounts.add_long("records", 1);
        accounts.add_long("sum", n);
        accounts.add_double("half", 0.5);
        accounts.add_to_histogram("mod 3", n % 3);
        accounts.update("least", &Value::LongMin(n));
        accounts.update("most", &Value::LongMax(n));
        accounts.add_long(&format!("subtask {}", cx.info().index), 1);
        out.emit(n);
        Ok(())
    }
}

#[test]
fn accumulators_are_merged_over_subtasks_and_operators() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let numbers = env.from_sequence(1, 999).rebalance().process(|| Accounts);
        // A second operator adds to the same names.
        numbers.filter(|n| n % 2 == 0).process(|| Accounts).collect();
        let result = run(&env);
        assert_eq!(result.long("records"), 999 + 499);
        assert_eq!(result.long("sum"), 999 * 500 + 499 * 500);
        let found = &result.accumulators;
        assert_eq!(found["half"], Value::Double(749.0));
        assert_eq!(
            (&found["least"], &found["most"]),
            (&Value::LongMin(1), &Value::LongMax(999))
        );
        // Of 1 to 999 a third each, of the even ones up to 998 each third of 499: 166, 166, 167.
        let histogram = Value::Histogram(BTreeMap::from([(0, 333 + 166), (1, 333 + 166), (2, 333 + 167)]));
        assert_eq!(found["mod 3"], histogram);
        let subtasks = (0..parallelism).map(|n| result.long(&format!("subtask {n}")));
        assert!(subtasks.clone().all(|n| n > 0) && subtasks.sum::<i64>() == 1_498);
    }
}

/// Says in which attempt it saw a record, and fails as often as it is told.
struct Fails {
    left: Arc<AtomicU64>,
}

impl ProcessFunction<i64, (u32, i64)> for Fails {
    fn process(&mut self, n: i64, cx: ProcessCx<'_>, out: &mut Emitter<'_, (u32, i64)>) -> Done {
        cx.accumulators().add_long("seen", 1);
        let fails = n == 700
            && self
                .left
                .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                .is_ok();
        if fails {
            return Err("told to fail".into());
        }
        out.emit((cx.info().attempt, n));
        Ok(())
    }
}

fn failing(env: &StreamEnv, failures: u64) -> (DataStream<(u32, i64)>, Arc<AtomicU64>) {
    let left = Arc::new(AtomicU64::new(failures));
    let of_function = left.clone();
    let numbers = env.from_sequence(1, 1_000).rebalance();
    let fails = numbers
        .process(move || Fails {
            left: of_function.clone(),
        })
        .name("Fails");
    (fails, left)
}

const FIXED: [&str; 3] = [
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=3",
    "restart-strategy.fixed-delay.delay=1ms",
];
const EXPONENTIAL: [&str; 4] = [
    "restart-strategy.type=exponential-delay",
    "restart-strategy.exponential-delay.initial-backoff=1ms",
    "restart-strategy.exponential-delay.max-backoff=5ms",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff=3",
];
const RATE: [&str; 4] = [
    "restart-strategy.type=failure-rate",
    "restart-strategy.failure-rate.max-failures-per-interval=3",
    "restart-strategy.failure-rate.failure-rate-interval=1h",
    "restart-strategy.failure-rate.delay=1ms",
];

#[test]
fn a_job_that_fails_as_often_as_its_strategy_allows_ends_well() {
    for parallelism in [1, 2, 4] {
        for strategy in [&FIXED[..], &EXPONENTIAL[..], &RATE[..]] {
            for failures in [0, 1, 3] {
                let env = env_with(parallelism, strategy);
                let (records, left) = failing(&env, failures);
                let records = records.collect();
                let result = run(&env);
                assert_eq!(
                    (u64::from(result.restarts), left.load(SeqCst)),
                    (failures, 0),
                    "{strategy:?}"
                );
                let records = records.take();
                let last = records.iter().map(|record| record.0).max().unwrap();
                let of_last = records
                    .into_iter()
                    .filter(|record| record.0 == last)
                    .map(|record| record.1);
                same(
                    &multiset(of_last),
                    &multiset(1..=1_000),
                    "the last attempt reads everything once",
                );
                assert_eq!(
                    result.long("seen"),
                    1_000,
                    "accumulators are those of the last attempt"
                );
            }
        }
    }
}

#[test]
fn a_job_that_fails_once_more_than_its_strategy_allows_fails() {
    for strategy in [
        &FIXED[..],
        &EXPONENTIAL[..],
        &RATE[..],
        &["restart-strategy.type=none"],
        &[],
    ] {
        let allowed = if strategy.len() < 2 { 0 } else { 3 };
        let env = env_with(2, strategy);
        let (records, left) = failing(&env, 10);
        records.collect();
        let text = fails(&env);
        assert!(
            text.contains("told to fail") && text.contains("'Fails'"),
            "{strategy:?}: {text}"
        );
        assert_eq!(10 - left.load(SeqCst), allowed + 1, "{strategy:?}");
    }
}

/// A stream that does not end, with a count of what its consumer has seen.
fn endless(env: &StreamEnv) -> (DataStream<u64>, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let numbers = env.from_source(GeneratorSource::unbounded(|n| n), Watermarks::none());
    let counted = numbers.rebalance().inspect(move |_| {
        counter.fetch_add(1, SeqCst);
    });
    (counted, seen)
}

#[test]
fn a_running_job_can_be_cancelled() {
    for parallelism in [1, 2, 4] {
        let env = env(parallelism);
        let (numbers, seen) = endless(&env);
        numbers.key_by(|n| n % 5).count().filter(|_| false).collect();
        wait(async {
            let client = env.execute_async("endless").await.unwrap();
            until("records", async || seen.load(SeqCst) > 1_000).await;
            assert_eq!(client.status().await.unwrap(), JobStatus::Running);
            client.cancel().await.unwrap();
            let error = client.result().await.unwrap_err();
            assert!(matches!(error, hurtig::Error::JobCanceled { .. }), "{error}");
            assert_eq!(client.status().await.unwrap(), JobStatus::Canceled);
            assert!(client.cancel().await.is_err(), "it is over");
        });
        let at_end = seen.load(SeqCst);
        std::thread::yield_now();
        assert_eq!(seen.load(SeqCst), at_end, "nothing runs behind the result");
        assert_eq!(Arc::strong_count(&seen), 1, "nothing of the job is left");
    }
}

#[test]
fn a_job_that_waits_for_its_restart_can_be_cancelled() {
    let env = env_with(
        2,
        &[
            "restart-strategy.type=fixed-delay",
            "restart-strategy.fixed-delay.delay=1h",
        ],
    );
    let (records, _) = failing(&env, u64::MAX);
    records.collect();
    wait(async {
        let client = env.execute_async("restarting").await.unwrap();
        let status = async || client.status().await.unwrap();
        until("it waits", async || status().await == JobStatus::Restarting).await;
        client.cancel().await.unwrap();
        let error = client.result().await.unwrap_err();
        assert!(matches!(error, hurtig::Error::JobCanceled { .. }), "{error}");
    });
}

#[test]
fn a_job_whose_last_handle_is_dropped_leaves_nothing_behind() {
    for parallelism in [1, 2] {
        let env = env(parallelism);
        let (numbers, seen) = endless(&env);
        numbers.filter(|_| false).collect();
        wait(async {
            let client = env.execute_async("dropped").await.unwrap();
            until("records", async || seen.load(SeqCst) > 1_000).await;
            drop(client);
            until("an end", async || Arc::strong_count(&seen) == 1).await;
        });
    }
}

#[test]
fn a_wait_that_is_given_up_ends_the_job() {
    let env = env(2);
    let (numbers, seen) = endless(&env);
    numbers.filter(|_| false).collect();
    wait(async {
        let waited = tokio::time::timeout(Duration::from_millis(50), env.execute("given up")).await;
        assert!(waited.is_err());
        until("an end", async || Arc::strong_count(&seen) == 1).await;
    });
}

/// Says how wide it is.
struct Width;

impl ProcessFunction<i64, (u32, u32)> for Width {
    fn process(&mut self, _: i64, cx: ProcessCx<'_>, out: &mut Emitter<'_, (u32, u32)>) -> Done {
        out.emit((cx.info().parallelism, cx.info().max_parallelism));
        Ok(())
    }
}

#[test]
fn the_nearest_parallelism_counts() {
    // (configuration, environment, operator) and what comes out.
    let cases = [
        ((None, None, None), 1),
        ((Some(3), None, None), 3),
        ((Some(3), Some(2), None), 2),
        ((Some(3), Some(2), Some(4)), 4),
        ((None, None, Some(2)), 2),
        ((Some(3), None, Some(1)), 1),
    ];
    for ((configured, environment, operator), expected) in cases {
        let definition = configured.map(|n| format!("parallelism.default={n}"));
        let definitions: Vec<&str> = definition.iter().map(String::as_str).collect();
        let config = hurtig::core::config::Configuration::builder()
            .definitions(definitions)
            .build()
            .unwrap();
        let env = StreamEnv::with_config(config);
        if let Some(parallelism) = environment {
            env.set_parallelism(parallelism);
        }
        let mut widths = env.from_sequence(1, 400).process(|| Width);
        if let Some(parallelism) = operator {
            widths = widths.set_parallelism(parallelism);
        }
        let widths = widths.collect();
        run(&env);
        let widths = widths.take();
        assert_eq!(widths.len(), 400);
        assert!(
            widths.iter().all(|w| w.0 == expected),
            "{configured:?} {environment:?} {operator:?}: {:?}",
            widths[0]
        );
    }
}

#[test]
fn an_override_by_vertex_wins_over_the_program() {
    let program = |definitions: &[&str]| {
        let env = env_with(2, definitions);
        let widths = env
            .from_sequence(1, 100)
            .rebalance()
            .process(|| Width)
            .uid("width")
            .collect();
        (env, widths)
    };
    let (env, _) = program(&[]);
    let graph = env.job_graph("widths").unwrap();
    let is_wide = |v: &&hurtig::dataflow::graph::JobVertex| {
        v.operators.iter().any(|o| o.uid.as_deref() == Some("width"))
    };
    let vertex = graph.vertices.iter().find(is_wide).unwrap().id;
    let (env, widths) = program(&[&format!("pipeline.jobvertex-parallelism-overrides={vertex}:3")]);
    run(&env);
    let widths = widths.take();
    assert_eq!((widths.len(), widths[0].0), (100, 3));
}

#[test]
fn the_maximal_parallelism_is_the_operators_the_environments_or_derived() {
    let env = env(2);
    env.set_max_parallelism(64);
    let numbers = env.from_sequence(1, 10);
    let own = numbers
        .rebalance()
        .process(|| Width)
        .set_max_parallelism(32)
        .collect();
    let environments = numbers.process(|| Width).collect();
    run(&env);
    assert!(own.take().iter().all(|width| width.1 == 32));
    assert!(environments.take().iter().all(|width| width.1 == 64));
}

fn chains(env: &StreamEnv) -> Vec<Vec<String>> {
    let graph = env.job_graph("chains").unwrap();
    let names = |v: &hurtig::dataflow::graph::JobVertex| v.operators.iter().map(|o| o.name.clone()).collect();
    graph.vertices.iter().map(names).collect()
}

#[test]
fn chains_are_cut_where_the_program_says_and_results_stay_the_same() {
    type Cut = fn(&StreamEnv, DataStream<i64>) -> DataStream<i64>;
    let cases: [(Cut, &[&[&str]]); 5] = [
        (|_, s| s, &[&["S", "A", "B", "C", "Out"]]),
        (|_, s| s.start_new_chain(), &[&["S", "A"], &["B", "C", "Out"]]),
        (|_, s| s.disable_chaining(), &[&["S", "A"], &["B"], &["C", "Out"]]),
        (
            |_, s| s.slot_sharing_group("other"),
            &[&["S", "A"], &["B", "C", "Out"]],
        ),
        (all_apart, &[&["S"], &["A"], &["B"], &["C"], &["Out"]]),
    ];
    for parallelism in [1, 2] {
        for (cut, expected) in cases {
            let env = env(parallelism);
            let first = env.from_sequence(0, 499).name("S").map(|n| n + 1).name("A");
            let second = cut(&env, first.map(|n| n * 2).name("B"));
            let (sink, results) = hurtig::CollectSink::new();
            second.map(|n| n - 1).name("C").sink_to(sink).name("Out");
            assert_eq!(chains(&env), expected);
            run(&env);
            assert_eq!(
                sorted(results.take()),
                (0..500).map(|n| (n + 1) * 2 - 1).collect::<Vec<i64>>()
            );
        }
    }
}

fn all_apart(env: &StreamEnv, stream: DataStream<i64>) -> DataStream<i64> {
    env.disable_operator_chaining();
    stream
}

#[test]
fn slots_are_shared_within_a_group_and_not_between_groups() {
    let program = |slots: u32| {
        let env = env_with(2, &[&format!("taskmanager.numberOfTaskSlots={slots}")]);
        let numbers = env.from_sequence(1, 100).disable_chaining();
        let here = numbers.process(|| Here).disable_chaining();
        let results = here.map(|(n, _)| n).slot_sharing_group("apart").collect();
        (env, results)
    };
    let (env, results) = program(4);
    let graph = env.job_graph("slots").unwrap();
    assert_eq!(
        graph.slot_groups(),
        BTreeMap::from([("default", 2), ("apart", 2)])
    );
    run(&env);
    assert_eq!(sorted(results.take()), (1..=100).collect::<Vec<i64>>());
}

#[test]
fn collected_records_can_be_taken_while_the_job_runs() {
    let env = env(2);
    let (numbers, _) = endless(&env);
    let results = numbers.collect();
    wait(async {
        let client = env.execute_async("collect").await.unwrap();
        let mut taken = Vec::new();
        until("many records", async || {
            taken.extend(results.take());
            taken.len() >= 10_000
        })
        .await;
        client.cancel().await.unwrap();
        assert!(client.result().await.is_err());
        taken.extend(results.take());
        assert!(
            multiset(taken).values().all(|count| *count == 1),
            "nothing is taken twice"
        );
    });
}

/// A record that knows how many of its kind there are.
#[derive(serde::Serialize, serde::Deserialize)]
struct Counted {
    #[serde(skip)]
    alive: Option<Arc<AtomicU64>>,
}

impl Counted {
    fn new(alive: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self {
            alive: Some(alive.clone()),
        }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.alive.as_ref().map_or(Self { alive: None }, Self::new)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(alive) = &self.alive {
            alive.fetch_sub(1, SeqCst);
        }
    }
}

#[test]
fn results_that_nobody_will_take_are_not_kept() {
    for parallelism in [1, 2] {
        let env = env(parallelism);
        let alive = Arc::new(AtomicU64::new(0));
        let too_many = Arc::new(AtomicBool::new(false));
        let (of_map, noticed) = (alive.clone(), too_many.clone());
        let records = env.from_sequence(1, 200_000).map(move |_| {
            if of_map.load(SeqCst) > 100_000 {
                noticed.store(true, SeqCst);
            }
            Counted::new(&of_map)
        });
        drop(records.collect());
        run(&env);
        assert!(
            !too_many.load(SeqCst),
            "results were kept although their handle is gone"
        );
        assert_eq!(alive.load(SeqCst), 0);
    }
}
