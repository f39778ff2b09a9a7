//! Random histories beside maps.

use super::{Bench, get, scan};
use crate::store::{ByteStore, RunBuilder, StateId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many histories there are, and how many steps each has.
const HISTORIES: u64 = 4;
const STEPS: u32 = 60;
const STATES: [&str; 2] = ["a", "b"];

type Model = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

pub(super) fn histories(bench: &Bench<'_>) {
    for seed in 0..HISTORIES {
        History::new(bench, seed).run();
    }
}

/// SplitMix64: the same history everywhere and without a dependency.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// A short key: many are equal, and many are prefixes of others.
    fn key(&mut self) -> Vec<u8> {
        let length = self.roll(3) + 1;
        (0..length)
            .map(|_| [0, 1, b'k', 0xff][self.roll(4) as usize])
            .collect()
    }
}

struct History<'a> {
    bench: &'a Bench<'a>,
    seed: u64,
    dice: Dice,
    store: Arc<dyn ByteStore>,
    states: [StateId; 2],
    model: Model,
    /// Number and contents of the checkpoints.
    checkpoints: Vec<Model>,
    stores: u32,
}

fn open(store: &dyn ByteStore) -> [StateId; 2] {
    STATES.map(|name| store.open_state(name).unwrap())
}

impl<'a> History<'a> {
    fn new(bench: &'a Bench<'a>, seed: u64) -> Self {
        let store = bench.create(&format!("store-{seed}-0"));
        Self {
            bench,
            seed,
            dice: Dice(seed),
            states: open(&*store),
            store,
            model: Model::default(),
            checkpoints: Vec::new(),
            stores: 1,
        }
    }

    fn run(mut self) {
        for step in 0..STEPS {
            match self.dice.roll(12) {
                0..6 => self.write(),
                6..8 => self.delete_range(),
                8 => self.checkpoint(),
                9 => self.crash(),
                _ => self.read(),
            }
            let contents = self.states.map(|state| scan(&*self.store, state, b""));
            let model = self.model.clone().map(|map| map.into_iter().collect::<Vec<_>>());
            assert_eq!(contents, model, "history {}, step {step}", self.seed);
        }
    }

    fn write(&mut self) {
        let at = self.dice.roll(2) as usize;
        let keys: BTreeSet<_> = (0..self.dice.roll(30)).map(|_| self.dice.key()).collect();
        let mut run = RunBuilder::new();
        for key in keys {
            if self.dice.roll(3) == 0 {
                run.delete(&key);
                self.model[at].remove(&key);
            } else {
                let value = vec![self.dice.roll(256) as u8; self.dice.roll(50) as usize];
                run.put(&key, &value);
                self.model[at].insert(key, value);
            }
        }
        let run = run.sort();
        let written = match self.dice.roll(3) {
            0 => self.store.ingest(self.states[at], &run),
            _ => self.store.write(self.states[at], &run),
        };
        written.unwrap();
    }

    fn delete_range(&mut self) {
        let at = self.dice.roll(2) as usize;
        let [mut from, mut to] = [self.dice.key(), self.dice.key()];
        if from > to {
            std::mem::swap(&mut from, &mut to);
        }
        self.store.delete_range(self.states[at], &from..&to).unwrap();
        self.model[at].retain(|key, _| !(&from..&to).contains(&key));
    }

    fn checkpoint(&mut self) {
        let name = format!("chk-{}-{}", self.seed, self.checkpoints.len());
        self.store.checkpoint(&self.bench.path(&name)).unwrap();
        self.checkpoints.push(self.model.clone());
    }

    /// Loses the store and goes on with some checkpoint.
    fn crash(&mut self) {
        if self.checkpoints.is_empty() {
            return;
        }
        let number = self.dice.roll(self.checkpoints.len() as u64) as usize;
        let checkpoint = format!("chk-{}-{number}", self.seed);
        self.store = self
            .bench
            .restore(&checkpoint, &format!("store-{}-{}", self.seed, self.stores));
        self.stores += 1;
        self.states = open(&*self.store);
        self.model = self.checkpoints[number].clone();
    }

    fn read(&mut self) {
        let at = self.dice.roll(2) as usize;
        let keys: BTreeSet<_> = (0..self.dice.roll(30)).map(|_| self.dice.key()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let expected: Vec<_> = keys.iter().map(|key| self.model[at].get(*key).cloned()).collect();
        let mut found = Vec::new();
        let read = self.store.multi_get(self.states[at], &keys, &mut |_, value| {
            found.push(value.map(<[u8]>::to_vec));
        });
        read.unwrap();
        assert_eq!(found, expected, "history {}", self.seed);
        let single: Vec<_> = keys
            .iter()
            .map(|key| get(&*self.store, self.states[at], key))
            .collect();
        assert_eq!(single, expected, "history {}", self.seed);
        if let Some(prefix) = keys.first() {
            let expected: Vec<_> = self.model[at]
                .iter()
                .filter(|(key, _)| key.starts_with(prefix))
                .collect();
            let found = scan(&*self.store, self.states[at], prefix);
            assert_eq!(found.iter().map(|(k, v)| (k, v)).collect::<Vec<_>>(), expected);
        }
    }
}
