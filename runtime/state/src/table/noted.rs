//! Which buckets a scan needs no image of any more.

/// How many buckets a word tells of.
pub(super) const WORD: usize = u64::BITS as usize;

/// A bit for each bucket that a table had when a scan of it began, in one stretch of memory: to look a bucket up takes
/// two loads and no branch, so that many look-ups overlap.
#[derive(Debug)]
pub(super) struct Noted {
    /// The first word is all ones and belongs to the segments of which nothing is needed any more.
    words: Vec<u64>,
    /// By segment; those beyond were made since.
    places: Vec<Place>,
}

/// Where a segment's bits are.
#[derive(Clone, Copy, Debug)]
struct Place {
    first: usize,
    /// All ones; zero if each bucket has the bits of the first word.
    mask: usize,
}

impl Place {
    /// Of a segment of which nothing is needed any more.
    const COMPLETE: Self = Self { first: 0, mask: 0 };
}

impl Noted {
    /// Nothing is noted of segments with so many buckets.
    ///
    /// *Cost*: memory that comes zeroed.
    pub(super) fn new(buckets: impl Iterator<Item = usize>) -> Self {
        let mut end = 1;
        let place = |buckets: usize| {
            let first = end;
            end += buckets.div_ceil(WORD);
            Place {
                first,
                mask: usize::MAX,
            }
        };
        let places: Vec<Place> = buckets.map(place).collect();
        let mut words = vec![0; end];
        words[0] = u64::MAX;
        Self { words, places }
    }

    #[inline(always)]
    fn word(&self, at: usize, bucket: usize) -> usize {
        let place = self.places.get(at).copied().unwrap_or(Place::COMPLETE);
        place.first + ((bucket / WORD) & place.mask)
    }

    /// Notes that a bucket needs no image from now on. False when it had needed none before.
    #[inline(always)]
    pub(super) fn note(&mut self, at: usize, bucket: usize) -> bool {
        let word = self.word(at, bucket);
        let word = &mut self.words[word];
        let bit = 1 << (bucket % WORD);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// A bit for each bucket that is not noted, of [`WORD`] buckets from one on whose number is a multiple of that.
    pub(super) fn unnoted(&self, at: usize, bucket: usize) -> u64 {
        !self.words[self.word(at, bucket)]
    }

    /// Whether a bucket needs no image.
    #[inline(always)]
    pub(super) fn is_noted(&self, at: usize, bucket: usize) -> bool {
        self.words[self.word(at, bucket)] & 1 << (bucket % WORD) != 0
    }

    /// Notes all buckets of a segment, however many it will have.
    pub(super) fn complete(&mut self, at: usize) {
        self.places[at] = Place::COMPLETE;
    }

    /// Whether some buckets of a segment may need images.
    pub(super) fn is_pending(&self, at: usize) -> bool {
        self.places.get(at).is_some_and(|place| place.mask != 0)
    }
}
