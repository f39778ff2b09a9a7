//! Triggers that look at elements: counts, deltas, and the one that purges after firing.

use super::super::Window;
use super::{Trigger, TriggerContext, TriggerResult};
use crate::timers::TimeDomain;

use hurtig_core::{Error, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Fires when so many elements have come since it last fired.
#[derive(Clone, Copy, Debug)]
pub struct CountTrigger {
    max_count: u64,
}

impl CountTrigger {
    /// Fires at every `max_count` elements.
    ///
    /// # Errors
    /// When the count is zero.
    pub fn of(max_count: u64) -> Result<Self> {
        if max_count == 0 {
            return Err(Error::user("a count trigger must wait for at least 1 element"));
        }
        Ok(Self { max_count })
    }
}

impl<T, W: Window> Trigger<T, W> for CountTrigger {
    type State = u64;

    fn on_element(&self, _: &T, _: i64, cx: &mut TriggerContext<'_, W, u64>) -> TriggerResult {
        *cx.state += 1;
        if *cx.state < self.max_count {
            return TriggerResult::Continue;
        }
        *cx.state = 0;
        TriggerResult::Fire
    }

    fn on_event_time(&self, _: i64, _: &mut TriggerContext<'_, W, u64>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn on_processing_time(&self, _: i64, _: &mut TriggerContext<'_, W, u64>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn merge_state(&self, into: &mut u64, from: u64) {
        *into += from;
    }
}

/// The element that a [`DeltaTrigger`] last fired for, or the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastElement<T>(Option<T>);

impl<T> Default for LastElement<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// Only tells an empty state from others, so that elements need not be comparable.
impl<T> PartialEq for LastElement<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_none() && other.0.is_none()
    }
}

/// Fires when an element is further than a threshold from the one it last fired for.
///
/// Does not work on windows that merge.
#[derive(Clone, Copy, Debug)]
pub struct DeltaTrigger<D> {
    threshold: f64,
    delta: D,
}

impl<D> DeltaTrigger<D> {
    /// Fires when `delta(last, element) > threshold`.
    pub const fn of(threshold: f64, delta: D) -> Self {
        Self { threshold, delta }
    }
}

impl<T, W, D> Trigger<T, W> for DeltaTrigger<D>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
    W: Window,
    D: Fn(&T, &T) -> f64 + Send + Sync + 'static,
{
    type State = LastElement<T>;

    fn on_element(
        &self,
        element: &T,
        _: i64,
        cx: &mut TriggerContext<'_, W, LastElement<T>>,
    ) -> TriggerResult {
        let result = match &cx.state.0 {
            None => TriggerResult::Continue,
            Some(last) if (self.delta)(last, element) > self.threshold => TriggerResult::Fire,
            Some(_) => return TriggerResult::Continue,
        };
        cx.state.0 = Some(element.clone());
        result
    }

    fn on_event_time(&self, _: i64, _: &mut TriggerContext<'_, W, LastElement<T>>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn on_processing_time(&self, _: i64, _: &mut TriggerContext<'_, W, LastElement<T>>) -> TriggerResult {
        TriggerResult::Continue
    }
}

/// Makes every firing of another trigger forget the window's contents.
#[derive(Clone, Copy, Debug)]
pub struct PurgingTrigger<N> {
    nested: N,
}

impl<N> PurgingTrigger<N> {
    /// Purges whenever `nested` fires.
    pub const fn of(nested: N) -> Self {
        Self { nested }
    }
}

fn purging(result: TriggerResult) -> TriggerResult {
    if result.is_fire() {
        TriggerResult::FireAndPurge
    } else {
        result
    }
}

impl<T, W: Window, N: Trigger<T, W>> Trigger<T, W> for PurgingTrigger<N> {
    type State = N::State;

    fn on_element(&self, element: &T, time: i64, cx: &mut TriggerContext<'_, W, N::State>) -> TriggerResult {
        purging(self.nested.on_element(element, time, cx))
    }

    fn on_event_time(&self, time: i64, cx: &mut TriggerContext<'_, W, N::State>) -> TriggerResult {
        purging(self.nested.on_event_time(time, cx))
    }

    fn on_processing_time(&self, time: i64, cx: &mut TriggerContext<'_, W, N::State>) -> TriggerResult {
        purging(self.nested.on_processing_time(time, cx))
    }

    fn can_merge(&self) -> bool {
        self.nested.can_merge()
    }

    fn merge_state(&self, into: &mut N::State, from: N::State) {
        self.nested.merge_state(into, from);
    }

    fn on_merge(&self, cx: &mut TriggerContext<'_, W, N::State>) {
        self.nested.on_merge(cx);
    }

    fn clear(&self, cx: &mut TriggerContext<'_, W, N::State>) {
        self.nested.clear(cx);
    }

    fn as_default(&self) -> Option<TimeDomain> {
        None
    }
}
