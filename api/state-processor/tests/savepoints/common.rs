//! A program with every kind of state, and what it must remember of its first records.

use hurtig::core::config::Configuration;
use hurtig::prelude::*;
use hurtig::state::{OperatorListState, OperatorSnapshot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const KEYS: u64 = 12;
pub(crate) const BACKENDS: [&str; 2] = ["hashmap", "rocksdb"];

pub(crate) type Done = std::result::Result<(), UserError>;

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Looks every few milliseconds until a condition holds; the test fails when it does not within two minutes.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(120), looking).await;
    assert!(waited.is_ok(), "{what}: not within two minutes");
}

/// An environment with a backend, and what it begins with.
pub(crate) fn env(parallelism: u32, backend: &str, local: &Path, restore: Option<&str>) -> StreamEnv {
    let restore = restore.map(|path| format!("execution.state-recovery.path={path}"));
    env_with(parallelism, backend, local, restore.as_slice())
}

/// An environment with a backend and settings.
pub(crate) fn env_with(parallelism: u32, backend: &str, local: &Path, more: &[String]) -> StreamEnv {
    let mut settings = vec![
        format!("state.backend.type={backend}"),
        format!("state.backend.rocksdb.localdir={}", local.display()),
        "taskmanager.memory.managed.size=4mb".to_owned(),
    ];
    settings.extend_from_slice(more);
    let config = Configuration::builder().definitions(&settings).build().unwrap();
    let env = StreamEnv::with_config(config);
    env.set_parallelism(parallelism);
    env
}

/// How a state is called: a key is text, a record a number.
pub(crate) fn key_of(record: u64) -> String {
    format!("key {}", record % KEYS)
}

/// An accumulator with fields, as programs have them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mean {
    pub(crate) sum: u64,
    pub(crate) count: u32,
}

struct MeanOf;

impl AggregateFunction for MeanOf {
    type In = u64;
    type Acc = Mean;
    type Out = f64;

    fn create(&self) -> Mean {
        Mean::default()
    }

    fn add(&self, acc: &mut Mean, input: u64) {
        acc.sum += input;
        acc.count += 1;
    }

    fn result(&self, acc: &Mean) -> f64 {
        acc.sum as f64 / f64::from(acc.count)
    }

    fn merge(&self, acc: &mut Mean, other: Mean) {
        acc.sum += other.sum;
        acc.count += other.count;
    }
}

/// All that a key has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct OfKey {
    pub(crate) count: u64,
    pub(crate) all: Vec<u64>,
    pub(crate) by_digit: BTreeMap<u8, u64>,
    pub(crate) max: u64,
    pub(crate) mean: Mean,
}

impl OfKey {
    pub(crate) fn add(&mut self, record: u64) {
        self.count += 1;
        self.all.push(record);
        *self.by_digit.entry((record % 10) as u8).or_default() += 1;
        self.max = self.max.max(record);
        self.mean.sum += record;
        self.mean.count += 1;
    }
}

/// What the first records come to.
pub(crate) fn expected(records: u64) -> BTreeMap<String, OfKey> {
    let mut all: BTreeMap<String, OfKey> = BTreeMap::new();
    for record in 0..records {
        all.entry(key_of(record)).or_default().add(record);
    }
    all
}

struct Remember {
    count: ValueState<u64>,
    all: ListState<u64>,
    by_digit: MapState<u8, u64>,
    max: ReducingState<u64>,
    mean: AggregatingState<MeanOf>,
}

impl KeyedProcessFunction<String, u64, (String, u64, Vec<u64>, f64)> for Remember {
    fn process(
        &mut self,
        record: u64,
        cx: KeyedCx<'_, String>,
        out: &mut Emitter<'_, (String, u64, Vec<u64>, f64)>,
    ) -> Done {
        self.count.update(cx, |count| *count += 1);
        self.all.add(cx, record);
        *self.by_digit.get_or(cx, (record % 10) as u8, || 0) += 1;
        self.max.add(cx, record);
        self.mean.add(cx, record);
        cx.register_event_timer(1_000_000 + record as i64);
        let digits = self
            .by_digit
            .entries(cx)
            .into_iter()
            .map(|(_, count)| count)
            .sum();
        let max = *self.max.get(cx).ok_or("no maximum")?;
        assert_eq!(Some(digits), self.count.get_cloned(cx));
        let mut all = self.all.get(cx).to_vec();
        all.push(max);
        let mean = self.mean.get(cx).ok_or("no mean")?;
        out.emit((cx.key().to_owned(), digits, all, mean));
        Ok(())
    }
}

/// Passes records on, and keeps lists.
pub(crate) struct Lists {
    passed: OperatorListState<(String, u64)>,
    subtasks: OperatorListState<u64>,
}

impl Lists {
    fn new() -> Self {
        Self {
            passed: OperatorListState::split("passed"),
            subtasks: OperatorListState::union("subtasks"),
        }
    }
}

impl ProcessFunction<u64, u64> for Lists {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Done {
        if let Some(snapshot) = ctx.restored() {
            self.passed.restore(snapshot)?;
            self.subtasks.restore(snapshot)?;
        } else {
            self.subtasks.add(u64::from(ctx.info().index));
        }
        Ok(())
    }

    fn process(&mut self, record: u64, _: ProcessCx<'_>, out: &mut Emitter<'_, u64>) -> Done {
        self.passed.add((key_of(record), record));
        out.emit(record);
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Done {
        self.passed.snapshot(snapshot)?;
        Ok(self.subtasks.snapshot(snapshot)?)
    }
}

/// Keeps rules, and hands on those that there are.
struct Rules;

impl BroadcastProcessFunction<u64, (String, u64), Vec<(String, u64)>> for Rules {
    type State = BroadcastState<String, u64>;

    fn state(&self) -> Self::State {
        BroadcastState::new("rules")
    }

    fn process(
        &mut self,
        _: u64,
        rules: &Self::State,
        _: ProcessCx<'_>,
        out: &mut Emitter<'_, Vec<(String, u64)>>,
    ) -> Done {
        out.emit(rules.iter().map(|(name, n)| (name.clone(), *n)).collect());
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (name, n): (String, u64),
        rules: &mut Self::State,
        _: ProcessCx<'_>,
        _: &mut Emitter<'_, Vec<(String, u64)>>,
    ) -> Done {
        rules.put(name, n);
        Ok(())
    }
}

pub(crate) fn rules() -> BTreeMap<String, u64> {
    (0..7).map(|n| (format!("rule {n}"), n * n)).collect()
}

/// What comes out of the program.
pub(crate) struct Outputs {
    pub(crate) keyed: hurtig::CollectHandle<(String, u64, Vec<u64>, f64)>,
    pub(crate) rules: hurtig::CollectHandle<Vec<(String, u64)>>,
}

/// How a keyed state is declared.
pub(crate) type Declare = fn(&str) -> StateDescriptor;

/// Every kind of state over a stream of records.
pub(crate) fn program(env: &StreamEnv, records: DataStream<u64>) -> Outputs {
    program_of(env, records, |name| StateDescriptor::new(name))
}

/// As [`program`], with keyed states that are declared so.
pub(crate) fn program_of(env: &StreamEnv, records: DataStream<u64>, declare: Declare) -> Outputs {
    let passed = records.process(Lists::new).uid("lists");
    let keyed = passed
        .key_by(|record: &u64| key_of(*record))
        .process(move |ctx| {
            Ok(Remember {
                count: ctx.value(declare("count"))?,
                all: ctx.list(declare("all"))?,
                by_digit: ctx.map(declare("by digit"))?,
                max: ctx.reducing(declare("max"), |a: &mut u64, b| *a = b.max(*a))?,
                mean: ctx.aggregating(declare("mean"), MeanOf)?,
            })
        })
        .uid("remember")
        .collect();
    let broadcast = env
        .from_collection(rules().into_iter().collect::<Vec<_>>())
        .uid("broadcast");
    let rules = passed
        .connect_broadcast(&broadcast)
        .process(|| Rules)
        .uid("rules")
        .collect();
    Outputs { keyed, rules }
}

/// Runs the program over some of its records, and stops it with a savepoint. Returns the savepoint's path.
pub(crate) fn stopped(env: &StreamEnv, dir: &Path) -> String {
    stopped_of(env, dir, |name| StateDescriptor::new(name))
}

/// As [`stopped`], with keyed states that are declared so.
pub(crate) fn stopped_of(env: &StreamEnv, dir: &Path, declare: Declare) -> String {
    let made = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&made);
    let source = GeneratorSource::unbounded(move |i| {
        count.store(i, Ordering::Relaxed);
        i
    });
    let records = env
        .from_source(
            source.rate(2_000),
            Watermarks::monotonous(|record: &u64| *record as i64),
        )
        .set_parallelism(1)
        .uid("records");
    let _outputs = program_of(env, records, declare);
    wait(async {
        let job = env.execute_async("remembering").await.unwrap();
        until("some records", async || made.load(Ordering::Relaxed) >= 300).await;
        let path = job.stop(dir.to_str(), false).await.unwrap();
        job.result().await.unwrap();
        path
    })
}

/// Runs the program over a few records from a savepoint on.
pub(crate) fn goes_on(env: &StreamEnv, records: Vec<u64>) -> Outputs {
    let records = env.from_collection(records).uid("others").rebalance();
    let outputs = program(env, records);
    wait(env.execute("remembering")).unwrap();
    outputs
}
