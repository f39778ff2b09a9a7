//! Dropping what has expired where RocksDB compacts.
//!
//! States that expire are in families of another kind, so that the compactions of all others call nobody. What has
//! expired is told by a filter that the state's owner gives once it has opened the state; until then, and when the state
//! does not expire any more, nothing is dropped.

use hurtig_state::store::ExpiryFilter;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{CompactionDecision, Options};
use std::ffi::CStr;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

const NAME: &CStr = c"hurtig.expired";

/// The filter of a family, once there is one.
#[derive(Clone, Default)]
pub(crate) struct FilterSlot(Arc<RwLock<Option<Arc<dyn ExpiryFilter>>>>);

impl fmt::Debug for FilterSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilterSlot(filled: {})", self.get().is_some())
    }
}

impl FilterSlot {
    /// Compactions that begin from now on drop what the filter says.
    pub(crate) fn set(&self, filter: Arc<dyn ExpiryFilter>) {
        // It is one assignment: nobody can have panicked half way.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(filter);
    }

    fn get(&self) -> Option<Arc<dyn ExpiryFilter>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The options of a family whose compactions ask the filter.
    pub(crate) fn options(&self, options: &Options) -> Options {
        let mut options = options.clone();
        options.set_compaction_filter_factory(Compactions(self.clone()));
        options
    }
}

/// Makes a filter for each compaction.
struct Compactions(FilterSlot);

impl CompactionFilterFactory for Compactions {
    type Filter = Compaction;

    fn create(&mut self, _: CompactionFilterContext) -> Compaction {
        Compaction(self.0.get())
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

struct Compaction(Option<Arc<dyn ExpiryFilter>>);

impl CompactionFilter for Compaction {
    fn filter(&mut self, _: u32, _: &[u8], value: &[u8]) -> CompactionDecision {
        match &self.0 {
            Some(filter) if filter.has_expired(value) => CompactionDecision::Remove,
            _ => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where it fails")]
mod tests {
    use super::*;
    use crate::RocksFactory;
    use crate::RocksMemory;
    use crate::options::Tuning;
    use crate::store::RocksStore;
    use hurtig_state::store::{ByteStore, RunBuilder, StateId};
    use std::ops::Range;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Values are numbers, and those below this one have expired.
    #[derive(Default)]
    struct Below(AtomicU64);

    impl ExpiryFilter for Below {
        fn has_expired(&self, value: &[u8]) -> bool {
            let number = value.try_into().map(u64::from_be_bytes);
            number.is_ok_and(|number| number < self.0.load(Ordering::Relaxed))
        }
    }

    fn open(dir: &Path) -> RocksStore {
        RocksStore::open(
            dir,
            Tuning::new(&RocksFactory::new(RocksMemory::new(1 << 20)), dir).unwrap(),
        )
        .unwrap()
    }

    fn fill(store: &RocksStore, state: StateId, values: Range<u64>) {
        let mut run = RunBuilder::new();
        values.for_each(|value| run.put(&value.to_be_bytes(), &value.to_be_bytes()));
        store.write(state, &run.sort()).unwrap();
    }

    fn count(store: &RocksStore, state: StateId) -> usize {
        let mut count = 0;
        let scanned = store.scan(state, &[], &mut |_, _| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        });
        scanned.unwrap();
        count
    }

    #[test]
    fn a_compaction_drops_what_has_expired() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("store"));
        let expired = Arc::new(Below::default());
        let born = store.open_expiring_state("born", expired.clone()).unwrap();
        let grown = store.open_state("grown").unwrap();
        let plain = store.open_state("plain").unwrap();
        for state in [born, grown, plain] {
            fill(&store, state, 0..1_000);
        }
        assert_eq!(
            store.open_expiring_state("grown", expired.clone()).unwrap(),
            grown
        );
        let counts = |store: &RocksStore| {
            [born, grown, plain].map(|state| {
                store.compact(state);
                count(store, state)
            })
        };
        assert_eq!(counts(&store), [1_000, 1_000, 1_000]);
        expired.0.store(400, Ordering::Relaxed);
        // A newer value that has not been compacted keeps its key, whatever becomes of the older one.
        let mut newer = RunBuilder::new();
        newer.put(&7_u64.to_be_bytes(), &9_999_u64.to_be_bytes());
        store.write(born, &newer.sort()).unwrap();
        assert_eq!(counts(&store), [601, 600, 1_000]);

        // After a restore nothing goes before its owner has said what has expired.
        store.checkpoint(&dir.path().join("chk")).unwrap();
        drop(store);
        let again = open(&dir.path().join("chk"));
        let names = ["born", "grown", "plain"];
        assert_eq!(again.state_names(), names);
        let [born, grown, plain] = names.map(|name| again.open_state(name).unwrap());
        expired.0.store(700, Ordering::Relaxed);
        let counts = || {
            [born, grown, plain].map(|state| {
                again.compact(state);
                count(&again, state)
            })
        };
        assert_eq!(counts(), [601, 600, 1_000]);
        let kept = again.open_expiring_state("born", expired).unwrap();
        assert_eq!((kept, counts()), (born, [301, 600, 1_000]));
    }

    #[test]
    fn a_large_state_is_moved_in_several_files() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("store"));
        let state = store.open_state("large").unwrap();
        let mut expected = 0_u64;
        for key in 0..5_u8 {
            let mut run = RunBuilder::new();
            run.put(&[key], &vec![key; 30 << 20]);
            store.write(state, &run.sort()).unwrap();
            expected += (30 << 20) * u64::from(key);
        }
        store
            .open_expiring_state("large", Arc::new(Below::default()))
            .unwrap();
        let mut sum = 0;
        let scanned = store.scan(state, &[], &mut |_, value| {
            sum += value.len() as u64 * u64::from(value[0]);
            std::ops::ControlFlow::Continue(())
        });
        scanned.unwrap();
        assert_eq!((sum, store.state_names()), (expected, vec!["large".to_owned()]));
    }
}
