//! Encoders: how records become the text of a file.

use hurtig_core::{Error, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::Write;

/// A format that records of type `T` are written in.
pub trait Encoder<T>: Clone + Send + Sync + 'static {
    /// Appends `records` to `out`. `first`: the file is empty so far.
    ///
    /// # Errors
    /// A record that the format cannot express.
    fn encode(&self, records: &[T], first: bool, out: &mut Vec<u8>) -> Result<()>;
}

/// One line a record, as its `Display` says.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineEncoder;

impl<T: Display> Encoder<T> for LineEncoder {
    fn encode(&self, records: &[T], _first: bool, out: &mut Vec<u8>) -> Result<()> {
        for record in records {
            writeln!(out, "{record}").map_err(|e| Error::user("a record cannot be displayed").because(e))?;
        }
        Ok(())
    }
}

/// One line a record, as a closure writes it; the line end is added.
#[derive(Clone)]
pub struct FormatEncoder<F>(pub(super) F);

impl<F> std::fmt::Debug for FormatEncoder<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FormatEncoder")
    }
}

impl<T, F> Encoder<T> for FormatEncoder<F>
where
    F: Fn(&T, &mut String) + Clone + Send + Sync + 'static,
{
    fn encode(&self, records: &[T], _first: bool, out: &mut Vec<u8>) -> Result<()> {
        let mut line = String::new();
        for record in records {
            line.clear();
            (self.0)(record, &mut line);
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        Ok(())
    }
}

/// One JSON value a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonLinesEncoder;

impl<T: Serialize> Encoder<T> for JsonLinesEncoder {
    fn encode(&self, records: &[T], _first: bool, out: &mut Vec<u8>) -> Result<()> {
        for record in records {
            serde_json::to_writer(&mut *out, record).map_err(|e| cannot_write::<T>("JSON").because(e))?;
            out.push(b'\n');
        }
        Ok(())
    }
}

/// CSV records (RFC 4180, ended by LF). A struct's field names become the header of each file; tuples
/// have none.
#[derive(Clone, Copy, Debug)]
pub struct CsvEncoder {
    pub(super) delimiter: u8,
    pub(super) header: bool,
}

impl Default for CsvEncoder {
    fn default() -> Self {
        Self {
            delimiter: b',',
            header: true,
        }
    }
}

impl<T: Serialize> Encoder<T> for CsvEncoder {
    fn encode(&self, records: &[T], first: bool, out: &mut Vec<u8>) -> Result<()> {
        let mut builder = csv::WriterBuilder::new();
        builder
            .delimiter(self.delimiter)
            .has_headers(self.header && first);
        let mut writer = builder.from_writer(std::mem::take(out));
        let written = records.iter().try_for_each(|record| writer.serialize(record));
        written.map_err(|e| cannot_write::<T>("CSV").because(e))?;
        *out = writer
            .into_inner()
            .map_err(|e| cannot_write::<T>("CSV").because(e.into_error()))?;
        Ok(())
    }
}

fn cannot_write<T>(format: &str) -> Error {
    Error::user(format!(
        "cannot write a record of type {} as {format}",
        std::any::type_name::<T>()
    ))
}
