//! Which segment holds an offset: extendible hashing over the offsets of a [`Span`].

use super::span::Span;
use hurtig_core::key::hash_int;

/// The directory may have this many places for each segment before skewed keys stop its growth,
const PLACES_PER_SEGMENT: usize = 16;
/// and this many in any case.
const FREE_PLACES: usize = 64;

/// The offsets of a segment: `1 << bits` from `first` on; `bits` is from 0 to 64.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: u64,
    bits: u32,
}

/// For each stretch of `1 << shift` offsets the number of the segment that holds them.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    places: Vec<u32>,
    shift: u32,
    segments: Vec<Stretch>,
}

impl Directory {
    /// All offsets are in segment 0.
    pub(super) fn new(span: &Span) -> Self {
        // One place would need a shift by 64 when the span is wide.
        let shift = u64::BITS - 1;
        let places = vec![0; (span.width() >> shift) as usize + 1];
        let bits = u64::BITS;
        Self {
            places,
            shift,
            segments: vec![Stretch { first: 0, bits }],
        }
    }

    /// The segment of an offset; `None` for one that is far outside of the span.
    #[inline]
    pub(super) fn segment(&self, offset: u64) -> Option<usize> {
        self.places
            .get((offset >> self.shift) as usize)
            .map(|&segment| segment as usize)
    }

    /// At how many entries a segment is split, when it has room for `most`: each at another share of it,
    /// from five to eight eighths. Keys spread evenly, so that all segments would be full at about the
    /// same time, and a table of 10 M keys would split 2,000 of them within a fraction of a second.
    pub(super) fn limit(&self, segment: usize, most: usize) -> usize {
        if self.segments.len() == 1 {
            return most;
        }
        let Stretch { first, bits } = self.segments[segment];
        let share = 5 + (hash_int(first ^ u64::from(bits)) & 3) as usize;
        most / 8 * share
    }

    /// Divides a segment: offsets from what is returned on are in a new segment behind all others. `None`
    /// when it has one offset, or when skewed keys would make the directory grow out of proportion.
    pub(super) fn split(&mut self, span: &Span, segment: usize) -> Option<u64> {
        let Stretch { first, bits } = self.segments[segment];
        let bits = bits.checked_sub(1)?;
        let boundary = first + (1 << bits);
        if boundary > span.width() {
            // No offset is in the upper half.
            self.segments[segment].bits = bits;
            return self.split(span, segment);
        }
        if !self.refine(span, bits) {
            return None;
        }
        self.segments[segment].bits = bits;
        // Far fewer than 2^32: a segment holds dozens of entries.
        let upper = self.segments.len() as u32;
        self.segments.push(Stretch {
            first: boundary,
            bits,
        });
        let from = (boundary >> self.shift) as usize;
        let to = (from + (1 << (bits - self.shift))).min(self.places.len());
        self.places[from..to].fill(upper);
        Some(boundary)
    }

    /// Makes places as short as `1 << bits`, if they do not become too many.
    fn refine(&mut self, span: &Span, bits: u32) -> bool {
        let most = FREE_PLACES.max(self.segments.len() * PLACES_PER_SEGMENT);
        while self.shift > bits {
            if self.places.len() * 2 > most {
                return false;
            }
            self.shift -= 1;
            let len = (span.width() >> self.shift) as usize + 1;
            self.places = (0..len).map(|i| self.places[i / 2]).collect();
        }
        true
    }

    /// The segments in the order of their offsets.
    pub(super) fn in_order(&self) -> impl Iterator<Item = usize> {
        self.places
            .chunk_by(|a, b| a == b)
            .filter_map(|same| same.first().map(|&segment| segment as usize))
    }

    pub(super) fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<u32>() + self.segments.capacity() * size_of::<Stretch>()
    }
}
