//! The keyed counts as a Timely program: the same generator, the same hash for routing, the same map.

use crate::baselines::counts::Counts;
use crate::measure::Failure;
use crate::work::{BATCH, Work};
use hurtig_core::key::hash_int;
use std::cell::Cell;
use std::rc::Rc;
use timely::Config;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::generic::operator::source;
use timely::worker::Worker;

/// Batches that the source makes in one activation, so that scheduling costs little.
const BATCHES: u64 = 16;

/// Counts all of `work` with `workers` threads; the sum of all running counts.
pub(crate) fn keyed_count(work: Work, workers: usize) -> Result<u64, Failure> {
    let config = if workers == 1 {
        Config::thread()
    } else {
        Config::process(workers)
    };
    let guards = timely::execute(config, move |worker| {
        let sum = Rc::new(Cell::new(0u64));
        build(worker, work, Rc::clone(&sum));
        while worker.step_or_park(None) {}
        sum.get()
    })?;
    let sums: Result<Vec<u64>, String> = guards.join().into_iter().collect();
    Ok(sums?.into_iter().fold(0, u64::wrapping_add))
}

/// The bits that the engine's key groups are made of, so that routing does not take bits that the
/// map needs.
fn route(key: &u64) -> u64 {
    hash_int(*key) >> 16
}

fn build(worker: &mut Worker, work: Work, sum: Rc<Cell<u64>>) {
    let (index, peers) = (worker.index() as u64, worker.peers() as u64);
    worker.dataflow::<usize, _, _>(|scope| {
        let keys = source(scope, "keys", |capability, info| {
            let activator = scope.activator_for(info.address);
            let mut capability = Some(capability);
            let mut next = index;
            move |output| {
                let Some(held) = &capability else { return };
                let end = (next + peers * BATCHES * BATCH as u64).min(work.records);
                let batch = (next..end).step_by(peers as usize).map(|i| work.key(i));
                output.session(held).give_iterator(batch);
                next += peers * BATCHES * BATCH as u64;
                if end == work.records {
                    capability = None;
                } else {
                    activator.activate();
                }
            }
        })
        .container::<Vec<u64>>();
        keys.unary(Exchange::new(route), "count", |_, _| {
            let mut counts = Counts::new();
            let mut hashes = Vec::with_capacity(BATCH);
            move |input, output| {
                input.for_each_time(|time, batches| {
                    let _ = output.session(&time);
                    for keys in batches {
                        hashes.clear();
                        hashes.extend(keys.iter().copied().map(hash_int));
                        sum.set(sum.get().wrapping_add(counts.add_batch(keys, &hashes)));
                    }
                });
            }
        })
        .container::<Vec<()>>();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timely_counts_what_the_loop_counts() -> Result<(), Failure> {
        let work = Work::keyed(100_000, 512);
        let expected = crate::baselines::keyed::fused(work);
        assert_eq!(keyed_count(work, 1)?, expected);
        assert_eq!(keyed_count(work, 2)?, expected);
        Ok(())
    }
}
