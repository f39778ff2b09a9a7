//! Files of stores in checkpoints: what earlier checkpoints have is named and not written again.
//!
//! The state file of a subtask has a section for its store: a record of the store's files, and the entries
//! that the store did not have at the barrier. Files that never change lie in the job's directory of shared files,
//! each behind the header and in the blocks of any other file; small ones that do are in the record.
//!
//! A native savepoint has such files too, in its own directory and of its own.
//!
//! At a restore a subtask that has the key groups of the one before gets a store made of the files; any
//! other, and one that keeps state in memory, reads the entries of its key groups.

use crate::error::{Result, StorageError};
use crate::format::Compression;
use crate::format::header::FileKind;
use crate::format::reader::{data_of, verify};
use crate::format::writer::FileWriter;
use crate::local_copies::LocalCopies;
use crate::metadata::{OWN, resolve};
use crate::path::{check_path, join};
use crate::store::BlobStore;
use hurtig_core::Error;
use hurtig_core::ids::{CheckpointId, ExecutionId, random_number};
use hurtig_state::cached::Layout;
use hurtig_state::{
    EncodedEntries, OperatorSection, OperatorSnapshot, Redistribution, SettledFiles, StoreBackend, Upload,
    snapshot,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

/// The section of a store's record, which has one entry.
pub const STORE_SECTION: &str = "store/files";
/// What the sections of entries begin with that a store did not have; the state's name follows.
pub const FRESH_SECTION: &str = "store/fresh/";

/// Files are copied in pieces of so many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// The files of one subtask's store, as they stand in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoreRecord {
    /// The first key group and the one behind the last.
    groups: (u16, u16),
    files: Vec<FileRecord>,
    states: Vec<StateRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileRecord {
    name: String,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// A file of its own. A path that begins with `./` is one within the state file's folder.
    Shared { path: String, checksum: u64 },
    /// In the record.
    Here(#[serde(with = "serde_bytes")] Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StateRecord {
    name: String,
    layout: Layout,
}

/// Where files go that several checkpoints name, and whose they are.
#[derive(Clone, Debug)]
pub struct SharedFolder {
    /// The folder.
    pub folder: String,
    /// The task.
    pub execution: ExecutionId,
    /// The checkpoint that is being stored.
    pub checkpoint: CheckpointId,
    /// Which files of earlier checkpoints it names.
    pub reuse: Reuse,
    /// The last checkpoint that is known to be complete.
    pub completed: u64,
    /// Later ones that are known to have been given up.
    pub given_up: BTreeSet<u64>,
    /// Where copies are kept on this disk, if they are.
    pub local: Option<LocalCopies>,
}

/// Which files of earlier checkpoints a new one names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Those that stay as long as it is needed.
    Kept,
    /// None: it writes every file, and later ones may name those.
    Nothing,
    /// None, and nobody names its files either: they lie beside the state file and are named relative to it.
    Apart,
}

impl SharedFolder {
    /// A new name. It begins with the number of the checkpoint; see [`checkpoint_of`].
    fn new_path(&self) -> String {
        let (checkpoint, random) = (self.checkpoint, random_number());
        join(
            &self.folder,
            &format!("{checkpoint}-{}-{random:016x}", self.execution),
        )
    }
}

/// For which checkpoint a file in the folder of shared files was written.
pub fn checkpoint_of(path: &str) -> Option<u64> {
    name_of(path).split_once('-')?.0.parse().ok()
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Replaces the store in a snapshot by a record of its files and what they do not have, and writes the files
/// that no checkpoint has. `named` gets the paths of all files. Blocks.
///
/// # Errors
/// When the store fails or what [`BlobStore::put_new`] fails with; what was written is removed then.
pub fn save_store(
    store: &dyn BlobStore,
    snapshot: &mut OperatorSnapshot,
    shared: &SharedFolder,
    named: &mut Vec<String>,
) -> Result<NamedBytes> {
    let Some(stored) = snapshot.stored.take() else {
        return Ok(NamedBytes::default());
    };
    stored.forget_uploads(shared.completed, &shared.given_up);
    let settled = stored.settle_files().map_err(StorageError::State)?;
    let mut uploads = Uploads {
        store,
        shared,
        all: BTreeMap::new(),
        new: Vec::new(),
        bytes: NamedBytes::default(),
    };
    let files = uploads.files(&settled).inspect_err(|_| uploads.forget())?;
    let bytes = uploads.bytes;
    named.extend(uploads.all.values().map(|upload| upload.path.clone()));
    if shared.reuse != Reuse::Apart {
        settled.uploaded(shared.checkpoint.0, uploads.all);
    }
    let groups = settled.groups();
    let mut record = StoreRecord {
        groups: (groups.start, groups.end),
        files,
        states: Vec::new(),
    };
    for (name, layout, fresh) in settled.states() {
        let name = name.to_owned();
        snapshot.put_encoded(&format!("{FRESH_SECTION}{name}"), fresh.clone());
        record.states.push(StateRecord { name, layout });
    }
    if let Some(local) = &shared.local {
        local.forget_before(shared.completed);
    }
    let section = OperatorSection {
        redistribution: Redistribution::Split,
        entries: vec![snapshot::encode(&record).map_err(StorageError::State)?],
    };
    snapshot.operator.insert(STORE_SECTION.to_owned(), section);
    Ok(bytes)
}

/// Removes files that were written for a checkpoint which failed.
pub fn forget_files(store: &dyn BlobStore, checkpoint: CheckpointId, named: &[String]) {
    for path in named
        .iter()
        .filter(|path| checkpoint_of(path) == Some(checkpoint.0))
    {
        // The failure at hand says more; what is left is swept when a later checkpoint is complete.
        let _ = store.delete(path);
    }
}

/// How long the files of stores are that a snapshot names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamedBytes {
    /// All of them.
    pub all: u64,
    /// Those that no earlier snapshot had, and that were written for it.
    pub new: u64,
}

/// The files of one snapshot on their way.
struct Uploads<'a> {
    store: &'a dyn BlobStore,
    shared: &'a SharedFolder,
    all: BTreeMap<String, Upload>,
    new: Vec<String>,
    bytes: NamedBytes,
}

impl Uploads<'_> {
    fn files(&mut self, settled: &SettledFiles<'_>) -> Result<Vec<FileRecord>> {
        let mut records = Vec::new();
        for (file, path) in settled.files() {
            let kept = match self.shared.reuse {
                Reuse::Kept => settled.upload(file, self.shared.completed),
                Reuse::Nothing | Reuse::Apart => None,
            };
            if file.shared {
                let bytes = length(&path)?;
                self.bytes.all += bytes;
                self.bytes.new += if kept.is_none() { bytes } else { 0 };
            }
            let place = match kept.filter(|_| file.shared) {
                Some(upload) => self.keep(&file.name, &path, upload),
                None if file.shared => {
                    let upload = self.write(&path)?;
                    self.keep(&file.name, &path, upload)
                }
                None => Place::Here(read(&path)?),
            };
            let name = file.name.clone();
            records.push(FileRecord { name, place });
        }
        Ok(records)
    }

    fn keep(&mut self, name: &str, file: &Path, upload: Upload) -> Place {
        if let Some(local) = &self.shared.local {
            local.keep(self.shared.checkpoint, &upload.path, file);
        }
        let shown = match self.shared.reuse {
            Reuse::Apart => format!("{OWN}{}", name_of(&upload.path)),
            Reuse::Kept | Reuse::Nothing => upload.path.clone(),
        };
        let place = Place::Shared {
            path: shown,
            checksum: upload.checksum,
        };
        self.all.insert(name.to_owned(), upload);
        place
    }

    /// Copies a file.
    fn write(&mut self, from: &Path) -> Result<Upload> {
        let path = self.shared.new_path();
        self.new.push(path.clone());
        let mut checksum = 0;
        self.store.put_filled(&path, &mut |sink| {
            let shown = from.to_string_lossy();
            let failed = |error| StorageError::io("read the store's file", &shown, error);
            let mut input = std::fs::File::open(from).map_err(failed)?;
            // The store compresses its files itself.
            let mut file = FileWriter::new(FileKind::StoreFile, Compression::None);
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                match input.read(&mut piece).map_err(failed)? {
                    0 => break,
                    read => file.write(&piece[..read]),
                }
                file.hand_over(sink)?;
            }
            let image = file.finish();
            checksum = image.checksum;
            sink(&image.bytes)?;
            Ok(true)
        })?;
        Ok(Upload { path, checksum })
    }

    fn forget(&self) {
        for path in &self.new {
            // The failure at hand says more.
            let _ = self.store.delete(path);
        }
    }
}

fn length(path: &Path) -> Result<u64> {
    let shown = path.to_string_lossy();
    let known = std::fs::metadata(path);
    let known = known.map_err(|error| StorageError::io("look at the store's file", &shown, error))?;
    Ok(known.len())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let shown = path.to_string_lossy();
    std::fs::read(path).map_err(|error| StorageError::io("read the store's file", &shown, error))
}

/// What a subtask makes of the stores in a checkpoint.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "a store of files has none")]
pub struct Reader<'a> {
    /// The checkpoint's files.
    pub blobs: &'a dyn BlobStore,
    /// The folder of the state file.
    pub folder: &'a str,
    /// Opens stores.
    pub stores: &'a StoreBackend,
    /// Copies on this disk, which are read in place of the checkpoint's files where they are whole.
    pub local: Option<&'a LocalCopies>,
}

/// Whether a subtask's snapshot has a store.
pub fn has_store(snapshot: &OperatorSnapshot) -> bool {
    snapshot.operator.contains_key(STORE_SECTION)
}

impl Reader<'_> {
    /// Replaces the record of a store by what is of use to a subtask with these key groups: by the store itself if it
    /// `adopts` it and the groups are the same, else by its entries. Nothing happens to a snapshot without a store.
    /// Blocks.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for damaged files, and what the stores fail with.
    pub fn hydrate(&self, snapshot: &mut OperatorSnapshot, groups: Range<u16>, adopts: bool) -> Result<()> {
        let Some(section) = snapshot.operator.remove(STORE_SECTION) else {
            return Ok(());
        };
        let bytes = section.entries.first().map_or(&[][..], Vec::as_slice);
        let record: StoreRecord = snapshot::decode(bytes).map_err(StorageError::State)?;
        let mut fresh = Vec::new();
        for state in &record.states {
            fresh.push(snapshot.encoded.remove(&format!("{FRESH_SECTION}{}", state.name)));
        }
        let own = groups.start.max(record.groups.0)..groups.end.min(record.groups.1);
        if own.is_empty() {
            return Ok(());
        }
        let restored = self.restore(&record, &fresh)?;
        if adopts && groups == (record.groups.0..record.groups.1) {
            snapshot.restored = Some(restored);
            return Ok(());
        }
        for StateRecord { name, layout } in &record.states {
            let entries = restored
                .entries(name, *layout, own.clone())
                .map_err(StorageError::State)?;
            snapshot.put_encoded(name, entries);
        }
        Ok(())
    }

    fn restore(
        &self,
        record: &StoreRecord,
        fresh: &[Option<Vec<EncodedEntries>>],
    ) -> Result<hurtig_state::RestoredStore> {
        let dir = self.stores.new_path();
        let restored = self.fetch(record, &dir).and_then(|()| {
            let restored = self.stores.restore(&dir)?;
            for (state, fresh) in record.states.iter().zip(fresh) {
                let fresh = fresh.iter().flatten();
                fresh
                    .into_iter()
                    .try_for_each(|fresh| restored.bring_in(&state.name, fresh))?;
            }
            Ok::<_, Error>(restored)
        });
        // What is left is removed with the backend's directory.
        let _ = std::fs::remove_dir_all(&dir);
        restored.map_err(StorageError::State)
    }

    fn fetch(&self, record: &StoreRecord, dir: &Path) -> Result<(), Error> {
        std::fs::create_dir(dir).map_err(|e| failed(dir, e))?;
        for file in &record.files {
            let to = dir.join(check_path(&file.name).map(|()| &file.name)?);
            let bytes = match &file.place {
                Place::Here(bytes) => bytes.clone(),
                Place::Shared { path, checksum } if self.is_here(path, *checksum, &to) => continue,
                Place::Shared { path, checksum } => {
                    self.shared_file(&resolve(self.folder, path), *checksum)?
                }
            };
            std::fs::write(&to, bytes).map_err(|e| failed(&to, e))?;
        }
        Ok(())
    }

    fn is_here(&self, path: &str, checksum: u64, to: &Path) -> bool {
        self.local.is_some_and(|local| local.take(path, checksum, to))
    }

    fn shared_file(&self, path: &str, checksum: u64) -> Result<Vec<u8>> {
        let bytes = self.blobs.get(path)?;
        let found = verify(path, &bytes)?;
        if found.checksum != checksum {
            let problem = "it is another file than the one that the checkpoint names".to_owned();
            return Err(StorageError::corrupt(path, 0, problem));
        }
        data_of(path, &bytes, FileKind::StoreFile)
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    let path = path.display();
    Error::external(
        format!("cannot write '{path}' to restore a store; check the disk and permissions"),
        error,
    )
}
