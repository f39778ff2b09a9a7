//! Look-ups for many keys: in parts, which several threads read at once.

use crate::error::Result;
use crate::store::RocksStore;
use hurtig_state::store::StateId;
use rayon::{ThreadPool, ThreadPoolBuilder};
use rocksdb::{BoundColumnFamily, DBPinnableSlice};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Keys of a part: bounds the blocks that are held meanwhile. More take longer each (4,096 sorted keys in parts of 256:
/// 5.5 us a key, of 1,024 or all at once: 6.5).
const PART: usize = 256;
/// One of so many parts fills the cache of blocks.
const FILLING: u64 = 16;

/// Threads that read beside those who look for something: most of the time they wait for a disk, which is faster the
/// more it is asked at once.
#[derive(Debug)]
pub(crate) struct Readers {
    threads: usize,
    /// None: the system gives no threads. There are none before they are needed.
    pool: OnceLock<Option<ThreadPool>>,
    /// Parts that were read.
    parts: AtomicU64,
}

impl Readers {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            pool: OnceLock::new(),
            parts: AtomicU64::new(0),
        }
    }

    /// None: whoever looks for something does so alone.
    fn pool(&self) -> Option<&ThreadPool> {
        let build = || {
            ThreadPoolBuilder::new()
                .num_threads(self.threads)
                .thread_name(|number| format!("rocksdb-read-{number}"))
                .build()
                .ok()
        };
        match self.threads {
            0 => None,
            _ => self.pool.get_or_init(build).as_ref(),
        }
    }
}

/// What was found for the keys of a part.
#[derive(Default)]
struct Found {
    /// All values, one behind the other.
    bytes: Vec<u8>,
    /// Where each key's value ends, if it has one.
    ends: Vec<Option<usize>>,
}

impl Found {
    fn push(&mut self, value: Option<&[u8]>) {
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.ends.push(value.map(|_| self.bytes.len()));
    }

    /// Calls `found` for each key with its place, of which `first` is the first one's.
    fn tell(&self, first: usize, found: &mut dyn FnMut(usize, Option<&[u8]>)) {
        let mut begin = 0;
        for (at, end) in (first..).zip(&self.ends) {
            found(at, end.map(|end| &self.bytes[begin..end]));
            begin = end.unwrap_or(begin);
        }
    }
}

impl RocksStore {
    /// [`ByteStore::multi_get`](hurtig_state::ByteStore::multi_get).
    pub(crate) fn read_many(
        &self,
        state: StateId,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let family = self.family(state)?;
        let parts: Vec<_> = keys.chunks(PART).collect();
        match self.tuning.readers.pool() {
            Some(pool) if parts.len() > 1 => self.read_at_once(pool, &family, &parts, found),
            _ => self.read_in_turn(&family, &parts, found),
        }
    }

    fn read_in_turn(
        &self,
        family: &Arc<BoundColumnFamily<'_>>,
        parts: &[&[&[u8]]],
        found: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let mut first = 0;
        for part in parts {
            for (at, value) in (first..).zip(self.read_part(family, part)) {
                found(at, value.map_err(self.failed("read"))?.as_deref());
            }
            first += part.len();
        }
        Ok(())
    }

    fn read_at_once(
        &self,
        pool: &ThreadPool,
        family: &Arc<BoundColumnFamily<'_>>,
        parts: &[&[&[u8]]],
        found: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let results: Vec<_> = parts.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let read = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (Some(part), Some(result)) = (parts.get(number), results.get(number)) else {
                    return;
                };
                // Nobody else has this number.
                let _ = result.set(self.copy_part(family, part));
            }
        };
        pool.in_place_scope(|scope| {
            let helpers = pool.current_num_threads().min(parts.len() - 1);
            (0..helpers).for_each(|_| scope.spawn(|_| read()));
            read();
        });
        for (number, result) in results.into_iter().enumerate() {
            if let Some(read) = result.into_inner() {
                read?.tell(number * PART, found);
            }
        }
        Ok(())
    }

    fn copy_part(&self, family: &Arc<BoundColumnFamily<'_>>, keys: &[&[u8]]) -> Result<Found> {
        let mut found = Found::default();
        for value in self.read_part(family, keys) {
            found.push(value.map_err(self.failed("read"))?.as_deref());
        }
        Ok(found)
    }

    fn read_part(
        &self,
        family: &Arc<BoundColumnFamily<'_>>,
        keys: &[&[u8]],
    ) -> Vec<std::result::Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>> {
        // Indexes and filters come into the cache with the blocks of some.
        let parts = self.tuning.readers.parts.fetch_add(1, Ordering::Relaxed);
        let options = match parts.is_multiple_of(FILLING) {
            true => &self.tuning.read,
            false => &self.tuning.read_past_cache,
        };
        let keys = keys.iter().copied();
        self.db.batched_multi_get_cf_opt(family, keys, true, options)
    }
}
