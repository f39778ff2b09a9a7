//! The all-round job of the tests that kill: every record is checked on its way, so that a lost, repeated
//! or reordered one cannot hide.
//!
//! Each key counts its own records: `key, 0`, `key, 1`, … in order. Keyed state of every kind holds what it
//! must after so many records, or the job fails. Records, timers and windows are written by transactional sinks:
//! `OUT/records`, `OUT/timers` and `OUT/windows`, with three rolling policies. A mapper fails once whenever the file `OUT/fail` appears. When `OUT/savepoint`
//! or `OUT/stop` appears, a savepoint goes into the directory that is named in it, and with the latter the job
//! stops. With `PAUSE` the keyed operator rests so many microseconds at every sixteenth record, so that the queues
//! before it are full. With `HOLD` the source says `held` and rests when it has come to the record of that number: so a job that
//! is to be killed has something left, however long its life is.

#![allow(clippy::print_stdout, reason = "the test reads the result")]

use hurtig::core::time::Time;
use hurtig::dataflow::operator::Budget;
use hurtig::prelude::*;
use hurtig::state::{OperatorSnapshot, Redistribution};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

type Done = std::result::Result<(), UserError>;

/// Keys; a multiple of every parallelism at which the job may begin, so that a key's records all come
/// from one subtask.
const KEYS: u64 = 60;
/// How far event time may go back, in milliseconds.
const JITTER: i64 = 40;

type Record = (u64, u64);

/// The time of record `i`: a millisecond for each ten, out of order within [`JITTER`].
fn time_of(i: u64) -> i64 {
    let early = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as i64 % JITTER;
    (i / 10) as i64 + JITTER - early
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = env.args();
    let (out, count, rate, more) = match &args[..] {
        [_, out, count, rate, more @ ..] if more.len() <= 3 => (out, count, rate, more),
        _ => {
            return Err(
                "usage: all_round OUT COUNT RECORDS_PER_SECOND [PAUSE [HOLD [DIE_AT_STEP=...]]]".into(),
            );
        }
    };
    let (out, count) = (PathBuf::from(out), count.parse()?);
    let pause = Duration::from_micros(more.first().map_or(Ok(0), |pause| pause.parse())?);
    let hold = more.get(1).map_or(Ok(count), |hold| hold.parse())?;
    let time = |&(key, seq): &Record| time_of(seq * KEYS + key);
    let records = env
        .from_source(
            Held::new(count, rate.parse()?, hold),
            Watermarks::bounded(Duration::from_millis(JITTER as u64), time),
        )
        .uid("records");
    let fail = out.join("fail");
    let counted = records.process(move || Counting::new(&fail)).uid("count");
    let timers = OutputTag::new("timers");
    let tag = timers.clone();
    let checked = counted
        .key_by(|record: &Record| record.0)
        .process(move |ctx| Ok(Checks::declare(ctx, &tag, pause)?))
        .uid("check");
    checked
        .side_output(&timers)
        .sink_to(FileSink::lines(out.join("timers")))
        .uid("timers-out");
    checked
        .map(|(key, seq): Record| format!("{key} {seq}"))
        .sink_to(FileSink::lines(out.join("records")).rolling(short()))
        .uid("records-out");
    let tumbling = checked
        .key_by(|record: &Record| record.0)
        .window(Tumbling::of(100.millis()))
        .aggregate_then(
            Count::new(),
            |key: &u64, window: &TimeWindow, n: &u64, out: &mut Collector<String>| {
                out.push(format!("t {key} {} {n}", window.start));
            },
        )
        .uid("tumbling");
    let sliding = checked
        .key_by(|record: &Record| record.0)
        .window(Sliding::of(200.millis(), 50.millis()))
        .aggregate_then(
            Count::new(),
            |key: &u64, window: &TimeWindow, n: &u64, out: &mut Collector<String>| {
                out.push(format!("s {key} {} {n}", window.start));
            },
        )
        .uid("sliding");
    tumbling
        .union(&sliding)
        .sink_to(
            FileSink::lines(out.join("windows"))
                .bucket_by(|line: &String, bucket: &mut String| bucket.push_str(&line[..1]))
                .rolling(RollingPolicy::on_checkpoint())
                .part_suffix(".txt"),
        )
        .uid("windows-out");
    let job = env.execute_async("all round").await?;
    while !job.status().await?.is_globally_terminal() {
        if let Some(dir) = told(&out.join("savepoint")) {
            let taken = job.savepoint(Some(&dir)).await;
            println!("savepoint={taken:?}");
        }
        if let Some(dir) = told(&out.join("stop")) {
            match job.stop(Some(&dir), false).await {
                Ok(path) => {
                    println!("stopped={path}");
                    job.result().await?;
                    return Ok(());
                }
                Err(error) => println!("not stopped: {error}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let result = job.result().await?;
    let (counted, restarts) = (result.long("counted"), result.restarts);
    let same = result.long("restored") == result.long("union");
    println!("counted={counted} same={same} restarts={restarts}");
    Ok(())
}

/// Records by their number, at a rate, up to one at which the source rests.
struct Held {
    records: Box<dyn Source<Record>>,
    hold: u64,
    /// How far the readers of this process have come.
    seen: Arc<AtomicU64>,
}

impl Held {
    fn new(count: u64, rate: u64, hold: u64) -> Self {
        let seen = Arc::new(AtomicU64::new(0));
        let read = seen.clone();
        let record = move |i| {
            read.fetch_max(i, Ordering::Relaxed);
            (i % KEYS, i / KEYS)
        };
        Self {
            records: Box::new(GeneratorSource::new(count, record).rate(rate)),
            hold,
            seen,
        }
    }
}

impl Source<Record> for Held {
    fn bounded(&self) -> bool {
        self.records.bounded()
    }

    fn reader(&self) -> Box<dyn SourceReader<Record>> {
        Box::new(HeldReader {
            records: self.records.reader(),
            hold: self.hold,
            seen: self.seen.clone(),
            opened: None,
            begun: false,
        })
    }
}

struct HeldReader {
    records: Box<dyn SourceReader<Record>>,
    hold: u64,
    seen: Arc<AtomicU64>,
    /// In engine time and in the process's.
    opened: Option<(Time, Instant)>,
    begun: bool,
}

impl SourceReader<Record> for HeldReader {
    #[expect(clippy::disallowed_methods, reason = "a reader that rests needs a clock")]
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> hurtig::core::Result<()> {
        self.opened = Some((ctx.cx().now(), Instant::now()));
        self.records.open(ctx)
    }

    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Collector<Record>,
        budget: &mut Budget,
    ) -> Poll<hurtig::core::Result<SourceStatus>> {
        if !self.begun {
            // One record tells where it is after a restore.
            let first = self.records.poll_batch(cx, out, &mut Budget::new(1));
            self.begun = self.seen.load(Ordering::Relaxed) > 0;
            return first;
        }
        if self.seen.load(Ordering::Relaxed) < self.hold {
            return self.records.poll_batch(cx, out, budget);
        }
        static SAID: Once = Once::new();
        SAID.call_once(|| println!("held"));
        let now = self
            .opened
            .map_or(Time::ZERO, |(engine, process)| engine.after(process.elapsed()));
        Poll::Ready(Ok(SourceStatus::WaitUntil(now.after(Duration::from_millis(20)))))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> hurtig::core::Result<()> {
        self.records.snapshot(snapshot)
    }
}

/// Parts that live through several checkpoints and come to their end in each life of the program.
fn short() -> RollingPolicy {
    let policy = RollingPolicy::default().part_bytes(40_000);
    policy.rollover_interval(Duration::from_millis(300))
}

/// What a file says that appeared, once.
fn told(file: &Path) -> Option<String> {
    let dir = std::fs::read_to_string(file).ok().filter(|dir| !dir.is_empty())?;
    std::fs::remove_file(file).ok()?;
    Some(dir)
}

/// Counts the records of its subtask in operator state, and fails on command.
struct Counting {
    fail: PathBuf,
    seen: i64,
}

impl Counting {
    fn new(fail: &Path) -> Self {
        Self {
            fail: fail.to_owned(),
            seen: 0,
        }
    }
}

impl ProcessFunction<Record, Record> for Counting {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Done {
        if let Some(state) = ctx.restored() {
            self.seen = state.operator::<i64>("seen")?.into_iter().sum();
            ctx.cx().accumulators().add_long("restored", self.seen);
            let all: i64 = state.operator::<i64>("seen-by-all")?.into_iter().sum();
            // All subtasks have the same list.
            if ctx.info().index == 0 {
                ctx.cx().accumulators().add_long("union", all);
            }
        }
        ctx.cx().accumulators().add_long("counted", self.seen);
        Ok(())
    }

    fn process(&mut self, record: Record, cx: ProcessCx<'_>, out: &mut Emitter<'_, Record>) -> Done {
        self.seen += 1;
        if self.seen % 512 == 0 && std::fs::remove_file(&self.fail).is_ok() {
            return Err("told to fail".into());
        }
        cx.accumulators().add_long("counted", 1);
        out.emit(record);
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Done {
        snapshot.put_operator("seen", Redistribution::Split, &[self.seen])?;
        snapshot.put_operator("seen-by-all", Redistribution::Union, &[self.seen])?;
        Ok(())
    }
}

/// Fires this long after each record, in milliseconds of event time.
const DELAY: i64 = 50;

/// Keyed state of every kind: what each must hold after so many records is known.
struct Checks {
    next: ValueState<u64>,
    last: ListState<u64>,
    by_digit: MapState<u64, u64>,
    sum: ReducingState<u64>,
    count: AggregatingState<Counted>,
    timers: OutputTag<String>,
    pause: Duration,
    seen: u64,
}

impl Checks {
    fn declare(
        ctx: &mut KeyedOpenContext<'_, u64>,
        timers: &OutputTag<String>,
        pause: Duration,
    ) -> hurtig::core::Result<Self> {
        Ok(Self {
            next: ctx.value("next")?,
            last: ctx.list("last")?,
            by_digit: ctx.map("by-digit")?,
            sum: ctx.reducing("sum", |sum, seq| *sum += seq)?,
            count: ctx.aggregating("count", Counted)?,
            timers: timers.clone(),
            pause,
            seen: 0,
        })
    }

    /// Rests at every sixteenth record.
    #[expect(
        clippy::disallowed_methods,
        reason = "an operator that blocks is what the test needs"
    )]
    fn rest(&mut self) {
        self.seen += 1;
        if self.seen.is_multiple_of(16) && !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
    }

    /// What is wrong with the state of a key that has seen `n` records.
    fn complaint(&self, cx: KeyedCx<'_, u64>, n: u64) -> Option<String> {
        let last: Vec<u64> = (n.saturating_sub(3)..n).collect();
        if *self.last.get(cx) != last[..] {
            return Some(format!("list {:?}, not {last:?}", self.last.get(cx)));
        }
        let sum = self.sum.get(cx).map_or(0, |sum| *sum);
        if sum != n * n.saturating_sub(1) / 2 {
            return Some(format!("sum {sum} of {n} numbers"));
        }
        if self.count.get(cx).unwrap_or(0) != n {
            return Some(format!("count {:?}, not {n}", self.count.get(cx)));
        }
        let digits: Vec<(u64, u64)> = (0..10)
            .map(|d| (d, (n + 9 - d) / 10))
            .filter(|(_, n)| *n > 0)
            .collect();
        let mut found = self.by_digit.entries(cx);
        found.sort_unstable();
        (found != digits).then(|| format!("digits {found:?}, not {digits:?}"))
    }
}

impl KeyedProcessFunction<u64, Record, Record> for Checks {
    fn process(&mut self, (key, seq): Record, cx: KeyedCx<'_, u64>, out: &mut Emitter<'_, Record>) -> Done {
        self.rest();
        let next = self.next.get_cloned(cx).unwrap_or(0);
        if seq != next {
            return Err(format!("key {key}: record {seq} came and {next} was next").into());
        }
        if let Some(complaint) = self.complaint(cx, seq) {
            return Err(format!("key {key} before record {seq}: {complaint}").into());
        }
        self.next.set(cx, seq + 1);
        let mut last = self.last.take(cx);
        last.push(seq);
        self.last.extend(cx, last.into_iter().rev().take(3).rev());
        *self.by_digit.get_or(cx, seq % 10, || 0) += 1;
        self.sum.add(cx, seq);
        self.count.add(cx, seq);
        cx.register_event_timer(cx.timestamp().ok_or("a record without time")? + DELAY);
        out.emit((key, seq));
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, u64>,
        _: &mut Emitter<'_, Record>,
    ) -> Done {
        cx.side_output(&self.timers, format!("{} {time}", cx.key()));
        Ok(())
    }
}

/// How many there were.
struct Counted;

impl AggregateFunction for Counted {
    type In = u64;
    type Acc = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }
    fn add(&self, count: &mut u64, _: u64) {
        *count += 1;
    }
    fn merge(&self, count: &mut u64, other: u64) {
        *count += other;
    }
    fn result(&self, count: &u64) -> u64 {
        *count
    }
}
