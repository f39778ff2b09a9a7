//! Directories of stores and checkpoints.

use crate::error::{Result, RocksError};
use hurtig_state::store::StoreFile;
use std::fs;
use std::io;
use std::path::Path;

/// Names the manifest; without it there is no store.
const CURRENT: &str = "CURRENT";
/// The ending of files that never change.
const TABLE: &str = ".sst";
/// The ending of RocksDB's write-ahead log, which is empty here since nothing is logged.
const WAL: &str = ".log";
/// Beginnings of files that no restore needs.
const UNNEEDED: [&str; 2] = ["OPTIONS", "LOG"];

/// Makes a directory that does not exist yet.
pub(crate) fn new_directory(doing: &'static str, dir: &Path) -> Result<()> {
    fs::create_dir(dir).map_err(RocksError::io(doing, dir))
}

/// Removes `dir` when what was to be in it failed.
pub(crate) fn or_remove<T>(outcome: Result<T>, dir: &Path) -> Result<T> {
    if outcome.is_err() {
        // The failure at hand says more than one to clean up behind it.
        let _ = fs::remove_dir_all(dir);
    }
    outcome
}

/// Refuses what is not a directory with a checkpoint.
pub(crate) fn check_checkpoint(checkpoint: &Path) -> Result<()> {
    let current = checkpoint.join(CURRENT);
    let checked = fs::metadata(&current).map(drop);
    checked.map_err(RocksError::io("find the checkpoint's file", &current))
}

/// Links the tables of a checkpoint into `dir` and copies the other files, which the new store changes.
pub(crate) fn link_checkpoint(checkpoint: &Path, dir: &Path) -> Result<()> {
    for name in names(checkpoint)? {
        let (from, to) = (checkpoint.join(&name), dir.join(&name));
        let placed = match name.ends_with(TABLE) {
            true => link_or_copy(&from, &to),
            false => fs::copy(&from, &to).map(drop),
        };
        placed.map_err(RocksError::io("restore the checkpoint's file", &from))?;
    }
    Ok(())
}

/// Some file systems know no links, or have too many of one file already.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}

/// The files of a checkpoint that RocksDB has made in `dir`, those that no restore needs removed.
pub(crate) fn checkpoint_files(dir: &Path) -> Result<Vec<StoreFile>> {
    let mut files = Vec::new();
    for name in names(dir)? {
        let path = dir.join(&name);
        let found = fs::metadata(&path).map_err(RocksError::io("look at the checkpoint's file", &path))?;
        let (bytes, shared) = (found.len(), name.ends_with(TABLE));
        if UNNEEDED.iter().any(|unneeded| name.starts_with(unneeded)) || (name.ends_with(WAL) && bytes == 0) {
            fs::remove_file(&path).map_err(RocksError::io("tidy up the checkpoint's file", &path))?;
            continue;
        }
        files.push(StoreFile { name, bytes, shared });
    }
    Ok(files)
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(dir)?;
        // RocksDB's names are ASCII.
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        entries.map(name).collect()
    };
    let mut names = list().map_err(RocksError::io("list the checkpoint", dir))?;
    names.sort();
    Ok(names)
}
