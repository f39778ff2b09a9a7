//! Time windows with an accumulator for each key and window, and no timers.

use super::gathered::GatheredWindows;
use super::{AccOf, Adding, GridParts, add, first_time, lateness_clock, run_length, shapes_by_window};
use crate::key::KeySelector;
use crate::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use crate::timers::TimeDomain;
use crate::windows::{IncrementalLogic, TimeWindow, Window, ensure_hashes};

use hurtig_core::batch::Drained;
use hurtig_core::{Batch, Result};
use hurtig_state::{AggregateFunction, NamespacedTable, OperatorSnapshot, ScanBudget, StateValue};
use std::borrow::Borrow;

/// Section of accumulators that have not fired, by key and window.
const OPEN: &str = "window-aggregates";
/// Section of accumulators that have fired and wait for late elements.
const RETAINED: &str = "window-aggregates/fired";

/// Tumbling, sliding or cumulating windows with an incremental function under the default trigger.
///
/// A window's accumulators are one table; a stretch of records that lies in one window resolves it
/// once. Firing takes entries out of the table one by one, so what has fired is never in it.
///
/// *Cost*: one hash look-up for each record and window that holds it.
pub struct AggregatingWindowOperator<In, Out, S, W, L>
where
    In: StateValue,
    S: KeySelector<In>,
    L: IncrementalLogic<In, S::Borrowed, W, Out>,
{
    selector: S,
    parts: GridParts<In, W, L>,
    open: NamespacedTable<S::Key, TimeWindow, AccOf<In, S::Borrowed, W, Out, L>>,
    retained: GatheredWindows<S::Key, AccOf<In, S::Borrowed, W, Out, L>>,
    windows: Vec<TimeWindow>,
    out: std::marker::PhantomData<fn() -> Out>,
}

impl<In, Out, S, W, L> AggregatingWindowOperator<In, Out, S, W, L>
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
            open: NamespacedTable::new(0..1, 1),
            retained: GatheredWindows::new(0..1, 1),
            windows: Vec::new(),
            out: std::marker::PhantomData,
        }
    }

    /// `numLateRecordsDropped`.
    pub fn late_records_dropped(&self) -> u64 {
        self.parts.late.dropped()
    }

    /// Handles records from the front of `input` whose windows are the same. False when fuel or room
    /// ran out before the first.
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
        let pane = if self.parts.grid.is_tumbling() {
            let window = self.parts.grid.tumbling_window(time);
            self.windows.push(window);
            window
        } else {
            self.parts.grid.windows_of(time, &mut self.windows);
            self.parts.grid.pane_of(time)
        };
        let whole = self.parts.domain == TimeDomain::Processing;
        let length = if whole {
            input.len()
        } else {
            run_length(input, pane)
        };
        if self.needs_care(clock) {
            return self.late_records(input, length, (cx, out), b);
        }
        self.windows.retain(|window| window.max_timestamp() > clock);
        let granted = b.take(length);
        self.bulk(input, granted);
        Ok(granted > 0)
    }

    /// Whether records of `self.windows` may fire one of them, or are in none that is open.
    fn needs_care(&self, clock: i64) -> bool {
        let open = |window: &TimeWindow| window.max_timestamp() > clock;
        let gone = |window: &TimeWindow| self.parts.late.cleanup_time(window) <= clock;
        !self.windows.iter().any(open) || !self.windows.iter().all(|window| open(window) || gone(window))
    }

    /// Adds the first `n` records to all of `self.windows`, which have not fired.
    fn bulk(&mut self, input: &mut Batch<In>, n: usize) {
        let last = self.windows.len() - 1;
        for i in 0..last {
            let window = self.windows[i];
            self.revive(input, n, window);
            let table = self.open.namespace_mut(&window);
            let (hashes, records) = input.hashes_and_records_mut();
            let adding = Adding(&self.selector, self.parts.logic.aggregate());
            table.change_each(&hashes[..n], records.iter().cloned(), &adding, &mut ());
        }
        let window = self.windows[last];
        self.revive(input, n, window);
        let table = self.open.namespace_mut(&window);
        let Drained { records, hashes, .. } = input.drain_columns(n);
        let adding = Adding(&self.selector, self.parts.logic.aggregate());
        table.change_each(hashes, records, &adding, &mut ());
        input.reset_if_empty();
    }

    /// After a restore the watermark starts again, and a window that fired before may be open again:
    /// what it has of the keys of the first `n` records fires once more when it ends.
    fn revive(&mut self, input: &mut Batch<In>, n: usize, window: TimeWindow) {
        let Self {
            selector,
            open,
            retained,
            ..
        } = self;
        let Some(fired) = retained.get(window) else { return };
        let table = open.namespace_mut(&window);
        let (hashes, records) = input.hashes_and_records_mut();
        for (&hash, record) in hashes[..n].iter().zip(&*records) {
            if let Some((key, acc)) = selector.with_key(record, |key| fired.remove(hash, key)) {
                table.insert(hash, key, acc);
            }
        }
        if fired.is_empty() {
            retained.remove(window);
        }
    }

    /// Records of which some windows have fired already, one by one.
    fn late_records(
        &mut self,
        input: &mut Batch<In>,
        length: usize,
        (cx, out): (Cx<'_>, &mut Collector<Out>),
        b: &mut Budget,
    ) -> Result<bool> {
        for done in 0..length {
            if out.full() || cx.side_full() || !b.spend() {
                return Ok(done > 0);
            }
            let hash = input.hashes()[0];
            if let Some((record, time)) = input.pop_front() {
                self.late_record((record, time, hash), cx, out)?;
            }
        }
        Ok(true)
    }

    fn late_record(
        &mut self,
        (record, time, hash): (In, i64, u64),
        cx: Cx<'_>,
        out: &mut Collector<Out>,
    ) -> Result<()> {
        let clock = lateness_clock(self.parts.domain, cx.watermark());
        let mut taken = false;
        for i in 0..self.windows.len() {
            let window = self.windows[i];
            if self.parts.late.cleanup_time(&window) <= clock {
                continue;
            }
            taken = true;
            if window.max_timestamp() > clock {
                let table = self.open.namespace_mut(&window);
                if let Some(fired) = self.retained.get(window)
                    && let Some((key, acc)) = self.selector.with_key(&record, |key| fired.remove(hash, key))
                {
                    table.insert(hash, key, acc);
                }
                add(
                    &self.selector,
                    self.parts.logic.aggregate(),
                    table,
                    (hash, record.clone()),
                );
                continue;
            }
            let GridParts { logic, name, .. } = &mut self.parts;
            let table = self.retained.get_or_insert(window);
            self.selector.with_key(&record, |key| {
                let acc = table.upsert(hash, key, || logic.aggregate().create());
                logic.aggregate().add(acc, record.clone());
                logic.emit_result(key, &name(window), acc, (cx, out))
            })?;
        }
        if !taken && self.parts.domain == TimeDomain::Event {
            self.parts.late.reject(record, time, cx);
        }
        Ok(())
    }

    /// Fires every window that ends by `up_to`, in time order, and drops what waits no longer.
    fn fire(&mut self, up_to: i64, cx: Cx<'_>, out: &mut Collector<Out>, b: &mut Budget) -> Result<Progress> {
        let retains = self.parts.late.allowed() > 0;
        while let Some((&window, _)) = self.open.first() {
            if window.max_timestamp() > up_to {
                break;
            }
            let named = (self.parts.name)(window);
            let table = self.open.namespace_mut(&window);
            while !table.is_empty() {
                if out.full() || cx.side_full() || !b.spend() {
                    return Ok(Progress::More);
                }
                let Some((hash, key, acc)) = table.pop_any() else {
                    break;
                };
                self.parts
                    .logic
                    .emit_result(key.borrow(), &named, &acc, (cx, out))?;
                if retains {
                    self.retained.get_or_insert(window).insert(hash, key, acc);
                }
            }
            self.open.remove_namespace(&window);
        }
        while let Some(window) = self.retained.first() {
            if self.parts.late.cleanup_time(&window) > up_to {
                break;
            }
            self.retained.remove(window);
        }
        Ok(Progress::Done)
    }

    fn schedule(&self, cx: Cx<'_>) {
        if self.parts.domain == TimeDomain::Processing
            && let Some((window, _)) = self.open.first()
        {
            cx.schedule(window.max_timestamp().saturating_add(1));
        }
    }
}

impl<In, Out, S, W, L> Operator<In, Out> for AggregatingWindowOperator<In, Out, S, W, L>
where
    In: StateValue,
    Out: 'static,
    S: KeySelector<In>,
    W: Window,
    L: IncrementalLogic<In, S::Borrowed, W, Out>,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let info = ctx.info();
        self.open = NamespacedTable::new(info.key_groups.clone(), info.max_parallelism);
        self.retained = GatheredWindows::new(info.key_groups.clone(), info.max_parallelism);
        self.parts.grid = self.parts.grid.opened(ctx);
        self.parts.late.open(ctx.cx());
        ctx.declare(shapes_by_window::<S::Key, AccOf<In, S::Borrowed, W, Out, L>>(&[
            OPEN, RETAINED,
        ]))?;
        if let Some(snapshot) = ctx.restored() {
            self.open.restore(OPEN, snapshot)?;
            self.retained.restore(RETAINED, snapshot)?;
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
        self.open.begin_snapshot();
        self.retained.snapshot(RETAINED, None, snapshot)
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        self.open.continue_snapshot(OPEN, snapshot, budget)
    }
}
