//! The operator for windows of any kind: every assigner, trigger, evictor and function.
//!
//! Semantics are those of Flink's `WindowOperator` and `EvictingWindowOperator`, with two deliberate
//! differences: a new window equal to one in flight joins it (Flink forgets what the old one held if
//! that was itself a merger), and a timer for a window without any state is skipped.

mod restore;
mod slots;

use super::function::{WindowContext, WindowLogic, is_stateless};
use super::late::Lateness;
use super::trigger::{Trigger, TriggerResult, WindowTimer};
use super::{Window, WindowAssigner};
use crate::key::KeySelector;
use crate::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use crate::timers::{HashedKey, TimeDomain, Timer, TimerService};

use hurtig_core::time::MAX_WATERMARK;
use hurtig_core::{Batch, Result};
use hurtig_state::{GroupedTable, OperatorSnapshot, ScanBudget, StateValue};
use slots::{Now, Placing, Slot, ask, position};
use std::borrow::Borrow;

/// The slot type of an operator's parts.
type SlotOf<In, Q, Out, A, T, L> = Slot<
    <A as WindowAssigner<In>>::Window,
    <L as WindowLogic<In, Q, <A as WindowAssigner<In>>::Window, Out>>::Contents,
    <T as Trigger<In, <A as WindowAssigner<In>>::Window>>::State,
    <L as WindowLogic<In, Q, <A as WindowAssigner<In>>::Window, Out>>::WindowState,
>;

/// What [`WindowOperator`] is made of.
pub struct WindowParts<In, A, T, L> {
    /// Which windows an element is in.
    pub assigner: A,
    /// When they fire.
    pub trigger: T,
    /// What they keep and emit.
    pub logic: L,
    /// How long they wait.
    pub late: Lateness<In>,
}

/// Windows of any kind.
///
/// The state of a key is a small sorted vector of its windows; triggers and cleanup use timers, one
/// for each key, window and time.
pub struct WindowOperator<In, Out, S, A, T, L>
where
    In: StateValue,
    S: KeySelector<In>,
    A: WindowAssigner<In>,
    T: Trigger<In, A::Window>,
    L: WindowLogic<In, S::Borrowed, A::Window, Out>,
{
    selector: S,
    parts: WindowParts<In, A, T, L>,
    keys: GroupedTable<S::Key, Vec<SlotOf<In, S::Borrowed, Out, A, T, L>>>,
    globals: GroupedTable<S::Key, L::GlobalState>,
    timers: TimerService<S::Key, A::Window>,
    assigned: Vec<A::Window>,
    changes: Vec<WindowTimer<A::Window>>,
    out: std::marker::PhantomData<fn() -> Out>,
}

/// What an element has done to its window.
struct Placed<K> {
    index: usize,
    result: TriggerResult,
    /// The key, when the window fires or purges.
    key: Option<K>,
}

impl<In, Out, S, A, T, L> WindowOperator<In, Out, S, A, T, L>
where
    In: StateValue,
    S: KeySelector<In>,
    A: WindowAssigner<In>,
    T: Trigger<In, A::Window>,
    L: WindowLogic<In, S::Borrowed, A::Window, Out>,
{
    /// The operator of these parts, keyed by `selector`.
    pub fn new(selector: S, mut parts: WindowParts<In, A, T, L>) -> Self {
        parts.late.for_domain(parts.assigner.domain());
        Self {
            selector,
            parts,
            keys: GroupedTable::new(0..1, 1),
            globals: GroupedTable::new(0..1, 1),
            timers: TimerService::new(),
            assigned: Vec::new(),
            changes: Vec::new(),
            out: std::marker::PhantomData,
        }
    }

    /// `numLateRecordsDropped`.
    pub fn late_records_dropped(&self) -> u64 {
        self.parts.late.dropped()
    }

    fn element(
        &mut self,
        (element, time, hash): (In, i64, u64),
        now: Now,
        (cx, out): (Cx<'_>, &mut Collector<Out>),
    ) -> Result<()> {
        let mut assigned = std::mem::take(&mut self.assigned);
        assigned.clear();
        let at = match self.parts.assigner.domain() {
            TimeDomain::Event => time,
            TimeDomain::Processing => now.processing,
        };
        self.parts.assigner.assign(&element, at, &mut assigned)?;
        let (mut element, mut taken, mut left) = (Some(element), false, assigned.len());
        for window in assigned.drain(..) {
            left -= 1;
            let window = (window, left == 0);
            taken |= self.element_in_window((&mut element, time, hash), window, now, (cx, out))?;
        }
        self.assigned = assigned;
        match element {
            Some(element) if !taken && self.parts.assigner.domain() == TimeDomain::Event => {
                self.parts.late.reject(element, time, cx);
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds an element to one of its windows, moving it into the last; false when it is too late.
    fn element_in_window(
        &mut self,
        (element, time, hash): (&mut Option<In>, i64, u64),
        (window, last): (A::Window, bool),
        now: Now,
        (cx, out): (Cx<'_>, &mut Collector<Out>),
    ) -> Result<bool> {
        let Some(value) = &*element else { return Ok(false) };
        let Some(placed) = self.place((value, time, hash), window, now)? else {
            return Ok(false);
        };
        let Placed { index, result, key } = placed;
        let (keys, logic) = (&mut self.keys, &mut self.parts.logic);
        let slots = self.selector.with_key(value, |key| keys.get_mut(hash, key));
        let Some(slot) = slots.and_then(|slots| slots.get_mut(index)) else {
            unreachable!("the slot was just placed")
        };
        let value = if last { element.take() } else { element.clone() };
        if let Some(value) = value {
            logic.add(&mut slot.contents, value, time);
        }
        let Some(key) = key else { return Ok(true) };
        if result.is_fire() {
            emit(logic, &mut self.globals, (hash, &key), slot, (cx, out))?;
        }
        if result.is_purge() {
            slot.contents = None;
            self.forget_if_idle(hash, &key, index);
        }
        Ok(true)
    }

    /// Finds or makes the element's window, merges what has become one, and asks the trigger.
    fn place(
        &mut self,
        (element, time, hash): (&In, i64, u64),
        window: A::Window,
        now: Now,
    ) -> Result<Option<Placed<S::Key>>> {
        let Self {
            selector,
            parts,
            keys,
            timers,
            changes,
            ..
        } = self;
        let WindowParts {
            assigner,
            trigger,
            logic,
            late,
        } = parts;
        selector.with_key(element, |key| {
            let slots = keys.upsert(hash, key, Vec::new);
            let mut placing = Placing {
                assigner,
                trigger,
                late,
                now,
                timers: changes,
            };
            let Some(index) = placing.place(slots, window, |into, from| logic.merge(into, from))? else {
                if slots.is_empty() {
                    keys.remove(hash, key);
                }
                return Ok(None);
            };
            let slot = &mut slots[index];
            let result = ask(&slot.window, &mut slot.trigger, (now, changes), |cx| {
                trigger.on_element(element, time, cx)
            });
            let hashed = HashedKey::new(hash, key);
            apply(timers, changes, hashed);
            let cleanup = late.cleanup_time(&slot.window);
            if cleanup != MAX_WATERMARK {
                timers.register(assigner.domain(), cleanup, hashed, &slot.window);
            }
            let needs_key = result != TriggerResult::Continue;
            Ok(Some(Placed {
                index,
                result,
                key: needs_key.then(|| key.to_owned()),
            }))
        })
    }

    /// Drops the state of a purged window that no cleanup will drop, such as a global one.
    fn forget_if_idle(&mut self, hash: u64, key: &S::Key, index: usize) {
        let Some(slots) = self.keys.get_mut::<S::Borrowed>(hash, key.borrow()) else {
            return;
        };
        let slot = &slots[index];
        // A session whose contents were purged still takes in what touches it.
        let idle = !self.parts.assigner.is_merging()
            && slot.contents.is_none()
            && slot.trigger == T::State::default()
            && slot.local == L::WindowState::default();
        if idle && self.parts.late.cleanup_time(&slot.window) == MAX_WATERMARK {
            slots.remove(index);
            if slots.is_empty() {
                self.keys.remove::<S::Borrowed>(hash, key.borrow());
            }
        }
    }

    fn timer(
        &mut self,
        domain: TimeDomain,
        timer: Timer<S::Key, A::Window>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
    ) -> Result<()> {
        let Timer {
            time,
            hash,
            key,
            namespace,
        } = timer;
        let now = now(cx);
        let Self {
            parts:
                WindowParts {
                    assigner,
                    trigger,
                    logic,
                    late,
                },
            keys,
            timers,
            changes,
            ..
        } = self;
        let Some(slots) = keys.get_mut::<S::Borrowed>(hash, key.borrow()) else {
            return Ok(());
        };
        let Ok(index) = position(slots, &namespace) else {
            return Ok(());
        };
        let slot = &mut slots[index];
        let result = ask(
            &slot.window,
            &mut slot.trigger,
            (now, changes),
            |cx| match domain {
                TimeDomain::Event => trigger.on_event_time(time, cx),
                TimeDomain::Processing => trigger.on_processing_time(time, cx),
            },
        );
        apply::<_, S::Borrowed, _>(timers, changes, HashedKey::new(hash, key.borrow()));
        if result.is_fire() {
            emit(logic, &mut self.globals, (hash, &key), slot, (cx, out))?;
        }
        if result.is_purge() {
            slot.contents = None;
        }
        let cleanup = domain == assigner.domain() && time == late.cleanup_time(&namespace);
        if cleanup {
            self.clear_window((hash, &key), index, cx)?;
        } else if result.is_purge() {
            self.forget_if_idle(hash, &key, index);
        }
        Ok(())
    }

    fn clear_window(&mut self, (hash, key): (u64, &S::Key), index: usize, cx: Cx<'_>) -> Result<()> {
        let Self {
            parts: WindowParts { trigger, logic, .. },
            keys,
            timers,
            changes,
            ..
        } = self;
        let Some(slots) = keys.get_mut::<S::Borrowed>(hash, key.borrow()) else {
            return Ok(());
        };
        let mut slot = slots.remove(index);
        if slots.is_empty() {
            keys.remove::<S::Borrowed>(hash, key.borrow());
        }
        ask(&slot.window, &mut slot.trigger, (now(cx), changes), |cx| {
            trigger.clear(cx);
            TriggerResult::Continue
        });
        apply::<_, S::Borrowed, _>(timers, changes, HashedKey::new(hash, key.borrow()));
        if is_stateless::<L::WindowState>() && is_stateless::<L::GlobalState>() {
            return Ok(());
        }
        with_global(&mut self.globals, (hash, key), |global| {
            let mut context = WindowContext {
                window: &slot.window,
                window_state: &mut slot.local,
                global_state: global,
                cx,
            };
            logic.clear(key.borrow(), &mut context)
        })
    }

    fn fire_due(
        &mut self,
        (domain, up_to): (TimeDomain, i64),
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        while self.timers.next_time(domain).is_some_and(|time| time <= up_to) {
            if out.full() || cx.side_full() || !b.spend() {
                return Ok(Progress::More);
            }
            if let Some(timer) = self.timers.pop_due(domain, up_to) {
                self.timer(domain, timer, cx, out)?;
            }
        }
        Ok(Progress::Done)
    }

    /// Asks to be called when the clock has passed the next timer: until then elements of its very
    /// millisecond may still come.
    fn schedule(&self, cx: Cx<'_>) {
        if let Some(time) = self.timers.next_time(TimeDomain::Processing) {
            cx.schedule(time.saturating_add(1));
        }
    }
}

fn now(cx: Cx<'_>) -> Now {
    Now {
        watermark: cx.watermark(),
        processing: cx.processing_time(),
    }
}

/// Carries out what triggers asked for.
fn apply<K, Q, W>(timers: &mut TimerService<K, W>, changes: &mut Vec<WindowTimer<W>>, key: HashedKey<'_, Q>)
where
    K: hurtig_core::key::OwnedKey + Borrow<Q>,
    Q: hurtig_core::key::StableKey + ToOwned<Owned = K> + ?Sized,
    W: Window,
{
    for WindowTimer {
        window,
        domain,
        time,
        register,
    } in changes.drain(..)
    {
        if register {
            timers.register(domain, time, key, &window);
        } else {
            timers.delete(domain, time, key, &window);
        }
    }
}

/// Runs `call` with a key's global state; a state that is back at its default is not kept.
fn with_global<K, G, R>(
    globals: &mut GroupedTable<K, G>,
    (hash, key): (u64, &K),
    call: impl FnOnce(&mut G) -> R,
) -> R
where
    K: hurtig_core::key::OwnedKey,
    G: super::WindowValue,
{
    if is_stateless::<G>() {
        return call(&mut G::default());
    }
    let mut global = globals
        .remove(hash, key)
        .map(|(_, value)| value)
        .unwrap_or_default();
    let result = call(&mut global);
    if global != G::default() {
        globals.insert(hash, key.clone(), global);
    }
    result
}

/// Emits a window that has contents.
fn emit<In, Q, W, Out, L, K, T>(
    logic: &mut L,
    globals: &mut GroupedTable<K, L::GlobalState>,
    (hash, key): (u64, &K),
    slot: &mut Slot<W, L::Contents, T, L::WindowState>,
    (cx, out): (Cx<'_>, &mut Collector<Out>),
) -> Result<()>
where
    Q: ?Sized,
    K: hurtig_core::key::OwnedKey + Borrow<Q>,
    W: Window,
    L: WindowLogic<In, Q, W, Out>,
{
    if slot.contents.is_none() {
        return Ok(());
    }
    let Slot {
        window,
        contents,
        local,
        ..
    } = slot;
    with_global(globals, (hash, key), |global| {
        let mut context = WindowContext {
            window,
            window_state: local,
            global_state: global,
            cx,
        };
        logic.emit(key.borrow(), &mut context, contents, out)
    })
}

impl<In, Out, S, A, T, L> Operator<In, Out> for WindowOperator<In, Out, S, A, T, L>
where
    In: StateValue,
    Out: 'static,
    S: KeySelector<In>,
    A: WindowAssigner<In>,
    T: Trigger<In, A::Window>,
    L: WindowLogic<In, S::Borrowed, A::Window, Out>,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let info = ctx.info();
        self.keys = GroupedTable::new(info.key_groups.clone(), info.max_parallelism);
        self.globals = GroupedTable::new(info.key_groups.clone(), info.max_parallelism);
        self.parts.assigner.open(ctx);
        self.parts.late.open(ctx.cx());
        ctx.declare(Self::shapes())?;
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
        super::ensure_hashes(&self.selector, input);
        // Asking the clock for each element would take longer than most of them do.
        let now = now(cx);
        while !input.is_empty() {
            if out.full() || cx.side_full() || !b.spend() {
                self.schedule(cx);
                return Ok(Progress::More);
            }
            let hash = input.hashes()[0];
            if let Some((element, time)) = input.pop_front() {
                self.element((element, time, hash), now, (cx, out))?;
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
        let progress = self.fire_due((TimeDomain::Event, wm), cx, out, b);
        self.schedule(cx);
        progress
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let progress = self.fire_due((TimeDomain::Processing, now.saturating_sub(1)), cx, out, b);
        self.schedule(cx);
        progress
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.write(snapshot);
        Ok(())
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        self.continue_writing(snapshot, budget)
    }
}
