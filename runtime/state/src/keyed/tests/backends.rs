//! States in a store answer like states in memory, whatever is written back, evicted, stored or given up.

use super::*;
use crate::store::ModelFactory;
use crate::{CacheMemory, ScratchDir, StoreBackend};
use proptest::prelude::*;
use std::collections::BTreeSet;
use tempfile::TempDir;

const MAX_PARALLELISM: u32 = 128;

/// Stores in a directory, with caches of so many bytes.
pub(super) fn stores(dir: &TempDir, bytes: usize) -> StateBackend {
    let factory = Arc::new(ModelFactory);
    let root = ScratchDir::in_dir(dir.path()).unwrap();
    StateBackend::Store(StoreBackend::new(factory, root, CacheMemory::new(bytes)))
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Write(u32, u8, u64),
    Read(u32),
    Keys,
    QuietPoint,
    Begin,
    Continue(usize),
    /// Stores the snapshot that is through, or drops it.
    End(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_u32..40, 0_u8..7, any::<u64>()).prop_map(|(key, what, number)| Step::Write(key, what, number)),
        2 => (0_u32..40).prop_map(Step::Read),
        1 => Just(Step::Keys),
        3 => Just(Step::QuietPoint),
        1 => Just(Step::Begin),
        2 => (0_usize..20).prop_map(Step::Continue),
        1 => any::<bool>().prop_map(Step::End),
    ];
    proptest::collection::vec(step, 0..300)
}

/// The same history on both backends.
struct Pair {
    heap: Everything,
    store: Everything,
    /// A snapshot that is being taken, with what it must hold.
    begun: Option<(OperatorSnapshot, OperatorSnapshot)>,
    /// One that is through.
    through: Option<(OperatorSnapshot, OperatorSnapshot)>,
}

fn sorted(mut snapshot: OperatorSnapshot) -> OperatorSnapshot {
    for entries in snapshot.keyed.values_mut() {
        assert!(entries.is_sorted_by_key(|entry| entry.group));
        entries.sort();
    }
    snapshot
}

impl Pair {
    fn apply(&mut self, step: Step) {
        match step {
            Step::Write(key, what, number) => {
                for one in [&self.heap, &self.store] {
                    one.write(&format!("k{key}"), what, number);
                }
            }
            Step::Read(key) => {
                let key = format!("k{key}");
                assert_eq!(self.store.read(&key), self.heap.read(&key));
            }
            Step::Keys => self.same_keys(),
            Step::QuietPoint => self.store.state.quiet_point().unwrap(),
            Step::Begin if self.begun.is_none() => {
                self.store.state.begin_snapshot().unwrap();
                self.begun = Some((OperatorSnapshot::default(), sorted(self.heap.snapshot())));
            }
            Step::Begin => {}
            Step::Continue(entries) => self.continue_snapshot(ScanBudget::new(entries)),
            Step::End(stored) => self.end(stored),
        }
    }

    /// Both know the same keys, and these are the ones that have something when they are read.
    fn same_keys(&self) {
        let keys = |one: &Everything| {
            let (state, map) = (&one.state, one.state.keys(&one.map));
            let kinds = [
                state.keys(&one.visits),
                state.keys(&one.list),
                map,
                state.keys(&one.most),
            ];
            kinds.map(Result::unwrap)
        };
        let [visits, list, map, most] = keys(&self.heap);
        assert_eq!(
            keys(&self.store),
            [visits.clone(), list.clone(), map.clone(), most.clone()]
        );
        let mut all: Vec<String> = (0..40).map(|key| format!("k{key}")).collect();
        all.sort_by_key(|key| (key.len(), key.clone()));
        let having = |has: &dyn Fn(&Answers) -> bool| -> Vec<String> {
            all.iter()
                .filter(|key| has(&self.heap.read(key)))
                .cloned()
                .collect()
        };
        let as_set = |keys: Vec<String>| keys.into_iter().collect::<BTreeSet<_>>();
        assert_eq!(
            as_set(visits),
            as_set(having(&|answers| answers.visits.is_some()))
        );
        assert_eq!(as_set(list), as_set(having(&|answers| !answers.list.is_empty())));
        assert_eq!(as_set(map), as_set(having(&|answers| !answers.map.is_empty())));
        assert_eq!(as_set(most), as_set(having(&|answers| answers.most.is_some())));
    }

    fn continue_snapshot(&mut self, mut budget: ScanBudget) {
        if let Some((snapshot, _)) = &mut self.begun
            && self.store.state.continue_snapshot(snapshot, &mut budget).unwrap()
        {
            self.through = self.begun.take();
        }
    }

    fn end(&mut self, stored: bool) {
        let Some((mut snapshot, expected)) = self.through.take() else {
            return;
        };
        let decoded = snapshot.decode_sections();
        // A later snapshot has taken its place: that it failed is said.
        if let Err(error) = decoded {
            assert!(
                self.begun.is_some() && error.chain().contains("given up"),
                "{}",
                error.chain()
            );
        } else if stored {
            assert_eq!(sorted(snapshot), expected);
        }
    }
}

proptest! {
    #[test]
    fn a_store_answers_like_memory(steps in steps(), memory in prop_oneof![Just(0), Just(3_000), Just(1 << 20)]) {
        let dir = TempDir::new().unwrap();
        let (groups, max) = (0..MAX_PARALLELISM as u16, MAX_PARALLELISM);
        let mut pair = Pair {
            heap: Everything::new(groups.clone(), max),
            store: Everything::kept_in(stores(&dir, memory), groups, max),
            begun: None,
            through: None,
        };
        for step in steps {
            pair.apply(step);
        }
        pair.continue_snapshot(ScanBudget::unbounded());
        pair.end(true);
        for key in (0..40).map(|key| format!("k{key}")) {
            prop_assert_eq!(pair.store.read(&key), pair.heap.read(&key));
        }
        prop_assert_eq!(sorted(pair.store.snapshot()), sorted(pair.heap.snapshot()));
        pair.store.state.quiet_point().unwrap();
        drop(pair);
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        prop_assert_eq!(left, 0, "the stores' directory is gone with them");
    }

    /// Snapshots of either backend are restored into either, at another parallelism.
    #[test]
    fn a_snapshot_can_be_restored_by_the_other_backend(
        writes in proptest::collection::vec((0_u32..40, 0_u8..7, any::<u64>()), 0..100),
        (from_store, to_store) in any::<(bool, bool)>(),
        after in 1_u32..=3,
    ) {
        let dir = TempDir::new().unwrap();
        let stored = stores(&dir, 2_000);
        let backend = |store| if store { stored.clone() } else { StateBackend::Heap };
        let backends = [backend(from_store), backend(to_store)];
        let from = Everything::kept_in(backends[0].clone(), 0..MAX_PARALLELISM as u16, MAX_PARALLELISM);
        for (key, what, number) in writes {
            from.write(&format!("k{key}"), what, number);
            from.state.quiet_point().unwrap();
        }
        let snapshot = from.snapshot();
        let open = |groups| Everything::kept_in(backends[1].clone(), groups, MAX_PARALLELISM);
        let mut new: Vec<_> = subtasks(after, MAX_PARALLELISM).into_iter().map(open).collect();
        for one in &mut new {
            one.state.restore(&snapshot.for_key_groups(one.state.groups())).unwrap();
        }
        for key in (0..40).map(|key| format!("k{key}")) {
            prop_assert_eq!(owner(&new, &key).read(&key), from.read(&key));
        }
    }
}

#[test]
fn a_value_of_another_type_is_refused_when_it_is_restored() {
    let from = Everything::new(0..128, 128);
    from.write("a", 0, 7);
    let mut snapshot = from.snapshot();
    snapshot.shapes = Default::default();
    let dir = TempDir::new().unwrap();
    let mut to = KeyedState::<String>::kept_in(stores(&dir, 0), 0..128, 128);
    let _ = to.value::<Vec<u64>>("visits").unwrap();
    let text = to.restore(&snapshot).unwrap_err().chain();
    assert!(
        text.contains("cannot restore state 'visits': the value of key 'a' cannot be read: cannot decode"),
        "{text}"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = TempDir::new().unwrap();
    let base = dir.path().join("stores");
    std::fs::write(&base, "a file").unwrap();
    let text = ScratchDir::in_dir(&base).unwrap_err().chain();
    assert!(
        text.contains("/stores'") && text.contains("keyed state"),
        "{text}"
    );
}

/// A snapshot that nobody has stored when the next one begins must not reach the store any more: it is older
/// than what is there.
#[test]
fn a_snapshot_that_was_given_up_leaves_the_store_alone() {
    let dir = TempDir::new().unwrap();
    let one = Everything::kept_in(stores(&dir, 0), 0..128, 128);
    let snapshot = || {
        let mut snapshot = OperatorSnapshot::default();
        one.state.begin_snapshot().unwrap();
        let mut budget = ScanBudget::unbounded();
        assert!(one.state.continue_snapshot(&mut snapshot, &mut budget).unwrap());
        snapshot
    };
    one.write("a", 0, 1);
    let mut slow = snapshot();
    one.write("a", 0, 2);
    let mut next = snapshot();
    next.decode_sections().unwrap();
    one.state.quiet_point().unwrap();
    one.state.quiet_point().unwrap();
    let text = slow.decode_sections().unwrap_err().chain();
    assert!(text.contains("given up"), "{text}");
    assert_eq!(one.read("a").visits.unwrap().count, 2);
}
