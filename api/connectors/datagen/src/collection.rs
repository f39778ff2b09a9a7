//! [`CollectionSource`]: the elements of a vector.

use hurtig_core::Result;
use hurtig_dataflow::operator::{Budget, Collector, OpenContext};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
use hurtig_state::{OperatorSnapshot, Redistribution};
use std::sync::Arc;
use std::task::{Context, Poll};

/// Name of the snapshot's section.
const NEXT: &str = "collection-next";

/// The elements of a vector, in order, each once; its parallelism is 1.
///
/// ```
/// use hurtig_connector_datagen::CollectionSource;
/// use hurtig_dataflow::source::Source;
///
/// let words = CollectionSource::new(vec!["to", "be", "or", "not", "to", "be"]);
/// assert_eq!(words.parallelism_limit(), Some(1));
/// ```
#[derive(Debug)]
pub struct CollectionSource<T> {
    elements: Arc<Vec<T>>,
}

impl<T> CollectionSource<T> {
    /// The elements of `elements`.
    pub fn new(elements: impl Into<Vec<T>>) -> Self {
        Self {
            elements: Arc::new(elements.into()),
        }
    }
}

impl<T> Clone for CollectionSource<T> {
    fn clone(&self) -> Self {
        Self {
            elements: self.elements.clone(),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Source<T> for CollectionSource<T> {
    fn bounded(&self) -> bool {
        true
    }

    fn reader(&self) -> Box<dyn SourceReader<T>> {
        Box::new(CollectionReader {
            elements: self.elements.clone(),
            next: 0,
        })
    }

    fn parallelism_limit(&self) -> Option<u32> {
        Some(1)
    }
}

struct CollectionReader<T> {
    elements: Arc<Vec<T>>,
    next: usize,
}

impl<T: Clone + Send + Sync> SourceReader<T> for CollectionReader<T> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.next = if ctx.info().index == 0 {
            0
        } else {
            self.elements.len()
        };
        if let Some(snapshot) = ctx.restored() {
            let next: Vec<u64> = snapshot.operator(NEXT)?;
            self.next = next
                .first()
                .map_or(self.elements.len(), |&n| usize::try_from(n).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    fn poll_batch(
        &mut self,
        _cx: &mut Context<'_>,
        out: &mut Collector<T>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        let rest = self.elements.get(self.next..).unwrap_or(&[]);
        let granted = b.take(rest.len().min(out.room()));
        for element in &rest[..granted] {
            out.push(element.clone());
        }
        self.next += granted;
        let ended = granted == rest.len();
        Poll::Ready(Ok(if ended {
            SourceStatus::Finished
        } else {
            SourceStatus::More
        }))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator(NEXT, Redistribution::Split, &[self.next as u64])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Drive, rescaled};

    #[test]
    fn each_element_once_also_over_a_restore() {
        let source = CollectionSource::new((0..20).collect::<Vec<u64>>());
        for turns in 0..9 {
            assert_eq!(rescaled(&source, 1, 1, turns), (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_empty_collection_ends_at_once() {
        assert!(
            Drive::open(&CollectionSource::<u64>::new(vec![]), 0, 1, None)
                .rest()
                .is_empty()
        );
    }
}
