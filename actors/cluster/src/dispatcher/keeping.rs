//! What a leader keeps for a while and then forgets, and what it keeps beside jobs: artifacts that were uploaded, savepoints that are to be
//! deleted, outcomes, blobs.

use super::durable::{Durable, NotWritten, PAUSE, condemned, insist, is_open};
use hurtig_core::ids::JobId;
use hurtig_ha::collect::{Collected, Collector, NotCollected};
use hurtig_ha::records::{ArtifactRecord, DisposalRecord, Failure, IntentOutcome, Token as _};
use hurtig_storage::{BlobStores, SnapshotFolder, SnapshotKind, StorageError, is_whole, read_metadata};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;
use uuid::Uuid;

/// How long an outcome is kept, and a blob that nothing names.
const KEPT: Duration = Duration::from_secs(3_600);
/// Artifacts that are kept.
const MAX_ARTIFACTS: usize = 1_000;
/// Disposals that may be under way at once.
const MAX_DISPOSALS: usize = 100;

/// For what belongs to no job.
const NO_JOB: JobId = JobId::from_u128(0);

fn before(now_ms: i64) -> i64 {
    now_ms.saturating_sub(i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX))
}

impl Durable {
    /// Whether the leader may not write at the moment, and perhaps again later.
    pub(crate) fn is_suspended(&self) -> bool {
        self.leader.check().is_err()
    }

    /// An artifact whose bytes are stored is there for every leader when this returns.
    pub(crate) async fn add_artifact(&self, id: &str, artifact: &ArtifactRecord) -> Result<(), NotWritten> {
        if self.artifacts().await?.len() >= MAX_ARTIFACTS {
            let full = format!("{MAX_ARTIFACTS} artifacts are kept, which is the limit: delete some");
            return Err(Failure::Conflict(full).into());
        }
        loop {
            let stored = self.find_artifact(NO_JOB, artifact.digest).await?;
            let added = insist("an artifact", NO_JOB, async || {
                let added = self.records.add_artifact(&self.leader, (id, artifact), &stored);
                condemned(added.await)
            });
            if let Some(()) = added.await? {
                return Ok(());
            }
        }
    }

    /// Forgets an artifact; whether there was one.
    pub(crate) async fn remove_artifact(&self, id: &str) -> Result<bool, NotWritten> {
        let mut there = false;
        loop {
            match self.records.remove_artifact(&self.leader, id).await {
                Err(failure) if is_open(&failure) => {
                    // It may be gone by that already.
                    there = true;
                    tokio::time::sleep(PAUSE).await;
                }
                removed => return Ok(removed? || there),
            }
        }
    }

    /// All artifacts, by their ids.
    pub(crate) async fn artifacts(&self) -> Result<BTreeMap<String, ArtifactRecord>, Failure> {
        self.records.artifacts().await
    }

    /// A savepoint is to be deleted: that is in the store when this returns. Returns its trigger id.
    pub(crate) async fn intend_disposal(&self, path: &str, asked_ms: i64) -> Result<String, NotWritten> {
        let open = self.records.disposals().await?;
        let open = open.values().filter(|known| known.outcome.is_none()).count();
        if open >= MAX_DISPOSALS {
            return Err(NotWritten::TooManyDisposals(open));
        }
        let trigger = Uuid::new_v4().simple().to_string();
        let asked = DisposalRecord {
            path: path.to_owned(),
            asked_ms,
            outcome: None,
        };
        let intended = insist("a disposal", NO_JOB, async || {
            self.records.intend_disposal(&self.leader, &trigger, &asked).await
        });
        intended.await?;
        Ok(trigger)
    }

    /// Deletes a savepoint, and records what has come of that.
    pub(crate) async fn dispose(
        &self,
        trigger: &str,
        (path, again): (String, bool),
        clock: &dyn Fn() -> i64,
    ) {
        let of = path.clone();
        let stores = self.stores.clone();
        let deleted = self.threads.run(move || delete(&of, again, &stores)).await;
        let deleted = deleted.unwrap_or_else(|error| Err(error.to_string()));
        tracing::info!(path, trigger, ?deleted, "disposal of a savepoint");
        let outcome = IntentOutcome {
            at_ms: clock(),
            error: deleted.err(),
            ..IntentOutcome::default()
        };
        let answered = insist("a disposal", NO_JOB, async || {
            self.records
                .answer_disposal(&self.leader, trigger, &outcome)
                .await
        });
        if let Err(error) = answered.await {
            tracing::warn!(trigger, %error, "what came of a disposal is left for the next leader");
        }
    }

    /// Disposals that earlier terms have not come to the end of.
    pub(crate) async fn dispose_open(&self, clock: &dyn Fn() -> i64) {
        let open = insist("disposals", NO_JOB, async || self.records.disposals().await).await;
        for (trigger, asked) in open.unwrap_or_default() {
            if asked.outcome.is_none() {
                self.dispose(&trigger, (asked.path, true), clock).await;
            }
        }
    }

    /// What has come of a disposal; `None`: nobody has asked for it, or it is forgotten.
    pub(crate) async fn disposal(&self, trigger: &str) -> Result<Option<DisposalRecord>, Failure> {
        Ok(self.records.disposals().await?.remove(trigger))
    }

    /// Forgets outcomes that were kept long enough. What cannot be done now is done the next time.
    pub(crate) async fn forget_outcomes(&self, now_ms: i64) -> Result<(), Failure> {
        let before_ms = before(now_ms);
        for (job, view) in self.records.jobs().await? {
            self.records.forget_intents(&self.leader, job, before_ms).await?;
            for (trigger, intent) in view.intents {
                if intent.value.outcome.is_some() {
                    self.records
                        .forget_intent(&self.leader, job, &trigger, before_ms)
                        .await?;
                }
            }
        }
        for trigger in self.records.disposals().await?.keys() {
            self.records
                .forget_disposal(&self.leader, trigger, before_ms)
                .await?;
        }
        Ok(())
    }

    /// Deletes blobs that nothing names.
    pub(crate) async fn collect(&self, now_ms: i64) -> Result<Collected, NotCollected> {
        let collector = Collector {
            records: self.records.clone(),
            leader: self.leader.clone(),
            blobs: self.blobs.clone(),
            threads: self.threads.clone(),
            grace: KEPT,
        };
        collector.collect(now_ms).await
    }
}

/// Deletes a savepoint. Who begins again finds what the first one has left. Blocks.
fn delete(path: &str, again: bool, stores: &BlobStores) -> Result<(), String> {
    if !is_whole(path) {
        return Err(format!("'{path}' is no whole path: name the savepoint by one"));
    }
    let failed = |error: StorageError| chain(&error);
    let folder = SnapshotFolder::of_path(path).map_err(failed)?;
    let store = folder.open(stores).map_err(failed)?;
    let metadata = match read_metadata(&*store, &folder.folder) {
        Err(error) if again => return left_over(&*store, &folder, &error),
        read => read.map_err(failed)?,
    };
    match metadata.kind {
        SnapshotKind::Savepoint => folder.delete(stores).map_err(failed),
        SnapshotKind::Checkpoint => Err(format!(
            "'{path}' is a checkpoint, which belongs to its job: only savepoints are deleted"
        )),
    }
}

/// What has failed, and why.
fn chain(error: &StorageError) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(known) = cause {
        text = format!("{text}: {known}");
        cause = known.source();
    }
    text
}

/// The metadata go first: somebody may have been killed behind that.
fn left_over(
    store: &dyn hurtig_storage::BlobStore,
    folder: &SnapshotFolder,
    error: &StorageError,
) -> Result<(), String> {
    let left = store.list(&folder.folder).map_err(|error| chain(&error))?;
    match left.len() {
        0 => Ok(()),
        files => Err(format!(
            "the jobmanager that was to delete it has ended meanwhile; {files} files are left in '{folder}', which is no savepoint any \
             more ({error}): delete the folder by hand"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_begins_again_to_delete_a_savepoint_says_what_is_left() {
        let delete = |path: &str, again| super::delete(path, again, &BlobStores::local());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("savepoint-1");
        let text = path.to_str().unwrap();
        assert!(delete(text, false).is_err(), "there never was one");
        assert_eq!(delete(text, true), Ok(()), "it is gone");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("state"), "x").unwrap();
        let left = delete(text, true).unwrap_err();
        assert!(
            left.contains("1 files are left") && left.contains("by hand"),
            "{left}"
        );
        assert!(path.join("state").exists(), "nobody knows whose it is");
        assert!(delete("relative", true).unwrap_err().contains("whole path"));
    }
}
