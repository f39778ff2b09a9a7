//! Which segment holds an offset: extendible hashing over the offsets of a [`Span`].

use super::span::Span;

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

    /// At how many entries a segment is split, when it has room for `most`: the first at that many, the last
    /// at half of it. Keys spread evenly, so that all segments are equally full; with one limit for all, a
    /// table of 10 M keys would split 2,000 of them at about the same time. So they are split one after the
    /// other, from the last to the first, and again from the last: as evenly as keys come in.
    pub(super) fn limit(&self, span: &Span, segment: usize, most: usize) -> usize {
        // In units of 2^32 offsets, which are enough and leave room for the product.
        let (first, width) = (self.segments[segment].first >> 32, (span.width() >> 32) + 1);
        most - (most as u64 / 2 * first / width) as usize
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries lie as evenly as they can: each segment has its share of them.
    #[test]
    fn evenly_spread_entries_split_one_segment_after_the_other() {
        const MOST: usize = 1 << 10;
        let span = Span::new(0..64, 128);
        let mut directory = Directory::new(&span);
        let mut most_at_once = 0;
        // Each time as many come as half a segment holds: on average one split makes room for them. Some segments
        // have the same limit, because it is a whole number.
        for entries in (MOST..2_000 * MOST).step_by(MOST / 2) {
            let before = directory.segments.len();
            for segment in 0..before {
                let share = 2f64.powi(directory.segments[segment].bits as i32) / span.width() as f64;
                let len = (entries as f64 * share) as usize;
                if len >= directory.limit(&span, segment, MOST) {
                    directory
                        .split(&span, segment)
                        .expect("there is more than one offset");
                }
            }
            most_at_once = most_at_once.max(directory.segments.len() - before);
        }
        assert!((1..=8).contains(&most_at_once), "{most_at_once} splits at once");
        assert!((3_000..5_000).contains(&directory.segments.len()));
    }
}
