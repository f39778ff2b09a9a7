//! Parquet as a format of the file sink.
//!
//! [`ParquetFormat`] says which columns a record has; `FileSink::bulk` writes them. This crate promises files that
//! any reader of Parquet understands, each complete in itself, and memory for one row group a part. It does not
//! read Parquet, and knows flat columns only.

mod column;
mod format;

#[cfg(test)]
mod tests;

pub use column::{ColumnType, TimestampMillis};
pub use format::{Compression, ParquetFormat, ParquetPart};
