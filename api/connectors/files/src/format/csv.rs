//! Comma-separated values (RFC 4180).

use super::{Decoded, Decoder, Format, Reason};
use crate::frame::{Framing, leaves_quote_open};
use ::csv::ByteRecord;
use csv_core::ReadRecordResult;
use hurtig_core::str::Block;
use hurtig_core::{Error, Result};
use memchr::memchr;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

/// CSV records of a type that serde can read: a struct whose fields are found by the header's names,
/// or a struct or tuple in the order of the columns when there is no header. Empty lines and a byte
/// order mark are skipped; a record ends with LF or CR LF.
pub struct Csv<T> {
    pub(crate) delimiter: u8,
    pub(crate) header: bool,
    pub(crate) one_line: bool,
    record: PhantomData<fn() -> T>,
}

impl<T> Csv<T> {
    pub(crate) fn new() -> Self {
        Self {
            delimiter: b',',
            header: true,
            one_line: false,
            record: PhantomData,
        }
    }
}

impl<T> Clone for Csv<T> {
    fn clone(&self) -> Self {
        Self {
            record: PhantomData,
            ..*self
        }
    }
}

impl<T> fmt::Debug for Csv<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Csv<{}>", std::any::type_name::<T>())
    }
}

impl<T: DeserializeOwned + Send + 'static> Format for Csv<T> {
    type Record = T;
    type Decoder = CsvDecoder;

    fn framing(&self) -> Framing {
        if self.one_line {
            Framing::Lines
        } else {
            Framing::Quoted {
                delimiter: self.delimiter,
            }
        }
    }

    fn decoder(&self) -> CsvDecoder {
        CsvDecoder::new(self.delimiter, self.one_line)
    }

    fn has_header(&self) -> bool {
        self.header
    }

    fn validate(&self) -> Result<()> {
        if matches!(self.delimiter, b'"' | b'\n' | b'\r') {
            let text =
                "the delimiter of a CSV source must not be a quote or a line end; use ',', ';' or a tab";
            return Err(Error::user(text));
        }
        Ok(())
    }
}

/// Cuts records into fields and fields into values. Its buffers are used again for each record.
#[derive(Debug)]
pub struct CsvDecoder {
    parser: csv_core::Reader,
    delimiter: u8,
    /// Records were cut at line ends, without regard to quotes.
    one_line: bool,
    header: Option<ByteRecord>,
    record: ByteRecord,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl CsvDecoder {
    fn new(delimiter: u8, one_line: bool) -> Self {
        let mut builder = csv_core::ReaderBuilder::new();
        let parser = builder
            .delimiter(delimiter)
            .terminator(csv_core::Terminator::Any(b'\n'))
            .build();
        Self {
            parser,
            delimiter,
            one_line,
            header: None,
            record: ByteRecord::new(),
            text: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Cuts one record without its line end, and without a byte order mark, into `self.record`.
    fn cut(&mut self, mut bytes: &[u8]) {
        self.parser.reset();
        self.record.clear();
        self.text.resize(bytes.len().max(self.text.len()), 0);
        let (mut filled, mut fields) = (0, 0);
        loop {
            let (text, ends) = (&mut self.text[filled..], &mut self.ends[fields..]);
            let (result, read, written, ended) = self.parser.read_record(bytes, text, ends);
            bytes = &bytes[read..];
            filled += written;
            fields += ended;
            match result {
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2 + 16, 0),
                // Unquoted text is never longer than its quoted form, for which there is room.
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2 + 16, 0),
                // An empty input tells the parser that the record ends.
                ReadRecordResult::InputEmpty => bytes = &[],
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        let mut from = 0;
        for &end in &self.ends[..fields] {
            self.record.push_field(&self.text[from..end]);
            from = end;
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> for CsvDecoder {
    fn begin(&mut self, header: Option<&[u8]>) {
        self.header = header.map(|bytes| {
            self.cut(bytes);
            self.record.clone()
        });
    }

    fn decode(&mut self, block: &Block, range: Range<usize>) -> Decoded<T> {
        if range.is_empty() {
            return Decoded::Nothing;
        }
        let bytes = &block[range];
        if self.one_line && memchr(b'"', bytes).is_some() && leaves_quote_open(bytes, self.delimiter) {
            return Decoded::Malformed(Reason::OpenQuote);
        }
        self.cut(bytes);
        if let Some(header) = &self.header
            && header.len() != self.record.len()
        {
            let (record, header) = (self.record.len(), header.len());
            return Decoded::Malformed(Reason::FieldCount { record, header });
        }
        match self.record.deserialize(self.header.as_ref()) {
            Ok(record) => Decoded::Record(record),
            Err(e) => Decoded::Malformed(Reason::Csv(e)),
        }
    }
}
