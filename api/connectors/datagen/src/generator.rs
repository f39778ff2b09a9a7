//! [`GeneratorSource`]: records computed from their index, at a rate if need be.

use crate::lanes::{Lane, Lanes};
use crate::rate::{Pace, Rate};
use hurtig_core::{Error, Result};
use hurtig_dataflow::operator::{Budget, Collector, OpenContext};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
use hurtig_state::OperatorSnapshot;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Records `generate(0), generate(1), …`, each once.
///
/// The closure must depend on nothing but the index, so that a restore repeats exactly what was. The
/// indices are dealt to subtasks in turn (subtask 1 of 4 has 1, 5, 9, …), so that together they
/// advance through them in order; at another parallelism the same records come out.
///
/// With a rate, record *i* is due `i / rate` after the start, over all subtasks together, and is
/// emitted within a millisecond of that (plus what the engine's timer is late). A job that falls
/// behind catches up as fast as it can. After a restore the schedule begins anew.
///
/// ```
/// use hurtig_connector_datagen::GeneratorSource;
/// use hurtig_dataflow::source::Source;
/// use std::time::Duration;
///
/// let squares = GeneratorSource::new(100, |i| i * i);
/// let ticks = GeneratorSource::unbounded(|i| format!("tick {i}")).rate(1_000);
/// let slow = GeneratorSource::unbounded(|i| i).rate_per(1, Duration::from_secs(10));
/// assert!(squares.bounded() && !ticks.bounded() && !slow.bounded());
/// ```
pub struct GeneratorSource<F> {
    generate: Arc<F>,
    count: Option<u64>,
    rate: Option<Rate>,
}

impl<F> GeneratorSource<F> {
    /// `count` records.
    pub fn new<T>(count: u64, generate: F) -> Self
    where
        F: Fn(u64) -> T,
    {
        Self {
            generate: Arc::new(generate),
            count: Some(count),
            rate: None,
        }
    }

    /// Records without end.
    pub fn unbounded<T>(generate: F) -> Self
    where
        F: Fn(u64) -> T,
    {
        Self {
            generate: Arc::new(generate),
            count: None,
            rate: None,
        }
    }

    /// At most so many records a second, over all subtasks.
    #[must_use]
    pub fn rate(self, records_per_second: u64) -> Self {
        self.rate_per(records_per_second, Duration::from_secs(1))
    }

    /// At most so many records in `per`, over all subtasks.
    #[must_use]
    pub fn rate_per(mut self, records: u64, per: Duration) -> Self {
        self.rate = Some(Rate { records, per });
        self
    }
}

impl<F> Clone for GeneratorSource<F> {
    fn clone(&self) -> Self {
        Self {
            generate: self.generate.clone(),
            ..*self
        }
    }
}

impl<F> std::fmt::Debug for GeneratorSource<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeneratorSource")
            .field("count", &self.count)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

impl<T, F> Source<T> for GeneratorSource<F>
where
    T: 'static,
    F: Fn(u64) -> T + Send + Sync + 'static,
{
    fn bounded(&self) -> bool {
        self.count.is_some()
    }

    fn validate(&self) -> Result<()> {
        match self.rate {
            Some(Rate { records, per }) if records == 0 || per.is_zero() => Err(Error::user(format!(
                "a generator cannot emit {records} records in {per:?}: give it a rate of at least one record in some \
                 time, or none for as fast as possible"
            ))),
            _ => Ok(()),
        }
    }

    fn reader(&self) -> Box<dyn SourceReader<T>> {
        let (source, lanes) = (self.clone(), Lanes::default());
        Box::new(GeneratorReader {
            source,
            lanes,
            pace: None,
        })
    }
}

struct GeneratorReader<F> {
    source: GeneratorSource<F>,
    lanes: Lanes,
    pace: Option<Pace>,
}

impl<T, F> SourceReader<T> for GeneratorReader<F>
where
    F: Fn(u64) -> T + Send + Sync,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let (index, parallelism) = (ctx.info().index, ctx.info().parallelism);
        self.lanes = Lanes::open(
            ctx,
            Lane::stride(self.source.count.unwrap_or(u64::MAX), index, parallelism),
        )?;
        let first = if ctx.restored().is_some() {
            self.lanes.peek().unwrap_or(0)
        } else {
            0
        };
        self.pace = self
            .source
            .rate
            .map(|rate| Pace::new(rate, ctx.cx().now(), first));
        Ok(())
    }

    fn poll_batch(
        &mut self,
        _cx: &mut Context<'_>,
        out: &mut Collector<T>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        while let Some(index) = self.lanes.peek() {
            let due = self.pace.map_or(u64::MAX, |pace| pace.due());
            if let Some(pace) = &mut self.pace
                && index >= due
            {
                return Poll::Ready(Ok(SourceStatus::WaitUntil(pace.wait_for(index))));
            }
            let max = out.room().min(b.left() as usize);
            if max == 0 {
                return Poll::Ready(Ok(SourceStatus::More));
            }
            let run = self.lanes.take(max, due);
            b.take(run.len);
            let generate = &*self.source.generate;
            out.extend_with(run.len, move |i| generate(run.index(i)));
        }
        Poll::Ready(Ok(SourceStatus::Finished))
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
    fn records_follow_from_their_index_at_any_parallelism() {
        for (before, after) in [(1, 1), (1, 3), (3, 1), (4, 3)] {
            for turns in 0..6 {
                let mut got = rescaled(&GeneratorSource::new(50, |i| i * i), before, after, turns);
                got.sort_unstable();
                assert_eq!(got, (0..50).map(|i| i * i).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn subtasks_advance_together() {
        let source = GeneratorSource::unbounded(|i| i);
        let mut third = Drive::open(&source, 2, 4, None);
        assert_eq!(third.turn(), [2, 6]);
        assert_eq!(third.turn(), [10, 14]);
    }

    /// Emission times in microseconds after the start.
    fn schedule(source: &impl Source<u64>, index: u32, parallelism: u32) -> Vec<(u64, u64)> {
        let mut drive = Drive::open(source, index, parallelism, None);
        let mut seen = Vec::new();
        while !drive.finished {
            let at = drive.elapsed_micros();
            seen.extend(drive.turn().into_iter().map(|record| (record, at)));
            drive.wait();
        }
        seen
    }

    #[test]
    fn a_slow_rate_is_met_to_the_point() {
        let source = GeneratorSource::new(9, |i| i).rate(200);
        let all = [schedule(&source, 0, 2), schedule(&source, 1, 2)].concat();
        assert_eq!(all.len(), 9);
        assert!(all.iter().all(|&(record, at)| at == record * 5_000), "{all:?}");
    }

    #[test]
    fn a_fast_rate_is_met_in_ticks() {
        let source = GeneratorSource::new(10_000, |i| i).rate(1_000_000);
        let all = schedule(&source, 0, 1);
        assert!(
            all.iter()
                .all(|&(record, at)| (record..=record + 1_000).contains(&at))
        );
        let ticks: std::collections::BTreeSet<u64> = all.iter().map(|&(_, at)| at).collect();
        assert!(ticks.len() <= 12, "records of one tick go together");
    }

    #[test]
    fn a_late_engine_catches_up_without_losing_or_hurrying() {
        let source = GeneratorSource::new(100, |i| i).rate(1_000);
        let mut drive = Drive::open(&source, 0, 1, None);
        drive.advance(Duration::from_millis(50));
        let mut seen = Vec::new();
        while !drive.waits() {
            seen.extend(drive.turn());
        }
        assert_eq!(
            seen,
            (0..=50).collect::<Vec<_>>(),
            "all that was due, nothing that was not"
        );
    }

    #[test]
    fn a_restore_begins_the_schedule_anew() {
        let source = GeneratorSource::new(100, |i| i).rate(1_000);
        let mut drive = Drive::open(&source, 0, 1, None);
        for _ in 0..40 {
            drive.turn();
            drive.wait();
        }
        let mut again = Drive::open(&source, 0, 1, Some(&drive.snapshot()));
        let first = again.turn();
        assert!(
            first.len() == 1 && first[0] > 10,
            "due at once, but no more than that: {first:?}"
        );
        assert_eq!(again.rest().last(), Some(&99));
        assert_eq!(again.elapsed_micros(), (99 - first[0]) * 1_000);
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        assert!(GeneratorSource::unbounded(|i| i).rate(0).validate().is_err());
    }
}
