//! What a JobMaster writes for its job, under its epoch.

use super::blobs::{Reclaim, ending_owner, result_owner};
use super::codec::Stored;
use super::error::Failure;
use super::model::{
    CheckpointPointer, DeploymentRecord, Epoch, EpochRecord, IdRecord, IntentRecord, JobRecord,
    LatestCheckpoint, PointerKind, ResultRecord, TakenSavepoint,
};
use super::tokens::{EpochToken, Token};
use super::{Records, Write, Written};
use crate::kv::{Guard, Listing};
use hurtig_core::ids::{CheckpointId, JobId};

/// Checkpoint ids that belong to one epoch for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    /// The first.
    pub first: CheckpointId,
    /// The first one behind it.
    pub end: CheckpointId,
}

/// A claim: the right is to an epoch that nobody has claimed, and is checked with the job.
struct Claim(EpochToken);

impl Token for Claim {
    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn guards(&self, _: &super::Keys) -> Vec<Guard> {
        Vec::new()
    }

    fn refusal(&self, keys: &super::Keys, seen: &Listing) -> Option<Failure> {
        self.0.refusal(keys, seen)
    }
}

impl Records {
    /// The first act of a JobMaster: its process takes its epoch. Whoever is refused ends at once. A claim whose outcome is unknown
    /// is settled by claiming again, with the same process.
    ///
    /// # Errors
    /// [`Failure::Fenced`] when the epoch is another or claimed by another process, [`Failure::NoJob`], [`Failure::Ended`].
    pub async fn claim(&self, job: JobId, epoch: Epoch, process: &str) -> Result<EpochToken, Failure> {
        let key = self.keys.epoch(job);
        let fenced = || Failure::Fenced { job, epoch };
        let seen = self.read::<EpochRecord>(&key).await?.ok_or_else(fenced)?;
        if seen.value.epoch == epoch && seen.value.claimed_by.as_deref() == Some(process) {
            return Ok(EpochToken::of(job, &seen));
        }
        if seen.value.epoch != epoch || seen.value.claimed_by.is_some() {
            return Err(fenced());
        }
        let claimed = EpochRecord {
            claimed_by: Some(process.to_owned()),
            ..seen.value.clone()
        };
        let right = Claim(EpochToken::of(job, &seen));
        let write = self
            .of_a_job(Write::under(&right), job)
            .replace(&key, Some(&seen), &claimed)?;
        match self.write(write).await? {
            Written::At(revision) => Ok(EpochToken { job, epoch, revision }),
            Written::Refused(seen) => Err(self.no_job(job, &seen, &key)),
        }
    }

    /// Records a deployment. Nothing is deployed before that.
    ///
    /// # Errors
    /// [`Failure::Fenced`].
    pub async fn record_deployment(
        &self,
        token: &EpochToken,
        deployment: &DeploymentRecord,
    ) -> Result<(), Failure> {
        let key = self.keys.deployment(token.job);
        let seen = self.read::<DeploymentRecord>(&key).await?;
        let write = Write::under(token).replace(&key, seen.as_ref(), deployment)?;
        self.write_unraced(write).await.map(drop)
    }

    /// Notes that the job has a checkpoint of its own, so that what it began with is not looked at any more.
    ///
    /// # Errors
    /// [`Failure::Fenced`], [`Failure::NoJob`].
    pub async fn consume_restore(&self, token: &EpochToken) -> Result<(), Failure> {
        let key = self.keys.record(token.job);
        let seen = self
            .read::<JobRecord>(&key)
            .await?
            .ok_or(Failure::NoJob(token.job))?;
        let mut record = seen.value.clone();
        record.restore.consumed = true;
        let write = Write::under(token).replace(&key, Some(&seen), &record)?;
        self.write_unraced(write).await.map(drop)
    }

    /// Reserves the next `count` checkpoint ids that are not below `from`. When the outcome is unknown, reserve again: a block may be lost, none is given twice.
    ///
    /// # Errors
    /// [`Failure::Fenced`].
    pub async fn reserve_checkpoint_ids(
        &self,
        token: &EpochToken,
        from: CheckpointId,
        count: u64,
    ) -> Result<IdBlock, Failure> {
        let key = self.keys.ids(token.job);
        let seen = self.read::<IdRecord>(&key).await?;
        // Ids begin with 1, as Flink's do.
        let first = seen.as_ref().map_or(1, |stored| stored.value.next).max(from.0);
        let next = first.saturating_add(count);
        let write = Write::under(token).replace(&key, seen.as_ref(), &IdRecord { next })?;
        self.write_unraced(write).await?;
        let (first, end) = (CheckpointId(first), CheckpointId(next));
        Ok(IdBlock { first, end })
    }

    /// Commits a checkpoint: from here on the job recovers from it. The pointer to the latest one before it goes in the same transaction,
    /// whoever has committed that: a leader of before may have, after the present one has read which is the latest. Files are deleted only
    /// after this has returned `Ok`; when the outcome is unknown, [`Records::settle`] it.
    ///
    /// # Errors
    /// [`Failure::Fenced`]; [`Failure::Conflict`] when a later one was committed.
    pub async fn commit_checkpoint(
        &self,
        token: &EpochToken,
        pointer: &CheckpointPointer,
    ) -> Result<(), Failure> {
        self.commit((token, None), pointer).await
    }

    /// Commits the savepoint that a job stops with, because it was asked to under this trigger id. In the same transaction that is noted
    /// with the intent, if it is still there: from here on the job only commits and ends.
    ///
    /// # Errors
    /// As of [`Self::commit_checkpoint`].
    pub async fn commit_stop(
        &self,
        token: &EpochToken,
        trigger: Option<&str>,
        pointer: &CheckpointPointer,
    ) -> Result<(), Failure> {
        assert!(
            pointer.kind == PointerKind::Savepoint,
            "a job stops with a savepoint"
        );
        self.commit((token, trigger), pointer).await
    }

    async fn commit(
        &self,
        (token, trigger): (&EpochToken, Option<&str>),
        pointer: &CheckpointPointer,
    ) -> Result<(), Failure> {
        let (job, id) = (token.job, pointer.id);
        let latest = self.keys.latest(job);
        let seen = self.read::<LatestCheckpoint>(&latest).await?;
        let before = seen.as_ref().map(|stored| stored.value.id);
        if before.is_some_and(|before| before >= id) {
            let known = self.checkpoint(job, id).await?;
            return if known.is_some_and(|known| known.value.is_same(pointer)) {
                Ok(())
            } else {
                Err(Failure::Conflict(format!(
                    "checkpoint {id} of job {job} is not above {before:?}"
                )))
            };
        }
        let mut write = Write::under(token)
            .replace(&latest, seen.as_ref(), &LatestCheckpoint { id })?
            .create(&self.keys.checkpoint(job, id), pointer)?;
        if let Some(before) = before {
            write = write.delete(self.keys.checkpoint(job, before));
        }
        if let Some(trigger) = trigger {
            let key = self.keys.intents(job).join(trigger);
            if let Some(asked) = self.read::<IntentRecord>(&key).await? {
                let taken = IntentRecord {
                    taken: Some(TakenSavepoint {
                        checkpoint: id,
                        location: pointer.location.clone(),
                    }),
                    ..asked.value.clone()
                };
                write = write.replace(&key, Some(&asked), &taken)?;
            }
        }
        self.write_unraced(write).await.map(drop)
    }

    /// The pointer to a checkpoint.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn checkpoint(
        &self,
        job: JobId,
        id: CheckpointId,
    ) -> Result<Option<Stored<CheckpointPointer>>, Failure> {
        self.read(&self.keys.checkpoint(job, id)).await
    }

    /// Pointers to the committed checkpoints, oldest first. The last one is what the job recovers from, and the only one.
    ///
    /// # Errors
    /// When one cannot be read; it is never left out.
    pub async fn checkpoints(&self, job: JobId) -> Result<Vec<CheckpointPointer>, Failure> {
        let listing = self.store.list(&self.keys.checkpoints(job)).await?;
        let pointers = listing.entries.iter().map(|entry| Ok(Stored::read(entry)?.value));
        pointers.collect()
    }

    /// The job comes to this end: whoever has it next deletes what its checkpoints are, and finishes it so. When that was said before,
    /// what was said first stands.
    ///
    /// # Errors
    /// [`Failure::Fenced`] when somebody else has the job, [`Failure::Ended`], [`Failure::NoJob`], and [`Failure::Condemned`] when the
    /// archive is to be stored again.
    pub async fn begin_end(
        &self,
        token: &EpochToken,
        end: &ResultRecord,
        archive: Option<&Reclaim>,
    ) -> Result<(), Failure> {
        let key = self.keys.ending(token.job);
        let write = self.of_a_job(Write::under(token), token.job).create(&key, end)?;
        let write = self.refer_from(write, archive, &ending_owner(token.job), end.ended_ms)?;
        match self.write(write).await? {
            Written::At(_) => Ok(()),
            Written::Refused(seen) if seen.get(&key).is_some() => Ok(()),
            Written::Refused(seen) => match self.no_job(token.job, &seen, &key) {
                Failure::Changed(key) => {
                    Err(self.not_stored(archive, &seen).unwrap_or(Failure::Changed(key)))
                }
                failure => Err(failure),
            },
        }
    }

    /// The end that a job comes to, if it does.
    ///
    /// # Errors
    /// When the store does not answer, or what is there cannot be read.
    pub async fn ending(&self, job: JobId) -> Result<Option<ResultRecord>, Failure> {
        let begun = self.read::<ResultRecord>(&self.keys.ending(job)).await?;
        Ok(begun.map(|begun| begun.value))
    }

    /// Writes the job's result. Nobody is told before. When the outcome is unknown, finish again with the same result. What it names is known
    /// from before it was stored.
    ///
    /// # Errors
    /// [`Failure::Fenced`]; [`Failure::Ended`] when there is another result; [`Failure::Condemned`]: store what it names again.
    pub async fn finish(
        &self,
        token: &EpochToken,
        result: &ResultRecord,
        archive: Option<&Reclaim>,
    ) -> Result<(), Failure> {
        let key = self.keys.result(token.job);
        let write = Write::under(token).create(&key, result)?;
        let write = self.refer_from(write, archive, &result_owner(token.job), result.ended_ms)?;
        match self.write(write).await? {
            Written::At(_) => Ok(()),
            Written::Refused(seen) => match super::jobs::read_in::<ResultRecord>(&seen, &key)? {
                Some(there) if there.value == *result => Ok(()),
                None => Err(self.not_stored(archive, &seen).unwrap_or(Failure::Changed(key))),
                Some(_) => Err(Failure::Ended(token.job)),
            },
        }
    }
}

impl CheckpointPointer {
    /// Whether both point to the same. When it was written does not matter: it may have been written twice.
    fn is_same(&self, other: &Self) -> bool {
        (self.id, self.kind, &self.location) == (other.id, other.kind, &other.location)
    }

    /// Whether newer checkpoints may subsume it. Savepoints belong to who asked for them.
    #[must_use]
    pub fn may_be_subsumed(&self) -> bool {
        self.kind == PointerKind::Checkpoint
    }
}
