//! Histograms of latencies and sizes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::primitives::OneWriter;

/// Each power of two is cut into this many buckets, so a quantile is at most 1/32 too high.
const SUB_BUCKETS: u64 = 32;
const SUB_BITS: u32 = SUB_BUCKETS.ilog2();
/// Values below this have a bucket each; every further power of two has `SUB_BUCKETS`.
const BUCKETS: usize = (SUB_BUCKETS as usize) * (u64::BITS - SUB_BITS + 1) as usize;

/// A distribution of numbers (nanoseconds, bytes, records) since the histogram was made.
///
/// *Cost*: 15 KiB; recording writes three numbers and does not allocate.
#[derive(Debug)]
pub struct Histogram {
    cells: Arc<Cells>,
    one_writer: OneWriter,
}

/// What the writer and the readers share.
#[derive(Debug)]
pub(super) struct Cells {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty histogram that no registry knows.
    #[must_use]
    pub fn new() -> Self {
        let cells = Cells {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        };
        Self {
            cells: Arc::new(cells),
            one_writer: OneWriter::default(),
        }
    }

    /// Adds one number.
    #[inline]
    pub fn record(&self, value: u64) {
        self.record_many(value, 1);
    }

    /// Adds one number `count` times: a batch whose records took the same time.
    #[inline]
    pub fn record_many(&self, value: u64, count: u64) {
        if count == 0 {
            return;
        }
        let cells = &*self.cells;
        add(&cells.buckets[bucket_of(value)], count);
        add(&cells.sum, value.wrapping_mul(count));
        if value < cells.min.load(Ordering::Relaxed) {
            cells.min.store(value, Ordering::Relaxed);
        }
        if value > cells.max.load(Ordering::Relaxed) {
            cells.max.store(value, Ordering::Relaxed);
        }
    }

    /// The distribution so far.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        self.cells.snapshot()
    }

    pub(super) fn cells(&self) -> Arc<Cells> {
        Arc::clone(&self.cells)
    }
}

/// The one writer's addition: no locked instruction.
#[inline]
fn add(cell: &AtomicU64, count: u64) {
    cell.store(
        cell.load(Ordering::Relaxed).wrapping_add(count),
        Ordering::Relaxed,
    );
}

impl Cells {
    pub(super) fn snapshot(&self) -> HistogramSnapshot {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let buckets: Vec<(u16, u64)> = self
            .buckets
            .iter()
            .enumerate()
            .map(|(bucket, cell)| (bucket as u16, load(cell)))
            .filter(|(_, count)| *count > 0)
            .collect();
        HistogramSnapshot {
            buckets,
            sum: load(&self.sum),
            min: load(&self.min),
            max: load(&self.max),
        }
    }
}

/// The bucket of a value: exact below 32, then by its power of two and the five bits below it.
#[inline]
fn bucket_of(value: u64) -> usize {
    if value < SUB_BUCKETS {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    let within = (value >> shift) - SUB_BUCKETS;
    (SUB_BUCKETS * u64::from(shift + 1) + within) as usize
}

/// The greatest value of a bucket.
fn highest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB_BUCKETS {
        return bucket;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    let lowest = (SUB_BUCKETS + bucket % SUB_BUCKETS) << shift;
    lowest + ((1 << shift) - 1)
}

/// A distribution as it was at one moment. Snapshots of several subtasks can be merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramSnapshot {
    /// The buckets that hold anything, in order, with their counts.
    buckets: Vec<(u16, u64)>,
    sum: u64,
    min: u64,
    max: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self {
            buckets: Vec::new(),
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }
}

impl HistogramSnapshot {
    /// How many numbers were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// All numbers added up. Wrong once that has passed 2⁶⁴.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The least number, exactly; 0 when there is none.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.buckets.is_empty() { 0 } else { self.min }
    }

    /// The greatest number, exactly; 0 when there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The mean; 0 when there is no number. Wrong once the sum has passed 2⁶⁴.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum as f64 / count as f64,
        }
    }

    /// The number below or at which this share (0 to 1) of the numbers lies; at most 1/32 too high,
    /// and never above the maximum. 0 when there is no number.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (share.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut passed = 0;
        for (bucket, count) in &self.buckets {
            passed += count;
            if passed >= rank {
                return highest_of(usize::from(*bucket)).clamp(self.min(), self.max);
            }
        }
        self.max
    }

    /// Adds the numbers of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            match self.buckets.binary_search_by_key(bucket, |(mine, _)| *mine) {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (*bucket, *count)),
            }
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_cover_all_numbers_in_order() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(highest_of(BUCKETS - 1), u64::MAX);
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(highest_of(bucket)), bucket);
        }
        for bucket in 1..BUCKETS {
            assert_eq!(bucket_of(highest_of(bucket - 1) + 1), bucket);
        }
    }

    #[test]
    fn an_empty_histogram_is_zero() {
        let snapshot = Histogram::new().snapshot();
        assert_eq!(snapshot, HistogramSnapshot::default());
        assert_eq!((snapshot.count(), snapshot.min(), snapshot.max()), (0, 0, 0));
        assert_eq!((snapshot.quantile(0.5), snapshot.mean()), (0, 0.0));
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let histogram = Histogram::new();
        (1..=1_000).for_each(|value| histogram.record(value));
        let snapshot = histogram.snapshot();
        assert_eq!(
            (snapshot.count(), snapshot.min(), snapshot.max()),
            (1_000, 1, 1_000)
        );
        assert!((snapshot.mean() - 500.5).abs() < 1e-9);
        for (share, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = snapshot.quantile(share) as f64;
            assert!(
                found >= exact && found <= exact * (1.0 + 1.0 / 32.0),
                "{share}: {found}"
            );
        }
        assert_eq!(snapshot.quantile(0.0), 1);
    }

    proptest! {
        #[test]
        fn merged_snapshots_equal_one_histogram(
            values in proptest::collection::vec((any::<u32>(), 1..4_u64, any::<bool>()), 0..50),
        ) {
            let (all, left, right) = (Histogram::new(), Histogram::new(), Histogram::new());
            for (value, count, in_left) in values {
                all.record_many(value.into(), count);
                let part = if in_left { &left } else { &right };
                part.record_many(value.into(), count);
            }
            let mut merged = left.snapshot();
            merged.merge(&right.snapshot());
            prop_assert_eq!(merged, all.snapshot());
        }

        #[test]
        fn a_quantile_is_at_most_a_thirty_second_too_high(value: u64) {
            let histogram = Histogram::new();
            histogram.record(value);
            histogram.record(u64::MAX);
            let found = histogram.snapshot().quantile(0.5);
            prop_assert!(found >= value && found - value <= value / 32);
        }
    }
}
