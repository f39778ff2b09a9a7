//! Which windows an element belongs to.

use super::{DefaultTrigger, GlobalWindow, TimeGrid, TimeWindow, Window, WindowStagger};
use crate::operator::OpenContext;
use crate::timers::TimeDomain;

use hurtig_core::time::{NO_TIMESTAMP, to_event_millis};
use hurtig_core::{Error, Result};
use std::time::Duration;

/// Assigns elements to windows.
///
/// Implement it for windows of your own; the engine's are [`TumblingWindows`], [`SlidingWindows`],
/// [`CumulatingWindows`], [`SessionWindows`], [`DynamicSessionWindows`] and [`GlobalWindows`].
pub trait WindowAssigner<T>: Send + 'static {
    /// What elements are assigned to.
    type Window: Window;

    /// Called once in each subtask, before its first element.
    fn open(&mut self, ctx: &OpenContext<'_>) {
        let _ = ctx;
    }

    /// Appends the windows of `element`. `time` is its event time, or the processing time when the
    /// assigner's domain is [`TimeDomain::Processing`].
    ///
    /// # Errors
    /// When the element cannot be assigned; the job fails.
    fn assign(&self, element: &T, time: i64, windows: &mut Vec<Self::Window>) -> Result<()>;

    /// Which time decides; windows of processing time are never late.
    fn domain(&self) -> TimeDomain;

    /// The trigger used when none is given.
    fn default_trigger(&self) -> DefaultTrigger;

    /// Whether windows of one key may merge.
    fn is_merging(&self) -> bool {
        false
    }

    /// What two windows of one key merge into; `None` when they stay apart. Must be commutative and
    /// return a window that covers both.
    fn merge(&self, a: &Self::Window, b: &Self::Window) -> Option<Self::Window> {
        let _ = (a, b);
        None
    }

    /// Whether the windows follow a pattern that the engine has a fast path for.
    fn pattern(&self) -> Pattern<Self::Window> {
        Pattern::Other
    }

    /// The session gap of an element in milliseconds, for [`Pattern::Session`].
    fn session_gap(&self, element: &T) -> i64 {
        let _ = element;
        0
    }
}

/// Windows that the engine knows how to hold compactly. Both carry how a window of the pattern
/// becomes the assigner's.
#[derive(Clone, Copy, Debug)]
pub enum Pattern<W> {
    /// The windows of an element are those of the grid that hold its time.
    Grid(TimeGrid, fn(TimeWindow) -> W),
    /// The window of an element goes from its time to a [`WindowAssigner::session_gap`] later, and
    /// windows that touch merge.
    Session(fn(TimeWindow) -> W),
    /// None of these.
    Other,
}

fn default_trigger(domain: TimeDomain) -> DefaultTrigger {
    match domain {
        TimeDomain::Event => DefaultTrigger::EventTime,
        TimeDomain::Processing => DefaultTrigger::ProcessingTime,
    }
}

#[cold]
pub(super) fn no_timestamp() -> Error {
    Error::user(
        "a record without event time reached an event-time window: assign timestamps and watermarks before it, \
         or use windows of processing time",
    )
}

/// Tumbling, sliding or cumulating windows of either time.
#[derive(Clone, Copy, Debug)]
pub struct AlignedWindows {
    grid: TimeGrid,
    domain: TimeDomain,
}

impl AlignedWindows {
    /// Windows of this pattern.
    pub const fn new(grid: TimeGrid, domain: TimeDomain) -> Self {
        Self { grid, domain }
    }

    /// The same windows shifted by `offset_ms` from the Unix epoch.
    ///
    /// # Errors
    /// When the offset is not smaller than the period (size, slide or maximum size).
    pub fn with_offset(self, offset_ms: i64) -> Result<Self> {
        Ok(Self {
            grid: self.grid.with_offset(offset_ms)?,
            ..self
        })
    }

    /// The same windows, staggered: those of one subtask do not end when those of another do.
    ///
    /// # Errors
    /// When the windows are not tumbling.
    pub fn with_stagger(self, stagger: WindowStagger) -> Result<Self> {
        Ok(Self {
            grid: self.grid.with_stagger(stagger)?,
            ..self
        })
    }
}

impl<T> WindowAssigner<T> for AlignedWindows {
    type Window = TimeWindow;

    fn open(&mut self, ctx: &OpenContext<'_>) {
        self.grid = self.grid.opened(ctx);
    }

    fn assign(&self, _: &T, time: i64, windows: &mut Vec<TimeWindow>) -> Result<()> {
        if time == NO_TIMESTAMP {
            return Err(no_timestamp());
        }
        self.grid.windows_of(time, windows);
        Ok(())
    }

    fn domain(&self) -> TimeDomain {
        self.domain
    }

    fn default_trigger(&self) -> DefaultTrigger {
        default_trigger(self.domain)
    }

    fn pattern(&self) -> Pattern<TimeWindow> {
        Pattern::Grid(self.grid, |window| window)
    }
}

/// Windows of one size that follow each other.
#[derive(Clone, Copy, Debug)]
pub struct TumblingWindows;

impl TumblingWindows {
    /// Of event time.
    ///
    /// # Errors
    /// When the size is zero or absurdly large.
    pub fn event_time(size: Duration) -> Result<AlignedWindows> {
        Ok(AlignedWindows::new(
            TimeGrid::tumbling(to_event_millis(size))?,
            TimeDomain::Event,
        ))
    }

    /// Of processing time.
    ///
    /// # Errors
    /// As [`TumblingWindows::event_time`].
    pub fn processing_time(size: Duration) -> Result<AlignedWindows> {
        Ok(AlignedWindows::new(
            TimeGrid::tumbling(to_event_millis(size))?,
            TimeDomain::Processing,
        ))
    }
}

/// Windows of one size that begin at every slide.
#[derive(Clone, Copy, Debug)]
pub struct SlidingWindows;

impl SlidingWindows {
    /// Of event time.
    ///
    /// # Errors
    /// When size or slide are zero or absurdly large.
    pub fn event_time(size: Duration, slide: Duration) -> Result<AlignedWindows> {
        let grid = TimeGrid::sliding(to_event_millis(size), to_event_millis(slide))?;
        Ok(AlignedWindows::new(grid, TimeDomain::Event))
    }

    /// Of processing time.
    ///
    /// # Errors
    /// As [`SlidingWindows::event_time`].
    pub fn processing_time(size: Duration, slide: Duration) -> Result<AlignedWindows> {
        let grid = TimeGrid::sliding(to_event_millis(size), to_event_millis(slide))?;
        Ok(AlignedWindows::new(grid, TimeDomain::Processing))
    }
}

/// Windows that begin every maximum size and end every step: running totals of the day so far.
#[derive(Clone, Copy, Debug)]
pub struct CumulatingWindows;

impl CumulatingWindows {
    /// Of event time.
    ///
    /// # Errors
    /// When either is zero, or the maximum size is not a multiple of the step.
    pub fn event_time(max_size: Duration, step: Duration) -> Result<AlignedWindows> {
        let grid = TimeGrid::cumulating(to_event_millis(max_size), to_event_millis(step))?;
        Ok(AlignedWindows::new(grid, TimeDomain::Event))
    }

    /// Of processing time.
    ///
    /// # Errors
    /// As [`CumulatingWindows::event_time`].
    pub fn processing_time(max_size: Duration, step: Duration) -> Result<AlignedWindows> {
        let grid = TimeGrid::cumulating(to_event_millis(max_size), to_event_millis(step))?;
        Ok(AlignedWindows::new(grid, TimeDomain::Processing))
    }
}

/// The session of one element.
///
/// # Errors
/// Without a time or a positive gap.
#[inline]
pub(super) fn session(time: i64, gap: i64) -> Result<TimeWindow> {
    if time == NO_TIMESTAMP {
        return Err(no_timestamp());
    }
    if gap <= 0 {
        return Err(bad_gap(gap));
    }
    Ok(TimeWindow::new(time, time.saturating_add(gap)))
}

#[cold]
fn bad_gap(gap: i64) -> Error {
    Error::user(format!("a session gap must be positive, not {gap} ms"))
}

fn merge_sessions(a: &TimeWindow, b: &TimeWindow) -> Option<TimeWindow> {
    a.intersects(b).then(|| a.cover(b))
}

/// Sessions: elements of a key that are at most a gap apart.
#[derive(Clone, Copy, Debug)]
pub struct SessionWindows {
    gap: i64,
    domain: TimeDomain,
}

impl SessionWindows {
    /// Of event time.
    ///
    /// # Errors
    /// When the gap is zero.
    pub fn event_time(gap: Duration) -> Result<Self> {
        Self::new(gap, TimeDomain::Event)
    }

    /// Of processing time.
    ///
    /// # Errors
    /// When the gap is zero.
    pub fn processing_time(gap: Duration) -> Result<Self> {
        Self::new(gap, TimeDomain::Processing)
    }

    fn new(gap: Duration, domain: TimeDomain) -> Result<Self> {
        let gap = to_event_millis(gap);
        session(0, gap)?;
        Ok(Self { gap, domain })
    }
}

impl<T> WindowAssigner<T> for SessionWindows {
    type Window = TimeWindow;

    fn assign(&self, _: &T, time: i64, windows: &mut Vec<TimeWindow>) -> Result<()> {
        windows.push(session(time, self.gap)?);
        Ok(())
    }

    fn domain(&self) -> TimeDomain {
        self.domain
    }

    fn default_trigger(&self) -> DefaultTrigger {
        default_trigger(self.domain)
    }

    fn is_merging(&self) -> bool {
        true
    }

    fn merge(&self, a: &TimeWindow, b: &TimeWindow) -> Option<TimeWindow> {
        merge_sessions(a, b)
    }

    fn pattern(&self) -> Pattern<TimeWindow> {
        Pattern::Session(|window| window)
    }

    fn session_gap(&self, _: &T) -> i64 {
        self.gap
    }
}

/// Sessions whose gap each element says itself, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct DynamicSessionWindows<G> {
    gap: G,
    domain: TimeDomain,
}

impl<G> DynamicSessionWindows<G> {
    /// Of event time. An element whose gap is not positive fails the job.
    pub const fn event_time(gap_ms: G) -> Self {
        Self {
            gap: gap_ms,
            domain: TimeDomain::Event,
        }
    }

    /// Of processing time. An element whose gap is not positive fails the job.
    pub const fn processing_time(gap_ms: G) -> Self {
        Self {
            gap: gap_ms,
            domain: TimeDomain::Processing,
        }
    }
}

impl<T, G: Fn(&T) -> i64 + Send + Sync + 'static> WindowAssigner<T> for DynamicSessionWindows<G> {
    type Window = TimeWindow;

    fn assign(&self, element: &T, time: i64, windows: &mut Vec<TimeWindow>) -> Result<()> {
        windows.push(session(time, (self.gap)(element))?);
        Ok(())
    }

    fn domain(&self) -> TimeDomain {
        self.domain
    }

    fn default_trigger(&self) -> DefaultTrigger {
        default_trigger(self.domain)
    }

    fn is_merging(&self) -> bool {
        true
    }

    fn merge(&self, a: &TimeWindow, b: &TimeWindow) -> Option<TimeWindow> {
        merge_sessions(a, b)
    }

    fn pattern(&self) -> Pattern<TimeWindow> {
        Pattern::Session(|window| window)
    }

    fn session_gap(&self, element: &T) -> i64 {
        (self.gap)(element)
    }
}

/// One window for everything; only useful with a trigger.
#[derive(Clone, Copy, Debug)]
pub struct GlobalWindows {
    trigger: DefaultTrigger,
}

impl GlobalWindows {
    /// Fires never, unless another trigger is given.
    pub const fn create() -> Self {
        Self {
            trigger: DefaultTrigger::Never,
        }
    }

    /// Fires when the input has ended.
    pub const fn with_end_of_stream_trigger() -> Self {
        Self {
            trigger: DefaultTrigger::EndOfStream,
        }
    }
}

impl<T> WindowAssigner<T> for GlobalWindows {
    type Window = GlobalWindow;

    fn assign(&self, _: &T, _: i64, windows: &mut Vec<GlobalWindow>) -> Result<()> {
        windows.push(GlobalWindow);
        Ok(())
    }

    fn domain(&self) -> TimeDomain {
        TimeDomain::Processing
    }

    fn default_trigger(&self) -> DefaultTrigger {
        self.trigger
    }
}
