//! Windows that depend on an element's time alone: tumbling, sliding and cumulating.

use super::TimeWindow;
use crate::operator::OpenContext;
use hurtig_core::key::{hash_bytes, hash_int};
use hurtig_core::{Error, Result};

/// Sizes beyond this (73 million years) are refused, so that window arithmetic cannot overflow.
const MAX_SIZE_MS: i64 = i64::MAX / 4;

/// How the windows of a [`TimeGrid`] lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A window of `size` begins every `step`. Tumbling windows have `step == size`.
    Sliding,
    /// In each stretch of `size` the windows begin together and end every `step`.
    Cumulating,
}

/// How tumbling windows of parallel subtasks lie to each other. Windows that end at the same moment everywhere
/// send all their results at that moment; staggered ones spread them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowStagger {
    /// All windows of all subtasks begin and end together.
    #[default]
    Aligned,
    /// Each subtask shifts its windows by a share of their size that looks like chance. It follows from the
    /// operator's uid (or name) and the subtask's number, so it is the same after a restart.
    Random,
    /// Each subtask shifts its windows by how much of a window has passed, by the clock, when it begins to run.
    Natural,
}

/// A regular pattern of windows. `offset` shifts it from the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeGrid {
    size: i64,
    step: i64,
    offset: i64,
    shape: Shape,
    stagger: WindowStagger,
}

/// The start of the stretch of `size` that holds `time`, also for times before the epoch.
#[inline]
fn align(time: i64, offset: i64, size: i64) -> i64 {
    let remainder = (time.rem_euclid(size) - offset).rem_euclid(size);
    time.saturating_sub(remainder)
}

fn positive(what: &str, ms: i64) -> Result<()> {
    if ms > 0 && ms <= MAX_SIZE_MS {
        return Ok(());
    }
    Err(Error::user(format!(
        "a window's {what} must be from 1 ms to {MAX_SIZE_MS} ms, not {ms} ms"
    )))
}

impl TimeGrid {
    /// Windows of `size` that follow each other.
    ///
    /// # Errors
    /// When the size is not positive.
    pub fn tumbling(size: i64) -> Result<Self> {
        positive("size", size)?;
        Ok(Self {
            size,
            step: size,
            offset: 0,
            shape: Shape::Sliding,
            stagger: WindowStagger::Aligned,
        })
    }

    /// A window of `size` every `slide`; `slide` may exceed `size`, then some times are in none.
    ///
    /// # Errors
    /// When either is not positive.
    pub fn sliding(size: i64, slide: i64) -> Result<Self> {
        positive("size", size)?;
        positive("slide", slide)?;
        Ok(Self {
            size,
            step: slide,
            offset: 0,
            shape: Shape::Sliding,
            stagger: WindowStagger::Aligned,
        })
    }

    /// Windows that begin every `max_size` and end every `step` up to it.
    ///
    /// # Errors
    /// When either is not positive or `max_size` is not a multiple of `step`.
    pub fn cumulating(max_size: i64, step: i64) -> Result<Self> {
        positive("maximum size", max_size)?;
        positive("step", step)?;
        if max_size % step != 0 {
            return Err(Error::user(format!(
                "a cumulating window's maximum size ({max_size} ms) must be a multiple of its step ({step} ms)"
            )));
        }
        Ok(Self {
            size: max_size,
            step,
            offset: 0,
            shape: Shape::Cumulating,
            stagger: WindowStagger::Aligned,
        })
    }

    /// The same pattern shifted by `offset` milliseconds.
    ///
    /// # Errors
    /// When the offset is not smaller than the pattern's period.
    pub fn with_offset(self, offset: i64) -> Result<Self> {
        let period = self.period();
        if offset.unsigned_abs() >= period.unsigned_abs() {
            return Err(Error::user(format!(
                "a window offset must be smaller than the {} of {period} ms, not {offset} ms",
                if self.is_tumbling() { "size" } else { "period" }
            )));
        }
        Ok(Self { offset, ..self })
    }

    /// The same pattern, shifted for each subtask by `stagger` when it is [`opened`](Self::opened).
    ///
    /// # Errors
    /// When windows overlap or leave gaps.
    pub fn with_stagger(self, stagger: WindowStagger) -> Result<Self> {
        if !self.is_tumbling() {
            return Err(Error::user(format!(
                "only tumbling windows can be staggered, not windows of {} ms every {} ms",
                self.size, self.step
            )));
        }
        Ok(Self { stagger, ..self })
    }

    /// The pattern of the subtask that opens.
    #[must_use]
    pub fn opened(self, ctx: &OpenContext<'_>) -> Self {
        let shift = match self.stagger {
            WindowStagger::Aligned => return self,
            WindowStagger::Random => {
                let info = ctx.info();
                let name = info.uid.as_deref().unwrap_or(&info.operator);
                let chance = hash_int(hash_bytes(name.as_bytes()) ^ hash_int(u64::from(info.index)));
                // The size is positive, and what is left is smaller.
                (chance % self.size as u64) as i64
            }
            WindowStagger::Natural => ctx.cx().processing_time().rem_euclid(self.size),
        };
        Self {
            offset: (self.offset + shift) % self.size,
            stagger: WindowStagger::Aligned,
            ..self
        }
    }

    /// After how many milliseconds the pattern repeats.
    fn period(&self) -> i64 {
        match self.shape {
            Shape::Sliding => self.step,
            Shape::Cumulating => self.size,
        }
    }

    /// Whether every time is in exactly one window.
    #[inline]
    pub fn is_tumbling(&self) -> bool {
        self.size == self.step
    }

    /// The only window of `time` when the grid is tumbling.
    #[inline]
    pub fn tumbling_window(&self, time: i64) -> TimeWindow {
        debug_assert!(self.is_tumbling(), "only tumbling windows hold each time once");
        let start = align(time, self.offset, self.size);
        TimeWindow::new(start, start.saturating_add(self.size))
    }

    /// Appends the windows that hold `time`: sliding ones the latest first, cumulating ones the
    /// shortest first.
    pub fn windows_of(&self, time: i64, windows: &mut Vec<TimeWindow>) {
        match self.shape {
            Shape::Sliding => {
                let mut start = align(time, self.offset, self.step);
                while start > time.saturating_sub(self.size) {
                    windows.push(TimeWindow::new(start, start.saturating_add(self.size)));
                    start = start.saturating_sub(self.step);
                }
            }
            Shape::Cumulating => {
                let start = align(time, self.offset, self.size);
                let (first, last) = ((time - start) / self.step + 1, self.size / self.step);
                let end = |steps: i64| start.saturating_add(steps * self.step);
                windows.extend((first..=last).map(|steps| TimeWindow::new(start, end(steps))));
            }
        }
    }

    /// The stretch around `time` whose times are all in the same windows.
    pub fn pane_of(&self, time: i64) -> TimeWindow {
        let width = self.pane_width();
        let start = align(time, self.offset % width, width);
        TimeWindow::new(start, start.saturating_add(width))
    }

    /// The panes of a window of this grid, in order.
    pub fn panes_in(&self, window: TimeWindow) -> impl Iterator<Item = TimeWindow> + use<> {
        let width = self.pane_width();
        let length = window.end.saturating_sub(window.start);
        // A window at the end of time is cut off there, and so is its last pane.
        let count = length / width + i64::from(length % width > 0);
        (0..count).map(move |i| {
            let start = window.start + i * width;
            TimeWindow::new(start, start.saturating_add(width))
        })
    }

    /// How many panes the longest window has.
    pub fn panes_per_window(&self) -> i64 {
        self.size / self.pane_width()
    }

    fn pane_width(&self) -> i64 {
        gcd(self.size, self.step)
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn windows(grid: &TimeGrid, time: i64) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        grid.windows_of(time, &mut found);
        found.iter().map(|w| (w.start, w.end)).collect()
    }

    #[test]
    fn examples_from_the_definitions() {
        let hour = TimeGrid::tumbling(10).unwrap().with_offset(3).unwrap();
        assert_eq!(windows(&hour, 12), [(3, 13)]);
        assert_eq!(windows(&hour, 13), [(13, 23)]);
        assert_eq!(windows(&hour, -8), [(-17, -7)]);
        assert_eq!(hour.tumbling_window(-7), TimeWindow::new(-7, 3));
        let sliding = TimeGrid::sliding(10, 5).unwrap();
        assert_eq!(windows(&sliding, 12), [(10, 20), (5, 15)]);
        assert_eq!(windows(&sliding, -1), [(-5, 5), (-10, 0)]);
        let sampled = TimeGrid::sliding(2, 5).unwrap();
        assert_eq!(windows(&sampled, 11), [(10, 12)]);
        assert_eq!(windows(&sampled, 12), []);
        let cumulating = TimeGrid::cumulating(6, 2).unwrap();
        assert_eq!(windows(&cumulating, 6), [(6, 8), (6, 10), (6, 12)]);
        assert_eq!(windows(&cumulating, -1), [(-6, 0)]);
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        assert!(TimeGrid::tumbling(0).unwrap_err().to_string().contains("size"));
        assert!(TimeGrid::tumbling(-1).is_err());
        assert!(TimeGrid::tumbling(i64::MAX).is_err());
        assert!(TimeGrid::sliding(5, 0).unwrap_err().to_string().contains("slide"));
        assert!(
            TimeGrid::cumulating(5, 2)
                .unwrap_err()
                .to_string()
                .contains("multiple")
        );
        let tumbling = TimeGrid::tumbling(10).unwrap();
        assert!(tumbling.with_offset(10).is_err() && tumbling.with_offset(-10).is_err());
        assert!(tumbling.with_offset(-9).is_ok());
        assert!(TimeGrid::sliding(10, 5).unwrap().with_offset(5).is_err());
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let grid = TimeGrid::sliding(10, 5).unwrap();
        assert_eq!(windows(&grid, i64::MAX)[0].1, i64::MAX);
        assert!(windows(&grid, i64::MIN + 1).len() <= 2);
    }

    proptest! {
        /// The windows of a time are those of the whole pattern that hold it; all times of a pane agree.
        #[test]
        fn windows_are_those_that_hold_the_time(
            (size, step) in (1_i64..30, 1_i64..30), offset in -29_i64..30, time in -200_i64..200,
        ) {
            let grids = [
                TimeGrid::sliding(size, step).and_then(|g| g.with_offset(offset % step)),
                TimeGrid::cumulating(size * step, step).and_then(|g| g.with_offset(offset % (size * step))),
            ];
            for (kind, grid) in grids.into_iter().enumerate() {
                let grid = grid.unwrap();
                let mut expected = Vec::new();
                for k in -500_i64..500 {
                    if kind == 0 {
                        let start = k * step + offset % step;
                        if start <= time && time < start + size { expected.push((start, start + size)); }
                    } else {
                        let start = k * size * step + offset % (size * step);
                        for n in 1..=size {
                            if start <= time && time < start + n * step { expected.push((start, start + n * step)); }
                        }
                    }
                }
                let mut found = windows(&grid, time);
                found.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(&found, &expected);
                let pane = grid.pane_of(time);
                prop_assert!(pane.contains(time));
                for other in pane.start..pane.end {
                    let mut same = windows(&grid, other);
                    same.sort_unstable();
                    prop_assert_eq!(&same, &expected);
                }
            }
        }
    }
}
