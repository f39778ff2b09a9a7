//! The windows of one key, and how they merge.

use super::super::late::Lateness;
use super::super::trigger::{Trigger, TriggerContext, TriggerResult, WindowTimer};
use super::super::{Window, WindowAssigner};
use crate::timers::TimeDomain;

use hurtig_core::{Error, Result};

/// One window of one key.
#[derive(Debug)]
pub(super) struct Slot<W, C, T, L> {
    pub(super) window: W,
    pub(super) contents: Option<C>,
    pub(super) trigger: T,
    pub(super) local: L,
}

/// The windows of one key, sorted.
pub(super) type Slots<W, C, T, L> = Vec<Slot<W, C, T, L>>;

/// Event and processing time of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) watermark: i64,
    pub(super) processing: i64,
}

/// What placing an element needs beside the slots; collects timers of windows that merged.
pub(super) struct Placing<'a, In, A, T, W> {
    pub(super) assigner: &'a A,
    pub(super) trigger: &'a T,
    pub(super) late: &'a Lateness<In>,
    pub(super) now: Now,
    pub(super) timers: &'a mut Vec<WindowTimer<W>>,
}

pub(super) fn position<W: Window, C, T, L>(slots: &Slots<W, C, T, L>, window: &W) -> Result<usize, usize> {
    slots.binary_search_by(|slot| slot.window.cmp(window))
}

/// The slot of a window; a new one where there was none.
pub(super) fn find_or_insert<W: Window, C, T: Default, L: Default>(
    slots: &mut Slots<W, C, T, L>,
    window: W,
) -> usize {
    position(slots, &window).unwrap_or_else(|at| {
        slots.insert(
            at,
            Slot {
                window,
                contents: None,
                trigger: T::default(),
                local: L::default(),
            },
        );
        at
    })
}

/// Calls a trigger for a window with its state; what it does to timers is appended to `timers`.
pub(super) fn ask<W: Window, S>(
    window: &W,
    state: &mut S,
    (now, timers): (Now, &mut Vec<WindowTimer<W>>),
    call: impl FnOnce(&mut TriggerContext<'_, W, S>) -> TriggerResult,
) -> TriggerResult {
    call(&mut TriggerContext {
        window,
        state,
        watermark: now.watermark,
        processing_time: now.processing,
        changes: timers,
    })
}

impl<In, A, T> Placing<'_, In, A, T, A::Window>
where
    In: 'static,
    A: WindowAssigner<In>,
    T: Trigger<In, A::Window>,
{
    /// The slot for a new element of `window`, merging windows that have become one. `None` when the
    /// element is late.
    pub(super) fn place<C, L: Default>(
        &mut self,
        slots: &mut Slots<A::Window, C, T::State, L>,
        window: A::Window,
        merge_contents: impl FnMut(&mut C, C),
    ) -> Result<Option<usize>> {
        if !self.assigner.is_merging() {
            return Ok((!self.is_late(&window)).then(|| find_or_insert(slots, window)));
        }
        let (result, merged) = self.absorbed(slots, window);
        let unchanged = merged.len() == 1 && slots[merged[0]].window == result;
        if unchanged {
            return Ok(Some(merged[0]));
        }
        if self.is_late(&result) {
            return if merged.is_empty() {
                Ok(None)
            } else {
                Err(self.merged_into_the_past(&result))
            };
        }
        if merged.is_empty() {
            return Ok(Some(find_or_insert(slots, result)));
        }
        Ok(Some(self.merge(slots, result, &merged, merge_contents)))
    }

    fn is_late(&self, window: &A::Window) -> bool {
        self.assigner.domain() == TimeDomain::Event && self.late.cleanup_time(window) <= self.now.watermark
    }

    /// The window that `window` becomes with those of `slots` that merge with it, and which they are.
    fn absorbed<C, L>(
        &self,
        slots: &Slots<A::Window, C, T::State, L>,
        window: A::Window,
    ) -> (A::Window, Vec<usize>) {
        let (mut result, mut merged) = (window, Vec::new());
        loop {
            let before = merged.len();
            for (i, slot) in slots.iter().enumerate() {
                if merged.contains(&i) {
                    continue;
                }
                // An equal window is the same one, whether or not the assigner merges it with itself.
                if slot.window == result {
                    merged.push(i);
                } else if let Some(cover) = self.assigner.merge(&result, &slot.window) {
                    result = cover;
                    merged.push(i);
                }
            }
            if merged.len() == before {
                merged.sort_unstable();
                return (result, merged);
            }
        }
    }

    /// Joins the windows at `merged` (ascending) into one: contents and trigger states are merged in
    /// window order. The timers of the old windows are deleted before the new one's are registered,
    /// which may be one of the old.
    fn merge<C, L: Default>(
        &mut self,
        slots: &mut Slots<A::Window, C, T::State, L>,
        result: A::Window,
        merged: &[usize],
        mut merge_contents: impl FnMut(&mut C, C),
    ) -> usize {
        let mut joined = Slot {
            window: result,
            contents: None,
            trigger: T::State::default(),
            local: L::default(),
        };
        // Removed from the back, so that the remaining positions stay right.
        let mut old: Vec<_> = merged.iter().rev().map(|&i| slots.remove(i)).collect();
        old.reverse();
        for slot in old {
            self.retire(&slot.window, slot.trigger.clone());
            self.trigger.merge_state(&mut joined.trigger, slot.trigger);
            match (&mut joined.contents, slot.contents) {
                (Some(into), Some(from)) => merge_contents(into, from),
                (None, from) => joined.contents = from,
                (Some(_), None) => {}
            }
        }
        let trigger = self.trigger;
        ask(
            &joined.window,
            &mut joined.trigger,
            (self.now, self.timers),
            |cx| {
                trigger.on_merge(cx);
                TriggerResult::Continue
            },
        );
        let at = position(slots, &joined.window).unwrap_or_else(|at| at);
        slots.insert(at, joined);
        at
    }

    fn retire(&mut self, window: &A::Window, mut state: T::State) {
        let trigger = self.trigger;
        ask(window, &mut state, (self.now, self.timers), |cx| {
            trigger.clear(cx);
            TriggerResult::Continue
        });
        let (domain, time) = (self.assigner.domain(), self.late.cleanup_time(window));
        self.timers.push(WindowTimer {
            window: window.clone(),
            domain,
            time,
            register: false,
        });
    }

    #[cold]
    fn merged_into_the_past(&self, window: &A::Window) -> Error {
        Error::user(format!(
            "windows merged into {window:?}, which ends before the watermark {}: a custom assigner must \
             not merge windows into a smaller one",
            self.now.watermark
        ))
    }
}
