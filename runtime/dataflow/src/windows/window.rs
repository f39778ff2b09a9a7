//! What elements are grouped into.

use hurtig_core::key::{KeyDecodeError, KeyWriter, OwnedKey, StableKey};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// A bucket of elements that are processed together.
///
/// Its `Ord` must agree with its bytes, as for every [`StableKey`]; its bytes are the namespace of
/// the window's state in snapshots.
pub trait Window: OwnedKey + Ord + Debug {
    /// The largest event time that belongs to the window. Results carry it, and the window is
    /// complete when the watermark reaches it.
    fn max_timestamp(&self) -> i64;
}

/// The elements from `start` to before `end`, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeWindow {
    /// The first millisecond of the window.
    pub start: i64,
    /// The first millisecond behind the window.
    pub end: i64,
}

impl TimeWindow {
    /// The window from `start` to before `end`.
    #[inline]
    pub const fn new(start: i64, end: i64) -> Self {
        Self { start, end }
    }

    /// Whether `time` lies in the window.
    #[inline]
    pub const fn contains(&self, time: i64) -> bool {
        self.start <= time && time < self.end
    }

    /// Whether the windows overlap or touch; sessions that do are one.
    #[inline]
    pub const fn intersects(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The smallest window that covers both.
    #[must_use]
    pub fn cover(&self, other: &Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

impl Window for TimeWindow {
    #[inline]
    fn max_timestamp(&self) -> i64 {
        self.end.saturating_sub(1)
    }
}

impl StableKey for TimeWindow {
    #[inline]
    fn encode_to<W: KeyWriter>(&self, out: &mut W) {
        self.start.encode_to(out);
        self.end.encode_to(out);
    }

    fn shape(out: &mut String) {
        out.push_str("window{start:i64,end:i64}");
    }
}

impl OwnedKey for TimeWindow {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        Ok(Self {
            start: i64::decode(input)?,
            end: i64::decode(input)?,
        })
    }
}

/// The one window of [`GlobalWindows`](super::GlobalWindows): everything, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GlobalWindow;

impl Window for GlobalWindow {
    #[inline]
    fn max_timestamp(&self) -> i64 {
        i64::MAX
    }
}

impl StableKey for GlobalWindow {
    #[inline]
    fn encode_to<W: KeyWriter>(&self, _: &mut W) {}

    fn shape(out: &mut String) {
        out.push_str("global-window");
    }
}

impl OwnedKey for GlobalWindow {
    fn decode(_: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::key::decode_exact;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn window_bytes_sort_and_read_back(a in any::<(i64, i64)>(), b in any::<(i64, i64)>()) {
            let (a, b) = (TimeWindow::new(a.0, a.1), TimeWindow::new(b.0, b.1));
            let bytes = |w: &TimeWindow| { let mut out = Vec::new(); w.encode(&mut out); out };
            prop_assert_eq!(a.cmp(&b), bytes(&a).cmp(&bytes(&b)));
            prop_assert_eq!(decode_exact::<TimeWindow>(&bytes(&a)).unwrap(), a);
        }
    }

    #[test]
    fn touching_windows_intersect() {
        assert!(TimeWindow::new(0, 5).intersects(&TimeWindow::new(5, 6)));
        assert!(!TimeWindow::new(0, 5).intersects(&TimeWindow::new(6, 7)));
        assert_eq!(TimeWindow::new(0, 5).max_timestamp(), 4);
    }
}
