//! Watches and leases, over any store.

use crate::world::{World, done, put_new};
use hurtig_ha::kv::{
    Change, Guard, Key, Outcome, Revision, Store, StoreError, Transaction, Update, Watched, Watcher,
};
use std::sync::Arc;
use std::time::Duration;

fn key(text: &str) -> Key {
    Key::new(text)
}

async fn put(store: &dyn Store, at: &str, value: &[u8]) -> Revision {
    let at = key(at);
    let seen = store.get(&at).await.unwrap();
    let guard = Guard::as_seen(&at, seen.as_ref());
    done(
        store
            .commit(Transaction::new(
                vec![guard],
                vec![Change::Put(at, value.to_vec(), None)],
            ))
            .await,
    )
}

fn told(watched: Watched) -> (Revision, Vec<(String, Option<Vec<u8>>)>) {
    match watched {
        Watched::Changed(revision, changes) => {
            let pair = |(key, entry): (Key, Option<hurtig_ha::kv::Entry>)| {
                (key.as_str().to_owned(), entry.map(|entry| entry.value))
            };
            (revision, changes.into_iter().map(pair).collect())
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_watch_tells_every_change_in_order(world: &World) {
    let store = &*world.store;
    let before = put_new(store, "/w/a", b"0").await;
    let mut live = store.watch(&key("/w"), before);
    put_new(store, "/x", b"elsewhere").await;
    let first = put(store, "/w/a", b"1").await;
    assert_eq!(
        told(live.next().await),
        (first, vec![("/w/a".into(), Some(b"1".to_vec()))])
    );
    let both = vec![
        Change::Put(key("/w/b"), b"2".to_vec(), None),
        Change::Delete(key("/w/a")),
    ];
    let second = done(
        store
            .commit(Transaction::new(vec![Guard::Absent(key("/w/b"))], both))
            .await,
    );
    for watch in [&mut live, &mut store.watch(&key("/w"), first)] {
        let (revision, mut changes) = told(watch.next().await);
        changes.sort();
        assert_eq!(revision, second);
        assert_eq!(
            changes,
            [("/w/a".into(), None), ("/w/b".into(), Some(b"2".to_vec()))]
        );
    }
    // That nothing more comes is the subject.
    let waiting = tokio::time::timeout(Duration::from_millis(50), live.next()).await;
    assert!(waiting.is_err(), "{waiting:?}");
}

pub(crate) async fn a_watch_behind_a_compaction_says_so_and_a_watcher_goes_on(world: &World) {
    let store = &world.store;
    let first = put_new(&**store, "/w/a", b"0").await;
    let mut watcher = Watcher::new(store.clone(), key("/w"));
    assert!(matches!(watcher.next().await, Update::Snapshot(listing) if listing.entries.len() == 1));
    put(&**store, "/w/a", b"1").await;
    let last = put(&**store, "/w/a", b"2").await;
    store.compact(last).await.unwrap();
    assert_eq!(
        store.watch(&key("/w"), Revision(first.0 - 1)).next().await,
        Watched::Compacted
    );
    // The watcher had not asked yet: it has missed a revision, and shows what is there.
    let Update::Snapshot(listing) = watcher.next().await else {
        panic!("a snapshot comes after a gap");
    };
    assert_eq!(listing.entries[0].value, b"2");
    let next = put(&**store, "/w/a", b"3").await;
    assert!(matches!(watcher.next().await, Update::Changed(revision, _) if revision == next));
    // Compacting again what is compacted harms nobody.
    let _ = store.compact(first).await;
}

async fn put_leased(store: &Arc<dyn Store>, at: &str, lease: hurtig_ha::kv::LeaseId) -> Outcome {
    let put = Change::Put(key(at), b"leased".to_vec(), Some(lease));
    store
        .commit(Transaction::new(vec![Guard::Absent(key(at))], vec![put]))
        .await
}

pub(crate) async fn keys_end_with_their_lease_and_live_while_it_is_renewed(world: &World) {
    let store = &world.store;
    let lease = store.grant(world.ttl).await.unwrap();
    assert!(lease.ttl >= world.ttl);
    let written = done(put_leased(store, "/l/a", lease.id).await);
    assert_eq!(
        store.get(&key("/l/a")).await.unwrap().unwrap().lease,
        Some(lease.id)
    );
    let mut watch = store.watch(&key("/l"), written);
    // Longer than it lives, renewed often enough for a machine that stalls.
    for _ in 0..5 {
        tokio::select! {
            told = watch.next() => panic!("it ended although it was renewed: {told:?}"),
            () = tokio::time::sleep(lease.ttl / 4) => store.renew(lease.id).await.unwrap(),
        }
    }
    let (_, changes) = told(watch.next().await);
    assert_eq!(changes, [("/l/a".to_owned(), None)]);
    assert_eq!(store.renew(lease.id).await, Err(StoreError::LeaseGone(lease.id)));
}

pub(crate) async fn a_lease_that_is_gone_carries_nothing(world: &World) {
    let store = &world.store;
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    done(put_leased(store, "/l/a", lease.id).await);
    store.revoke(lease.id).await.unwrap();
    assert_eq!(store.get(&key("/l/a")).await.unwrap(), None);
    let outcome = put_leased(store, "/l/b", lease.id).await;
    assert_eq!(outcome, Outcome::Rejected(StoreError::LeaseGone(lease.id)));
    assert_eq!(store.renew(lease.id).await, Err(StoreError::LeaseGone(lease.id)));
    assert_eq!(store.get(&key("/l/b")).await.unwrap(), None);
}
