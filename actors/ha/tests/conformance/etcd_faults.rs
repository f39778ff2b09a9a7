//! What only a real etcd can suffer.

use crate::elections::{start, timing};
use crate::etcd_process::Etcd;
use crate::records::{job, pointer};
use crate::world::{World, block_on, done, put_new};
use hurtig_core::time::SystemClock;
use hurtig_ha::etcd::{EtcdSettings, EtcdStore};
use hurtig_ha::kv::{
    Change, Guard, Key, Outcome, Parked, Settled, Store, StoreError, Transaction, Update, Watched, Watcher,
    settle,
};
use hurtig_ha::leader::Signal;
use hurtig_ha::records::Failure;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Runs a test with an etcd of its own, if there is one.
fn with_etcd<F: Future<Output = ()>>(test: impl FnOnce(Etcd) -> F) {
    block_on(async {
        if let Some(etcd) = Etcd::start() {
            etcd.ready().await;
            test(etcd).await;
        }
    });
}

fn put(key: &str, value: &[u8]) -> Transaction {
    let key = Key::new(key);
    Transaction::new(
        vec![Guard::Absent(key.clone())],
        vec![Change::Put(key, value.to_vec(), None)],
    )
}

fn world(etcd: &Etcd) -> World {
    World {
        store: Arc::new(etcd.store()),
        ttl: Duration::from_secs(1),
        clock: SystemClock::new(),
        alive: Box::new(()),
    }
}

/// Settles what is parked until it is known.
async fn settled(store: &dyn Store, parked: Parked) -> Settled {
    let mut parked = parked;
    loop {
        match settle(store, parked.transaction, true).await {
            Settled::Unknown(still) => parked = still,
            known => return known,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn parked(settled: Settled) -> Parked {
    match settled {
        Settled::Unknown(parked) => parked,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_write_while_etcd_is_dead_is_unknown_and_is_settled_when_it_is_back() {
    with_etcd(|mut etcd| async move {
        let store = etcd.store();
        let before = put_new(&store, "/k/a", b"1").await;
        let mut watch = store.watch(&Key::new("/k"), before);
        etcd.kill();
        assert!(matches!(watch.next().await, Watched::Lost(_)));
        let lost = parked(settle(&store, put("/k/b", b"2"), false).await);
        assert!(matches!(
            store.get(&Key::new("/k/a")).await,
            Err(StoreError::Unreachable(_))
        ));
        etcd.restart();
        let Settled::Done(revision) = settled(&store, lost).await else {
            panic!("it was not settled");
        };
        assert!(revision > before);
        let listing = store.list(&Key::new("/k")).await.unwrap();
        assert_eq!(listing.entries.len(), 2);
        let mut watcher = store.watch(&Key::new("/k"), before);
        assert!(matches!(watcher.next().await, Watched::Changed(at, _) if at == revision));
    });
}

#[test]
fn a_write_to_a_stopped_etcd_is_unknown_and_takes_effect_once() {
    with_etcd(|etcd| async move {
        let store = etcd.store();
        let before = put_new(&store, "/k/a", b"1").await;
        etcd.pause();
        // The copies lie in the socket, and may be carried out later.
        let lost = parked(settle(&store, put("/k/b", b"2"), false).await);
        assert!(matches!(
            store.get(&Key::new("/k/a")).await,
            Err(StoreError::Unreachable(_))
        ));
        etcd.resume();
        let Settled::Done(revision) = settled(&store, lost).await else {
            panic!("it was not settled");
        };
        assert_eq!(revision.0, before.0 + 1);
        // Nobody carries it out again.
        let next = put_new(&store, "/k/c", b"3").await;
        assert_eq!(next.0, revision.0 + 1);
    });
}

#[test]
fn a_write_that_etcd_carried_out_before_it_was_overwritten_is_overtaken() {
    with_etcd(|etcd| async move {
        let store = etcd.store();
        let transaction = put("/k/a", b"mine");
        let revision = done(store.commit(transaction.clone()).await);
        let key = Key::new("/k/a");
        let over = Transaction::new(
            vec![Guard::Unchanged(key.clone(), revision)],
            vec![Change::Put(key, b"theirs".to_vec(), None)],
        );
        done(store.commit(over).await);
        assert!(matches!(
            settle(&store, transaction, true).await,
            Settled::Overtaken(_)
        ));
    });
}

#[test]
fn a_watcher_survives_a_restart_and_a_compaction() {
    with_etcd(|mut etcd| async move {
        let store: Arc<dyn Store> = Arc::new(etcd.store());
        put_new(&*store, "/k/a", b"1").await;
        let mut watcher = Watcher::new(store.clone(), Key::new("/k"));
        assert!(matches!(watcher.next().await, Update::Snapshot(_)));
        let second = put_new(&*store, "/k/b", b"2").await;
        assert!(matches!(watcher.next().await, Update::Changed(at, _) if at == second));
        etcd.kill();
        etcd.restart();
        etcd.ready().await;
        let other = etcd.store();
        let key = Key::new("/k/b");
        let delete = Transaction::new(
            vec![Guard::Unchanged(key.clone(), second)],
            vec![Change::Delete(key)],
        );
        let third = done(other.commit(delete).await);
        other.compact(third).await.unwrap();
        // The deletion is at the very revision that is compacted: only a list shows it.
        match watcher.next().await {
            Update::Snapshot(listing) => assert_eq!(listing.entries.len(), 1),
            Update::Changed(at, changes) => assert!(at == third && changes[0].1.is_none()),
        }
    });
}

#[test]
fn a_leader_without_etcd_is_suspended_and_goes_on_when_it_is_back() {
    with_etcd(|etcd| async move {
        let world = world(&etcd);
        let mut leader = start(
            &world,
            world.store.clone(),
            SystemClock::new(),
            timing(Duration::from_secs(3)),
        );
        let term = leader.elected().await;
        etcd.pause();
        assert_eq!(leader.signal().await, Signal::Suspended(term));
        let refused = world.records().submit(&leader.token(term), &job(1, 1)).await;
        assert_eq!(refused, Err(Failure::Suspended));
        etcd.resume();
        // Its lease may have ended meanwhile by etcd's own clock.
        match leader.signal().await {
            Signal::Resumed(same) => assert_eq!(same, term),
            Signal::Deposed(same) => {
                assert_eq!(same, term);
                assert!(leader.elected().await > term);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_checkpoint_whose_answer_was_lost_is_neither_lost_nor_deleted() {
    with_etcd(|mut etcd| async move {
        let world = world(&etcd);
        let (records, leader, one) = (world.records(), world.lead().await, job(1, 1));
        records.submit(&leader, &one).await.unwrap();
        let raised = records.raise_epoch(&leader, one.job).await.unwrap();
        let token = records.claim(one.job, raised.epoch, "process 1").await.unwrap();
        records.commit_checkpoint(&token, &pointer(1)).await.unwrap();
        // What was read before etcd dies is the guard of what is written.
        let latest = world.keys().latest(one.job);
        assert!(world.store.get(&latest).await.unwrap().is_some());
        etcd.kill();
        let lost = records.commit_checkpoint(&token, &pointer(2)).await;
        assert!(
            matches!(
                lost,
                Err(Failure::Store(StoreError::Unreachable(_)) | Failure::Unknown(_))
            ),
            "{lost:?}"
        );
        etcd.restart();
        etcd.ready().await;
        records.commit_checkpoint(&token, &pointer(2)).await.unwrap();
        assert_eq!(records.checkpoints(one.job).await.unwrap(), [pointer(2)]);
    });
}

#[test]
fn an_endpoint_that_is_dead_is_left() {
    with_etcd(|etcd| async move {
        let mut settings = EtcdSettings::plain(vec!["http://127.0.0.1:1".into(), etcd.url()]);
        settings.call_timeout = Duration::from_secs(2);
        let store = EtcdStore::new(settings).unwrap();
        assert_eq!(store.get(&Key::new("/k")).await, Ok(None));
        put_new(&store, "/k/a", b"1").await;
        let first =
            EtcdStore::new(EtcdSettings::plain(vec!["http://127.0.0.1:1".into(), etcd.url()])).unwrap();
        assert!(matches!(
            settle(&first, put("/k/b", b"2"), false).await,
            Settled::Done(_)
        ));
    });
}

#[test]
fn users_are_authenticated() {
    let Some(_) = Command::new("etcdctl").arg("version").output().ok() else {
        return;
    };
    with_etcd(|etcd| async move {
        let ctl = |args: &[&str]| {
            let mut command = Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").arg("--endpoints").arg(etcd.url());
            assert!(command.args(args).output().unwrap().status.success(), "{args:?}");
        };
        ctl(&["user", "add", "root:secret"]);
        ctl(&["user", "grant-role", "root", "root"]);
        ctl(&["auth", "enable"]);
        let as_user = |user: Option<(&str, &str)>| {
            let mut settings = EtcdSettings::plain(vec![etcd.url()]);
            settings.user = user.map(|(name, password)| (name.into(), password.into()));
            EtcdStore::new(settings).unwrap()
        };
        put_new(&as_user(Some(("root", "secret"))), "/k/a", b"1").await;
        for stranger in [None, Some(("root", "wrong")), Some(("nobody", "secret"))] {
            let answer = as_user(stranger).commit(put("/k/b", b"2")).await;
            assert!(matches!(answer, Outcome::Rejected(_)), "{stranger:?}: {answer:?}");
        }
    });
}
