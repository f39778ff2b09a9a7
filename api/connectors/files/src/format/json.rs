//! JSON lines.

use super::{Decoded, Decoder, Format, Reason, without_bom};
use crate::frame::Framing;
use hurtig_core::str::Block;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

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
    fn decode(&mut self, block: &Block, range: Range<usize>, _offset: u64) -> Decoded<T> {
        let line = &block[without_bom(block, range)];
        if line.trim_ascii().is_empty() {
            return Decoded::Nothing;
        }
        match serde_json::from_slice(line) {
            Ok(record) => Decoded::Record(record),
            Err(e) => Decoded::Malformed(Reason::Json(e)),
        }
    }
}
