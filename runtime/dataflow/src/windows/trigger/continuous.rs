//! Triggers that fire again and again while a window is open.

use super::super::Window;
use super::{Trigger, TriggerContext, TriggerResult};

use hurtig_core::time::to_event_millis;
use hurtig_core::{Error, Result};
use std::time::Duration;

/// When the next early firing is due, if one is planned.
type NextFire = Option<i64>;

fn interval_ms(interval: Duration) -> Result<i64> {
    match to_event_millis(interval) {
        0 => Err(Error::user(
            "a continuous trigger's interval must be at least 1 ms",
        )),
        ms => Ok(ms),
    }
}

/// The firing after `time`, never behind the window's end.
fn next_after<W: Window, S>(time: i64, interval: i64, cx: &TriggerContext<'_, W, S>) -> i64 {
    time.saturating_add(interval).min(cx.window.max_timestamp())
}

/// Two windows with planned firings: the earlier one counts.
fn earlier(into: &mut NextFire, from: NextFire) {
    *into = match (*into, from) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

/// Fires at every multiple of an interval of event time, and at the window's end.
#[derive(Clone, Copy, Debug)]
pub struct ContinuousEventTimeTrigger {
    interval: i64,
}

impl ContinuousEventTimeTrigger {
    /// Fires every `interval`.
    ///
    /// # Errors
    /// When the interval is below a millisecond.
    pub fn of(interval: Duration) -> Result<Self> {
        Ok(Self {
            interval: interval_ms(interval)?,
        })
    }

    fn plan<W: Window>(self, time: i64, cx: &mut TriggerContext<'_, W, NextFire>) {
        let next = next_after(time, self.interval, cx);
        *cx.state = Some(next);
        cx.register_event_time_timer(next);
    }
}

impl<T, W: Window> Trigger<T, W> for ContinuousEventTimeTrigger {
    type State = NextFire;

    fn on_element(&self, _: &T, time: i64, cx: &mut TriggerContext<'_, W, NextFire>) -> TriggerResult {
        let end = cx.window.max_timestamp();
        if end <= cx.current_watermark() {
            return TriggerResult::Fire;
        }
        cx.register_event_time_timer(end);
        if cx.state.is_none() {
            self.plan(time.saturating_sub(time % self.interval), cx);
        }
        TriggerResult::Continue
    }

    fn on_event_time(&self, time: i64, cx: &mut TriggerContext<'_, W, NextFire>) -> TriggerResult {
        if time == cx.window.max_timestamp() {
            return TriggerResult::Fire;
        }
        if *cx.state != Some(time) {
            return TriggerResult::Continue;
        }
        self.plan(time, cx);
        TriggerResult::Fire
    }

    fn on_processing_time(&self, _: i64, _: &mut TriggerContext<'_, W, NextFire>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn merge_state(&self, into: &mut NextFire, from: NextFire) {
        earlier(into, from);
    }

    fn on_merge(&self, cx: &mut TriggerContext<'_, W, NextFire>) {
        if let Some(next) = *cx.state {
            cx.register_event_time_timer(next);
        }
    }

    fn clear(&self, cx: &mut TriggerContext<'_, W, NextFire>) {
        cx.delete_event_time_timer(cx.window.max_timestamp());
        if let Some(next) = cx.state.take() {
            cx.delete_event_time_timer(next);
        }
    }
}

/// Fires at every multiple of an interval of processing time.
///
/// Unlike Flink's it does not plan a firing at a time that has just fired, which would never end for
/// a window of event time whose end the clock has passed.
#[derive(Clone, Copy, Debug)]
pub struct ContinuousProcessingTimeTrigger {
    interval: i64,
}

impl ContinuousProcessingTimeTrigger {
    /// Fires every `interval`.
    ///
    /// # Errors
    /// When the interval is below a millisecond.
    pub fn of(interval: Duration) -> Result<Self> {
        Ok(Self {
            interval: interval_ms(interval)?,
        })
    }

    fn plan<W: Window>(self, time: i64, cx: &mut TriggerContext<'_, W, NextFire>) {
        let next = next_after(time, self.interval, cx);
        *cx.state = Some(next);
        cx.register_processing_time_timer(next);
    }
}

impl<T, W: Window> Trigger<T, W> for ContinuousProcessingTimeTrigger {
    type State = NextFire;

    fn on_element(&self, _: &T, _: i64, cx: &mut TriggerContext<'_, W, NextFire>) -> TriggerResult {
        if cx.state.is_none() {
            let now = cx.current_processing_time();
            self.plan(now - now % self.interval, cx);
        }
        TriggerResult::Continue
    }

    fn on_event_time(&self, _: i64, _: &mut TriggerContext<'_, W, NextFire>) -> TriggerResult {
        TriggerResult::Continue
    }

    fn on_processing_time(&self, time: i64, cx: &mut TriggerContext<'_, W, NextFire>) -> TriggerResult {
        if *cx.state != Some(time) {
            return TriggerResult::Continue;
        }
        *cx.state = None;
        if next_after(time, self.interval, cx) > time {
            self.plan(time, cx);
        }
        TriggerResult::Fire
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn merge_state(&self, into: &mut NextFire, from: NextFire) {
        earlier(into, from);
    }

    fn on_merge(&self, cx: &mut TriggerContext<'_, W, NextFire>) {
        if let Some(next) = *cx.state {
            cx.register_processing_time_timer(next);
        }
    }

    fn clear(&self, cx: &mut TriggerContext<'_, W, NextFire>) {
        if let Some(next) = cx.state.take() {
            cx.delete_processing_time_timer(next);
        }
    }
}
