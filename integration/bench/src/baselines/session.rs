//! Counts by key and session, over input in order of event time. A heap of deadlines tells which
//! sessions may have ended; a session that went on is put back when its deadline comes.

use super::Loop;
use super::columns::Batches;
use crate::work::Work;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use hurtig_core::key::hash_int;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The gap that ends a session, in milliseconds.
pub(crate) const GAP_MS: i64 = 500;

/// The loops.
pub(crate) fn loops(work: Work) -> Vec<Loop> {
    vec![
        Loop::new("fused", move || fused(work)),
        Loop::new("batched", move || batched(work)),
    ]
}

struct Session {
    key: u64,
    last: i64,
    count: u64,
}

#[derive(Default)]
struct Sessions {
    open: HashTable<Session>,
    deadlines: BinaryHeap<Reverse<(i64, u64)>>,
    results: u64,
}

impl Sessions {
    #[inline]
    fn add(&mut self, key: u64, hash: u64, at: i64) {
        let entry = self.open.entry(hash, |s| s.key == key, |s| hash_int(s.key));
        match entry {
            Entry::Occupied(mut session) => {
                let session = session.get_mut();
                session.last = at;
                session.count += 1;
            }
            Entry::Vacant(slot) => {
                slot.insert(Session {
                    key,
                    last: at,
                    count: 1,
                });
                self.deadlines.push(Reverse((at + GAP_MS, key)));
            }
        }
    }

    /// Emits the sessions that no record of time `at` or later can belong to.
    fn advance(&mut self, at: i64) {
        while let Some(Reverse((deadline, key))) = self.deadlines.peek().copied() {
            if deadline >= at {
                return;
            }
            self.deadlines.pop();
            self.close_or_put_back(key, at);
        }
    }

    fn close_or_put_back(&mut self, key: u64, at: i64) {
        let Ok(session) = self.open.find_entry(hash_int(key), |s| s.key == key) else {
            return;
        };
        let deadline = session.get().last + GAP_MS;
        if deadline >= at {
            self.deadlines.push(Reverse((deadline, key)));
        } else {
            let count = session.remove().0.count;
            self.results = self.results.wrapping_add(count.wrapping_mul(count));
        }
    }

    fn finish(mut self) -> u64 {
        self.advance(i64::MAX);
        self.results
    }
}

fn fused(work: Work) -> u64 {
    let mut sessions = Sessions::default();
    let mut now = 0;
    for event in work.events(0, 1) {
        if event.at > now {
            now = event.at;
            sessions.advance(now);
        }
        sessions.add(event.key, hash_int(event.key), event.at);
    }
    sessions.finish()
}

fn batched(work: Work) -> u64 {
    let mut sessions = Sessions::default();
    let mut batches = Batches::new(work);
    while batches.fill() {
        sessions.advance(batches.times[0]);
        for ((key, hash), at) in batches.keys.iter().zip(&batches.hashes).zip(&batches.times) {
            sessions.add(*key, *hash, *at);
        }
    }
    sessions.finish()
}
