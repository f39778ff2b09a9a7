//! What reads answer after writes.

use super::{Bench, entry, get, run, scan, scan_view, write};
use crate::store::RunBuilder;
use std::ops::ControlFlow;

pub(super) fn last_write_wins(bench: &Bench<'_>) {
    let store = bench.create("store");
    let state = store.open_state("counts").unwrap();
    assert_eq!(get(&*store, state, b"a"), None);
    write(
        &*store,
        state,
        &[(b"b", Some(b"2")), (b"a", Some(b"1")), (b"never", None)],
    );
    assert_eq!(get(&*store, state, b"a"), Some(b"1".to_vec()));
    write(
        &*store,
        state,
        &[(b"a", Some(b"longer than before")), (b"b", None)],
    );
    assert_eq!(get(&*store, state, b"a"), Some(b"longer than before".to_vec()));
    assert_eq!(get(&*store, state, b"b"), None);
    write(&*store, state, &[(b"b", Some(b"again"))]);
    assert_eq!(get(&*store, state, b"b"), Some(b"again".to_vec()));
    write(&*store, state, &[]);
    store.check().unwrap();
}

pub(super) fn any_bytes(bench: &Bench<'_>) {
    let store = bench.create("store");
    let state = store.open_state("bytes").unwrap();
    let large = vec![0xab; 1 << 20];
    let keys: [&[u8]; 5] = [&[0], &[0, 0], &[0xff], &[0xff, 0xff, 0], &large[..1 << 10]];
    for key in keys {
        write(&*store, state, &[(key, Some(b""))]);
        assert_eq!(
            get(&*store, state, key),
            Some(Vec::new()),
            "an empty value is a value"
        );
        write(&*store, state, &[(key, Some(&large))]);
        assert!(get(&*store, state, key).as_ref() == Some(&large));
    }
    assert_eq!(scan(&*store, state, &[]).len(), keys.len());
    assert!(store.memory_used() > 0);
}

pub(super) fn states_are_apart(bench: &Bench<'_>) {
    let store = bench.create("store");
    let names = ["a", "default", "a/b ü\0", ""];
    let states: Vec<_> = names.iter().map(|name| store.open_state(name).unwrap()).collect();
    for (state, name) in states.iter().zip(names) {
        assert_eq!(store.open_state(name).unwrap(), *state, "a name has one state");
        write(&*store, *state, &[(b"key", Some(name.as_bytes()))]);
    }
    for (state, name) in states.iter().zip(names) {
        assert_eq!(scan(&*store, *state, b""), [entry(b"key", name.as_bytes())]);
    }
    store.delete_range(states[0], b"a"..b"z").unwrap();
    assert_eq!(get(&*store, states[0], b"key"), None);
    assert_eq!(get(&*store, states[1], b"key"), Some(b"default".to_vec()));
    let mut sorted = names.map(String::from);
    sorted.sort();
    assert_eq!(store.state_names(), sorted);
}

pub(super) fn multi_get(bench: &Bench<'_>) {
    let store = bench.create("store");
    let state = store.open_state("s").unwrap();
    let keys: Vec<[u8; 2]> = (0..600_u16).map(u16::to_be_bytes).collect();
    let mut even = RunBuilder::new();
    for key in keys.iter().step_by(2) {
        even.put(key, &[key[1]]);
    }
    store.write(state, &even.sort()).unwrap();
    let asked: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let mut next = 0;
    let answered = store.multi_get(state, &asked, &mut |at, value| {
        assert_eq!(at, next, "keys are answered once, in their order");
        let expected = [keys[at][1]];
        assert_eq!(value, (at % 2 == 0).then_some(&expected[..]));
        next += 1;
    });
    answered.unwrap();
    assert_eq!(next, keys.len());
    store
        .multi_get(state, &[], &mut |_, _| panic!("nothing was asked"))
        .unwrap();
}

fn scan_stops(bench: &Bench<'_>) {
    let store = bench.create("stopped");
    let state = store.open_state("s").unwrap();
    write(
        &*store,
        state,
        &[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"c", Some(b"3"))],
    );
    let mut visited = 0;
    let stopped = store.scan(state, b"", &mut |_, _| {
        visited += 1;
        if visited == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    stopped.unwrap();
    assert_eq!(visited, 2, "a visitor that breaks off is not called again");
}

fn scan_prefixes(bench: &Bench<'_>) {
    let store = bench.create("store");
    let state = store.open_state("s").unwrap();
    let keys: [&[u8]; 7] = [b"\0", b"a", b"a\0", b"aa", b"b", b"\xff", b"\xff\xff\x01"];
    let puts: Vec<_> = keys.iter().rev().map(|key| (*key, Some(*key))).collect();
    write(&*store, state, &puts);
    for prefix in [&b""[..], b"a", b"a\0", b"\xff", b"\xff\xff", b"c", b"aaa"] {
        let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        let found = scan(&*store, state, prefix);
        let found: Vec<_> = found.iter().map(|(key, _)| key).collect();
        assert_eq!(found, expected, "keys with prefix {prefix:02x?}");
    }
}

pub(super) fn scans(bench: &Bench<'_>) {
    scan_prefixes(bench);
    scan_stops(bench);
}

pub(super) fn views(bench: &Bench<'_>) {
    let store = bench.create("store");
    let states = ["a", "b"].map(|name| store.open_state(name).unwrap());
    for state in states {
        write(
            &*store,
            state,
            &[(b"k1", Some(b"old")), (b"k2", Some(b"old")), (b"l", Some(b"old"))],
        );
    }
    let before = states.map(|state| scan(&*store, state, b"k"));
    let view = store.view().unwrap();
    for state in states {
        write(&*store, state, &[(b"k1", Some(b"new")), (b"k2", None)]);
        store
            .ingest(state, &run(&[(b"k3", Some(b"new"))]).sort())
            .unwrap();
    }
    store.delete_range(states[1], b"a"..b"z").unwrap();
    let later = store.view().unwrap();
    let _ = store.checkpoint(&bench.path("flushes")).unwrap();
    assert_eq!(states.map(|state| scan_view(&*view, state, b"k")), before);
    assert_eq!(
        scan_view(&*later, states[0], b"k"),
        [entry(b"k1", b"new"), entry(b"k3", b"new")]
    );
    assert!(scan_view(&*later, states[1], b"").is_empty());
    assert_eq!(scan_view(&*view, states[1], b"l"), [entry(b"l", b"old")]);
    let mut seen = 0;
    let stopped = view.scan(states[0], b"", &mut |_, _| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert!(stopped.is_ok() && seen == 1, "a scan stops when it is told to");
}

pub(super) fn delete_range(bench: &Bench<'_>) {
    let store = bench.create("store");
    let state = store.open_state("s").unwrap();
    let all: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    let puts: Vec<_> = all.iter().map(|key| (&key[..], Some(&b"v"[..]))).collect();
    write(&*store, state, &puts);
    store.delete_range(state, &[10]..&[20]).unwrap();
    store.delete_range(state, &[30]..&[30]).unwrap();
    let left: Vec<_> = scan(&*store, state, b"")
        .into_iter()
        .map(|(key, _)| key[0])
        .collect();
    let expected: Vec<_> = (0..=255).filter(|byte| !(10..20).contains(byte)).collect();
    assert_eq!(left, expected);
    assert_eq!(get(&*store, state, &[10]), None);
    write(&*store, state, &[(&[15], Some(b"new"))]);
    assert_eq!(
        get(&*store, state, &[15]),
        Some(b"new".to_vec()),
        "written behind the deletion"
    );
}

pub(super) fn ingest(bench: &Bench<'_>) {
    let store = bench.create("store");
    let state = store.open_state("s").unwrap();
    write(
        &*store,
        state,
        &[(b"a", Some(b"old")), (b"b", Some(b"old")), (b"c", Some(b"old"))],
    );
    let mut changes = run(&[
        (b"a", Some(b"new")),
        (b"b", None),
        (b"d", Some(b"new")),
        (b"e", None),
    ]);
    store.ingest(state, &changes.sort()).unwrap();
    let expected = [entry(b"a", b"new"), entry(b"c", b"old"), entry(b"d", b"new")];
    assert_eq!(scan(&*store, state, b""), expected);
    write(&*store, state, &[(b"b", Some(b"newer")), (b"a", None)]);
    store.ingest(state, &run(&[(b"c", None)]).sort()).unwrap();
    store.ingest(state, &RunBuilder::new().sort()).unwrap();
    assert_eq!(
        scan(&*store, state, b""),
        [entry(b"b", b"newer"), entry(b"d", b"new")]
    );
    assert_eq!(get(&*store, state, b"a"), None);
}
