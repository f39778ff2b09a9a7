//! Sources that read a history before they follow what is new: what programs, checkpoints and metrics see of it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::core::metrics::{MetricSample, MetricValue};
use hurtig::dataflow::operator::Budget;
use hurtig::dataflow::source::{Assignment, EnumeratorContext, Split, SplitEnumerator};
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::{until, wait};
use hurtig_state::snapshot::{decode, encode};
use hurtig_state::{OperatorSnapshot, Redistribution};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

type Done = std::result::Result<(), UserError>;

/// Records of a split.
const EACH: u64 = 500;
/// Splits of the history, and as many of what is new.
const SPLITS: u64 = 2;
/// The first record of what is new.
const NEW: u64 = 10_000;
/// The first record of another source.
const OTHER: u64 = 1_000_000;

/// What a test has in its hands.
#[derive(Default)]
struct Hands {
    /// The history may end.
    over: AtomicBool,
    /// What is new may end.
    end: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    /// Records that were seen, by subtask, with whether they were taken for backlog.
    seen: Mutex<Vec<(u32, u64, bool)>>,
    /// Failures that are still to come.
    fail: AtomicU32,
}

impl Hands {
    fn set(&self, what: &AtomicBool) {
        what.store(true, SeqCst);
        self.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    fn seen(&self, which: std::ops::Range<u64>) -> Vec<(u32, u64, bool)> {
        let seen = self.seen.lock().unwrap();
        let own = seen.iter().filter(|(_, record, _)| which.contains(record));
        own.copied().collect()
    }

    fn distinct(&self, which: std::ops::Range<u64>) -> usize {
        let seen: BTreeSet<u64> = self
            .seen(which)
            .into_iter()
            .map(|(_, record, _)| record)
            .collect();
        seen.len()
    }
}

/// A history in splits, and then what is new.
struct History(Arc<Hands>);

impl Source<u64> for History {
    fn bounded(&self) -> bool {
        true
    }

    fn reader(&self) -> Box<dyn SourceReader<u64>> {
        Box::new(Reader {
            hands: Arc::clone(&self.0),
            current: None,
            no_more: false,
            waker: None,
            splits: 0,
        })
    }

    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator>> {
        Some(Box::new(Deal::default()))
    }
}

/// Deals out the history, and what is new when its readers are through with that.
#[derive(Default)]
struct Deal {
    context: Option<EnumeratorContext>,
    old: VecDeque<Split>,
    new: VecDeque<Split>,
    reading: BTreeSet<u32>,
}

fn split(first: u64) -> Split {
    Split {
        id: first.to_string(),
        bytes: encode(&first).unwrap(),
    }
}

fn is_new(split: &Split) -> bool {
    decode::<u64>(&split.bytes).unwrap() >= NEW
}

impl Deal {
    fn say(&self) {
        let backlog = !self.old.is_empty() || !self.reading.is_empty();
        self.context.as_ref().unwrap().set_backlog(backlog);
    }
}

impl SplitEnumerator for Deal {
    fn open(&mut self, context: EnumeratorContext) {
        self.context = Some(context);
    }

    fn start(&mut self, parallelism: u32) -> hurtig::core::Result<()> {
        self.old = (0..SPLITS).map(|i| split(i * EACH)).collect();
        self.new = (0..SPLITS).map(|i| split(NEW + i * EACH)).collect();
        self.reading = (0..parallelism).collect();
        self.say();
        Ok(())
    }

    fn next_split(&mut self, reader: u32) -> hurtig::core::Result<Assignment> {
        if let Some(split) = self.old.pop_front() {
            return Ok(Assignment::Split(split));
        }
        self.reading.remove(&reader);
        self.say();
        if !self.reading.is_empty() {
            return Ok(Assignment::Later(1));
        }
        Ok(self.new.pop_front().map_or(Assignment::NoMore, Assignment::Split))
    }

    fn add_back(&mut self, splits: Vec<Split>) {
        for split in splits.into_iter().rev() {
            if is_new(&split) {
                self.new.push_front(split);
            } else {
                self.old.push_front(split);
            }
        }
        self.say();
    }

    fn snapshot(&mut self) -> hurtig::core::Result<Vec<u8>> {
        let over = self.reading.is_empty();
        let waiting: Vec<Split> = self.old.iter().chain(&self.new).cloned().collect();
        encode(&(over, waiting))
    }

    fn restore(&mut self, snapshot: &[u8], parallelism: u32) -> hurtig::core::Result<()> {
        let (over, waiting): (bool, Vec<Split>) = decode(snapshot)?;
        let (new, old) = waiting.into_iter().partition(is_new);
        (self.old, self.new) = (old, new);
        self.reading = if over { 0..0 } else { 0..parallelism }.collect();
        self.say();
        Ok(())
    }
}

/// Reads a split, and at its end waits for a hand.
struct Reader {
    hands: Arc<Hands>,
    /// First and next record.
    current: Option<(u64, u64)>,
    no_more: bool,
    waker: Option<Waker>,
    splits: u64,
}

impl SourceReader<u64> for Reader {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> hurtig::core::Result<()> {
        if let Some(restored) = ctx.restored() {
            self.current = restored.operator::<(u64, u64)>("at")?.pop();
        }
        Ok(())
    }

    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Collector<u64>,
        b: &mut Budget,
    ) -> Poll<hurtig::core::Result<SourceStatus>> {
        let Some((first, next)) = &mut self.current else {
            self.waker = Some(cx.waker().clone());
            return if self.no_more {
                Poll::Ready(Ok(SourceStatus::Finished))
            } else {
                Poll::Pending
            };
        };
        // A few at a time, so that batches are cut anywhere.
        for _ in 0..7 {
            if *next < *first + EACH && !out.full() && b.spend() {
                out.push_at(*next, *next as i64);
                *next += 1;
            }
        }
        if !out.is_empty() {
            return Poll::Ready(Ok(SourceStatus::More));
        }
        let end = if *first < NEW {
            &self.hands.over
        } else {
            &self.hands.end
        };
        self.hands.waiting.lock().unwrap().push(cx.waker().clone());
        if !end.load(SeqCst) {
            return Poll::Pending;
        }
        self.current = None;
        Poll::Ready(Ok(SourceStatus::SplitFinished))
    }

    fn current_split(&self) -> u64 {
        self.splits
    }

    fn wants_split(&self) -> bool {
        self.current.is_none() && !self.no_more
    }

    fn add_split(&mut self, split: Option<Split>) -> hurtig::core::Result<()> {
        match split {
            Some(split) => {
                let first = decode(&split.bytes)?;
                (self.current, self.splits) = (Some((first, first)), self.splits + 1);
            }
            None => self.no_more = true,
        }
        self.waker.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> hurtig::core::Result<()> {
        let at: Vec<(u64, u64)> = self.current.into_iter().collect();
        snapshot.put_operator("at", Redistribution::Split, &at)
    }
}

/// Writes down what it sees and whether it is backlog, and fails when it is told to.
struct Looks(Arc<Hands>);

impl KeyedProcessFunction<u64, u64, u64> for Looks {
    fn process(&mut self, record: u64, cx: KeyedCx<'_, u64>, out: &mut Emitter<'_, u64>) -> Done {
        let mut seen = self.0.seen.lock().unwrap();
        seen.push((cx.info().index, record, cx.is_backlog()));
        let due = seen.len().is_multiple_of(300) && self.0.fail.load(SeqCst) > 0;
        if due {
            self.0.fail.fetch_sub(1, SeqCst);
            return Err("told to fail".into());
        }
        out.emit(record);
        Ok(())
    }
}

fn env(settings: &[(&str, &str)]) -> StreamEnv {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    for (key, value) in settings {
        env.set(key, value).unwrap();
    }
    env
}

fn looks(stream: &DataStream<u64>, hands: &Arc<Hands>) {
    let hands = Arc::clone(hands);
    stream
        .key_by(|record| record % 8)
        .process(move |_| Ok(Looks(Arc::clone(&hands))))
        .name("looks")
        .discard();
}

fn gauge(metrics: &[MetricSample], name: &str, of: &str) -> Vec<i64> {
    let own = metrics
        .iter()
        .filter(|sample| sample.name == name && sample.scope.get("operator").unwrap_or_default() == of);
    own.map(|sample| match sample.value {
        MetricValue::Gauge(value) => value,
        ref other => panic!("{other:?}"),
    })
    .collect()
}

#[test]
fn no_checkpoint_is_taken_during_backlog_and_what_follows_is_live() {
    let hands = Arc::new(Hands::default());
    let env = env(&[]);
    env.checkpoint_every(Duration::from_millis(20))
        .checkpoint_during_backlog_every(Duration::ZERO);
    let history = env
        .from_source(History(Arc::clone(&hands)), Watermarks::none())
        .name("history");
    let other = GeneratorSource::unbounded(|i| OTHER + i).rate(200);
    looks(
        &history.union(&env.from_source(other, Watermarks::none())),
        &hands,
    );
    wait(async {
        let job = env.execute_async("history").await.unwrap();
        let history = 0..SPLITS * EACH;
        // A hundred records of the other source take 25 intervals.
        until("the history and the other source", async || {
            hands.distinct(history.clone()) == 1_000 && hands.distinct(OTHER..u64::MAX) > 100
        })
        .await;
        assert_eq!(job.checkpoint_statistics().await.unwrap().triggered, 0);
        let all = hands.seen(0..u64::MAX);
        assert!(
            all.iter().all(|(_, _, backlog)| *backlog),
            "all of it, as long as one input is in backlog"
        );
        until("a gauge that says backlog", async || {
            gauge(&job.metrics(), "isBacklog", "looks") == [1, 1]
        })
        .await;
        assert_eq!(gauge(&job.metrics(), "isBacklog", "history"), [1, 1]);
        assert_eq!(gauge(&job.metrics(), "numSourcesInBacklog", ""), [1]);

        hands.set(&hands.over);
        until("two checkpoints", async || {
            job.checkpoint_statistics().await.unwrap().completed >= 2
        })
        .await;
        until("new records behind the backlog", async || {
            let (new, other) = (hands.seen(NEW..OTHER), hands.seen(OTHER..u64::MAX));
            new.len() == 1_000 && other.iter().any(|(_, _, backlog)| !backlog)
        })
        .await;
        // Each subtask turns once.
        for subtask in 0..2 {
            let seen = hands.seen(0..u64::MAX).into_iter();
            let own: Vec<bool> = seen.filter(|one| one.0 == subtask).map(|one| one.2).collect();
            assert!(own.is_sorted_by(|earlier, later| earlier >= later), "{own:?}");
        }
        until("a gauge that says no backlog", async || {
            gauge(&job.metrics(), "isBacklog", "looks") == [0, 0]
        })
        .await;
        assert_eq!(gauge(&job.metrics(), "numSourcesInBacklog", ""), [0]);
        job.cancel().await.unwrap();
    });
}

#[test]
fn backlog_is_backlog_again_after_restarts_and_ends_with_its_source() {
    for unaligned in ["false", "true"] {
        let hands = Arc::new(Hands::default());
        hands.fail.store(3, SeqCst);
        let env = env(&[
            ("execution.checkpointing.interval", "10 ms"),
            ("execution.checkpointing.unaligned.enabled", unaligned),
            ("restart-strategy.type", "fixed-delay"),
            ("restart-strategy.fixed-delay.attempts", "10"),
            ("restart-strategy.fixed-delay.delay", "10 ms"),
            ("pipeline.batch-size", "3"),
        ]);
        let history = env.from_source(History(Arc::clone(&hands)), Watermarks::none());
        looks(&history.name("history"), &hands);
        wait(async {
            let job = env.execute_async("history").await.unwrap();
            let restarted = async || hands.fail.load(SeqCst) == 0;
            until("a restart and the history", async || {
                restarted().await && hands.distinct(0..SPLITS * EACH) == 1_000
            })
            .await;
            hands.set(&hands.over);
            until("what is new", async || hands.distinct(NEW..OTHER) == 1_000).await;
            hands.set(&hands.end);
            let result = job.result().await.unwrap();
            assert_eq!(result.restarts, 3);
        });
        let old = hands.seen(0..SPLITS * EACH);
        assert!(old.len() > 1_000, "some of it was seen again");
        let live: Vec<_> = old.iter().filter(|(_, _, backlog)| !backlog).collect();
        assert!(live.is_empty(), "unaligned {unaligned}: {live:?}");
    }
}

#[test]
fn files_that_were_there_at_the_start_are_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let lines = |first: u64| -> String { (first..first + EACH).map(|n| format!("{n}\n")).collect() };
    for i in 0..3 {
        std::fs::write(dir.path().join(format!("old-{i}")), lines(i * EACH)).unwrap();
    }
    let hands = Arc::new(Hands::default());
    let env = env(&[]);
    env.set_parallelism(1);
    let files = FileSource::lines(dir.path()).continuous(Duration::from_millis(5));
    let numbers = env
        .from_source(files, Watermarks::none())
        .map(|line: Str| line.parse::<u64>().unwrap());
    looks(&numbers, &hands);
    wait(async {
        let job = env.execute_async("files").await.unwrap();
        until("the longer history", async || hands.distinct(0..NEW) == 1_500).await;
        assert!(hands.seen(0..NEW).iter().all(|(_, _, backlog)| *backlog));
        std::fs::write(dir.path().join(".new"), lines(NEW)).unwrap();
        std::fs::rename(dir.path().join(".new"), dir.path().join("new")).unwrap();
        until("what is new", async || hands.distinct(NEW..OTHER) == 500).await;
        assert!(hands.seen(NEW..OTHER).iter().all(|(_, _, backlog)| !backlog));
        job.cancel().await.unwrap();
    });
}
