//! What programs can do beside transforming: accumulators, parameters, metrics, settings of streams.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::JobListener;
use hurtig::core::metrics::{Counter, Gauge, Histogram, Meter, MetricValue};
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::wait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

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

/// Emits a parameter for each record, and measures itself in every way.
struct Measured {
    greeting: String,
    records: Option<Counter>,
    last: Option<Gauge>,
    rate: Option<Meter>,
    sizes: Option<Histogram>,
}

impl Measured {
    fn new() -> Self {
        Self {
            greeting: String::new(),
            records: None,
            last: None,
            rate: None,
            sizes: None,
        }
    }
}

impl MapFunction<i64, String> for Measured {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.greeting = ctx.job_parameters().get("greeting").cloned().unwrap_or_default();
        let metrics = ctx.metrics();
        self.records = Some(metrics.counter("records"));
        self.last = Some(metrics.gauge("last"));
        self.rate = Some(metrics.meter("rate"));
        self.sizes = Some(metrics.histogram("sizes"));
        metrics.computed("answer", || 42.0);
        Ok(())
    }

    fn map(&mut self, n: i64, _: ProcessCx<'_>) -> Result<String, UserError> {
        self.records.iter().for_each(Counter::inc);
        self.last.iter().for_each(|last| last.set(n));
        self.rate.iter().for_each(Meter::mark);
        self.sizes.iter().for_each(|sizes| sizes.record(n.unsigned_abs()));
        Ok(format!("{} {n}", self.greeting))
    }
}

#[test]
fn parameters_and_metrics_reach_functions_and_clients() {
    let env = StreamEnv::new();
    env.set("pipeline.global-job-parameters", "greeting:weak,place:here")
        .unwrap();
    env.set_global_job_parameters(Parameters::from_args(["--greeting", "hello"]).unwrap());
    let greeted = env.from_sequence(1, 3).map_with(Measured::new).name("Greet");
    let collected = greeted.collect();
    let job = wait(env.execute_async("greetings")).unwrap();
    wait(job.result()).unwrap();
    assert_eq!(collected.take(), ["hello 1", "hello 2", "hello 3"]);
    let shown = job.job_parameters();
    assert_eq!(
        (shown["greeting"].as_str(), shown["place"].as_str()),
        ("hello", "here")
    );

    let samples = job.metrics();
    let of = |name: &str| {
        let found = samples.iter().find(|sample| sample.name == name).unwrap();
        assert_eq!(found.scope.get("job"), Some("greetings"));
        assert_eq!(found.scope.get("operator"), Some("Greet"));
        assert_eq!(found.scope.get("subtask"), Some("0"));
        found.value.clone()
    };
    assert_eq!(of("records"), MetricValue::Counter(3));
    assert_eq!(of("last"), MetricValue::Gauge(3));
    assert_eq!(of("answer"), MetricValue::Computed(42.0));
    assert!(matches!(of("rate"), MetricValue::Meter { count: 3, .. }));
    let MetricValue::Histogram(sizes) = of("sizes") else {
        panic!("no histogram");
    };
    assert_eq!(sizes.count(), 3);
}

/// Watermarks that follow each record at once, so that lateness is certain.
fn each_record() -> WatermarkStrategy<(i64, u32)> {
    Watermarks::punctuated(|record: &(i64, u32)| record.0, |record, _| Some(record.0))
}

/// `numLateRecordsDropped` of every kind of window operator, by its name.
fn late_dropped(times: Vec<(i64, u32)>) -> Vec<(String, MetricValue)> {
    let env = StreamEnv::new();
    env.set("pipeline.batch-size", "1").unwrap();
    env.set("pipeline.auto-watermark-interval", "0 ms").unwrap();
    let input = env.from_source(CollectionSource::new(times), each_record());
    let keyed = input.key_by(|record| record.1);
    let ten = || Tumbling::of(10.millis());
    keyed.window(ten()).aggregate(Count::new()).name("Grid").discard();
    let sliding = Sliding::of(20.millis(), 10.millis());
    keyed
        .window(sliding)
        .aggregate(Count::new())
        .name("Slide")
        .discard();
    let gap = Session::with_gap(10.millis());
    keyed
        .window(gap)
        .aggregate(Count::new())
        .name("Session")
        .discard();
    let all = keyed.window(ten());
    all.apply(|_, _, _, out: &mut Collector<u32>| out.push(1))
        .name("General")
        .discard();
    let job = wait(env.execute_async("late")).unwrap();
    wait(job.result()).unwrap();
    let mut found: Vec<_> = job
        .metrics()
        .into_iter()
        .filter(|sample| sample.name == "numLateRecordsDropped")
        .map(|sample| {
            (
                sample.scope.get("operator").unwrap_or_default().to_owned(),
                sample.value,
            )
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn every_kind_of_window_publishes_what_came_too_late() {
    let all = |count| {
        ["General", "Grid", "Session", "Slide"].map(|name| (name.to_owned(), MetricValue::Counter(count)))
    };
    // 5 and 7 come behind the watermark 100.
    let times = vec![(1, 1), (100, 1), (5, 1), (101, 1), (7, 1), (250, 1)];
    assert_eq!(late_dropped(times), all(2));
    let in_order = vec![(1, 1), (100, 1), (250, 1)];
    assert_eq!(late_dropped(in_order), all(0), "shown although nothing was late");
}

#[test]
fn tasks_and_operators_publish_what_they_counted() {
    let env = StreamEnv::new();
    let numbers = env.from_source(SequenceSource::new(1, 10), Watermarks::monotonous(|n: &i64| *n));
    let even = numbers.name("Numbers").filter(|n| n % 2 == 0).name("Even");
    even.key_by(|n| *n).reduce(|_, _| {}).name("Last").discard();
    let job = wait(env.execute_async("counted")).unwrap();
    wait(job.result()).unwrap();
    let metrics = job.metrics();
    let of = |operator: Option<&str>, task: &str, name: &str| {
        let mut found = metrics.iter().filter(|sample| {
            sample.name == name
                && sample.scope.get("operator") == operator
                && sample.scope.get("task").is_some_and(|name| name.contains(task))
        });
        let value = found
            .next()
            .unwrap_or_else(|| panic!("no {name} of {operator:?} in {task}"));
        assert!(found.next().is_none(), "two {name} of {operator:?} in {task}");
        value.value.clone()
    };
    let counts = |operator, task| ["numRecordsIn", "numRecordsOut"].map(|name| of(operator, task, name));
    let expected = |counts: [u64; 2]| counts.map(MetricValue::Counter);
    assert_eq!(counts(Some("Numbers"), "Even"), expected([0, 10]));
    assert_eq!(counts(Some("Even"), "Even"), expected([10, 5]));
    assert_eq!(counts(Some("Last"), "Last"), expected([5, 5]));
    assert_eq!(counts(None, "Even"), expected([0, 5]));
    assert_eq!(counts(None, "Last")[0], MetricValue::Counter(5));
    assert_eq!(
        of(Some("Last"), "Last", "currentOutputWatermark"),
        MetricValue::Gauge(i64::MAX)
    );
    let rate = of(None, "Last", "numRecordsInPerSecond");
    assert!(matches!(rate, MetricValue::Meter { count: 5, .. }), "{rate:?}");
    let shares = ["busy", "idle", "backPressured"].map(|condition| {
        match of(None, "Last", &format!("{condition}TimeMsPerSecond")) {
            MetricValue::Gauge(share) => share,
            other => panic!("{condition}: {other:?}"),
        }
    });
    let all: i64 = shares.iter().sum();
    assert!((998..=1_000).contains(&all), "{shares:?} are parts of a second");
}

#[test]
fn listeners_are_told_of_submission_and_end() {
    struct Listener(Diary);
    impl JobListener for Listener {
        fn on_job_submitted(&self, job: Result<&JobClient, &hurtig::Error>) {
            let line = job.map_or_else(ToString::to_string, |job| format!("submitted {}", job.name()));
            self.0.lock().unwrap().push(line);
        }
        fn on_job_executed(&self, result: Result<&JobResult, &hurtig::Error>) {
            let line = result.map_or_else(ToString::to_string, |result| format!("finished {}", result.name));
            self.0.lock().unwrap().push(line);
        }
    }
    let (env, diary) = (StreamEnv::new(), Diary::default());
    env.register_job_listener(Listener(diary.clone()));
    env.from_sequence(1, 3).discard();
    wait(env.execute("good")).unwrap();
    let failing = env.from_sequence(1, 3).try_map(|_| Err::<i64, _>("no".into()));
    failing.discard();
    wait(env.execute("bad")).unwrap_err();
    wait(env.execute("empty")).unwrap_err();
    let diary = diary.lock().unwrap();
    assert_eq!(diary[..3], ["submitted good", "finished good", "submitted bad"]);
    assert!(diary[3].starts_with("job 'bad' FAILED"), "{diary:?}");
    assert_eq!(
        (diary.len(), &diary[4]),
        (6, &diary[5]),
        "not submitted, and so not executed"
    );
}
