use super::*;
use crate::store::{ByteStoreFactory, ModelFactory, Run, StateId, StoreFile, StoreView};
use crate::table::{Change, ScanBudget};
use hurtig_core::error::{Error, Fault};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

const GROUPS: u32 = 128;

/// Values without times.
const UNTIMED: (Stamps, i64) = (Stamps::None, 0);

fn options(budget: usize) -> CacheOptions {
    CacheOptions {
        groups: 0..GROUPS as u16,
        max_parallelism: GROUPS,
        memory: CacheMemory::new(budget),
    }
}

fn open(store: &Arc<dyn ByteStore>, budget: usize) -> CachedTable<u64, String> {
    CachedTable::open(Arc::clone(store), ("names", Codec::value()), options(budget)).unwrap()
}

/// A store that refuses reads or writes when told to, and counts them.
struct Watched {
    inner: Arc<dyn ByteStore>,
    reads: AtomicU32,
    fails: AtomicU32,
}

const READS: u32 = 1;
const WRITES: u32 = 2;

impl Watched {
    fn new(inner: Arc<dyn ByteStore>) -> Arc<Self> {
        let (reads, fails) = (AtomicU32::new(0), AtomicU32::new(0));
        Arc::new(Self { inner, reads, fails })
    }

    fn fail(&self, what: u32) {
        self.fails.store(what, Ordering::Relaxed);
    }

    fn pass(&self, what: u32) -> Result<()> {
        match self.fails.load(Ordering::Relaxed) & what {
            0 => Ok(()),
            _ => Err(Error::external("cannot use '/store'", "disk on fire")),
        }
    }

    /// Look-ups since this was last asked; one for a multi_get.
    fn look_ups(&self) -> u32 {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

impl ByteStore for Watched {
    fn open_state(&self, name: &str) -> Result<StateId> {
        self.inner.open_state(name)
    }

    fn state_names(&self) -> Vec<String> {
        self.inner.state_names()
    }

    fn get(&self, state: StateId, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.pass(READS)?;
        self.inner.get(state, key, value)
    }

    fn multi_get(
        &self,
        state: StateId,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        assert!(keys.is_sorted_by(|a, b| a < b), "keys ascend strictly");
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.pass(READS)?;
        self.inner.multi_get(state, keys, found)
    }

    fn write(&self, state: StateId, run: &Run<'_>) -> Result<()> {
        self.pass(WRITES)?;
        self.inner.write(state, run)
    }

    fn delete_range(&self, state: StateId, range: Range<&[u8]>) -> Result<()> {
        self.inner.delete_range(state, range)
    }

    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.inner.scan(state, prefix, visit)
    }

    fn view(&self) -> Result<Box<dyn StoreView + '_>> {
        self.inner.view()
    }

    fn checkpoint(&self, dir: &Path) -> Result<Vec<StoreFile>> {
        self.inner.checkpoint(dir)
    }

    fn memory_used(&self) -> usize {
        self.inner.memory_used()
    }
}

fn watched() -> (Arc<Watched>, Arc<dyn ByteStore>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::new(ModelFactory.create(&dir.path().join("store")).unwrap());
    (Arc::clone(&watched), watched, dir)
}

/// Appends a number to the name of a key; what comes out is the name's new length.
struct Append;

impl Change<(u64, u8), u64, String> for Append {
    type Out = usize;
    type Key<'a> = u64;

    fn key_of(&self, record: &(u64, u8)) -> u64 {
        record.0
    }

    fn is_key(&self, stored: &u64, key: &u64) -> bool {
        stored == key
    }

    fn change(&self, key: &u64, value: &mut String, record: (u64, u8)) -> usize {
        assert_eq!(*key, record.0);
        value.push_str(&record.1.to_string());
        value.len()
    }

    fn owned_key(&self, record: &(u64, u8)) -> u64 {
        record.0
    }

    fn first(&self, record: (u64, u8)) -> (u64, String, usize) {
        let name = record.1.to_string();
        let length = name.len();
        (record.0, name, length)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Get(Vec<u64>),
    GetMut(u64, u8),
    Upsert(u64, u8),
    Remove(u64),
    Change(Vec<(u64, u8)>),
    Prefetch(Vec<u64>),
    QuietPoint,
    Flush,
    Checkpoint,
    Crash,
    Scan,
    BeginDelta,
    ContinueDelta(usize),
    EndDelta(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0_u64..24;
    let keys = move || proptest::collection::vec(key(), 0..8);
    prop_oneof![
        2 => keys().prop_map(Step::Get),
        2 => (key(), any::<u8>()).prop_map(|(key, byte)| Step::GetMut(key, byte)),
        4 => (key(), any::<u8>()).prop_map(|(key, byte)| Step::Upsert(key, byte)),
        4 => key().prop_map(Step::Remove),
        3 => proptest::collection::vec((key(), any::<u8>()), 0..12).prop_map(Step::Change),
        2 => keys().prop_map(Step::Prefetch),
        5 => Just(Step::QuietPoint),
        1 => Just(Step::Flush),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Crash),
        1 => Just(Step::Scan),
        4 => Just(Step::BeginDelta),
        3 => (0_usize..10).prop_map(Step::ContinueDelta),
        3 => any::<bool>().prop_map(Step::EndDelta),
    ]
}

type Model = BTreeMap<u64, String>;

/// A cache, what it should say, and what it said at the last checkpoint.
struct Pair {
    dir: TempDir,
    numbers: u32,
    budget: usize,
    cache: CachedTable<u64, String>,
    model: Model,
    saved: Option<(PathBuf, Option<Delta>, Model)>,
    /// What a delta that has begun is of, and what it has become.
    begun: Option<(Option<Delta>, Model)>,
    store: Arc<dyn ByteStore>,
}

impl Pair {
    fn new(budget: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelFactory.create(&dir.path().join("0")).unwrap();
        let cache = open(&store, budget);
        let (model, saved, begun) = (Model::new(), None, None);
        Self {
            begun,
            store,
            dir,
            numbers: 0,
            budget,
            cache,
            model,
            saved,
        }
    }

    fn path(&mut self) -> PathBuf {
        self.numbers += 1;
        self.dir.path().join(self.numbers.to_string())
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Get(keys) => {
                // All references are held at once.
                let read: Vec<_> = keys
                    .iter()
                    .map(|key| self.cache.get(key.stable_hash(), key))
                    .collect();
                let expected: Vec<_> = keys.iter().map(|key| self.model.get(key)).collect();
                assert_eq!(read, expected);
            }
            Step::GetMut(key, byte) => {
                let cached = self.cache.get_mut(key.stable_hash(), &key);
                let expected = self.model.get_mut(&key);
                assert_eq!(cached, expected);
                if let (Some(cached), Some(expected)) = (cached, expected) {
                    cached.push(char::from(byte));
                    expected.push(char::from(byte));
                }
            }
            Step::Upsert(key, byte) => {
                let init = || char::from(byte).to_string();
                let cached = self.cache.upsert(key.stable_hash(), &key, init);
                let expected = self.model.entry(key).or_insert_with(init);
                assert_eq!(cached, expected);
                cached.push('+');
                expected.push('+');
            }
            Step::Remove(key) => {
                assert_eq!(
                    self.cache.remove(key.stable_hash(), &key),
                    self.model.remove(&key)
                );
            }
            Step::Change(records) => self.change(&records),
            Step::Prefetch(keys) => {
                let hashes: Vec<_> = keys.iter().map(StableKey::stable_hash).collect();
                self.cache.prefetch(&hashes, &|at| keys[at]);
            }
            Step::QuietPoint => {
                self.cache.quiet_point().unwrap();
                assert!(self.begun.is_some() || self.cache.charged_bytes() <= self.budget);
            }
            Step::BeginDelta if self.begun.is_none() => {
                self.cache.begin_delta().unwrap();
                self.begun = Some((None, self.model.clone()));
            }
            Step::BeginDelta => {}
            Step::ContinueDelta(entries) => self.continue_delta(ScanBudget::new(entries)),
            Step::EndDelta(ingested) => self.end_delta(ingested),
            Step::Flush | Step::Checkpoint | Step::Scan if self.begun.is_some() => {}
            Step::Flush => self.cache.flush().unwrap(),
            Step::Checkpoint => self.checkpoint(),
            Step::Crash => self.crash(),
            Step::Scan => self.scan(),
        }
    }

    fn change(&mut self, records: &[(u64, u8)]) {
        let hashes: Vec<_> = records.iter().map(|record| record.0.stable_hash()).collect();
        let mut lengths = Vec::new();
        self.cache
            .change_each(&hashes, records.iter().copied(), &Append, &mut lengths);
        let expected: Vec<_> = records
            .iter()
            .map(|(key, byte)| {
                let name = self.model.entry(*key).or_default();
                name.push_str(&byte.to_string());
                name.len()
            })
            .collect();
        assert_eq!(lengths, expected);
    }

    fn checkpoint(&mut self) {
        let path = self.path();
        self.cache.checkpoint(&path).unwrap();
        self.saved = Some((path, None, self.model.clone()));
    }

    fn continue_delta(&mut self, mut budget: ScanBudget) {
        let made = self.cache.continue_delta(&mut budget).unwrap();
        if let (Some(delta), Some(begun)) = (made, &mut self.begun) {
            begun.0 = Some(delta);
        }
    }

    /// The store's checkpoint comes as late as it may: nothing has been written since the delta began.
    fn end_delta(&mut self, ingested: bool) {
        if ingested {
            self.continue_delta(ScanBudget::unbounded());
        }
        let path = self.path();
        if let Some((delta, model)) = self.begun.take() {
            if ingested {
                let delta = delta.unwrap();
                let state = self.store.open_state("names").unwrap();
                delta.settle(&*self.store, state).unwrap();
                self.store.checkpoint(&path).unwrap();
                self.saved = Some((path, Some(delta), model));
            }
            self.cache.end_delta(ingested).unwrap();
        }
    }

    /// Drops the cache with all that it has not written.
    fn crash(&mut self) {
        let path = self.path();
        self.begun = None;
        self.model = Model::new();
        self.store = match &self.saved {
            None => ModelFactory.create(&path).unwrap(),
            Some((checkpoint, delta, model)) => {
                self.model.clone_from(model);
                let store = ModelFactory.restore(checkpoint, &path).unwrap();
                let state = store.open_state("names").unwrap();
                if let Some(delta) = delta {
                    store.ingest(state, &delta.fresh_run().unwrap().sort()).unwrap();
                }
                store
            }
        };
        self.cache = open(&self.store, self.budget);
    }

    fn scan(&mut self) {
        let mut found = Vec::new();
        let scanned = self.cache.scan(|entry| {
            assert!(entry.namespace.is_empty());
            let key: u64 = hurtig_core::key::decode_exact(entry.key).unwrap();
            let group = hurtig_core::key::key_group(key.stable_hash(), GROUPS).get();
            assert_eq!(u32::from(entry.group), group);
            found.push((entry.group, key, crate::snapshot::decode::<String>(entry.value)?));
            Ok(())
        });
        scanned.unwrap();
        assert!(found.is_sorted());
        let found: Model = found.into_iter().map(|(_, key, value)| (key, value)).collect();
        assert_eq!(found, self.model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// From a cache that keeps nothing between quiet points to one that never evicts.
    #[test]
    fn it_is_a_map_whatever_happens_in_between(
        budget in prop_oneof![Just(0_usize), 100_usize..2_000, Just(1 << 20)],
        steps in proptest::collection::vec(step(), 0..100),
    ) {
        let mut pair = Pair::new(budget);
        for step in steps {
            pair.take(step);
        }
        pair.end_delta(true);
        pair.checkpoint();
        pair.crash();
        pair.scan();
    }
}

fn upsert(cache: &mut CachedTable<u64, String>, key: u64, name: &str) {
    *cache.upsert(key.stable_hash(), &key, String::new) = name.into();
}

fn get(cache: &CachedTable<u64, String>, key: u64) -> Option<&str> {
    cache.get(key.stable_hash(), &key).map(String::as_str)
}

#[test]
fn a_key_is_read_once() {
    let (watched, store, _dir) = watched();
    let mut cache = open(&store, 1 << 20);
    assert_eq!(
        (get(&cache, 1), get(&cache, 1), watched.look_ups()),
        (None, None, 1)
    );
    upsert(&mut cache, 1, "one");
    assert_eq!(
        (
            cache.remove(1_u64.stable_hash(), &1).as_deref(),
            watched.look_ups()
        ),
        (Some("one"), 0)
    );
    upsert(&mut cache, 1, "again");
    cache.quiet_point().unwrap();
    assert_eq!((get(&cache, 1), watched.look_ups()), (Some("again"), 0));
}

#[test]
fn a_prefetch_reads_what_is_missing_at_once() {
    let (watched, store, _dir) = watched();
    let mut cache = open(&store, 0);
    let keys: Vec<u64> = (0..100).collect();
    keys.iter().for_each(|&key| upsert(&mut cache, key, "x"));
    cache.quiet_point().unwrap();
    assert_eq!((cache.cached_keys(), watched.look_ups()), (0, 100));
    let twice: Vec<u64> = keys.iter().chain(&keys).copied().collect();
    let hashes: Vec<_> = twice.iter().map(StableKey::stable_hash).collect();
    cache.prefetch(&hashes, &|at| twice[at]);
    cache.prefetch(&hashes, &|at| twice[at]);
    assert!(keys.iter().all(|&key| get(&cache, key) == Some("x")));
    assert_eq!(watched.look_ups(), 1);
}

#[test]
fn what_is_used_stays() {
    let (watched, store, _dir) = watched();
    let mut cache = open(&store, 10_000);
    for key in 0..1_000 {
        upsert(&mut cache, key, "some name");
        assert_eq!(get(&cache, 0), Some("some name"));
        cache.quiet_point().unwrap();
        assert!(cache.charged_bytes() <= 10_000);
    }
    // The first sweep knows nothing yet; without a second chance key 0 is read some ten times.
    assert!(watched.look_ups() <= 1_002);
    assert!(
        cache.cached_keys() > 50 && cache.cached_keys() < 500,
        "{}",
        cache.cached_keys()
    );
}

/// Nothing is written for keys that come and go, and nothing twice.
#[test]
fn the_store_hears_of_what_it_must() {
    let (watched, store, _dir) = watched();
    let mut cache = open(&store, 1 << 20);
    upsert(&mut cache, 1, "kept");
    upsert(&mut cache, 2, "gone");
    cache.remove(2_u64.stable_hash(), &2);
    cache.flush().unwrap();
    watched.fail(WRITES);
    get(&cache, 1);
    cache.flush().unwrap();
    cache.remove(3_u64.stable_hash(), &3);
    cache.flush().unwrap();
    cache.remove(1_u64.stable_hash(), &1);
    assert!(cache.flush().is_err(), "a deletion is written");
}

#[test]
fn a_failed_read_is_returned_at_the_quiet_point_and_nothing_is_written_after_it() {
    for write_back in [false, true] {
        let (watched, store, _dir) = watched();
        let mut cache = open(&store, 0);
        upsert(&mut cache, 1, "one");
        cache.flush().unwrap();
        cache.quiet_point().unwrap();
        watched.fail(READS);
        assert_eq!(get(&cache, 1), None);
        upsert(&mut cache, 1, "wrong");
        watched.fail(0);
        let first = if write_back {
            cache.flush()
        } else {
            cache.quiet_point()
        };
        let first = first.unwrap_err();
        assert_eq!(first.fault(), Fault::External);
        let text = first.chain();
        for part in [
            "state 'names'",
            "restart from the last checkpoint",
            "'/store'",
            "disk on fire",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let later = cache.quiet_point().unwrap_err().chain();
        assert!(
            later.contains("failed before") && later.contains("disk on fire"),
            "{later}"
        );
        assert!(cache.flush().is_err() && cache.scan(|_| Ok(())).is_err());
        assert_eq!(get(&open(&store, 0), 1), Some("one"), "a wrong value was written");
    }
}

#[test]
fn a_failed_write_poisons() {
    let (watched, store, _dir) = watched();
    let mut cache = open(&store, 0);
    upsert(&mut cache, 1, "one");
    watched.fail(WRITES);
    assert!(cache.quiet_point().unwrap_err().chain().contains("disk on fire"));
    watched.fail(0);
    assert!(cache.flush().is_err());
}

#[test]
fn a_value_of_another_type_is_an_error() {
    let (_watched, store, _dir) = watched();
    let mut cache = open(&store, 0);
    upsert(&mut cache, 1, "one");
    cache.flush().unwrap();
    let mut other = CachedTable::<u64, u32>::open(store, ("names", Codec::value()), options(0)).unwrap();
    assert_eq!(other.get(1_u64.stable_hash(), &1), None);
    let text = other.quiet_point().unwrap_err().chain();
    assert!(text.contains("state 'names'") && text.contains("u32"), "{text}");
}

#[test]
fn entries_of_a_snapshot_come_back_once() {
    let (_watched, store, _dir) = watched();
    let mut from = open(&store, 0);
    (0..300).for_each(|key| upsert(&mut from, key, &key.to_string()));
    let mut entries = from.encode().unwrap().to_entries().unwrap();
    // So that those of a key group do not stand together.
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let groups = 0..GROUPS as u16 / 2;
    let half = CacheOptions {
        groups: groups.clone(),
        ..options(0)
    };
    let mut to =
        CachedTable::<u64, String>::open(Arc::clone(&store), ("half", Codec::value()), half).unwrap();
    to.restore(entries[..].into(), UNTIMED).unwrap();
    let mut restored = Vec::new();
    to.scan(|entry| {
        assert!(groups.contains(&entry.group));
        restored.push(crate::snapshot::decode::<String>(entry.value)?);
        Ok(())
    })
    .unwrap();
    let expected = entries
        .iter()
        .filter(|entry| groups.contains(&entry.group))
        .count();
    assert!(restored.len() == expected && expected > 50, "{expected}");
    let grouped = from.encode().unwrap().to_entries().unwrap();
    for (entries, again) in [(&entries, 299), (&entries, 0), (&grouped, 299), (&grouped, 0)] {
        let twice: Vec<_> = entries.iter().chain([&entries[again]]).cloned().collect();
        let refused = open(&store, 0).restore(twice[..].into(), UNTIMED);
        let refused = refused.unwrap_err().chain();
        assert!(refused.contains("restored twice"), "{refused}");
    }
}

/// A table moves to another thread with its task.
#[test]
fn it_is_send() {
    fn send<T: Send>() {}
    send::<CachedTable<String, std::cell::Cell<u8>>>();
}

/// A value that changes between any two checkpoints is in each of them and never in the store; one that has rested
/// for a while is brought there once.
#[test]
fn what_changes_all_the_time_is_not_written_to_the_store() {
    let (watched, store, _dir) = watched();
    let state = store.open_state("names").unwrap();
    let mut cache = open(&store, 1 << 20);
    upsert(&mut cache, 2, "rests");
    let mut cold = Vec::new();
    for round in 0..5 {
        upsert(&mut cache, 1, &round.to_string());
        cache.begin_delta().unwrap();
        let delta = cache
            .continue_delta(&mut ScanBudget::unbounded())
            .unwrap()
            .unwrap();
        delta.settle(&*store, state).unwrap();
        cache.end_delta(true).unwrap();
        let fresh = delta.fresh().to_entries().unwrap();
        let keys = fresh
            .iter()
            .map(|entry| hurtig_core::key::decode_exact::<u64>(&entry.key).unwrap());
        cold.push(keys.collect::<Vec<_>>().contains(&2));
    }
    assert_eq!(cold, [true, false, false, false, false]);
    watched.look_ups();
    let other = open(&store, 0);
    assert_eq!((get(&other, 1), get(&other, 2)), (None, Some("rests")));
}

/// Where keys change at random, each change is written once: into the store, not into the checkpoint as well.
#[test]
fn what_had_rested_before_it_changed_is_brought_into_the_store_at_once() {
    let (_watched, store, _dir) = watched();
    let state = store.open_state("names").unwrap();
    let mut cache = open(&store, 1 << 20);
    // Whether the change is in the checkpoint itself, and what the store has for the key.
    let mut checkpoint = |change: Option<&str>| {
        match change {
            Some("") => drop(cache.remove(1_u64.stable_hash(), &1)),
            Some(name) => upsert(&mut cache, 1, name),
            None => {}
        }
        let delta = delta(&mut cache);
        delta.settle(&*store, state).unwrap();
        cache.end_delta(true).unwrap();
        let stored = get(&open(&store, 0), 1).map(str::to_owned);
        (!delta.fresh().is_empty(), stored)
    };
    let is = |name: &str| Some(name.to_owned());
    assert_eq!(
        checkpoint(Some("a")),
        (true, None),
        "nothing is known of a new key"
    );
    assert_eq!(checkpoint(Some("b")), (true, None), "it changes all the time");
    assert_eq!(checkpoint(None), (false, is("b")), "it has rested");
    assert_eq!(checkpoint(Some("c")), (false, is("c")), "it had rested");
    assert_eq!(checkpoint(Some("d")), (true, is("c")), "it changes again");
    assert_eq!(checkpoint(None), (false, is("d")));
    assert_eq!(checkpoint(None), (false, is("d")));
    assert_eq!(checkpoint(Some("")), (false, None), "it is deleted there");
}

/// Encodes a delta to its end.
fn delta(cache: &mut CachedTable<u64, String>) -> Delta {
    cache.begin_delta().unwrap();
    cache
        .continue_delta(&mut ScanBudget::unbounded())
        .unwrap()
        .unwrap()
}

#[test]
fn a_cold_part_that_never_came_into_the_store_is_still_to_be_written() {
    let (_watched, store, _dir) = watched();
    let mut cache = open(&store, 0);
    upsert(&mut cache, 1, "one");
    delta(&mut cache);
    cache.end_delta(true).unwrap();
    let cold = delta(&mut cache);
    assert!(cold.fresh().is_empty());
    cache.end_delta(false).unwrap();
    (0..2).for_each(|_| cache.quiet_point().unwrap());
    assert_eq!((cache.cached_keys(), get(&cache, 1)), (0, Some("one")));
}

#[test]
fn a_cold_part_stays_in_the_cache_until_the_store_has_it() {
    let (_watched, store, _dir) = watched();
    let state = store.open_state("names").unwrap();
    let mut cache = open(&store, 0);
    for name in ["old", "new"] {
        upsert(&mut cache, 1, name);
        if name == "old" {
            // A new key is fresh once.
            delta(&mut cache).settle(&*store, state).unwrap();
            cache.end_delta(true).unwrap();
        }
        let cold = delta(&mut cache);
        assert!(cold.fresh().is_empty());
        (0..3).for_each(|_| cache.quiet_point().unwrap());
        assert_eq!(
            get(&cache, 1),
            Some(name),
            "it has left the cache before it was in the store"
        );
        cold.settle(&*store, state).unwrap();
        cache.end_delta(true).unwrap();
    }
    (0..2).for_each(|_| cache.quiet_point().unwrap());
    assert_eq!((cache.cached_keys(), get(&cache, 1)), (0, Some("new")));
}
