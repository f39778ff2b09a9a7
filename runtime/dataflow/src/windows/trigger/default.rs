//! Triggers without state: at the end of the window, at the end of the stream, never.

use super::super::Window;
use super::{Trigger, TriggerContext, TriggerResult};
use crate::timers::TimeDomain;

/// Fires when the watermark reaches the window's end, and at once for elements that come later.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventTimeTrigger;

impl<T, W: Window> Trigger<T, W> for EventTimeTrigger {
    type State = ();

    fn on_element(&self, _: &T, _: i64, cx: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        let end = cx.window.max_timestamp();
        if end <= cx.current_watermark() {
            return TriggerResult::Fire;
        }
        cx.register_event_time_timer(end);
        TriggerResult::Continue
    }

    fn on_event_time(&self, time: i64, cx: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        if time == cx.window.max_timestamp() {
            TriggerResult::Fire
        } else {
            TriggerResult::Continue
        }
    }

    fn on_processing_time(&self, _: i64, _: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&self, cx: &mut TriggerContext<'_, W, ()>) {
        // Past its end the element that caused the merge fires the window; a timer would fire it again.
        let end = cx.window.max_timestamp();
        if end > cx.current_watermark() {
            cx.register_event_time_timer(end);
        }
    }

    fn clear(&self, cx: &mut TriggerContext<'_, W, ()>) {
        cx.delete_event_time_timer(cx.window.max_timestamp());
    }

    fn as_default(&self) -> Option<TimeDomain> {
        Some(TimeDomain::Event)
    }
}

/// Fires when the clock has passed the window's end.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessingTimeTrigger;

impl<T, W: Window> Trigger<T, W> for ProcessingTimeTrigger {
    type State = ();

    fn on_element(&self, _: &T, _: i64, cx: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        cx.register_processing_time_timer(cx.window.max_timestamp());
        TriggerResult::Continue
    }

    fn on_event_time(&self, _: i64, _: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn on_processing_time(&self, _: i64, _: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        TriggerResult::Fire
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&self, cx: &mut TriggerContext<'_, W, ()>) {
        let end = cx.window.max_timestamp();
        if end > cx.current_processing_time() {
            cx.register_processing_time_timer(end);
        }
    }

    fn clear(&self, cx: &mut TriggerContext<'_, W, ()>) {
        cx.delete_processing_time_timer(cx.window.max_timestamp());
    }

    fn as_default(&self) -> Option<TimeDomain> {
        Some(TimeDomain::Processing)
    }
}

/// Fires never: the default of global windows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverTrigger;

impl<T, W: Window> Trigger<T, W> for NeverTrigger {
    type State = ();

    fn on_element(&self, _: &T, _: i64, _: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn on_event_time(&self, _: i64, _: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn on_processing_time(&self, _: i64, _: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn can_merge(&self) -> bool {
        true
    }
}

/// Fires once, when the input has ended (the watermark is at the end of time).
#[derive(Clone, Copy, Debug, Default)]
pub struct EndOfStreamTrigger;

impl<T, W: Window> Trigger<T, W> for EndOfStreamTrigger {
    type State = ();

    fn on_element(&self, _: &T, _: i64, cx: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        cx.register_event_time_timer(i64::MAX);
        TriggerResult::Continue
    }

    fn on_event_time(&self, time: i64, _: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        if time == i64::MAX {
            TriggerResult::Fire
        } else {
            TriggerResult::Continue
        }
    }

    fn on_processing_time(&self, _: i64, _: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn clear(&self, cx: &mut TriggerContext<'_, W, ()>) {
        cx.delete_event_time_timer(i64::MAX);
    }
}

/// The trigger that an assigner brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultTrigger {
    /// [`EventTimeTrigger`].
    EventTime,
    /// [`ProcessingTimeTrigger`].
    ProcessingTime,
    /// [`NeverTrigger`].
    Never,
    /// [`EndOfStreamTrigger`].
    EndOfStream,
}

/// Calls one method of the trigger that is meant.
macro_rules! delegate {
    ($self:ident, $call:ident ( $($arg:expr),* )) => {
        match $self {
            DefaultTrigger::EventTime => Trigger::<T, W>::$call(&EventTimeTrigger, $($arg),*),
            DefaultTrigger::ProcessingTime => Trigger::<T, W>::$call(&ProcessingTimeTrigger, $($arg),*),
            DefaultTrigger::Never => Trigger::<T, W>::$call(&NeverTrigger, $($arg),*),
            DefaultTrigger::EndOfStream => Trigger::<T, W>::$call(&EndOfStreamTrigger, $($arg),*),
        }
    };
}

impl<T, W: Window> Trigger<T, W> for DefaultTrigger {
    type State = ();

    fn on_element(&self, element: &T, time: i64, cx: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        delegate!(self, on_element(element, time, cx))
    }

    fn on_event_time(&self, time: i64, cx: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        delegate!(self, on_event_time(time, cx))
    }

    fn on_processing_time(&self, time: i64, cx: &mut TriggerContext<'_, W, ()>) -> TriggerResult {
        delegate!(self, on_processing_time(time, cx))
    }

    fn can_merge(&self) -> bool {
        delegate!(self, can_merge())
    }

    fn on_merge(&self, cx: &mut TriggerContext<'_, W, ()>) {
        delegate!(self, on_merge(cx));
    }

    fn clear(&self, cx: &mut TriggerContext<'_, W, ()>) {
        delegate!(self, clear(cx));
    }

    fn as_default(&self) -> Option<TimeDomain> {
        delegate!(self, as_default())
    }
}
