//! What the leader does with jobs.

use super::blobs::{Reclaim, ending_owner, job_owner, result_owner};
use super::codec::{Record, Stored};
use super::error::Failure;
use super::model::{
    Cleanup, DeploymentRecord, Digest, Epoch, EpochRecord, IntentRecord, JobRecord, LatestCheckpoint,
    ResultRecord,
};
use super::tokens::{Both, EpochToken, LeaderToken, Token as _};
use super::{Records, Write, Written};
use crate::kv::{Entry, Guard, Key, Listing};
use hurtig_core::ids::JobId;
use std::collections::{BTreeMap, BTreeSet};

/// How many keys one transaction deletes. etcd's own bound is 128 operations.
const DELETE_AT_ONCE: usize = 100;

/// What came of a submission.
#[derive(Clone, Debug, PartialEq)]
pub enum Submission {
    /// The job is new.
    Created,
    /// The same submission is here already.
    Running,
    /// The same submission has ended already.
    Ended(Box<ResultRecord>),
}

/// All that is known of a job.
#[derive(Clone, Debug, Default)]
pub struct JobView {
    /// As it was submitted.
    pub record: Option<Stored<JobRecord>>,
    /// Who may write for it.
    pub epoch: Option<Stored<EpochRecord>>,
    /// What was deployed.
    pub deployment: Option<Stored<DeploymentRecord>>,
    /// Its latest checkpoint.
    pub latest: Option<Stored<LatestCheckpoint>>,
    /// What it was asked, by trigger id.
    pub intents: BTreeMap<String, Stored<IntentRecord>>,
    /// The end that it comes to.
    pub ending: Option<Stored<ResultRecord>>,
    /// How it ended.
    pub result: Option<Stored<ResultRecord>>,
}

impl Records {
    /// Takes in a job: it is there when this returns. The same submission again gets the same answer. When the outcome
    /// is unknown, submit again.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when the id is that of another job.
    pub async fn submit(&self, leader: &LeaderToken, job: &JobRecord) -> Result<Submission, Failure> {
        // Before the store is asked anything: it may be away.
        leader.check()?;
        let mut stored = Vec::new();
        for digest in job.blobs() {
            stored.push(self.before_storing(digest).await?);
        }
        self.submit_stored(leader, job, &stored).await
    }

    /// The same for who has seen that the blobs that the job names are there, since `stored`: they are not collected while the job runs.
    ///
    /// # Errors
    /// Also [`Failure::Condemned`], when one of them is being deleted, or was: store it again.
    pub async fn submit_stored(
        &self,
        leader: &LeaderToken,
        job: &JobRecord,
        stored: &[Reclaim],
    ) -> Result<Submission, Failure> {
        let (record, result) = (self.keys.record(job.job), self.keys.result(job.job));
        let write = Write::under(leader)
            .create(&record, job)?
            .when(Guard::Absent(result.clone()));
        let write = self.refer_from(write, stored, &job_owner(job.job), job.submitted_ms)?;
        match self.write(write).await? {
            Written::At(_) => Ok(Submission::Created),
            Written::Refused(seen) => same_submission(job, &seen, &record, &result).map_err(|failure| {
                let gone = matches!(failure, Failure::Changed(_));
                let condemned = || self.not_stored(stored, &seen);
                gone.then(condemned).flatten().unwrap_or(failure)
            }),
        }
    }

    /// Gives a job to its next JobMaster: nobody who had it before can write any more. When the outcome is unknown, raise
    /// again.
    ///
    /// # Errors
    /// [`Failure::NoJob`], [`Failure::Ended`].
    pub async fn raise_epoch(&self, leader: &LeaderToken, job: JobId) -> Result<EpochToken, Failure> {
        let key = self.keys.epoch(job);
        let seen = self.read::<EpochRecord>(&key).await?;
        let mut raised = seen
            .as_ref()
            .map(|stored| stored.value.clone())
            .unwrap_or_default();
        raised.epoch.0 += 1;
        raised.claimed_by = None;
        let write = self
            .of_a_job(Write::under(leader), job)
            .replace(&key, seen.as_ref(), &raised)?;
        match self.write(write).await? {
            Written::At(revision) => Ok(EpochToken {
                job,
                epoch: raised.epoch,
                revision,
            }),
            Written::Refused(seen) => Err(self.no_job(job, &seen, &key)),
        }
    }

    /// Changes a job's record.
    ///
    /// # Errors
    /// [`Failure::NoJob`], [`Failure::Ended`].
    pub async fn update_job(
        &self,
        leader: &LeaderToken,
        job: JobId,
        change: impl FnOnce(&mut JobRecord) + Send,
    ) -> Result<JobRecord, Failure> {
        let key = self.keys.record(job);
        let seen = self.read::<JobRecord>(&key).await?.ok_or(Failure::NoJob(job))?;
        let mut record = seen.value.clone();
        change(&mut record);
        let write = Write::under(leader)
            .when(Guard::Absent(self.keys.result(job)))
            .replace(&key, Some(&seen), &record)?;
        match self.write(write).await? {
            Written::At(_) => Ok(record),
            Written::Refused(seen) => Err(self.no_job(job, &seen, &key)),
        }
    }

    /// Writes the result of a job that has no JobMaster. `epoch` was raised for that, and was not claimed since.
    ///
    /// # Errors
    /// [`Failure::Fenced`] when it was claimed or raised again; [`Failure::Ended`].
    pub async fn end_job(
        &self,
        leader: &LeaderToken,
        epoch: &EpochToken,
        (result, archive): (&ResultRecord, Option<&Reclaim>),
    ) -> Result<(), Failure> {
        let key = self.keys.result(epoch.job);
        let both = Both(leader, epoch);
        let write = Write::under(&both).create(&key, result)?;
        let write = self.refer_from(write, archive, &result_owner(epoch.job), result.ended_ms)?;
        match self.write(write).await? {
            Written::At(_) => Ok(()),
            Written::Refused(seen) => match self.no_job(epoch.job, &seen, &key) {
                Failure::Changed(key) => {
                    Err(self.not_stored(archive, &seen).unwrap_or(Failure::Changed(key)))
                }
                failure => Err(failure),
            },
        }
    }

    /// Deletes all records of a job that has ended, and then calls its result clean. What the records name must have been
    /// deleted before. May be called again at any time.
    ///
    /// # Errors
    /// [`Failure::NoJob`] when the job has no result: then nothing is deleted.
    pub async fn clean_job(&self, leader: &LeaderToken, job: JobId) -> Result<(), Failure> {
        let key = self.keys.result(job);
        let listing = self.store.list(&self.keys.job(job)).await?;
        let mut result = read_in::<ResultRecord>(&listing, &key)?.ok_or(Failure::NoJob(job))?;
        let kept = self.keys.intents(job);
        let ending = self.keys.ending(job);
        let begun = read_in::<ResultRecord>(&listing, &ending)?.and_then(|begun| begun.value.archive);
        let doomed = listing
            .entries
            .iter()
            .filter(|entry| entry.key != key && !kept.contains(&entry.key));
        let doomed: Vec<&Entry> = doomed.collect();
        for some in doomed.chunks(DELETE_AT_ONCE) {
            let mut write = Write::under(leader).replace(&key, Some(&result), &result.value.clone())?;
            for entry in some {
                write = write.delete(entry.key.clone());
                if let Some(archive) = begun.filter(|_| entry.key == ending) {
                    write = write.delete(self.keys.blob_references(archive).join(ending_owner(job)));
                }
            }
            self.write_unraced(write).await?;
            result = self.read(&key).await?.ok_or(Failure::NoJob(job))?;
        }
        let mut clean = result.value.clone();
        clean.cleanup = Cleanup::Clean;
        let mut write = Write::under(leader).replace(&key, Some(&result), &clean)?;
        let named: BTreeSet<Digest> = result
            .value
            .artifact
            .into_iter()
            .chain([result.value.graph])
            .collect();
        for digest in named {
            write = write.delete(self.keys.blob_references(digest).join(job_owner(job)));
        }
        self.write_unraced(write).await.map(drop)
    }

    /// Forgets a result that is clean, and the intents that were kept with it.
    ///
    /// # Errors
    /// [`Failure::Conflict`] while it is dirty.
    pub async fn forget_job(&self, leader: &LeaderToken, job: JobId) -> Result<(), Failure> {
        let key = self.keys.result(job);
        let listing = self.store.list(&self.keys.job(job)).await?;
        let Some(result) = read_in::<ResultRecord>(&listing, &key)? else {
            return Ok(());
        };
        if result.value.cleanup == Cleanup::Dirty {
            return Err(Failure::Conflict(format!("job {job} is not cleaned up yet")));
        }
        let rest = listing.entries.iter().filter(|entry| entry.key != key);
        let rest: Vec<&Entry> = rest.collect();
        for some in rest.chunks(DELETE_AT_ONCE) {
            // All of them are guarded by the first: nobody else deletes them.
            let guard = some
                .first()
                .map(|entry| Guard::Unchanged(entry.key.clone(), entry.modified));
            let write = guard.into_iter().fold(Write::under(leader), Write::when);
            let write = some
                .iter()
                .fold(write, |write, entry| write.delete(entry.key.clone()));
            self.write_unraced(write).await?;
        }
        let mut write = Write::under(leader)
            .when(Guard::Unchanged(key.clone(), result.modified))
            .delete(key.clone());
        if let Some(archive) = result.value.archive {
            write = write.delete(self.keys.blob_references(archive).join(result_owner(job)));
        }
        self.write_unraced(write).await.map(drop)
    }

    /// All jobs there are, running and ended.
    ///
    /// # Errors
    /// When the store cannot be reached or a record cannot be read. One that cannot be read is never left out.
    pub async fn jobs(&self) -> Result<BTreeMap<JobId, JobView>, Failure> {
        let above = self.keys.jobs();
        let listing = self.store.list(&above).await?;
        let mut jobs: BTreeMap<JobId, JobView> = BTreeMap::new();
        for entry in &listing.entries {
            let below = entry
                .key
                .as_str()
                .strip_prefix(above.as_str())
                .unwrap_or_default();
            let mut parts = below.trim_start_matches('/').splitn(2, '/');
            let (Some(Ok(job)), Some(part)) = (parts.next().map(str::parse), parts.next()) else {
                continue;
            };
            jobs.entry(job).or_default().take(part, entry)?;
        }
        Ok(jobs)
    }

    /// A write that only a job takes that is there and has not ended.
    pub(super) fn of_a_job<'a>(&self, write: Write<'a>, job: JobId) -> Write<'a> {
        write
            .when(Guard::Present(self.keys.record(job)))
            .when(Guard::Absent(self.keys.result(job)))
    }

    /// Why a write of a job was refused.
    pub(super) fn no_job(&self, job: JobId, seen: &Listing, key: &Key) -> Failure {
        let has = |key: &Key| seen.get(key).is_some();
        if has(&self.keys.result(job)) {
            return Failure::Ended(job);
        }
        let record = self.keys.record(job);
        if has(&record) || *key == self.keys.result(job) {
            return Failure::Changed(key.clone());
        }
        Failure::NoJob(job)
    }
}

impl JobView {
    fn take(&mut self, part: &str, entry: &Entry) -> Result<(), Failure> {
        match part.split_once('/') {
            Some(("intents", trigger)) => {
                self.intents.insert(trigger.to_owned(), Stored::read(entry)?);
            }
            Some(_) => {}
            None => match part {
                "record" => self.record = Some(Stored::read(entry)?),
                "epoch" => self.epoch = Some(Stored::read(entry)?),
                "deployment" => self.deployment = Some(Stored::read(entry)?),
                "latest" => self.latest = Some(Stored::read(entry)?),
                "ending" => self.ending = Some(Stored::read(entry)?),
                "result" => self.result = Some(Stored::read(entry)?),
                _ => {}
            },
        }
        Ok(())
    }

    /// The right that goes with its epoch, whoever has claimed it.
    #[must_use]
    pub fn token(&self, job: JobId) -> Option<EpochToken> {
        self.epoch.as_ref().map(|stored| EpochToken::of(job, stored))
    }

    /// The epoch, 0 before there was one.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
            .as_ref()
            .map(|stored| stored.value.epoch)
            .unwrap_or_default()
    }
}

/// A record of a listing.
pub(super) fn read_in<T: Record>(listing: &Listing, key: &Key) -> Result<Option<Stored<T>>, Failure> {
    listing.get(key).map(Stored::read).transpose()
}

fn same_submission(
    job: &JobRecord,
    seen: &Listing,
    record: &Key,
    result: &Key,
) -> Result<Submission, Failure> {
    let same = |artifact: Option<Digest>, graph| {
        let conflict = || {
            Failure::Conflict(format!(
                "job {} exists, and has another artifact or JobGraph",
                job.job
            ))
        };
        job.is_same_submission(artifact, graph)
            .then_some(())
            .ok_or_else(conflict)
    };
    if let Some(ended) = read_in::<ResultRecord>(seen, result)? {
        same(ended.value.artifact, ended.value.graph)?;
        return Ok(Submission::Ended(Box::new(ended.value)));
    }
    let there = read_in::<JobRecord>(seen, record)?.ok_or_else(|| Failure::Changed(record.clone()))?;
    same(there.value.artifact, there.value.graph)?;
    Ok(Submission::Running)
}
