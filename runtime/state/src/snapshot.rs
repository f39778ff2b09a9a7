//! What one operator's subtask puts into a snapshot, and what it finds again at restore.
//!
//! A snapshot is plain data: named sections of entries, keys and values already encoded. Keyed
//! entries carry their key group, so that a snapshot can be cut and joined for another parallelism
//! without knowing any type. Values are MessagePack with named fields, keys are `StableKey` bytes.

use crate::away::AwayEntries;
use crate::backend::RestoredStore;
use crate::encoded::EncodedEntries;
use crate::shape::{self, Asked, StateShape, StateShapes};
use crate::stored::StoredStates;
use hurtig_core::error::{Error, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// One entry of keyed state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyedEntry {
    /// The key's group.
    pub group: u16,
    /// `StableKey` bytes of the key.
    pub key: Vec<u8>,
    /// `StableKey` bytes of the namespace (a window, a timer's time); empty without one.
    pub namespace: Vec<u8>,
    /// The value in MessagePack with named fields.
    pub value: Vec<u8>,
}

impl KeyedEntry {
    /// The entry where it stands.
    pub fn view(&self) -> EntryRef<'_> {
        EntryRef {
            group: self.group,
            key: &self.key,
            namespace: &self.namespace,
            value: &self.value,
        }
    }
}

/// A [`KeyedEntry`] whose bytes stand elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The key's group.
    pub group: u16,
    /// `StableKey` bytes of the key.
    pub key: &'a [u8],
    /// `StableKey` bytes of the namespace.
    pub namespace: &'a [u8],
    /// The value in MessagePack with named fields.
    pub value: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// Where it stands in a sorted section; no other entry of a state is there.
    pub fn place(self) -> (u16, &'a [u8], &'a [u8]) {
        (self.group, self.key, self.namespace)
    }
}

/// The entries of one keyed section, however the snapshot holds them.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyedSection<'a> {
    entries: &'a [KeyedEntry],
    encoded: &'a [EncodedEntries],
    away: &'a [AwayEntries],
}

impl<'a> From<&'a [KeyedEntry]> for KeyedSection<'a> {
    fn from(entries: &'a [KeyedEntry]) -> Self {
        Self {
            entries,
            ..Self::default()
        }
    }
}

impl<'a> KeyedSection<'a> {
    /// How many there are.
    pub fn len(self) -> usize {
        let encoded: u64 = self.encoded.iter().map(EncodedEntries::len).sum();
        let away: u64 = self.away.iter().map(AwayEntries::len).sum();
        self.entries
            .len()
            .saturating_add(usize::try_from(encoded + away).unwrap_or(usize::MAX))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.entries.is_empty()
            && self.encoded.iter().all(EncodedEntries::is_empty)
            && self.away.iter().all(AwayEntries::is_empty)
    }

    /// Whether the entries of each key group are handed out one behind the other.
    pub(crate) fn has_groups_in_one_piece(self) -> bool {
        let mut groups = HashSet::new();
        let mut before = None;
        let entries = self.entries.iter().map(|entry| entry.group);
        let encoded = self.encoded.iter().flat_map(EncodedEntries::runs);
        let runs = encoded.chain(self.away.iter().flat_map(AwayEntries::runs));
        entries
            .chain(runs.map(|run| run.group))
            .all(|group| before.replace(group) == Some(group) || groups.insert(group))
    }

    /// Hands out every entry; those of a part are in key-group order. What is not in memory is read, which blocks.
    ///
    /// # Errors
    /// Those of `each`, after which it is not called again; when entries cannot be read; and when the bytes are not those
    /// of entries, which is a bug.
    pub fn visit(self, mut each: impl FnMut(EntryRef<'_>) -> Result<()>) -> Result<()> {
        self.visit_held(&mut each)?;
        self.away.iter().try_for_each(|part| part.visit(&mut each))
    }

    /// [`Self::visit`] of what is in memory.
    pub(crate) fn visit_held(self, mut each: impl FnMut(EntryRef<'a>) -> Result<()>) -> Result<()> {
        self.entries.iter().try_for_each(|entry| each(entry.view()))?;
        let mut encoded = self.encoded.iter().flat_map(EncodedEntries::iter);
        encoded.try_for_each(|entry| each(entry?))
    }

    /// What is not.
    pub(crate) fn away(self) -> &'a [AwayEntries] {
        self.away
    }
}

/// How a section of operator state is handed to subtasks at restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redistribution {
    /// Entries are dealt out evenly.
    Split,
    /// Every subtask receives all entries.
    Union,
    /// Every subtask has the same entries and receives one copy.
    Broadcast,
}

/// A section of state that belongs to no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorSection {
    /// How entries find their subtask at restore.
    pub redistribution: Redistribution,
    /// The entries, each MessagePack with named fields.
    pub entries: Vec<Vec<u8>>,
}

/// Everything that one operator's subtask remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorSnapshot {
    /// Keyed sections by state name.
    pub keyed: BTreeMap<String, Vec<KeyedEntry>>,
    /// Keyed sections as they stand in files, by state name: written while state changed, or read for a
    /// restore. A section has several parts when its entries are in several tables, each in key-group order.
    pub encoded: BTreeMap<String, Vec<EncodedEntries>>,
    /// At a restore, keyed sections that stay in their files until they are asked for, by state name.
    #[serde(skip)]
    pub away: BTreeMap<String, Vec<AwayEntries>>,
    /// Keyed sections whose entries are in a store; they are read while the snapshot is written.
    #[serde(skip)]
    pub stored: Option<StoredStates>,
    /// At a restore, a store that has the states of this subtask which are not among the sections.
    #[serde(skip)]
    pub restored: Option<RestoredStore>,
    /// Sections without key by state name.
    pub operator: BTreeMap<String, OperatorSection>,
    /// The types of the states, as far as they are known. Files of state do not hold them.
    #[serde(default)]
    pub shapes: StateShapes,
    /// When nothing is restored and only the types of state are to be learned, what is asked for.
    #[serde(skip)]
    pub asked: Option<Arc<Asked>>,
}

impl OperatorSnapshot {
    /// Adds a keyed section.
    ///
    /// # Panics
    /// When the section exists: two states of one operator would overwrite each other.
    pub fn put_keyed(&mut self, name: &str, entries: Vec<KeyedEntry>) {
        let old = self.keyed.insert(name.to_owned(), entries);
        assert!(
            old.is_none() && !self.encoded.contains_key(name) && !self.is_stored(name),
            "keyed state '{name}' was snapshotted twice"
        );
    }

    /// Adds a part of a keyed section.
    pub fn put_encoded(&mut self, name: &str, entries: EncodedEntries) {
        assert!(
            !self.keyed.contains_key(name) && !self.is_stored(name),
            "keyed state '{name}' was snapshotted twice"
        );
        match self.encoded.get_mut(name) {
            Some(parts) => parts.push(entries),
            None => {
                self.encoded.insert(name.to_owned(), vec![entries]);
            }
        }
    }

    fn is_stored(&self, name: &str) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.contains(name))
    }

    /// Adds the states that are in a store.
    ///
    /// # Panics
    /// When there are such already: an operator has one store.
    pub(crate) fn put_stored(&mut self, stored: StoredStates) {
        let old = self.stored.replace(stored);
        assert!(old.is_none(), "the states of a store were snapshotted twice");
    }

    /// Turns encoded and stored sections into what reading a file gives, entries in key-group order.
    ///
    /// # Errors
    /// When a store fails, and when the bytes are not those of entries, which is a bug.
    pub fn decode_sections(&mut self) -> Result<()> {
        if let Some(stored) = self.stored.take() {
            let settled = stored.settle()?;
            for name in settled.names() {
                self.put_encoded(name, settled.encode(name)?);
            }
        }
        for (name, parts) in std::mem::take(&mut self.away) {
            for part in parts {
                part.read(|group| {
                    self.put_encoded(&name, group);
                    Ok(())
                })?;
            }
        }
        for (name, parts) in std::mem::take(&mut self.encoded) {
            let mut entries = Vec::new();
            for part in parts {
                entries.extend(part.to_entries()?);
            }
            entries.sort_by_key(|entry| entry.group);
            self.put_keyed(&name, entries);
        }
        Ok(())
    }

    /// Whether there is a keyed section of this name, if only an empty one.
    pub fn has_section(&self, name: &str) -> bool {
        self.keyed.contains_key(name) || self.encoded.contains_key(name) || self.away.contains_key(name)
    }

    /// The names of the keyed sections that are in memory, each once.
    pub fn keyed_names(&self) -> impl Iterator<Item = &str> {
        let encoded = self.encoded.keys().filter(|name| !self.keyed.contains_key(*name));
        self.keyed.keys().chain(encoded).map(String::as_str)
    }

    /// A keyed section, to be restored from; one without entries when it does not exist.
    pub fn section(&self, name: &str) -> KeyedSection<'_> {
        KeyedSection {
            entries: self.keyed.get(name).map_or(&[], Vec::as_slice),
            encoded: self.encoded.get(name).map_or(&[], Vec::as_slice),
            away: self.away.get(name).map_or(&[], Vec::as_slice),
        }
    }

    /// Entries of a keyed section that was decoded; none when it does not exist.
    pub fn keyed(&self, name: &str) -> &[KeyedEntry] {
        debug_assert!(!self.encoded.contains_key(name), "decode sections first");
        self.keyed.get(name).map_or(&[], Vec::as_slice)
    }

    /// Adds a section without key, encoding its entries.
    pub fn put_operator<V: Serialize + DeserializeOwned>(
        &mut self,
        name: &str,
        how: Redistribution,
        values: &[V],
    ) -> Result<()> {
        self.put_operator_as::<V>(name, how, values)
    }

    /// As [`Self::put_operator`], for values that are to be read as `V`.
    pub(crate) fn put_operator_as<V: DeserializeOwned>(
        &mut self,
        name: &str,
        how: Redistribution,
        values: &[impl Serialize],
    ) -> Result<()> {
        let entries = values.iter().map(encode).collect::<Result<_>>()?;
        let section = OperatorSection {
            redistribution: how,
            entries,
        };
        let old = self.operator.insert(name.to_owned(), section);
        assert!(old.is_none(), "operator state '{name}' was snapshotted twice");
        self.shapes.insert(name, StateShape::operator::<V>());
        Ok(())
    }

    /// Decoded entries of a section without key; none when it does not exist.
    ///
    /// # Errors
    /// When the type has changed so that they cannot be read, and when they are no entries.
    pub fn operator<V: DeserializeOwned>(&self, name: &str) -> Result<Vec<V>> {
        if let Some(asked) = &self.asked {
            asked.note(name, StateShape::operator::<V>());
        }
        if self.shapes.operator.contains_key(name) {
            shape::check(name, &StateShape::operator::<V>(), &self.shapes)?;
        }
        let Some(section) = self.operator.get(name) else {
            return Ok(Vec::new());
        };
        section.entries.iter().map(|bytes| decode(bytes)).collect()
    }

    /// Refuses states of other types than they are declared with.
    ///
    /// # Errors
    /// When one cannot be read; the text names it and every difference.
    pub fn check_shapes(&self, declared: &StateShapes) -> Result<()> {
        let mut declared = declared.iter();
        declared.try_for_each(|(name, shape)| shape::check(name, shape, &self.shapes))
    }

    /// The keyed part that belongs to `groups`, for a restore at another parallelism. Encoded sections must
    /// have been decoded.
    #[must_use]
    pub fn for_key_groups(&self, groups: Range<u16>) -> Self {
        debug_assert!(
            self.encoded.is_empty() && self.away.is_empty() && self.stored.is_none(),
            "decode sections first"
        );
        let cut = |entries: &Vec<KeyedEntry>| {
            entries
                .iter()
                .filter(|entry| groups.contains(&entry.group))
                .cloned()
                .collect::<Vec<_>>()
        };
        let keyed = self
            .keyed
            .iter()
            .map(|(name, entries)| (name.clone(), cut(entries)))
            .collect();
        Self {
            keyed,
            encoded: BTreeMap::new(),
            away: BTreeMap::new(),
            stored: None,
            restored: self.restored.clone(),
            operator: self.operator.clone(),
            shapes: self.shapes.clone(),
            asked: None,
        }
    }
}

/// Encodes a state value: MessagePack with named fields.
pub fn encode<V: Serialize>(value: &V) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(value).map_err(|e| {
        Error::user(format!(
            "cannot encode a state value of type {}",
            std::any::type_name::<V>()
        ))
        .because(e)
    })
}

/// Appends a value in MessagePack with named fields.
pub(crate) fn write_named<V: Serialize>(value: &V, out: &mut Vec<u8>) -> Result<()> {
    rmp_serde::encode::write_named(out, value).map_err(|e| {
        let of = std::any::type_name::<V>();
        Error::user(format!("cannot encode a state value of type {of}")).because(e)
    })
}

/// Decodes a state value.
pub fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    rmp_serde::from_slice(bytes).map_err(|e| {
        Error::user(format!(
            "cannot decode a state value of type {}",
            std::any::type_name::<V>()
        ))
        .because(e)
    })
}
