//! Operators without memory: map, filter, flat map, inspect, in infallible and fallible forms.
//!
//! Each takes as many records as its budget and its output allow, in one typed loop. The closures
//! are shared by all subtasks of a process. What leaves them has no key hashes: a changed record may
//! have another key.

use super::{granted, when_empty};
use crate::function::Emitter;
use crate::operator::{Budget, Collector, Cx, Operator, Progress};
use hurtig_core::batch::{Drained, TimeColumn};
use hurtig_core::error::user_failure;
use hurtig_core::{Batch, Result, UserError};
use std::sync::Arc;

/// One record out for each record in.
#[derive(Debug)]
pub struct Map<F>(Arc<F>);

impl<F> Map<F> {
    /// The operator that calls `map`.
    pub fn new(map: Arc<F>) -> Self {
        Self(map)
    }
}

impl<In, Out, F> Operator<In, Out> for Map<F>
where
    F: Fn(In) -> Out + Send + Sync + 'static,
{
    fn process(
        &mut self,
        input: &mut Batch<In>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = granted(input, out, b);
        out.batch().extend_mapped(input, n, &*self.0);
        Ok(when_empty(input))
    }
}

/// As [`Map`], with a closure that may fail.
#[derive(Debug)]
pub struct TryMap<F>(Arc<F>);

impl<F> TryMap<F> {
    /// The operator that calls `map`; its error fails the task.
    pub fn new(map: Arc<F>) -> Self {
        Self(map)
    }
}

impl<In, Out, F> Operator<In, Out> for TryMap<F>
where
    F: Fn(In) -> Result<Out, UserError> + Send + Sync + 'static,
{
    fn process(
        &mut self,
        input: &mut Batch<In>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = granted(input, out, b);
        for_each(input, n, |record, time| {
            out.push_at((self.0)(record).map_err(user_failure)?, time);
            Ok(())
        })?;
        Ok(when_empty(input))
    }
}

/// Records that satisfy a predicate.
#[derive(Debug)]
pub struct Filter<F>(Arc<F>);

impl<F> Filter<F> {
    /// The operator that keeps records for which `keep` holds.
    pub fn new(keep: Arc<F>) -> Self {
        Self(keep)
    }
}

impl<T, F> Operator<T, T> for Filter<F>
where
    T: Clone,
    F: Fn(&T) -> bool + Send + Sync + 'static,
{
    fn process(
        &mut self,
        input: &mut Batch<T>,
        _: Cx<'_>,
        out: &mut Collector<T>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = granted(input, out, b);
        out.batch().append_filtered(input, n, &*self.0);
        Ok(when_empty(input))
    }
}

/// As [`Filter`], with a predicate that may fail.
#[derive(Debug)]
pub struct TryFilter<F>(Arc<F>);

impl<F> TryFilter<F> {
    /// The operator that keeps records for which `keep` holds; its error fails the task.
    pub fn new(keep: Arc<F>) -> Self {
        Self(keep)
    }
}

impl<T, F> Operator<T, T> for TryFilter<F>
where
    F: Fn(&T) -> Result<bool, UserError> + Send + Sync + 'static,
{
    fn process(
        &mut self,
        input: &mut Batch<T>,
        _: Cx<'_>,
        out: &mut Collector<T>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = granted(input, out, b);
        for_each(input, n, |record, time| {
            if (self.0)(&record).map_err(user_failure)? {
                out.push_at(record, time);
            }
            Ok(())
        })?;
        Ok(when_empty(input))
    }
}

/// A record or none for each record.
#[derive(Debug)]
pub struct FilterMap<F>(Arc<F>);

impl<F> FilterMap<F> {
    /// The operator that emits what `map` makes of a record.
    pub fn new(map: Arc<F>) -> Self {
        Self(map)
    }
}

impl<In, Out, F> Operator<In, Out> for FilterMap<F>
where
    F: Fn(In) -> Option<Out> + Send + Sync + 'static,
{
    fn process(
        &mut self,
        input: &mut Batch<In>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = granted(input, out, b);
        for_each(input, n, |record, time| {
            if let Some(mapped) = (self.0)(record) {
                out.push_at(mapped, time);
            }
            Ok(())
        })?;
        Ok(when_empty(input))
    }
}

/// As [`FilterMap`], with a closure that may fail.
#[derive(Debug)]
pub struct TryFilterMap<F>(Arc<F>);

impl<F> TryFilterMap<F> {
    /// The operator that emits what `map` makes of a record; its error fails the task.
    pub fn new(map: Arc<F>) -> Self {
        Self(map)
    }
}

impl<In, Out, F> Operator<In, Out> for TryFilterMap<F>
where
    F: Fn(In) -> Result<Option<Out>, UserError> + Send + Sync + 'static,
{
    fn process(
        &mut self,
        input: &mut Batch<In>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = granted(input, out, b);
        for_each(input, n, |record, time| {
            if let Some(mapped) = (self.0)(record).map_err(user_failure)? {
                out.push_at(mapped, time);
            }
            Ok(())
        })?;
        Ok(when_empty(input))
    }
}

/// Any number of records for each record, pushed by the closure. The output may overshoot its limit
/// by what one record brings; [`super::FlatMapIter`] does not.
#[derive(Debug)]
pub struct FlatMap<F>(Arc<F>);

impl<F> FlatMap<F> {
    /// The operator that calls `map` with each record and a place to emit into.
    pub fn new(map: Arc<F>) -> Self {
        Self(map)
    }
}

impl<In, Out, F> Operator<In, Out> for FlatMap<F>
where
    F: Fn(In, &mut Emitter<'_, Out>) + Send + Sync + 'static,
{
    fn process(
        &mut self,
        input: &mut Batch<In>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        pop_each(input, out, b, |record, out| {
            (self.0)(record, &mut Emitter::new(out));
            Ok(())
        })
    }
}

/// As [`FlatMap`], with a closure that may fail.
#[derive(Debug)]
pub struct TryFlatMap<F>(Arc<F>);

impl<F> TryFlatMap<F> {
    /// The operator that calls `map` with each record and a place to emit into; its error fails the
    /// task.
    pub fn new(map: Arc<F>) -> Self {
        Self(map)
    }
}

impl<In, Out, F> Operator<In, Out> for TryFlatMap<F>
where
    F: Fn(In, &mut Emitter<'_, Out>) -> Result<(), UserError> + Send + Sync + 'static,
{
    fn process(
        &mut self,
        input: &mut Batch<In>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        pop_each(input, out, b, |record, out| {
            (self.0)(record, &mut Emitter::new(out)).map_err(user_failure)
        })
    }
}

/// Looks at each record and passes it on.
#[derive(Debug)]
pub struct Inspect<F>(Arc<F>);

impl<F> Inspect<F> {
    /// The operator that shows each record and its event time to `look`.
    pub fn new(look: Arc<F>) -> Self {
        Self(look)
    }
}

impl<T, F> Operator<T, T> for Inspect<F>
where
    F: Fn(&T, i64) + Send + Sync + 'static,
{
    fn process(
        &mut self,
        input: &mut Batch<T>,
        _: Cx<'_>,
        out: &mut Collector<T>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = granted(input, out, b);
        input.clear_hashes();
        for i in 0..n {
            let time = input.time(i);
            (self.0)(&input.records()[i], time);
        }
        out.batch().append(input, n);
        Ok(when_empty(input))
    }
}

/// Takes `n` records out and calls `each` with their times, asking once which kind of times there are.
#[inline]
fn for_each<T>(input: &mut Batch<T>, n: usize, mut each: impl FnMut(T, i64) -> Result<()>) -> Result<()> {
    let Drained { records, times, .. } = input.drain_columns(n);
    match times {
        TimeColumn::All(time) => {
            for record in records {
                each(record, time)?;
            }
        }
        TimeColumn::Each(times) => {
            for (record, &time) in records.zip(times) {
                each(record, time)?;
            }
        }
    }
    input.reset_if_empty();
    Ok(())
}

/// Takes records one by one until fuel or room ends, for calls whose output cannot be foreseen.
#[inline]
pub(super) fn pop_each<In, Out>(
    input: &mut Batch<In>,
    out: &mut Collector<Out>,
    b: &mut Budget,
    mut each: impl FnMut(In, &mut Collector<Out>) -> Result<()>,
) -> Result<Progress> {
    while !input.is_empty() {
        if out.full() || !b.spend() {
            return Ok(Progress::More);
        }
        if let Some((record, time)) = input.pop_front() {
            out.set_time(time);
            each(record, out)?;
        }
    }
    Ok(Progress::Done)
}
