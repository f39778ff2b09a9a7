//! Delays of two threads and a bounded channel: what the machine and its timers cost by themselves.

use super::counts::Counts;
use crate::measure::{Failure, now, sleep_until};
use crate::schedule::{Schedule, delays, nanos_since, record};
use hdrhistogram::Histogram;
use hurtig_core::key::hash_int;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Batches that the channel holds.
const QUEUE: usize = 64;
/// How often the producer wakes up.
const TICK: Duration = Duration::from_millis(1);

/// A batch: which records, by index.
type Batch = Vec<u64>;

/// Sends each record from one thread to another when it is due.
pub(crate) fn channel(schedule: Schedule) -> Result<Histogram<u64>, Failure> {
    run(schedule, |_| ())
}

/// The same, and the receiver inserts every record into a map as a key of its own.
pub(crate) fn growing_map(schedule: Schedule) -> Result<Histogram<u64>, Failure> {
    let mut counts = Counts::new();
    let delays = run(schedule, |batch| {
        for key in batch {
            counts.add(key, hash_int(*key), 1);
        }
    })?;
    assert_eq!(counts.len() as u64, schedule.records, "every key is new");
    Ok(delays)
}

fn run(schedule: Schedule, each: impl FnMut(&Batch)) -> Result<Histogram<u64>, Failure> {
    let (sender, receiver) = sync_channel(QUEUE);
    let start = now();
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || produce(schedule, start, &sender));
        let delays = consume(schedule, start, &receiver, each);
        producer.join().map_err(|_| "the producer panicked")?;
        Ok(delays)
    })
}

fn produce(schedule: Schedule, start: Instant, sender: &SyncSender<Batch>) {
    let mut next = 0;
    let mut tick = start;
    while next < schedule.records {
        let due = schedule.due_after(nanos_since(start));
        if due > next {
            if sender.send((next..due).collect()).is_err() {
                return;
            }
            next = due;
        }
        tick += TICK;
        sleep_until(tick);
    }
}

fn consume(
    schedule: Schedule,
    start: Instant,
    receiver: &Receiver<Batch>,
    mut each: impl FnMut(&Batch),
) -> Histogram<u64> {
    let mut delays = delays();
    for batch in receiver {
        each(&batch);
        let arrived = nanos_since(start);
        for index in batch {
            record(&mut delays, schedule.due_at(index), arrived);
        }
    }
    delays
}
