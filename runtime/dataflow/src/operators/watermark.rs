//! How event times and watermarks are made.
//!
//! A [`WatermarkStrategy`] is what a program says: where the time of a record is, and how far behind
//! it another record may still come. A [`WatermarkGenerator`] is one split's (or subtask's) running
//! instance of it. [`Watermarks`] names the built-in strategies, which are Flink's.

use hurtig_core::config::{WatermarkEmitStrategy, WatermarkOptions};
use hurtig_core::time::{MIN_WATERMARK, NO_TIMESTAMP, to_event_millis};
use hurtig_core::{Batch, Result};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// What a generator has to say.
#[derive(Clone, Debug)]
pub struct WatermarkOutput {
    watermark: i64,
    idle: bool,
}

impl Default for WatermarkOutput {
    fn default() -> Self {
        Self {
            watermark: MIN_WATERMARK,
            idle: false,
        }
    }
}

impl WatermarkOutput {
    /// No later record is expected with a time up to and including `watermark`. One that does not
    /// advance is ignored; any of them ends idleness.
    pub fn emit(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
        self.idle = false;
    }

    /// Nothing is known to come for now: others need not wait.
    pub fn mark_idle(&mut self) {
        self.idle = true;
    }

    /// Ends idleness without a watermark.
    pub fn mark_active(&mut self) {
        self.idle = false;
    }

    /// The greatest watermark so far.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Whether the last word was idleness.
    pub fn is_idle(&self) -> bool {
        self.idle
    }
}

/// Watches records and says how far event time has come. One instance watches one split.
pub trait WatermarkGenerator<T>: Send {
    /// A record with event time `time` has passed.
    fn on_event(&mut self, record: &T, time: i64, out: &mut WatermarkOutput);

    /// A whole batch has passed, whose greatest event time is `newest`. Generators that need no more than
    /// that do better than one call a record.
    fn on_batch(&mut self, batch: &mut Batch<T>, newest: i64, out: &mut WatermarkOutput) {
        let _ = newest;
        for i in 0..batch.len() {
            let time = batch.time(i);
            self.on_event(&batch.records()[i], time, out);
        }
    }

    /// Called before a watermark is sent: at most once in `pipeline.auto-watermark-interval`, or behind as many records
    /// as [`WatermarkStrategy::with_emit_on_event`] says.
    fn on_periodic(&mut self, out: &mut WatermarkOutput);

    /// Whether [`Self::on_periodic`] has something to say although no record has passed.
    fn by_clock(&self) -> bool {
        false
    }
}

type Assign<T> = Arc<dyn Fn(&mut Batch<T>) -> i64 + Send + Sync>;
type Make<T> = Arc<dyn Fn() -> Box<dyn WatermarkGenerator<T>> + Send + Sync>;

/// When watermarks are sent.
#[derive(Clone, Copy, Debug)]
struct Emit {
    on_event: bool,
    /// From one to the next, in records.
    gap: u32,
}

impl Default for Emit {
    fn default() -> Self {
        Self {
            on_event: false,
            gap: 1,
        }
    }
}

/// How a stream gets its event times and watermarks.
pub struct WatermarkStrategy<T> {
    assign: Option<Assign<T>>,
    make: Make<T>,
    idleness: Option<Duration>,
    emit: Emit,
    /// Its generators never say anything.
    silent: bool,
}

impl<T> Clone for WatermarkStrategy<T> {
    fn clone(&self) -> Self {
        Self {
            assign: self.assign.clone(),
            make: self.make.clone(),
            idleness: self.idleness,
            emit: self.emit,
            silent: self.silent,
        }
    }
}

impl<T> fmt::Debug for WatermarkStrategy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatermarkStrategy")
            .field("assigns_times", &self.assign.is_some())
            .field("idleness", &self.idleness)
            .field("emit", &self.emit)
            .finish_non_exhaustive()
    }
}

impl<T: 'static> WatermarkStrategy<T> {
    /// The strategy whose generators `make` makes; records keep the times that they have.
    pub fn for_generator<G>(make: impl Fn() -> G + Send + Sync + 'static) -> Self
    where
        G: WatermarkGenerator<T> + 'static,
    {
        Self {
            assign: None,
            make: Arc::new(move || Box::new(make())),
            idleness: None,
            emit: Emit::default(),
            silent: false,
        }
    }

    /// Takes the time of a record, in milliseconds since the Unix epoch, from the record.
    #[must_use]
    pub fn with_timestamps(self, time_of: impl Fn(&T) -> i64 + Send + Sync + 'static) -> Self {
        self.with_timestamps_from(move |record, _| time_of(record))
    }

    /// Takes the time of a record from the record and the time that it has
    /// ([`NO_TIMESTAMP`] when it has none).
    #[must_use]
    pub fn with_timestamps_from(self, time_of: impl Fn(&T, i64) -> i64 + Send + Sync + 'static) -> Self {
        let assign: Assign<T> = Arc::new(move |batch| batch.assign_times(&time_of));
        Self {
            assign: Some(assign),
            ..self
        }
    }

    /// A split that has brought nothing for `timeout` does not hold others back until it does. Time
    /// during which the task was back-pressured does not count.
    #[must_use]
    pub fn with_idleness(self, timeout: Duration) -> Self {
        Self {
            idleness: Some(timeout),
            ..self
        }
    }

    /// Watermarks are sent behind every `gap` records of a split, and not by the clock: what is late does not depend on
    /// how fast records come. 0 is taken for 1, behind every record.
    ///
    /// *Cost*: batches are cut at the watermarks, so that a small gap makes everything behind it slow.
    #[must_use]
    pub fn with_emit_on_event(self, gap: u32) -> Self {
        let emit = Emit {
            on_event: true,
            gap: gap.max(1),
        };
        Self { emit, ..self }
    }

    /// Watermarks are sent once in `pipeline.auto-watermark-interval`, which they are unless something else was said.
    #[must_use]
    pub fn with_emit_on_periodic(self) -> Self {
        let emit = Emit {
            on_event: false,
            ..self.emit
        };
        Self { emit, ..self }
    }

    /// Says the same as the options of a table in SQL, under their keys: `scan.watermark.emit.strategy` (`on-periodic`
    /// or `on-event`), `scan.watermark.emit.on-event.gap` (1 unless it is said) and `scan.watermark.idle-timeout`. What
    /// they do not mention stays as it is.
    ///
    /// ```
    /// use hurtig_dataflow::operators::{WatermarkStrategy, Watermarks};
    ///
    /// struct Click { at: i64 }
    /// let strategy: WatermarkStrategy<Click> = Watermarks::monotonous(|click: &Click| click.at).with_options([
    ///     ("scan.watermark.emit.strategy", "on-event"),
    ///     ("scan.watermark.emit.on-event.gap", "100"),
    ///     ("scan.watermark.idle-timeout", "1 min"),
    /// ])?;
    /// # let _ = strategy;
    /// # Ok::<(), hurtig_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// All that is wrong with them: unknown keys, ill-typed values, and `scan.watermark.alignment.*`, as watermarks are
    /// not aligned yet.
    pub fn with_options<K, V>(self, options: impl IntoIterator<Item = (K, V)>) -> Result<Self>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let options = WatermarkOptions::parse(options)?;
        let on_event = options.emit.map(|emit| emit == WatermarkEmitStrategy::OnEvent);
        let emit = Emit {
            on_event: on_event.unwrap_or(self.emit.on_event),
            gap: options.on_event_gap.unwrap_or(self.emit.gap),
        };
        let idleness = match options.idle_timeout {
            None => self.idleness,
            Some(timeout) => Some(timeout).filter(|timeout| *timeout > Duration::ZERO),
        };
        Ok(Self {
            idleness,
            emit,
            ..self
        })
    }

    /// Behind how many records of a split a watermark is sent; `None`: by the clock.
    pub fn on_event_gap(&self) -> Option<u32> {
        Some(self.emit.gap).filter(|_| self.emit.on_event)
    }

    /// After how long without records a split is idle.
    pub fn idleness(&self) -> Option<Duration> {
        self.idleness
    }

    /// Whether it says nothing before event time ends, neither watermarks nor idleness.
    pub fn is_silent(&self) -> bool {
        self.silent && self.idleness.is_none()
    }

    /// Gives the records of a batch their times, and returns the greatest.
    pub fn assign_times(&self, batch: &mut Batch<T>) -> i64 {
        match &self.assign {
            Some(assign) => assign(batch),
            None => batch.time_range().map_or(NO_TIMESTAMP, |(_, newest)| newest),
        }
    }

    /// A new generator, for one split.
    pub fn generator(&self) -> Box<dyn WatermarkGenerator<T>> {
        (self.make)()
    }
}

/// The built-in strategies.
///
/// ```
/// use hurtig_core::time::DurationExt;
/// use hurtig_dataflow::operators::{WatermarkStrategy, Watermarks};
///
/// struct Click { at: i64 }
/// let strategy: WatermarkStrategy<Click> =
///     Watermarks::bounded(5.seconds(), |click: &Click| click.at).with_idleness(1.minutes());
/// # let _ = strategy;
/// ```
#[derive(Debug)]
pub enum Watermarks {}

impl Watermarks {
    /// Times never fall: the watermark is just below the greatest time seen.
    pub fn monotonous<T: 'static>(
        time_of: impl Fn(&T) -> i64 + Send + Sync + 'static,
    ) -> WatermarkStrategy<T> {
        Self::bounded(Duration::ZERO, time_of)
    }

    /// A record comes at most `delay` after one that is newer: the watermark is the greatest time
    /// seen, less `delay`, less a millisecond.
    pub fn bounded<T: 'static>(
        delay: Duration,
        time_of: impl Fn(&T) -> i64 + Send + Sync + 'static,
    ) -> WatermarkStrategy<T> {
        Self::bounded_by_record_time(delay).with_timestamps(time_of)
    }

    /// As [`Self::monotonous`], by the times that the source gave its records.
    pub fn monotonous_by_record_time<T: 'static>() -> WatermarkStrategy<T> {
        Self::bounded_by_record_time(Duration::ZERO)
    }

    /// As [`Self::bounded`], by the times that the source gave its records.
    pub fn bounded_by_record_time<T: 'static>(delay: Duration) -> WatermarkStrategy<T> {
        let delay = to_event_millis(delay);
        WatermarkStrategy::for_generator(move || Bounded {
            delay,
            max: NO_TIMESTAMP,
        })
    }

    /// No watermark but the last one, at the end of input.
    pub fn none<T: 'static>() -> WatermarkStrategy<T> {
        WatermarkStrategy {
            silent: true,
            ..WatermarkStrategy::for_generator(|| Silent)
        }
    }

    /// `mark` looks at each record and its time, and says when one of them carries a watermark.
    pub fn punctuated<T: 'static>(
        time_of: impl Fn(&T) -> i64 + Send + Sync + 'static,
        mark: impl Fn(&T, i64) -> Option<i64> + Send + Sync + 'static,
    ) -> WatermarkStrategy<T> {
        let mark = Arc::new(mark);
        let make = move || Punctuated {
            mark: mark.clone(),
            record: PhantomData,
        };
        WatermarkStrategy::for_generator(make).with_timestamps(time_of)
    }

    /// Generators of the user's own making, one a split.
    pub fn custom<T: 'static, G>(
        time_of: impl Fn(&T) -> i64 + Send + Sync + 'static,
        make: impl Fn() -> G + Send + Sync + 'static,
    ) -> WatermarkStrategy<T>
    where
        G: WatermarkGenerator<T> + 'static,
    {
        WatermarkStrategy::for_generator(make).with_timestamps(time_of)
    }
}

struct Bounded {
    delay: i64,
    /// [`NO_TIMESTAMP`] until a record with a time has passed.
    max: i64,
}

impl<T> WatermarkGenerator<T> for Bounded {
    fn on_event(&mut self, _: &T, time: i64, _: &mut WatermarkOutput) {
        self.max = self.max.max(time);
    }

    fn on_batch(&mut self, _: &mut Batch<T>, newest: i64, _: &mut WatermarkOutput) {
        self.max = self.max.max(newest);
    }

    fn on_periodic(&mut self, out: &mut WatermarkOutput) {
        if self.max != NO_TIMESTAMP {
            out.emit(self.max.saturating_sub(self.delay).saturating_sub(1));
        }
    }
}

struct Silent;

impl<T> WatermarkGenerator<T> for Silent {
    fn on_event(&mut self, _: &T, _: i64, _: &mut WatermarkOutput) {}
    fn on_batch(&mut self, _: &mut Batch<T>, _: i64, _: &mut WatermarkOutput) {}
    fn on_periodic(&mut self, _: &mut WatermarkOutput) {}
}

struct Punctuated<T, F> {
    mark: Arc<F>,
    record: PhantomData<fn(&T)>,
}

impl<T, F: Fn(&T, i64) -> Option<i64> + Send + Sync> WatermarkGenerator<T> for Punctuated<T, F> {
    fn on_event(&mut self, record: &T, time: i64, out: &mut WatermarkOutput) {
        if let Some(watermark) = (self.mark)(record, time) {
            out.emit(watermark);
        }
    }

    fn on_periodic(&mut self, _: &mut WatermarkOutput) {}
}
