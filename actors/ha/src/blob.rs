//! Blobs in a directory that all jobmanagers share: bytes under their digest.
//!
//! It promises that what lies under a digest is whole and durable, and that what is read is what was stored. Who needs which blob
//! is in the records; whoever deletes one has asked them first. Calls block.

use crate::leader::Term;
use crate::records::{Condemned, Digest};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Where unfinished blobs are.
const TMP: &str = "tmp";
/// Where the others are.
const BLOBS: &str = "blobs";
/// Where blobs are that nobody seems to need: for a while, and then no more.
const ASIDE: &str = "aside";
/// Where jobmanagers leave what others look for.
const PROBES: &str = "probes";
/// Which cluster this is, and which term has led last.
const IDENTITY: &str = "identity";
/// The version of what stands in it.
const IDENTITY_VERSION: u32 = 1;
/// How much is copied at once.
const BUFFER: usize = 64 << 10;

/// Why a blob was not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk says no.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// Nothing is there.
    #[error("blob {digest} is not in {}. It was deleted, or another directory is meant", .dir.display())]
    Missing {
        /// Which one.
        digest: Digest,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// Other bytes are there.
    #[error("blob {digest} at {} is damaged: its bytes have the digest {found}. Restore it from a backup", .path.display())]
    Damaged {
        /// Which one.
        digest: Digest,
        /// The digest of what is there.
        found: Digest,
        /// Where.
        path: PathBuf,
    },
    /// More than is allowed.
    #[error("a blob may have {limit} bytes, and this one has more")]
    TooLarge {
        /// How many.
        limit: u64,
    },
    /// Another jobmanager's probe is not there.
    #[error(
        "{} is not shared: what jobmanager {other} has written there cannot be seen. Set `high-availability.storageDir` to a \
         directory that all jobmanagers share", .dir.display()
    )]
    NotShared {
        /// The directory.
        dir: PathBuf,
        /// Whose probe is missing.
        other: String,
    },
    /// The directory and the store are not of the same life.
    #[error("{0}")]
    OtherLife(String),
}

/// A directory of blobs.
#[derive(Clone, Debug)]
pub struct BlobDir {
    dir: PathBuf,
}

/// What the directory remembers of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    /// Of these bytes; a directory of a higher one is not led from.
    version: u32,
    incarnation: u64,
    /// The greatest term that has led.
    led: Term,
}

/// A blob that was put aside, because nobody seemed to need it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Aside {
    /// Which one.
    pub digest: Digest,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    path: PathBuf,
}

/// A blob that is being read. The end of its bytes is the end of the file only if the digest is right; otherwise an error comes.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    path: PathBuf,
    digest: Digest,
    hash: Sha256,
}

impl BlobDir {
    /// The blobs of a directory, which is made if it is absent.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        for part in [TMP, BLOBS, ASIDE, PROBES] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(|source| BlobError::Io { path, source })?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Stores bytes, at most `limit`, and says under which digest. They are durable when this returns.
    ///
    /// # Errors
    /// When the disk or the source says so, or there are too many. Nothing is left then.
    pub fn store(&self, source: &mut dyn Read, limit: u64) -> Result<Digest, BlobError> {
        let stored = self.store_checked(source, limit, |_| Ok::<_, BlobError>(()))?;
        Ok(stored.0)
    }

    /// The same if `check` likes the file; returns what that says of it too.
    ///
    /// # Errors
    /// As [`Self::store`], or what `check` says. Nothing is left then.
    pub fn store_checked<T, E: From<BlobError>>(
        &self,
        source: &mut dyn Read,
        limit: u64,
        check: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<(Digest, T), E> {
        let tmp = self.dir.join(TMP).join(Uuid::new_v4().simple().to_string());
        let store = || {
            let digest = self.write(&tmp, source, limit)?;
            let checked = check(&tmp)?;
            self.keep(&tmp, digest)?;
            Ok((digest, checked))
        };
        let stored = store();
        if stored.is_err() {
            // What is left is found by its age.
            let _ = fs::remove_file(&tmp);
        }
        stored
    }

    /// Opens a blob. Whoever executes it reads it to its end first, and executes the same open file.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(&self, digest: Digest) -> Result<BlobReader, BlobError> {
        let reader = |file, path| BlobReader {
            file,
            path,
            digest,
            hash: Sha256::new(),
        };
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(reader(file, path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody who leads no more may have taken it for one that nobody needs.
                let aside = self.aside()?.into_iter().find(|aside| aside.digest == digest);
                let found = aside.and_then(|aside| Some((File::open(&aside.path).ok()?, aside.path)));
                let dir = self.dir.clone();
                found
                    .map(|(file, path)| reader(file, path))
                    .ok_or(BlobError::Missing { digest, dir })
            }
            Err(source) => Err(BlobError::Io { path, source }),
        }
    }

    /// The bytes of a blob, verified.
    ///
    /// # Errors
    /// When it is not there, or damaged.
    pub fn read_all(&self, digest: Digest) -> Result<Vec<u8>, BlobError> {
        let mut reader = self.read(digest)?;
        let mut bytes = Vec::new();
        match io::copy(&mut reader, &mut bytes) {
            Ok(_) => Ok(bytes),
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                let found = Digest(Sha256::digest(&bytes).into());
                let path = reader.path;
                Err(BlobError::Damaged { digest, found, path })
            }
            Err(source) => Err(BlobError::Io {
                path: reader.path,
                source,
            }),
        }
    }

    /// Some bytes of a blob from `offset` on, at most `limit`; none at its end. Nothing is verified: who puts the parts together
    /// compares the digest.
    ///
    /// # Errors
    /// When it is not there, or the disk says so.
    pub fn part(&self, digest: Digest, offset: u64, limit: u64) -> Result<Vec<u8>, BlobError> {
        let BlobReader { mut file, path, .. } = self.read(digest)?;
        let mut bytes = Vec::new();
        let read = file
            .seek(io::SeekFrom::Start(offset))
            .and_then(|_| file.take(limit).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(bytes),
            Err(source) => Err(BlobError::Io { path, source }),
        }
    }

    /// The file of a blob, if it is there. Nobody may write to it.
    pub fn file(&self, digest: Digest) -> Option<PathBuf> {
        Some(self.path(digest)).filter(|path| path.exists())
    }

    /// Puts a blob aside that was condemned and checked again, under a name that no other has: what is deleted later is this file, and none
    /// that was stored since. `None`: it is not there.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn put_aside(&self, condemned: &Condemned, at_ms: i64) -> Result<Option<Aside>, BlobError> {
        let digest = condemned.digest;
        let name = format!("{digest}-{at_ms}-{}", Uuid::new_v4().simple());
        let (from, path) = (self.path(digest), self.dir.join(ASIDE).join(name));
        match fs::rename(&from, &path) {
            Ok(()) => Ok(Some(Aside { digest, at_ms, path })),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BlobError::Io { path: from, source }),
        }
    }

    /// All blobs that were put aside.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn aside(&self) -> Result<Vec<Aside>, BlobError> {
        let root = self.dir.join(ASIDE);
        let io = |source| BlobError::Io {
            path: root.clone(),
            source,
        };
        let mut found = Vec::new();
        for file in fs::read_dir(&root).map_err(io)? {
            let file = file.map_err(io)?;
            let name = file.file_name().to_string_lossy().into_owned();
            let mut parts = name.split('-');
            if let (Some(Ok(digest)), Some(Ok(at_ms))) =
                (parts.next().map(str::parse), parts.next().map(str::parse))
            {
                let path = file.path();
                found.push(Aside { digest, at_ms, path });
            }
        }
        found.sort();
        Ok(found)
    }

    /// Puts a blob back that is needed.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn put_back(&self, aside: &Aside) -> Result<(), BlobError> {
        // What is there already has the same bytes.
        self.keep(&aside.path, aside.digest)
    }

    /// Deletes a blob that was put aside.
    ///
    /// # Errors
    /// When the disk says so. One that is not there is deleted.
    pub fn discard(&self, aside: &Aside) -> Result<(), BlobError> {
        remove(&aside.path)
    }

    /// Deletes unfinished blobs that nobody has written to since `before_ms`; how many there were.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn sweep_unfinished(&self, before_ms: i64) -> Result<usize, BlobError> {
        let root = self.dir.join(TMP);
        let io = |source| BlobError::Io {
            path: root.clone(),
            source,
        };
        let mut swept = 0;
        for file in fs::read_dir(&root).map_err(io)? {
            let file = file.map_err(io)?;
            // It may have been finished at this moment.
            let Ok(metadata) = file.metadata() else { continue };
            if age_of(&metadata) < before_ms {
                remove(&file.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// All blobs there are, and when each was stored last, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn list(&self) -> Result<Vec<(Digest, i64)>, BlobError> {
        let root = self.dir.join(BLOBS);
        let io = |source| BlobError::Io {
            path: root.clone(),
            source,
        };
        let mut found = Vec::new();
        for folder in fs::read_dir(&root).map_err(io)? {
            for file in fs::read_dir(folder.map_err(io)?.path()).map_err(io)? {
                let file = file.map_err(io)?;
                let Ok(digest) = file.file_name().to_string_lossy().parse() else {
                    continue;
                };
                found.push((digest, age_of(&file.metadata().map_err(io)?)));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Leaves a sign of this jobmanager.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn leave_probe(&self, jobmanager: &str, sign: &str) -> Result<(), BlobError> {
        self.replace(&self.dir.join(PROBES).join(jobmanager), sign.as_bytes())
    }

    /// Looks for the sign of another jobmanager.
    ///
    /// # Errors
    /// [`BlobError::NotShared`] when it is not there, or is an old one.
    pub fn find_probe(&self, jobmanager: &str, sign: &str) -> Result<(), BlobError> {
        let found = fs::read(self.dir.join(PROBES).join(jobmanager)).unwrap_or_default();
        let not_shared = || BlobError::NotShared {
            dir: self.dir.clone(),
            other: jobmanager.to_owned(),
        };
        (found == sign.as_bytes()).then_some(()).ok_or_else(not_shared)
    }

    /// Checks that the directory and the store are of the same life, and notes the term. The first act of a new leader, before any
    /// effect. `is_new` says that the store knows no job, as at the very beginning.
    ///
    /// # Errors
    /// [`BlobError::OtherLife`]: then nobody may lead before somebody has looked.
    pub fn note_term(&self, term: Term, is_new: bool) -> Result<(), BlobError> {
        let recover = "run `hurtig cluster recover --accept-restored-etcd`";
        let dir = self.dir.display();
        let known = self.identity()?;
        let wrong = match known {
            None if is_new => None,
            None => Some(format!(
                "{dir} has lost its identity, and the store has jobs. Mount the right directory, or {recover}"
            )),
            Some(known) if known.incarnation != term.incarnation => Some(format!(
                "{dir} is of incarnation {} and the store of {}: one of them was restored or exchanged. Mount the right one, or {recover}",
                known.incarnation, term.incarnation
            )),
            Some(known) if known.led > term => Some(format!(
                "{} has led, and the store now gives {term}: it was restored from an older backup. If that is meant, {recover}",
                known.led
            )),
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            return Err(BlobError::OtherLife(wrong));
        }
        let incarnation = term.incarnation;
        self.keep_identity(Identity {
            version: IDENTITY_VERSION,
            incarnation,
            led: term,
        })
    }

    /// The incarnation that the directory knows.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn incarnation(&self) -> Result<Option<u64>, BlobError> {
        Ok(self.identity()?.map(|identity| identity.incarnation))
    }

    /// Begins a new incarnation: somebody has looked, and accepts what is there.
    ///
    /// # Errors
    /// When the disk says so.
    pub fn begin_incarnation(&self, incarnation: u64) -> Result<(), BlobError> {
        let led = Term {
            incarnation,
            ..Term::default()
        };
        self.keep_identity(Identity {
            version: IDENTITY_VERSION,
            incarnation,
            led,
        })
    }

    fn identity(&self) -> Result<Option<Identity>, BlobError> {
        let path = self.dir.join(IDENTITY);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BlobError::Io { path, source }),
        };
        let damaged = |error: rmp_serde::decode::Error| {
            BlobError::OtherLife(format!("{} is damaged: {error}", path.display()))
        };
        let identity: Identity = rmp_serde::from_slice(&bytes).map_err(damaged)?;
        if identity.version > IDENTITY_VERSION {
            let newer = format!(
                "{} was written by a newer version of Hurtig; use that",
                path.display()
            );
            return Err(BlobError::OtherLife(newer));
        }
        Ok(Some(identity))
    }

    fn keep_identity(&self, identity: Identity) -> Result<(), BlobError> {
        let path = self.dir.join(IDENTITY);
        let bytes =
            rmp_serde::to_vec_named(&identity).map_err(|error| BlobError::OtherLife(error.to_string()))?;
        self.replace(&path, &bytes)
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.dir.join(BLOBS).join(&name[..2]).join(name)
    }

    fn write(&self, tmp: &Path, source: &mut dyn Read, limit: u64) -> Result<Digest, BlobError> {
        let io = |source| BlobError::Io {
            path: tmp.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(tmp)
            .map_err(io)?;
        let digest = copy(source, &mut file, limit)
            .map_err(io)?
            .ok_or(BlobError::TooLarge { limit })?;
        file.sync_all().map_err(io)?;
        Ok(digest)
    }

    fn keep(&self, tmp: &Path, digest: Digest) -> Result<(), BlobError> {
        let io = |source| BlobError::Io {
            path: tmp.to_owned(),
            source,
        };
        let path = self.path(digest);
        let folder = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder).map_err(io)?;
        // Also over one that is there: then it is whole for sure, and young.
        fs::rename(tmp, &path).map_err(io)?;
        sync(folder)?;
        sync(&self.dir.join(BLOBS))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), BlobError> {
        let io = |source| BlobError::Io {
            path: path.to_owned(),
            source,
        };
        let tmp = self.dir.join(TMP).join(Uuid::new_v4().simple().to_string());
        let mut file = File::create(&tmp).map_err(io)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)?;
        fs::rename(&tmp, path).map_err(io)?;
        sync(path.parent().unwrap_or(&self.dir))
    }
}

fn remove(path: &Path) -> Result<(), BlobError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            let path = path.to_owned();
            Err(BlobError::Io { path, source })
        }
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<(), BlobError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| BlobError::Io {
        path: dir.to_owned(),
        source,
    })
}

/// Copies and hashes; `None` when there is more than is allowed.
fn copy(source: &mut dyn Read, to: &mut File, limit: u64) -> io::Result<Option<Digest>> {
    let (mut hash, mut buffer, mut copied) = (Sha256::new(), vec![0; BUFFER], 0);
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => return Ok(Some(Digest(hash.finalize().into()))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        copied += read as u64;
        if copied > limit {
            return Ok(None);
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
    }
}

fn age_of(metadata: &fs::Metadata) -> i64 {
    let modified = metadata.modified().ok();
    let since = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    // Unknown counts as young: it is not deleted.
    since.map_or(i64::MAX, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

impl BlobReader {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads all of it, and gives the file that was read: whoever executes a blob executes that, and not what lies under its name
    /// later.
    ///
    /// # Errors
    /// When it is damaged, or the disk says so.
    pub fn verified(mut self) -> Result<File, BlobError> {
        let (digest, path) = (self.digest, self.path.clone());
        let read = io::copy(
            &mut io::BufReader::with_capacity(BUFFER, &mut self),
            &mut io::sink(),
        );
        match read {
            Ok(_) => Ok(self.file),
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                let found = Digest(self.hash.finalize().into());
                Err(BlobError::Damaged { digest, found, path })
            }
            Err(source) => Err(BlobError::Io { path, source }),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hash.update(&buffer[..read]);
        if read == 0 && !buffer.is_empty() && Digest(self.hash.clone().finalize().into()) != self.digest {
            let why = format!("blob {} at {} is damaged", self.digest, self.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Revision;

    fn term(incarnation: u64, revision: u64) -> Term {
        Term {
            incarnation,
            revision: Revision(revision),
        }
    }

    #[test]
    fn what_is_stored_is_read_under_the_digest_that_others_compute() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        let digest = blobs.store(&mut &b"abc"[..], 3).unwrap();
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), known);
        assert_eq!(blobs.read_all(digest).unwrap(), b"abc");
        assert_eq!(blobs.store(&mut &b"abc"[..], 3).unwrap(), digest);
        assert_eq!(blobs.list().unwrap().len(), 1);
        assert_eq!(fs::read_dir(dir.path().join(TMP)).unwrap().count(), 0);
    }

    #[test]
    fn a_blob_that_has_changed_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        let bytes = vec![5; 3 * BUFFER + 1];
        let digest = blobs.store(&mut &bytes[..], u64::MAX).unwrap();
        assert_eq!(blobs.read_all(digest).unwrap(), bytes);
        for (length, at) in [
            (bytes.len(), 0),
            (bytes.len(), bytes.len() - 1),
            (bytes.len() - 1, 0),
        ] {
            let mut other = bytes[..length].to_vec();
            other[at] ^= u8::from(length == bytes.len());
            fs::write(blobs.path(digest), &other).unwrap();
            let damaged = blobs.read(digest).unwrap().verified();
            assert!(matches!(damaged, Err(BlobError::Damaged { .. })), "{damaged:?}");
            assert!(matches!(blobs.read_all(digest), Err(BlobError::Damaged { .. })));
        }
        fs::remove_file(blobs.path(digest)).unwrap();
        assert!(matches!(blobs.read_all(digest), Err(BlobError::Missing { .. })));
    }

    #[test]
    fn what_is_too_large_or_breaks_off_leaves_nothing() {
        struct Breaks(u8);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                buffer[0] = 1;
                if self.0 < 3 {
                    Ok(1)
                } else {
                    Err(io::Error::other("broken off"))
                }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        assert!(matches!(
            blobs.store(&mut &b"abcd"[..], 3),
            Err(BlobError::TooLarge { limit: 3 })
        ));
        assert!(matches!(
            blobs.store(&mut Breaks(0), 9),
            Err(BlobError::Io { .. })
        ));
        assert!(blobs.list().unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path().join(TMP)).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_is_not_shared_is_found() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (
            BlobDir::open(dir.path()).unwrap(),
            BlobDir::open(other.path()).unwrap(),
        );
        here.leave_probe("jm-1", "17").unwrap();
        BlobDir::open(dir.path())
            .unwrap()
            .find_probe("jm-1", "17")
            .unwrap();
        assert!(here.find_probe("jm-1", "18").is_err());
        let error = there.find_probe("jm-1", "17").unwrap_err();
        assert!(error.to_string().contains("high-availability.storageDir"));
    }

    #[test]
    fn a_store_that_was_restored_or_a_directory_that_was_exchanged_leads_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        assert!(blobs.note_term(term(1, 5), false).is_err());
        blobs.note_term(term(1, 5), true).unwrap();
        blobs.note_term(term(1, 9), false).unwrap();
        // From a backup of the same life, and of another.
        let error = blobs.note_term(term(1, 7), false).unwrap_err();
        assert!(error.to_string().contains("older backup"), "{error}");
        assert!(blobs.note_term(term(2, 20), false).is_err());
        blobs.begin_incarnation(2).unwrap();
        assert_eq!(blobs.incarnation().unwrap(), Some(2));
        blobs.note_term(term(2, 1), false).unwrap();
    }
}
