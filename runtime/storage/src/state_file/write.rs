//! Writing a state file.

use super::StateHandle;
use super::index::{Index, Section, SectionKind};
use crate::error::{Result, StorageError};
use crate::format::Compression;
use crate::format::header::FileKind;
use crate::format::writer::{FileImage, FileWriter};
use crate::store::BlobStore;
use hurtig_core::key::MAX_KEY_GROUPS;
use hurtig_core::varint;
use hurtig_state::encoded::GroupRun;
use hurtig_state::{
    EncodedEntries, KeyedEntry, OperatorSection, OperatorSnapshot, SettledStates, StoredStates,
};
use std::collections::BTreeSet;

/// Writes the snapshots of one subtask's operators as a new file, in their order, and returns what
/// names it; `None`, and no file, when there is not one entry in them. States that are in a store are read
/// from it, after what it did not have was brought into it.
///
/// Keyed entries are stored in key-group order; entries of one group stay in the order they have.
///
/// *Cost*: the compressed file is held in memory.
///
/// # Errors
/// What [`BlobStore::put_new`] fails with; [`StorageError::State`] when a state's own store fails;
/// [`StorageError::Internal`] for a key group that no job can have.
pub fn write_state(
    store: &dyn BlobStore,
    path: &str,
    snapshots: &[OperatorSnapshot],
    compression: Compression,
) -> Result<Option<StateHandle>> {
    let file = FileWriter::new(FileKind::State, compression);
    let (image, entries) = write_snapshots(snapshots, file)?;
    if entries == 0 {
        return Ok(None);
    }
    store.put_new(path, &image.bytes)?;
    Ok(Some(StateHandle {
        path: path.to_owned(),
        bytes: image.bytes.len() as u64,
        checksum: image.checksum,
        shared: Vec::new(),
    }))
}

/// The bytes of a state file.
#[cfg(test)]
pub(crate) fn state_image(snapshots: &[OperatorSnapshot], file: FileWriter) -> Result<FileImage> {
    write_snapshots(snapshots, file).map(|(image, _)| image)
}

/// The bytes of a state file, and how many entries are in it.
fn write_snapshots(snapshots: &[OperatorSnapshot], mut file: FileWriter) -> Result<(FileImage, u64)> {
    // At once, because the tasks hold back what they would write to their stores.
    let settled: Vec<_> = snapshots.iter().map(settle).collect::<Result<_>>()?;
    let (mut index, mut entries) = (Index::default(), 0);
    for (snapshot, settled) in snapshots.iter().zip(&settled) {
        let sections = write_sections(&mut file, snapshot, settled.as_ref())?;
        entries += sections.iter().map(Section::entries).sum::<u64>();
        index.snapshots.push(sections);
    }
    index.blocks = file.begin_index();
    file.write(&index.to_bytes());
    Ok((file.finish(), entries))
}

fn settle(snapshot: &OperatorSnapshot) -> Result<Option<SettledStates<'_>>> {
    let settled = snapshot.stored.as_ref().map(StoredStates::settle);
    settled.transpose().map_err(StorageError::State)
}

fn write_sections(
    file: &mut FileWriter,
    snapshot: &OperatorSnapshot,
    settled: Option<&SettledStates<'_>>,
) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    let stored = settled.map(SettledStates::names).unwrap_or_default();
    let in_memory = snapshot.keyed.keys().chain(snapshot.encoded.keys());
    let names: BTreeSet<&str> = in_memory.map(String::as_str).chain(stored).collect();
    for name in names {
        sections.push(match (snapshot.encoded.get(name), settled) {
            (Some(parts), _) => write_encoded(file, name, parts)?,
            (None, Some(settled)) if settled.contains(name) => write_stored(file, name, settled)?,
            (None, _) => write_keyed(file, name, snapshot.keyed(name))?,
        });
    }
    for (name, section) in &snapshot.operator {
        sections.push(write_operator(file, name, section));
    }
    Ok(sections)
}

fn write_keyed(file: &mut FileWriter, name: &str, entries: &[KeyedEntry]) -> Result<Section> {
    let mut order: Vec<&KeyedEntry> = entries.iter().collect();
    if !order.is_sorted_by_key(|entry| entry.group) {
        order.sort_by_key(|entry| entry.group);
    }
    check_group(name, order.last().map(|entry| entry.group))?;
    let mut runs = Vec::new();
    let mut scratch = Vec::new();
    for same_group in order.chunk_by(|a, b| a.group == b.group) {
        let mut bytes = 0;
        for entry in same_group {
            scratch.clear();
            for part in [&entry.key, &entry.namespace, &entry.value] {
                put_part(&mut scratch, part);
            }
            file.write(&scratch);
            bytes += scratch.len() as u64;
        }
        runs.push(GroupRun {
            group: same_group[0].group,
            entries: same_group.len() as u64,
            bytes,
        });
    }
    Ok(Section {
        name: name.to_owned(),
        kind: SectionKind::Keyed(runs),
    })
}

/// Writes a section whose entries are encoded already, in one or several parts.
fn write_encoded(file: &mut FileWriter, name: &str, parts: &[EncodedEntries]) -> Result<Section> {
    let last = parts.iter().filter_map(|part| part.runs().last());
    check_group(name, last.map(|run| run.group).max())?;
    let mut readers: Vec<_> = parts
        .iter()
        .map(|part| (part.runs().iter().peekable(), part.reader()))
        .collect();
    let mut runs: Vec<GroupRun> = Vec::new();
    while let Some(group) = readers
        .iter_mut()
        .filter_map(|(runs, _)| runs.peek())
        .map(|run| run.group)
        .min()
    {
        let mut joined = GroupRun {
            group,
            entries: 0,
            bytes: 0,
        };
        for (runs, reader) in &mut readers {
            if let Some(run) = runs.next_if(|run| run.group == group) {
                reader.read(run.bytes, |bytes| file.write(bytes));
                joined.entries += run.entries;
                joined.bytes += run.bytes;
            }
        }
        runs.push(joined);
    }
    Ok(Section {
        name: name.to_owned(),
        kind: SectionKind::Keyed(runs),
    })
}

/// Writes a section whose entries are in a store.
fn write_stored(file: &mut FileWriter, name: &str, settled: &SettledStates<'_>) -> Result<Section> {
    let mut runs: Vec<GroupRun> = Vec::new();
    let visited = settled.visit(name, |group, entries, bytes| {
        file.write(bytes);
        let piece = GroupRun {
            group,
            entries,
            bytes: bytes.len() as u64,
        };
        match runs.last_mut().filter(|run| run.group == group) {
            Some(run) => (run.entries, run.bytes) = (run.entries + entries, run.bytes + piece.bytes),
            None => runs.push(piece),
        }
        Ok(())
    });
    visited.map_err(StorageError::State)?;
    check_group(name, runs.last().map(|run| run.group))?;
    Ok(Section {
        name: name.to_owned(),
        kind: SectionKind::Keyed(runs),
    })
}

fn check_group(name: &str, last: Option<u16>) -> Result<()> {
    let last = last.map_or(0, u32::from);
    if last < MAX_KEY_GROUPS {
        return Ok(());
    }
    let problem = format!("state '{name}' has an entry of key group {last}, and there are {MAX_KEY_GROUPS}");
    Err(StorageError::Internal(problem))
}

fn write_operator(file: &mut FileWriter, name: &str, section: &OperatorSection) -> Section {
    let mut bytes = 0;
    let mut scratch = Vec::new();
    for entry in &section.entries {
        scratch.clear();
        put_part(&mut scratch, entry);
        file.write(&scratch);
        bytes += scratch.len() as u64;
    }
    let kind = SectionKind::Operator {
        redistribution: section.redistribution,
        entries: section.entries.len() as u64,
        bytes,
    };
    Section {
        name: name.to_owned(),
        kind,
    }
}

fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    varint::put(out, part.len() as u64);
    out.extend_from_slice(part);
}
