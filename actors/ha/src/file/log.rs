//! The log: an image, then the changes since, each synced before it counts.

use super::frame::{self, Frame, Read};
use super::lock::OpenError;
use crate::kv::{Batch, Machine, Outcome, StoreError};
use crate::memory::Journal;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The log's file.
const LOG_FILE: &str = "log";
/// The next one, before it takes the place of the log.
const NEXT_FILE: &str = "log.next";
/// A log is replaced when it is larger than this and than four of its images.
const REPLACE_AT: u64 = 1 << 20;

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    file: File,
    len: u64,
    image: u64,
    /// Why nothing more can be written: what lies on disk is not known since.
    broken: Option<String>,
}

impl Log {
    /// Opens the log of a directory, or begins one, and replays it.
    pub(super) fn open(dir: &Path) -> Result<(Self, Machine), OpenError> {
        let path = dir.join(LOG_FILE);
        let io = |error| OpenError::io(&path, error);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io(error)),
        };
        let (machine, _) = replay(&path, &bytes)?;
        // A new file, so that nothing is appended to a torn end, and no failure of an earlier sync is inherited.
        let (file, len) = replace(dir, &machine).map_err(io)?;
        let log = Self {
            dir: dir.to_owned(),
            file,
            len,
            image: len,
            broken: None,
        };
        Ok((log, machine))
    }

    /// Appends a batch and syncs it.
    ///
    /// # Errors
    /// What the disk said. The log may then be broken.
    pub(super) fn append(&mut self, batch: &Batch, machine: &Machine) -> io::Result<()> {
        if self.len > REPLACE_AT.max(self.image * 4) {
            (self.file, self.len) = replace(&self.dir, machine)?;
            self.image = self.len;
        }
        let bytes = frame::changes(batch);
        if let Err(error) = self.file.write_all(&bytes) {
            return Err(self.take_back(error));
        }
        if let Err(error) = self.file.sync_data() {
            // The kernel may have dropped what it could not write: a second sync would say nothing.
            self.broken = Some(error.to_string());
            return Err(error);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Cuts off what was written of a frame.
    fn take_back(&mut self, error: io::Error) -> io::Error {
        let cut = self.file.set_len(self.len).and_then(|()| self.file.sync_data());
        if let Err(worse) = cut {
            self.broken = Some(format!("{error}, then {worse}"));
        }
        error
    }
}

impl Journal for Log {
    fn keep(&mut self, batch: &Batch, machine: &Machine) -> Result<(), Outcome> {
        if let Some(why) = &self.broken {
            return Err(Outcome::Unknown(format!("the log broke earlier: {why}")));
        }
        let Err(error) = self.append(batch, machine) else {
            return Ok(());
        };
        Err(match &self.broken {
            Some(_) => Outcome::Unknown(error.to_string()),
            None => Outcome::Rejected(StoreError::Full(error.to_string())),
        })
    }
}

/// The machine that a log describes, and where its last whole frame ends.
fn replay(path: &Path, bytes: &[u8]) -> Result<(Machine, usize), OpenError> {
    let damaged = |why: String| OpenError::Damaged {
        file: path.to_owned(),
        why,
    };
    let mut machine = Machine::default();
    let mut at = 0;
    loop {
        match frame::read(bytes, at) {
            Read::End => break,
            Read::Frame(Frame::Image(revision, entries), next) if at == 0 => {
                machine = Machine::restored(revision, entries);
                at = next;
            }
            Read::Frame(Frame::Changes(batch), next)
                if at > 0 && batch.revision.0 == machine.revision().0 + 1 =>
            {
                machine.apply(&batch);
                at = next;
            }
            Read::Frame(..) => return Err(damaged(format!("a frame at byte {at} is out of order"))),
            // Only the last frame can be torn by a crash: the one before was synced before it was begun. The first one came
            // by a rename, after it was synced.
            Read::Broken if at == 0 || frame::any_behind(bytes, at) => {
                return Err(damaged(format!("the frame at byte {at} cannot be read")));
            }
            Read::Broken => {
                tracing::warn!(file = %path.display(), at, "a write that a crash interrupted is left out");
                break;
            }
        }
    }
    let revision = machine.revision();
    machine.compact(revision);
    Ok((machine, at))
}

/// Puts a log that is an image alone in the place of the log.
fn replace(dir: &Path, machine: &Machine) -> io::Result<(File, u64)> {
    let next = dir.join(NEXT_FILE);
    let mut options = OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).open(&next)?;
    let bytes = frame::image(machine.revision(), machine.entries());
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&next, dir.join(LOG_FILE))?;
    File::open(dir)?.sync_all()?;
    Ok((file, bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Change, Guard, Key, Transaction};
    use proptest::prelude::*;

    fn commit(log: &mut Log, machine: &mut Machine, key: u8, value: u8) {
        let name = Key::new(format!("/k/{key}"));
        let guard = Guard::as_seen(&name, machine.get(&name));
        let other = Key::new(format!("/l/{value}"));
        let mut changes = vec![Change::Put(name, vec![value; usize::from(value)], None)];
        if machine.get(&other).is_some() {
            changes.push(Change::Delete(other));
        } else {
            changes.push(Change::Put(other, vec![], None));
        }
        let batch = machine.decide(&Transaction::new(vec![guard], changes)).unwrap();
        log.append(&batch, machine).unwrap();
        machine.apply(&batch);
    }

    fn entries(machine: &Machine) -> (u64, Vec<crate::kv::Entry>) {
        (machine.revision().0, machine.entries().cloned().collect())
    }

    proptest! {
        // Each case waits for the disk a dozen times.
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Wherever a crash cuts the log, and whatever it leaves of the last frame: all of a transaction or nothing.
        #[test]
        fn a_crash_leaves_the_old_or_the_new(
            writes in prop::collection::vec((0..4u8, 0..20u8), 1..8),
            cut in any::<prop::sample::Index>(),
            garbage in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (mut log, mut machine) = Log::open(dir.path()).unwrap();
            let image = log.len;
            let mut states = vec![(log.len, entries(&machine))];
            for (key, value) in writes {
                commit(&mut log, &mut machine, key, value);
                states.push((log.len, entries(&machine)));
            }
            drop(log);
            let path = dir.path().join(LOG_FILE);
            let mut bytes = fs::read(&path).unwrap();
            let cut = usize::try_from(image).unwrap() + cut.index(bytes.len() - usize::try_from(image).unwrap() + 1);
            bytes.truncate(cut);
            bytes.extend_from_slice(&garbage);
            fs::write(&path, &bytes).unwrap();
            let (_, restored) = Log::open(dir.path()).unwrap();
            let whole = states.iter().rfind(|(len, _)| *len <= cut as u64).unwrap();
            // Garbage may by accident be the rest of the frame that was cut.
            let next = states.iter().find(|(len, _)| *len > cut as u64);
            let restored = entries(&restored);
            prop_assert!(restored == whole.1 || next.is_some_and(|next| restored == next.1));
        }

        /// A byte that has changed in a frame before the last is never taken for a crash.
        #[test]
        fn damage_before_the_end_is_refused(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
            let dir = tempfile::tempdir().unwrap();
            let (mut log, mut machine) = Log::open(dir.path()).unwrap();
            (0..3).for_each(|key| commit(&mut log, &mut machine, key, key + 1));
            let acknowledged = usize::try_from(log.len).unwrap();
            commit(&mut log, &mut machine, 9, 9);
            let path = dir.path().join(LOG_FILE);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at.index(acknowledged)] ^= flip;
            fs::write(&path, &bytes).unwrap();
            let refused = matches!(Log::open(dir.path()), Err(OpenError::Damaged { .. }));
            prop_assert!(refused);
        }
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_log() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, mut machine) = Log::open(dir.path()).unwrap();
        commit(&mut log, &mut machine, 1, 2);
        fs::write(dir.path().join(NEXT_FILE), b"half of an ima").unwrap();
        let (_, restored) = Log::open(dir.path()).unwrap();
        assert_eq!(entries(&restored), entries(&machine));
    }

    #[test]
    fn a_log_is_replaced_when_it_has_grown_and_revisions_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, mut machine) = Log::open(dir.path()).unwrap();
        log.len = REPLACE_AT + 1;
        commit(&mut log, &mut machine, 1, 2);
        assert!(log.len < 1000, "{}", log.len);
        commit(&mut log, &mut machine, 1, 3);
        let (_, restored) = Log::open(dir.path()).unwrap();
        assert_eq!(entries(&restored), entries(&machine));
        assert_eq!(restored.revision().0, 2);
    }
}
