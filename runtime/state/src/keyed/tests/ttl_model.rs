//! States with a time-to-live against their definition: lists of values with times, that nobody cleans up.

use super::backends::stores;
use super::*;
use crate::{KeyedEntry, StateVisibility, UpdateType};
use hurtig_core::time::{ManualClock, Time};
use proptest::prelude::*;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const KEYS: u32 = 4;
const TTL_MS: i64 = 100;

/// How states expire.
#[derive(Clone, Copy, Debug)]
struct Rules {
    on_read: bool,
    returns_expired: bool,
    full_snapshot: bool,
    /// Entries to look at for each access, and whether for each record.
    background: Option<(usize, bool)>,
}

impl Rules {
    fn config(self) -> StateTtlConfig {
        let mut config = StateTtlConfig::new(Duration::from_millis(TTL_MS as u64));
        if self.on_read {
            config = config.update_type(UpdateType::OnReadAndWrite);
        }
        if self.returns_expired {
            config = config.state_visibility(StateVisibility::ReturnExpiredIfNotCleanedUp);
        }
        if self.full_snapshot {
            config = config.cleanup_full_snapshot();
        }
        match self.background {
            Some((entries, per_record)) => config.cleanup_incrementally(entries, per_record),
            None => config.disable_cleanup_in_background(),
        }
    }
}

/// A value and when it was last accessed.
type At<V> = (V, i64);

/// What a key has.
#[derive(Clone, Debug, Default)]
struct Parts {
    visits: Vec<At<Visit>>,
    list: Vec<At<Option<i32>>>,
    map: Vec<At<((u8, String), Visit)>>,
    most: Vec<At<u64>>,
    mean: Vec<At<(u64, u64)>>,
}

fn live<V>((_, at): &At<V>, now: i64) -> bool {
    now < at + TTL_MS
}

/// Takes over what was seen of `parts`, which must be all that lives; what has expired may have been seen if the rules
/// say so.
fn see<V: Clone + PartialEq + std::fmt::Debug>(parts: &mut Vec<At<V>>, seen: &[V], rules: Rules, now: i64) {
    let mut seen = seen.iter().peekable();
    parts.retain(|part| {
        let found = seen.next_if(|seen| **seen == part.0).is_some();
        assert!(found || !live(part, now), "{part:?} is not seen at {now}");
        assert!(
            !found || live(part, now) || rules.returns_expired,
            "{part:?} is seen at {now}"
        );
        found
    });
    assert_eq!(seen.next(), None, "it was never there");
    if rules.on_read {
        let renewed = parts.iter_mut().filter(|part| live(part, now));
        renewed.for_each(|part| part.1 = now);
    }
}

impl Parts {
    fn see(&mut self, answers: Answers, rules: Rules, now: i64) {
        see(&mut self.visits, &Vec::from_iter(answers.visits), rules, now);
        see_list(&mut self.list, &answers.list, rules, now);
        see(&mut self.map, &answers.map, rules, now);
        see(&mut self.most, &Vec::from_iter(answers.most), rules, now);
        let text = |(sum, count): (u64, u64)| format!("{sum}/{count}");
        let mut mean: Vec<_> = self.mean.iter().map(|(acc, at)| (text(*acc), *at)).collect();
        see(&mut mean, &Vec::from_iter(answers.mean), rules, now);
        self.mean.truncate(mean.len());
        self.mean
            .iter_mut()
            .zip(mean)
            .for_each(|(acc, seen)| acc.1 = seen.1);
    }

    /// Forgets what is not seen any more.
    fn expire(&mut self, now: i64) {
        self.visits.retain(|part| live(part, now));
        self.list.retain(|part| live(part, now));
        self.map.retain(|part| live(part, now));
        self.most.retain(|part| live(part, now));
        self.mean.retain(|part| live(part, now));
    }

    fn write(&mut self, what: u8, number: u64, now: i64) {
        let visit = Visit {
            page: format!("/{number}"),
            count: number as u32,
        };
        let user_key = (number as u8 % 5, format!("u{}", number % 3));
        match what {
            0 => self.visits = vec![(visit, now)],
            1 => self.list.extend([(Some(number as i32), now), (None, now)]),
            2 => {
                self.map.retain(|((other, _), _)| *other != user_key);
                self.map.push(((user_key, visit), now));
                self.map.sort_by(|a, b| a.0.0.cmp(&b.0.0));
            }
            3 => {
                let most = self.most.pop().map_or(number, |(most, _)| most.max(number));
                self.most.push((most, now));
            }
            4 => {
                let (sum, count) = self.mean.pop().map_or((0, 0), |(acc, _)| acc);
                self.mean.push(((sum + number % 1_000, count + 1), now));
            }
            5 => self.visits.clear(),
            _ => {
                let user_key = (number as u8 % 5, "u1".to_owned());
                self.map.retain(|((other, _), _)| *other != user_key);
            }
        }
    }
}

/// As [`see`], for lists, whose elements may be equal: what is gone was in front.
fn see_list<V: Clone + PartialEq + std::fmt::Debug>(
    parts: &mut Vec<At<V>>,
    seen: &[V],
    rules: Rules,
    now: i64,
) {
    let gone = parts.len() - seen.len();
    assert!(parts.drain(..gone).all(|part| !live(&part, now)));
    see(parts, seen, rules, now);
    assert_eq!(parts.len(), seen.len());
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Write(u32, u8, u64),
    Read(u32),
    Advance(i64),
    /// The end of a batch of so many records.
    BatchEnd(usize),
    Begin,
    Continue(usize),
    /// Stores the snapshot that is through, and goes on with it.
    Restore(Way),
}

/// How a snapshot is restored.
#[derive(Clone, Copy, Debug)]
enum Way {
    Heap,
    Store,
    /// The files of the store as they are.
    Adopt,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let way = prop_oneof![Just(Way::Heap), Just(Way::Store), Just(Way::Adopt)];
    let step = prop_oneof![
        10 => (0..KEYS, 0_u8..7, any::<u64>()).prop_map(|(key, what, number)| Step::Write(key, what, number)),
        8 => (0..KEYS).prop_map(Step::Read),
        5 => prop_oneof![3 => 0_i64..5, 6 => 20_i64..60, 1 => 99_i64..102].prop_map(Step::Advance),
        3 => (0_usize..10).prop_map(Step::BatchEnd),
        1 => Just(Step::Begin),
        2 => (0_usize..20).prop_map(Step::Continue),
        2 => way.prop_map(Step::Restore),
    ];
    proptest::collection::vec(step, 0..300)
}

fn rules() -> impl Strategy<Value = Rules> {
    let background = proptest::option::of((0_usize..4, any::<bool>()));
    (any::<[bool; 3]>(), background).prop_map(|([on_read, returns_expired, full_snapshot], background)| {
        Rules {
            on_read,
            returns_expired,
            full_snapshot,
            background,
        }
    })
}

/// A snapshot, what there was when it began, and when that was.
type Taken = (OperatorSnapshot, BTreeMap<String, Parts>, i64);

/// States and what they should be.
struct Bench {
    dir: TempDir,
    stores: StateBackend,
    clock: Arc<ManualClock>,
    rules: Rules,
    states: Everything,
    model: BTreeMap<String, Parts>,
    begun: Option<Taken>,
    through: Option<Taken>,
}

impl Bench {
    fn new(rules: Rules, memory: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let clock = ManualClock::new();
        clock.set_wall_ms(1_000);
        let stores = stores(&dir, memory);
        let states = declared(StateBackend::Heap, None, (&clock, Some(&rules.config())));
        Self {
            dir,
            stores,
            clock,
            rules,
            states,
            model: BTreeMap::new(),
            begun: None,
            through: None,
        }
    }

    fn now(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn read(&mut self, key: &str) {
        let (answers, now) = (self.states.read(key), self.now());
        let parts = self.model.entry(key.to_owned()).or_default();
        parts.see(answers, self.rules, now);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Write(key, what, number) => self.write(&format!("k{key}"), what, number),
            Step::Read(key) => self.read(&format!("k{key}")),
            Step::Advance(ms) => self.clock.advance(Duration::from_millis(ms as u64)),
            Step::BatchEnd(records) => {
                self.states.state.clean_up(records);
                self.states.state.quiet_point().unwrap();
            }
            Step::Begin if self.begun.is_none() => {
                self.states.state.begin_snapshot().unwrap();
                self.begun = Some((OperatorSnapshot::default(), self.model.clone(), self.now()));
            }
            Step::Begin => {}
            Step::Continue(entries) => self.continue_snapshot(ScanBudget::new(entries)),
            Step::Restore(way) => self.restore(way),
        }
    }

    fn write(&mut self, key: &str, what: u8, number: u64) {
        if self.rules.returns_expired {
            // What is folded depends on what was cleaned up: see what was.
            self.read(key);
        }
        let now = self.now();
        self.states.write(key, what, number);
        let parts = self.model.entry(key.to_owned()).or_default();
        if !self.rules.returns_expired {
            parts.expire(now);
        }
        parts.write(what, number, now);
    }

    fn continue_snapshot(&mut self, mut budget: ScanBudget) {
        if let Some((snapshot, ..)) = &mut self.begun
            && self
                .states
                .state
                .continue_snapshot(snapshot, &mut budget)
                .unwrap()
        {
            self.through = self.begun.take();
        }
    }

    fn restore(&mut self, way: Way) {
        let Some((mut snapshot, model, at)) = self.through.take() else {
            return;
        };
        if self.begun.is_some() {
            // The store has been given up for the snapshot after it.
            return;
        }
        let (rules, clock) = (self.rules.config(), &self.clock);
        if let (Way::Adopt, Some(stored)) = (way, snapshot.stored.take_if(|_| matches!(way, Way::Adopt))) {
            let adopted = adopt(&self.stores, &stored, &self.dir);
            self.states = declared(self.stores.clone(), Some(adopted), (clock, Some(&rules)));
        } else {
            snapshot.decode_sections().unwrap();
            self.check_contents(&snapshot, &model, at);
            let backend = match way {
                Way::Heap => StateBackend::Heap,
                Way::Store | Way::Adopt => self.stores.clone(),
            };
            self.states = declared(backend, None, (clock, Some(&rules)));
            self.states.state.restore(&snapshot).unwrap();
        }
        self.model = model;
    }

    /// What has expired is in a full snapshot, or it is not.
    fn check_contents(&self, snapshot: &OperatorSnapshot, model: &BTreeMap<String, Parts>, at: i64) {
        let count = |of: fn(&Parts, i64) -> usize| model.values().map(|parts| of(parts, at)).sum::<usize>();
        let expected = [
            (
                "visits",
                count(|parts, at| parts.visits.iter().filter(|part| live(part, at)).count()),
            ),
            (
                "map",
                count(|parts, at| parts.map.iter().filter(|part| live(part, at)).count()),
            ),
            (
                "list",
                count(|parts, at| parts.list.iter().any(|part| live(part, at)).into()),
            ),
        ];
        for (name, live) in expected {
            let found = snapshot.keyed(name).len();
            match self.rules.full_snapshot {
                true => assert_eq!(found, live, "entries of {name}"),
                false => assert!(found >= live, "entries of {name}"),
            }
        }
    }
}

/// All kinds of state, in `backend` or in a store that was restored.
pub(super) fn declared(
    backend: StateBackend,
    restored: Option<RestoredStore>,
    (clock, ttl): (&Arc<impl Clock + 'static>, Option<&StateTtlConfig>),
) -> Everything {
    let mut state = KeyedState::kept_in(backend, 0..128, 128).with_clock(clock.clone());
    if let Some(restored) = restored {
        state = state.with_store(restored);
    }
    Everything::declared(state, ttl)
}

/// Restores the files of a store as they are, as incremental checkpoints do it.
pub(super) fn adopt(stores: &StateBackend, stored: &StoredStates, dir: &TempDir) -> RestoredStore {
    let StateBackend::Store(backend) = stores else {
        panic!("a store's files need a store");
    };
    let settled = stored.settle_files().unwrap();
    let files = TempDir::new_in(dir.path()).unwrap();
    for (file, path) in settled.files() {
        std::fs::copy(path, files.path().join(&file.name)).unwrap();
    }
    let restored = backend.restore(files.path()).unwrap();
    for (name, _, fresh) in settled.states() {
        restored.bring_in(name, fresh).unwrap();
    }
    restored
}

proptest! {
    /// Whatever is written, read, cleaned up, stored and restored in either backend.
    #[test]
    fn a_time_to_live_does_what_the_definition_says(
        steps in steps(),
        rules in rules(),
        memory in prop_oneof![Just(0), Just(3_000), Just(1 << 20)],
        store: bool,
    ) {
        let mut bench = Bench::new(rules, memory);
        if store {
            bench.states = declared(bench.stores.clone(), None, (&bench.clock, Some(&rules.config())));
        }
        for step in steps {
            bench.apply(step);
        }
        for key in 0..KEYS {
            bench.read(&format!("k{key}"));
        }
        // What is seen does not change while nothing happens.
        for key in 0..KEYS {
            bench.read(&format!("k{key}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Wherever the clock goes, back too and to the ends of time, both backends say the same when nobody cleans up, and
    /// so does what is restored.
    #[test]
    fn both_backends_say_the_same_whatever_the_clock_shows(
        steps in steps(),
        rules in rules(),
        times in proptest::collection::vec(any_time(), 1..40),
        memory in prop_oneof![Just(0), Just(3_000)],
    ) {
        let rules = Rules { background: None, ..rules }.config();
        let (dir, clock) = (TempDir::new().unwrap(), Arc::new(AnyClock::default()));
        let backends = [StateBackend::Heap, stores(&dir, memory)];
        let mut both = backends.clone().map(|backend| declared(backend, None, (&clock, Some(&rules))));
        let mut times = times.into_iter().cycle();
        for step in steps {
            match step {
                Step::Write(key, what, number) => {
                    both.iter().for_each(|states| states.write(&format!("k{key}"), what, number));
                }
                Step::Read(key) => {
                    let [heap, store] = both.each_ref().map(|states| states.read(&format!("k{key}")));
                    prop_assert_eq!(heap, store);
                }
                Step::Advance(_) => times.next().into_iter().for_each(|time| clock.0.store(time, Ordering::Relaxed)),
                Step::BatchEnd(records) => for states in &both {
                    states.state.clean_up(records);
                    states.state.quiet_point().unwrap();
                }
                Step::Restore(_) => {
                    let snapshots = both.each_ref().map(|states| {
                        let mut snapshot = OperatorSnapshot::default();
                        finish(&states.state, &mut snapshot);
                        snapshot
                    });
                    let [heap, store] = &snapshots;
                    prop_assert_eq!(sorted(heap), sorted(store));
                    // Each goes on with what the other one has left.
                    both = backends.clone().map(|backend| declared(backend, None, (&clock, Some(&rules))));
                    for (states, snapshot) in both.iter_mut().zip(snapshots.iter().rev()) {
                        states.state.restore(snapshot).unwrap();
                    }
                }
                Step::Begin | Step::Continue(_) => {}
            }
        }
    }
}

/// A clock that is set back too.
#[derive(Default, Debug)]
struct AnyClock(AtomicI64);

impl Clock for AnyClock {
    fn now(&self) -> Time {
        Time::ZERO
    }

    fn wall_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => 1_000_i64..1_300,
        1 => -150_i64..150,
        1 => prop_oneof![Just(i64::MIN), Just(i64::MIN + 50), Just(i64::MAX - 50), Just(i64::MAX)],
    ]
}

/// All keyed entries of a snapshot, in an order that does not depend on the backend.
fn sorted(snapshot: &OperatorSnapshot) -> Vec<(String, KeyedEntry)> {
    let sections = snapshot.keyed.iter();
    let entries =
        sections.flat_map(|(name, entries)| entries.iter().map(|entry| (name.clone(), entry.clone())));
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by(|(a, x), (b, y)| (a, &x.key, &x.namespace).cmp(&(b, &y.key, &y.namespace)));
    entries
}
