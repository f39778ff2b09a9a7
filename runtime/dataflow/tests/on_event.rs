//! Watermarks behind every n-th record, as a source sends them, against a model that looks at each record.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hurtig_core::time::{MAX_WATERMARK, MIN_WATERMARK, ManualClock};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Element, Event, Result};
use hurtig_dataflow::chain::{AnyLink, Link, Round, SourceHead, Tail, TaskCore, TaskParts};
use hurtig_dataflow::operator::{Budget, Collector, Services, SideOutputs, SubtaskInfo};
use hurtig_dataflow::operators::{WatermarkStrategy, Watermarks};
use hurtig_dataflow::source::{SourceReader, SourceStatus};
use hurtig_exchange::{ChannelOptions, EdgeWriter, FlushPolicy, Partitioner, Receiver, Signal, channel};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const DELAY: i64 = 2;

/// Reads runs of records of one split after the other; the same split may come again.
struct Runs {
    left: VecDeque<(u64, VecDeque<i64>)>,
    split: u64,
}

impl SourceReader<i64> for Runs {
    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        let Some((split, times)) = self.left.front_mut() else {
            return Poll::Ready(Ok(SourceStatus::Finished));
        };
        self.split = *split;
        while !out.full() && b.spend() {
            let Some(time) = times.pop_front() else { break };
            out.push_at(time, time);
        }
        if times.is_empty() {
            self.left.pop_front();
        }
        Poll::Ready(Ok(SourceStatus::More))
    }

    fn current_split(&self) -> u64 {
        self.split
    }
}

/// What leaves a source: records by their times, and watermarks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Out {
    Record(i64),
    Watermark(i64),
}

fn read(runs: &[(u64, Vec<i64>)], strategy: WatermarkStrategy<i64>, batch: usize) -> Vec<Out> {
    let wide = ChannelOptions::bounded(10_000, usize::MAX);
    let (sender, output) = channel(wide, Signal::new(), Signal::new());
    let edge = EdgeWriter::new(
        vec![sender],
        Partitioner::Forward,
        TypeInfo::of(),
        FlushPolicy::default(),
    );
    let clock = ManualClock::new();
    let services = Services::new(
        SubtaskInfo::single("source"),
        clock.clone(),
        SideOutputs::default(),
    );
    let left = runs
        .iter()
        .map(|(split, times)| (*split, times.iter().copied().collect()));
    let reader = Runs {
        left: left.collect(),
        split: 0,
    };
    let head = SourceHead::new(Box::new(reader), strategy, Duration::from_secs(3_600), services);
    let parts = TaskParts {
        head: Box::new(head),
        nodes: Vec::new(),
        links: vec![Box::new(Link::<i64>::new(batch)) as Box<dyn AnyLink>],
        outlet: Box::new(Tail::new(vec![edge])),
        signal: Signal::new(),
        buffer_timeout: None,
    };
    let mut core = TaskCore::new(parts, clock);
    core.open(&|_| None).unwrap();
    let mut task = Context::from_waker(Waker::noop());
    while core.round(&mut task, Duration::from_secs(1)).unwrap() != Round::Finished {}
    drain(&output)
}

fn drain(output: &Receiver<i64>) -> Vec<Out> {
    let mut out = Vec::new();
    while let Some(element) = output.try_recv() {
        match element {
            Element::Batch(mut batch) => out.extend(batch.records().iter().map(|time| Out::Record(*time))),
            Element::Event(Event::Watermark(wm)) => out.push(Out::Watermark(wm)),
            Element::Event(_) => {}
        }
    }
    out
}

/// The least of what splits knew behind their last full gap.
fn expected(runs: &[(u64, Vec<i64>)], gap: usize) -> Vec<Out> {
    let (mut out, mut sent) = (Vec::new(), MIN_WATERMARK);
    // By split: records, the newest time, and the watermark that counts.
    let mut splits: BTreeMap<u64, (usize, i64, i64)> = BTreeMap::new();
    for (split, times) in runs {
        for time in times {
            out.push(Out::Record(*time));
            let state = splits.entry(*split).or_insert((0, i64::MIN, MIN_WATERMARK));
            (state.0, state.1) = (state.0 + 1, state.1.max(*time));
            if state.0.is_multiple_of(gap) {
                state.2 = state.1 - DELAY - 1;
            }
            let least = splits.values().map(|state| state.2).min().unwrap();
            if least > sent {
                sent = least;
                out.push(Out::Watermark(least));
            }
        }
    }
    // A channel holds the newest of watermarks without a record between them.
    out.pop_if(|last| matches!(last, Out::Watermark(_)));
    out.push(Out::Watermark(MAX_WATERMARK));
    out
}

fn bounded() -> WatermarkStrategy<i64> {
    Watermarks::bounded_by_record_time(Duration::from_millis(DELAY.unsigned_abs()))
}

#[test]
fn a_source_cuts_its_batches_where_watermarks_are_due() {
    let runs = [(1, (1..=8).collect())];
    use Out::{Record, Watermark};
    let out = read(&runs, bounded().with_emit_on_event(3), 100);
    let want = [
        Record(1),
        Record(2),
        Record(3),
        Watermark(0),
        Record(4),
        Record(5),
        Record(6),
        Watermark(3),
        Record(7),
        Record(8),
        Watermark(MAX_WATERMARK),
    ];
    assert_eq!(out, want);
    // By the clock there is one behind the whole batch.
    let periodic = read(&runs, bounded(), 100);
    let last = Watermark(MAX_WATERMARK);
    assert_eq!(periodic, (1..=8).map(Record).chain([last]).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn watermarks_stand_behind_the_records_that_are_due_wherever_batches_are_cut(
        runs in prop::collection::vec((0_u64..3, prop::collection::vec(0_i64..1_000, 1..20)), 0..12),
        gap in 1_u32..8,
        batch in 1_usize..12,
    ) {
        let out = read(&runs, bounded().with_emit_on_event(gap), batch);
        prop_assert_eq!(out, expected(&runs, gap as usize));
    }
}
