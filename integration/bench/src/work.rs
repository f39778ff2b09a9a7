//! What a run processes: records that are a function of their index alone, so that every contender
//! (engine, loops, Timely) makes the same ones without reading anything.

use hurtig_core::key::hash_int;
use hurtig_core::str::Str;
use std::sync::Arc;

/// Records of a batch in the batched loops.
pub(crate) const BATCH: usize = 1_024;

/// Shape and size of one run's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Records in all.
    pub records: u64,
    /// Distinct keys, a power of two.
    pub keys: u64,
    /// Records that share one millisecond of event time.
    pub per_ms: u64,
    /// Keys are active in turns: groups of `keys / turns`, [`TURN_MS`] each. 1 = all at once.
    pub turns: u64,
}

/// Records that share one millisecond of event time, unless a work says otherwise.
const PER_MS: u64 = 1_000;
/// How long a group of keys is active, in milliseconds of event time.
pub(crate) const TURN_MS: u64 = 100;

/// One record of the benches with event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Event {
    /// Its key.
    pub key: u64,
    /// Its event time in milliseconds.
    pub at: i64,
}

impl Work {
    /// `records` over `keys` keys, without event time.
    pub(crate) const fn keyed(records: u64, keys: u64) -> Self {
        assert!(keys.is_power_of_two(), "the number of keys is used as a mask");
        Self {
            records,
            keys,
            per_ms: PER_MS,
            turns: 1,
        }
    }

    /// The same with keys that are active in turns.
    pub(crate) const fn in_turns(self, turns: u64) -> Self {
        assert!(self.keys.is_multiple_of(turns) && (self.keys / turns).is_power_of_two());
        Self { turns, ..self }
    }

    /// What one of `parallelism` subtasks does of it: its share of records and of keys.
    pub(crate) const fn share(self, parallelism: u64) -> Self {
        Self {
            records: self.records / parallelism,
            keys: self.keys / parallelism,
            per_ms: self.per_ms / parallelism,
            turns: self.turns,
        }
    }

    /// The key of record `index` of a work without turns.
    #[inline]
    pub(crate) const fn key(&self, index: u64) -> u64 {
        hash_int(index) & (self.keys - 1)
    }

    /// Makes record `index` with event time; the same as the `index`-th of [`Self::events`].
    pub(crate) fn event_of(self) -> impl Fn(u64) -> Event + Copy {
        let group = self.keys / self.turns;
        let (turns, mask) = (self.turns, group - 1);
        move |index| {
            let at = index / PER_MS;
            let base = if turns == 1 {
                0
            } else {
                at / TURN_MS % turns * group
            };
            Event {
                key: base + (hash_int(index) & mask),
                at: at as i64,
            }
        }
    }

    /// Every `step`-th record with event time, beginning with record `first`.
    pub(crate) fn events(&self, first: u64, step: u64) -> Events {
        let per_ms = self.per_ms / step;
        assert!(per_ms > 0, "a millisecond holds a record of every reader");
        Events {
            next: first,
            end: self.records,
            step,
            time: 0,
            per_ms,
            left: per_ms,
            mask: self.keys / self.turns - 1,
            base: 0,
            turns: self.turns,
        }
    }
}

/// The records of one reader, in order of event time.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    next: u64,
    end: u64,
    step: u64,
    time: i64,
    per_ms: u64,
    left: u64,
    mask: u64,
    base: u64,
    turns: u64,
}

impl Events {
    fn advance_time(&mut self) {
        self.time += 1;
        self.left = self.per_ms;
        let turn = self.time as u64 / TURN_MS % self.turns;
        self.base = turn * (self.mask + 1);
    }
}

impl Iterator for Events {
    type Item = Event;

    #[inline]
    fn next(&mut self) -> Option<Event> {
        if self.next >= self.end {
            return None;
        }
        if self.left == 0 {
            self.advance_time();
        }
        self.left -= 1;
        let key = self.base + (hash_int(self.next) & self.mask);
        self.next += self.step;
        Some(Event { key, at: self.time })
    }
}

/// `count` different words of 3 to 14 letters, the same in every run.
pub(crate) fn words(count: u64) -> Arc<[Str]> {
    (0..count).map(word).collect()
}

/// The `index`-th word: three letters that tell it from all others, then up to 11 more.
fn word(index: u64) -> Str {
    let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
    let random = hash_int(index + 1);
    let distinct = [index, index / 26, index / 676, index / 17_576].map(letter);
    let more = (0..random % 11).map(|i| letter(random >> (5 * i)));
    Str::from(distinct.into_iter().chain(more).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn readers_together_make_the_records_of_one() {
        let work = Work {
            per_ms: 4,
            ..Work::keyed(10_000, 1_024).in_turns(16)
        };
        let order = |mut events: Vec<Event>| {
            events.sort_unstable_by_key(|e| (e.at, e.key));
            events
        };
        let one = order(work.events(0, 1).collect());
        let two = order(work.events(0, 2).chain(work.events(1, 2)).collect());
        assert_eq!(one, two);
        assert_eq!(one.len(), 10_000);
        assert_eq!(one.last().map(|e| e.at), Some(2_499));
    }

    #[test]
    fn a_record_follows_from_its_index() {
        for work in [
            Work::keyed(1_000_000, 1_024),
            Work::keyed(1_000_000, 1_024).in_turns(16),
        ] {
            assert!(work.events(0, 1).eq((0..work.records).map(work.event_of())));
        }
    }

    #[test]
    fn turns_keep_to_their_keys() {
        let work = Work {
            per_ms: 1,
            ..Work::keyed(200, 64).in_turns(2)
        };
        assert!(work.events(0, 1).all(|e| (e.key < 32) == (e.at < 100)));
    }

    #[test]
    fn words_differ() {
        let distinct: HashSet<String> = words(20_000).iter().map(|w| w.to_string()).collect();
        assert_eq!(distinct.len(), 20_000);
        assert!(distinct.iter().all(|w| (4..=14).contains(&w.len())));
    }
}
