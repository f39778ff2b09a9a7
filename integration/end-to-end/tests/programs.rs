//! What programs can do beside transforming: accumulators, parameters, metrics, settings of streams.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Which remainders there were.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remainders(BTreeSet<i64>);

impl Accumulator for Remainders {
    type Input = i64;
    fn add(&mut self, n: i64) {
        self.0.insert(n);
    }
    fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Notes each number modulo something, in an accumulator of the program.
struct Note(i64);

impl ProcessFunction<i64, i64> for Note {
    fn process(&mut self, n: i64, cx: ProcessCx<'_>, out: &mut Emitter<'_, i64>) -> Result<(), UserError> {
        cx.accumulators().add_to::<Remainders>("remainders", n % self.0);
        cx.accumulators().add_to_average("mean", n as f64);
        out.emit(n);
        Ok(())
    }
}

#[test]
fn accumulators_of_the_program_are_merged_over_subtasks_and_operators() {
    let env = StreamEnv::new();
    env.set_parallelism(3);
    let noted = env.from_sequence(1, 1_000).process(|| Note(10));
    noted.process(|| Note(13)).rebalance().discard();
    let result = wait(env.execute("notes")).unwrap();
    let remainders = result.accumulator::<Remainders>("remainders").unwrap();
    assert!(remainders.0.into_iter().eq(0..13));
    assert_eq!(result.average("mean"), Some(500.5));
    assert!(result.accumulator::<Remainders>("none").unwrap().0.is_empty());
    let error = result.accumulator::<Remainders>("mean").unwrap_err().to_string();
    assert!(
        error.starts_with("accumulator 'mean': the accumulator is a Average, not a "),
        "{error}"
    );
}

#[test]
fn an_accumulator_of_two_kinds_fails_the_job() {
    let env = StreamEnv::new();
    let counts = env.from_sequence(1, 100).process(|| Note(10)).process(|| Counts);
    counts.discard();
    let error = wait(env.execute("kinds")).unwrap_err().to_string();
    assert!(
        error.contains("accumulator 'remainders' cannot be merged: one operator or subtask uses it as "),
        "{error}"
    );
}

struct Counts;

impl ProcessFunction<i64, i64> for Counts {
    fn process(&mut self, n: i64, cx: ProcessCx<'_>, out: &mut Emitter<'_, i64>) -> Result<(), UserError> {
        cx.accumulators().add_long("remainders", 1);
        out.emit(n);
        Ok(())
    }
}

/// What happened to the functions of a program.
type Diary = Arc<Mutex<Vec<String>>>;

/// A function that writes its life down.
#[derive(Clone)]
struct Rich {
    diary: Diary,
    subtask: u32,
}

impl Rich {
    fn note(&self, what: &str) {
        self.diary
            .lock()
            .unwrap()
            .push(format!("{what} {}", self.subtask));
    }

    fn begin(&mut self, ctx: &OpenContext<'_>) {
        self.subtask = ctx.info().index;
        self.note("open");
    }
}

impl MapFunction<i64, i64> for Rich {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.begin(ctx);
        Ok(())
    }
    fn map(&mut self, n: i64, cx: ProcessCx<'_>) -> Result<i64, UserError> {
        cx.accumulators().add_long("mapped", 1);
        Ok(n * 10)
    }
    fn close(&mut self) -> Result<(), UserError> {
        self.note("close");
        Ok(())
    }
}

impl FilterFunction<i64> for Rich {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.begin(ctx);
        Ok(())
    }
    fn filter(&mut self, n: &i64, cx: ProcessCx<'_>) -> Result<bool, UserError> {
        cx.accumulators().add_long("filtered", 1);
        Ok(n % 20 == 0)
    }
    fn close(&mut self) -> Result<(), UserError> {
        self.note("close");
        Ok(())
    }
}

impl FlatMapFunction<i64, i64> for Rich {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.begin(ctx);
        Ok(())
    }
    fn flat_map(&mut self, n: i64, cx: ProcessCx<'_>, out: &mut Emitter<'_, i64>) -> Result<(), UserError> {
        assert_eq!(cx.info().index, self.subtask);
        out.extend([n, n + 1]);
        Ok(())
    }
    fn close(&mut self) -> Result<(), UserError> {
        self.note("close");
        Ok(())
    }
}

#[test]
fn rich_functions_live_once_a_subtask() {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    let diary = Diary::default();
    let rich = Rich {
        diary: diary.clone(),
        subtask: u32::MAX,
    };
    let (map, filter, flat_map) = (rich.clone(), rich.clone(), rich);
    let numbers = env
        .from_sequence(1, 4)
        .map_with(move || map.clone())
        .filter_with(move || filter.clone())
        .flat_map_with(move || flat_map.clone());
    let collected = numbers.collect();
    let result = wait(env.execute("rich")).unwrap();
    let mut got = collected.take();
    got.sort_unstable();
    assert_eq!(got, [20, 21, 40, 41]);
    assert_eq!((result.long("mapped"), result.long("filtered")), (4, 4));
    let mut diary = std::mem::take(&mut *diary.lock().unwrap());
    diary.sort();
    let each = ["close 0", "close 1", "open 0", "open 1"];
    assert_eq!(diary, each.map(|line| [line; 3]).concat());
}

#[test]
fn a_rich_function_that_does_not_open_fails_the_job_by_name() {
    struct Closed;
    impl MapFunction<i64, i64> for Closed {
        fn open(&mut self, _: &mut OpenContext<'_>) -> Result<(), UserError> {
            Err("the model is missing".into())
        }
        fn map(&mut self, n: i64, _: ProcessCx<'_>) -> Result<i64, UserError> {
            Ok(n)
        }
    }
    let env = StreamEnv::new();
    let scores = env.from_sequence(1, 4).map_with(|| Closed).name("Score");
    scores.discard();
    let error = wait(env.execute("closed")).unwrap_err().to_string();
    assert!(
        error.contains("'Score'") && error.contains("the model is missing"),
        "{error}"
    );
}
