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
use hurtig_state::{EncodedEntries, KeyedEntry, OperatorSection, OperatorSnapshot};
use std::collections::BTreeSet;

/// Writes the snapshots of one subtask's operators as a new file, in their order, and returns what
/// names it; `None`, and no file, when there is not one entry in them.
///
/// Keyed entries are stored in key-group order; entries of one group stay in the order they have.
///
/// *Cost*: the compressed file is held in memory.
///
/// # Errors
/// What [`BlobStore::put_new`] fails with, and [`StorageError::Internal`] for a key group that no job
/// can have.
pub fn write_state(
    store: &dyn BlobStore,
    path: &str,
    snapshots: &[OperatorSnapshot],
    compression: Compression,
) -> Result<Option<StateHandle>> {
    if snapshots.iter().all(has_no_entry) {
        return Ok(None);
    }
    let image = state_image(snapshots, FileWriter::new(FileKind::State, compression))?;
    store.put_new(path, &image.bytes)?;
    Ok(Some(StateHandle {
        path: path.to_owned(),
        bytes: image.bytes.len() as u64,
        checksum: image.checksum,
    }))
}

fn has_no_entry(snapshot: &OperatorSnapshot) -> bool {
    let encoded = snapshot.encoded.values().flatten();
    snapshot.keyed.values().all(Vec::is_empty)
        && encoded.into_iter().all(EncodedEntries::is_empty)
        && snapshot
            .operator
            .values()
            .all(|section| section.entries.is_empty())
}

/// The bytes of a state file.
pub(crate) fn state_image(snapshots: &[OperatorSnapshot], mut file: FileWriter) -> Result<FileImage> {
    let mut index = Index::default();
    for snapshot in snapshots {
        let mut sections = Vec::new();
        let names: BTreeSet<_> = snapshot.keyed.keys().chain(snapshot.encoded.keys()).collect();
        for name in names {
            sections.push(match snapshot.encoded.get(name) {
                Some(parts) => write_encoded(&mut file, name, parts)?,
                None => write_keyed(&mut file, name, snapshot.keyed(name))?,
            });
        }
        for (name, section) in &snapshot.operator {
            sections.push(write_operator(&mut file, name, section));
        }
        index.snapshots.push(sections);
    }
    index.blocks = file.begin_index();
    file.write(&index.to_bytes());
    Ok(file.finish())
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
