//! Where a state's values are: tables in memory today, and the seam for others.

use crate::encoded::EncodedEntries;
use crate::entries::{begin_values, read_value};
use crate::function::StateValue;
use crate::snapshot::KeyedEntry;
use crate::table::{Change, GroupedTable, ScanBudget};
use hurtig_core::error::Result;
use hurtig_core::key::{OwnedKey, StableKey};
use std::any::Any;
use std::borrow::Borrow;
use std::cell::{Ref, RefCell, RefMut};
use std::ops::Range;

/// The values of one state by key, wherever they are kept.
///
/// A seam: it holds a [`GroupedTable`] and nothing else, and becomes an enum of that and a cache
/// over a byte store when such a store exists. So it offers what both can answer for a key, and no
/// iteration, and operators are written against it rather than against the heap table.
#[derive(Debug)]
pub struct Table<K, V> {
    heap: GroupedTable<K, V>,
}

impl<K: OwnedKey, V> Table<K, V> {
    pub(crate) fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        Self {
            heap: GroupedTable::new(groups, max_parallelism),
        }
    }

    /// The value of a key.
    #[inline]
    pub fn get<Q>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.heap.get(hash, key)
    }

    /// The value of a key, to change it.
    #[inline]
    pub fn get_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.heap.get_mut(hash, key)
    }

    /// The value of a key, made by `init` when it has none; see [`GroupedTable::upsert`].
    #[inline]
    pub fn upsert<Q>(&mut self, hash: u64, key: &Q, init: impl FnOnce() -> V) -> &mut V
    where
        K: Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        self.heap.upsert(hash, key, init)
    }

    /// See [`GroupedTable::change_each`].
    #[inline]
    pub fn change_each<T, C: Change<T, K, V>>(
        &mut self,
        hashes: &[u64],
        records: impl Iterator<Item = T>,
        change: &C,
        out: &mut impl Extend<C::Out>,
    ) {
        self.heap.change_each(hashes, records, change, out);
    }

    /// Forgets a key and returns the value it had.
    #[inline]
    pub fn remove<Q>(&mut self, hash: u64, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.heap.remove(hash, key).map(|(_, value)| value)
    }

    pub(crate) fn heap(&self) -> &GroupedTable<K, V> {
        &self.heap
    }

    pub(crate) fn heap_mut(&mut self) -> &mut GroupedTable<K, V> {
        &mut self.heap
    }
}

/// A table that several states' users may hold at once, each with a `RefCell` of its own.
#[derive(Debug)]
pub(super) struct TableCell<K, V> {
    name: Box<str>,
    table: RefCell<Table<K, V>>,
}

impl<K, V> TableCell<K, V> {
    pub(super) fn new(name: &str, table: Table<K, V>) -> Self {
        Self {
            name: name.into(),
            table: RefCell::new(table),
        }
    }

    #[inline]
    pub(super) fn borrow(&self) -> Ref<'_, Table<K, V>> {
        self.table
            .try_borrow()
            .unwrap_or_else(|_| in_use(&self.name, "read"))
    }

    #[inline]
    pub(super) fn borrow_mut(&self) -> RefMut<'_, Table<K, V>> {
        self.table
            .try_borrow_mut()
            .unwrap_or_else(|_| in_use(&self.name, "changed"))
    }

    pub(super) fn get_mut(&mut self) -> &mut Table<K, V> {
        self.table.get_mut()
    }
}

impl<K: OwnedKey, V> TableCell<K, V> {
    pub(super) fn continue_scan(&self, budget: &mut ScanBudget) -> Result<Option<EncodedEntries>> {
        self.borrow_mut().heap_mut().continue_scan(budget)
    }
}

#[cold]
#[inline(never)]
fn in_use(name: &str, doing: &str) -> ! {
    panic!("state '{name}' is {doing} while a value it returned is still held: drop that value first")
}

/// A declared state without its types.
pub(super) trait AnyStore<K>: Any + Send {
    /// Begins a snapshot of what is there now.
    fn begin_snapshot(&self);

    /// Goes on with it; see [`GroupedTable::continue_scan`].
    fn continue_snapshot(&self, budget: &mut ScanBudget) -> Result<Option<EncodedEntries>>;

    /// Whether a snapshot has begun and not ended.
    fn is_scanning(&self) -> bool;

    /// Puts an entry back when its key group is this subtask's.
    fn restore(&mut self, entry: &KeyedEntry) -> Result<()>;

    /// Bytes of the table itself.
    fn capacity_bytes(&self) -> usize;
}

impl<K: OwnedKey, V: StateValue> AnyStore<K> for TableCell<K, V> {
    fn begin_snapshot(&self) {
        begin_values(self.borrow_mut().heap_mut(), Vec::new());
    }

    fn continue_snapshot(&self, budget: &mut ScanBudget) -> Result<Option<EncodedEntries>> {
        self.continue_scan(budget)
    }

    fn is_scanning(&self) -> bool {
        self.borrow().heap().is_scanning()
    }

    fn restore(&mut self, entry: &KeyedEntry) -> Result<()> {
        read_value(self.get_mut().heap_mut(), entry)
    }

    fn capacity_bytes(&self) -> usize {
        self.borrow().heap().capacity_bytes()
    }
}
