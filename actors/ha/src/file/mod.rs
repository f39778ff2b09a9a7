//! `file`: a store in a directory of this machine, for one process at a time.
//!
//! It promises that what was answered is there after a crash, and that after a crash at any point all of a transaction is
//! there or nothing. It refuses network file systems, and a second process.

mod frame;
mod lock;
mod log;

pub use lock::OpenError;

use crate::kv::{
    Entry, Key, Lease, LeaseId, Listing, Outcome, Pending, Revision, Store, StoreError, Transaction, Watch,
};
use crate::memory::MemoryStore;
use hurtig_core::time::Clock;
use hurtig_kit::BlockingThreads;
use lock::DirLock;
use log::Log;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A store in a directory. Clones are the same store; the directory is free again when the last one is gone.
#[derive(Clone, Debug)]
pub struct FileStore {
    memory: MemoryStore,
    threads: BlockingThreads,
    dir: PathBuf,
    /// Held for the process.
    _lock: Arc<DirLock>,
}

impl FileStore {
    /// Opens the store in a directory, which is made if it is absent. Blocks.
    ///
    /// # Errors
    /// When another process has it open, when it lies on a network file system, when it is damaged, and when the disk says so.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>, threads: BlockingThreads) -> Result<Self, OpenError> {
        let lock = DirLock::take(dir)?;
        let (log, mut machine) = Log::open(dir)?;
        let mut log = log;
        // What ended with a process ended with its leases.
        if let Some(batch) = machine.orphaned() {
            log.append(&batch, &machine)
                .map_err(|error| OpenError::io(dir, error))?;
            machine.apply(&batch);
        }
        Ok(Self {
            memory: MemoryStore::with_journal(machine, Box::new(log), clock),
            threads,
            dir: dir.to_owned(),
            _lock: Arc::new(lock),
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Does something on a thread that may wait for the disk.
    fn blocking<T: Send + 'static>(
        &self,
        ended: fn(String) -> T,
        work: impl FnOnce(&MemoryStore) -> T + Send + 'static,
    ) -> Pending<T> {
        let memory = self.memory.clone();
        // The lock lives as long as what is under way.
        let lock = self._lock.clone();
        let work = self.threads.run(move || {
            let result = work(&memory);
            drop(lock);
            result
        });
        Box::pin(async move { work.await.unwrap_or_else(|error| ended(error.to_string())) })
    }
}

fn unreachable<T>(why: String) -> Result<T, StoreError> {
    Err(StoreError::Unreachable(why))
}

impl Store for FileStore {
    fn commit(&self, transaction: Transaction) -> Pending<Outcome> {
        self.blocking(Outcome::Unknown, move |memory| memory.commit_now(&transaction))
    }

    fn get(&self, key: &Key) -> Pending<Result<Option<Entry>, StoreError>> {
        let key = key.clone();
        self.blocking(unreachable, move |memory| memory.get_now(&key))
    }

    fn list(&self, above: &Key) -> Pending<Result<Listing, StoreError>> {
        let above = above.clone();
        self.blocking(unreachable, move |memory| memory.list_now(&above))
    }

    fn watch(&self, above: &Key, after: Revision) -> Box<dyn Watch> {
        self.memory.watch_now(above, after)
    }

    fn grant(&self, ttl: Duration) -> Pending<Result<Lease, StoreError>> {
        self.blocking(unreachable, move |memory| memory.grant_now(ttl))
    }

    fn renew(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.blocking(unreachable, move |memory| memory.renew_now(lease))
    }

    fn revoke(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.blocking(unreachable, move |memory| memory.revoke_now(lease))
    }

    fn compact(&self, up_to: Revision) -> Pending<Result<(), StoreError>> {
        self.blocking(unreachable, move |memory| memory.compact_now(up_to))
    }
}
