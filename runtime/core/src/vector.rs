//! Loops over columns of numbers for processors with vectors of 512 bits (AVX-512), found out at run time.
//!
//! A few loops of the record path are so simple that a processor that takes eight numbers at a time runs them several
//! times faster, and the compiler's target does not know it. Whoever has such a loop asks for [`Vectors`], and has a
//! plain one for processors without.

#[cfg(target_arch = "x86_64")]
use crate::key::group_selector;
#[cfg(target_arch = "x86_64")]
use pulp::x86::V4 as Token;

/// The processor has such vectors.
#[derive(Clone, Copy, Debug)]
pub struct Vectors {
    #[cfg(target_arch = "x86_64")]
    token: Token,
    #[cfg(not(target_arch = "x86_64"))]
    never: std::convert::Infallible,
}

/// Numbers that loops compute at a time, in eight vectors.
///
/// On some processors a 64-bit vector multiplication waits for what its destination held before, as if it added to it.
/// A loop that goes through one register then takes as long as its multiplications one after the other (3.0 against
/// 0.55 ns for a number of splitmix64), and the compiler does not unroll a long one by itself.
pub const WIDE: usize = 64;
/// Places that are listed at a time; also how much room [`Vectors::split_places`] needs behind them.
pub const PLACES: usize = 16;

#[cfg(target_arch = "x86_64")]
impl Vectors {
    /// Whether the processor has them. Cheap: it is found out once.
    #[inline]
    #[must_use]
    pub fn get() -> Option<Self> {
        Token::try_new().map(|token| Self { token })
    }

    /// Runs `work`, compiled for these vectors; what it calls is so only when it is inlined.
    #[inline]
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        self.token.vectorize(work)
    }

    /// Lists the places of records for whose hash the selector (see [`group_selector`]) is below `bound` in `zeros`, and
    /// those of the others, whose number it returns, in `ones`. `hash` is compiled for these vectors too.
    ///
    /// # Panics
    /// When a list has no room for one place for each record and [`PLACES`] more.
    #[inline]
    #[must_use]
    pub fn split_places<R>(
        self,
        records: &[R],
        hash: impl Fn(&R) -> u64,
        bound: u32,
        (zeros, ones): (&mut [u32], &mut [u32]),
    ) -> usize {
        let room = records.len() + PLACES;
        assert!(
            zeros.len() >= room && ones.len() >= room,
            "the lists are too short"
        );
        self.token.vectorize(Split {
            token: self.token,
            records,
            hash,
            bound,
            zeros,
            ones,
        })
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Vectors {
    /// Whether the processor has them.
    #[inline]
    #[must_use]
    pub fn get() -> Option<Self> {
        None
    }

    /// Never called.
    pub fn run<R>(self, _: impl FnOnce() -> R) -> R {
        match self.never {}
    }

    /// Never called.
    #[must_use]
    pub fn split_places<R>(
        self,
        _: &[R],
        _: impl Fn(&R) -> u64,
        _: u32,
        _: (&mut [u32], &mut [u32]),
    ) -> usize {
        match self.never {}
    }
}

#[cfg(target_arch = "x86_64")]
struct Split<'a, R, H> {
    token: Token,
    records: &'a [R],
    hash: H,
    bound: u32,
    zeros: &'a mut [u32],
    ones: &'a mut [u32],
}

#[cfg(target_arch = "x86_64")]
impl<R, H: Fn(&R) -> u64> pulp::NullaryFnOnce for Split<'_, R, H> {
    type Output = usize;

    #[inline(always)]
    fn call(self) -> usize {
        let simd = self.token.avx512f;
        // A selector is bits 16 to 47 of its hash: shifted to the top, and what is below them does not decide.
        let bound = simd._mm512_set1_epi64((u64::from(self.bound) << 32) as i64);
        let at_least = |hashes: [u64; 8]| {
            let selectors = simd._mm512_slli_epi64::<16>(pulp::cast(hashes));
            simd._mm512_cmpge_epu64_mask(selectors, bound)
        };
        let mut places: [u32; PLACES] = std::array::from_fn(|i| i as u32);
        let (mut before, mut second) = (0, 0);
        let (wide, rest) = self.records.as_chunks::<WIDE>();
        for records in wide {
            let hashes: [u64; WIDE] = std::array::from_fn(|i| (self.hash)(&records[i]));
            // Not a function of its own: that would be compiled without vectors.
            for hashes in hashes.as_chunks::<PLACES>().0 {
                let [low, high]: [[u64; 8]; 2] = pulp::cast(*hashes);
                let ones = u16::from(at_least(low)) | (u16::from(at_least(high)) << 8);
                let all = pulp::cast(places);
                let zeros_here: [u32; PLACES] = pulp::cast(simd._mm512_maskz_compress_epi32(!ones, all));
                let ones_here: [u32; PLACES] = pulp::cast(simd._mm512_maskz_compress_epi32(ones, all));
                // What stands behind the places that count is overwritten by the next, or means nothing.
                self.zeros[before - second..][..PLACES].copy_from_slice(&zeros_here);
                self.ones[second..][..PLACES].copy_from_slice(&ones_here);
                before += PLACES;
                second += ones.count_ones() as usize;
                places = places.map(|place| place + PLACES as u32);
            }
        }
        for (record, place) in rest.iter().zip(before as u32..) {
            self.zeros[before - second] = place;
            self.ones[second] = place;
            second += usize::from(group_selector((self.hash)(record)) >= self.bound);
            before += 1;
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(target_arch = "x86_64"))]
    use crate::key::group_selector;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_listed_by_selector_in_order(
            hashes in prop::collection::vec(any::<u64>(), 0..4 * WIDE),
            bound in prop_oneof![any::<u32>(), Just(0), Just(u32::MAX), Just(1 << 31)],
            equal in any::<bool>(),
        ) {
            let Some(vectors) = Vectors::get() else { return Ok(()) };
            // A selector that is the bound itself is what an error by one would be about.
            let bound = if equal { hashes.first().map_or(bound, |&hash| group_selector(hash)) } else { bound };
            let mut lists = [vec![7; hashes.len() + PLACES], vec![7; hashes.len() + PLACES]];
            let [zeros, ones] = &mut lists;
            // A record that its hash is made of, and something that is not.
            let records: Vec<(u64, bool)> = hashes.iter().map(|&hash| (hash ^ 5, true)).collect();
            let second = vectors.split_places(&records, |record| record.0 ^ 5, bound, (zeros, ones));
            let places = |wanted| -> Vec<u32> {
                let at = |&place: &usize| (group_selector(hashes[place]) >= bound) == wanted;
                (0..hashes.len()).filter(at).map(|place| place as u32).collect()
            };
            prop_assert_eq!(&ones[..second], places(true));
            prop_assert_eq!(&zeros[..hashes.len() - second], places(false));
        }
    }

    #[test]
    fn work_runs() {
        if let Some(vectors) = Vectors::get() {
            assert_eq!(vectors.run(|| 6 * 7), 42);
        }
    }
}
