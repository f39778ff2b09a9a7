//! Writing a state file.

use super::StateHandle;
use super::index::{Index, Section, SectionKind};
use crate::error::{Result, StorageError};
use crate::format::Compression;
use crate::format::header::FileKind;
use crate::format::writer::{FileImage, FileWriter, Sink};
use crate::store::BlobStore;
use hurtig_core::Error;
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
/// *Cost*: some MiB of memory, however long the file; all of the file where the store cannot do with pieces.
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
    // Most tasks remember nothing: the store need not hear of them.
    if snapshots.iter().all(has_nothing) {
        return Ok(None);
    }
    // At once, because the tasks hold back what they would write to their stores.
    let settled: Vec<_> = snapshots.iter().map(settle).collect::<Result<_>>()?;
    let mut handle = None;
    store.put_filled(path, &mut |sink| {
        let file = FileWriter::new(FileKind::State, compression);
        let (image, entries) = write_snapshots(snapshots, &settled, (file, sink))?;
        if entries == 0 {
            return Ok(false);
        }
        sink(&image.bytes)?;
        handle = Some(StateHandle {
            path: path.to_owned(),
            bytes: image.length,
            checksum: image.checksum,
            shared: Vec::new(),
        });
        Ok(true)
    })?;
    Ok(handle)
}

/// Whether there is no entry, as far as that can be told without a look into a store.
fn has_nothing(snapshot: &OperatorSnapshot) -> bool {
    snapshot.stored.is_none()
        && snapshot.keyed.values().all(Vec::is_empty)
        && snapshot.encoded.values().flatten().all(EncodedEntries::is_empty)
        && snapshot
            .operator
            .values()
            .all(|section| section.entries.is_empty())
}

/// The bytes of a state file.
#[cfg(test)]
pub(crate) fn state_image(snapshots: &[OperatorSnapshot], file: FileWriter) -> Result<FileImage> {
    let mut bytes = Vec::new();
    let mut take = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    let image = state_pieces(snapshots, file, &mut take)?;
    Ok(FileImage { bytes, ..image })
}

/// The same, handed to `sink` piece by piece.
#[cfg(test)]
pub(crate) fn state_pieces(
    snapshots: &[OperatorSnapshot],
    file: FileWriter,
    sink: Sink<'_>,
) -> Result<FileImage> {
    let settled: Vec<_> = snapshots.iter().map(settle).collect::<Result<_>>()?;
    let (image, _) = write_snapshots(snapshots, &settled, (file, &mut *sink))?;
    sink(&image.bytes)?;
    Ok(image)
}

/// What is left of a state file when most of a long one was handed over, and how many entries are in it.
fn write_snapshots(
    snapshots: &[OperatorSnapshot],
    settled: &[Option<SettledStates<'_>>],
    (file, sink): (FileWriter, Sink<'_>),
) -> Result<(FileImage, u64)> {
    let mut sections = SectionWriter { file, sink };
    let (mut index, mut entries) = (Index::default(), 0);
    for (snapshot, settled) in snapshots.iter().zip(settled) {
        let written = sections.write(snapshot, settled.as_ref())?;
        entries += written.iter().map(Section::entries).sum::<u64>();
        index.snapshots.push(written);
    }
    let mut file = sections.file;
    index.blocks = file.begin_index();
    file.write(&index.to_bytes());
    Ok((file.finish(), entries))
}

fn settle(snapshot: &OperatorSnapshot) -> Result<Option<SettledStates<'_>>> {
    let settled = snapshot.stored.as_ref().map(StoredStates::settle);
    settled.transpose().map_err(StorageError::State)
}

/// Writes sections, and hands over what there is of a file that becomes long.
struct SectionWriter<'a> {
    file: FileWriter,
    sink: Sink<'a>,
}

impl SectionWriter<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write(bytes);
        self.file.hand_over(self.sink)
    }

    fn write(
        &mut self,
        snapshot: &OperatorSnapshot,
        settled: Option<&SettledStates<'_>>,
    ) -> Result<Vec<Section>> {
        let mut sections = Vec::new();
        let stored = settled.map(SettledStates::names).unwrap_or_default();
        let in_memory = snapshot.keyed.keys().chain(snapshot.encoded.keys());
        let names: BTreeSet<&str> = in_memory.map(String::as_str).chain(stored).collect();
        for name in names {
            sections.push(match (snapshot.encoded.get(name), settled) {
                (Some(parts), _) => self.write_encoded(name, parts)?,
                (None, Some(settled)) if settled.contains(name) => self.write_stored(name, settled)?,
                (None, _) => self.write_keyed(name, snapshot.keyed(name))?,
            });
        }
        for (name, section) in &snapshot.operator {
            sections.push(self.write_operator(name, section)?);
        }
        Ok(sections)
    }

    fn write_keyed(&mut self, name: &str, entries: &[KeyedEntry]) -> Result<Section> {
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
                self.put(&scratch)?;
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
    fn write_encoded(&mut self, name: &str, parts: &[EncodedEntries]) -> Result<Section> {
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
                    let mut put = Ok(());
                    reader.read(run.bytes, |bytes| {
                        if put.is_ok() {
                            put = self.put(bytes);
                        }
                    });
                    put?;
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
    fn write_stored(&mut self, name: &str, settled: &SettledStates<'_>) -> Result<Section> {
        let mut runs: Vec<GroupRun> = Vec::new();
        let mut refused = None;
        let visited = settled.visit(name, |group, entries, bytes| {
            if let Err(error) = self.put(bytes) {
                refused = Some(error);
                return Err(Error::internal("the file does not take it"));
            }
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
        if let Some(error) = refused {
            return Err(error);
        }
        visited.map_err(StorageError::State)?;
        check_group(name, runs.last().map(|run| run.group))?;
        Ok(Section {
            name: name.to_owned(),
            kind: SectionKind::Keyed(runs),
        })
    }

    fn write_operator(&mut self, name: &str, section: &OperatorSection) -> Result<Section> {
        let mut bytes = 0;
        let mut scratch = Vec::new();
        for entry in &section.entries {
            scratch.clear();
            put_part(&mut scratch, entry);
            self.put(&scratch)?;
            bytes += scratch.len() as u64;
        }
        let kind = SectionKind::Operator {
            redistribution: section.redistribution,
            entries: section.entries.len() as u64,
            bytes,
        };
        Ok(Section {
            name: name.to_owned(),
            kind,
        })
    }
}

fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    varint::put(out, part.len() as u64);
    out.extend_from_slice(part);
}

fn check_group(name: &str, last: Option<u16>) -> Result<()> {
    let last = last.map_or(0, u32::from);
    if last < MAX_KEY_GROUPS {
        return Ok(());
    }
    let problem = format!("state '{name}' has an entry of key group {last}, and there are {MAX_KEY_GROUPS}");
    Err(StorageError::Internal(problem))
}
