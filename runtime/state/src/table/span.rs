//! Which hashes a table is responsible for, and where they lie in key-group order.

use hurtig_core::key::{MAX_KEY_GROUPS, key_group};
use std::ops::Range;

/// The hashes of some adjacent key groups, numbered from 0 in key-group order.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// The first hash of the first group, turned so that the bits which choose a group are highest.
    first: u64,
    /// Distance from the first to the last hash.
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

    /// The largest offset.
    pub(super) fn width(&self) -> u64 {
        self.width
    }

    /// A hash's place in key-group order; beyond [`Self::width`] when it belongs to other groups.
    #[inline]
    pub(super) fn offset(&self, hash: u64) -> u64 {
        hash.rotate_left(16).wrapping_sub(self.first)
    }

    /// The key group of a hash.
    #[inline]
    pub(super) fn group_of(&self, hash: u64) -> u16 {
        // Group numbers are below 2^15.
        key_group(hash, self.max_parallelism).get() as u16
    }

    /// Refuses hashes of other groups: another subtask's key would be lost.
    #[inline]
    pub(super) fn check(&self, hash: u64) {
        if self.offset(hash) > self.width {
            self.foreign(hash);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn foreign(&self, hash: u64) -> ! {
        panic!(
            "a key of group {} reached state of groups {:?} (max parallelism {}): it was sent to the wrong subtask",
            key_group(hash, self.max_parallelism),
            self.groups,
            self.max_parallelism
        )
    }
}
