//! Which records of a batch go to which lane, found without a branch for each.

use hurtig_core::key::group_selector;
use hurtig_core::vector::{PLACES, Vectors};
use std::ops::Range;

/// Places that are written to one list or another are taken so many at a time: they then need one check, and
/// the loop over them unrolls.
const CHUNK: usize = 8;

/// One lane's places in a batch, in order; those in `left` are still to go.
#[derive(Debug, Default)]
struct Lane {
    /// What stands behind the end of `left` means nothing.
    places: Vec<u32>,
    left: Range<usize>,
}

/// The places of a batch's records, by the lanes that they go to.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    lanes: Vec<Lane>,
}

impl Spread {
    /// Lists the places of every lane: record `i` goes to lane `targets[i]`.
    pub(crate) fn assign(&mut self, targets: &[u16], lanes: usize) {
        if lanes == 2 {
            self.split(targets.len(), |zeros, ones| {
                Some(split_places(targets, |&target| target != 0, (zeros, ones)))
            });
            return;
        }
        self.lanes.resize_with(lanes, Lane::default);
        self.lanes.iter_mut().for_each(|lane| lane.places.clear());
        for (place, &target) in (0..).zip(targets) {
            self.lanes[usize::from(target)].places.push(place);
        }
        for lane in &mut self.lanes {
            lane.left = 0..lane.places.len();
        }
    }

    /// Lists the places of two lanes: record `i` goes to the second if the selector of `hashes[i]` is at least `bound`.
    pub(crate) fn split_by_hash(&mut self, hashes: &[u64], bound: u32) {
        self.split(hashes.len(), |zeros, ones| {
            Some(match Vectors::get() {
                Some(vectors) => vectors.split_places(hashes, |&hash| hash, bound, (zeros, ones)),
                None => split_places(hashes, |&hash| group_selector(hash) >= bound, (zeros, ones)),
            })
        });
    }

    /// Lists the places of two lanes for so many records as `list` does, which returns how many are in the second.
    /// False when it does not.
    #[inline]
    pub(crate) fn split(
        &mut self,
        records: usize,
        list: impl FnOnce(&mut [u32], &mut [u32]) -> Option<usize>,
    ) -> bool {
        self.lanes.resize_with(2, Lane::default);
        let [first, second] = &mut self.lanes[..] else {
            unreachable!("it was given two lanes");
        };
        for lane in [&mut *first, &mut *second] {
            // As long as the longest batch so far: it is filled only when it grows.
            let length = (records + CHUNK.max(PLACES)).max(lane.places.len());
            lane.places.resize(length, 0);
        }
        let Some(ones) = list(&mut first.places, &mut second.places) else {
            return false;
        };
        first.left = 0..records - ones;
        second.left = 0..ones;
        true
    }

    /// Takes the places of up to `room` records of a lane.
    pub(crate) fn take(&mut self, lane: usize, room: usize) -> &[u32] {
        let Lane { places, left } = &mut self.lanes[lane];
        let from = left.start;
        left.start = left.end.min(from + room);
        &places[from..left.start]
    }

    /// Whether a lane has records that are still to go.
    pub(crate) fn has(&self, lane: usize) -> bool {
        !self.lanes[lane].left.is_empty()
    }
}

/// Writes the places of those that are not second to `zeros` and of the others, whose number it returns, to
/// `ones`. Each has room for a chunk more than there are places.
///
/// Every place is written to where it would be in either, and one of the two positions advances: lanes
/// alternate at random, so that a branch would be mispredicted for every other record.
#[inline]
fn split_places<V>(
    column: &[V],
    is_second: impl Fn(&V) -> bool,
    (zeros, ones): (&mut [u32], &mut [u32]),
) -> usize {
    let (chunks, rest) = column.as_chunks::<CHUNK>();
    let mut place = 0;
    // How many of the places that are done are second.
    let mut done = 0;
    for (chunk, before) in chunks.iter().zip((0..).step_by(CHUNK)) {
        let (zeros, ones) = (&mut zeros[before - done..], &mut ones[done..]);
        let (Some(zeros), Some(ones)) = (zeros.first_chunk_mut::<CHUNK>(), ones.first_chunk_mut::<CHUNK>())
        else {
            unreachable!("there is room for a chunk behind every place");
        };
        let mut second = 0;
        for i in 0..CHUNK {
            // The remainders change nothing; the compiler sees from them that no check is needed.
            zeros[(i - second) % CHUNK] = place;
            ones[second % CHUNK] = place;
            second += usize::from(is_second(&chunk[i]));
            place += 1;
        }
        done += second;
    }
    for value in rest {
        zeros[place as usize - done] = place;
        ones[done] = place;
        done += usize::from(is_second(value));
        place += 1;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn two_lanes_get_their_places_by_hash(
            batches in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..100), 1..4),
            bound in prop_oneof![any::<u32>(), Just(0), Just(u32::MAX), Just(1 << 31)],
            room in 1_usize..50,
        ) {
            let mut spread = Spread::default();
            for hashes in batches {
                spread.split_by_hash(&hashes, bound);
                for lane in 0..2 {
                    let mut got = Vec::new();
                    while spread.has(lane) {
                        got.extend_from_slice(spread.take(lane, room));
                    }
                    let belongs =
                        |&place: &u32| (group_selector(hashes[place as usize]) >= bound) == (lane == 1);
                    prop_assert_eq!(got, (0..hashes.len() as u32).filter(belongs).collect::<Vec<_>>());
                }
            }
        }

        #[test]
        fn each_lane_gets_its_places_in_order(
            lanes in 1_usize..6,
            batches in prop::collection::vec(prop::collection::vec(any::<u16>(), 0..200), 1..4),
            room in 1_usize..50,
        ) {
            let mut spread = Spread::default();
            for choices in batches {
                let targets: Vec<u16> = choices.iter().map(|choice| choice % lanes as u16).collect();
                spread.assign(&targets, lanes);
                for lane in 0..lanes {
                    let mut got = Vec::new();
                    while spread.has(lane) {
                        let part = spread.take(lane, room);
                        prop_assert!((1..=room).contains(&part.len()));
                        got.extend_from_slice(part);
                    }
                    let belongs = |&place: &u32| usize::from(targets[place as usize]) == lane;
                    prop_assert_eq!(got, (0..targets.len() as u32).filter(belongs).collect::<Vec<_>>());
                }
            }
        }
    }
}
