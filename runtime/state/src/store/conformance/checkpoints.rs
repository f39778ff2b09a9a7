//! What checkpoints hold, and what a restore makes of them.

use super::{Bench, entry, get, run, scan, write};
use crate::store::{ByteStore, ExpiryFilter, StateId};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

pub(super) fn directories(bench: &Bench<'_>) {
    fs::create_dir(bench.path("taken")).unwrap();
    let store = bench.create("store");
    store.checkpoint(&bench.path("chk")).unwrap();
    let created = bench.factory.create(&bench.path("taken")).map(drop);
    let restored = bench
        .factory
        .restore(&bench.path("chk"), &bench.path("taken"))
        .map(drop);
    let saved = store.checkpoint(&bench.path("taken")).map(drop);
    for refused in [created, restored, saved] {
        let text = refused.expect_err("a directory that exists is taken").chain();
        assert!(text.contains("taken"), "the error does not name the path: {text}");
    }
    assert!(fs::read_dir(bench.path("taken")).unwrap().next().is_none());
    let absent = bench
        .factory
        .restore(&bench.path("absent"), &bench.path("from-absent"))
        .map(drop);
    let text = absent.expect_err("there is no such checkpoint").chain();
    assert!(
        text.contains("absent"),
        "the error does not name the path: {text}"
    );
}

/// Two states with one entry that was written, one that was ingested and one that was deleted.
fn fill(store: &dyn ByteStore) -> [StateId; 2] {
    let states = ["a", "b"].map(|name| store.open_state(name).unwrap());
    for (state, value) in states.into_iter().zip([b"of a", b"of b"]) {
        write(store, state, &[(b"gone", Some(b"x")), (b"kept", Some(value))]);
        store
            .ingest(state, &run(&[(b"ingested", Some(value))]).sort())
            .unwrap();
        write(store, state, &[(b"gone", None)]);
    }
    states
}

/// Whether a store has what [`fill`] has put into one.
fn assert_filled(store: &dyn ByteStore) {
    assert_eq!(store.state_names(), ["a", "b"]);
    for (name, value) in [("b", b"of b"), ("a", b"of a")] {
        let state = store.open_state(name).unwrap();
        assert_eq!(
            scan(store, state, b""),
            [entry(b"ingested", value), entry(b"kept", value)]
        );
        assert_eq!(get(store, state, b"gone"), None);
    }
}

pub(super) fn restore(bench: &Bench<'_>) {
    let store = bench.create("store");
    let states = fill(&*store);
    store.checkpoint(&bench.path("chk")).unwrap();
    // What comes after belongs to the next one.
    write(&*store, states[0], &[(b"kept", None), (b"later", Some(b"1"))]);
    store.delete_range(states[1], b"a"..b"z").unwrap();
    store.open_state("later").unwrap();
    store.checkpoint(&bench.path("chk-2")).unwrap();
    assert_filled(&*bench.restore("chk", "first"));
    let second = bench.restore("chk-2", "second");
    assert_eq!(second.state_names(), ["a", "b", "later"]);
    let state = second.open_state("a").unwrap();
    assert_eq!(
        scan(&*second, state, b""),
        [entry(b"ingested", b"of a"), entry(b"later", b"1")]
    );
    assert_eq!(scan(&*second, second.open_state("b").unwrap(), b""), []);
    // A restored store goes on like any other.
    second.ingest(state, &run(&[(b"later", None)]).sort()).unwrap();
    write(&*second, state, &[(b"new", Some(b""))]);
    assert_eq!(
        scan(&*second, state, b""),
        [entry(b"ingested", b"of a"), entry(b"new", b"")]
    );
}

pub(super) fn outlives(bench: &Bench<'_>) {
    let store = bench.create("store");
    fill(&*store);
    store.checkpoint(&bench.path("chk")).unwrap();
    drop(store);
    fs::remove_dir_all(bench.path("store")).unwrap();
    for name in ["first", "second"] {
        let restored = bench.restore("chk", name);
        assert_filled(&*restored);
        // Neither its changes nor its end reach the checkpoint.
        let state = restored.open_state("a").unwrap();
        restored.delete_range(state, b"a"..b"z").unwrap();
        restored
            .checkpoint(&bench.path(&format!("chk-of-{name}")))
            .unwrap();
        drop(restored);
        fs::remove_dir_all(bench.path(name)).unwrap();
    }
    assert_filled(&*bench.restore("chk", "third"));
}

pub(super) fn files(bench: &Bench<'_>) {
    let store = bench.create("store");
    fill(&*store);
    let mut listed = store.checkpoint(&bench.path("chk")).unwrap();
    listed.sort();
    let found = fs::read_dir(bench.path("chk")).unwrap().map(|file| file.unwrap());
    let mut found: Vec<_> = found
        .map(|file| {
            (
                file.file_name().into_string().unwrap(),
                file.metadata().unwrap().len(),
            )
        })
        .collect();
    found.sort();
    let listed: Vec<_> = listed.into_iter().map(|file| (file.name, file.bytes)).collect();
    assert_eq!(listed, found);
    assert!(!listed.is_empty());
}

pub(super) fn not_whole(bench: &Bench<'_>) {
    let store = bench.create("store");
    fill(&*store);
    let listed = store.checkpoint(&bench.path("chk")).unwrap();
    let copy = |name: &str| {
        fs::create_dir(bench.path(name)).unwrap();
        for file in &listed {
            let to = bench.path(name).join(&file.name);
            fs::copy(bench.path("chk").join(&file.name), to).unwrap();
        }
        bench.path(name)
    };
    assert!(bench.factory.restore(&copy("copy"), &bench.path("whole")).is_ok());
    for (number, file) in listed.iter().enumerate() {
        let missing = copy(&format!("missing-{number}"));
        fs::remove_file(missing.join(&file.name)).unwrap();
        let short = copy(&format!("short-{number}"));
        fs::write(short.join(&file.name), b"").unwrap();
        for (kind, checkpoint) in [("missing", missing), ("short", short)] {
            let dir = bench.path(&format!("of-{kind}-{number}"));
            let refused = bench.factory.restore(&checkpoint, &dir);
            assert!(refused.is_err(), "restored although '{}' is {kind}", file.name);
        }
    }
}

pub(super) fn shared_files(bench: &Bench<'_>) {
    let store = bench.create("store");
    let states = fill(&*store);
    let mut first = Vec::new();
    for round in 0..5_u8 {
        // As long as before, so that lengths do not tell.
        write(&*store, states[0], &[(b"kept", Some(&[round; 100]))]);
        let name = format!("chk-{round}");
        let files = store.checkpoint(&bench.path(&name)).unwrap();
        if round == 0 {
            first.clone_from(&files);
        }
        for file in files.iter().filter(|file| file.shared && first.contains(file)) {
            let [old, new] = ["chk-0", &name].map(|dir| fs::read(bench.path(dir).join(&file.name)).unwrap());
            assert!(old == new, "'{}' is said to be shared and has changed", file.name);
        }
    }
}

/// Rounds of writes that checkpoints fall into.
const CUTS: u32 = 5;

/// One thread counts in one state, then in the other; each checkpoint finds them equal or one apart.
pub(super) fn cut(bench: &Bench<'_>) {
    let store = bench.create("store");
    let states = ["a", "b"].map(|name| store.open_state(name).unwrap());
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ended = Finished(&done);
            while !done.load(Ordering::Relaxed) {
                let count = written.load(Ordering::Relaxed) + 1;
                let bytes = count.to_be_bytes();
                for state in states {
                    write(&*store, state, &[(b"x", Some(&bytes)), (b"y", Some(&bytes))]);
                }
                written.store(count, Ordering::Relaxed);
            }
        });
        let finished = Finished(&done);
        for number in 0..CUTS {
            // A checkpoint that nobody writes beside shows nothing.
            let before = written.load(Ordering::Relaxed);
            while written.load(Ordering::Relaxed) == before && !done.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            store.checkpoint(&bench.path(&format!("chk-{number}"))).unwrap();
        }
        drop(finished);
    });
    for number in 0..CUTS {
        let restored = bench.restore(&format!("chk-{number}"), &format!("restored-{number}"));
        let [a, b] = ["a", "b"].map(|name| counted(&*restored, name));
        assert!(
            a == b || a == b + 1,
            "no moment of the store had {a} in one state and {b} in the other"
        );
    }
}

/// Lets the other thread end even when this one fails.
struct Finished<'a>(&'a AtomicBool);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn counted(store: &dyn ByteStore, name: &str) -> u64 {
    let state = store.open_state(name).unwrap();
    let [x, y] = [b"x", b"y"].map(|key| get(store, state, key));
    assert_eq!(x, y, "half of a run is in the checkpoint");
    x.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

/// Values that begin with an `x` have expired.
struct Marked;

impl ExpiryFilter for Marked {
    fn has_expired(&self, value: &[u8]) -> bool {
        value.starts_with(b"x")
    }
}

pub(super) fn expiring(bench: &Bench<'_>) {
    let store = bench.create("store");
    let expiring = |store: &dyn ByteStore, name| store.open_expiring_state(name, Arc::new(Marked)).unwrap();
    let (born, plain) = (expiring(&*store, "born"), store.open_state("plain").unwrap());
    let grown = store.open_state("grown").unwrap();
    let check = |store: &dyn ByteStore, states: [StateId; 3]| {
        for state in states {
            assert_eq!(get(store, state, b"live"), Some(b"1".to_vec()));
            // A value comes and goes with no other.
            let dead = get(store, state, b"dead");
            assert!(
                dead.as_ref().is_none_or(|value| value == b"x") && (state != states[1] || dead.is_some()),
                "{dead:?}"
            );
        }
        assert_eq!(store.state_names(), ["born", "grown", "plain"]);
    };
    for state in [born, plain, grown] {
        write(&*store, state, &[(b"dead", Some(b"before"))]);
        write(&*store, state, &[(b"live", Some(b"1")), (b"dead", Some(b"x"))]);
    }
    check(&*store, [born, plain, grown]);
    assert_eq!(expiring(&*store, "grown"), grown, "a name has one state");
    assert_eq!(store.open_state("born").unwrap(), born, "a name has one state");
    for name in ["chk-1", "chk-2"] {
        for state in [born, plain, grown] {
            write(&*store, state, &[(name.as_bytes(), Some(b"more"))]);
        }
        check(&*store, [born, plain, grown]);
        store.checkpoint(&bench.path(name)).unwrap();
    }
    let again = bench.restore("chk-2", "again");
    let plain = again.open_state("plain").unwrap();
    check(
        &*again,
        [expiring(&*again, "born"), plain, expiring(&*again, "grown")],
    );
    let stays = bench.restore("chk-2", "stays");
    let states = ["born", "plain", "grown"].map(|name| stays.open_state(name).unwrap());
    check(&*stays, states);
    write(&*stays, states[0], &[(b"dead", Some(b"x stays"))]);
    assert_eq!(get(&*stays, states[0], b"dead"), Some(b"x stays".to_vec()));
}
