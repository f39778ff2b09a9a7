//! Which elements of a window are thrown away before or after the window function.

use hurtig_core::time::{NO_TIMESTAMP, to_event_millis};
use std::time::Duration;

/// An element with its event time ([`NO_TIMESTAMP`] without one).
pub type Timestamped<T> = (i64, T);

/// Removes elements from a window when it fires.
pub trait Evictor<T, W>: Send + 'static {
    /// Called before the window function.
    fn evict_before(&self, elements: &mut Vec<Timestamped<T>>, window: &W);

    /// Called after the window function.
    fn evict_after(&self, elements: &mut Vec<Timestamped<T>>, window: &W);
}

/// Whether an evictor works before or after the window function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    After,
}

macro_rules! evictor {
    ($evictor:ident $(<$delta:ident>)?, [$($bound:tt)*]) => {
        impl<$($delta)?> $evictor $(<$delta>)? {
            /// The same, working after the window function.
            #[must_use]
            pub fn after(self) -> Self {
                Self { when: When::After, ..self }
            }
        }

        impl<T, W, $($delta)?> Evictor<T, W> for $evictor $(<$delta>)? where $($bound)* {
            fn evict_before(&self, elements: &mut Vec<Timestamped<T>>, _: &W) {
                if self.when == When::Before {
                    self.evict(elements);
                }
            }

            fn evict_after(&self, elements: &mut Vec<Timestamped<T>>, _: &W) {
                if self.when == When::After {
                    self.evict(elements);
                }
            }
        }
    };
}

/// Keeps the last elements, up to a count.
#[derive(Clone, Copy, Debug)]
pub struct CountEvictor {
    max_count: usize,
    when: When,
}

impl CountEvictor {
    /// Keeps `max_count` elements, evicting before the window function.
    pub const fn of(max_count: usize) -> Self {
        Self {
            max_count,
            when: When::Before,
        }
    }

    fn evict<T>(&self, elements: &mut Vec<Timestamped<T>>) {
        elements.drain(..elements.len().saturating_sub(self.max_count));
    }
}

evictor!(CountEvictor, []);

/// Keeps the elements of the last stretch of time before the latest one.
#[derive(Clone, Copy, Debug)]
pub struct TimeEvictor {
    window: i64,
    when: When,
}

impl TimeEvictor {
    /// Keeps elements that are less than `window` older than the latest, evicting before the window
    /// function.
    pub fn of(window: Duration) -> Self {
        Self {
            window: to_event_millis(window),
            when: When::Before,
        }
    }

    fn evict<T>(&self, elements: &mut Vec<Timestamped<T>>) {
        if elements.first().is_none_or(|(time, _)| *time == NO_TIMESTAMP) {
            return;
        }
        let latest = elements
            .iter()
            .map(|(time, _)| *time)
            .max()
            .unwrap_or(NO_TIMESTAMP);
        let cutoff = latest.saturating_sub(self.window);
        elements.retain(|(time, _)| *time > cutoff);
    }
}

evictor!(TimeEvictor, []);

/// Keeps the elements that are near the last one.
#[derive(Clone, Copy, Debug)]
pub struct DeltaEvictor<D> {
    threshold: f64,
    delta: D,
    when: When,
}

impl<D> DeltaEvictor<D> {
    /// Removes elements with `delta(element, last) >= threshold`, before the window function.
    pub const fn of(threshold: f64, delta: D) -> Self {
        Self {
            threshold,
            delta,
            when: When::Before,
        }
    }

    fn evict<T>(&self, elements: &mut Vec<Timestamped<T>>)
    where
        D: Fn(&T, &T) -> f64,
    {
        let Some((time, last)) = elements.pop() else {
            return;
        };
        let far = |element: &T| (self.delta)(element, &last) >= self.threshold;
        elements.retain(|(_, element)| !far(element));
        if !far(&last) {
            elements.push((time, last));
        }
    }
}

evictor!(DeltaEvictor<D>, [D: Fn(&T, &T) -> f64 + Send + Sync + 'static]);
