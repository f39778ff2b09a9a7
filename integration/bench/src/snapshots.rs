//! The engine's table of counts while a snapshot of it is being written, without anything around it.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use crate::baselines::columns::hash_all;
use crate::work::{BATCH, Work};

use hurtig_state::encoded::put_entry;
use hurtig_state::{Change, GroupedTable, ScanBudget};
use std::time::{Duration, Instant};

/// Entries that are written before records are looked at again, as in a task.
const SLICE: usize = 256;
/// So much time goes to records for each piece that goes to the snapshot, as in a task.
const RECORDS: i64 = 4;

/// Counts; hands the new count on.
struct Counting;

impl Change<u64, u64, u64> for Counting {
    type Out = u64;
    type Key<'a> = u64;

    fn key_of(&self, record: &u64) -> u64 {
        *record
    }

    fn is_key(&self, stored: &u64, key: &u64) -> bool {
        stored == key
    }

    fn change(&self, _: &u64, count: &mut u64, _: u64) -> u64 {
        *count += 1;
        *count
    }

    fn owned_key(&self, record: &u64) -> u64 {
        *record
    }

    fn first(&self, record: u64) -> (u64, u64, u64) {
        (record, 1, 1)
    }
}

/// Adds up what it is handed.
struct Sum(u64);

impl Extend<u64> for Sum {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, counts: I) {
        self.0 = counts.into_iter().fold(self.0, u64::wrapping_add);
    }
}

/// A snapshot after the other, each of them given a fifth of the time.
struct Snapshots {
    /// Nanoseconds that the snapshot may take, or has taken too much.
    credit: i64,
    entries: u64,
}

impl Snapshots {
    fn go_on(&mut self, table: &mut GroupedTable<u64, u64>, worked: Duration) {
        if !table.is_scanning() {
            table.begin_scan_copying(Box::new(|key, count, out| {
                put_entry(out, key, &[], count)?;
                Ok(1)
            }));
        }
        self.credit += nanos(worked) / RECORDS;
        while self.credit > 0 {
            let started = Instant::now();
            match table.continue_scan(&mut ScanBudget::new(SLICE)) {
                Ok(Some(snapshot)) => {
                    self.entries += snapshot.len();
                    self.credit = 0;
                }
                // Numbers can be encoded.
                Ok(None) | Err(_) => self.credit -= nanos(started.elapsed()),
            }
        }
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX / 2)
}

/// Running counts by batches, always with a snapshot going on; their sum.
pub(crate) fn hashmap_update(work: Work) -> u64 {
    let mut table = GroupedTable::new(0..128, 128);
    let mut snapshots = Snapshots {
        credit: 0,
        entries: 0,
    };
    let (mut keys, mut hashes) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let (mut sum, mut from) = (Sum(0), 0);
    while from < work.records {
        let started = Instant::now();
        let to = (from + BATCH as u64).min(work.records);
        keys.clear();
        keys.extend((from..to).map(|index| work.key(index)));
        hashes.clear();
        hash_all(&keys, &mut hashes);
        table.change_each(&hashes, keys.iter().copied(), &Counting, &mut sum);
        from = to;
        snapshots.go_on(&mut table, started.elapsed());
    }
    assert!(
        work.records < 4 * work.keys || snapshots.entries >= work.keys,
        "no snapshot was finished"
    );
    sum.0
}
