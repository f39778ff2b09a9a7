//! The reader of lines that a thread feeds.

use crate::feed::{Feed, Message};
use hurtig_core::Result;
use hurtig_core::str::{Block, Str};
use hurtig_dataflow::operator::{Budget, Collector, OpenContext};
use hurtig_dataflow::source::{SourceReader, SourceStatus};
use memchr::memchr;
use std::task::{Context, Poll};

/// Longest line by default: `source.max-record-bytes`.
pub const DEFAULT_MAX_RECORD_BYTES: usize = 64 * 1024 * 1024;

/// Name of the accumulator that counts lines which are not UTF-8 or too long.
pub const MALFORMED_RECORDS: &str = "numMalformedRecords";

/// Starts the thread of a reader.
pub(crate) type Start = Box<dyn Fn() -> Result<Feed> + Send>;

/// Cuts what the thread sends into lines.
pub(crate) struct LineReader {
    start: Start,
    feed: Option<Feed>,
    longest: usize,
    block: Block,
    position: usize,
    malformed: MalformedCount,
}

impl LineReader {
    pub(crate) fn new(longest: usize, start: Start) -> Self {
        let (block, malformed) = (Block::default(), MalformedCount::default());
        Self {
            start,
            feed: None,
            longest,
            block,
            position: 0,
            malformed,
        }
    }

    /// Emits lines of the block until it is used up, `out` is full or fuel has run out.
    fn cut(&mut self, out: &mut Collector<Str>, b: &mut Budget) {
        while self.position < self.block.len() && !out.full() && b.spend() {
            let rest = &self.block[self.position..];
            let line_end = memchr(b'\n', rest);
            let end = line_end.unwrap_or(rest.len());
            let has_cr = end > 0 && rest[end - 1] == b'\r';
            let len = if has_cr { end - 1 } else { end };
            match Str::from_block(&self.block, self.position..self.position + len) {
                Ok(line) if len <= self.longest => out.push(line),
                _ => self.malformed.add_one(),
            }
            self.position += line_end.map_or(end, |end| end + 1);
        }
    }
}

impl SourceReader<Str> for LineReader {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        if ctx.info().index == 0 {
            self.feed = Some((self.start)()?);
        }
        Ok(())
    }

    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Collector<Str>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        if self.position < self.block.len() {
            self.cut(out, b);
            return Poll::Ready(Ok(SourceStatus::More));
        }
        let Some(feed) = &self.feed else {
            return Poll::Ready(Ok(SourceStatus::Finished));
        };
        match std::task::ready!(feed.poll(cx)) {
            Message::Lines(lines) => {
                self.block = Block::from(lines);
                self.position = 0;
                self.cut(out, b);
            }
            Message::TooLong => self.malformed.add_one(),
            Message::End => {
                self.feed = None;
                return Poll::Ready(Ok(SourceStatus::Finished));
            }
            Message::Failed(e) => return Poll::Ready(Err(e)),
        }
        Poll::Ready(Ok(SourceStatus::More))
    }

    fn publish(&mut self, accumulators: &hurtig_dataflow::operator::Accumulators) {
        self.malformed.publish(accumulators);
    }

    fn close(&mut self) -> Result<()> {
        self.feed = None;
        Ok(())
    }
}

/// Counts malformed lines: the one place that knows how the count is published.
#[derive(Default)]
pub(crate) struct MalformedCount(u64);

impl MalformedCount {
    #[cold]
    pub(crate) fn add_one(&mut self) {
        self.0 += 1;
    }

    /// Adds what was counted since the last call to the accumulator.
    pub(crate) fn publish(&mut self, accumulators: &hurtig_dataflow::operator::Accumulators) {
        let counted = std::mem::take(&mut self.0);
        if counted > 0 {
            accumulators.add_long(MALFORMED_RECORDS, i64::try_from(counted).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::accumulators::AccumulatorValue;
    use hurtig_dataflow::operator::Accumulators;

    #[test]
    fn what_was_counted_is_published_once() {
        let (mut count, accumulators) = (MalformedCount::default(), Accumulators::default());
        count.publish(&accumulators);
        assert!(accumulators.values().is_empty());
        for _ in 0..2 {
            count.add_one();
            count.publish(&accumulators);
            count.publish(&accumulators);
        }
        assert_eq!(
            accumulators.values()[MALFORMED_RECORDS],
            AccumulatorValue::Long(2)
        );
    }
}
