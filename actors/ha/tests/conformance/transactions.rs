//! Transactions, over any store.

use crate::world::{World, done, put_new};
use hurtig_ha::kv::{Change, Guard, Key, Listing, Machine, Outcome, Revision, Transaction};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn key(text: &str) -> Key {
    Key::new(text)
}

fn put(at: &str, value: &[u8]) -> Change {
    Change::Put(key(at), value.to_vec(), None)
}

fn refused(outcome: Outcome) -> Listing {
    match outcome {
        Outcome::Refused(seen) => seen,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) async fn guards_decide_and_a_refusal_shows_what_was_seen(world: &World) {
    let store = &*world.store;
    let first = put_new(store, "/t/a", b"1").await;
    let attempt = |guard: Guard| {
        let changes = vec![put("/t/new", b"x")];
        store.commit(Transaction::new(
            vec![Guard::Absent(key("/t/new")), guard],
            changes,
        ))
    };
    let broken = [
        Guard::Absent(key("/t/a")),
        Guard::Present(key("/t/b")),
        Guard::CreatedAt(key("/t/a"), Revision(first.0 + 1)),
        Guard::CreatedAt(key("/t/b"), first),
        Guard::Unchanged(key("/t/a"), Revision(first.0 + 1)),
        Guard::Unchanged(key("/t/b"), first),
        Guard::NoneBelow(key("/t")),
    ];
    for guard in broken {
        let seen = refused(attempt(guard.clone()).await);
        assert_eq!(seen.revision, first, "{guard:?}");
        let of_a = seen.get(&key("/t/a"));
        assert!(
            of_a.is_none_or(|entry| entry.value == b"1" && entry.created == first),
            "{guard:?}"
        );
        let names_a = *guard.key() == key("/t/a");
        assert_eq!(of_a.is_some(), names_a, "{guard:?}");
    }
    let holding = [
        Guard::Absent(key("/t/b")),
        Guard::Present(key("/t/a")),
        Guard::CreatedAt(key("/t/a"), first),
        Guard::Unchanged(key("/t/a"), first),
        Guard::NoneBelow(key("/t/a")),
    ];
    for guard in holding {
        let revision = done(attempt(guard.clone()).await);
        let delete = Transaction::new(
            vec![Guard::Unchanged(key("/t/new"), revision)],
            vec![Change::Delete(key("/t/new"))],
        );
        done(store.commit(delete).await);
    }
}

pub(crate) async fn a_transaction_takes_effect_wholly_or_not_at_all(world: &World) {
    let store = &*world.store;
    put_new(store, "/t/old", b"1").await;
    let changes = || {
        vec![
            put("/t/a", b"1"),
            put("/t/b", b"2"),
            Change::Delete(key("/t/old")),
        ]
    };
    let refused_one = Transaction::new(
        vec![Guard::Absent(key("/t/a")), Guard::Present(key("/t/x"))],
        changes(),
    );
    refused(store.commit(refused_one).await);
    assert_eq!(store.list(&key("/t")).await.unwrap().entries.len(), 1);
    let revision = done(
        store
            .commit(Transaction::new(vec![Guard::Absent(key("/t/a"))], changes()))
            .await,
    );
    let listing = store.list(&key("/t")).await.unwrap();
    assert_eq!(listing.revision, revision);
    let names: Vec<&str> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(names, ["/t/a", "/t/b"]);
    assert!(
        listing
            .entries
            .iter()
            .all(|entry| entry.created == revision && entry.modified == revision)
    );
}

pub(crate) async fn a_key_that_was_deleted_is_created_anew(world: &World) {
    let store = &*world.store;
    let first = put_new(store, "/t/a", b"1").await;
    let guard = || vec![Guard::Unchanged(key("/t/a"), first)];
    let second = done(
        store
            .commit(Transaction::new(guard(), vec![put("/t/a", b"2")]))
            .await,
    );
    let entry = store.get(&key("/t/a")).await.unwrap().unwrap();
    assert_eq!(
        (entry.created, entry.modified, entry.value.as_slice()),
        (first, second, &b"2"[..])
    );
    let guard = vec![Guard::Unchanged(key("/t/a"), second)];
    done(
        store
            .commit(Transaction::new(guard, vec![Change::Delete(key("/t/a"))]))
            .await,
    );
    assert_eq!(store.get(&key("/t/a")).await.unwrap(), None);
    let third = put_new(store, "/t/a", b"1").await;
    assert!(third > second);
    assert_eq!(store.get(&key("/t/a")).await.unwrap().unwrap().created, third);
}

pub(crate) async fn a_transaction_that_is_sent_twice_takes_effect_once(world: &World) {
    let store = &*world.store;
    let transaction = Transaction::new(vec![Guard::Absent(key("/t/a"))], vec![put("/t/a", b"mine")]);
    let revision = done(store.commit(transaction.clone()).await);
    let seen = refused(store.commit(transaction.clone()).await);
    assert!(transaction.is_seen_in(&seen));
    assert_eq!(seen.revision, revision);
}

pub(crate) async fn a_question_without_changes_is_answered(world: &World) {
    let store = &*world.store;
    let revision = put_new(store, "/t/a", b"1").await;
    let ask = |guard: Guard| store.commit(Transaction::new(vec![guard], vec![]));
    assert_eq!(done(ask(Guard::CreatedAt(key("/t/a"), revision)).await), revision);
    refused(ask(Guard::Absent(key("/t/a"))).await);
    assert_eq!(store.list(&key("/t")).await.unwrap().revision, revision);
}

pub(crate) async fn lists_hold_what_lies_below_and_nothing_else(world: &World) {
    let store = &*world.store;
    for name in ["/t", "/t-a", "/t/b", "/t/c/d", "/t0", "/u"] {
        put_new(store, name, name.as_bytes()).await;
    }
    let listing = store.list(&key("/t")).await.unwrap();
    let names: Vec<&str> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(names, ["/t/b", "/t/c/d"]);
}

/// A guard or a change of one of three keys, by number; revisions are taken from what is there.
fn arbitrary() -> impl Strategy<Value = Vec<(u8, u8, u8, u8)>> {
    prop::collection::vec((0..4u8, 0..6u8, 0..3u8, any::<u8>()), 1..4)
}

fn transaction(plan: &[(u8, u8, u8, u8)], machine: &Machine) -> Option<Transaction> {
    let mut guards = Vec::new();
    let mut changes: Vec<Change> = Vec::new();
    for (name, guard, change, value) in plan {
        let at = Key::new(format!("/t/{name}"));
        let seen = machine.get(&at);
        let revision = seen.map_or(Revision(1), |entry| {
            if value % 4 == 0 {
                entry.created
            } else {
                entry.modified
            }
        });
        guards.push(match guard {
            0 => Guard::Absent(at.clone()),
            1 => Guard::Present(at.clone()),
            2 => Guard::CreatedAt(at.clone(), revision),
            3 => Guard::NoneBelow(at.clone()),
            _ => Guard::as_seen(&at, seen),
        });
        changes.push(match change {
            0 => Change::Delete(at),
            _ => Change::Put(at, vec![*value], None),
        });
    }
    let mut names: Vec<&Key> = changes.iter().map(Change::key).collect();
    names.sort();
    names.dedup();
    let anchored = guards.iter().zip(&changes).any(|(guard, change)| match guard {
        Guard::Unchanged(..) => true,
        Guard::Absent(_) => matches!(change, Change::Put(..)),
        _ => false,
    });
    (anchored && names.len() == changes.len()).then(|| Transaction::new(guards, changes))
}

/// Moves the revisions of what a store says to where the machine's begin.
fn moved(listing: &Listing, base: u64) -> Listing {
    let mut listing = listing.clone();
    listing.revision.0 -= base;
    for entry in &mut listing.entries {
        entry.created.0 -= base;
        entry.modified.0 -= base;
    }
    listing
}

fn lifted(transaction: &Transaction, base: u64) -> Transaction {
    let guards = transaction.guards().iter().map(|guard| match guard {
        Guard::CreatedAt(key, revision) => Guard::CreatedAt(key.clone(), Revision(revision.0 + base)),
        Guard::Unchanged(key, revision) => Guard::Unchanged(key.clone(), Revision(revision.0 + base)),
        other => other.clone(),
    });
    Transaction::new(guards.collect(), transaction.changes().to_vec())
}

pub(crate) async fn random_transactions_end_as_in_the_definition(world: &World) {
    let store = &*world.store;
    let base = store.list(&key("/t")).await.unwrap().revision.0;
    let mut machine = Machine::default();
    let mut runner = TestRunner::default();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..300 {
        let plan = arbitrary().new_tree(&mut runner).unwrap().current();
        let Some(transaction) = transaction(&plan, &machine) else {
            continue;
        };
        let outcome = store.commit(lifted(&transaction, base)).await;
        match machine.decide(&transaction) {
            Ok(batch) => {
                machine.apply(&batch);
                assert_eq!(
                    outcome,
                    Outcome::Done(Revision(batch.revision.0 + base)),
                    "{transaction:?}"
                );
                done += 1;
            }
            Err(Outcome::Refused(expected)) => {
                let Outcome::Refused(seen) = outcome else {
                    panic!("{outcome:?} for {transaction:?}");
                };
                assert_eq!(moved(&seen, base), expected, "{transaction:?}");
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(done > 20 && refused > 20, "{done} done, {refused} refused");
    let listing = store.list(&key("/t")).await.unwrap();
    assert_eq!(moved(&listing, base), machine.list(&key("/t")));
}
