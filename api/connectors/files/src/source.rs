//! [`FileSource`]: files as a source, and its options.

use crate::buffer::DEFAULT_BLOCK_BYTES;
use crate::enumerator::{Backlog, FileEnumerator};
use crate::format::{Csv, Format, JsonLines, Lines};
use crate::malformed::{Malformed, Report, Skip};
use crate::paths::InputPaths;
use crate::reader::FileReader;
use hurtig_core::{Error, Result};
use hurtig_dataflow::source::{Source, SourceReader, SplitEnumerator};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Size of a split, unless [`FileSource::split_bytes`] says otherwise.
pub const DEFAULT_SPLIT_BYTES: u64 = 64 * 1024 * 1024;

/// Longest record, unless [`FileSource::max_record_bytes`] says otherwise: `source.max-record-bytes`.
pub const DEFAULT_MAX_RECORD_BYTES: usize = 64 * 1024 * 1024;

/// Reads files, folders (recursively), globs, or several of them.
///
/// - A folder means all files below it but those whose names, or whose folders' names, begin with `.`
///   or `_`; a folder that a glob matches means the same. A path without such a file is no error if it
///   exists.
/// - `.gz` (also of several members) and `.zst` are decompressed; such a file is one split. Plain
///   files are cut into splits of 64 MiB, except CSV, whose records may hold line ends, unless
///   [`FileSource::one_record_per_line`] promises that none does.
/// - Malformed records (not UTF-8, not the expected CSV or JSON, longer than 64 MiB) never fail the
///   job. They are skipped and counted in the accumulator
///   [`MALFORMED_RECORDS`](crate::MALFORMED_RECORDS); [`FileSource::malformed`] hands them on.
///   Reading goes on behind the record, or behind its first line if it is too long or a quote stays
///   open. A damaged archive or disk does fail the job.
/// - Files are read as they are; one that changes while it is read gives unspecified records.
/// - Positions are part of every snapshot and restore exactly.
///
/// ```
/// use hurtig_connector_files::FileSource;
/// use hurtig_dataflow::source::Source;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Click {
///     user: String,
///     at: i64,
/// }
///
/// let lines = FileSource::lines("logs/*.log.gz");
/// let clicks = FileSource::json_lines::<Click>("clicks/");
/// let semicolons = FileSource::csv::<(String, i64)>(["a.csv", "b.csv"]).header(false).delimiter(b';');
/// let with_malformed = FileSource::csv::<Click>("clicks.csv").malformed();
/// assert!(clicks.bounded());
/// assert_eq!(lines.validate().unwrap_err().to_string(), "no file matches the input pattern 'logs/*.log.gz'");
/// # let _ = (semicolons, with_malformed);
/// ```
#[derive(Clone, Debug)]
pub struct FileSource<F> {
    format: F,
    paths: InputPaths,
    split_bytes: u64,
    discovery: Option<Duration>,
    /// As the program said; else the environment's.
    record_bytes: Option<usize>,
    pub(crate) block_bytes: usize,
}

/// Bounds of a reader's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) record_bytes: usize,
    pub(crate) block_bytes: usize,
}

impl FileSource<Lines> {
    /// Text lines: a [`Str`](hurtig_core::str::Str) each, without LF or CR LF; empty ones too.
    pub fn lines(path: impl Into<InputPaths>) -> Self {
        Self::with_format(Lines, path)
    }

    /// CSV records with a header line; see [`Csv`] for how fields are matched.
    pub fn csv<T>(path: impl Into<InputPaths>) -> FileSource<Csv<T>> {
        FileSource::with_format(Csv::new(), path)
    }

    /// One JSON value a line.
    pub fn json_lines<T>(path: impl Into<InputPaths>) -> FileSource<JsonLines<T>> {
        FileSource::with_format(JsonLines::new(), path)
    }
}

impl<F> FileSource<F> {
    /// Files of a format of your own.
    pub fn with_format(format: F, path: impl Into<InputPaths>) -> Self {
        Self {
            format,
            paths: path.into(),
            split_bytes: DEFAULT_SPLIT_BYTES,
            discovery: None,
            record_bytes: None,
            block_bytes: DEFAULT_BLOCK_BYTES,
        }
    }

    /// Looks for new files every `interval` and never ends.
    ///
    /// A file is known by its path and read once, in the state in which it is found: whoever writes
    /// it gives it a name that begins with `.` or `_` (as [`FileSink`](crate::FileSink) does), or
    /// writes it elsewhere on the same file system, and renames it when it is complete. The path
    /// itself must exist at the start, but a folder may be empty and a glob match nothing. The names
    /// of all files are remembered.
    ///
    /// The files that are there when the job begins are backlog, until the last of them was read.
    #[must_use]
    pub fn continuous(mut self, interval: Duration) -> Self {
        self.discovery = Some(interval);
        self
    }

    /// Cuts plain files into splits of about so many bytes (64 MiB by default).
    #[must_use]
    pub fn split_bytes(mut self, bytes: u64) -> Self {
        self.split_bytes = bytes;
        self
    }

    /// Takes a longer record for malformed (64 MiB by default): `source.max-record-bytes`.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.record_bytes = Some(bytes);
        self
    }

    /// Reads so many bytes at once (256 KiB by default): a reader's memory beyond its longest record,
    /// and the length of one call.
    #[must_use]
    pub fn block_bytes(mut self, bytes: usize) -> Self {
        self.block_bytes = bytes;
        self
    }

    /// Hands malformed records on, as `Err` between the others, for a side output or a log. They are
    /// counted all the same. Comes last: options are set before.
    #[must_use]
    pub fn malformed(self) -> ReportingFileSource<F> {
        ReportingFileSource(self)
    }
}

impl<T> FileSource<Csv<T>> {
    /// Whether each file begins with a line that names its columns (true by default). With names,
    /// columns may stand in any order, in each file in its own; a record with another number of
    /// fields is malformed.
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.format.header = header;
        self
    }

    /// What separates fields (`,` by default).
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.format.delimiter = delimiter;
        self
    }

    /// Promises that no field holds a line end, so that large files can be read in parallel and a
    /// stray quote spoils one line only.
    #[must_use]
    pub fn one_record_per_line(mut self) -> Self {
        self.format.one_line = true;
        self
    }
}

impl<F: Format> FileSource<F> {
    fn check(&self) -> Result<()> {
        self.format.validate()?;
        let Limits {
            record_bytes,
            block_bytes,
        } = self.limits();
        if self.split_bytes == 0 || record_bytes == 0 || block_bytes == 0 {
            return Err(Error::user(
                "split, record and block sizes of a file source must be at least one byte",
            ));
        }
        self.paths.discover(self.discovery.is_some()).map(drop)
    }

    fn limits(&self) -> Limits {
        let record_bytes = self.record_bytes.unwrap_or(DEFAULT_MAX_RECORD_BYTES);
        Limits {
            record_bytes,
            block_bytes: self.block_bytes,
        }
    }

    fn deal(&self) -> Box<dyn SplitEnumerator> {
        Box::new(FileEnumerator {
            paths: self.paths.clone(),
            split_bytes: self.format.splittable().then_some(self.split_bytes),
            discovery: self.discovery,
            seen: BTreeSet::new(),
            waiting: VecDeque::new(),
            context: None,
            backlog: Backlog::default(),
        })
    }
}

impl<F: Format> Source<F::Record> for FileSource<F> {
    fn bounded(&self) -> bool {
        self.discovery.is_none()
    }

    fn validate(&self) -> Result<()> {
        self.check()
    }

    fn reader(&self) -> Box<dyn SourceReader<F::Record>> {
        Box::new(FileReader::<F, Skip>::new(self.format.clone(), self.limits()))
    }

    fn set_default_max_record_bytes(&mut self, bytes: usize) {
        self.record_bytes.get_or_insert(bytes);
    }

    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator>> {
        Some(self.deal())
    }
}

/// A [`FileSource`] whose malformed records are data: made by [`FileSource::malformed`].
#[derive(Clone, Debug)]
pub struct ReportingFileSource<F>(FileSource<F>);

impl<F: Format> Source<Result<F::Record, Malformed>> for ReportingFileSource<F> {
    fn bounded(&self) -> bool {
        self.0.discovery.is_none()
    }

    fn validate(&self) -> Result<()> {
        self.0.check()
    }

    fn reader(&self) -> Box<dyn SourceReader<Result<F::Record, Malformed>>> {
        Box::new(FileReader::<F, Report>::new(
            self.0.format.clone(),
            self.0.limits(),
        ))
    }

    fn set_default_max_record_bytes(&mut self, bytes: usize) {
        self.0.record_bytes.get_or_insert(bytes);
    }

    fn enumerator(&self) -> Option<Box<dyn SplitEnumerator>> {
        Some(self.0.deal())
    }
}
