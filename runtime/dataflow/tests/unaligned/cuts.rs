//! What a cut holds of the records in flight, and what becomes of it at a restore.

use crate::rig::*;
use hurtig_core::element::WatermarkStatus;
use hurtig_core::key::key_group;
use hurtig_core::time::{ManualClock, Time};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Event, Result};
use hurtig_dataflow::chain::*;
use hurtig_dataflow::operator::*;
use hurtig_dataflow::operators::Watermarks;
use hurtig_dataflow::source::{SourceReader, SourceStatus};
use hurtig_exchange::{BarrierMode, Captured, ChannelState, KeptBatch, RecordCodec, Signal};
use hurtig_state::{OperatorSnapshot, Redistribution};
use std::task::{Context, Poll};
use std::time::Duration;

#[test]
fn a_barrier_overtakes_what_waits_and_the_cut_holds_it() {
    let mut rig = gate(2, 1).fresh();
    for n in 0..30 {
        rig.send(0, &[(n, 10 * n)]);
    }
    assert!(matches!(rig.settle(), Round::BackPressured(_)));
    rig.event(0, Event::Barrier(after(ONE, 0)));
    rig.send(0, &[(1_000, 1_000)]);
    assert!(matches!(rig.settle(), Round::BackPressured(_)));
    assert!(
        rig.core.take_cut().is_none(),
        "the other channel's records are to come"
    );
    rig.send(1, &[(50, 500)]);
    rig.settle();
    rig.event(1, Event::Barrier(after(ONE, 0)));
    rig.send(1, &[(2_000, 2_000)]);
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    let in_flight = cut.in_flight.clone().unwrap();
    assert!(rig.core.take_cut().is_none(), "once");
    let mut restored = gate(2, 100).restored(&cut, true);
    restored.send(0, &[(1_000, 1_000)]);
    restored.settle();
    restored.drain(100);
    let seen = logged(&cut, "seen");
    assert!(seen.len() < 30, "{seen:?} left nothing in flight");
    let mut all = [seen, restored.left[0].clone()].concat();
    assert_eq!(all.pop(), Some(1_000), "new records come last");
    all.sort_unstable();
    let wanted: Vec<i64> = (0..30).chain([50]).collect();
    assert_eq!(all, wanted, "{in_flight:?}");
}

#[test]
fn a_barrier_overtakes_the_rest_of_a_batch() {
    for two_inputs in [false, true] {
        let mut build = gate(2, 3);
        build.two_inputs = two_inputs;
        let mut rig = build.fresh();
        let records: Vec<(i64, i64)> = (0..100).map(|n| (n, n)).collect();
        rig.send(0, &records);
        assert!(matches!(rig.settle(), Round::BackPressured(_)));
        (0..2).for_each(|input| rig.event(input, Event::Barrier(after(ONE, 0))));
        rig.settle();
        let cut = rig.core.take_cut().unwrap();
        let seen = logged(&cut, "seen");
        assert!(seen.len() < 30, "{} of the batch were read", seen.len());
        for _ in 0..100 {
            rig.settle();
            rig.drain(10);
        }
        let all: Vec<i64> = (0..100).collect();
        assert_eq!(rig.left.concat(), all, "the run goes on");
        build.room = 100;
        let mut restored = build.restored(&cut, true);
        restored.settle();
        restored.drain(100);
        assert_eq!([seen, restored.left[0].clone()].concat(), all);
    }
}

#[test]
fn where_all_producers_have_finished_the_barrier_overtakes_what_they_have_left() {
    let mut rig = gate(2, 3).fresh();
    for n in 0..30 {
        rig.send(0, &[(n, n)]);
        rig.send(1, &[(1_000 + n, n)]);
    }
    // The barrier of one of them came before its end.
    rig.event(1, Event::Barrier(after(ONE, 0)));
    rig.send(1, &[(2_000, 2_000)]);
    (0..2).for_each(|input| rig.event(input, Event::EndOfInput));
    rig.settle();
    rig.core.trigger(after(ONE, 0)).unwrap();
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    let mut restored = gate(2, 100).restored(&cut, true);
    (0..2).for_each(|input| restored.event(input, Event::EndOfInput));
    restored.finish();
    let seen = [logged(&cut, "seen"), restored.left[0].clone()].concat();
    let all: Vec<i64> = (0..30).chain(1_000..1_030).collect();
    let sorted = |mut records: Vec<i64>| {
        records.sort_unstable();
        records
    };
    assert_eq!(sorted(seen), all);
}

#[test]
fn a_barrier_waits_for_its_time_and_then_for_nothing() {
    let mut rig = gate(2, 100).fresh();
    rig.event(0, Event::Barrier(after(ONE, 5)));
    rig.send(0, &[(1, 1)]);
    let wake = Time::ZERO.after(Duration::from_millis(5));
    assert_eq!(rig.settle(), Round::Idle(Some(wake)));
    assert_eq!(rig.output.backlog().0, 0, "the channel is blocked");
    rig.clock.advance(Duration::from_millis(5));
    rig.settle();
    rig.drain(100);
    assert!(rig.barrier_seen);
    assert_eq!(rig.left, [vec![], vec![1]]);
    assert!(rig.core.take_cut().is_none());
    rig.event(1, Event::EndOfInput);
    rig.settle();
    let in_flight = rig.core.take_cut().unwrap().in_flight.unwrap();
    assert!(
        in_flight
            .channels
            .iter()
            .all(|channel| channel.elements.is_empty())
    );
}

#[test]
fn in_time_an_announced_barrier_is_like_any_other() {
    let mut rig = gate(2, 100).fresh();
    rig.send(0, &[(1, 1)]);
    rig.event(0, Event::Barrier(after(ONE, 5)));
    rig.send(0, &[(100, 100)]);
    rig.event(1, Event::Barrier(after(ONE, 5)));
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    assert_eq!((logged(&cut, "seen"), cut.in_flight), (vec![1], None));
}

#[test]
fn at_least_once_reads_on_behind_a_barrier() {
    let mut build = gate(2, 100);
    build.modes = vec![BarrierMode::Passes; 2];
    let mut rig = build.fresh();
    rig.event(0, Event::Barrier(ONE.into()));
    rig.send(0, &[(1, 1)]);
    rig.settle();
    rig.drain(100);
    assert_eq!(
        rig.left[0],
        [1],
        "the barrier waits for the other channel, the record does not"
    );
    rig.event(1, Event::Barrier(ONE.into()));
    rig.send(1, &[(2, 2)]);
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    assert_eq!((logged(&cut, "seen"), cut.in_flight), (vec![1], None));
}

#[test]
fn an_aborted_checkpoint_leaves_nothing_and_the_next_one_is_whole() {
    let mut rig = gate(2, 100).fresh();
    rig.event(0, Event::Barrier(after(ONE, 0)));
    rig.settle();
    rig.core.on_checkpoint(CheckpointEvent::Aborted(ONE)).unwrap();
    rig.send(1, &[(1, 1)]);
    rig.event(1, Event::Barrier(after(ONE, 0)));
    rig.settle();
    assert!(rig.core.take_cut().is_none());
    for input in 0..2 {
        rig.event(input, Event::Barrier(after(TWO, 0)));
    }
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    assert_eq!((cut.checkpoint, logged(&cut, "seen")), (TWO, vec![1]));
}

#[test]
fn a_part_that_a_newer_checkpoint_cut_short_is_never_handed_out() {
    let mut rig = gate(2, 100).fresh();
    rig.event(0, Event::Barrier(after(ONE, 0)));
    rig.settle();
    rig.event(0, Event::Barrier(after(TWO, 0)));
    rig.event(1, Event::Barrier(after(TWO, 0)));
    rig.settle();
    assert!(rig.core.take_cut().is_none());
    rig.core.on_checkpoint(CheckpointEvent::Aborted(ONE)).unwrap();
    assert_eq!(rig.core.take_cut().unwrap().checkpoint, TWO);
}

#[test]
fn an_idle_channel_is_idle_in_the_replay_and_active_behind_it() {
    let mut rig = gate(2, 1).fresh();
    rig.event(1, Event::Watermark(10));
    rig.event(1, Event::Status(WatermarkStatus::Idle));
    rig.event(0, Event::Watermark(100));
    rig.settle();
    for n in 0..6 {
        rig.send(0, &[(n, 200 + n)]);
    }
    rig.settle();
    for input in 0..2 {
        rig.event(input, Event::Barrier(after(ONE, 0)));
    }
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    assert_eq!(cut.in_flight.as_ref().unwrap().watermark, 100);
    let mut restored = gate(2, 100).restored(&cut, true);
    restored.settle();
    // Its producer takes the channel for active: what it says counts at once.
    restored.event(0, Event::Watermark(400));
    restored.settle();
    let stats = restored.core.stats();
    assert_eq!(
        stats[0].watermark, 400,
        "an input that is behind is waited for once it has caught up"
    );
    restored.event(1, Event::Watermark(400));
    restored.settle();
    restored.event(0, Event::Watermark(500));
    restored.settle();
    assert_eq!(restored.core.stats()[0].watermark, 400);
}

#[test]
fn a_replay_at_another_parallelism_has_the_records_of_the_task_and_is_in_time() {
    let hash = |record: i64| (record as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let groups = |record| key_group(hash(record), 8).get();
    let channel = |first: i64| {
        let mut batch = Batch::new();
        (first..first + 50).for_each(|n| batch.push_hashed(n, n, hash(n)));
        let kept = KeptBatch::encode(&mut batch, &RecordCodec::new(TypeInfo::of())).unwrap();
        let elements = vec![Captured::Batch(kept), Captured::Watermark(first + 50)];
        let state = ChannelState {
            watermark: 0,
            idle: false,
            backlog: false,
            elements,
        };
        let keep = Some(ReplayedKeys {
            groups: 2..5,
            max_parallelism: 8,
        });
        RestoredChannel {
            input: 0,
            state,
            keep,
        }
    };
    let mut rig = gate(3, 100).fresh();
    let restored = InFlightRestore {
        watermark: 0,
        channels: vec![channel(0), channel(100)],
        same_channels: false,
    };
    rig.core.replay(restored).unwrap();
    rig.event(0, Event::Watermark(1_000));
    rig.settle();
    rig.drain(100);
    let mut seen = rig.left[0].clone();
    seen.sort_unstable();
    let all = (0..50).chain(100..150);
    assert_eq!(
        seen,
        all.filter(|&n| (2..5).contains(&groups(n))).collect::<Vec<i64>>()
    );
    assert_eq!(
        rig.core.stats()[0].watermark,
        50,
        "the new channels begin where the slowest was"
    );
}

/// Emits 1, 2, 3, … for ever, and remembers where it stands.
struct Count(i64);

impl SourceReader<i64> for Count {
    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        while !out.full() && b.spend() {
            self.0 += 1;
            out.push(self.0);
        }
        Poll::Ready(Ok(SourceStatus::More))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("at", Redistribution::Split, &[self.0])
    }
}

#[test]
fn a_barrier_leaves_a_task_that_nobody_makes_room_for_and_so_does_all_before_it() {
    let (clock, own) = (ManualClock::new(), Signal::new());
    let strategy = Watermarks::none();
    let head = SourceHead::new(Box::new(Count(0)), strategy, Duration::ZERO, services(&clock));
    let node = OperatorNode::<i64, i64, _>::new(Log::default(), services(&clock));
    let mut rig = gate(0, 4).task(Box::new(head), vec![Box::new(node)], Vec::new(), (own, clock));
    rig.core.open(&|_| None).unwrap();
    assert!(matches!(rig.settle(), Round::BackPressured(_)));
    rig.core.trigger(after(ONE, 5)).unwrap();
    let wake = Time::ZERO.after(Duration::from_millis(5));
    assert_eq!(rig.settle(), Round::BackPressured(Some(wake)));
    assert!(rig.core.take_cut().is_none());
    rig.clock.advance(Duration::from_millis(5));
    assert!(matches!(rig.settle(), Round::BackPressured(_)));
    let cut = rig.core.take_cut().unwrap();
    let at = cut.operators[0].operator::<i64>("at").unwrap()[0];
    assert_eq!(logged(&cut, "seen"), (1..=at).collect::<Vec<_>>());
    rig.drain(1_000);
    assert_eq!(
        rig.left[0],
        (1..=at).collect::<Vec<_>>(),
        "all before the boundary"
    );
    assert_eq!(rig.left[1].first(), Some(&(at + 1)));
    let (waiting, _) = rig.output.backlog();
    rig.settle();
    assert!(
        waiting <= 4 && rig.output.backlog().0 <= 4,
        "the overdraft has ended"
    );
}
