//! What becomes of elements that come too late.

use super::Window;
use crate::operator::{Cx, OutputTag};
use crate::timers::TimeDomain;

use hurtig_core::metrics::Counter;
use hurtig_core::time::MAX_WATERMARK;

/// The metric of window operators that counts late records which nobody took.
pub const NUM_LATE_RECORDS_DROPPED: &str = "numLateRecordsDropped";

/// How long windows wait for late elements, and where those go that come later still.
pub struct Lateness<In> {
    allowed: i64,
    side: Option<OutputTag<In>>,
    /// `numLateRecordsDropped`, registered when the operator opens.
    dropped: Option<Counter>,
}

impl<In> Default for Lateness<In> {
    fn default() -> Self {
        Self {
            allowed: 0,
            side: None,
            dropped: None,
        }
    }
}

impl<In> Clone for Lateness<In> {
    fn clone(&self) -> Self {
        Self {
            allowed: self.allowed,
            side: self.side.clone(),
            dropped: None,
        }
    }
}

impl<In> std::fmt::Debug for Lateness<In> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Lateness({} ms, {:?}, {} dropped)",
            self.allowed,
            self.side,
            self.dropped.as_ref().map_or(0, Counter::get)
        )
    }
}

impl<In: 'static> Lateness<In> {
    /// Windows wait `allowed` milliseconds; what comes later goes to `side` or is counted.
    pub fn new(allowed: i64, side: Option<OutputTag<In>>) -> Self {
        Self {
            allowed,
            side,
            dropped: None,
        }
    }

    /// For windows of this domain: processing time is never late and nothing waits.
    pub(super) fn for_domain(&mut self, domain: TimeDomain) {
        if domain == TimeDomain::Processing {
            self.allowed = 0;
        }
    }

    pub(super) fn allowed(&self) -> i64 {
        self.allowed
    }

    /// When a window's state goes. [`MAX_WATERMARK`] means never.
    #[inline]
    pub(super) fn cleanup_time<W: Window>(&self, window: &W) -> i64 {
        window
            .max_timestamp()
            .checked_add(self.allowed)
            .unwrap_or(MAX_WATERMARK)
    }

    /// Takes an element that none of its windows wanted: late ones go to the side output or are
    /// counted; others (between the windows of a sampling slide) just are in no window.
    pub(super) fn reject(&mut self, element: In, time: i64, cx: Cx<'_>) {
        if time.saturating_add(self.allowed) > cx.watermark() {
            return;
        }
        match &self.side {
            Some(tag) => cx.side_output(tag, element, time),
            None => self.count_dropped(cx),
        }
    }

    /// Registers the metric, so that it is seen also while it is 0.
    pub(super) fn open(&mut self, cx: Cx<'_>) {
        if self.dropped.is_none() {
            self.dropped = Some(cx.metrics().counter(NUM_LATE_RECORDS_DROPPED));
        }
    }

    #[cold]
    fn count_dropped(&mut self, cx: Cx<'_>) {
        self.open(cx);
        self.dropped.iter().for_each(Counter::inc);
    }

    /// Late elements that nobody took.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.as_ref().map_or(0, Counter::get)
    }
}
