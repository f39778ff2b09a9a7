//! Where a hash belongs: its tag, its key group and its home bucket.

use hurtig_core::key::{MAX_KEY_GROUPS, key_group};
use std::num::NonZeroU64;
use std::ops::Range;

/// A hash turned left by 16 bits, so that the bits which choose the key group are the highest.
///
/// Tags sort by key group first, and their order decides the order of slots. Zero marks an empty
/// slot, so the hash whose tag would be zero shares the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(NonZeroU64);

impl Tag {
    #[inline]
    pub(super) fn of(hash: u64) -> Self {
        Self(NonZeroU64::new(hash.rotate_left(16)).unwrap_or(NonZeroU64::MIN))
    }

    #[inline]
    pub(super) fn get(self) -> u64 {
        self.0.get()
    }

    /// The hash again (that of a zero tag comes back as the hash it shares).
    #[inline]
    pub(super) fn hash(self) -> u64 {
        self.get().rotate_right(16)
    }
}

/// The tags that a table's key groups cover, and how they spread over buckets.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// The first tag of the first group.
    first: u64,
    /// Distance from the first to the last tag.
    width: u64,
    groups: Range<u16>,
    max_parallelism: u32,
}

impl Span {
    pub(super) fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        assert!(
            (1..=MAX_KEY_GROUPS).contains(&max_parallelism),
            "max parallelism {max_parallelism} is not in 1..={MAX_KEY_GROUPS}"
        );
        assert!(
            groups.start < groups.end && u32::from(groups.end) <= max_parallelism,
            "key groups {groups:?} are empty or beyond max parallelism {max_parallelism}"
        );
        let boundary = |group: u16| (u128::from(group) << 32).div_ceil(u128::from(max_parallelism)) << 32;
        let (first, end) = (boundary(groups.start), boundary(groups.end));
        // `first` < 2^64, and `end` <= 2^64 is at least one group (2^49) above it.
        Self {
            first: first as u64,
            width: (end - first - 1) as u64,
            groups,
            max_parallelism,
        }
    }

    pub(super) fn groups(&self) -> Range<u16> {
        self.groups.clone()
    }

    pub(super) fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// The factor that spreads the span evenly over `buckets`.
    pub(super) fn scale(&self, buckets: usize) -> u64 {
        // At most 2^49 buckets fit the narrowest span; the quotient then is below 2^64.
        (((buckets as u128) << 64) / (u128::from(self.width) + 1)).min(u128::from(u64::MAX)) as u64
    }

    /// The home bucket of a tag in an array with `scale`: a monotone map.
    #[inline]
    pub(super) fn home(&self, tag: Tag, scale: u64) -> usize {
        let offset = tag.get().wrapping_sub(self.first);
        ((u128::from(offset) * u128::from(scale)) >> 64) as usize
    }

    /// The tag of a hash, which must belong to the groups: another subtask's key would be lost.
    #[inline]
    pub(super) fn tag(&self, hash: u64) -> Tag {
        let tag = Tag::of(hash);
        if tag.get().wrapping_sub(self.first) > self.width {
            self.foreign(hash);
        }
        tag
    }

    #[cold]
    #[inline(never)]
    fn foreign(&self, hash: u64) -> ! {
        panic!(
            "a key of group {} reached state of groups {:?} (max parallelism {}): it was sent to the wrong subtask",
            key_group(hash, self.max_parallelism),
            self.groups,
            self.max_parallelism
        )
    }
}
