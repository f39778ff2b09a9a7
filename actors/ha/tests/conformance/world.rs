//! The stores that the suite runs over.

use hurtig_core::time::{Clock, SystemClock};
use hurtig_ha::file::FileStore;
use hurtig_ha::kv::{Change, Guard, Key, Outcome, Revision, Store, Transaction};
use hurtig_ha::leader::{Leadership, Term};
use hurtig_ha::memory::MemoryStore;
use hurtig_ha::records::{Keys, LeaderToken, Records};
use hurtig_kit::BlockingPool;
use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A store, empty, and what keeps it alive.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    /// The least that a lease may live.
    pub(crate) ttl: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    #[allow(dead_code, reason = "it is held")]
    pub(crate) alive: Box<dyn Any>,
}

/// How long a test may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs a check over a store.
pub(crate) fn run<O, F>(open: fn() -> O, check: impl FnOnce(World) -> F)
where
    O: Future<Output = Option<World>>,
    F: Future<Output = ()>,
{
    block_on(async {
        if let Some(world) = open().await {
            check(world).await;
        }
    });
}

/// Runs a test that must end.
pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let test = async { tokio::time::timeout(PATIENCE, test).await };
    local.block_on(&runtime, test).expect("the test is stuck");
}

#[allow(clippy::unused_async, reason = "others wait")]
pub(crate) async fn memory() -> Option<World> {
    let clock = SystemClock::new();
    Some(World {
        store: Arc::new(MemoryStore::new(clock.clone())),
        ttl: Duration::from_secs(2),
        clock,
        alive: Box::new(()),
    })
}

#[allow(clippy::unused_async, reason = "others wait")]
pub(crate) async fn file() -> Option<World> {
    let (dir, pool, clock) = (
        tempfile::tempdir().unwrap(),
        BlockingPool::new().unwrap(),
        SystemClock::new(),
    );
    let store = FileStore::open(dir.path(), clock.clone(), pool.threads()).unwrap();
    Some(World {
        store: Arc::new(store),
        ttl: Duration::from_secs(2),
        clock,
        alive: Box::new((dir, Closing(Some(pool)))),
    })
}

/// A pool that may be dropped where asynchronous code runs.
struct Closing(Option<BlockingPool>);

impl Drop for Closing {
    fn drop(&mut self) {
        let pool = self.0.take();
        // Closing waits, which this thread must not.
        std::thread::spawn(move || drop(pool)).join().unwrap();
    }
}

impl World {
    pub(crate) fn records(&self) -> Records {
        Records::new(self.store.clone(), self.keys())
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys::new("/hurtig", "test")
    }

    /// Writes the leader's key as somebody, and leads for ever.
    pub(crate) async fn lead(&self) -> LeaderToken {
        let key = self.keys().leader();
        if let Some(old) = self.store.get(&key).await.unwrap() {
            let delete = Transaction::new(
                vec![Guard::Unchanged(key.clone(), old.modified)],
                vec![Change::Delete(key.clone())],
            );
            done(self.store.commit(delete).await);
        }
        let revision = put_new(&*self.store, key.as_str(), b"somebody").await;
        let term = Term {
            incarnation: 1,
            revision,
        };
        LeaderToken::new(term, Leadership::for_ever(self.clock.clone(), term))
    }
}

/// The revision of a transaction that must have taken effect.
pub(crate) fn done(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Done(revision) => revision,
        other => panic!("not carried out: {other:?}"),
    }
}

/// Writes a value under a key that must be free.
pub(crate) async fn put_new(store: &dyn Store, key: &str, value: &[u8]) -> Revision {
    let key = Key::new(key);
    let put = Change::Put(key.clone(), value.to_vec(), None);
    done(
        store
            .commit(Transaction::new(vec![Guard::Absent(key)], vec![put]))
            .await,
    )
}
