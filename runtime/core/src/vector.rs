//! Loops over columns of numbers for processors with vectors of 512 bits (AVX-512), found out at run time.
//!
//! A few loops of the record path are so simple that a processor that takes eight numbers at a time runs them several
//! times faster, and the compiler's target does not know it. Whoever has such a loop asks for [`Vectors`], and has a
//! plain one for processors without.

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

    /// Lists the places of hashes whose selector (see [`group_selector`](crate::key::group_selector)) is below `bound`
    /// in `zeros`, and those of the others, whose number it returns, in `ones`. Takes [`PLACES`] hashes at a time;
    /// those behind the last whole sixteen are left out.
    ///
    /// # Panics
    /// When a list has no room for one place for each hash and [`PLACES`] more.
    #[inline]
    #[must_use]
    pub fn split_places(self, hashes: &[u64], bound: u32, zeros: &mut [u32], ones: &mut [u32]) -> usize {
        let room = hashes.len() + PLACES;
        assert!(
            zeros.len() >= room && ones.len() >= room,
            "the lists are too short"
        );
        self.token.vectorize(Split {
            token: self.token,
            hashes,
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
    pub fn split_places(self, _: &[u64], _: u32, _: &mut [u32], _: &mut [u32]) -> usize {
        match self.never {}
    }
}

#[cfg(target_arch = "x86_64")]
struct Split<'a> {
    token: Token,
    hashes: &'a [u64],
    bound: u32,
    zeros: &'a mut [u32],
    ones: &'a mut [u32],
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for Split<'_> {
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
        for hashes in self.hashes.as_chunks::<PLACES>().0 {
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
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::group_selector;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_listed_by_selector_in_order(
            hashes in prop::collection::vec(any::<u64>(), 0..200),
            bound in prop_oneof![any::<u32>(), Just(0), Just(u32::MAX), Just(1 << 31)],
            equal in any::<bool>(),
        ) {
            let Some(vectors) = Vectors::get() else { return Ok(()) };
            // A selector that is the bound itself is what an error by one would be about.
            let bound = if equal { hashes.first().map_or(bound, |&hash| group_selector(hash)) } else { bound };
            let mut lists = [vec![7; hashes.len() + PLACES], vec![7; hashes.len() + PLACES]];
            let [zeros, ones] = &mut lists;
            let second = vectors.split_places(&hashes, bound, zeros, ones);
            let whole = hashes.len() / PLACES * PLACES;
            let places = |wanted| -> Vec<u32> {
                let at = |&place: &usize| (group_selector(hashes[place]) >= bound) == wanted;
                (0..whole).filter(at).map(|place| place as u32).collect()
            };
            prop_assert_eq!(&ones[..second], places(true));
            prop_assert_eq!(&zeros[..whole - second], places(false));
        }
    }

    #[test]
    fn work_runs() {
        if let Some(vectors) = Vectors::get() {
            assert_eq!(vectors.run(|| 6 * 7), 42);
        }
    }
}
