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
use crate::key::KeySelector;
use crate::timers::TimeDomain;

use hurtig_core::time::{MIN_WATERMARK, NO_TIMESTAMP};
use hurtig_core::{Batch, Result};
use hurtig_state::{AggregateFunction, GroupedTable, Places};
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

/// The event time that decides about lateness: windows of processing time are never late.
fn lateness_clock(domain: TimeDomain, watermark: i64) -> i64 {
    match domain {
        TimeDomain::Event => watermark,
        TimeDomain::Processing => MIN_WATERMARK,
    }
}

/// How many records at the front of a batch have times within `window`, which holds the first.
#[inline]
fn run_length<T>(input: &Batch<T>, window: TimeWindow) -> usize {
    match input.each_time() {
        None => input.len(),
        Some(times) => {
            // One comparison: what lies before the window wraps around to beyond it.
            let length = window.end.wrapping_sub(window.start) as u64;
            let within = |time: i64| (time.wrapping_sub(window.start) as u64) < length;
            let outside = times.iter().position(|&time| !within(time));
            outside.unwrap_or(times.len())
        }
    }
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

/// Adds records to a window's table: the inner loop of most windows.
#[inline]
fn add_all<In, S, G>(
    (selector, aggregate): (&S, &G),
    table: &mut GroupedTable<S::Key, G::Acc>,
    places: &mut Places,
    (hashes, records): (&[u64], impl Iterator<Item = In>),
) where
    S: KeySelector<In>,
    G: AggregateFunction<In = In>,
{
    table.locate(hashes, places);
    for (i, (record, &hash)) in records.zip(hashes).enumerate() {
        let acc = {
            let key = selector.key_of(&record);
            table.upsert_at(places.get(i), hash, key.borrow(), || aggregate.create())
        };
        aggregate.add(acc, record);
    }
}
