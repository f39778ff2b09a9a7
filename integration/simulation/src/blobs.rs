//! A model of the store that has checkpoints: objects in memory, with faults.

use hurtig_storage::{BlobStore, MemoryStore, OpenStore, Result, StorageError};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where it is.
pub(crate) const LOCATION: &str = "sim://checkpoints";

/// What goes wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// It was not done.
    Before,
    /// It was done, and the answer was lost.
    After,
}

#[derive(Default)]
struct Inner {
    objects: MemoryStore,
    /// So often in a hundred something goes wrong; drawn from a sequence of its own.
    faults: AtomicU64,
    drawn: AtomicU64,
    deleted: Mutex<Vec<String>>,
}

/// See the module. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Blobs(Arc<Inner>);

impl Blobs {
    /// From now on so many operations in a hundred fail.
    pub(crate) fn fail(&self, percent: u64, seed: u64) {
        self.0.faults.store(percent, Ordering::SeqCst);
        self.0.drawn.store(seed, Ordering::SeqCst);
    }

    /// What was deleted since this was asked last.
    pub(crate) fn take_deleted(&self) -> Vec<String> {
        std::mem::take(&mut *self.deleted())
    }

    /// What is there, whatever goes wrong.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.objects.exists(path).unwrap_or(false)
    }

    pub(crate) fn truth(&self) -> &dyn BlobStore {
        &self.0.objects
    }

    fn deleted(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.deleted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> Fault {
        let percent = self.0.faults.load(Ordering::SeqCst);
        if percent == 0 {
            return Fault::None;
        }
        let drawn = self.0.drawn.load(Ordering::SeqCst);
        let mut random = crate::random::Random::new(drawn);
        let fault = match random.percent(percent) {
            false => Fault::None,
            true if random.percent(50) => Fault::Before,
            true => Fault::After,
        };
        self.0.drawn.store(random.next(), Ordering::SeqCst);
        fault
    }

    fn run<T>(&self, path: &str, work: impl FnOnce(&MemoryStore) -> Result<T>) -> Result<T> {
        let away = || StorageError::Io {
            action: "reach",
            path: path.to_owned(),
            source: std::io::ErrorKind::TimedOut.into(),
        };
        match self.fault() {
            Fault::None => work(&self.0.objects),
            Fault::Before => Err(away()),
            Fault::After => work(&self.0.objects).and_then(|_| Err(away())),
        }
    }
}

impl BlobStore for Blobs {
    fn location(&self) -> Option<String> {
        Some(LOCATION.to_owned())
    }

    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.run(path, |store| store.put_new(path, bytes))
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        self.run(path, |store| store.get(path))
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.run(path, |store| store.get_range(path, range))
    }

    fn exists(&self, path: &str) -> Result<bool> {
        self.run(path, |store| store.exists(path))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.run(folder, |store| store.list(folder))
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.deleted().push(path.to_owned());
        self.run(path, |store| store.delete(path))
    }

    fn delete_all(&self, folder: &str) -> Result<()> {
        self.deleted().push(folder.to_owned());
        self.run(folder, |store| store.delete_all(folder))
    }

    fn sweep(&self, folder: &str) -> Result<usize> {
        self.run(folder, |store| store.sweep(folder))
    }
}

impl OpenStore for Blobs {
    fn open(&self, _: &str) -> Result<Arc<dyn BlobStore>> {
        Ok(Arc::new(self.clone()))
    }
}
