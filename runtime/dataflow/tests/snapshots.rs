//! Snapshots of keyed state that are written while records flow on.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::ids::CheckpointId;
use hurtig_core::key::decode_exact;
use hurtig_core::time::{Clock, ManualClock, Time};
use hurtig_core::types::TypeInfo;
use hurtig_core::{Barrier, Batch, Element, Event};
use hurtig_dataflow::chain::*;
use hurtig_dataflow::key::ByValue;
use hurtig_dataflow::operator::*;
use hurtig_dataflow::operators::KeyedFold;
use hurtig_exchange::{
    ChannelOptions, EdgeWriter, FlushPolicy, Partitioner, Receiver, Sender, Signal, channel,
};
use hurtig_state::snapshot::decode;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

const ONE: CheckpointId = CheckpointId(1);
const TWO: CheckpointId = CheckpointId(2);
const KEYS: u64 = 5_000;

/// Each look takes some microseconds.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Time {
        let looks = self.0.fetch_add(1, Ordering::Relaxed);
        Time::ZERO.after(Duration::from_micros(5 * looks))
    }

    fn wall_ms(&self) -> i64 {
        0
    }
}

/// A count by key behind a channel.
struct Rig {
    core: TaskCore,
    input: Sender<u64>,
    output: Receiver<u64>,
}

fn services() -> Services {
    let side = SideOutputs::new(Vec::new());
    Services::new(SubtaskInfo::single("count"), ManualClock::new(), side)
}

fn ends() -> (Sender<u64>, Receiver<u64>) {
    let options = ChannelOptions::bounded(10_000, usize::MAX);
    channel(options, Signal::new(), Signal::new())
}

fn rig() -> Rig {
    let (input, receiver) = ends();
    let (sender, output) = ends();
    let edge = EdgeWriter::new(
        vec![sender],
        Partitioner::Forward,
        TypeInfo::of(),
        FlushPolicy::default(),
    );
    let selector = Arc::new(ByValue::new(|n: &u64| *n));
    let count = KeyedFold::new(
        selector,
        Arc::new(|| 0_u64),
        Arc::new(|_: &u64, acc: &mut u64, _: &u64| {
            *acc += 1;
            *acc
        }),
    );
    let link = || Box::new(Link::<u64>::new(1_024)) as Box<dyn AnyLink>;
    let parts = TaskParts {
        head: Box::new(GateHead::new(InputGate::new(vec![receiver]))),
        nodes: vec![Box::new(OperatorNode::new(count, services()))],
        links: vec![link(), link()],
        outlet: Box::new(Tail::new(vec![edge])),
        signal: Signal::new(),
        buffer_timeout: None,
    };
    let clock = Arc::new(Ticking::default());
    let mut core = TaskCore::new(parts, clock).taking_checkpoints(true);
    core.open(&|_| None).unwrap();
    Rig { core, input, output }
}

impl Rig {
    /// One record of every key, in batches.
    fn send_all(&self) {
        let keys: Vec<u64> = (0..KEYS).collect();
        for batch in keys.chunks(100) {
            self.input
                .try_send(Batch::from_records(batch.to_vec()), 8 * batch.len());
        }
    }

    fn barrier(&self, checkpoint: CheckpointId) {
        self.input.send_event(Event::Barrier(checkpoint.into()));
    }

    /// One pass, more or less.
    fn round(&mut self) -> Round {
        let mut task = Context::from_waker(Waker::noop());
        self.core.round(&mut task, Duration::ZERO).unwrap()
    }

    fn records_out(&mut self) -> usize {
        let elements = std::iter::from_fn(|| self.output.try_recv());
        let batches = elements.filter_map(|element| match element {
            Element::Batch(batch) => Some(batch.len()),
            Element::Event(_) => None,
        });
        batches.sum()
    }

    /// Turns until there is a cut; how many records came out on the way, and what the cut holds.
    fn cut(&mut self) -> (CheckpointId, usize, BTreeMap<u64, u64>) {
        let mut passed = 0;
        for _ in 0..100_000 {
            self.round();
            passed += self.records_out();
            let Some(cut) = self.core.take_cut() else { continue };
            let mut count = cut.operators.into_iter().nth(1).unwrap();
            count.decode_sections().unwrap();
            let entries = count.keyed.values().flatten();
            let counts = entries.map(|entry| {
                (
                    decode_exact::<u64>(&entry.key).unwrap(),
                    decode(&entry.value).unwrap(),
                )
            });
            return (cut.checkpoint, passed, counts.collect());
        }
        panic!("no cut came");
    }

    fn rest(&mut self) {
        for _ in 0..100_000 {
            if !matches!(self.round(), Round::Busy) {
                return;
            }
        }
        panic!("the chain does not rest");
    }
}

fn all(count: u64) -> BTreeMap<u64, u64> {
    (0..KEYS).map(|key| (key, count)).collect()
}

#[test]
fn records_flow_while_a_snapshot_of_the_state_before_them_is_written() {
    let mut rig = rig();
    rig.send_all();
    rig.rest();
    rig.records_out();
    rig.barrier(ONE);
    for _ in 0..3 {
        rig.send_all();
    }
    let (checkpoint, passed, counts) = rig.cut();
    assert_eq!((checkpoint, counts), (ONE, all(1)));
    assert!(
        (100..3 * KEYS as usize).contains(&passed),
        "{passed} records flowed while the snapshot was written"
    );
    rig.rest();
    assert_eq!(passed + rig.records_out(), 3 * KEYS as usize);
    assert!(rig.core.take_cut().is_none());
}

#[test]
fn an_idle_task_writes_its_snapshot_without_being_woken() {
    let mut rig = rig();
    rig.send_all();
    rig.barrier(ONE);
    rig.rest();
    assert!(rig.core.take_cut().is_some());
}

#[test]
fn a_barrier_that_meets_an_unfinished_snapshot_waits_for_it() {
    let mut rig = rig();
    rig.send_all();
    rig.barrier(ONE);
    rig.send_all();
    rig.barrier(TWO);
    rig.send_all();
    assert_eq!(rig.cut().0, ONE);
    let (checkpoint, _, counts) = rig.cut();
    assert_eq!((checkpoint, counts), (TWO, all(2)));
}

#[test]
fn a_snapshot_that_is_given_up_does_not_show_in_the_next_one() {
    let mut rig = rig();
    rig.send_all();
    rig.rest();
    rig.barrier(ONE);
    rig.send_all();
    while !matches!(
        rig.output.try_recv(),
        Some(Element::Event(Event::Barrier(Barrier { checkpoint: ONE, .. })))
    ) {
        rig.round();
    }
    assert!(rig.core.take_cut().is_none(), "it is not written yet");
    rig.core.on_checkpoint(CheckpointEvent::Aborted(ONE)).unwrap();
    rig.barrier(TWO);
    rig.send_all();
    let (checkpoint, _, counts) = rig.cut();
    assert_eq!((checkpoint, counts), (TWO, all(2)));
    rig.rest();
    assert!(rig.core.take_cut().is_none());
}

#[test]
fn a_task_whose_input_ends_finishes_behind_its_snapshot() {
    let mut rig = rig();
    rig.send_all();
    rig.barrier(ONE);
    rig.input.send_event(Event::EndOfInput);
    for _ in 0..100_000 {
        if rig.round() == Round::Finished {
            let cut = rig.core.take_cut().unwrap();
            assert_eq!(
                cut.operators[1].encoded.values().flatten().next().unwrap().len(),
                KEYS
            );
            return;
        }
    }
    panic!("the task does not finish");
}
