//! JSON lines.

use super::{Decoded, Decoder, Format, Reason};
use crate::frame::Framing;
use hurtig_core::str::Block;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

const BOM: &[u8] = "\u{feff}".as_bytes();

/// One JSON value a line, of a type that serde can read. Lines of white space only are skipped, and
/// so is a byte order mark.
pub struct JsonLines<T> {
    record: PhantomData<fn() -> T>,
}

impl<T> JsonLines<T> {
    pub(crate) fn new() -> Self {
        Self { record: PhantomData }
    }
}

impl<T> Clone for JsonLines<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for JsonLines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonLines<{}>", std::any::type_name::<T>())
    }
}

impl<T: DeserializeOwned + Send + 'static> Format for JsonLines<T> {
    type Record = T;
    type Decoder = Self;

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn decoder(&self) -> Self {
        Self::new()
    }
}

impl<T: DeserializeOwned> Decoder<T> for JsonLines<T> {
    #[inline]
    fn decode(&mut self, block: &Block, range: Range<usize>) -> Decoded<T> {
        let line = &block[range];
        let line = line.strip_prefix(BOM).unwrap_or(line);
        if line.trim_ascii().is_empty() {
            return Decoded::Nothing;
        }
        match serde_json::from_slice(line) {
            Ok(record) => Decoded::Record(record),
            Err(e) => Decoded::Malformed(Reason::Json(e)),
        }
    }
}
