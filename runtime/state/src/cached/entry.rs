//! What the cache knows of one key.

use std::cell::Cell;

/// Touched since the last sweep.
const USED: u8 = 1;
/// Not what the store has.
const DIRTY: u8 = 2;
/// The store has a value for the key, this one or an older one.
const STORED: u8 = 4;
/// Chosen to leave the cache.
const LEAVING: u8 = 8;
/// In the cold part of a delta; whether the store has it is known when the delta has ended.
const COLD: u8 = 16;
/// Changed since the last delta began.
const FRESH: u8 = 32;
/// Which delta it is in the cold part of: an even or an odd one.
const ODD: u8 = 64;
/// Had changed when the last delta began.
const RECENT: u8 = 128;

/// What became of the cold parts of the last two deltas.
///
/// An entry learns of it when the next delta passes it, or when it is to leave the cache, so that the end of a
/// delta has nothing to walk through. The next delta passes all entries, and so two are enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deltas {
    odd: bool,
    /// Whether the cold part is in the store, of even and odd deltas.
    ingested: [bool; 2],
    pending: bool,
}

impl Deltas {
    pub(super) fn begin(&mut self) {
        self.odd = !self.odd;
        self.pending = true;
    }

    pub(super) fn end(&mut self, ingested: bool) {
        self.ingested[usize::from(self.odd)] = ingested;
        self.pending = false;
    }

    fn mark(self) -> u8 {
        if self.odd { ODD } else { 0 }
    }

    /// What is known of an entry with these marks.
    fn outcome(self, marks: u8) -> Option<bool> {
        let odd = marks & ODD != 0;
        (!self.pending || odd != self.odd).then(|| self.ingested[usize::from(odd)])
    }
}

/// What an entry is in a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing: the store has it.
    None,
    /// It has changed since the delta before and may well change again, so the store need not have it yet: it had changed
    /// before that delta too, or is new.
    Fresh,
    /// It has rested, before this change or since. It is brought into the store.
    Cold,
}

/// A value or its absence, and how that relates to the store.
///
/// | | clean | dirty |
/// |---|---|---|
/// | live | as in the store | to be written |
/// | dead | known not to be in the store | to be deleted there |
///
/// The parts lie beside the discriminant, so that an entry of a `u64` has 16 bytes.
#[derive(Debug)]
pub(super) enum Entry<V> {
    Live {
        marks: Cell<u8>,
        charged: Cell<u32>,
        value: V,
    },
    Dead {
        marks: Cell<u8>,
        charged: Cell<u32>,
    },
}

impl<V> Entry<V> {
    /// A value that was read.
    pub(super) fn read(value: V, charged: u32) -> Self {
        let (marks, charged) = (Cell::new(USED | STORED), Cell::new(charged));
        Self::Live {
            marks,
            charged,
            value,
        }
    }

    /// A key that the store does not have.
    pub(super) fn absent(charged: u32) -> Self {
        let (marks, charged) = (Cell::new(USED), Cell::new(charged));
        Self::Dead { marks, charged }
    }

    #[inline]
    fn marks(&self) -> &Cell<u8> {
        match self {
            Self::Live { marks, .. } | Self::Dead { marks, .. } => marks,
        }
    }

    fn has(&self, mark: u8) -> bool {
        self.marks().get() & mark != 0
    }

    #[inline]
    fn add(&self, mark: u8) {
        self.marks().set(self.marks().get() | mark);
    }

    fn clear(&self, mark: u8) {
        self.marks().set(self.marks().get() & !mark);
    }

    /// Bytes of memory that it counts for.
    pub(super) fn charged(&self) -> u32 {
        self.charge_cell().get()
    }

    /// Sets the bytes that it counts for, and returns those it did.
    pub(super) fn charge(&self, bytes: u32) -> u32 {
        self.charge_cell().replace(bytes)
    }

    fn charge_cell(&self) -> &Cell<u32> {
        match self {
            Self::Live { charged, .. } | Self::Dead { charged, .. } => charged,
        }
    }

    /// The value, to look at.
    #[inline]
    pub(super) fn value(&self) -> Option<&V> {
        self.add(USED);
        self.peek()
    }

    /// The value, without keeping it in the cache for that.
    pub(super) fn peek(&self) -> Option<&V> {
        match self {
            Self::Live { value, .. } => Some(value),
            Self::Dead { .. } => None,
        }
    }

    /// The value, to change it.
    #[inline]
    pub(super) fn value_mut(&mut self) -> Option<&mut V> {
        match self {
            Self::Live { marks, value, .. } => {
                marks.set(marks.get() | USED | DIRTY | FRESH);
                Some(value)
            }
            Self::Dead { .. } => None,
        }
    }

    /// The value, to change it without keeping it in the cache for that.
    pub(super) fn value_unused_mut(&mut self) -> Option<&mut V> {
        match self {
            Self::Live { marks, value, .. } => {
                marks.set(marks.get() | DIRTY | FRESH);
                Some(value)
            }
            Self::Dead { .. } => None,
        }
    }

    /// Gives a dead key a value.
    pub(super) fn revive(&mut self, value: V, charged: u32) -> &mut V {
        let marks = Cell::new(self.marks().get() | USED | DIRTY | FRESH);
        let charged = Cell::new(charged);
        *self = Self::Live {
            marks,
            charged,
            value,
        };
        match self {
            Self::Live { value, .. } => value,
            Self::Dead { .. } => unreachable!("it was just made live"),
        }
    }

    /// Takes the value out. A key that the store never had leaves nothing to delete there.
    pub(super) fn kill(&mut self, charged: u32) -> Option<V> {
        let marks = if self.has(STORED) {
            USED | DIRTY | FRESH | STORED | (self.marks().get() & RECENT)
        } else {
            USED
        };
        let (marks, charged) = (Cell::new(marks), Cell::new(charged));
        match std::mem::replace(self, Self::Dead { marks, charged }) {
            Self::Live { value, .. } => Some(value),
            dead @ Self::Dead { .. } => {
                // Whatever was still to be deleted is.
                *self = dead;
                None
            }
        }
    }

    /// Whether the store has to hear of it.
    pub(super) fn is_dirty(&self) -> bool {
        self.has(DIRTY)
    }

    /// The store has heard of it.
    pub(super) fn written(&self) {
        self.clear(DIRTY | FRESH);
        match self {
            Self::Live { .. } => self.add(STORED),
            Self::Dead { .. } => self.clear(STORED),
        }
    }

    /// Puts it into the delta that has begun, and says into which part.
    pub(super) fn save(&self, deltas: Deltas) -> Part {
        self.learn(deltas);
        let (changed, again) = (self.has(FRESH), self.has(RECENT));
        self.clear(FRESH | RECENT);
        if !self.is_dirty() {
            return Part::None;
        }
        if changed {
            self.add(RECENT);
            if again || !self.has(STORED) {
                return Part::Fresh;
            }
        }
        self.clear(DIRTY | ODD);
        self.add(COLD | STORED | deltas.mark());
        Part::Cold
    }

    /// If it was in the cold part of a delta that has ended: the store has it now, or never will.
    pub(super) fn learn(&self, deltas: Deltas) {
        if !self.has(COLD) {
            return;
        }
        let Some(ingested) = deltas.outcome(self.marks().get()) else {
            return;
        };
        self.clear(COLD | ODD);
        if !ingested {
            self.add(DIRTY);
        } else if !self.is_dirty() {
            self.written();
        }
    }

    /// Whether the store has it as it is.
    pub(super) fn is_in_store(&self) -> bool {
        !self.has(DIRTY | COLD)
    }

    /// Whether it may leave the cache now: it was not touched since this was last asked, nor chosen.
    pub(super) fn choose(&self) -> bool {
        let chosen = !self.has(USED | LEAVING);
        self.clear(USED);
        if chosen {
            self.add(LEAVING);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_number_is_small() {
        assert_eq!(size_of::<Entry<u64>>(), 16);
    }

    #[test]
    fn only_what_the_store_has_is_deleted_there() {
        let mut fresh = Entry::absent(0);
        fresh.revive(1, 0);
        assert!(fresh.is_dirty());
        assert_eq!(fresh.kill(0), Some(1));
        assert!(!fresh.is_dirty(), "the store never had it");

        let mut stored = Entry::read(2, 0);
        assert!(!stored.is_dirty());
        assert_eq!((stored.kill(0), stored.kill(0)), (Some(2), None));
        assert!(stored.is_dirty(), "the store has it until it is told");
        stored.written();
        assert!(!stored.is_dirty());
        stored.revive(3, 0);
        assert_eq!(stored.kill(0), Some(3));
        assert!(!stored.is_dirty(), "the store has deleted it already");
    }

    #[test]
    fn what_was_used_has_a_second_chance_and_is_chosen_once() {
        let entry = Entry::read(1, 0);
        assert_eq!(
            [entry.choose(), entry.choose(), entry.choose()],
            [false, true, false]
        );
        let used = Entry::read(1, 0);
        assert!(!used.choose());
        used.value();
        assert_eq!([used.choose(), used.choose()], [false, true]);
    }
}
