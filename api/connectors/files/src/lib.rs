//! Files, folders and globs as sources and sinks.
//!
//! [`FileSource`] reads text lines, CSV and JSON lines from plain, `.gz` and `.zst` files, cut into
//! splits where the format allows it; [`FileSink`] writes part files into a folder and
//! [`SingleFileSink`] one file. This crate promises that every record of a file is read by exactly one
//! split, wherever the cuts fall, that malformed input never fails a job, and that memory stays at one
//! block and the longest record for each reader. It knows local file systems only.

mod buffer;
mod enumerator;
mod format;
mod frame;
mod input;
mod malformed;
mod paths;
mod reader;
mod sink;
mod source;
mod split;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use format::{Csv, Decoded, Decoder, Format, JsonLines, Lines, Reason};
pub use frame::Framing;
pub use malformed::{MALFORMED_RECORDS, Malformed};
pub use paths::InputPaths;
pub use sink::{
    BucketAssigner, BucketBy, BucketTime, CsvEncoder, DateTimeBuckets, Encoder, FileSink, FormatEncoder,
    JsonLinesEncoder, LineEncoder, OneBucket, PartEncoder, PartFormat, RollingPolicy, Rows, RowsOfPart,
    SingleFileSink,
};
pub use source::{DEFAULT_MAX_RECORD_BYTES, DEFAULT_SPLIT_BYTES, FileSource, ReportingFileSource};
