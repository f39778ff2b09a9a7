//! Where operators put their output.

use hurtig_core::Batch;
use hurtig_core::time::NO_TIMESTAMP;

/// Records of a chain link before it asks for more room: the default of `pipeline.batch-size`.
pub const DEFAULT_BATCH_SIZE: usize = 4_096;

/// A concrete output buffer: a push is a `Vec` push and never refuses.
///
/// The operator asks [`Collector::full`] between records and returns `Progress::More` when it is.
/// [`Collector::push`] gives records the time last set with [`Collector::set_time`], which for
/// user functions is the time of the record (or timer) that is being processed.
#[derive(Debug)]
pub struct Collector<T> {
    batch: Batch<T>,
    limit: usize,
    time: i64,
    watermark: Option<i64>,
}

impl<T> Default for Collector<T> {
    fn default() -> Self {
        Self::with_limit(DEFAULT_BATCH_SIZE)
    }
}

impl<T> Collector<T> {
    /// A collector that is full at `limit` records.
    pub fn with_limit(limit: usize) -> Self {
        assert!(limit > 0, "a collector needs room for one record");
        Self {
            batch: Batch::new(),
            limit,
            time: NO_TIMESTAMP,
            watermark: None,
        }
    }

    /// Emits a record with the current time.
    #[inline]
    pub fn push(&mut self, record: T) {
        self.batch.push(record, self.time);
    }

    /// Emits a record with a time of its own.
    #[inline]
    pub fn push_at(&mut self, record: T, time: i64) {
        self.batch.push(record, time);
    }

    /// Emits `count` records with the current time, what `make` makes of 0, 1, 2, …, in one loop: faster than
    /// pushing each.
    #[inline]
    pub fn extend_with(&mut self, count: usize, make: impl FnMut(usize) -> T) {
        self.batch.extend_at_common_time(self.time, count, make);
    }

    /// Sets the time that [`Collector::push`] gives to records.
    #[inline]
    pub fn set_time(&mut self, time: i64) {
        self.time = time;
    }

    /// The time that [`Collector::push`] gives to records.
    pub fn time(&self) -> i64 {
        self.time
    }

    /// Whether the operator should stop and return `Progress::More`.
    #[inline]
    pub fn full(&self) -> bool {
        self.batch.len() >= self.limit
    }

    /// How many records fit before it is full.
    #[inline]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.batch.len())
    }

    /// Emits a watermark behind what was pushed, in place of one that was held with
    /// `Cx::hold_watermark`. The chain ignores one that does not advance.
    pub fn watermark(&mut self, wm: i64) {
        self.watermark = Some(self.watermark.map_or(wm, |old| old.max(wm)));
    }

    /// Takes the watermark that the operator emitted itself.
    pub fn take_watermark(&mut self) -> Option<i64> {
        self.watermark.take()
    }

    /// What was collected, for the next consumer.
    pub fn batch(&mut self) -> &mut Batch<T> {
        &mut self.batch
    }

    /// Records collected and not yet consumed.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Makes the collector full at `limit` records if it would take more. Returns at how many it was full.
    pub fn shrink_to(&mut self, limit: usize) -> usize {
        let before = self.limit;
        self.limit = before.min(limit.max(1));
        before
    }

    /// Changes at how many records the collector is full.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }
}
