//! Entries that stay in a file until they are restored: a state may be larger than memory.

use crate::encoded::{EncodedEntries, GroupRun};
use crate::snapshot::EntryRef;
use hurtig_core::error::Result;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What entries are read from.
pub trait EntrySource: Send + Sync {
    /// The key groups that have entries, in order.
    fn runs(&self) -> &[GroupRun];

    /// Hands out the entries of some of these runs, one key group after the other. Blocks.
    ///
    /// # Errors
    /// When they cannot be read, and those of `each`, after which it is not called again.
    fn read(&self, runs: Range<usize>, each: &mut dyn FnMut(EncodedEntries) -> Result<()>) -> Result<()>;
}

/// Entries of a keyed section where they lie, of one key group or several.
#[derive(Clone)]
pub struct AwayEntries {
    source: Arc<dyn EntrySource>,
    runs: Range<usize>,
}

impl AwayEntries {
    /// All that a source has.
    pub fn new(source: Arc<dyn EntrySource>) -> Self {
        let runs = 0..source.runs().len();
        Self { source, runs }
    }

    /// Those of some key groups.
    #[must_use]
    pub fn within(&self, groups: Range<u16>) -> Self {
        let all = self.source.runs();
        let at = |group: u16| all.partition_point(|run| run.group < group);
        let start = at(groups.start).max(self.runs.start);
        let end = at(groups.end).min(self.runs.end);
        Self {
            source: self.source.clone(),
            runs: start..end.max(start),
        }
    }

    /// The key groups that have entries, in order.
    pub fn runs(&self) -> &[GroupRun] {
        &self.source.runs()[self.runs.clone()]
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.runs().iter().map(|run| run.entries).sum()
    }

    /// Reads them, one key group after the other. Blocks.
    ///
    /// # Errors
    /// As [`EntrySource::read`].
    pub fn read(&self, mut each: impl FnMut(EncodedEntries) -> Result<()>) -> Result<()> {
        self.source.read(self.runs.clone(), &mut each)
    }

    /// Reads them one by one. Blocks.
    ///
    /// # Errors
    /// As [`EntrySource::read`].
    pub(crate) fn visit(&self, each: &mut dyn FnMut(EntryRef<'_>) -> Result<()>) -> Result<()> {
        self.read(|group| group.iter().try_for_each(|entry| each(entry?)))
    }
}

impl PartialEq for AwayEntries {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.runs == other.runs
    }
}

impl Eq for AwayEntries {}

impl fmt::Debug for AwayEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwayEntries({} in {} key groups)", self.len(), self.runs.len())
    }
}
