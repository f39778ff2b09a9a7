//! Which blobs are deleted, and how: by the leader only, after everything that could name one was read.
//!
//! It promises that nothing is deleted that a record names. A blob goes in steps, each of which the next leader can take up: it is condemned in
//! a transaction that nobody's reference survives, checked again, put aside under a name of its own, and deleted when that is
//! recorded. A leader that is stopped between any two of them and wakes when another one leads can at most put aside what is
//! needed again; readers find it there, and the next collection puts it back.

use crate::blob::{Aside, BlobDir, BlobError};
use crate::records::{BlobState, BlobsInUse, Condemned, Digest, Failure, LeaderToken, Records, Token as _};
use hurtig_kit::BlockingThreads;
use std::collections::BTreeSet;
use std::time::Duration;

/// What a leader needs to collect.
#[derive(Clone, Debug)]
pub struct Collector {
    /// What names blobs.
    pub records: Records,
    /// The right to delete.
    pub leader: LeaderToken,
    /// The blobs.
    pub blobs: BlobDir,
    /// Where it may block.
    pub threads: BlockingThreads,
    /// How long a blob may be there that nothing names: somebody is about to.
    pub grace: Duration,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs that are deleted.
    pub deleted: usize,
    /// Blobs that are needed, and had been put aside.
    pub put_back: usize,
    /// Unfinished blobs that are deleted.
    pub unfinished: usize,
}

/// Why it was not done, or not wholly. What is left is left for the next time.
#[derive(Debug, thiserror::Error)]
pub enum NotCollected {
    /// The store says no, or nothing.
    #[error(transparent)]
    Record(#[from] Failure),
    /// The disk does.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A panic.
    #[error("{0}")]
    Panicked(String),
}

impl Collector {
    /// Looks at everything, and deletes what may be. `now_ms` is the time of day.
    ///
    /// # Errors
    /// When something cannot be read, which keeps everything; or the leader may not write any more.
    pub async fn collect(&self, now_ms: i64) -> Result<Collected, NotCollected> {
        let before_ms = now_ms.saturating_sub(i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX));
        let mut collected = Collected::default();
        // Files first: what is named later than it is seen is guarded by its reference.
        let (files, aside) = self.blocking(|blobs| Ok((blobs.list()?, blobs.aside()?))).await?;
        let BlobsInUse { named, states } = self.records.blobs_in_use().await?;
        for one in aside {
            self.look_at(&named, (one, before_ms), &mut collected).await?;
        }
        let condemned = states
            .iter()
            .filter(|(_, state)| matches!(state, BlobState::Condemned { .. }));
        // Whoever has condemned these may have died.
        let mut doomed: BTreeSet<Digest> = condemned.map(|(digest, _)| *digest).collect();
        let old = files.into_iter().filter(|(_, stored_ms)| *stored_ms < before_ms);
        doomed.extend(
            old.map(|(digest, _)| digest)
                .filter(|digest| !named.contains(digest)),
        );
        for digest in doomed {
            collected.deleted += usize::from(self.delete(digest, now_ms).await?);
        }
        for (digest, state) in states {
            if matches!(state, BlobState::Deleted { .. }) {
                self.records
                    .forget_deleted_blob(&self.leader, digest, before_ms)
                    .await?;
            }
        }
        self.leader.check()?;
        collected.unfinished = self
            .blocking(move |blobs| blobs.sweep_unfinished(before_ms))
            .await?;
        Ok(collected)
    }

    /// One that was put aside by somebody who did not come to its end, or had lost the right to.
    async fn look_at(
        &self,
        named: &BTreeSet<Digest>,
        (aside, before_ms): (Aside, i64),
        collected: &mut Collected,
    ) -> Result<(), NotCollected> {
        self.leader.check()?;
        if named.contains(&aside.digest) {
            tracing::warn!(digest = %aside.digest, "a blob that is needed had been put aside; it is put back");
            self.blocking(move |blobs| blobs.put_back(&aside)).await?;
            collected.put_back += 1;
        } else if aside.at_ms < before_ms {
            self.blocking(move |blobs| blobs.discard(&aside)).await?;
            collected.deleted += 1;
        }
        Ok(())
    }

    async fn delete(&self, digest: Digest, now_ms: i64) -> Result<bool, NotCollected> {
        match self.condemn(digest, now_ms).await? {
            Some(condemned) => self.carry_out(condemned, now_ms).await,
            None => Ok(false),
        }
    }

    /// From here on nobody can refer to the blob; nobody did. `None`: somebody does.
    ///
    /// # Errors
    /// When the leader may not write.
    pub async fn condemn(&self, digest: Digest, now_ms: i64) -> Result<Option<Condemned>, NotCollected> {
        let condemned = self.records.condemn_blob(&self.leader, digest, now_ms).await?;
        match condemned {
            Some(condemned) => Ok(self.records.recheck_blob(&self.leader, condemned).await?),
            None => Ok(None),
        }
    }

    /// Deletes a blob that is condemned. False: there is none.
    ///
    /// # Errors
    /// When the leader may not write, at any step: then what is aside stays there.
    pub async fn carry_out(&self, condemned: Condemned, now_ms: i64) -> Result<bool, NotCollected> {
        self.leader.check()?;
        let aside = self
            .blocking(move |blobs| blobs.put_aside(&condemned, now_ms))
            .await?;
        self.records.blob_deleted(&self.leader, condemned, now_ms).await?;
        let Some(aside) = aside else { return Ok(false) };
        self.blocking(move |blobs| blobs.discard(&aside)).await?;
        Ok(true)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&BlobDir) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, NotCollected> {
        let blobs = self.blobs.clone();
        let done = self.threads.run(move || work(&blobs)).await;
        Ok(done.map_err(|error| NotCollected::Panicked(error.to_string()))??)
    }
}
