//! Key groups: the unit in which keyed state is assigned to subtasks and moves between them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most key groups a job may have, and so its greatest parallelism.
pub const MAX_KEY_GROUPS: u32 = 32_768;

/// The fewest key groups a job gets by default, so that small jobs can grow.
const MIN_DEFAULT_KEY_GROUPS: u32 = 128;

/// One of a job's `max_parallelism` key groups, counted from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroup(u16);

impl KeyGroup {
    /// The key group with this number.
    ///
    /// # Panics
    ///
    /// When `number` is not below [`MAX_KEY_GROUPS`].
    #[inline]
    #[must_use]
    pub const fn new(number: u32) -> Self {
        assert!(number < MAX_KEY_GROUPS, "key group numbers are below 32768");
        Self(number as u16)
    }

    /// Its number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// Its number as an index.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its bytes in the key of a store: two, big-endian, so that groups are stored in order.
    #[inline]
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The key group of a key with this [stable hash](super::StableKey::stable_hash).
///
/// Bits 16 to 47 of the hash choose the group; the low bits stay free for a table's buckets and the
/// highest seven for its tags, so that keys of one group do not crowd one part of its table.
///
/// # Panics
///
/// In debug builds, when `max_parallelism` is zero or above [`MAX_KEY_GROUPS`].
#[inline]
#[must_use]
pub const fn key_group(stable_hash: u64, max_parallelism: u32) -> KeyGroup {
    debug_assert!(0 < max_parallelism && max_parallelism <= MAX_KEY_GROUPS);
    let selector = group_selector(stable_hash) as u64;
    KeyGroup(((selector * max_parallelism as u64) >> 32) as u16)
}

/// The bits of a hash that choose its key group, in the order of groups.
#[inline]
#[must_use]
pub const fn group_selector(stable_hash: u64) -> u32 {
    (stable_hash >> 16) as u32
}

/// The smallest [`group_selector`] of a group's hashes.
///
/// # Panics
///
/// In debug builds, when `group` is not one of `max_parallelism`.
#[inline]
#[must_use]
pub const fn first_selector(group: KeyGroup, max_parallelism: u32) -> u32 {
    debug_assert!(group.get() < max_parallelism && max_parallelism <= MAX_KEY_GROUPS);
    ((group.0 as u64) << 32).div_ceil(max_parallelism as u64) as u32
}

/// The subtask that owns `group`; the inverse of [`KeyGroupRange::of_subtask`].
///
/// # Panics
///
/// In debug builds, when `group` is not one of `max_parallelism`.
#[inline]
#[must_use]
pub const fn subtask_of_group(group: KeyGroup, parallelism: u32, max_parallelism: u32) -> u32 {
    debug_assert!(group.get() < max_parallelism && parallelism <= max_parallelism);
    (group.0 as u64 * parallelism as u64 / max_parallelism as u64) as u32
}

/// The key groups of a vertex whose maximum is not set: one and a half times its parallelism,
/// rounded up to a power of two, at least 128 and at most 32768. It is frozen with the first
/// snapshot, because it decides every key's group.
#[must_use]
pub const fn default_max_parallelism(parallelism: u32) -> u32 {
    if parallelism >= MAX_KEY_GROUPS {
        return MAX_KEY_GROUPS;
    }
    let wanted = (parallelism + parallelism / 2).next_power_of_two();
    if wanted < MIN_DEFAULT_KEY_GROUPS {
        MIN_DEFAULT_KEY_GROUPS
    } else if wanted > MAX_KEY_GROUPS {
        MAX_KEY_GROUPS
    } else {
        wanted
    }
}

/// A run of key groups, first and last included. It is never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyGroupRange {
    first: KeyGroup,
    last: KeyGroup,
}

impl KeyGroupRange {
    /// The groups from `first` to `last`, both included.
    ///
    /// # Panics
    ///
    /// When `first` is greater than `last`.
    #[must_use]
    pub const fn new(first: KeyGroup, last: KeyGroup) -> Self {
        assert!(first.0 <= last.0, "a key group range is not empty");
        Self { first, last }
    }

    /// Every group of a job.
    ///
    /// # Panics
    ///
    /// When `max_parallelism` is zero or above [`MAX_KEY_GROUPS`].
    #[must_use]
    pub const fn all(max_parallelism: u32) -> Self {
        Self::of_subtask(0, 1, max_parallelism)
    }

    /// The groups that subtask `subtask` of `parallelism` owns: from `ceil(i·m/p)` to
    /// `ceil((i+1)·m/p) - 1`. The ranges of a vertex's subtasks cover all groups without overlap and
    /// differ in length by at most one.
    ///
    /// # Panics
    ///
    /// Unless `subtask < parallelism <= max_parallelism <= `[`MAX_KEY_GROUPS`].
    #[must_use]
    pub const fn of_subtask(subtask: u32, parallelism: u32, max_parallelism: u32) -> Self {
        assert!(
            subtask < parallelism,
            "a subtask's index is below the parallelism"
        );
        assert!(
            parallelism <= max_parallelism,
            "the parallelism is at most the maximum"
        );
        assert!(max_parallelism <= MAX_KEY_GROUPS, "at most 32768 key groups");
        let (i, p, m) = (subtask as u64, parallelism as u64, max_parallelism as u64);
        let first = (i * m).div_ceil(p);
        let last = ((i + 1) * m).div_ceil(p) - 1;
        Self::new(KeyGroup::new(first as u32), KeyGroup::new(last as u32))
    }

    /// Its first group.
    #[inline]
    #[must_use]
    pub const fn first(self) -> KeyGroup {
        self.first
    }

    /// Its last group.
    #[inline]
    #[must_use]
    pub const fn last(self) -> KeyGroup {
        self.last
    }

    /// How many groups it has; at least one.
    #[allow(clippy::len_without_is_empty, reason = "a range is never empty")]
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.last.index() - self.first.index() + 1
    }

    /// Whether `group` is one of them.
    #[inline]
    #[must_use]
    pub const fn contains(self, group: KeyGroup) -> bool {
        self.first.0 <= group.0 && group.0 <= self.last.0
    }

    /// The place of `group` within the range, counted from zero; `None` when it is not in it.
    #[inline]
    #[must_use]
    pub const fn position(self, group: KeyGroup) -> Option<usize> {
        if self.contains(group) {
            Some(group.index() - self.first.index())
        } else {
            None
        }
    }

    /// The groups that both ranges have.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        (first <= last).then(|| Self::new(first, last))
    }

    /// Its groups in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = KeyGroup> + ExactSizeIterator {
        (self.first.0..=self.last.0).map(KeyGroup)
    }
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}
