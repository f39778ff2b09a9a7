//! [`IteratorSource`]: whatever an iterator yields.

use hurtig_core::Result;
use hurtig_dataflow::operator::{Budget, Collector, OpenContext};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
use hurtig_state::{OperatorSnapshot, Redistribution};
use std::sync::Arc;
use std::task::{Context, Poll};

/// Name of the snapshot's section.
const TAKEN: &str = "iterator-taken";

/// What an iterator yields, in order; its parallelism is 1.
///
/// The closure makes the iterator anew at each start. After a restore the elements that were read
/// before are taken and dropped, so it has to yield the same again.
///
/// ```
/// use hurtig_connector_datagen::IteratorSource;
/// use hurtig_dataflow::source::Source;
///
/// let even = IteratorSource::new(|| (0u64..1_000).step_by(2));
/// let endless = IteratorSource::new(|| std::iter::repeat("again")).unbounded();
/// assert!(even.bounded() && !endless.bounded());
/// ```
pub struct IteratorSource<F> {
    make: Arc<F>,
    bounded: bool,
}

impl<F> IteratorSource<F> {
    /// What the iterator that `make` returns yields.
    pub fn new<I: Iterator>(make: F) -> Self
    where
        F: Fn() -> I,
    {
        Self {
            make: Arc::new(make),
            bounded: true,
        }
    }

    /// Says that the iterator does not end.
    #[must_use]
    pub fn unbounded(mut self) -> Self {
        self.bounded = false;
        self
    }
}

impl<F> std::fmt::Debug for IteratorSource<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IteratorSource")
            .field("bounded", &self.bounded)
            .finish_non_exhaustive()
    }
}

impl<I, F> Source<I::Item> for IteratorSource<F>
where
    I: Iterator + Send + 'static,
    F: Fn() -> I + Send + Sync + 'static,
{
    fn bounded(&self) -> bool {
        self.bounded
    }

    fn reader(&self) -> Box<dyn SourceReader<I::Item>> {
        Box::new(IteratorReader {
            make: self.make.clone(),
            iterator: None,
            taken: 0,
            to_drop: 0,
        })
    }

    fn parallelism_limit(&self) -> Option<u32> {
        Some(1)
    }
}

struct IteratorReader<F, I> {
    make: Arc<F>,
    /// `None` where another subtask has it.
    iterator: Option<I>,
    /// Elements that were taken, in this run and before.
    taken: u64,
    /// Elements that a former run took and that are to be taken again.
    to_drop: u64,
}

impl<I, F> SourceReader<I::Item> for IteratorReader<F, I>
where
    I: Iterator + Send,
    F: Fn() -> I + Send + Sync,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let taken = match ctx.restored() {
            Some(snapshot) => snapshot.operator::<u64>(TAKEN)?.first().copied(),
            None => (ctx.info().index == 0).then_some(0),
        };
        if let Some(taken) = taken {
            self.iterator = Some((self.make)());
            self.taken = taken;
            self.to_drop = taken;
        }
        Ok(())
    }

    fn poll_batch(
        &mut self,
        _cx: &mut Context<'_>,
        out: &mut Collector<I::Item>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        let Some(iterator) = &mut self.iterator else {
            return Poll::Ready(Ok(SourceStatus::Finished));
        };
        while !out.full() && b.spend() {
            let Some(element) = iterator.next() else {
                return Poll::Ready(Ok(SourceStatus::Finished));
            };
            if self.to_drop > 0 {
                self.to_drop -= 1;
            } else {
                self.taken += 1;
                out.push(element);
            }
        }
        Poll::Ready(Ok(SourceStatus::More))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let taken: Vec<u64> = self.iterator.iter().map(|_| self.taken).collect();
        snapshot.put_operator(TAKEN, Redistribution::Split, &taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rescaled;

    #[test]
    fn each_element_once_also_over_a_restore() {
        let source = IteratorSource::new(|| (0u64..20).map(|i| i * 3));
        for turns in 0..9 {
            assert_eq!(
                rescaled(&source, 1, 1, turns),
                (0..20).map(|i| i * 3).collect::<Vec<_>>()
            );
        }
    }
}
