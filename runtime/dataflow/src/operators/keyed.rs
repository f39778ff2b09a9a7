//! What every operator with keys, state and timers consists of.

use super::prefetch::Prefetched;
use crate::broadcast::{EveryKey, KeyedBroadcastCx};
use crate::function::{Emitter, KeyedCx, KeyedOpenContext, ProcessCx};
use crate::key::KeySelector;
use crate::operator::{Budget, Collector, Cx, OpenContext, Progress};
use crate::timers::{HashedKey, TimeDomain, TimerService};
use hurtig_core::error::user_failure;
use hurtig_core::key::{OwnedKey, StableKey};
use hurtig_core::time::NO_TIMESTAMP;
use hurtig_core::{Batch, Error, Result, UserError};
use hurtig_state::{KeyedState, OperatorSnapshot, ScanBudget};
use std::borrow::Borrow;
use std::cell::RefCell;
use std::sync::Arc;

/// Makes one subtask's function, which may declare its state then and there.
pub(super) type MakeKeyed<F, K> =
    Arc<dyn Fn(&mut KeyedOpenContext<'_, K>) -> Result<F, UserError> + Send + Sync>;

/// A function with its state, timers and the key that it is being called for.
///
/// The key is copied into a place of its own before each call, so that the record can be handed over
/// while the key is in use; the place's memory is reused.
pub(super) struct Keyed<F, Q: ?Sized + ToOwned<Owned: OwnedKey>> {
    pub(super) function: F,
    state: KeyedState<Q::Owned>,
    timers: RefCell<TimerService<Q::Owned, ()>>,
    key: Option<Q::Owned>,
    prefetched: Prefetched,
    max_parallelism: u32,
}

impl<F, Q> Keyed<F, Q>
where
    Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey> + 'static,
{
    /// Makes and opens the function, then restores its state and timers.
    pub(super) fn open(
        ctx: &mut OpenContext<'_>,
        make: &MakeKeyed<F, Q::Owned>,
        open: impl FnOnce(&mut F, &mut KeyedOpenContext<'_, Q::Owned>) -> Result<(), UserError>,
    ) -> Result<Self> {
        let info = ctx.info();
        let mut state = ctx.keyed_state();
        let mut keyed_ctx = KeyedOpenContext::new(ctx, &mut state);
        let mut function = make(&mut keyed_ctx).map_err(user_failure)?;
        open(&mut function, &mut keyed_ctx).map_err(user_failure)?;
        let mut timers = TimerService::new();
        ctx.declare(state.shapes())?;
        ctx.declare(TimerService::<Q::Owned, ()>::shapes())?;
        if let Some(snapshot) = ctx.restored() {
            state.restore(snapshot)?;
            timers.restore(snapshot)?;
        }
        if let Some(next) = timers.next_time(TimeDomain::Processing) {
            ctx.cx().schedule(next);
        }
        let max_parallelism = info.max_parallelism;
        Ok(Self {
            function,
            state,
            timers: RefCell::new(timers),
            key: None,
            prefetched: Prefetched::default(),
            max_parallelism,
        })
    }

    pub(super) fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.state.begin_snapshot()?;
        self.timers.borrow().snapshot(self.max_parallelism, snapshot);
        Ok(())
    }

    pub(super) fn continue_snapshot(
        &self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        self.state.continue_snapshot(snapshot, budget)
    }

    /// Makes `key` the one that the next call is for.
    #[inline]
    fn set_key(&mut self, key: &Q) {
        match &mut self.key {
            Some(place) => key.clone_into(place),
            none => *none = Some(key.to_owned()),
        }
    }

    /// Calls the function for the current key.
    #[inline]
    fn call(
        &mut self,
        hash: u64,
        time: i64,
        cx: Cx<'_>,
        call: impl FnOnce(&mut F, KeyedCx<'_, Q>) -> Result<(), UserError>,
    ) -> Result<()> {
        let Some(key) = &self.key else {
            return Err(Error::internal("a keyed function was called without a key"));
        };
        let key = HashedKey::new(hash, key.borrow());
        let keyed_cx = KeyedCx {
            cx,
            state: &self.state,
            timers: &self.timers,
            key,
            time,
        };
        call(&mut self.function, keyed_cx).map_err(user_failure)
    }

    /// The function, its state and its timers, for what concerns no key.
    pub(super) fn parts(&mut self) -> Result<(&mut F, EveryKey<'_, Q>)> {
        self.state.quiet_point()?;
        let every_key = EveryKey {
            state: &self.state,
            timers: &self.timers,
        };
        Ok((&mut self.function, every_key))
    }

    /// What a call has that concerns no key and no record: what it emits has no time.
    pub(super) fn without_key<'a, Out>(
        &'a mut self,
        cx: Cx<'a>,
        out: &'a mut Collector<Out>,
    ) -> Result<(&'a mut F, KeyedBroadcastCx<'a, Q>, Emitter<'a, Out>)> {
        out.set_time(NO_TIMESTAMP);
        let (function, every_key) = self.parts()?;
        let cx = KeyedBroadcastCx::new(ProcessCx::new(cx, NO_TIMESTAMP), every_key);
        Ok((function, cx, Emitter::new(out)))
    }

    /// Hands records to `each` until fuel or room ends.
    #[inline]
    pub(super) fn process<T, Out, S>(
        &mut self,
        selector: &S,
        input: &mut Batch<T>,
        at: At<'_, '_, Out>,
        each: impl FnMut(&mut F, T, KeyedCx<'_, Q>, &mut Emitter<'_, Out>) -> Result<(), UserError>,
    ) -> Result<Progress>
    where
        S: KeySelector<T, Key = Q::Owned, Borrowed = Q>,
    {
        ensure_hashes(selector, input);
        self.prefetched.quiet_point(&self.state)?;
        let ahead = self.prefetched.ahead(&self.state, selector, input, at.cx);
        let waiting = input.len();
        let progress = self.process_each(selector, (input, ahead), at, each);
        let processed = waiting - input.len();
        self.prefetched.processed(processed);
        self.state.clean_up(processed);
        progress
    }

    #[inline]
    fn process_each<T, Out, S>(
        &mut self,
        selector: &S,
        (input, mut ahead): (&mut Batch<T>, usize),
        At { cx, out, budget }: At<'_, '_, Out>,
        mut each: impl FnMut(&mut F, T, KeyedCx<'_, Q>, &mut Emitter<'_, Out>) -> Result<(), UserError>,
    ) -> Result<Progress>
    where
        S: KeySelector<T, Key = Q::Owned, Borrowed = Q>,
    {
        while !input.is_empty() {
            if ahead == 0 || out.full() || cx.side_full() || !budget.spend() {
                return Ok(Progress::More);
            }
            ahead -= 1;
            let hash = input.hashes()[0];
            if let Some((record, time)) = input.pop_front() {
                selector.with_key(&record, |key| self.set_key(key));
                out.set_time(time);
                self.call(hash, time, cx, |f, keyed_cx| {
                    each(f, record, keyed_cx, &mut Emitter::new(out))
                })?;
            }
        }
        Ok(Progress::Done)
    }

    /// Fires timers that are due at `up_to`, one by one, until fuel or room ends.
    pub(super) fn fire<Out>(
        &mut self,
        domain: TimeDomain,
        up_to: i64,
        at: At<'_, '_, Out>,
        mut each: impl FnMut(&mut F, i64, KeyedCx<'_, Q>, &mut Emitter<'_, Out>) -> Result<(), UserError>,
    ) -> Result<Progress> {
        let At { cx, out, budget } = at;
        self.state.quiet_point()?;
        self.state.clean_up(0);
        while self
            .timers
            .get_mut()
            .next_time(domain)
            .is_some_and(|time| time <= up_to)
        {
            if out.full() || cx.side_full() || !budget.spend() {
                return Ok(Progress::More);
            }
            let Some(timer) = self.timers.get_mut().pop_due(domain, up_to) else {
                break;
            };
            self.key = Some(timer.key);
            out.set_time(if domain == TimeDomain::Event {
                timer.time
            } else {
                NO_TIMESTAMP
            });
            self.call(timer.hash, timer.time, cx, |f, keyed_cx| {
                each(f, timer.time, keyed_cx, &mut Emitter::new(out))
            })?;
        }
        if domain == TimeDomain::Processing
            && let Some(next) = self.timers.get_mut().next_time(domain)
        {
            cx.schedule(next);
        }
        Ok(Progress::Done)
    }
}

/// What a call may use.
pub(super) struct At<'a, 'b, Out> {
    pub(super) cx: Cx<'a>,
    pub(super) out: &'b mut Collector<Out>,
    pub(super) budget: &'b mut Budget,
}

/// Computes the hash column of a batch that comes without one.
#[inline]
pub(super) fn ensure_hashes<T, S: KeySelector<T>>(selector: &S, input: &mut Batch<T>) {
    if input.hashes().is_empty() {
        input.set_hashes(|records, hashes| selector.hash_all(records, hashes));
    }
}

/// The error of a call that came before `open`.
#[cold]
pub(super) fn not_open() -> Error {
    Error::internal("an operator was called before it was opened")
}
