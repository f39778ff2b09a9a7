//! Files as sinks: part files in a folder, or one file.

mod encode;
mod folder;
mod output;
mod single;

#[cfg(test)]
mod tests;

pub use encode::{CsvEncoder, Encoder, FormatEncoder, JsonLinesEncoder, LineEncoder};
pub use folder::FileSink;
pub use single::SingleFileSink;
