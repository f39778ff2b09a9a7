//! Flat map over an iterator that is kept between calls, so that the output never overshoots.
//!
//! **Snapshots.** An iterator cannot be written down, so a snapshot taken in the middle of a record
//! runs the record's iterator to its end, keeps what it yields, and saves that; the restored
//! instance emits it before anything else. Iterators must therefore be finite.

use crate::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Result};
use hurtig_state::{OperatorSnapshot, Redistribution};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::sync::Arc;

/// The section that holds outputs whose record was taken but which are not yet emitted.
const REST: &str = "flat-map-iter/rest";

/// Outputs of one record.
enum Rest<I: Iterator> {
    Live(I),
    Saved(VecDeque<I::Item>),
}

impl<I: Iterator> Rest<I> {
    fn next(&mut self) -> Option<I::Item> {
        match self {
            Rest::Live(iterator) => iterator.next(),
            Rest::Saved(saved) => saved.pop_front(),
        }
    }
}

/// Any number of records for each record, as an iterator.
pub struct FlatMapIter<F, I: IntoIterator> {
    map: Arc<F>,
    /// Outputs of records already taken, each with the record's time; the first is being emitted.
    rest: VecDeque<(i64, Rest<I::IntoIter>)>,
}

impl<F, I: IntoIterator> std::fmt::Debug for FlatMapIter<F, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FlatMapIter({} in progress)", self.rest.len())
    }
}

impl<F, I: IntoIterator> FlatMapIter<F, I> {
    /// The operator that emits what the iterators of `map` yield.
    pub fn new(map: Arc<F>) -> Self {
        Self {
            map,
            rest: VecDeque::new(),
        }
    }

    /// Emits what earlier records left.
    fn drain(&mut self, out: &mut Collector<I::Item>, b: &mut Budget) -> Progress {
        while let Some((time, rest)) = self.rest.front_mut() {
            out.set_time(*time);
            loop {
                if out.full() || !b.spend() {
                    return Progress::More;
                }
                match rest.next() {
                    Some(record) => out.push(record),
                    None => break,
                }
            }
            self.rest.pop_front();
        }
        Progress::Done
    }
}

impl<In, Out, F, I> Operator<In, Out> for FlatMapIter<F, I>
where
    F: Fn(In) -> I + Send + Sync + 'static,
    I: IntoIterator<Item = Out>,
    I::IntoIter: Send,
    Out: Clone + Send + Serialize + DeserializeOwned,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        if let Some(snapshot) = ctx.restored() {
            let saved: Vec<(i64, VecDeque<Out>)> = snapshot.operator(REST)?;
            self.rest.extend(
                saved
                    .into_iter()
                    .map(|(time, records)| (time, Rest::Saved(records))),
            );
        }
        if !self.rest.is_empty() {
            // What is left must leave even if no record ever comes again.
            ctx.cx().schedule(ctx.cx().processing_time());
        }
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Operator::<In, Out>::open(self, ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<In>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        loop {
            if self.drain(out, b) == Progress::More {
                return Ok(Progress::More);
            }
            if input.is_empty() {
                return Ok(Progress::Done);
            }
            if out.full() || !b.spend() {
                return Ok(Progress::More);
            }
            if let Some((record, time)) = input.pop_front() {
                self.rest
                    .push_back((time, Rest::Live((self.map)(record).into_iter())));
            }
        }
    }

    fn on_watermark(
        &mut self,
        _: i64,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        Ok(self.drain(out, b))
    }

    fn on_processing_time(
        &mut self,
        _: i64,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        Ok(self.drain(out, b))
    }

    fn before_barrier(
        &mut self,
        _: CheckpointId,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        Ok(self.drain(out, b))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let mut saved: Vec<(i64, VecDeque<Out>)> = Vec::with_capacity(self.rest.len());
        for (time, rest) in &mut self.rest {
            if let Rest::Live(iterator) = rest {
                *rest = Rest::Saved(iterator.collect());
            }
            if let Rest::Saved(records) = rest {
                saved.push((*time, records.clone()));
            }
        }
        snapshot.put_operator(REST, Redistribution::Split, &saved)
    }

    fn end_input(&mut self, _: Cx<'_>, out: &mut Collector<Out>, b: &mut Budget) -> Result<Progress> {
        Ok(self.drain(out, b))
    }
}
