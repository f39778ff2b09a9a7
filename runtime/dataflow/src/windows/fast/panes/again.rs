//! Windows that fire a second time: what a restore leaves behind.
//!
//! A snapshot may fall between two results of one window, subtasks whose snapshots are joined may
//! have stopped at different windows, and after a restore the watermark starts again, so that a
//! window that has fired may get records before its end once more. Such windows have accumulators of
//! their own, beside the panes.

use super::super::gathered::GatheredWindows;
use super::{PaneWindowOperator, merge_entry, merged};
use crate::key::KeySelector;
use crate::operator::{Budget, Collector, Cx};
use crate::windows::late::Lateness;
use crate::windows::{IncrementalLogic, TimeWindow, Window};

use hurtig_core::Result;
use hurtig_core::key::{OwnedKey, StableKey};
use hurtig_core::time::MIN_WATERMARK;
use hurtig_state::{AggregateFunction, OperatorSnapshot, Redistribution, StateValue};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::ops::Range;

/// Section of accumulators by key and pane.
pub(super) const PANES: &str = "window-panes";
/// Section of windows that have been put together but not emitted.
pub(super) const PENDING: &str = "window-panes/firing";
/// Section of windows that have fired again and wait for late records.
pub(super) const OWN: &str = "window-panes/fired-again";
/// Section that says up to which window each range of key groups has fired.
const FIRED: &str = "window-panes/fired";

/// Windows up to `through` have been put together for these key groups.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fired {
    groups: Range<u16>,
    through: i64,
}

/// Accumulators of windows that fire again, by window and key.
#[derive(Debug)]
pub(super) struct FiredAgain<K, Acc> {
    /// They will fire.
    pending: GatheredWindows<K, Acc>,
    /// They have fired and wait for late records.
    own: GatheredWindows<K, Acc>,
    /// Windows whose cleanup was up to here were gone at the restore; panes still know of them.
    gone_through: i64,
}

impl<K: OwnedKey, Acc> FiredAgain<K, Acc> {
    pub(super) fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        Self {
            pending: GatheredWindows::new(groups.clone(), max_parallelism),
            own: GatheredWindows::new(groups, max_parallelism),
            gone_through: MIN_WATERMARK,
        }
    }

    /// The next window to fire.
    pub(super) fn first(&self) -> Option<TimeWindow> {
        self.pending.first()
    }

    /// The accumulator of a late record's window, if that is not what the panes hold.
    pub(super) fn late<In: 'static, Q>(
        &mut self,
        window: TimeWindow,
        (hash, key): (u64, &Q),
        late: &Lateness<In>,
        create: impl FnOnce() -> Acc,
    ) -> Option<&mut Acc>
    where
        K: Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        if late.cleanup_time(&window) <= self.gone_through {
            return Some(self.own.get_or_insert(window).upsert(hash, key, create));
        }
        self.own.get(window)?.get_mut(hash, key)
    }

    /// Drops windows that wait no longer.
    pub(super) fn drop_gone<In: 'static>(&mut self, late: &Lateness<In>, up_to: i64) {
        while let Some(window) = self.own.first() {
            if late.cleanup_time(&window) > up_to {
                break;
            }
            self.own.remove(window);
        }
    }
}

impl<In, Out, S, W, L> PaneWindowOperator<In, Out, S, W, L>
where
    In: StateValue,
    S: KeySelector<In>,
    W: Window,
    L: IncrementalLogic<In, S::Borrowed, W, Out>,
{
    /// Adds a record to those of `self.windows` that have fired but are open again. They begin with
    /// what they would have retained.
    pub(super) fn reopen(&mut self, (record, hash): (&In, u64), clock: i64) {
        let Self {
            selector,
            parts,
            panes,
            again,
            windows,
            fired_through,
            ..
        } = self;
        let aggregate = parts.logic.aggregate();
        for window in windows
            .iter()
            .filter(|w| clock < w.max_timestamp() && w.max_timestamp() <= *fired_through)
        {
            let FiredAgain {
                pending,
                own,
                gone_through,
            } = again;
            let in_panes = parts.late.allowed() > 0 && parts.late.cleanup_time(window) > *gone_through;
            let acc = selector.with_key(record, |key| {
                let fired = own.get(*window).and_then(|table| table.remove(hash, key));
                pending.get_or_insert(*window).upsert(hash, key, || {
                    let retained = fired.map(|(_, acc)| acc);
                    let held = || {
                        in_panes.then(|| merged(panes, parts.grid.panes_in(*window), (hash, key), aggregate))
                    };
                    retained
                        .or_else(|| held().flatten())
                        .unwrap_or_else(|| aggregate.create())
                })
            });
            aggregate.add(acc, record.clone());
        }
    }

    /// Emits windows that fire again. False when fuel or room ran out.
    pub(super) fn emit_pending(
        &mut self,
        up_to: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<bool> {
        let FiredAgain { pending, own, .. } = &mut self.again;
        while let Some(window) = pending.first().filter(|window| window.max_timestamp() <= up_to) {
            let named = (self.parts.name)(window);
            let table = pending.get_or_insert(window);
            while !table.is_empty() {
                if out.full() || cx.side_full() || !b.spend() {
                    return Ok(false);
                }
                let Some((hash, key, acc)) = table.pop_any() else {
                    break;
                };
                self.parts
                    .logic
                    .emit_result(key.borrow(), &named, &acc, (cx, out))?;
                if self.parts.late.allowed() > 0 {
                    own.get_or_insert(window).insert(hash, key, acc);
                }
            }
            pending.remove(window);
        }
        Ok(true)
    }

    pub(super) fn write(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.panes.begin_snapshot();
        self.again.own.snapshot(OWN, None, snapshot)?;
        let firing = self.firing.as_ref().map(|(window, table)| (window, table));
        self.again.pending.snapshot(PENDING, firing, snapshot)?;
        let fired = Fired {
            groups: self.groups.clone(),
            through: self.fired_through,
        };
        snapshot.put_operator(FIRED, Redistribution::Union, &[fired])
    }

    pub(super) fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.panes.restore(PANES, snapshot)?;
        self.again.own.restore(OWN, snapshot)?;
        self.again.pending.restore(PENDING, snapshot)?;
        self.catch_up(&snapshot.operator::<Fired>(FIRED)?);
        self.again.gone_through = self.fired_through;
        Ok(())
    }

    /// Subtasks of the snapshot may have stopped at different windows of one watermark: keys that
    /// are behind get their unfired windows put together here.
    fn catch_up(&mut self, fired: &[Fired]) {
        let own = self.groups.clone();
        let of_own = fired
            .iter()
            .filter(|f| f.groups.start < own.end && own.start < f.groups.end);
        let Some(through) = of_own.map(|f| f.through).max() else {
            return;
        };
        self.fired_through = through;
        let Self {
            parts,
            panes,
            again,
            windows,
            ..
        } = self;
        for (pane, table) in panes.iter() {
            windows.clear();
            parts.grid.windows_of(pane.start, windows);
            for (hash, key, acc) in table.iter() {
                let group = table.group_of(hash);
                let range = fired.iter().find(|f| f.groups.contains(&group));
                let behind = range.map_or(MIN_WATERMARK, |f| f.through);
                let unfired = |w: &&TimeWindow| behind < w.max_timestamp() && w.max_timestamp() <= through;
                for window in windows.iter().filter(unfired) {
                    let open = again.pending.get_or_insert(*window);
                    merge_entry(open, (hash, key), acc, parts.logic.aggregate());
                }
            }
        }
    }
}
