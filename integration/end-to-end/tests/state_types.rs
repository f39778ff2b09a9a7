//! Programs whose types of state change between two lives: from savepoints and from checkpoints, whole and incremental,
//! with both state backends. What can be read goes on without a gap; what cannot is refused before any task runs.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::core::config::Configuration;
use hurtig::prelude::*;
use hurtig::state::{OperatorListState, OperatorSnapshot, StateValue};
use hurtig_end_to_end::waiting::{until, wait};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Done = std::result::Result<(), UserError>;

const KEYS: u64 = 12;
const COUNT: u64 = 6_000;
/// Behind all records.
const END: i64 = 1_000_000;

/// What a state counts in.
trait Counter: StateValue + Default + Debug + Sync {
    fn count(&mut self) -> &mut dyn Number;
}

/// A field that counts.
trait Number {
    fn increment(&mut self);
    fn get(&self) -> u64;
}

macro_rules! counters {
    ($($number:ty)*) => {
        $(impl Number for $number {
            fn increment(&mut self) {
                *self += 1;
            }

            fn get(&self) -> u64 {
                u64::from(*self)
            }
        })*
    };
}

counters!(u16 u32 u64);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident { $(#[$attribute:meta])* $count:ident: $number:ty, $($rest:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        struct $name {
            $(#[$attribute])*
            $count: $number,
            $($rest)*
        }

        impl Counter for $name {
            fn count(&mut self) -> &mut dyn Number {
                &mut self.$count
            }
        }
    };
}

counter!(First {
    count: u32,
    note: String,
});
counter!(
    /// Wider, renamed, without the note and with more.
    Second { #[serde(alias = "count")] n: u64, #[serde(default)] extra: Vec<String>, kind: Option<Kind>, }
);
counter!(Narrow {
    count: u16,
    note: String,
});
counter!(Needy {
    count: u32,
    note: String,
    needed: u64,
});
counter!(
    /// What was written as `Second` can be read, what was written as `First` cannot.
    Third { #[serde(alias = "n")] count: u64, note: Option<u64>, }
);
counter!(Opaque {
    count: u32,
    note: TextOrNumber,
});
counter!(OpaqueNumber {
    count: u32,
    note: OnlyNumber,
});

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Kind {
    Any,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Number(u64),
}

impl Default for TextOrNumber {
    fn default() -> Self {
        Self::Text("default".to_owned())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum OnlyNumber {
    Number(u64),
}

impl Default for OnlyNumber {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// Counts records of a key in keyed state, and says at the end how many there were.
struct Keyed<C> {
    totals: ValueState<C>,
}

impl<C: Counter> KeyedProcessFunction<u64, u64, (u64, u64)> for Keyed<C> {
    fn process(&mut self, _: u64, cx: KeyedCx<'_, u64>, _: &mut Emitter<'_, (u64, u64)>) -> Done {
        let mut total = self.totals.get_cloned(cx).unwrap_or_default();
        total.count().increment();
        self.totals.set(cx, total);
        cx.register_event_timer(END);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, (u64, u64)>,
    ) -> Done {
        let mut total = self.totals.get_cloned(cx).unwrap_or_default();
        out.emit((*cx.key(), total.count().get()));
        Ok(())
    }
}

/// Counts all records in operator state, and passes them on.
struct Listed<C> {
    seen: OperatorListState<C>,
}

impl<C: Counter> ProcessFunction<u64, u64> for Listed<C> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Done {
        if let Some(snapshot) = ctx.restored() {
            self.seen.restore(snapshot)?;
        }
        if self.seen.get().is_empty() {
            self.seen.add(C::default());
        }
        Ok(())
    }

    fn process(&mut self, record: u64, _: ProcessCx<'_>, out: &mut Emitter<'_, u64>) -> Done {
        self.seen.get_mut()[0].count().increment();
        out.emit(record);
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Done {
        Ok(self.seen.snapshot(snapshot)?)
    }
}

/// Counts a window's records.
struct Windowed<C>(std::marker::PhantomData<fn() -> C>);

impl<C: Counter> AggregateFunction for Windowed<C> {
    type In = u64;
    type Acc = C;
    type Out = u64;

    fn create(&self) -> C {
        C::default()
    }

    fn add(&self, acc: &mut C, _: u64) {
        acc.count().increment();
    }

    fn result(&self, acc: &C) -> u64 {
        acc.clone().count().get()
    }

    fn merge(&self, _: &mut C, _: C) {
        unreachable!("windows do not merge")
    }
}

/// One start of the program.
#[derive(Clone)]
struct Life<'a> {
    backend: &'static str,
    /// Where checkpoints lie, if it takes some; those of `rocksdb` are incremental.
    checkpoints: Option<&'a Path>,
    restore: Option<String>,
    /// The name of the keyed state, and its former one.
    state: (&'static str, Option<&'static str>),
    rate: u64,
}

type Found = std::result::Result<Vec<(u64, u64)>, String>;

impl<'a> Life<'a> {
    fn new(backend: &'static str, checkpoints: Option<&'a Path>) -> Self {
        Self {
            backend,
            checkpoints,
            restore: None,
            state: ("totals", None),
            rate: 3_000,
        }
    }

    fn env(&self) -> StreamEnv {
        let mut definitions = vec![
            format!("state.backend.type={}", self.backend),
            "restart-strategy.type=none".to_owned(),
        ];
        if let Some(dir) = self.checkpoints {
            definitions.extend([
                "execution.checkpointing.interval=20ms".to_owned(),
                format!("execution.checkpointing.dir={}", dir.display()),
                format!(
                    "execution.checkpointing.incremental={}",
                    self.backend == "rocksdb"
                ),
            ]);
        }
        let path = self.restore.as_ref();
        definitions.extend(path.map(|path| format!("execution.state-recovery.path={path}")));
        let config = Configuration::builder().definitions(&definitions).build();
        let env = StreamEnv::with_config(config.unwrap());
        env.set_parallelism(2);
        env
    }

    /// The program with these types of keyed, window and operator state. Returns what it finds and how many records
    /// were made.
    fn program<K: Counter, W: Counter, L: Counter>(
        &self,
        env: &StreamEnv,
    ) -> ([hurtig::CollectHandle<(u64, u64)>; 2], Arc<AtomicU64>) {
        let made = Arc::new(AtomicU64::new(0));
        let (count, (name, former)) = (Arc::clone(&made), self.state);
        let source = GeneratorSource::new(COUNT, move |i| {
            count.fetch_add(1, Ordering::Relaxed);
            i
        });
        let records = env
            .from_source(
                source.rate(self.rate),
                Watermarks::monotonous(|i: &u64| *i as i64),
            )
            .uid("records")
            .process(|| Listed::<L> {
                seen: OperatorListState::split("seen"),
            })
            .uid("listed")
            .name("See");
        let keyed = records
            .key_by(|i: &u64| i % KEYS)
            .process(move |ctx| {
                let state = StateDescriptor::new(name);
                let state = former.into_iter().fold(state, StateDescriptor::alias);
                Ok(Keyed::<K> {
                    totals: ctx.value(state)?,
                })
            })
            .uid("keyed")
            .name("Sum")
            .collect();
        let windowed = records
            .key_by(|i: &u64| i % KEYS)
            .window(Tumbling::of(Duration::from_millis(END as u64)))
            .aggregate_then(
                Windowed::<W>(std::marker::PhantomData),
                |key: &u64, _: &TimeWindow, n: &u64, out: &mut Collector<(u64, u64)>| out.push((*key, *n)),
            )
            .uid("windowed")
            .name("Count")
            .collect();
        ([keyed, windowed], made)
    }

    /// Runs until there are some records, and says what the next life is to begin with.
    fn stop<K: Counter, W: Counter, L: Counter>(&self, folder: &Path) -> String {
        let env = self.env();
        let (_, made) = self.program::<K, W, L>(&env);
        wait(async {
            let job = env.execute_async("types").await.unwrap();
            until("some records", async || made.load(Ordering::Relaxed) >= 300).await;
            if self.checkpoints.is_none() {
                let path = job.stop(folder.to_str(), false).await.unwrap();
                job.result().await.unwrap();
                return path;
            }
            let completed = async || job.checkpoint_statistics().await.unwrap().completed;
            let wanted = completed().await + 2;
            until("two checkpoints more", async || completed().await >= wanted).await;
            job.cancel().await.unwrap();
            let _canceled = job.result().await;
            "latest".to_owned()
        })
    }

    /// Runs to the end: what it finds, or why it has failed, and how many records were made.
    fn end<K: Counter, W: Counter, L: Counter>(&self) -> (Found, u64) {
        let mut life = self.clone();
        life.rate = 10_000_000;
        let env = life.env();
        let (found, made) = life.program::<K, W, L>(&env);
        let ended = wait(env.execute("types"));
        let found = ended.map_err(|error| error.to_string()).map(|_| {
            let mut all: Vec<_> = found.into_iter().flat_map(|found| found.take()).collect();
            all.sort_unstable();
            all
        });
        (found, made.load(Ordering::Relaxed))
    }
}

fn all_counts() -> Vec<(u64, u64)> {
    (0..KEYS).flat_map(|key| [(key, COUNT / KEYS); 2]).collect()
}

/// What is the same for both backends, from savepoints and from checkpoints.
fn each(test: impl Fn(Life<'_>, &Path)) {
    for backend in ["hashmap", "rocksdb"] {
        for takes_checkpoints in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = folder.path().join("checkpoints");
            let life = Life::new(backend, takes_checkpoints.then_some(&*checkpoints));
            test(life, &folder.path().join("savepoints"));
        }
    }
}

#[test]
fn states_whose_types_can_be_read_go_on() {
    each(|mut life, folder| {
        life.restore = Some(life.stop::<First, First, First>(folder));
        let (found, made) = life.end::<Second, Second, Second>();
        assert_eq!(found.unwrap(), all_counts());
        assert!(made < COUNT, "it does not begin afresh");
    });
}

#[test]
fn states_whose_types_cannot_be_read_are_refused_before_any_task_runs() {
    each(|mut life, folder| {
        life.restore = Some(life.stop::<First, First, First>(folder));
        for ((refused, made), operator, difference) in [
            (
                life.end::<Narrow, First, First>(),
                "operator 'Sum' (uid keyed): state 'totals' holds values of a type that has changed",
                ".count is u16 and was u32, which holds more",
            ),
            (
                life.end::<First, Needy, First>(),
                "operator 'Count' (uid windowed): state 'window-aggregates' holds values",
                ".needed is new, and no stored value has it: give it a default",
            ),
            (
                life.end::<First, First, Narrow>(),
                "operator 'See' (uid listed): state 'seen' holds values",
                ".count is u16 and was u32",
            ),
        ] {
            let refused = refused.unwrap_err();
            assert!(
                refused.contains("cannot restore the job from")
                    && refused.contains(operator)
                    && refused.contains(difference),
                "{refused}"
            );
            assert_eq!(made, 0, "no task has run");
        }
        // Nothing was changed by that.
        assert_eq!(life.end::<First, First, First>().0.unwrap(), all_counts());
    });
}

/// A savepoint of `rocksdb` has values as they were written, whatever type the program had since.
#[test]
fn what_was_not_written_since_a_change_counts_at_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    for (backend, kept) in [("hashmap", false), ("rocksdb", true)] {
        let mut life = Life::new(backend, None);
        life.restore = Some(life.stop::<First, First, First>(folder.path()));
        life.restore = Some(life.stop::<Second, Second, Second>(folder.path()));
        let (found, made) = life.end::<Third, Second, Second>();
        match kept {
            true => {
                let refused = found.unwrap_err();
                assert!(
                    refused.contains("state 'totals'")
                        && refused.contains(".note is Option<u64> and was String"),
                    "{refused}"
                );
                assert_eq!(made, 0);
            }
            false => assert_eq!(found.unwrap(), all_counts()),
        }
    }
}

#[test]
fn a_renamed_state_is_found_by_its_alias() {
    each(|mut life, folder| {
        life.restore = Some(life.stop::<First, First, First>(folder));
        life.state = ("sums", Some("totals"));
        assert_eq!(life.end::<Second, First, First>().0.unwrap(), all_counts());
    });
}

#[test]
fn what_cannot_be_traced_is_read_and_fails_by_value() {
    each(|mut life, folder| {
        life.restore = Some(life.stop::<First, First, First>(folder));
        let (refused, _) = life.end::<OpaqueNumber, First, First>();
        let refused = refused.unwrap_err();
        for part in [
            "'Sum'",
            "keyed",
            "'totals'",
            "the value of key ",
            "untagged enum OnlyNumber",
        ] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        assert_eq!(life.end::<Opaque, First, First>().0.unwrap(), all_counts());
    });
}
