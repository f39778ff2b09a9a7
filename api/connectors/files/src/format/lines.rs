//! Text lines.

use super::{Decoded, Decoder, Format, Reason};
use crate::frame::Framing;
use hurtig_core::str::{Block, Str};
use std::ops::Range;

/// Text: a record is a line of UTF-8, without LF or CR LF. Empty lines are records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl Format for Lines {
    type Record = Str;
    type Decoder = Lines;

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn decoder(&self) -> Lines {
        Lines
    }
}

impl Decoder<Str> for Lines {
    #[inline]
    fn decode(&mut self, block: &Block, range: Range<usize>) -> Decoded<Str> {
        match Str::from_block(block, range) {
            Ok(line) => Decoded::Record(line),
            Err(e) => Decoded::Malformed(Reason::Utf8(e)),
        }
    }
}
