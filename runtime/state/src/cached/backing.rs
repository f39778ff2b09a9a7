//! The store behind one cache, and the first failure of it.

use super::codec::Codec;
use super::entry::Entry;
use crate::entries::key_text;
use crate::store::key::{GROUP_BYTES, write_key};
use crate::store::{ByteStore, Run, RunBuilder, StateId, bring_in};
use hurtig_core::error::{Error, Result};
use hurtig_core::key::{OwnedKey, StableKey, decode_exact, key_group, shape_of};
use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

/// Reads and writes values of one state. Methods that cannot return an error keep the first one.
pub(super) struct Backing<V> {
    store: Arc<dyn ByteStore>,
    codec: Codec<V>,
    state: StateId,
    name: Box<str>,
    max_parallelism: u32,
    /// The store's key that was made last.
    key: RefCell<Vec<u8>>,
    value: RefCell<Vec<u8>>,
    failed: OnceCell<Error>,
    /// Bytes that a slot of the cache has.
    slot: usize,
    /// What the entries of the cache count for, together.
    charged: Cell<usize>,
    /// Keys that were looked for since [`Self::take_reads`].
    reads: Cell<usize>,
    /// The length of a value as it was encoded or decoded last, on average.
    typical: Cell<usize>,
}

impl<V> Backing<V> {
    pub(super) fn open(
        store: Arc<dyn ByteStore>,
        (name, codec): (&str, Codec<V>),
        (max_parallelism, slot): (u32, usize),
    ) -> Result<Self> {
        Ok(Self {
            state: store.open_state(name)?,
            store,
            codec,
            name: name.into(),
            max_parallelism,
            key: RefCell::default(),
            value: RefCell::default(),
            failed: OnceCell::new(),
            slot,
            charged: Cell::new(0),
            reads: Cell::new(0),
            typical: Cell::new(slot),
        })
    }

    pub(super) fn group_of(&self, hash: u64) -> u16 {
        // Group numbers are below 2^15.
        key_group(hash, self.max_parallelism).get() as u16
    }

    pub(super) fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    pub(super) fn codec(&self) -> Codec<V> {
        self.codec
    }

    pub(super) fn store(&self) -> (&dyn ByteStore, StateId) {
        (&*self.store, self.state)
    }

    /// Keeps an error for whoever can return one.
    #[cold]
    pub(super) fn fail(&self, error: Error) {
        // Later errors may follow from the first.
        let _ = self.failed.set(error);
    }

    /// The first failure: itself when it is asked for first, afterwards that there was one.
    pub(super) fn take_failure(&mut self) -> Result<()> {
        let Some(error) = self.failed.take() else {
            return Ok(());
        };
        let after = Error::external(self.text("failed before"), error.chain());
        self.fail(after);
        Err(error.context(self.text("cannot be read from its store or written to it")))
    }

    fn text(&self, what: &str) -> String {
        format!("state '{}' {what}; restart from the last checkpoint", self.name)
    }

    /// Passes an outcome on, and remembers that it was an error.
    pub(super) fn noted<T>(&mut self, outcome: Result<T>) -> Result<T> {
        outcome.or_else(|error| {
            self.fail(error);
            self.take_failure()?;
            Err(Error::internal("a failure was not kept"))
        })
    }

    /// What the store knows of a key.
    #[cold]
    #[inline(never)]
    pub(super) fn read<Q: StableKey + ?Sized>(&self, hash: u64, key: &Q) -> Entry<V> {
        let mut bytes = self.key.borrow_mut();
        write_key(&mut bytes, self.group_of(hash), key, &[], &[]);
        if self.store.is_unwritten(self.state) {
            return self.entry::<Q>(&bytes, None);
        }
        self.count_reads(1);
        let mut value = self.value.borrow_mut();
        let found = self.store.get(self.state, &bytes, &mut value);
        match found {
            Ok(found) => self.entry::<Q>(&bytes, found.then_some(&value)),
            Err(error) => {
                self.fail(error);
                self.entry::<Q>(&bytes, None)
            }
        }
    }

    /// Like [`Self::read`], with the key to keep; `None` when its own bytes are no key.
    pub(super) fn read_owned<K, Q>(&self, hash: u64, key: &Q) -> Option<(K, Entry<V>)>
    where
        K: OwnedKey,
        Q: StableKey + ?Sized,
    {
        let entry = self.read(hash, key);
        let bytes = self.key.borrow();
        match decode_exact(&bytes[GROUP_BYTES..]) {
            Ok(key) => Some((key, entry)),
            Err(error) => {
                self.fail(
                    Error::internal("a borrowed key has other bytes than the owned one").because(error),
                );
                None
            }
        }
    }

    /// The entry of a key from what the store has found.
    pub(super) fn entry<Q: StableKey + ?Sized>(&self, key: &[u8], found: Option<&[u8]>) -> Entry<V> {
        let key_bytes = key.len();
        let decoded = found.map(|bytes| self.codec.decode(bytes).map(|value| (value, bytes.len())));
        match decoded.transpose() {
            Ok(Some((value, length))) => {
                self.typical.set(length);
                Entry::read(value, self.charge_new(key_bytes + length))
            }
            Ok(None) => Entry::absent(self.charge_new(key_bytes)),
            Err(error) => {
                let key = key_text(&shape_of::<Q>(), key.get(GROUP_BYTES..).unwrap_or_default());
                self.fail(error.context(format!("the value of key {key} cannot be read")));
                Entry::absent(self.charge_new(key_bytes))
            }
        }
    }

    /// Memory of an entry whose key and value have so many bytes when encoded.
    fn cost(&self, encoded: usize) -> u32 {
        u32::try_from(self.slot + encoded + encoded / 2).unwrap_or(u32::MAX)
    }

    /// Memory of an entry with a value as they are on average; not zero.
    pub(super) fn typical_cost(&self) -> usize {
        (self.cost(self.typical.get()) as usize).max(1)
    }

    fn charge_new(&self, encoded: usize) -> u32 {
        let cost = self.cost(encoded);
        self.charged.set(self.charged.get() + cost as usize);
        cost
    }

    /// Counts an entry anew.
    pub(super) fn recharge(&self, entry: &Entry<V>, encoded: usize) {
        let cost = self.cost(encoded);
        let old = entry.charge(cost);
        self.charged
            .set(self.charged.get() + cost as usize - old as usize);
    }

    /// An entry is gone.
    pub(super) fn discharge(&self, entry: &Entry<V>) {
        self.charged.set(self.charged.get() - entry.charged() as usize);
    }

    pub(super) fn count_reads(&self, keys: usize) {
        self.reads.set(self.reads.get() + keys);
    }

    /// How many keys were looked for since this was last asked.
    pub(super) fn take_reads(&self) -> usize {
        self.reads.take()
    }

    pub(super) fn charged(&self) -> usize {
        self.charged.get()
    }

    /// Gives a dead key a value whose length is not known yet.
    pub(super) fn revive<'e>(&self, entry: &'e mut Entry<V>, value: V) -> &'e mut V {
        self.recharge(entry, self.typical.get());
        let charged = entry.charged();
        entry.revive(value, charged)
    }

    /// Takes the value out of an entry.
    pub(super) fn kill(&self, entry: &mut Entry<V>) -> Option<V> {
        self.recharge(entry, 0);
        let charged = entry.charged();
        entry.kill(charged)
    }

    /// Adds a dirty entry to a run, and measures it.
    pub(super) fn add_to<K: StableKey>(
        &self,
        run: &mut RunBuilder,
        (hash, key, entry): (u64, &K, &Entry<V>),
    ) -> Result<()> {
        let mut bytes = self.key.borrow_mut();
        write_key(&mut bytes, self.group_of(hash), key, &[], &[]);
        let Some(value) = entry.peek() else {
            run.delete(&bytes);
            return Ok(());
        };
        let length = run.put_with(&bytes, |out| self.codec.encode(value, out))?;
        self.typical.set(length);
        self.recharge(entry, bytes.len() + length);
        Ok(())
    }

    pub(super) fn write(&mut self, run: &Run<'_>) -> Result<()> {
        let written = self
            .store
            .write(self.state, run)
            .and_then(|()| self.store.check());
        self.noted(written)
    }

    /// Writes a run of any size.
    pub(super) fn bring_in(&mut self, run: &Run<'_>) -> Result<()> {
        let written = bring_in(&*self.store, self.state, run).and_then(|()| self.store.check());
        self.noted(written)
    }

    pub(super) fn ingest(&mut self, run: &Run<'_>) -> Result<()> {
        let ingested = self
            .store
            .ingest(self.state, run)
            .and_then(|()| self.store.check());
        self.noted(ingested)
    }
}

impl<V> std::fmt::Debug for Backing<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backing")
            .field("state", &self.name)
            .finish_non_exhaustive()
    }
}
