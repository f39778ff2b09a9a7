//! The records of a batch in the order of the lanes that they go to, without a branch for each.

use hurtig_core::batch::{Columns, TimeColumn};
use std::ops::Range;

/// Values that are written to one place or another are taken so many at a time: their places then need one
/// check, and the loop over them unrolls (0.9 against 1.7 ns a record of two lanes, with its hash).
const CHUNK: usize = 8;

/// Copies of a batch's columns, sorted by lane; those first that are still to go.
#[derive(Debug)]
pub(crate) struct Spread<T> {
    records: Vec<T>,
    hashes: Vec<u64>,
    times: Vec<i64>,
    /// The time of all records, if they have one in common.
    common_time: Option<i64>,
    /// The columns hold lane 0, then lane 1 and so on; which part of them is still to go, for each lane.
    left: Vec<Range<usize>>,
    /// Where the next record of each lane goes, while a column is sorted.
    next: Vec<usize>,
}

impl<T> Default for Spread<T> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            hashes: Vec::new(),
            times: Vec::new(),
            common_time: None,
            left: Vec::new(),
            next: Vec::new(),
        }
    }
}

impl<T: Clone> Spread<T> {
    /// Copies the records of a batch, sorted by the lanes that they go to, `targets`.
    pub(crate) fn assign(&mut self, batch: &Columns<'_, T>, targets: &[u16], lanes: usize) {
        self.divide(targets, lanes);
        let Self { left, next, .. } = self;
        sort(batch.records, targets, left, next, &mut self.records);
        sort(batch.hashes, targets, left, next, &mut self.hashes);
        self.common_time = match batch.times {
            TimeColumn::All(time) => Some(time),
            TimeColumn::Each(times) => {
                sort(times, targets, left, next, &mut self.times);
                None
            }
        };
    }

    /// Says which part of the columns is which lane's.
    fn divide(&mut self, targets: &[u16], lanes: usize) {
        self.left.clear();
        self.left.resize(lanes, 0..0);
        if let [first, second] = &mut self.left[..] {
            let split = targets.iter().filter(|&&target| target == 0).count();
            // What is written behind the end of a part, see `sort_two`, falls into a gap.
            let from = split + CHUNK;
            (*first, *second) = (0..split, from..from + targets.len() - split);
            return;
        }
        for &target in targets {
            self.left[usize::from(target)].end += 1;
        }
        let mut end = 0;
        for lane in &mut self.left {
            let count = lane.end;
            *lane = end..end + count;
            end += count;
        }
    }

    /// Takes up to `room` records of a lane.
    pub(crate) fn take(&mut self, lane: usize, room: usize) -> Columns<'_, T> {
        let left = &mut self.left[lane];
        let from = left.start;
        left.start = left.end.min(from + room);
        let part = from..left.start;
        Columns {
            records: &self.records[part.clone()],
            hashes: self.hashes.get(part.clone()).unwrap_or(&[]),
            times: match self.common_time {
                Some(time) => TimeColumn::All(time),
                None => TimeColumn::Each(&self.times[part]),
            },
        }
    }

    /// Whether a lane has records that are still to go.
    pub(crate) fn has(&self, lane: usize) -> bool {
        !self.left[lane].is_empty()
    }
}

/// Copies `column`, which may be empty, into the parts of `sorted`.
fn sort<V: Clone>(
    column: &[V],
    targets: &[u16],
    parts: &[Range<usize>],
    next: &mut Vec<usize>,
    sorted: &mut Vec<V>,
) {
    let Some(filler) = column.first() else {
        sorted.clear();
        return;
    };
    // As long as the longest batch so far: it is filled only when it grows.
    let length = column.len() + 2 * CHUNK;
    if sorted.len() < length {
        sorted.resize(length, filler.clone());
    }
    if let [_, second] = parts {
        let (zeros, ones) = sorted.split_at_mut(second.start);
        sort_two(column, targets, zeros, ones);
        return;
    }
    next.clear();
    next.extend(parts.iter().map(|part| part.start));
    for (value, &target) in column.iter().zip(targets) {
        let place = &mut next[usize::from(target)];
        sorted[*place] = value.clone();
        *place += 1;
    }
}

/// Copies the values of target 0 to `zeros` and those of target 1 to `ones`, each of which has room for a
/// chunk more.
///
/// Every value is written to where it would be in either, and one of the two positions advances: two lanes
/// alternate at random, so that a branch would be mispredicted for every other record.
fn sort_two<V: Clone>(column: &[V], targets: &[u16], zeros: &mut [V], ones: &mut [V]) {
    let (values, last_values) = column.as_chunks::<CHUNK>();
    let (chunks, last_targets) = targets.as_chunks::<CHUNK>();
    let mut done = 0;
    // How many of the values that are done had target 1.
    let mut second = 0;
    for (values, targets) in values.iter().zip(chunks) {
        let (zeros, ones) = (&mut zeros[done - second..], &mut ones[second..]);
        let (Some(zeros), Some(ones)) = (zeros.first_chunk_mut::<CHUNK>(), ones.first_chunk_mut::<CHUNK>())
        else {
            unreachable!("there is room for a chunk behind every part");
        };
        let mut seconds = 0;
        for i in 0..CHUNK {
            zeros[i - seconds] = values[i].clone();
            ones[seconds] = values[i].clone();
            seconds += usize::from(targets[i] != 0);
        }
        second += seconds;
        done += CHUNK;
    }
    for (value, &target) in last_values.iter().zip(last_targets) {
        let first = done - second;
        zeros[first] = value.clone();
        ones[second] = value.clone();
        second += usize::from(target != 0);
        done += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::Batch;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_lane_gets_its_records_in_order(
            lanes in 1_usize..6,
            batches in prop::collection::vec(prop::collection::vec(any::<u16>(), 0..200), 1..4),
            room in 1_usize..50,
            (hashed, timed) in any::<(bool, bool)>(),
        ) {
            let mut spread = Spread::default();
            for choices in batches {
                let targets: Vec<u16> = choices.iter().map(|choice| choice % lanes as u16).collect();
                let records: Vec<usize> = (0..targets.len()).collect();
                let hashes: Vec<u64> = records.iter().map(|&i| i as u64 * 3).collect();
                let times: Vec<i64> = records.iter().map(|&i| i as i64 * 5).collect();
                let columns = Columns {
                    records: &records,
                    hashes: if hashed { &hashes } else { &[] },
                    times: if timed { TimeColumn::Each(&times) } else { TimeColumn::All(7) },
                };
                spread.assign(&columns, &targets, lanes);
                for lane in 0..lanes {
                    let mut got = Batch::new();
                    while spread.has(lane) {
                        let part = spread.take(lane, room);
                        prop_assert!((1..=room).contains(&part.records.len()));
                        got.append_columns(&part, 200);
                    }
                    let want: Vec<usize> = (0..targets.len()).filter(|&i| usize::from(targets[i]) == lane).collect();
                    prop_assert_eq!(got.records(), &want[..]);
                    if hashed {
                        prop_assert!(got.hashes().iter().eq(want.iter().map(|&i| &hashes[i])));
                    }
                    for (at, &i) in want.iter().enumerate() {
                        prop_assert_eq!(got.time(at), if timed { times[i] } else { 7 });
                    }
                }
            }
        }
    }
}
