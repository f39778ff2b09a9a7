//! States whose types have changed, and states that were renamed, with both backends.

use super::backends::stores;
use crate::shape::Shape;
use crate::{KeyedState, OperatorSnapshot, StateBackend, StateDescriptor};
use hurtig_core::key::StableKey;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{finish, scope};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V1 {
    count: u32,
    note: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V2 {
    count: u64,
}

/// As `V2` and as `V1` it is no trouble; what was written as `V1` cannot be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V3 {
    count: u64,
    note: Option<u64>,
}

fn backends(dir: &TempDir) -> [StateBackend; 2] {
    [StateBackend::Heap, stores(dir, 1 << 20)]
}

fn open(backend: &StateBackend) -> KeyedState<String> {
    KeyedState::kept_in(backend.clone(), 0..128, 128)
}

fn written(backend: &StateBackend) -> OperatorSnapshot {
    let mut state = open(backend);
    let totals = state.value::<V1>("totals").unwrap();
    for key in ["a", "b"] {
        let (count, note) = (7, key.to_owned());
        totals.set(scope(&state, key), V1 { count, note });
    }
    snapshot(&state)
}

fn snapshot(state: &KeyedState<String>) -> OperatorSnapshot {
    let mut snapshot = OperatorSnapshot::default();
    finish(state, &mut snapshot);
    snapshot
}

#[test]
fn values_that_were_not_written_since_keep_their_shape() {
    let dir = TempDir::new().unwrap();
    for (backend, kept) in backends(&dir).iter().zip([false, true]) {
        let first = written(backend);
        assert_eq!(first.shapes.keyed["totals"].values, [Shape::of::<V1>()]);
        assert_eq!(first.shapes.keyed["totals"].key.as_deref(), Some("str"));

        let mut state = open(backend);
        let totals = state.value::<V2>("totals").unwrap();
        state.restore(&first).unwrap();
        assert_eq!(totals.get_cloned(scope(&state, "a")), Some(V2 { count: 7 }));
        totals.set(scope(&state, "a"), V2 { count: u64::MAX });
        let second = snapshot(&state);
        let shapes = [Shape::of::<V1>(), Shape::of::<V2>()];
        assert_eq!(second.shapes.keyed["totals"].values, shapes[usize::from(!kept)..]);

        let mut state = open(backend);
        let _totals = state.value::<V3>("totals").unwrap();
        let restored = state.restore(&second);
        match kept {
            // The value of "b" still has the note that is a text.
            true => {
                let text = restored.unwrap_err().chain();
                assert!(text.contains(".note is Option<u64> and was String"), "{text}");
            }
            false => restored.unwrap(),
        }
    }
}

#[test]
fn a_type_of_which_nothing_was_written_down_is_doubted_ever_after() {
    let dir = TempDir::new().unwrap();
    let mut untyped = written(&StateBackend::Heap);
    untyped.shapes = Default::default();
    let mut state = open(&stores(&dir, 0));
    let _totals = state.value::<V2>("totals").unwrap();
    state.restore(&untyped).unwrap();
    assert_eq!(
        state.shapes().keyed["totals"].values,
        [Shape::unknown(), Shape::of::<V2>()]
    );
}

#[test]
fn keys_and_user_keys_cannot_change() {
    let dir = TempDir::new().unwrap();
    for backend in backends(&dir) {
        let first = written(&backend);
        let mut by_number = KeyedState::<u64>::kept_in(backend.clone(), 0..128, 128);
        let _totals = by_number.value::<V1>("totals").unwrap();
        let text = by_number.restore(&first).unwrap_err().chain();
        assert!(
            text.contains("{key} is u64 and was str, and keys cannot change"),
            "{text}"
        );
        let mut map = open(&backend);
        let _totals = map.map::<u8, V1>("totals").unwrap();
        let text = map.restore(&first).unwrap_err().chain();
        assert!(text.contains("{user key} is u8 and was nothing"), "{text}");
    }
}

#[test]
fn a_state_with_keys_and_one_without_may_have_one_name() {
    let mut list = crate::OperatorListState::<u8>::split("totals");
    list.add(1);
    let mut both = written(&StateBackend::Heap);
    list.snapshot(&mut both).unwrap();
    let mut state = open(&StateBackend::Heap);
    let totals = state.value::<V2>("totals").unwrap();
    state.restore(&both).unwrap();
    assert_eq!(totals.get_cloned(scope(&state, "a")), Some(V2 { count: 7 }));
    list.restore(&both).unwrap();
    assert_eq!(list.get(), [1, 1]);
}

#[test]
fn a_renamed_state_finds_what_it_held() {
    let dir = TempDir::new().unwrap();
    for backend in backends(&dir) {
        let first = written(&backend);
        let mut state = open(&backend);
        let sums = state
            .value::<V2>(StateDescriptor::new("sums").alias("amounts").alias("totals"))
            .unwrap();
        state.restore(&first).unwrap();
        assert_eq!(sums.get_cloned(scope(&state, "b")), Some(V2 { count: 7 }));
        let second = snapshot(&state);
        assert_eq!(second.keyed["sums"].len(), 2);
        // From then on its own name counts.
        let mut both = second.clone();
        both.put_keyed("totals", Vec::new());
        let mut state = open(&backend);
        let sums = state
            .value::<V2>(StateDescriptor::new("sums").alias("totals"))
            .unwrap();
        state.restore(&both).unwrap();
        assert_eq!(sums.get_cloned(scope(&state, "b")), Some(V2 { count: 7 }));

        let mut state = open(&backend);
        let _sums = state
            .value::<String>(StateDescriptor::new("sums").alias("totals"))
            .unwrap();
        let text = state.restore(&first).unwrap_err().chain();
        assert!(
            text.contains("state 'sums'") && text.contains("is String and was struct V1"),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_named_by_state_and_key() {
    let dir = TempDir::new().unwrap();
    for backend in backends(&dir) {
        let mut untyped = written(&backend);
        untyped.shapes = Default::default();
        let mut state = open(&backend);
        let _totals = state.value::<V3>("totals").unwrap();
        let text = state.restore(&untyped).unwrap_err().chain();
        let named = ["a", "b"].map(|key| format!("cannot restore state 'totals': the value of key '{key}'"));
        assert!(named.iter().any(|named| text.contains(named)), "{text}");
    }
    assert_eq!(
        crate::entries::key_text("u64", &crate::entries::key_bytes(&700_u64)),
        "700"
    );
    assert_eq!(
        crate::entries::key_text("(u8,u8)", &[1, 2]),
        "with bytes [01, 02]"
    );
    let mut shape = String::new();
    <i32 as StableKey>::shape(&mut shape);
    assert_eq!(
        crate::entries::key_text(&shape, &crate::entries::key_bytes(&-7_i32)),
        "-7"
    );
}
