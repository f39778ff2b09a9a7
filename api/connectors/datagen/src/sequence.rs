//! [`SequenceSource`]: consecutive numbers.

use crate::lanes::{Lane, Lanes};
use hurtig_core::{Error, Result};
use hurtig_dataflow::operator::{Budget, Collector, OpenContext};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
use hurtig_state::OperatorSnapshot;
use std::task::{Context, Poll};

/// The numbers from `from` up to and including `to`, each once, as fast as they are taken. Each
/// subtask produces a range of them, in order; the ranges' lengths differ by at most one.
///
/// ```
/// use hurtig_connector_datagen::SequenceSource;
/// use hurtig_dataflow::source::Source;
///
/// let numbers = SequenceSource::new(1, 1_000);
/// assert!(numbers.bounded());
/// assert!(SequenceSource::new(2, 1).validate().is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SequenceSource {
    from: i64,
    to: i64,
}

impl SequenceSource {
    /// The numbers from `from` up to and including `to`.
    pub fn new(from: i64, to: i64) -> Self {
        Self { from, to }
    }

    fn count(&self) -> Option<u64> {
        let count = i128::from(self.to) - i128::from(self.from) + 1;
        u64::try_from(count).ok().filter(|&count| count > 0)
    }
}

impl Source<i64> for SequenceSource {
    fn bounded(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        let SequenceSource { from, to } = self;
        if from > to {
            return Err(Error::user(format!(
                "the sequence from {from} to {to} is empty; give the smaller number first"
            )));
        }
        if self.count().is_none() {
            return Err(Error::user(format!(
                "the sequence from {from} to {to} is longer than 2^64 - 1"
            )));
        }
        Ok(())
    }

    fn reader(&self) -> Box<dyn SourceReader<i64>> {
        let count = self.count().unwrap_or(0);
        Box::new(SequenceReader {
            from: self.from,
            count,
            lanes: Lanes::default(),
        })
    }
}

struct SequenceReader {
    from: i64,
    count: u64,
    lanes: Lanes,
}

impl SourceReader<i64> for SequenceReader {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let fresh = Lane::range(self.count, ctx.info().index, ctx.info().parallelism);
        self.lanes = Lanes::open(ctx, fresh)?;
        Ok(())
    }

    fn poll_batch(
        &mut self,
        _cx: &mut Context<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        let run = self.lanes.take(out.room().min(b.left() as usize), u64::MAX);
        b.take(run.len);
        for index in run.indices() {
            // Index 2^63 and beyond wraps into the right place.
            out.push(self.from.wrapping_add_unsigned(index));
        }
        let ended = self.lanes.peek().is_none();
        Poll::Ready(Ok(if ended {
            SourceStatus::Finished
        } else {
            SourceStatus::More
        }))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.lanes.snapshot(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Drive, rescaled};

    #[test]
    fn every_number_once_at_any_parallelism() {
        for parallelism in 1..5 {
            let mut numbers: Vec<i64> = (0..parallelism)
                .flat_map(|i| Drive::open(&SequenceSource::new(-3, 20), i, parallelism, None).rest())
                .collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (-3..=20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn extremes_neither_overflow_nor_end_early() {
        let source = SequenceSource::new(i64::MIN + 1, i64::MAX);
        source.validate().unwrap();
        assert_eq!(Drive::open(&source, 0, 2, None).turn()[0], i64::MIN + 1);
        assert_eq!(
            Drive::open(&SequenceSource::new(i64::MAX - 1, i64::MAX), 0, 1, None).rest(),
            [i64::MAX - 1, i64::MAX]
        );
        assert!(SequenceSource::new(i64::MIN, i64::MAX).validate().is_err());
    }

    #[test]
    fn a_restore_at_another_parallelism_goes_on_exactly() {
        for (before, after) in [(1, 3), (3, 1), (2, 4), (4, 3)] {
            for turns in 0..6 {
                let source = SequenceSource::new(0, 40);
                let mut got = rescaled(&source, before, after, turns);
                got.sort_unstable();
                assert_eq!(
                    got,
                    (0..=40).collect::<Vec<_>>(),
                    "{before} to {after} after {turns} turns"
                );
            }
        }
    }
}
