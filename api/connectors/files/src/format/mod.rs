//! Formats: how the bytes of a record become a value.

mod csv;
mod json;
mod lines;

pub use csv::Csv;
pub use json::JsonLines;
pub use lines::Lines;

use crate::frame::Framing;
use hurtig_core::str::Block;
use std::fmt;
use std::ops::Range;

/// A format that files are written in: [`Lines`], [`Csv`], [`JsonLines`], or one of your own.
pub trait Format: Clone + Send + Sync + 'static {
    /// What a record becomes.
    type Record: Send + 'static;
    /// What makes it.
    type Decoder: Decoder<Self::Record> + 'static;

    /// Where records end.
    fn framing(&self) -> Framing;

    /// A decoder, one a reader.
    fn decoder(&self) -> Self::Decoder;

    /// Whether a file may be cut at any line end: no record holds one.
    fn splittable(&self) -> bool {
        self.framing() == Framing::Lines
    }

    /// Whether the first record that is not empty names the fields and is no record.
    fn has_header(&self) -> bool {
        false
    }

    /// Checks the format's options before the job starts.
    ///
    /// # Errors
    /// Says which option is wrong.
    fn validate(&self) -> hurtig_core::Result<()> {
        Ok(())
    }
}

/// Turns the bytes of one record after the other into values.
pub trait Decoder<T>: Send {
    /// A file, or a part of one, begins; `header` is its first record if the format has one.
    fn begin(&mut self, header: Option<&[u8]>) {
        let _ = header;
    }

    /// The record in `block[range]`, without its line end.
    fn decode(&mut self, block: &Block, range: Range<usize>) -> Decoded<T>;
}

/// What [`Decoder::decode`] made of some bytes.
#[derive(Debug)]
pub enum Decoded<T> {
    /// A record.
    Record(T),
    /// An empty line where the format has no empty records.
    Nothing,
    /// Not a record.
    Malformed(Reason),
}

/// Why some bytes are not a record.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// Not UTF-8.
    Utf8(std::str::Utf8Error),
    /// Not JSON, or not of the type that was asked for.
    Json(serde_json::Error),
    /// Fields that do not make the type that was asked for.
    Csv(::csv::Error),
    /// As many fields as the header does not have.
    FieldCount {
        /// Fields of the record.
        record: usize,
        /// Fields of the header.
        header: usize,
    },
    /// Longer than `source.max-record-bytes`.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A quote that no other quote closes.
    OpenQuote,
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Utf8(e) => write!(f, "not UTF-8: {e}"),
            Reason::Json(e) => write!(f, "not the expected JSON: {e}"),
            Reason::Csv(e) => write!(f, "not the expected CSV: {e}"),
            Reason::FieldCount { record, header } => {
                write!(f, "{record} fields where the header has {header}")
            }
            Reason::TooLong { limit } => write!(f, "longer than {limit} bytes (source.max-record-bytes)"),
            Reason::OpenQuote => f.write_str("a quoted field does not end"),
            Reason::Other(text) => f.write_str(text),
        }
    }
}
