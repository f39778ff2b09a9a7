//! Memory that several caches share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that the cached entries of several tables may have together; each table may have an equal share.
#[derive(Clone, Debug)]
pub struct CacheMemory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: usize,
    tables: AtomicUsize,
}

impl CacheMemory {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let tables = AtomicUsize::new(0);
        Self {
            shared: Arc::new(Shared { bytes, tables }),
        }
    }

    /// One more table has a share, until it is dropped.
    pub(super) fn join(&self) -> CacheShare {
        self.shared.tables.fetch_add(1, Ordering::Relaxed);
        CacheShare {
            shared: Arc::clone(&self.shared),
        }
    }
}

/// A table's part of a [`CacheMemory`]. It becomes smaller when other tables join.
#[derive(Debug)]
pub(super) struct CacheShare {
    shared: Arc<Shared>,
}

impl CacheShare {
    pub(super) fn bytes(&self) -> usize {
        self.shared.bytes / self.shared.tables.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for CacheShare {
    fn drop(&mut self) {
        self.shared.tables.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_and_come_back() {
        let memory = CacheMemory::new(100);
        let one = memory.join();
        assert_eq!(one.bytes(), 100);
        let two = memory.join();
        assert_eq!((one.bytes(), two.bytes()), (50, 50));
        drop(one);
        assert_eq!(two.bytes(), 100);
    }
}
