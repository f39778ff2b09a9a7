//! Operators for the windows that most jobs use: an incremental function under the default trigger.
//!
//! They keep no timer for each key and window. [`AggregatingWindowOperator`] has a table for each
//! window and fires whole tables; [`PaneWindowOperator`] shares accumulators between overlapping
//! windows; [`SessionWindowOperator`] has one timer a session. Results are those of the general
//! operator.

mod aggregating;
mod gathered;
mod panes;
mod session;

pub use aggregating::AggregatingWindowOperator;
pub use panes::PaneWindowOperator;
pub use session::{SessionParts, SessionWindowOperator};

use super::function::IncrementalLogic;
use super::late::Lateness;
use super::{TimeGrid, TimeWindow};
use crate::key::{KeySelector, owned_key};
use crate::timers::TimeDomain;

use hurtig_core::key::OwnedKey;
use hurtig_core::time::{MIN_WATERMARK, NO_TIMESTAMP};
use hurtig_core::{Batch, Result};
use hurtig_state::{AggregateFunction, Change, GroupedTable, StateShape, StateShapes};
use serde::de::DeserializeOwned;
use std::borrow::Borrow;

/// The accumulator of some logic.
type AccOf<In, Q, W, Out, L> = <<L as IncrementalLogic<In, Q, W, Out>>::Aggregate as AggregateFunction>::Acc;

/// What [`AggregatingWindowOperator`] and [`PaneWindowOperator`] are made of.
pub struct GridParts<In, W, L> {
    /// Where windows lie.
    pub grid: TimeGrid,
    /// Of which time.
    pub domain: TimeDomain,
    /// How the assigner calls a window.
    pub name: fn(TimeWindow) -> W,
    /// What is kept and emitted.
    pub logic: L,
    /// How long windows wait.
    pub late: Lateness<In>,
}

/// The types of sections with a value of `V` for each window and key.
fn shapes_by_window<K: OwnedKey, V: DeserializeOwned>(sections: &[&str]) -> StateShapes {
    let shape = StateShape::keyed::<K, V>().by::<TimeWindow>();
    let sections = sections.iter();
    sections
        .map(|section| ((*section).to_owned(), shape.clone()))
        .collect()
}

/// The event time that decides about lateness: windows of processing time are never late.
fn lateness_clock(domain: TimeDomain, watermark: i64) -> i64 {
    match domain {
        TimeDomain::Event => watermark,
        TimeDomain::Processing => MIN_WATERMARK,
    }
}

/// How many records at the front of a batch have times within `window`, which holds the first: also the last
/// moment of time, which is in the window that ends there.
#[inline]
fn run_length<T>(input: &Batch<T>, window: TimeWindow) -> usize {
    input
        .each_time()
        .map_or(input.len(), |times| times_within(times, window).max(1))
}

/// How many times at the front are within `window`.
fn times_within(times: &[i64], window: TimeWindow) -> usize {
    // What lies before the window wraps around to beyond it.
    let length = window.end.wrapping_sub(window.start) as u64;
    let offset = |time: i64| time.wrapping_sub(window.start) as u64;
    let mut within = 0;
    for stretch in times.chunks(64) {
        // No bit of any offset is missing in `all`, so none is greater. Times that lie close together have
        // most bits in common, and this needs no branch for each (0.1 against 0.5 ns).
        let all = stretch.iter().fold(0, |all, &time| all | offset(time));
        if all >= length
            && let Some(outside) = stretch.iter().position(|&time| offset(time) >= length)
        {
            return within + outside;
        }
        within += stretch.len();
    }
    within
}

/// The time of the first record in the operator's domain.
fn first_time<T>(input: &Batch<T>, domain: TimeDomain, processing_time: i64) -> Result<i64> {
    match domain {
        TimeDomain::Processing => Ok(processing_time),
        TimeDomain::Event => match input.time(0) {
            NO_TIMESTAMP => Err(super::assigner::no_timestamp()),
            time => Ok(time),
        },
    }
}

/// Adds one record to a window's table.
fn add<In, S, G>(
    selector: &S,
    aggregate: &G,
    table: &mut GroupedTable<S::Key, G::Acc>,
    (hash, record): (u64, In),
) where
    S: KeySelector<In>,
    G: AggregateFunction<In = In>,
{
    let acc = selector.with_key(&record, |key| table.upsert(hash, key, || aggregate.create()));
    aggregate.add(acc, record);
}

/// Adding a record to its key's accumulator: the inner loop of most windows.
struct Adding<'a, S, G>(&'a S, &'a G);

impl<In, S, G> Change<In, S::Key, G::Acc> for Adding<'_, S, G>
where
    S: KeySelector<In>,
    G: AggregateFunction<In = In>,
{
    type Out = ();
    type Key<'a>
        = S::Ref<'a>
    where
        In: 'a;

    #[inline(always)]
    fn key_of<'a>(&self, record: &'a In) -> S::Ref<'a> {
        self.0.key_of(record)
    }

    #[inline(always)]
    fn is_key(&self, stored: &S::Key, key: &S::Ref<'_>) -> bool {
        stored.borrow() == key.borrow()
    }

    #[inline(always)]
    fn change(&self, _: &S::Key, acc: &mut G::Acc, record: In) {
        self.1.add(acc, record);
    }

    fn owned_key(&self, record: &In) -> S::Key {
        owned_key(self.0, record)
    }

    fn first(&self, record: In) -> (S::Key, G::Acc, ()) {
        let (key, mut acc) = (owned_key(self.0, &record), self.1.create());
        self.1.add(&mut acc, record);
        (key, acc, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_ends_with_the_window(start in -50_i64..50, length in 1_i64..40, steps in prop::collection::vec(-1_i64..2, 0..300)) {
            let window = TimeWindow { start, end: start + length };
            let walk = steps.iter().scan(start + length / 2, |time, step| {
                *time += step;
                Some(*time)
            });
            let times: Vec<i64> = walk.collect();
            let outside = times.iter().position(|time| !(start..start + length).contains(time));
            prop_assert_eq!(times_within(&times, window), outside.unwrap_or(times.len()));
        }

        #[test]
        fn far_times_are_outside(time in any::<i64>(), start in any::<i64>(), length in 1_i64..1_000) {
            let window = TimeWindow { start, end: start.saturating_add(length) };
            let inside = (window.start..window.end).contains(&time);
            prop_assert_eq!(times_within(&[time], window), usize::from(inside));
        }
    }
}
