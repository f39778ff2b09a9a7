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
    /// Its text, with U+FFFD for what is not UTF-8; the first 1,024 bytes if it is too long.
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
    pub(crate) fn open(&mut self, _ctx: &hurtig_dataflow::operator::OpenContext<'_>) {}

    #[cold]
    pub(crate) fn add_one(&mut self) {
        self.0 += 1;
    }
}
