//! What happens to a directory: its process ends, and another one begins.

use crate::records::{job, pointer};
use crate::world::{World, block_on, done};
use hurtig_core::time::SystemClock;
use hurtig_ha::file::{FileStore, OpenError};
use hurtig_ha::kv::{Change, Guard, Transaction};
use hurtig_ha::leader::{Leadership, Term};
use hurtig_ha::records::{Failure, LeaderToken};
use hurtig_kit::BlockingPool;
use std::sync::Arc;
use std::time::Duration;

/// A process that leads from a directory.
async fn process(dir: &std::path::Path, pool: &BlockingPool) -> (World, LeaderToken) {
    let clock = SystemClock::new();
    let store = FileStore::open(dir, clock.clone(), pool.threads()).unwrap();
    let world = World {
        store: Arc::new(store),
        ttl: Duration::from_secs(2),
        clock: clock.clone(),
        alive: Box::new(()),
    };
    let key = world.keys().leader();
    let lease = world.store.grant(Duration::from_secs(60)).await.unwrap();
    let put = Change::Put(key.clone(), b"me".to_vec(), Some(lease.id));
    // Absent: the one before has left nothing.
    let revision = done(
        world
            .store
            .commit(Transaction::new(vec![Guard::Absent(key)], vec![put]))
            .await,
    );
    let term = Term {
        incarnation: 1,
        revision,
    };
    let token = LeaderToken::new(term, Leadership::for_ever(clock, term));
    (world, token)
}

#[test]
fn records_outlive_a_process_and_leases_do_not_and_terms_grow() {
    let (dir, pool, one) = (
        tempfile::tempdir().unwrap(),
        BlockingPool::new().unwrap(),
        job(1, 1),
    );
    block_on(async {
        let (world, leader) = process(dir.path(), &pool).await;
        let records = world.records();
        records.submit(&leader, &one).await.unwrap();
        let raised = records.raise_epoch(&leader, one.job).await.unwrap();
        let token = records.claim(one.job, raised.epoch, "process 1").await.unwrap();
        records.commit_checkpoint(&token, &pointer(1)).await.unwrap();
        let second = FileStore::open(dir.path(), SystemClock::new(), pool.threads());
        assert!(matches!(second, Err(OpenError::InUse(_))));
        drop((records, world));
        let (world, next) = process(dir.path(), &pool).await;
        assert!(next.term() > leader.term());
        let records = world.records();
        assert_eq!(records.checkpoints(one.job).await.unwrap(), [pointer(1)]);
        assert_eq!(
            records.raise_epoch(&leader, one.job).await,
            Err(Failure::Deposed(leader.term()))
        );
        // The JobMaster did not die with the jobmanager.
        records.commit_checkpoint(&token, &pointer(2)).await.unwrap();
        records.raise_epoch(&next, one.job).await.unwrap();
        let late = records.commit_checkpoint(&token, &pointer(3)).await;
        assert_eq!(late, Err(token.fenced()));
    });
    drop(pool);
}
