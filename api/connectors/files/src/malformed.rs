//! What becomes of input that is not a record.

use crate::format::Reason;
use hurtig_core::str::Str;
use serde::{Deserialize, Serialize};

/// Name of the accumulator that counts malformed records.
pub const MALFORMED_RECORDS: &str = "numMalformedRecords";

/// Bytes of a malformed record that are kept when it is longer than any record may be.
pub(crate) const KEPT_OF_OVERLONG: usize = 1_024;

/// A record that could not be read, as [`FileSource::malformed`](crate::FileSource::malformed)
/// hands it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Malformed {
    /// The file.
    pub path: Str,
    /// Where the record begins, in bytes of the decompressed file.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: Str,
    /// Its text, with U+FFFD for what is not UTF-8. If it is too long, or a quote stays open: its first
    /// line, or 1,024 bytes of that.
    pub line: Str,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, byte {}: {}", self.path, self.offset, self.reason)
    }
}

impl std::error::Error for Malformed {}

/// A malformed record before anybody wants its text.
pub(crate) struct Found<'a> {
    pub(crate) path: &'a Str,
    pub(crate) offset: u64,
    pub(crate) reason: Reason,
    pub(crate) bytes: &'a [u8],
}

impl Found<'_> {
    fn report(self) -> Malformed {
        Malformed {
            path: self.path.clone(),
            offset: self.offset,
            reason: Str::from(self.reason.to_string()),
            line: Str::from(String::from_utf8_lossy(self.bytes).into_owned()),
        }
    }
}

/// The two forms of a file source: what a record and what a malformed one become.
pub(crate) trait Outlet<T>: Send + 'static {
    type Out: Send + 'static;
    fn record(record: T) -> Self::Out;
    fn malformed(found: Found<'_>) -> Option<Self::Out>;
}

/// Records only; malformed ones are counted.
pub(crate) struct Skip;

impl<T: Send + 'static> Outlet<T> for Skip {
    type Out = T;
    #[inline]
    fn record(record: T) -> T {
        record
    }
    fn malformed(_: Found<'_>) -> Option<T> {
        None
    }
}

/// Both, as a `Result`; malformed ones are counted too.
pub(crate) struct Report;

impl<T: Send + 'static> Outlet<T> for Report {
    type Out = Result<T, Malformed>;
    #[inline]
    fn record(record: T) -> Self::Out {
        Ok(record)
    }
    fn malformed(found: Found<'_>) -> Option<Self::Out> {
        Some(Err(found.report()))
    }
}

/// Counts malformed records: the one place that knows how the count is published.
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
