//! Artifacts that were uploaded, and savepoints that are to be deleted: what a cluster was asked that belongs to no job.

use super::blobs::Reclaim;
use super::codec::Stored;
use super::error::Failure;
use super::keys::is_part;
use super::model::{ArtifactRecord, DisposalRecord, IntentOutcome};
use super::tokens::LeaderToken;
use super::{Record, Records, Write, Written, unchanged};
use crate::kv::Key;
use std::collections::BTreeMap;

fn checked(id: &str) -> Result<&str, Failure> {
    let wrong = || {
        Failure::Conflict(format!(
            "`{id}` is no id: letters, digits, `-`, `_` and `.` are, at most 128"
        ))
    };
    is_part(id).then_some(id).ok_or_else(wrong)
}

impl Records {
    /// Records an artifact whose bytes have been stored since `stored`: it is there for every leader when this returns. The same again changes
    /// nothing. When the outcome is unknown, add it again.
    ///
    /// # Errors
    /// [`Failure::Condemned`] when its bytes are being deleted, or were since: store them again. [`Failure::Conflict`] when the id is that of another one.
    pub async fn add_artifact(
        &self,
        leader: &LeaderToken,
        (id, artifact): (&str, &ArtifactRecord),
        stored: &Reclaim,
    ) -> Result<(), Failure> {
        let key = self.keys.artifacts().join(checked(id)?);
        let write = Write::under(leader).create(&key, artifact)?;
        let write = self.refer_from(write, [stored], &format!("artifact-{id}"), artifact.uploaded_ms)?;
        let seen = match self.write(write).await? {
            Written::At(_) => return Ok(()),
            Written::Refused(seen) => seen,
        };
        match super::jobs::read_in::<ArtifactRecord>(&seen, &key)? {
            Some(there) if there.value == *artifact => Ok(()),
            Some(_) => Err(Failure::Conflict(format!("there is another artifact {id}"))),
            None => Err(self.not_stored([stored], &seen).unwrap_or(Failure::Changed(key))),
        }
    }

    /// Forgets an artifact; whether there was one. Jobs that run from it keep its bytes.
    ///
    /// # Errors
    /// When the leader may not write.
    pub async fn remove_artifact(&self, leader: &LeaderToken, id: &str) -> Result<bool, Failure> {
        let key = self.keys.artifacts().join(checked(id)?);
        let Some(seen) = self.read::<ArtifactRecord>(&key).await? else {
            return Ok(false);
        };
        let reference = self
            .keys
            .blob_references(seen.value.digest)
            .join(format_args!("artifact-{id}"));
        let write = Write::under(leader)
            .when(unchanged(&key, Some(&seen)))
            .delete(key)
            .delete(reference);
        self.write_unraced(write).await.map(|_| true)
    }

    /// An artifact.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn artifact(&self, id: &str) -> Result<Option<ArtifactRecord>, Failure> {
        if !is_part(id) {
            return Ok(None);
        }
        let found = self
            .read::<ArtifactRecord>(&self.keys.artifacts().join(id))
            .await?;
        Ok(found.map(|found| found.value))
    }

    /// All artifacts, by their ids.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn artifacts(&self) -> Result<BTreeMap<String, ArtifactRecord>, Failure> {
        self.all_below(&self.keys.artifacts()).await
    }

    /// Records that a savepoint is to be deleted, before who asked is answered. When the outcome is unknown, ask again.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when the trigger id is that of another one.
    pub async fn intend_disposal(
        &self,
        leader: &LeaderToken,
        trigger: &str,
        asked: &DisposalRecord,
    ) -> Result<(), Failure> {
        let key = self.keys.disposals().join(checked(trigger)?);
        let write = Write::under(leader).create(&key, asked)?;
        let seen = match self.write(write).await? {
            Written::At(_) => return Ok(()),
            Written::Refused(seen) => seen,
        };
        match super::jobs::read_in::<DisposalRecord>(&seen, &key)? {
            Some(there) if there.value.path == asked.path => Ok(()),
            Some(_) => Err(Failure::Conflict(format!(
                "trigger id {trigger} is that of another request"
            ))),
            None => Err(Failure::Changed(key)),
        }
    }

    /// Records what came of a disposal. The first outcome stays.
    ///
    /// # Errors
    /// When the leader may not write; [`Failure::Conflict`] when nobody has asked for it.
    pub async fn answer_disposal(
        &self,
        leader: &LeaderToken,
        trigger: &str,
        outcome: &IntentOutcome,
    ) -> Result<(), Failure> {
        let key = self.keys.disposals().join(checked(trigger)?);
        let nobody = || Failure::Conflict(format!("no disposal was asked for as {trigger}"));
        let seen = self.read::<DisposalRecord>(&key).await?.ok_or_else(nobody)?;
        if seen.value.outcome.is_some() {
            return Ok(());
        }
        let answered = DisposalRecord {
            outcome: Some(outcome.clone()),
            ..seen.value.clone()
        };
        let write = Write::under(leader).replace(&key, Some(&seen), &answered)?;
        self.write_unraced(write).await.map(drop)
    }

    /// All disposals, by their trigger ids.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn disposals(&self) -> Result<BTreeMap<String, DisposalRecord>, Failure> {
        self.all_below(&self.keys.disposals()).await
    }

    /// Forgets a disposal that was answered before `before_ms`; whether it was.
    ///
    /// # Errors
    /// When the leader may not write.
    pub async fn forget_disposal(
        &self,
        leader: &LeaderToken,
        trigger: &str,
        before_ms: i64,
    ) -> Result<bool, Failure> {
        let key = self.keys.disposals().join(checked(trigger)?);
        let Some(seen) = self.read::<DisposalRecord>(&key).await? else {
            return Ok(false);
        };
        let answered = seen.value.outcome.as_ref();
        if answered.is_none_or(|outcome| outcome.at_ms >= before_ms) {
            return Ok(false);
        }
        let write = Write::under(leader)
            .when(unchanged(&key, Some(&seen)))
            .delete(key);
        self.write_unraced(write).await.map(|_| true)
    }

    async fn all_below<T: Record>(&self, above: &Key) -> Result<BTreeMap<String, T>, Failure> {
        let listing = self.store.list(above).await?;
        let read =
            |entry: &crate::kv::Entry| Ok((entry.key.last_part().to_owned(), Stored::read(entry)?.value));
        listing.entries.iter().map(read).collect()
    }
}
