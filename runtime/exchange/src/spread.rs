//! Which records of a batch go into which lane, in order and without a branch for each.

use std::ops::Range;

/// For each lane the places of its records in the batch at hand, those first that are still to go.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// Places of lane 0, then of lane 1, and so on.
    places: Vec<u32>,
    /// Which of `places` are still to go, for each lane.
    left: Vec<Range<usize>>,
}

impl Spread {
    /// Sorts the places of records by the lanes that they go to, `targets`.
    pub(crate) fn assign(&mut self, targets: &[u16], lanes: usize) {
        self.left.clear();
        self.left.resize(lanes, 0..0);
        if let [first, second] = &mut self.left[..] {
            let split = between_two(targets, &mut self.places);
            (*first, *second) = (0..split, split + 1..targets.len() + 1);
        } else {
            self.count(targets);
        }
    }

    /// A counting sort.
    fn count(&mut self, targets: &[u16]) {
        self.places.resize(targets.len(), 0);
        for &target in targets {
            self.left[usize::from(target)].end += 1;
        }
        let mut end = 0;
        for lane in &mut self.left {
            let count = lane.end;
            *lane = end..end;
            end += count;
        }
        for (i, &target) in targets.iter().enumerate() {
            let lane = &mut self.left[usize::from(target)];
            // A batch is bounded far below 2^32 records.
            self.places[lane.end] = i as u32;
            lane.end += 1;
        }
    }

    /// Takes up to `room` places of a lane.
    pub(crate) fn take(&mut self, lane: usize, room: usize) -> &[u32] {
        let left = &mut self.left[lane];
        let from = left.start;
        left.start = left.end.min(from + room);
        &self.places[from..left.start]
    }

    /// Whether a lane has records that are still to go.
    pub(crate) fn has(&self, lane: usize) -> bool {
        !self.left[lane].is_empty()
    }
}

/// Writes the places of zeros to the front of `places`, a gap, the places of ones, and a gap; returns how
/// many zeros.
///
/// Every place is written to where it would be in either part, and one of the two positions advances:
/// two lanes alternate at random, so that a branch would be mispredicted for every other record.
/// What is written behind a part that is complete falls into its gap.
fn between_two(targets: &[u16], places: &mut Vec<u32>) -> usize {
    let zeros = targets.iter().filter(|&&target| target == 0).count();
    places.resize(targets.len() + 2, 0);
    let mut first = 0;
    for (i, &target) in targets.iter().enumerate() {
        places[first] = i as u32;
        places[zeros + 1 + i - first] = i as u32;
        first += usize::from(target == 0);
    }
    zeros
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_lane_gets_its_records_in_order(lanes in 1_usize..6, choices in prop::collection::vec(any::<u16>(), 0..200), room in 1_usize..50) {
            let targets: Vec<u16> = choices.iter().map(|choice| choice % lanes as u16).collect();
            let mut spread = Spread::default();
            for _ in 0..2 {
                spread.assign(&targets, lanes);
                for lane in 0..lanes {
                    let mut got = Vec::new();
                    while spread.has(lane) {
                        let part = spread.take(lane, room);
                        prop_assert!((1..=room).contains(&part.len()));
                        got.extend_from_slice(part);
                    }
                    let want = (0..targets.len() as u32).filter(|&i| usize::from(targets[i as usize]) == lane);
                    prop_assert!(got.into_iter().eq(want));
                }
            }
        }
    }
}
