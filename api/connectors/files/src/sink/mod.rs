//! Files as sinks: part files in a folder, or one file.

mod bucket;
mod encode;
mod folder;
mod format;
mod memory;
mod names;
mod output;
mod parts;
mod rolling;
mod single;

#[cfg(test)]
mod tests;

pub use bucket::{BucketAssigner, BucketBy, BucketTime, DateTimeBuckets, OneBucket};
pub use encode::{CsvEncoder, Encoder, FormatEncoder, JsonLinesEncoder, LineEncoder};
pub use folder::FileSink;
pub use format::{PartEncoder, PartFormat, Rows, RowsOfPart};
pub use rolling::RollingPolicy;
pub use single::SingleFileSink;
