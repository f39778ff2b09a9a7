//! Tracing a type: its `Deserialize` is run again and again on made-up values until nothing new is learned.
//!
//! Each run takes what has not been seen yet: another variant of each enum, the inside of an option, a struct without
//! one of its fields. A run that fails teaches as much as one that succeeds. A type that contains itself is followed
//! once. All of it is bounded: what is not reached within the bounds is opaque.

use super::Shape;
use super::probe::Probe;
use super::slot::{Kind, Slot};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How often a type is run in a round.
const MAX_RUNS: u32 = 10_000;
/// How many values all runs of a round together may ask for.
const MAX_VALUES: u32 = 1_000_000;
/// How deep types are followed.
pub(super) const MAX_DEPTH: u32 = 64;

impl Shape {
    /// The shape of a type.
    ///
    /// *Cost*: microseconds for a small type; runs the type's `Deserialize` a few times for each field and variant,
    /// at most 20,000 times.
    pub fn of<T: for<'de> Deserialize<'de>>() -> Self {
        let trace = Trace::default();
        // What the first round has made, the second can put where a type contains itself.
        let follow = || {
            let _first = trace.round::<T>();
            trace.round::<T>()
        };
        // Code of the user that does not expect such values.
        let root = catch_unwind(AssertUnwindSafe(follow));
        root.map_or_else(
            |_| Self::Opaque("its Deserialize panicked".to_owned()),
            |root| root.shape(),
        )
    }
}

/// What tells types apart: what Rust calls them, and what serde does.
type TypeName = (&'static str, &'static str);

/// What all runs have in common.
pub(super) struct Trace {
    /// How many values may still be asked for.
    values: Cell<u32>,
    /// Counts what was learned.
    news: Cell<u64>,
    /// The named types that are being read, and how deep they stand.
    open: RefCell<Vec<(TypeName, u32)>>,
    /// Places where values of named types were made, for values within themselves.
    samples: RefCell<Vec<(TypeName, Slot)>>,
    /// Whether a value is needed and nothing is to be learned.
    replaying: Cell<bool>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            values: Cell::new(MAX_VALUES),
            news: Cell::new(0),
            open: RefCell::default(),
            samples: RefCell::default(),
            replaying: Cell::new(false),
        }
    }
}

impl Trace {
    /// Runs a type until nothing more is learned.
    fn round<T: for<'de> Deserialize<'de>>(&self) -> Slot {
        let mut root = Slot::default();
        self.values.set(MAX_VALUES);
        for _ in 0..MAX_RUNS {
            // What it has taught is in the slot.
            let _value = self.feed(PhantomData::<T>, &mut root, 0);
            if root.is_complete() || self.values.get() == 0 {
                break;
            }
        }
        root
    }

    /// Something was learned.
    pub(super) fn learned(&self) {
        self.news.set(self.news.get() + 1);
    }

    /// How much was learned so far.
    pub(super) fn news(&self) -> u64 {
        self.news.get()
    }

    /// Whether there is something to be learned at a place.
    pub(super) fn explores(&self, slot: &Slot) -> bool {
        !self.replaying.get() && !slot.is_complete()
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.replaying.get()
    }

    /// Takes one of the values that may be asked for.
    pub(super) fn spend(&self) -> Result<(), Failure> {
        let left = self.values.get().checked_sub(1).ok_or(Failure::Other)?;
        self.values.set(left);
        Ok(())
    }

    /// Has `seed` read what stands at a place.
    pub(super) fn feed<'de, S: DeserializeSeed<'de>>(
        &self,
        seed: S,
        slot: &mut Slot,
        depth: u32,
    ) -> Result<S::Value, Failure> {
        let before = self.news();
        let result = seed.deserialize(Probe::new(slot, self, depth));
        self.settle(slot, before, result.is_ok());
        result
    }

    /// Notes how reading a place has ended; `before` is what was learned before it.
    pub(super) fn settle(&self, slot: &mut Slot, before: u64, succeeded: bool) {
        if self.is_replaying() {
            return;
        }
        let news = match succeeded {
            true => slot.succeeded(),
            false => slot.next_sample() || slot.failed(self.news() != before),
        };
        if news {
            self.learned();
        }
    }

    /// Reads a named type, unless it stands within itself.
    pub(super) fn enter<T>(
        &self,
        (slot, depth): (&mut Slot, u32),
        name: TypeName,
        read: impl FnOnce(&mut Slot) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.is_replaying() {
            return read(slot);
        }
        let outer = self.open.borrow().iter().find(|(open, _)| *open == name).copied();
        if let Some((_, outer)) = outer {
            if matches!(slot.kind, Kind::Unknown) {
                slot.kind = Kind::Recursive(depth - outer);
                self.learned();
            }
            return self.replay(name, read);
        }
        self.open.borrow_mut().push((name, depth));
        let result = read(slot);
        self.open.borrow_mut().pop();
        let mut samples = self.samples.borrow_mut();
        if result.is_ok() && !samples.iter().any(|(known, _)| *known == name) {
            samples.push((name, slot.clone()));
            self.learned();
        }
        result
    }

    /// Makes a value of a type as it was made before.
    fn replay<T>(
        &self,
        name: TypeName,
        read: impl FnOnce(&mut Slot) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let samples = self.samples.borrow();
        let sample = samples.iter().find(|(known, _)| *known == name);
        let mut sample = sample.ok_or(Failure::Other)?.1.clone();
        drop(samples);
        self.replaying.set(true);
        let result = read(&mut sample);
        self.replaying.set(false);
        result
    }
}

/// Why a run ended without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A field has to be there.
    Missing(&'static str),
    /// A field was there twice, perhaps under two names.
    Duplicate(&'static str),
    /// A field is not known.
    UnknownField,
    Other,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Duplicate(field)
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::UnknownField
    }
}
