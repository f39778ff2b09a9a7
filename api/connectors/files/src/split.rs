//! Splits: which records of which file a reader reads, and how far it has come.
//!
//! A split of the bytes `start..end` owns the records that begin in `(start, end]`, the first one
//! also the record at 0. So every record is owned once, and a reader finds its first record by going
//! behind the first line end at or after `start`, without looking before it.

use crate::paths::InputFile;
use hurtig_core::Result;
use hurtig_dataflow::source::Split;
use hurtig_state::snapshot::{decode, encode};
use serde::{Deserialize, Serialize};

/// A part of a file, and the position of the reader in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileSplit {
    pub(crate) path: String,
    pub(crate) start: u64,
    /// `None`: to the end of the file.
    pub(crate) end: Option<u64>,
    /// Where reading goes on, in the decompressed file.
    pub(crate) position: u64,
    /// Whether the position is within a record that is not wanted, whose rest is to be passed over.
    pub(crate) within_record: bool,
    /// Whether the file was there when the job began, of a source that waits for new ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) backlog: bool,
}

impl FileSplit {
    fn new(path: &str, start: u64, end: Option<u64>) -> Self {
        Self {
            path: path.to_owned(),
            start,
            end,
            position: start,
            within_record: start > 0,
            backlog: false,
        }
    }

    /// Cuts `file` into splits of `split_bytes`; `None` leaves it whole. A last piece of less than
    /// half that size joins the one before.
    pub(crate) fn cut(file: &InputFile, split_bytes: Option<u64>) -> Vec<Self> {
        let cuts = match (file.bytes, split_bytes) {
            (Some(bytes), Some(each)) => (bytes.saturating_add(each / 2) / each).max(1),
            _ => 1,
        };
        let each = split_bytes.unwrap_or(0);
        let part = |i: u64| Self::new(&file.path, i * each, (i + 1 < cuts).then_some((i + 1) * each));
        (0..cuts).map(part).collect()
    }

    /// Whether a record that begins at `position` is this split's.
    #[inline]
    pub(crate) fn owns(&self, position: u64) -> bool {
        self.end.is_none_or(|end| position <= end)
    }

    pub(crate) fn to_split(&self) -> Result<Split> {
        Ok(Split {
            id: format!("{}:{}", self.path, self.start),
            bytes: encode(self)?,
        })
    }

    pub(crate) fn from_split(split: &Split) -> Result<Self> {
        decode(&split.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_the_file_without_a_crumb() {
        let file = |bytes| InputFile {
            path: "f".into(),
            bytes,
        };
        let ranges = |bytes, each| {
            FileSplit::cut(&file(bytes), each)
                .into_iter()
                .map(|s| (s.start, s.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(ranges(Some(0), Some(10)), [(0, None)]);
        assert_eq!(ranges(Some(14), Some(10)), [(0, None)]);
        assert_eq!(ranges(Some(15), Some(10)), [(0, Some(10)), (10, None)]);
        assert_eq!(
            ranges(Some(31), Some(10)),
            [(0, Some(10)), (10, Some(20)), (20, None)]
        );
        assert_eq!(ranges(Some(31), None), [(0, None)]);
        assert_eq!(ranges(None, Some(10)), [(0, None)]);
    }
}
