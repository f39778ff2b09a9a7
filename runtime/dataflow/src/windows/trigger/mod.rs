//! When the contents of a window are processed.
//!
//! A [`Trigger`] is asked about each element and each timer of a window, for each key on its own, and
//! answers whether the window fires, forgets its contents, both or neither. It keeps a small
//! [`Trigger::State`] for each (key, window), which is part of snapshots, is merged when windows
//! merge, and is gone when the window is.

mod continuous;
mod counting;
mod default;

pub use continuous::{ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger};
pub use counting::{CountTrigger, DeltaTrigger, LastElement, PurgingTrigger};
pub use default::{
    DefaultTrigger, EndOfStreamTrigger, EventTimeTrigger, NeverTrigger, ProcessingTimeTrigger,
};

use super::Window;
use crate::timers::TimeDomain;

use serde::{Serialize, de::DeserializeOwned};

/// A trigger's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing happens.
    Continue,
    /// The window function runs; the contents stay.
    Fire,
    /// The contents are forgotten without being processed.
    Purge,
    /// The window function runs, then the contents are forgotten.
    FireAndPurge,
}

impl TriggerResult {
    /// Whether the window function runs.
    #[inline]
    pub const fn is_fire(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    /// Whether the contents are forgotten.
    #[inline]
    pub const fn is_purge(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// What triggers and window functions may keep for a key or a window.
///
/// A value equal to its default is not stored, so that idle keys cost nothing.
pub trait WindowValue: Default + PartialEq + Serialize + DeserializeOwned + Send + 'static {}

impl<V: Default + PartialEq + Serialize + DeserializeOwned + Send + 'static> WindowValue for V {}

/// A timer that a trigger registered or deleted, for a window of the current key.
#[derive(Clone, Debug)]
pub(super) struct WindowTimer<W> {
    pub(super) window: W,
    pub(super) domain: TimeDomain,
    pub(super) time: i64,
    pub(super) register: bool,
}

/// What a trigger sees and may do.
#[derive(Debug)]
pub struct TriggerContext<'a, W, S> {
    /// The window.
    pub window: &'a W,
    /// The trigger's state for this key and window.
    pub state: &'a mut S,
    pub(super) watermark: i64,
    pub(super) processing_time: i64,
    pub(super) changes: &'a mut Vec<WindowTimer<W>>,
}

impl<W: Window, S> TriggerContext<'_, W, S> {
    /// The operator's event time.
    pub fn current_watermark(&self) -> i64 {
        self.watermark
    }

    /// Processing time in wall-clock milliseconds.
    pub fn current_processing_time(&self) -> i64 {
        self.processing_time
    }

    /// Asks for [`Trigger::on_event_time`] when the watermark reaches `time`.
    pub fn register_event_time_timer(&mut self, time: i64) {
        self.change(TimeDomain::Event, time, true);
    }

    /// Asks for [`Trigger::on_processing_time`] when the clock has passed `time`.
    pub fn register_processing_time_timer(&mut self, time: i64) {
        self.change(TimeDomain::Processing, time, true);
    }

    /// Takes back a timer of this key and window.
    pub fn delete_event_time_timer(&mut self, time: i64) {
        self.change(TimeDomain::Event, time, false);
    }

    /// Takes back a timer of this key and window.
    pub fn delete_processing_time_timer(&mut self, time: i64) {
        self.change(TimeDomain::Processing, time, false);
    }

    fn change(&mut self, domain: TimeDomain, time: i64, register: bool) {
        self.changes.push(WindowTimer {
            window: self.window.clone(),
            domain,
            time,
            register,
        });
    }

    /// The same context with a part of the state, for triggers that are made of triggers.
    pub fn project<'b, S2>(
        &'b mut self,
        part: impl FnOnce(&'b mut S) -> &'b mut S2,
    ) -> TriggerContext<'b, W, S2> {
        TriggerContext {
            window: self.window,
            state: part(self.state),
            watermark: self.watermark,
            processing_time: self.processing_time,
            changes: self.changes,
        }
    }
}

/// Decides when a window of elements `T` is processed.
pub trait Trigger<T, W: Window>: Send + 'static {
    /// What the trigger remembers for each key and window.
    type State: WindowValue + Clone;

    /// An element was added to the window.
    fn on_element(
        &self,
        element: &T,
        time: i64,
        cx: &mut TriggerContext<'_, W, Self::State>,
    ) -> TriggerResult;

    /// An event-time timer of the window has fired.
    fn on_event_time(&self, time: i64, cx: &mut TriggerContext<'_, W, Self::State>) -> TriggerResult;

    /// A processing-time timer of the window has fired.
    fn on_processing_time(&self, time: i64, cx: &mut TriggerContext<'_, W, Self::State>) -> TriggerResult;

    /// Whether the trigger works on windows that merge.
    fn can_merge(&self) -> bool {
        false
    }

    /// Adds the state of a window that is merged to the state of the window it merges into.
    fn merge_state(&self, into: &mut Self::State, from: Self::State) {
        let _ = (into, from);
    }

    /// Windows were merged into `cx.window`, whose state is merged already: registers its timers.
    fn on_merge(&self, cx: &mut TriggerContext<'_, W, Self::State>) {
        let _ = cx;
    }

    /// The window is gone: deletes its timers. The state is dropped by the operator, and merged before
    /// that when the window has become part of another.
    fn clear(&self, cx: &mut TriggerContext<'_, W, Self::State>) {
        let _ = cx;
    }

    /// The domain whose default trigger this behaves like exactly, which makes fast paths possible.
    fn as_default(&self) -> Option<TimeDomain> {
        None
    }
}
