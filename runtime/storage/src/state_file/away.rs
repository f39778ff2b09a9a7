//! Keyed sections that are read from their file when they are restored.

use super::cursor::{BlockMap, Cursor, Source};
use crate::error::{Result, StorageError};
use crate::store::BlobStore;
use hurtig_core::Error;
use hurtig_state::encoded::GroupRun;
use hurtig_state::{EncodedEntries, EntrySource};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// A file that was opened and not read.
pub(super) struct OpenFile {
    pub(super) store: Arc<dyn BlobStore>,
    /// What the store is called in errors, where there are several.
    pub(super) location: Option<String>,
    pub(super) path: String,
    pub(super) map: Arc<BlockMap>,
}

/// A keyed section of it.
pub(super) struct AwaySection {
    pub(super) file: Arc<OpenFile>,
    pub(super) runs: Vec<GroupRun>,
    /// Where the first run begins in the stream of the file.
    pub(super) from: u64,
}

impl AwaySection {
    /// Reads some runs and sends them, until nobody receives them any more.
    fn send(&self, runs: Range<usize>, to: &SyncSender<Result<EncodedEntries>>) {
        let length = |runs: &[GroupRun]| runs.iter().map(|run| run.bytes).sum::<u64>();
        let from = self.from + length(&self.runs[..runs.start]);
        let file = &*self.file;
        let mut cursor = Cursor::new(&file.path, Source::Store(&*file.store), &file.map);
        cursor.seek(from..from + length(&self.runs[runs.clone()]));
        for run in &self.runs[runs] {
            let mut entries = EncodedEntries::default();
            let read = cursor.run(run, &mut entries).map(|()| entries);
            let failed = read.is_err();
            if to.send(read).is_err() || failed {
                return;
            }
        }
    }

    fn error(&self, error: StorageError) -> Error {
        let error = match &self.file.location {
            Some(location) => error.within(location),
            None => error,
        };
        match error.can_retry() {
            true => error.into(),
            false => Error::from(error).for_good(),
        }
    }
}

impl EntrySource for AwaySection {
    fn runs(&self) -> &[GroupRun] {
        &self.runs
    }

    /// A thread reads a key group while the one before is taken in.
    fn read(
        &self,
        runs: Range<usize>,
        each: &mut dyn FnMut(EncodedEntries) -> hurtig_core::Result<()>,
    ) -> hurtig_core::Result<()> {
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(0);
            let reader = thread::Builder::new().name("state-reader".to_owned());
            reader
                .spawn_scoped(scope, move || self.send(runs, &sender))
                .map_err(|error| Error::external("cannot start a thread that reads state", error))?;
            for group in receiver {
                each(group.map_err(|error| self.error(error))?)?;
            }
            Ok(())
        })
    }
}
