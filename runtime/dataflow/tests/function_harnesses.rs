//! Harnesses around functions of every kind, and around sources.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it stands"
)]

use hurtig_core::{Result, UserError};
use hurtig_dataflow::broadcast::{BroadcastProcessFunction, KeyedBroadcastCx, KeyedBroadcastProcessFunction};
use hurtig_dataflow::function::{
    CoProcessFunction, Emitter, KeyedCoProcessFunction, KeyedCx, KeyedProcessFunction, ProcessCx,
    ProcessFunction,
};
use hurtig_dataflow::operator::{Budget, Collector, OpenContext};
use hurtig_dataflow::source::{Assignment, Source, SourceReader, SourceStatus, Split, SplitEnumerator};
use hurtig_dataflow::testing::*;
use hurtig_dataflow::timers::TimeDomain;
use hurtig_state::{BroadcastState, OperatorListState, OperatorSnapshot, ValueState};
use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

type Done = std::result::Result<(), UserError>;

/// Without keys: numbers with the times they had.
struct Timed;

impl ProcessFunction<i64, (i64, Option<i64>)> for Timed {
    fn process(&mut self, n: i64, cx: ProcessCx<'_>, out: &mut Emitter<'_, (i64, Option<i64>)>) -> Done {
        out.emit((n, cx.timestamp()));
        Ok(())
    }
}

#[test]
fn a_process_function() -> Result<()> {
    let mut harness = for_process_function(|| Timed)?;
    harness.push(7, 70)?;
    assert_eq!(harness.values(), [(7, Some(70))]);
    Ok(())
}

/// A key's sum, which its timer emits.
struct Sum(ValueState<i64>);

impl KeyedProcessFunction<u64, i64, (u64, i64)> for Sum {
    fn process(&mut self, n: i64, cx: KeyedCx<'_, u64>, _: &mut Emitter<'_, (u64, i64)>) -> Done {
        let sum = self.0.get_cloned(cx).unwrap_or(0) + n;
        self.0.set(cx, sum);
        cx.register_event_timer(100);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, (u64, i64)>,
    ) -> Done {
        out.emit((*cx.key(), self.0.get_cloned(cx).unwrap_or(0)));
        Ok(())
    }
}

#[test]
fn a_keyed_process_function_with_state_and_timers_survives_a_restore() -> Result<()> {
    let key = |n: &i64| n.unsigned_abs() % 2;
    let mut harness = for_keyed_process_function(key, |ctx| Ok(Sum(ctx.value("sum")?)))?;
    harness.push_all([(1, 1), (2, 2), (3, 3)])?;
    let snapshot = harness.snapshot()?;
    let mut harness = harness.restore(&snapshot)?;
    harness.push(4, 4)?;
    harness.watermark(100)?;
    let mut sums = harness.values();
    sums.sort_unstable();
    assert_eq!(sums, [(0, 6), (1, 4)]);
    Ok(())
}

/// Lets numbers pass while the last word was "on".
struct Gate(bool);

impl CoProcessFunction<i64, String, i64> for Gate {
    fn process_first(&mut self, n: i64, _: ProcessCx<'_>, out: &mut Emitter<'_, i64>) -> Done {
        if self.0 {
            out.emit(n);
        }
        Ok(())
    }

    fn process_second(&mut self, word: String, _: ProcessCx<'_>, _: &mut Emitter<'_, i64>) -> Done {
        self.0 = word == "on";
        Ok(())
    }
}

#[test]
fn a_co_process_function() -> Result<()> {
    let mut harness = for_co_process_function(|| Gate(false))?;
    harness.push_first(1, 1)?;
    harness.push_second("on".to_owned(), 2)?;
    harness.push_first(2, 3)?;
    assert_eq!(harness.values(), [2]);
    Ok(())
}

/// The same by key.
struct KeyedGate(ValueState<bool>);

impl KeyedCoProcessFunction<u64, i64, (u64, bool), i64> for KeyedGate {
    fn process_first(&mut self, n: i64, cx: KeyedCx<'_, u64>, out: &mut Emitter<'_, i64>) -> Done {
        if self.0.get_cloned(cx) == Some(true) {
            out.emit(n);
        }
        Ok(())
    }

    fn process_second(
        &mut self,
        (_, on): (u64, bool),
        cx: KeyedCx<'_, u64>,
        _: &mut Emitter<'_, i64>,
    ) -> Done {
        self.0.set(cx, on);
        Ok(())
    }
}

#[test]
fn a_keyed_co_process_function() -> Result<()> {
    let (first, second) = (|n: &i64| n.unsigned_abs() % 2, |gate: &(u64, bool)| gate.0);
    let mut harness = for_keyed_co_process_function(first, second, |ctx| Ok(KeyedGate(ctx.value("on")?)))?;
    harness.push_second((1, true), 1)?;
    (2..6).try_for_each(|n| harness.push_first(n, n))?;
    assert_eq!(harness.values(), [3, 5]);
    Ok(())
}

/// Prices by the exchange rates of a broadcast stream.
struct Convert;

impl BroadcastProcessFunction<(String, i64), (String, i64), i64> for Convert {
    type State = BroadcastState<String, i64>;

    fn state(&self) -> Self::State {
        BroadcastState::new("rates")
    }

    fn process(
        &mut self,
        (currency, price): (String, i64),
        rates: &Self::State,
        _: ProcessCx<'_>,
        out: &mut Emitter<'_, i64>,
    ) -> Done {
        out.emit(price * rates.get(&currency).copied().unwrap_or(0));
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (currency, rate): (String, i64),
        rates: &mut Self::State,
        _: ProcessCx<'_>,
        _: &mut Emitter<'_, i64>,
    ) -> Done {
        rates.put(currency, rate);
        Ok(())
    }
}

#[test]
fn a_broadcast_process_function() -> Result<()> {
    let mut harness = for_broadcast_process_function(|| Convert)?;
    harness.push_second(("sek".to_owned(), 3), 1)?;
    harness.push_first(("sek".to_owned(), 14), 2)?;
    assert_eq!(harness.values(), [42]);
    Ok(())
}

/// How often each key was seen, when the broadcast stream asks.
struct Census(ValueState<i64>);

impl KeyedBroadcastProcessFunction<u64, u64, (), (u64, i64)> for Census {
    type State = BroadcastState<u8, u8>;

    fn state(&self) -> Self::State {
        BroadcastState::new("nothing")
    }

    fn process(
        &mut self,
        _: u64,
        _: &Self::State,
        cx: KeyedCx<'_, u64>,
        _: &mut Emitter<'_, (u64, i64)>,
    ) -> Done {
        let seen = self.0.get_cloned(cx).unwrap_or(0) + 1;
        self.0.set(cx, seen);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (): (),
        _: &mut Self::State,
        cx: KeyedBroadcastCx<'_, u64>,
        out: &mut Emitter<'_, (u64, i64)>,
    ) -> Done {
        cx.for_each_key(&self.0, |cx| {
            out.emit((*cx.key(), self.0.get_cloned(cx).unwrap_or(0)));
            Ok(())
        })
    }
}

#[test]
fn a_keyed_broadcast_process_function() -> Result<()> {
    let mut harness =
        for_keyed_broadcast_process_function(|n: &u64| *n, |ctx| Ok(Census(ctx.value("seen")?)))?;
    [5, 9, 5].into_iter().try_for_each(|n| harness.push_first(n, 1))?;
    harness.push_second((), 2)?;
    let mut census = harness.values();
    census.sort_unstable();
    assert_eq!(census, [(5, 2), (9, 1)]);
    Ok(())
}

/// Ranges of numbers, one of which is found only when its time has come.
struct Ranges;

#[derive(Default)]
struct Deal {
    left: VecDeque<(u8, u8)>,
    late: Option<(u8, u8)>,
}

impl Source<u8> for Ranges {
    fn bounded(&self) -> bool {
        true
    }

    fn reader(&self) -> Box<dyn SourceReader<u8>> {
        Box::new(RangeReader {
            now: None,
            no_more: false,
            state: OperatorListState::split("range"),
        })
    }

    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator>> {
        Some(Box::new(Deal::default()))
    }
}

impl SplitEnumerator for Deal {
    fn start(&mut self, _: u32) -> Result<()> {
        self.left = VecDeque::from([(0, 10), (10, 15), (15, 16)]);
        self.late = Some((16, 30));
        Ok(())
    }

    fn next_split(&mut self, _: u32) -> Result<Assignment> {
        if let Some((from, to)) = self.left.pop_front() {
            let id = format!("{from}..{to}");
            return Ok(Assignment::Split(Split {
                id,
                bytes: vec![from, to],
            }));
        }
        match self.late.take() {
            None => Ok(Assignment::NoMore),
            Some(late) => {
                self.left.push_back(late);
                Ok(Assignment::Later(250))
            }
        }
    }

    fn add_back(&mut self, _: Vec<Split>) {}

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        let ranges = self.left.iter().chain(&self.late);
        Ok(ranges.flat_map(|(from, to)| [*from, *to]).collect())
    }

    fn restore(&mut self, snapshot: &[u8], _: u32) -> Result<()> {
        self.left = snapshot.chunks(2).map(|range| (range[0], range[1])).collect();
        Ok(())
    }
}

struct RangeReader {
    now: Option<(u8, u8)>,
    no_more: bool,
    state: OperatorListState<(u8, u8)>,
}

impl SourceReader<u8> for RangeReader {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        if let Some(snapshot) = ctx.restored() {
            self.state.restore(snapshot)?;
            // The harness restores at no smaller a parallelism here, so that nobody gets two.
            assert!(self.state.get().len() <= 1);
            self.now = self.state.get().first().copied();
        }
        Ok(())
    }

    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<u8>,
        _: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        let Some((from, to)) = &mut self.now else {
            return match self.no_more {
                true => Poll::Ready(Ok(SourceStatus::Finished)),
                false => Poll::Pending,
            };
        };
        while from < to && !out.full() {
            out.push(*from);
            *from += 1;
        }
        if from < to {
            return Poll::Ready(Ok(SourceStatus::More));
        }
        self.now = None;
        Poll::Ready(Ok(SourceStatus::SplitFinished))
    }

    fn wants_split(&self) -> bool {
        self.now.is_none() && !self.no_more
    }

    fn add_split(&mut self, split: Option<Split>) -> Result<()> {
        self.no_more = split.is_none();
        self.now = split.map(|split| (split.bytes[0], split.bytes[1]));
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.state.clear();
        self.now.into_iter().for_each(|range| self.state.add(range));
        self.state.snapshot(snapshot)
    }
}

fn sorted(mut records: Vec<u8>) -> Vec<u8> {
    records.sort_unstable();
    records
}

#[test]
fn a_split_that_is_found_later_is_read_later() -> Result<()> {
    let mut harness = SourceHarness::new(Ranges, 1)?;
    assert_eq!(harness.read()?, (0..16).collect::<Vec<_>>());
    assert!(!harness.is_finished());
    harness.advance(Duration::from_millis(249));
    assert!(harness.read()?.is_empty());
    assert_eq!(harness.read_all()?, (16..30).collect::<Vec<_>>());
    assert!(harness.is_finished());
    assert_eq!(harness.elapsed(), Duration::from_millis(250));
    Ok(())
}

#[test]
fn all_splits_of_a_source_are_read_by_all_readers_together() -> Result<()> {
    for parallelism in 1..5 {
        let mut harness = SourceHarness::new(Ranges, parallelism)?;
        assert_eq!(sorted(harness.read_all()?), (0..30).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn a_source_goes_on_from_a_snapshot_at_another_parallelism() -> Result<()> {
    for turns in 0..12 {
        let mut before = SourceHarness::new(Ranges, 2)?;
        let mut records = Vec::new();
        for turn in 0..turns {
            records.extend(before.turn(turn % 2)?);
        }
        let snapshot = before.snapshot()?;
        let mut after = before.restore(&snapshot, 3)?;
        records.extend(after.read_all()?);
        assert_eq!(
            sorted(records),
            (0..30).collect::<Vec<_>>(),
            "after {turns} turns"
        );
    }
    Ok(())
}

#[test]
fn a_turn_is_one_batch() -> Result<()> {
    let mut harness = SourceHarness::new(Ranges, 1)?.batches_of(4);
    assert_eq!(harness.turn(0)?, [0, 1, 2, 3]);
    assert_eq!(harness.turn(0)?, [4, 5, 6, 7]);
    Ok(())
}
