//! Mapping whole batches: half of the memory is touched when records become others in their places.

use std::alloc::Layout;

/// Whether the standard library collects mapped records where they were.
#[inline]
pub(super) const fn maps_in_place<S, T>() -> bool {
    let (from, to) = (Layout::new::<S>(), Layout::new::<T>());
    from.size() == to.size() && from.align() == to.align()
}

/// Moves what `map` makes of `from` to `to`, which is empty, and the memory of `to` to `from`.
#[inline]
pub(super) fn exchange_mapped<S, T>(to: &mut Vec<T>, from: &mut Vec<S>, map: impl FnMut(S) -> T) {
    debug_assert!(to.is_empty(), "nothing to lose");
    let (spare, records) = (std::mem::take(to), std::mem::take(from));
    *to = records.into_iter().map(map).collect();
    *from = spare.into_iter().map_while(|_| None).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_exchanged() {
        let mut from: Vec<u64> = (0..10).collect();
        let mut to: Vec<i64> = Vec::with_capacity(100);
        let (source, spare) = (from.as_ptr() as usize, to.as_ptr() as usize);
        exchange_mapped(&mut to, &mut from, |x| -(x as i64));
        assert_eq!(to, (0..10).map(|x: i64| -x).collect::<Vec<_>>());
        assert_eq!((to.as_ptr() as usize, from.as_ptr() as usize), (source, spare));
        assert!(from.is_empty() && from.capacity() == 100);
    }

    #[test]
    fn records_are_dropped_once() {
        let one = std::rc::Rc::new(());
        let mut from = vec![one.clone(), one.clone()];
        let mut to = Vec::new();
        exchange_mapped(&mut to, &mut from, Box::new);
        assert_eq!((to.len(), std::rc::Rc::strong_count(&one)), (2, 3));
    }
}
