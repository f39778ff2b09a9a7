//! What users implement: function traits and the places that they emit into.
//!
//! Closures suffice for most; a function *struct* keeps handles to state between calls. One instance
//! is made per subtask, on the thread that runs it. Functions hold no other state: what must survive
//! a failure belongs into declared state.

use crate::operator::{Collector, Cx, OpenContext, OutputTag};
use hurtig_core::{Result, UserError};

/// Where a function emits its records.
#[derive(Debug)]
pub struct Emitter<'a, T> {
    out: &'a mut Collector<T>,
}

impl<'a, T> Emitter<'a, T> {
    /// An emitter into a collector.
    pub fn new(out: &'a mut Collector<T>) -> Self {
        Self { out }
    }

    /// Emits a record with the time of the record or timer that is being processed.
    #[inline]
    pub fn emit(&mut self, record: T) {
        self.out.push(record);
    }

    /// Emits a record with an event time of its own, in milliseconds.
    #[inline]
    pub fn emit_at(&mut self, record: T, time: i64) {
        self.out.push_at(record, time);
    }
}

impl<T> Extend<T> for Emitter<'_, T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, records: I) {
        records.into_iter().for_each(|record| self.emit(record));
    }
}
