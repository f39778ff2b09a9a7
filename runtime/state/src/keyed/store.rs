//! Where a state's values are: a table in memory, or a cache before a store.

use super::timed::{LeftOut, TimeToLive};
use crate::cached::{CacheOptions, CachedTable, Codec, Delta, Layout};
use crate::encoded::EncodedEntries;
use crate::entries::{begin_values, read_value};
use crate::function::StateValue;
use crate::snapshot::{EntryRef, KeyedSection};
use crate::store::{ByteStore, StateId};
use crate::table::{Change, GroupedTable, ScanBudget};
use crate::ttl::NEVER;
use crate::ttl::stamps::{self, Stamps};
use hurtig_core::error::Result;
use hurtig_core::key::{OwnedKey, StableKey};
use std::any::Any;
use std::borrow::Borrow;
use std::cell::{Ref, RefCell, RefMut};
use std::ops::Range;
use std::sync::Arc;

/// The values of one state by key, wherever they are kept.
///
/// It offers what both kinds can answer for a key, and no iteration; operators are written against it.
#[derive(Debug)]
pub struct Table<K, V> {
    place: Place<K, V>,
}

#[derive(Debug)]
enum Place<K, V> {
    Heap(GroupedTable<K, V>),
    Cached(Box<CachedTable<K, V>>),
}

impl<K: OwnedKey, V: 'static> Table<K, V> {
    pub(crate) fn heap(groups: Range<u16>, max_parallelism: u32) -> Self {
        Self {
            place: Place::Heap(GroupedTable::new(groups, max_parallelism)),
        }
    }

    pub(crate) fn cached(
        store: Arc<dyn ByteStore>,
        state: (&str, Codec<V>),
        options: CacheOptions,
    ) -> Result<Self> {
        let cached = CachedTable::open(store, state, options)?;
        Ok(Self {
            place: Place::Cached(Box::new(cached)),
        })
    }

    /// See [`CachedTable::convert_stored`].
    pub(super) fn convert_stored(&mut self, to: Stamps, now: i64) -> Result<()> {
        match &mut self.place {
            Place::Heap(_) => Ok(()),
            Place::Cached(table) => table.convert_stored(to, now),
        }
    }

    /// The value of a key.
    #[inline]
    pub fn get<Q>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        match &self.place {
            Place::Heap(table) => table.get(hash, key),
            Place::Cached(table) => table.get(hash, key),
        }
    }

    /// The value of a key, to change it.
    #[inline]
    pub fn get_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        match &mut self.place {
            Place::Heap(table) => table.get_mut(hash, key),
            Place::Cached(table) => table.get_mut(hash, key),
        }
    }

    /// The value of a key, made by `init` when it has none; see [`GroupedTable::upsert`].
    #[inline]
    pub fn upsert<Q>(&mut self, hash: u64, key: &Q, init: impl FnOnce() -> V) -> &mut V
    where
        K: Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        match &mut self.place {
            Place::Heap(table) => table.upsert(hash, key, init),
            Place::Cached(table) => table.upsert(hash, key, init),
        }
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
        match &mut self.place {
            Place::Heap(table) => table.change_each(hashes, records, change, out),
            Place::Cached(table) => table.change_each(hashes, records, change, out),
        }
    }

    /// Forgets a key and returns the value it had.
    #[inline]
    pub fn remove<Q>(&mut self, hash: u64, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        match &mut self.place {
            Place::Heap(table) => table.remove(hash, key).map(|(_, value)| value),
            Place::Cached(table) => table.remove(hash, key),
        }
    }
}

/// How the values of one state become entries of a snapshot, and come back from them.
pub(super) struct Format<K, V> {
    /// Begins to encode what a table holds now, without what was last accessed until a time.
    begin: fn(&mut GroupedTable<K, V>, i64),
    read: fn(&mut GroupedTable<K, V>, EntryRef<'_>) -> Result<()>,
    codec: Codec<V>,
    /// The times that values have in snapshots and stores.
    stamps: Stamps,
}

impl<K: OwnedKey, V: StateValue> Format<K, V> {
    /// One entry for each key.
    pub(super) fn value() -> Self {
        Self {
            begin: |table, _| begin_values(table, Vec::new()),
            read: read_value,
            codec: Codec::value(),
            stamps: Stamps::None,
        }
    }
}

impl<K, V> Format<K, V> {
    pub(super) fn new(
        begin: fn(&mut GroupedTable<K, V>, i64),
        read: fn(&mut GroupedTable<K, V>, EntryRef<'_>) -> Result<()>,
        codec: Codec<V>,
    ) -> Self {
        Self {
            begin,
            read,
            codec,
            stamps: Stamps::None,
        }
    }

    /// The same for values that have times in their bytes.
    pub(super) fn stamped(mut self, stamps: Stamps) -> Self {
        self.stamps = stamps;
        self
    }

    pub(super) fn codec(&self) -> Codec<V> {
        self.codec
    }

    pub(super) fn stamps(&self) -> Stamps {
        self.stamps
    }
}

/// A table that several states' users may hold at once, each with a `RefCell` of its own.
pub(super) struct TableCell<K, V> {
    name: Box<str>,
    format: Format<K, V>,
    table: RefCell<Table<K, V>>,
    /// Of a state with a time-to-live, whose values have times.
    ttl: Option<Box<TimeToLive<K, V>>>,
}

impl<K, V> TableCell<K, V> {
    pub(super) fn new(name: &str, format: Format<K, V>, table: Table<K, V>) -> Self {
        Self {
            name: name.into(),
            format,
            table: RefCell::new(table),
            ttl: None,
        }
    }

    /// The same with a time-to-live.
    pub(super) fn with_ttl(mut self, ttl: TimeToLive<K, V>) -> Self {
        self.ttl = Some(Box::new(ttl));
        self
    }

    /// The time-to-live; for cells whose values have times.
    #[inline]
    pub(super) fn ttl(&self) -> &TimeToLive<K, V> {
        match &self.ttl {
            Some(ttl) => ttl,
            None => unreachable!("a state whose values have times has a time-to-live"),
        }
    }

    /// The table to change it, unless a value it returned is still held.
    pub(super) fn try_borrow_mut(&self) -> Option<RefMut<'_, Table<K, V>>> {
        self.table.try_borrow_mut().ok()
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
}

#[cold]
#[inline(never)]
fn in_use(name: &str, doing: &str) -> ! {
    panic!("state '{name}' is {doing} while a value it returned is still held: drop that value first")
}

/// What a snapshot gets of one state.
pub(super) enum Section {
    /// All entries.
    Whole(EncodedEntries),
    /// What the store does not have.
    Delta(StateId, Layout, Delta),
}

/// A declared state without its types.
pub(super) trait AnyStore<K>: Any + Send {
    /// Its table.
    fn cell(&self) -> &dyn AnyTable<K>;

    /// Its table, to restore it.
    fn cell_mut(&mut self) -> &mut dyn AnyTable<K>;
}

/// A state's table without its types.
pub(super) trait AnyTable<K> {
    /// Begins a snapshot of what is there now.
    fn begin_snapshot(&self) -> Result<()>;

    /// Goes on with it; see [`GroupedTable::continue_scan`].
    fn continue_snapshot(&self, budget: &mut ScanBudget) -> Result<Option<Section>>;

    /// Whether a snapshot has begun and not been handed out.
    fn is_scanning(&self) -> bool;

    /// To be called between batches; see [`CachedTable::quiet_point`] and [`CachedTable::check`], which makes no room.
    fn quiet_point(&self, make_room: bool) -> Result<()>;

    /// Whether [`Self::prefetch`] is worth its while.
    fn wants_prefetch(&self) -> bool;

    /// How many keys' values may be brought at once; see [`CachedTable::prefetch_room`].
    fn prefetch_room(&self) -> usize;

    /// Brings the values of many keys from the store at once; see [`CachedTable::prefetch`].
    fn prefetch(&self, hashes: &[u64], key_at: &dyn Fn(usize) -> K);

    /// Lets a cache write to its store again; see [`CachedTable::end_delta`].
    fn end_delta(&self, ingested: bool) -> Result<()>;

    /// Puts entries back whose key groups are this subtask's.
    fn restore(&mut self, section: KeyedSection<'_>) -> Result<()>;

    /// Bytes of the table itself.
    fn capacity_bytes(&self) -> usize;

    /// Calls `each` with every key that has a value, in no order.
    fn for_each_key(&self, each: &mut dyn FnMut(&K)) -> Result<()>;

    /// Whether its values expire.
    fn has_ttl(&self) -> bool;

    /// What the snapshot that has begun does not have.
    fn left_out(&self) -> LeftOut;

    /// Removes some of what has expired, by the accesses since this was last called and the records of the last batch.
    fn clean_up(&self, records: usize);
}

impl<K: OwnedKey, V: Send + 'static> AnyStore<K> for TableCell<K, V> {
    fn cell(&self) -> &dyn AnyTable<K> {
        self
    }

    fn cell_mut(&mut self) -> &mut dyn AnyTable<K> {
        self
    }
}

impl<K: OwnedKey, V: Send + 'static> AnyTable<K> for TableCell<K, V> {
    fn begin_snapshot(&self) -> Result<()> {
        let left_out = self.ttl.as_ref().map_or(NEVER, |ttl| ttl.begin_snapshot());
        match &mut self.borrow_mut().place {
            Place::Heap(table) => {
                (self.format.begin)(table, left_out);
                Ok(())
            }
            Place::Cached(table) => table.begin_delta(),
        }
    }

    fn continue_snapshot(&self, budget: &mut ScanBudget) -> Result<Option<Section>> {
        match &mut self.borrow_mut().place {
            Place::Heap(table) => Ok(table.continue_scan(budget)?.map(Section::Whole)),
            Place::Cached(table) => {
                let (state, layout) = (table.state(), self.format.codec.layout());
                let delta = table.continue_delta(budget)?;
                Ok(delta.map(|delta| Section::Delta(state, layout, delta)))
            }
        }
    }

    fn is_scanning(&self) -> bool {
        match &self.borrow().place {
            Place::Heap(table) => table.is_scanning(),
            Place::Cached(table) => table.is_encoding(),
        }
    }

    fn quiet_point(&self, make_room: bool) -> Result<()> {
        match &mut self.borrow_mut().place {
            Place::Heap(_) => Ok(()),
            Place::Cached(table) if make_room => table.quiet_point(),
            Place::Cached(table) => table.check(),
        }
    }

    fn wants_prefetch(&self) -> bool {
        match &self.borrow().place {
            Place::Heap(_) => false,
            Place::Cached(table) => table.wants_prefetch(),
        }
    }

    fn prefetch_room(&self) -> usize {
        match &self.borrow().place {
            Place::Heap(_) => usize::MAX,
            Place::Cached(table) => table.prefetch_room(),
        }
    }

    fn prefetch(&self, hashes: &[u64], key_at: &dyn Fn(usize) -> K) {
        if let Place::Cached(table) = &mut self.borrow_mut().place {
            table.prefetch(hashes, key_at);
        }
    }

    fn end_delta(&self, ingested: bool) -> Result<()> {
        match &mut self.borrow_mut().place {
            Place::Cached(table) if table.is_holding() => table.end_delta(ingested),
            _ => Ok(()),
        }
    }

    fn restore(&mut self, section: KeyedSection<'_>) -> Result<()> {
        let now = self.ttl.as_ref().map_or(0, |ttl| ttl.expiry.moment().now);
        let (stamps, read) = (self.format.stamps, self.format.read);
        match &mut self.table.get_mut().place {
            Place::Heap(table) => section.visit(|entry| {
                let value = stamps::convert(entry.value, stamps, now)?;
                read(
                    table,
                    EntryRef {
                        value: &value,
                        ..entry
                    },
                )
            }),
            Place::Cached(table) => table.restore(section, (stamps, now)),
        }
    }

    fn has_ttl(&self) -> bool {
        self.ttl.is_some()
    }

    fn left_out(&self) -> LeftOut {
        let ttl = self.ttl.as_ref();
        ttl.map_or_else(LeftOut::default, |ttl| ttl.hand_over())
    }

    fn clean_up(&self, records: usize) {
        let Some(ttl) = &self.ttl else { return };
        match &mut self.borrow_mut().place {
            Place::Heap(table) => ttl.clean_up(table, records),
            Place::Cached(table) => ttl.clean_up_cached(table, records),
        }
    }

    fn for_each_key(&self, each: &mut dyn FnMut(&K)) -> Result<()> {
        match &self.borrow().place {
            Place::Heap(table) => {
                table.for_each(&mut |key, _| each(key));
                Ok(())
            }
            Place::Cached(table) => table.for_each_key(each),
        }
    }

    fn capacity_bytes(&self) -> usize {
        match &self.borrow().place {
            Place::Heap(table) => table.capacity_bytes(),
            Place::Cached(table) => table.charged_bytes(),
        }
    }
}
