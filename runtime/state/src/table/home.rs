//! Having memory fetched before it is read.

use super::segment::{Slot, Slots};

/// Where a segment's tags begin, and how many buckets it has.
///
/// `hashbrown` does not tell, but a slot's address and number do: slots lie before the tags, the first one last. What is made of it is
/// only a hint, so that it may be of a segment that was moved since, and nothing depends on how `hashbrown` lays its tables out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Home {
    tags: usize,
    mask: usize,
}

impl Home {
    /// The home of a segment that has this slot in that bucket.
    #[inline(always)]
    pub(super) fn of<K, V>(segment: &Slots<K, V>, bucket: usize, slot: &Slot<K, V>) -> Self {
        Self {
            tags: address(slot).wrapping_add((bucket + 1) * size_of::<Slot<K, V>>()),
            mask: segment.num_buckets().wrapping_sub(1),
        }
    }

    /// Has the tags fetched that a look-up of this hash begins with.
    #[inline(always)]
    pub(super) fn prefetch(self, hash: u64) {
        prefetch(self.tags.wrapping_add(hash as usize & self.mask));
    }
}

/// Where a value lies.
#[inline(always)]
pub(super) fn address<T>(of: &T) -> usize {
    std::ptr::from_ref(of).addr()
}

/// The bytes of a cache's line on most processors.
const LINE: usize = 64;

/// Whether some of these lie in two lines, if they lie side by side.
#[inline(always)]
pub(super) const fn spans_lines<T>() -> bool {
    !LINE.is_multiple_of(size_of::<T>())
}

/// Has a line fetched into the cache; does nothing on processors without such an instruction that Rust has a name for.
///
/// A loop that reads instead waits: what it has read has to arrive before instructions behind it retire, and the processor only holds so
/// many.
#[inline(always)]
pub(super) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[allow(unsafe_code, reason = "it has no safe name, and decision 54 the measurement")]
        // SAFETY: the instruction changes nothing that a program sees, and takes any address, mapped or not.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::HashTable;
    use hurtig_core::key::hash_int;

    /// Otherwise nothing useful is fetched: `hashbrown` lays tables out in another way.
    #[test]
    fn all_slots_of_a_segment_tell_the_same_home_right_behind_them() {
        let mut segment: Slots<u64, u32> = HashTable::new();
        for key in 0..1_000 {
            segment.insert_unique(hash_int(key), Slot { key, value: 0 }, |slot| hash_int(slot.key));
        }
        let bucket = |key| {
            segment
                .find_bucket_index(hash_int(key), |slot| slot.key == key)
                .unwrap()
        };
        let home = |key| {
            let bucket = bucket(key);
            Home::of(&segment, bucket, segment.get_bucket(bucket).unwrap())
        };
        let first = home(0);
        assert_eq!(first.mask, 2_047);
        let size = size_of::<Slot<u64, u32>>();
        for key in 1..1_000 {
            assert_eq!(home(key).tags, first.tags);
            let slot = address(segment.get_bucket(bucket(key)).unwrap());
            assert!((first.tags - 2_048 * size..first.tags).contains(&slot));
        }
        // Where a look-up begins is not far from where it ends.
        let near = |key| {
            let begin = hash_int(key) as usize & first.mask;
            bucket(key).wrapping_sub(begin) & first.mask < 64
        };
        assert!((0..1_000).all(near));
    }
}
