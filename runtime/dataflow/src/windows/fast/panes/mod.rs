//! Overlapping windows that share accumulators: one for each key and pane instead of each window.

mod again;

use super::gathered::Gathered;
use super::{AccOf, Adding, GridParts, add, first_time, lateness_clock, run_length, shapes_by_window};
use crate::key::KeySelector;
use crate::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use crate::timers::TimeDomain;
use crate::windows::{IncrementalLogic, TimeWindow, Window, ensure_hashes};
use again::FiredAgain;

use hurtig_core::batch::Drained;
use hurtig_core::key::OwnedKey;
use hurtig_core::time::MIN_WATERMARK;
use hurtig_core::{Batch, Result};
use hurtig_state::{
    AggregateFunction, GroupedTable, NamespacedTable, OperatorSnapshot, ScanBudget, StateValue,
};
use std::borrow::Borrow;
use std::ops::Range;

/// Entries that one unit of fuel merges. Merging does not emit, and costs less than a record.
const MERGED_PER_FUEL: usize = 16;

/// A window that is being put together from its panes.
struct Merging<K, Acc> {
    window: TimeWindow,
    pane: TimeWindow,
    /// Entries of `pane` that are in `table` already.
    done: usize,
    table: Gathered<K, Acc>,
}

/// Sliding or cumulating windows with a shareable incremental function under the default trigger.
///
/// A pane is a stretch of time whose records are in the same windows. A window that fires merges the
/// panes that exist into a table of its own, with fuel, and then emits from it; panes stay for the
/// windows to come. Results equal those of one accumulator for each window, because the function
/// declares its merge associative and commutative.
pub struct PaneWindowOperator<In, Out, S, W, L>
where
    In: StateValue,
    S: KeySelector<In>,
    L: IncrementalLogic<In, S::Borrowed, W, Out>,
{
    selector: S,
    parts: GridParts<In, W, L>,
    panes: NamespacedTable<S::Key, TimeWindow, AccOf<In, S::Borrowed, W, Out, L>>,
    again: FiredAgain<S::Key, AccOf<In, S::Borrowed, W, Out, L>>,
    merging: Option<Merging<S::Key, AccOf<In, S::Borrowed, W, Out, L>>>,
    firing: Option<(TimeWindow, Gathered<S::Key, AccOf<In, S::Borrowed, W, Out, L>>)>,
    /// The last timestamp of the last window that was put together; later ones have not fired.
    fired_through: i64,
    groups: Range<u16>,
    windows: Vec<TimeWindow>,
    out: std::marker::PhantomData<fn() -> Out>,
}

impl<In, Out, S, W, L> PaneWindowOperator<In, Out, S, W, L>
where
    In: StateValue,
    S: KeySelector<In>,
    W: Window,
    L: IncrementalLogic<In, S::Borrowed, W, Out>,
{
    /// The operator of these parts, keyed by `selector`.
    pub fn new(selector: S, mut parts: GridParts<In, W, L>) -> Self {
        parts.late.for_domain(parts.domain);
        Self {
            selector,
            parts,
            panes: NamespacedTable::new(0..1, 1),
            again: FiredAgain::new(0..1, 1),
            merging: None,
            firing: None,
            fired_through: MIN_WATERMARK,
            groups: 0..1,
            windows: Vec::new(),
            out: std::marker::PhantomData,
        }
    }

    /// `numLateRecordsDropped`.
    pub fn late_records_dropped(&self) -> u64 {
        self.parts.late.dropped()
    }

    fn run(
        &mut self,
        input: &mut Batch<In>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<bool> {
        let time = first_time(input, self.parts.domain, cx.processing_time())?;
        let clock = lateness_clock(self.parts.domain, cx.watermark());
        self.windows.clear();
        self.parts.grid.windows_of(time, &mut self.windows);
        let pane = self.parts.grid.pane_of(time);
        let whole = self.parts.domain == TimeDomain::Processing;
        let length = if whole {
            input.len()
        } else {
            run_length(input, pane)
        };
        if self.needs_care(clock) {
            return self.careful_records(input, (pane, length), (cx, out), b);
        }
        let granted = b.take(length);
        self.bulk(input, pane, granted);
        Ok(granted > 0)
    }

    /// Whether records of `self.windows` may fire one, were taken out of one, or are in none.
    fn needs_care(&self, clock: i64) -> bool {
        let open = |window: &TimeWindow| window.max_timestamp() > clock.max(self.fired_through);
        let gone = |window: &TimeWindow| self.parts.late.cleanup_time(window) <= clock;
        !self.windows.iter().any(open) || !self.windows.iter().all(|window| open(window) || gone(window))
    }

    fn bulk(&mut self, input: &mut Batch<In>, pane: TimeWindow, n: usize) {
        let table = self.panes.namespace_mut(&pane);
        let Drained { records, hashes, .. } = input.drain_columns(n);
        let adding = Adding(&self.selector, self.parts.logic.aggregate());
        table.change_each(hashes, records, &adding, &mut ());
        input.reset_if_empty();
    }

    fn careful_records(
        &mut self,
        input: &mut Batch<In>,
        (pane, length): (TimeWindow, usize),
        (cx, out): (Cx<'_>, &mut Collector<Out>),
        b: &mut Budget,
    ) -> Result<bool> {
        for done in 0..length {
            if out.full() || cx.side_full() || !b.spend() {
                return Ok(done > 0);
            }
            let hash = input.hashes()[0];
            if let Some((record, time)) = input.pop_front() {
                self.careful_record((record, time, hash), pane, cx, out)?;
            }
        }
        Ok(true)
    }

    fn careful_record(
        &mut self,
        (record, time, hash): (In, i64, u64),
        pane: TimeWindow,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
    ) -> Result<()> {
        let clock = lateness_clock(self.parts.domain, cx.watermark());
        if self
            .windows
            .iter()
            .all(|window| self.parts.late.cleanup_time(window) <= clock)
        {
            if self.parts.domain == TimeDomain::Event {
                self.parts.late.reject(record, time, cx);
            }
            return Ok(());
        }
        let copy = record.clone();
        self.reopen((&copy, hash), clock);
        add(
            &self.selector,
            self.parts.logic.aggregate(),
            self.panes.namespace_mut(&pane),
            (hash, record),
        );
        let Self {
            selector,
            parts:
                GridParts {
                    logic,
                    name,
                    grid,
                    late,
                    ..
                },
            panes,
            again,
            windows,
            ..
        } = self;
        for &window in windows.iter() {
            if window.max_timestamp() > clock || late.cleanup_time(&window) <= clock {
                continue;
            }
            selector.with_key(&copy, |key| {
                let aggregate = logic.aggregate();
                let acc = match again.late(window, (hash, key), late, || aggregate.create()) {
                    Some(acc) => {
                        aggregate.add(acc, copy.clone());
                        Some(acc.clone())
                    }
                    None => merged(panes, grid.panes_in(window), (hash, key), aggregate),
                };
                match acc {
                    Some(acc) => logic.emit_result(key, &name(window), &acc, (cx, out)),
                    None => Ok(()),
                }
            })?;
        }
        Ok(())
    }

    fn fire(&mut self, up_to: i64, cx: Cx<'_>, out: &mut Collector<Out>, b: &mut Budget) -> Result<Progress> {
        loop {
            if !self.emit_pending(up_to, cx, out, b)? || !self.emit_firing(cx, out, b)? {
                return Ok(Progress::More);
            }
            if self.merging.is_none() && !self.begin_window(up_to) {
                break;
            }
            if !b.spend() {
                return Ok(Progress::More);
            }
            let rest = b.left() as usize;
            let fuel = b.take(rest.min(self.left_to_merge() / MERGED_PER_FUEL)) + 1;
            self.merge_some(fuel * MERGED_PER_FUEL);
        }
        self.fired_through = self.fired_through.max(up_to);
        self.drop_panes(up_to);
        self.again.drop_gone(&self.parts.late, up_to);
        Ok(Progress::Done)
    }

    /// Emits the window that was put together. False when fuel or room ran out.
    fn emit_firing(&mut self, cx: Cx<'_>, out: &mut Collector<Out>, b: &mut Budget) -> Result<bool> {
        let Some((window, table)) = &mut self.firing else {
            return Ok(true);
        };
        let named = (self.parts.name)(*window);
        while !table.is_empty() {
            if out.full() || cx.side_full() || !b.spend() {
                return Ok(false);
            }
            if let Some((_, key, acc)) = table.pop_any() {
                self.parts
                    .logic
                    .emit_result(key.borrow(), &named, &acc, (cx, out))?;
            }
        }
        self.firing = None;
        Ok(true)
    }

    /// Begins with the next window that ends by `up_to` and has a pane; false when there is none.
    fn begin_window(&mut self, up_to: i64) -> bool {
        let Some(window) = self
            .next_window()
            .filter(|window| window.max_timestamp() <= up_to)
        else {
            return false;
        };
        let Some(pane) = self.parts.grid.panes_in(window).next() else {
            return false;
        };
        self.merging = Some(Merging {
            window,
            pane,
            done: 0,
            table: Gathered::default(),
        });
        true
    }

    /// The earliest window that has not fired and holds something. Later panes are in no earlier one.
    fn next_window(&mut self) -> Option<TimeWindow> {
        let Self {
            panes,
            windows,
            parts,
            fired_through,
            ..
        } = self;
        panes.iter().find_map(|(pane, _)| {
            windows.clear();
            parts.grid.windows_of(pane.start, windows);
            let unfired = windows
                .iter()
                .filter(|window| window.max_timestamp() > *fired_through);
            unfired.min_by_key(|window| window.end).copied()
        })
    }

    fn left_to_merge(&self) -> usize {
        let Some(Merging {
            window, pane, done, ..
        }) = &self.merging
        else {
            return 0;
        };
        let spans = self.parts.grid.panes_in(*window).filter(|span| span >= pane);
        spans
            .filter_map(|span| self.panes.get_namespace(&span))
            .map(GroupedTable::len)
            .sum::<usize>()
            - done
    }

    /// Merges up to `count` more entries; when the window is complete it is ready to be emitted.
    fn merge_some(&mut self, mut count: usize) {
        let Some(mut merging) = self.merging.take() else {
            return;
        };
        let aggregate = self.parts.logic.aggregate();
        let spans: Vec<_> = self
            .parts
            .grid
            .panes_in(merging.window)
            .filter(|span| *span >= merging.pane)
            .collect();
        for span in spans {
            if span != merging.pane {
                (merging.pane, merging.done) = (span, 0);
            }
            let Some(pane) = self.panes.get_namespace(&span) else {
                continue;
            };
            for (hash, key, acc) in pane.iter().skip(merging.done).take(count) {
                merge_entry(&mut merging.table, (hash, key), acc, aggregate);
                merging.done += 1;
                count -= 1;
            }
            if merging.done < pane.len() {
                self.merging = Some(merging);
                return;
            }
        }
        self.fired_through = merging.window.max_timestamp();
        self.firing = Some((merging.window, merging.table));
    }

    /// Drops panes that no window needs any more.
    fn drop_panes(&mut self, up_to: i64) {
        while let Some((&pane, _)) = self.panes.first() {
            self.windows.clear();
            self.parts.grid.windows_of(pane.start, &mut self.windows);
            if self
                .windows
                .iter()
                .any(|window| self.parts.late.cleanup_time(window) > up_to)
            {
                break;
            }
            self.panes.remove_namespace(&pane);
        }
    }

    fn schedule(&mut self, cx: Cx<'_>) {
        if self.parts.domain == TimeDomain::Processing
            && let Some(window) = self.next_window()
        {
            cx.schedule(window.max_timestamp().saturating_add(1));
        }
        if self.parts.domain == TimeDomain::Processing
            && let Some(window) = self.again.first()
        {
            cx.schedule(window.max_timestamp().saturating_add(1));
        }
    }
}

/// What a key has in the panes of a window.
fn merged<K, Q, G>(
    panes: &NamespacedTable<K, TimeWindow, G::Acc>,
    spans: impl Iterator<Item = TimeWindow>,
    (hash, key): (u64, &Q),
    aggregate: &G,
) -> Option<G::Acc>
where
    K: OwnedKey + Borrow<Q>,
    Q: hurtig_core::key::StableKey + ?Sized,
    G: AggregateFunction,
{
    let found = spans.filter_map(|span| panes.get_namespace(&span)?.get(hash, key).cloned());
    found.reduce(|mut into, acc| {
        aggregate.merge(&mut into, acc);
        into
    })
}

/// Adds what a pane has for a key to a window's table.
fn merge_entry<K: OwnedKey, G: AggregateFunction>(
    table: &mut Gathered<K, G::Acc>,
    (hash, key): (u64, &K),
    acc: &G::Acc,
    aggregate: &G,
) {
    match table.get_mut::<K>(hash, key) {
        Some(into) => aggregate.merge(into, acc.clone()),
        None => table.insert(hash, key.clone(), acc.clone()),
    }
}

impl<In, Out, S, W, L> Operator<In, Out> for PaneWindowOperator<In, Out, S, W, L>
where
    In: StateValue,
    Out: 'static,
    S: KeySelector<In>,
    W: Window,
    L: IncrementalLogic<In, S::Borrowed, W, Out>,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let info = ctx.info();
        self.groups = info.key_groups.clone();
        self.panes = NamespacedTable::new(info.key_groups.clone(), info.max_parallelism);
        self.again = FiredAgain::new(info.key_groups.clone(), info.max_parallelism);
        self.parts.late.open(ctx.cx());
        ctx.declare(shapes_by_window::<S::Key, AccOf<In, S::Borrowed, W, Out, L>>(&[
            again::PANES,
            again::OWN,
            again::PENDING,
        ]))?;
        if let Some(snapshot) = ctx.restored() {
            self.restore(snapshot)?;
            self.schedule(ctx.cx());
        }
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Operator::<In, Out>::open(self, ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<In>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        ensure_hashes(&self.selector, input);
        while !input.is_empty() {
            if out.full() || b.left() == 0 || !self.run(input, cx, out, b)? {
                self.schedule(cx);
                return Ok(Progress::More);
            }
        }
        self.schedule(cx);
        Ok(Progress::Done)
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        match self.parts.domain {
            TimeDomain::Event => self.fire(wm, cx, out, b),
            TimeDomain::Processing => Ok(Progress::Done),
        }
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        if self.parts.domain == TimeDomain::Event {
            return Ok(Progress::Done);
        }
        let progress = self.fire(now.saturating_sub(1), cx, out, b);
        self.schedule(cx);
        progress
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.write(snapshot)
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        self.panes.continue_snapshot(again::PANES, snapshot, budget)
    }
}
