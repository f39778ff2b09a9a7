//! What leaves the cache, and what is written back.

use super::CachedTable;
use super::batch::PREFETCH_FROM;
use crate::store::StoreFile;
use hurtig_core::error::Result;
use hurtig_core::key::OwnedKey;
use std::path::Path;

/// A sweep frees this part of the budget, so that its cost is spread over as many new entries.
const FREED: usize = 8;
impl<K: OwnedKey, V: 'static> CachedTable<K, V> {
    /// To be called between batches: returns what has failed since the last one, and makes room when the
    /// budget is exceeded.
    ///
    /// While a delta is open only what the store has leaves, and the budget may be exceeded.
    ///
    /// Entries leave that were not touched since the sweep last passed them (*second chance*: Corbató, *A
    /// Paging Experiment with the Multics System*, 1968); those that are dirty are written as one sorted run.
    ///
    /// *Cost*: looks at up to three times the table, once for each eighth of the budget that was filled.
    ///
    /// # Errors
    /// The first failure since the table was made. Later calls fail too.
    pub fn quiet_point(&mut self) -> Result<()> {
        self.check()?;
        let (charged, budget) = (self.backing.charged(), self.share.bytes());
        match charged > budget.max(self.stuck_at) {
            true => self.evict(budget),
            false => Ok(()),
        }
    }

    /// [`Self::quiet_point`] without making room: what [`Self::prefetch`] has brought stays.
    ///
    /// # Errors
    /// As [`Self::quiet_point`].
    pub fn check(&mut self) -> Result<()> {
        self.settle();
        self.backing.take_failure()?;
        self.misses_many |= self.backing.take_reads() >= PREFETCH_FROM;
        Ok(())
    }

    fn evict(&mut self, budget: usize) -> Result<()> {
        let target = budget - budget / FREED;
        let leaving = self.choose(self.backing.charged() - target);
        let leaving = self.backing.noted(leaving)?;
        if !self.run.is_empty() {
            self.backing.write(&self.run.sort())?;
        }
        for (hash, key) in leaving {
            if let Some((_, entry)) = self.table.remove(hash, &key) {
                self.backing.discharge(&entry);
            }
        }
        // While write-backs are held little may be able to leave; not every batch has to find that out.
        self.stuck_at = match self.held {
            true => self.backing.charged() + budget / FREED,
            false => 0,
        };
        Ok(())
    }

    /// Chooses entries that count for `bytes` and adds the dirty ones to the run.
    fn choose(&mut self, bytes: usize) -> Result<Vec<(u64, K)>> {
        self.run.clear();
        let (mut freed, mut passed, mut leaving) = (0, 0, Vec::new());
        let rest = self.table.iter().skip(self.hand);
        // From the hand to the end, and twice more: what is used is chosen the second time.
        let rounds = rest.chain(self.table.iter()).chain(self.table.iter());
        for (hash, key, entry) in rounds {
            if freed >= bytes {
                break;
            }
            passed += 1;
            entry.learn(self.deltas);
            if (self.held && !entry.is_in_store()) || !entry.choose() {
                continue;
            }
            freed += entry.charged() as usize;
            if entry.is_dirty() {
                self.backing.add_to(&mut self.run, (hash, key, entry))?;
            }
            leaving.push((hash, key.clone()));
        }
        // Those that leave are behind the hand then.
        self.hand = ((self.hand + passed) % self.table.len().max(1)).saturating_sub(leaving.len());
        Ok(leaving)
    }

    /// Writes all that the store does not have yet; it stays in the cache.
    ///
    /// # Errors
    /// Those of [`Self::quiet_point`]; a value that cannot be encoded; a failure of the store.
    ///
    /// # Panics
    /// While a delta is open: it would overwrite later what is written now.
    pub fn flush(&mut self) -> Result<()> {
        assert!(!self.held, "nothing is written while a delta is open");
        self.settle();
        self.backing.take_failure()?;
        let collected = self.collect();
        self.backing.noted(collected)?;
        let run = self.run.sort();
        self.backing.bring_in(&run)?;
        self.table.iter().for_each(|(_, _, entry)| {
            if entry.is_dirty() {
                entry.written();
            }
        });
        Ok(())
    }

    fn collect(&mut self) -> Result<()> {
        self.run.clear();
        for (hash, key, entry) in self.table.iter() {
            entry.learn(self.deltas);
            if entry.is_dirty() {
                self.backing.add_to(&mut self.run, (hash, key, entry))?;
            }
        }
        Ok(())
    }

    /// Flushes and makes a checkpoint of the whole store. An owner of several tables over one store flushes
    /// each and makes one checkpoint itself.
    ///
    /// # Errors
    /// Those of [`Self::flush`] and of [`ByteStore::checkpoint`](crate::ByteStore::checkpoint); the table goes
    /// on after the latter.
    pub fn checkpoint(&mut self, dir: &Path) -> Result<Vec<StoreFile>> {
        self.flush()?;
        self.backing.store().0.checkpoint(dir)
    }
}
