//! [`LocalStore`]: objects as files of a directory, durable when a write returns.

use super::{BlobStore, Fill};
use crate::error::{Result, StorageError};
use crate::path::{TEMPORARY, check_folder, check_path, join};
use hurtig_core::steps::{Step, reached};
use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers this process's temporary files, whichever store they belong to.
static TEMPORARIES: AtomicU64 = AtomicU64::new(0);

/// Files in a directory of a local or mounted file system.
///
/// A new object is written under a temporary name, synced, and linked to its name, which fails when
/// the name is taken; then the directory is synced. So the file system must know hard links.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    /// Directories whose own entry is known to be durable, so that it is synced once.
    durable: Mutex<BTreeSet<PathBuf>>,
}

impl LocalStore {
    /// The store at a plain path or a `file:///` URL. The directory need not exist; the first write
    /// creates it.
    ///
    /// # Errors
    /// [`StorageError::BadLocation`] for other schemes, other hosts and what is no path.
    pub fn open(location: &str) -> Result<Self> {
        let bad = |problem: String| StorageError::BadLocation {
            location: location.to_owned(),
            problem,
        };
        let path = local_path(location).map_err(bad)?;
        let root = std::path::absolute(path).map_err(|e| bad(e.to_string()))?;
        Ok(Self {
            root,
            durable: Mutex::new(BTreeSet::new()),
        })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn file(&self, path: &str) -> Result<PathBuf> {
        check_path(path)?;
        Ok(self.root.join(path))
    }

    fn folder(&self, folder: &str) -> Result<PathBuf> {
        check_folder(folder)?;
        Ok(self.root.join(folder))
    }

    /// Makes a directory and those above it, and makes their entries durable.
    fn make_durable_dir(&self, dir: &Path) -> io::Result<()> {
        let above_root = |dir: &Path| dir != self.root && self.root.starts_with(dir);
        let settled = |dir: &&Path| dir.is_dir() && (above_root(dir) || self.is_durable(dir));
        let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !settled(dir)).collect();
        for dir in missing.into_iter().rev() {
            let created = match fs::create_dir(dir) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
                result => result.map(|()| true)?,
            };
            match dir.parent().map_or(Ok(()), sync_dir) {
                // A root that was there need not lie in a directory that we may read.
                Err(e) if !created && dir == self.root && e.kind() == ErrorKind::PermissionDenied => {}
                result => result?,
            }
            self.durable_dirs().insert(dir.to_owned());
        }
        Ok(())
    }

    fn is_durable(&self, dir: &Path) -> bool {
        self.durable_dirs().contains(dir)
    }

    fn durable_dirs(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // Every change is one call of the set, so a panic elsewhere left it whole.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Visits every file of a folder, unfinished ones too. Symbolic links to directories are not
    /// followed.
    fn walk(&self, folder: &str, visit: &mut dyn FnMut(&str, &str) -> Result<()>) -> Result<()> {
        let Some(mut entries) = entries(&self.folder(folder)?, folder)? else {
            return Ok(());
        };
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            // A name that is not Unicode is not one of ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = join(folder, &name);
            match entry.file_type() {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(StorageError::io("look at", &path, e)),
                Ok(kind) if kind.is_dir() => self.walk(&path, visit)?,
                Ok(_) => visit(&path, &name)?,
            }
        }
        Ok(())
    }

    /// Removes empty folders, from the inside; those that are not empty stay.
    fn remove_folders(&self, folder: &str) -> Result<()> {
        let dir = self.folder(folder)?;
        for entry in entries(&dir, folder)?.unwrap_or_default() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Ok(name) = entry.file_name().into_string()
            {
                self.remove_folders(&join(folder, &name))?;
            }
        }
        self.durable_dirs().remove(&dir);
        if dir == self.root {
            return Ok(());
        }
        match fs::remove_dir(&dir) {
            Err(e) if e.kind() != ErrorKind::DirectoryNotEmpty && !is_nothing(&e) => {
                Err(StorageError::io("remove the folder", folder, e))
            }
            _ => Ok(()),
        }
    }
}

impl BlobStore for LocalStore {
    fn location(&self) -> Option<String> {
        Some(self.root.to_str()?.to_owned())
    }

    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.put_filled(path, &mut |write| write(bytes).map(|()| true))
            .map(drop)
    }

    fn put_filled(&self, path: &str, fill: &mut Fill<'_>) -> Result<bool> {
        let target = self.file(path)?;
        let dir = target.parent().unwrap_or(&self.root);
        let failed = |action| {
            // Also when the folder was deleted meanwhile: to say that the object does not exist would
            // be no answer.
            move |source| StorageError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        self.make_durable_dir(dir).map_err(failed("make the folder of"))?;
        let (temporary, mut file) = create_temporary(dir).map_err(failed("write"))?;
        let filled = fill(&mut |piece| file.write_all(piece).map_err(failed("write")));
        let written = filled.and_then(|wanted| {
            if wanted {
                file.sync_all().map_err(failed("write"))?;
            }
            Ok(wanted)
        });
        if !matches!(written, Ok(true)) {
            // What went wrong tells more; what stays is swept.
            let _ = fs::remove_file(&temporary);
            return written;
        }
        reached(Step::FileWritten);
        let published = fs::hard_link(&temporary, &target);
        reached(Step::FilePublished);
        // What cannot be removed now is invisible, and swept later.
        let _ = fs::remove_file(&temporary);
        match published {
            Ok(()) => sync_dir(dir).map_err(failed("sync the folder of")).map(|()| true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(StorageError::AlreadyExists {
                path: path.to_owned(),
            }),
            Err(e) => Err(failed("publish by a hard link (which the file system must know)")(e)),
        }
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        fs::read(self.file(path)?).map_err(|e| cannot_read(path, e))
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let read = |file: PathBuf| {
            let mut file = File::open(file)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(ErrorKind::IsADirectory.into());
            }
            // No offset beyond the end: those that are too large for the system are errors to it.
            file.seek(SeekFrom::Start(range.start.min(metadata.len())))?;
            let mut bytes = Vec::new();
            let wanted = range.end.saturating_sub(range.start);
            file.take(wanted).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read(self.file(path)?).map_err(|e| cannot_read(path, e))
    }

    fn exists(&self, path: &str) -> Result<bool> {
        match fs::metadata(self.file(path)?) {
            Ok(metadata) => Ok(metadata.is_file()),
            Err(e) if is_nothing(&e) => Ok(false),
            Err(e) => Err(StorageError::io("look for", path, e)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        self.walk(folder, &mut |path, _| {
            if check_path(path).is_ok() {
                paths.push(path.to_owned());
            }
            Ok(())
        })?;
        paths.sort_unstable();
        Ok(paths)
    }

    fn delete(&self, path: &str) -> Result<()> {
        let file = self.file(path)?;
        remove(&file, path)?;
        // Or a power cut could bring back the metadata of a checkpoint whose files are gone.
        match file.parent().map_or(Ok(()), sync_dir) {
            Err(e) if e.kind() != ErrorKind::NotFound && e.kind() != ErrorKind::NotADirectory => {
                Err(StorageError::io("delete", path, e))
            }
            _ => Ok(()),
        }
    }

    fn delete_all(&self, folder: &str) -> Result<()> {
        self.walk(folder, &mut |path, _| remove(&self.root.join(path), path))?;
        self.remove_folders(folder)
    }

    fn sweep(&self, folder: &str) -> Result<usize> {
        let mut swept = 0;
        self.walk(folder, &mut |path, name| {
            if name.starts_with(TEMPORARY) {
                remove(&self.root.join(path), path)?;
                swept += 1;
            }
            Ok(())
        })?;
        Ok(swept)
    }
}

/// Creates a file under a name that no object has.
fn create_temporary(dir: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let number = TEMPORARIES.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            // A process of the same number, before this one or on another machine, has it.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            result => return result.map(|file| (path, file)),
        }
    }
}

/// Whether the path leads nowhere; it may lead through a file.
fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A failed read. Neither a folder nor what would be in a file is an object.
fn cannot_read(path: &str, error: io::Error) -> StorageError {
    if error.kind() == ErrorKind::IsADirectory || is_nothing(&error) {
        return StorageError::NotFound {
            path: path.to_owned(),
        };
    }
    StorageError::io("read", path, error)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn remove(file: &Path, path: &str) -> Result<()> {
    match fs::remove_file(file) {
        // A folder is no object.
        Err(e) if e.kind() != ErrorKind::IsADirectory && !is_nothing(&e) => {
            Err(StorageError::io("delete", path, e))
        }
        _ => Ok(()),
    }
}

/// The entries of a directory; `None` when there is no such directory.
fn entries(dir: &Path, folder: &str) -> Result<Option<Vec<DirEntry>>> {
    let list = fs::read_dir(dir).and_then(Iterator::collect);
    match list {
        Ok(entries) => Ok(Some(entries)),
        Err(e) if is_nothing(&e) => Ok(None),
        Err(e) => Err(StorageError::io("list", folder, e)),
    }
}

/// The path that a location names.
fn local_path(location: &str) -> Result<PathBuf, String> {
    let Some((scheme, rest)) = location.split_once("://") else {
        return match location {
            "" => Err("it is empty".to_owned()),
            path => Ok(path.into()),
        };
    };
    if scheme != "file" {
        return Err(format!("there is no scheme '{scheme}', only 'file'"));
    }
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file URL names no host, so three slashes follow the colon".to_owned());
    }
    percent_decoded(path).map(PathBuf::from)
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.ok_or("a '%' is not followed by two hexadecimal digits")?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| "its bytes are not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_paths_or_file_urls() {
        let root = |location| LocalStore::open(location).unwrap().root().to_owned();
        assert_eq!(root("/var/ckpt"), Path::new("/var/ckpt"));
        assert_eq!(root("file:///var/a%20b/%C3%A4"), Path::new("/var/a b/ä"));
        assert_eq!(root("file://localhost/var"), Path::new("/var"));
        assert!(root("relative/dir").is_absolute());
        for (bad, why) in [
            ("s3://bucket/x", "no scheme 's3', only 'file'"),
            ("", "empty"),
            ("file://host/x", "three slashes"),
            ("file:///a%2", "two hexadecimal digits"),
            ("file:///a%+1", "two hexadecimal digits"),
            ("file:///%ff", "UTF-8"),
        ] {
            let text = LocalStore::open(bad).unwrap_err().to_string();
            assert!(text.contains(why) && text.contains(bad), "{text}");
        }
    }
}
