//! The loops that a good engineer would write by hand. `baselines.md` lists them.

pub(crate) mod columns;
pub(crate) mod counts;
pub(crate) mod keyed;
pub(crate) mod open_loop;
pub(crate) mod session;
pub(crate) mod stateless;
pub(crate) mod strings;
pub(crate) mod union;
pub(crate) mod windows;

use crate::measure::Failure;
use std::fmt;
use std::sync::Arc;

/// One hand-written loop. It runs on the calling thread and returns a checksum of its results, by
/// which it is compared with the others.
#[derive(Clone)]
pub(crate) struct Loop {
    /// What it is called in tables.
    pub name: &'static str,
    run: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Loop {
    /// A loop.
    pub(crate) fn new(name: &'static str, run: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            name,
            run: Arc::new(run),
        }
    }

    /// Runs it once.
    pub(crate) fn run(&self) -> u64 {
        (self.run)()
    }

    /// Runs it on so many threads at once; the checksum of each, which is the same.
    pub(crate) fn run_at_once(&self, threads: u32) -> Result<u64, Failure> {
        let started: Vec<_> = (0..threads)
            .map(|_| {
                let one = self.clone();
                std::thread::spawn(move || one.run())
            })
            .collect();
        let mut checksum = 0;
        for thread in started {
            checksum = thread
                .join()
                .map_err(|_| format!("the loop '{}' panicked", self.name))?;
        }
        Ok(checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{BATCH, Work};

    fn agree(loops: &[Loop]) -> u64 {
        let checksums: Vec<u64> = loops.iter().map(Loop::run).collect();
        assert!(loops.len() > 1, "one loop agrees with itself");
        assert!(
            checksums.iter().all(|c| *c == checksums[0]),
            "{loops:?} gave {checksums:?}"
        );
        checksums[0]
    }

    /// Not a multiple of the batch, so that a loop's last part is seen.
    const RECORDS: u64 = 20 * BATCH as u64 + 77;

    #[test]
    fn stateless_loops_keep_three_of_four() {
        // 5x + 1 is divisible by 4 exactly when x is 3 more than a multiple of 4.
        let kept = (0..RECORDS).filter(|x| x % 4 != 3).count() as u64;
        assert_eq!(agree(&stateless::loops(RECORDS)), kept);
    }

    #[test]
    fn keyed_loops_hand_on_running_counts() {
        let work = Work::keyed(RECORDS, 64);
        let mut counts = [0u64; 64];
        let running = (0..RECORDS).map(|i| {
            let count = &mut counts[work.key(i) as usize];
            *count += 1;
            *count
        });
        let expected = running.sum::<u64>();
        assert_eq!(agree(&keyed::loops(work)), expected);
        assert_eq!(agree(&strings::loops(work)), expected);
    }

    /// Windows as their definition says, without any cleverness.
    fn naive_windows(work: Work, size: i64, slide: i64) -> u64 {
        let mut counts = std::collections::BTreeMap::new();
        for event in work.events(0, 1) {
            let last = event.at - event.at.rem_euclid(slide);
            let mut start = last;
            while start > event.at - size {
                *counts.entry((start, event.key)).or_insert(0u64) += 1;
                start -= slide;
            }
        }
        counts::squares(counts.into_values())
    }

    #[test]
    fn window_loops_count_what_naive_windows_count() {
        let work = Work {
            per_ms: 3,
            ..Work::keyed(RECORDS, 32)
        };
        assert_eq!(
            agree(&windows::loops(work, windows::TUMBLING)),
            naive_windows(work, 1_000, 1_000)
        );
        assert_eq!(
            agree(&windows::loops(work, windows::SLIDING)),
            naive_windows(work, 10_000, 1_000)
        );
    }

    #[test]
    fn session_loops_split_at_gaps() {
        let work = Work {
            per_ms: 5,
            ..Work::keyed(RECORDS, 64).in_turns(16)
        };
        let mut open = std::collections::BTreeMap::<u64, (i64, u64)>::new();
        let mut closed = Vec::new();
        for event in work.events(0, 1) {
            let session = open.entry(event.key).or_insert((event.at, 0));
            if event.at > session.0 + session::GAP_MS {
                closed.push(std::mem::take(&mut session.1));
            }
            *session = (event.at, session.1 + 1);
        }
        assert!(closed.len() > 64, "the input has gaps");
        let expected = counts::squares(closed.into_iter().chain(open.into_values().map(|s| s.1)));
        assert_eq!(agree(&session::loops(work)), expected);
    }

    #[test]
    fn union_loops_deliver_everything() {
        assert_eq!(agree(&union::loops(16 * 10_000)), 16 * 10_000);
    }
}
