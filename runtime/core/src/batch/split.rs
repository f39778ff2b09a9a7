//! Copying records to the end of one batch or another: the inner loop of an exchange between two.

use super::{Batch, TimeColumn};

/// Places that are written in one vector or another are taken so many at a time: they then need one check, and
/// the loop over them unrolls.
const CHUNK: usize = 8;

/// What [`Batch::append_split`] needs room for behind the records that it appends.
pub const SPLIT_MARGIN: usize = CHUNK;

impl<T: Clone> Batch<T> {
    /// Appends copies of the records at `from..from + hashes.len()` with these hashes, and their times, to the
    /// second of two batches if `is_second` says so of the hash, else to the first. No memory is allocated
    /// if each has room for all of them and [`SPLIT_MARGIN`] more.
    ///
    /// # Panics
    /// When there are fewer records.
    pub fn append_split(
        &mut self,
        from: usize,
        hashes: &[u64],
        is_second: impl Fn(u64) -> bool,
        to: [&mut Batch<T>; 2],
    ) {
        let columns = self.columns();
        let span = from..from + hashes.len();
        let records = &columns.records[span.clone()];
        let [first, second] = to;
        for batch in [&mut *first, &mut *second] {
            debug_assert_eq!(
                batch.hashes.len(),
                batch.consumed + batch.records.len(),
                "a batch has all hashes or none"
            );
            if batch.records.is_empty() {
                batch.clear();
                batch.hashes.reserve(batch.records.capacity());
            }
            batch.restore_order();
        }
        let ones = split(hashes, hashes, &is_second, &mut first.hashes, &mut second.hashes);
        let zeros = hashes.len() - ones;
        match columns.times {
            TimeColumn::All(_) => {
                first.times_behind(first.records.len(), &columns.times, zeros);
                second.times_behind(second.records.len(), &columns.times, ones);
            }
            TimeColumn::Each(times) => {
                let first = first.widened(first.records.len(), zeros);
                let second = second.widened(second.records.len(), ones);
                split(&times[span], hashes, &is_second, first, second);
            }
        }
        split(
            records,
            hashes,
            &is_second,
            &mut first.records,
            &mut second.records,
        );
    }
}

/// Appends each value to one of two vectors, as its hash says. Returns how many were appended to the second.
///
/// Each is written to where it would be in either, and one of the two positions advances: values alternate
/// at random, so that a branch would be mispredicted for every other one.
#[inline]
fn split<V: Clone>(
    values: &[V],
    hashes: &[u64],
    is_second: impl Fn(u64) -> bool,
    first: &mut Vec<V>,
    second: &mut Vec<V>,
) -> usize {
    let Some(any) = values.first() else { return 0 };
    let ends = [first.len(), second.len()];
    for vector in [&mut *first, &mut *second] {
        vector.resize(vector.len() + values.len() + CHUNK, any.clone());
    }
    let ones = write_split(
        values,
        hashes,
        is_second,
        [&mut first[ends[0]..], &mut second[ends[1]..]],
    );
    first.truncate(ends[0] + values.len() - ones);
    second.truncate(ends[1] + ones);
    ones
}

/// The same into slices with room for a chunk more than there are values.
#[inline]
fn write_split<V: Clone>(
    values: &[V],
    hashes: &[u64],
    is_second: impl Fn(u64) -> bool,
    [zeros, ones]: [&mut [V]; 2],
) -> usize {
    let ((value_chunks, rest), (hash_chunks, rest_hashes)) =
        (values.as_chunks::<CHUNK>(), hashes.as_chunks::<CHUNK>());
    let mut done = 0;
    for ((values, hashes), before) in value_chunks.iter().zip(hash_chunks).zip((0..).step_by(CHUNK)) {
        let (zeros, ones) = (&mut zeros[before - done..], &mut ones[done..]);
        let (Some(zeros), Some(ones)) = (zeros.first_chunk_mut::<CHUNK>(), ones.first_chunk_mut::<CHUNK>())
        else {
            unreachable!("there is room for a chunk behind every value");
        };
        let mut second = 0;
        for i in 0..CHUNK {
            // The remainders change nothing; the compiler sees from them that no check is needed.
            zeros[(i - second) % CHUNK] = values[i].clone();
            ones[second % CHUNK] = values[i].clone();
            second += usize::from(is_second(hashes[i]));
        }
        done += second;
    }
    let before = values.len() - rest.len();
    for ((value, hash), place) in rest.iter().zip(rest_hashes).zip(before..) {
        zeros[place - done] = value.clone();
        ones[done] = value.clone();
        done += usize::from(is_second(*hash));
    }
    done
}
