//! A watch that does not lose anything: it resumes, and lists again after a compaction.

use super::{Entry, Key, Listing, Revision, Store, Watch, Watched};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a watcher waits after the store could not be reached.
const PAUSE: Duration = Duration::from_millis(500);

/// What a [`Watcher`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// All that is there now: at the beginning, and whenever changes may have been missed.
    Snapshot(Listing),
    /// What changed since: keys, and what is under them now.
    Changed(Revision, Vec<(Key, Option<Entry>)>),
}

/// Watches all keys below one, whatever happens to connections and history.
pub struct Watcher {
    store: Arc<dyn Store>,
    above: Key,
    /// Everything up to here was told.
    told: Revision,
    watch: Option<Box<dyn Watch>>,
    listed: bool,
}

impl Watcher {
    /// A watcher of the keys that `above` contains. Its first update is a snapshot.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, above: Key) -> Self {
        Self {
            store,
            above,
            told: Revision::default(),
            watch: None,
            listed: false,
        }
    }

    /// Waits for what comes next.
    ///
    /// *Cancel safety*: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Update {
        loop {
            if !self.listed {
                match self.store.list(&self.above).await {
                    Ok(listing) => return self.begin(listing),
                    Err(error) => self.pause(&error.to_string()).await,
                }
                continue;
            }
            let (store, above, told) = (&self.store, &self.above, self.told);
            let watch = self.watch.get_or_insert_with(|| store.watch(above, told));
            match watch.next().await {
                Watched::Changed(revision, changes) => {
                    self.told = self.told.max(revision);
                    return Update::Changed(revision, changes);
                }
                Watched::Compacted => (self.watch, self.listed) = (None, false),
                Watched::Lost(why) => {
                    self.watch = None;
                    self.pause(&why).await;
                }
            }
        }
    }

    fn begin(&mut self, listing: Listing) -> Update {
        self.told = listing.revision;
        self.listed = true;
        Update::Snapshot(listing)
    }

    async fn pause(&self, why: &str) {
        tracing::debug!(above = %self.above, why, "a watch waits for the store");
        tokio::time::sleep(PAUSE).await;
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("above", &self.above)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}
