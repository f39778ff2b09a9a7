//! What an operator has emitted, and the collector behind a side output.

use crate::operator::{Collector, SideSink};
use std::any::Any;

/// One element of an operator's main output.
#[derive(Clone, Debug, PartialEq)]
pub enum Emitted<T> {
    /// A record and its event time ([`hurtig_core::time::NO_TIMESTAMP`] when it has none).
    Record(T, i64),
    /// A watermark that passed the operator or that it made itself.
    Watermark(i64),
}

/// A side output that keeps what it receives.
pub(super) struct KeptSide<T> {
    name: String,
    collector: Collector<T>,
}

impl<T> KeptSide<T> {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            collector: Collector::with_limit(usize::MAX),
        }
    }
}

impl<T: Send + 'static> SideSink for KeptSide<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn collector(&mut self) -> &mut dyn Any {
        &mut self.collector
    }

    fn full(&self) -> bool {
        self.collector.full()
    }
}

/// Takes everything out of a collector, in order.
pub(super) fn take_all<T>(collector: &mut Collector<T>) -> Vec<(T, i64)> {
    let batch = collector.batch();
    let mut taken = Vec::with_capacity(batch.len());
    while let Some(pair) = batch.pop_front() {
        taken.push(pair);
    }
    taken
}
