//! Which records of a batch go to which lane, found without a branch for each.

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
            return self.split(targets, |&target| target != 0);
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

    /// Lists the places of two lanes: record `i` goes to the second if `is_second(&column[i])`.
    #[inline]
    pub(crate) fn split<V>(&mut self, column: &[V], is_second: impl Fn(&V) -> bool) {
        self.lanes.resize_with(2, Lane::default);
        let [first, second] = &mut self.lanes[..] else {
            unreachable!("it was given two lanes");
        };
        for lane in [&mut *first, &mut *second] {
            // As long as the longest batch so far: it is filled only when it grows.
            let length = (column.len() + CHUNK).max(lane.places.len());
            lane.places.resize(length, 0);
        }
        let ones = split_places(column, is_second, &mut first.places, &mut second.places);
        first.left = 0..column.len() - ones;
        second.left = 0..ones;
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
    zeros: &mut [u32],
    ones: &mut [u32],
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
