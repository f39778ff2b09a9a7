//! Where a chain ends: the edges that lead to other tasks.

use super::link::{AnyLink, typed};
use super::{Turn, Turned};
use crate::operator::{Collector, SideSink};
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Batch, Event};
use hurtig_exchange::EdgeWriter;
use std::any::Any;
use std::sync::Arc;

/// All edges of one output. Without any, what arrives is dropped (a stream that nobody consumes,
/// or the output of a sink).
#[derive(Debug)]
pub struct Tail<T> {
    edges: Vec<EdgeWriter<T>>,
    /// One batch an edge that has found no room yet.
    staged: Vec<Batch<T>>,
    ended: bool,
    /// The last barrier that has left.
    barrier: Option<CheckpointId>,
}

impl<T: Clone> Tail<T> {
    /// The end of a stream with these consumers.
    pub fn new(edges: Vec<EdgeWriter<T>>) -> Self {
        let staged = edges.iter().map(|_| Batch::new()).collect();
        Self {
            edges,
            staged,
            ended: false,
            barrier: None,
        }
    }

    /// Takes the whole batch in; the one before has gone. True when it has gone too.
    ///
    /// What finds no room stays here and not in `batch`: a partitioner has given it a hash column by
    /// then, and the operator appends records without.
    fn push(&mut self, batch: &mut Batch<T>, now: Time) -> bool {
        let Some((first, others)) = self.staged.split_first_mut() else {
            batch.clear();
            return true;
        };
        for other in others {
            *other = batch.clone();
        }
        // Swapped, so that the operator goes on with memory that is there already.
        first.clear();
        std::mem::swap(first, batch);
        self.settle(now)
    }

    /// Goes on with what found no room. True when nothing is left before the edges' buffers.
    fn settle(&mut self, now: Time) -> bool {
        let mut settled = true;
        for (edge, staged) in self.edges.iter_mut().zip(&mut self.staged) {
            settled &= edge.write(staged, now);
        }
        settled
    }

    fn push_event(&mut self, event: Event) {
        self.ended |= event == Event::EndOfInput;
        if let Event::Barrier(barrier) = event {
            self.barrier = Some(barrier.checkpoint);
        }
        for edge in &mut self.edges {
            // An edge without room keeps the event; `settle` reports it.
            edge.send_event(event);
        }
    }

    fn flush_due(&mut self, now: Time) {
        self.edges.iter_mut().for_each(|edge| edge.flush_due(now));
    }

    fn flush_idle(&mut self, now: Time) -> Option<Time> {
        self.edges
            .iter_mut()
            .filter_map(|edge| edge.flush_idle(now))
            .min()
    }

    fn is_flushed(&self) -> bool {
        self.edges.iter().all(EdgeWriter::is_flushed) && self.staged.iter().all(Batch::is_empty)
    }
}

/// A tail whose record type the last node knows.
pub trait Outlet: Send {
    /// Moves what the last link holds on.
    fn turn(&mut self, input: &mut dyn AnyLink, turn: &Turn) -> Turned;
    /// Goes on with what found no room, an event included, and takes nothing new. True when nothing is left.
    fn settle(&mut self, now: Time) -> bool;
    /// Hands over buffers that have waited for the buffer timeout.
    fn flush_due(&mut self, now: Time);
    /// The task goes idle: hands over what waits; returns when to call again.
    fn flush_idle(&mut self, now: Time) -> Option<Time>;
    /// Whether the end of input has left, and nothing waits.
    fn is_finished(&self) -> bool;
    /// Records and estimated bytes handed on so far.
    fn totals(&self) -> (u64, u64);
    /// The barrier that has left since the last call.
    fn take_barrier(&mut self) -> Option<CheckpointId>;
}

impl<T: Clone + Send + 'static> Outlet for Tail<T> {
    fn turn(&mut self, input: &mut dyn AnyLink, turn: &Turn) -> Turned {
        if !self.settle(turn.now) {
            return Turned::Blocked;
        }
        let link = typed::<T>(input);
        if !link.collector.is_empty() {
            self.push(link.collector.batch(), turn.now);
            return Turned::Worked;
        }
        match link.event.take() {
            Some(event) => {
                self.push_event(event);
                Turned::Worked
            }
            None => Turned::Starved,
        }
    }

    fn settle(&mut self, now: Time) -> bool {
        Tail::settle(self, now)
    }

    fn flush_due(&mut self, now: Time) {
        Tail::flush_due(self, now);
    }

    fn flush_idle(&mut self, now: Time) -> Option<Time> {
        Tail::flush_idle(self, now)
    }

    fn is_finished(&self) -> bool {
        self.ended && self.is_flushed()
    }

    fn take_barrier(&mut self) -> Option<CheckpointId> {
        self.barrier.take()
    }

    fn totals(&self) -> (u64, u64) {
        self.edges
            .iter()
            .map(EdgeWriter::totals)
            .fold((0, 0), |(r, b), (records, bytes)| (r + records, b + bytes))
    }
}

/// A side output with its consumers.
pub struct SidePort<T> {
    tag: Arc<str>,
    collector: Collector<T>,
    tail: Tail<T>,
}

impl<T: Clone + Send + 'static> SidePort<T> {
    /// The side output `tag` that leads to `edges`.
    pub fn new(tag: Arc<str>, edges: Vec<EdgeWriter<T>>) -> Self {
        Self {
            tag,
            collector: Collector::default(),
            tail: Tail::new(edges),
        }
    }
}

impl<T: Clone + Send + 'static> SideSink for SidePort<T> {
    fn name(&self) -> &str {
        &self.tag
    }

    fn collector(&mut self) -> &mut dyn Any {
        &mut self.collector
    }

    fn full(&self) -> bool {
        self.collector.full()
    }

    fn drain(&mut self, now: Time) -> bool {
        if !self.tail.settle(now) {
            return false;
        }
        self.collector.is_empty() || self.tail.push(self.collector.batch(), now)
    }

    fn send_event(&mut self, event: Event) {
        self.tail.push_event(event);
    }

    fn flush_due(&mut self, now: Time) {
        self.tail.flush_due(now);
    }

    fn flush_idle(&mut self, now: Time) -> Option<Time> {
        self.tail.flush_idle(now)
    }

    fn is_flushed(&self) -> bool {
        self.collector.is_empty() && self.tail.is_flushed()
    }
}
