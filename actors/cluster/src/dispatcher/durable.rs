//! What the Dispatcher writes down: each change is in the store before anybody is told of it.
//!
//! A write whose outcome is not known is made again until it is; every one of them may be. So what returns an error here has
//! certainly not been done, and never will be under this term or epoch.

use super::brain::Times;
use crate::process::launch::JobLaunch;
use crate::result::{JobFailure, JobResult};
use crate::wire::{BeginEnd, Deletion, StopsWith};
use hurtig_core::Fault;
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::{CheckpointId, JobId, VertexId};
use hurtig_dataflow::graph::{Bounds, JobGraph, JobStatus, Requirements};
use hurtig_ha::blob::{BlobDir, BlobError};
use hurtig_ha::records::{
    CheckpointPointer, Cleanup, Digest, Epoch, EpochToken, Failure, FinalStatus, IdBlock, Intent,
    IntentRecord, JobIntent, JobRecord, JobView, LeaderToken, PointerKind, ProcessExit, Reclaim, Records,
    Requirement, ResultRecord, Submission, cancels,
};
use hurtig_kit::BlockingThreads;
use hurtig_storage::BlobStores;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long nothing is asked of a store that did not answer.
pub(super) const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 300 });
/// How large the description of a job, or of its end, may be.
const MAX_DOCUMENT: u64 = 256 << 20;
/// Checkpoints that a JobMaster can have begun, by far.
const IDS_OF_AN_EPOCH: u64 = 1 << 20;
/// How often it is tried to store how a job has ended.
const ARCHIVING: usize = 5;
/// Exits of JobMasters that are remembered of a job.
const EXITS: usize = 16;
/// The name of the only cancellation that a job needs.
const CANCEL: &str = "cancel";

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotWritten {
    /// The store says no.
    #[error(transparent)]
    Record(#[from] Failure),
    /// The disk does.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// As much as may be is under way.
    #[error("{open} requests of job {job} are under way: wait for one to end")]
    TooMany { job: JobId, open: usize },
    /// As many are under way as may be.
    #[error("{0} savepoints are being deleted: wait for one to end")]
    TooManyDisposals(usize),
    /// The bytes of an artifact are gone.
    #[error("artifact {0} was deleted: upload it again")]
    NoArtifact(Digest),
    /// What was written cannot be understood.
    #[error("{what} of job {job}: {why}")]
    Document {
        what: &'static str,
        job: JobId,
        why: String,
    },
}

/// The way to the records, under a term.
#[derive(Clone, Debug)]
pub(crate) struct Durable {
    pub(crate) records: Records,
    pub(crate) leader: LeaderToken,
    pub(crate) blobs: BlobDir,
    pub(crate) threads: BlockingThreads,
    /// Where savepoints may lie.
    pub(crate) stores: BlobStores,
}

/// How a job that has ended is remembered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Archive {
    pub(super) graph: JobGraph,
    pub(super) result: JobResult,
    pub(super) times: Times,
    /// Of an end that has begun: what is deleted then.
    #[serde(default)]
    pub(super) deletions: Vec<Deletion>,
}

/// What a JobMaster begins with.
#[derive(Clone, Debug)]
pub(crate) struct Begins {
    pub(super) token: EpochToken,
    pub(super) latest: Option<(CheckpointId, String)>,
    pub(super) first_checkpoint: CheckpointId,
    /// The first one that is not reserved.
    pub(super) ids_end: CheckpointId,
    /// The job was stopped with the latest checkpoint, a savepoint.
    pub(super) stopped: Option<StopsWith>,
    /// The end that it has come to already.
    pub(super) ending: Option<BeginEnd>,
    /// What it was asked and has not done, by trigger id.
    pub(super) open: BTreeMap<String, IntentRecord>,
}

/// A job of an earlier term that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished {
    pub(super) launch: JobLaunch,
    pub(super) digests: Digests,
    pub(super) submitted_ms: i64,
    pub(super) cancelled: bool,
    pub(super) exits: Vec<ProcessExit>,
    pub(super) requirements: Option<Requirements>,
    pub(super) epoch: Epoch,
    /// Whether a process has claimed it, which may still run.
    pub(super) claimed: bool,
}

/// What an earlier term has left.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    pub(super) unfinished: Vec<Unfinished>,
    /// Those that ended last, oldest first.
    pub(super) ended: Vec<Archive>,
    /// Whose records are still to be deleted.
    pub(super) dirty: Vec<JobId>,
}

/// By what a submission is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digests {
    artifact: Option<Digest>,
    graph: Digest,
}

/// What is written down of a job's requirements, if somebody has declared any.
fn declared(bounds: &BTreeMap<VertexId, Requirement>) -> Option<Requirements> {
    let bounds = bounds.iter().map(|(vertex, of)| {
        let (lower, upper) = (of.lower, of.upper);
        (*vertex, Bounds { lower, upper })
    });
    let declared: Requirements = bounds.collect();
    let any = declared.iter().next().is_some();
    any.then_some(declared)
}

/// Whether the outcome of a write is open.
pub(super) fn is_open(failure: &Failure) -> bool {
    failure.may_retry() || matches!(failure, Failure::Unknown(_) | Failure::Overtaken)
}

/// The trigger id of the stop that has led to this savepoint.
fn stop_of(intents: &BTreeMap<String, IntentRecord>, savepoint: CheckpointId) -> Option<String> {
    let led = |record: &IntentRecord| {
        record
            .taken
            .as_ref()
            .is_some_and(|taken| taken.checkpoint == savepoint)
    };
    let found = intents.iter().find(|(_, record)| led(record));
    found.map(|(trigger, _)| trigger.clone())
}

/// `None`: what the record names was collected before it was written, and is to be stored again.
pub(super) fn condemned(written: Result<(), Failure>) -> Result<Option<()>, Failure> {
    match written {
        Err(Failure::Condemned(_)) => Ok(None),
        written => written.map(Some),
    }
}

/// Does it until the store has decided.
pub(super) async fn insist<T>(
    what: &str,
    job: JobId,
    mut write: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    loop {
        match write().await {
            Err(failure) if is_open(&failure) => {
                tracing::warn!(%job, what, %failure, "not written yet; it is tried again");
                tokio::time::sleep(PAUSE).await;
            }
            decided => return decided,
        }
    }
}

impl Durable {
    /// Stores a document. Whoever refers to it proves with what is returned that it was not collected since.
    async fn keep<T: Serialize>(
        &self,
        what: &'static str,
        job: JobId,
        document: &T,
    ) -> Result<Reclaim, NotWritten> {
        let wrong = |why: String| NotWritten::Document { what, job, why };
        let bytes = serde_json::to_vec(document).map_err(|error| wrong(error.to_string()))?;
        let digest = Digest::of(&bytes);
        let before = insist(what, job, async || self.records.before_storing(digest).await).await?;
        let blobs = self.blobs.clone();
        let stored = self
            .threads
            .run(move || blobs.store(&mut &bytes[..], MAX_DOCUMENT));
        let stored = stored.await.map_err(|error| wrong(error.to_string()))??;
        debug_assert_eq!(stored, digest, "what is stored is what was hashed");
        Ok(before)
    }

    /// The artifact is there, and is not collected before a record names it that proves that with what is returned.
    pub(super) async fn find_artifact(&self, job: JobId, digest: Digest) -> Result<Reclaim, NotWritten> {
        let before = insist("an artifact", job, async || {
            self.records.before_storing(digest).await
        })
        .await?;
        let blobs = self.blobs.clone();
        let there = self.threads.run(move || blobs.file(digest).is_some());
        match there.await {
            Ok(true) => Ok(before),
            _ => Err(NotWritten::NoArtifact(digest)),
        }
    }

    async fn open<T: for<'de> Deserialize<'de> + Send + 'static>(
        &self,
        what: &'static str,
        job: JobId,
        digest: Digest,
    ) -> Result<T, NotWritten> {
        let wrong = |why: String| NotWritten::Document { what, job, why };
        let blobs = self.blobs.clone();
        let read = self.threads.run(move || blobs.read_all(digest));
        let bytes = read.await.map_err(|error| wrong(error.to_string()))??;
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
    }

    /// A job is there when this returns.
    pub(super) async fn admit(&self, launch: &JobLaunch, submitted_ms: i64) -> Result<Digests, NotWritten> {
        let Some(graph) = &launch.graph else {
            let failure = Failure::Internal("a job that was not planned".to_owned());
            return Err(failure.into());
        };
        let job = graph.id;
        loop {
            match self.admit_once(job, launch, submitted_ms).await {
                // What it names was collected between the look and the write.
                Err(NotWritten::Record(Failure::Condemned(_))) => tokio::time::sleep(PAUSE).await,
                admitted => return admitted,
            }
        }
    }

    async fn admit_once(
        &self,
        job: JobId,
        launch: &JobLaunch,
        submitted_ms: i64,
    ) -> Result<Digests, NotWritten> {
        let mut stored = vec![self.keep("the description", job, launch).await?];
        let digests = Digests {
            artifact: launch.artifact.parse().ok(),
            graph: stored[0].digest(),
        };
        if let Some(artifact) = digests.artifact {
            stored.push(self.find_artifact(job, artifact).await?);
        }
        let name = launch.graph.as_ref().map(|graph| graph.name.clone());
        let record = JobRecord {
            job,
            name: name.unwrap_or_default(),
            artifact: digests.artifact,
            graph: digests.graph,
            restore: Default::default(),
            requirements: BTreeMap::new(),
            submitted_ms,
            exits: Vec::new(),
        };
        let submitted = insist("a submission", job, async || {
            match self.records.submit_stored(&self.leader, &record, &stored).await {
                // To write the same again would not help.
                Err(Failure::Condemned(which)) => Ok(Err(Failure::Condemned(which))),
                submitted => submitted.map(Ok),
            }
        });
        match submitted.await?? {
            Submission::Created | Submission::Running => Ok(digests),
            Submission::Ended(_) => Err(Failure::Ended(job).into()),
        }
    }

    /// The next epoch of a job: nobody who had it before writes for it any more.
    pub(super) async fn raise(
        &self,
        job: JobId,
        exit: Option<ProcessExit>,
    ) -> Result<EpochToken, NotWritten> {
        if let Some(exit) = exit {
            let noted = insist("an exit", job, async || {
                let exit = exit.clone();
                let note = move |record: &mut JobRecord| {
                    if record.exits.iter().all(|known| known.epoch != exit.epoch) {
                        let surplus = (record.exits.len() + 1).saturating_sub(EXITS);
                        record.exits.drain(..surplus);
                        record.exits.push(exit);
                    }
                };
                self.records.update_job(&self.leader, job, note).await
            });
            noted.await?;
        }
        let raised = insist("an epoch", job, async || {
            self.records.raise_epoch(&self.leader, job).await
        });
        Ok(raised.await?)
    }

    /// A process takes an epoch.
    pub(super) async fn claim(&self, job: JobId, epoch: u64, process: Uuid) -> Result<Begins, NotWritten> {
        let process = process.to_string();
        let claimed = insist("a claim", job, async || {
            self.records.claim(job, Epoch(epoch), &process).await
        });
        let token = claimed.await?;
        let pointers = insist("the latest checkpoint", job, async || {
            self.records.checkpoints(job).await
        });
        let latest = pointers.await?.pop();
        let intents = insist("what was asked", job, async || self.records.intents(job).await).await?;
        let stopped = latest
            .as_ref()
            .filter(|latest| latest.kind == PointerKind::Savepoint);
        let stopped = stopped.map(|latest| StopsWith {
            trigger: stop_of(&intents, latest.id),
            drain: latest.drain,
        });
        let from = latest.as_ref().map_or(0, |latest| latest.id.0 + 1);
        let reserved = self.reserve(&token, CheckpointId(from)).await?;
        let ending = self.ending(job).await?;
        Ok(Begins {
            token,
            latest: latest.map(|pointer| (pointer.id, pointer.location)),
            first_checkpoint: reserved.first,
            ids_end: reserved.end,
            stopped,
            ending,
            open: intents
                .into_iter()
                .filter(|(_, asked)| asked.outcome.is_none())
                .collect(),
        })
    }

    /// More ids than a JobMaster uses before it is looked again.
    async fn reserve(&self, token: &EpochToken, from: CheckpointId) -> Result<IdBlock, Failure> {
        let reserved = insist("checkpoint ids", token.job, async || {
            self.records
                .reserve_checkpoint_ids(token, from, IDS_OF_AN_EPOCH)
                .await
        });
        reserved.await
    }

    /// From here on the job goes on from this checkpoint. Returns the first id that is not reserved, of which none is near.
    pub(super) async fn commit(
        &self,
        token: &EpochToken,
        (id, location, stop): (CheckpointId, String, Option<StopsWith>),
        ids_end: CheckpointId,
        completed_ms: i64,
    ) -> Result<CheckpointId, NotWritten> {
        let ids_end = if id.0 + IDS_OF_AN_EPOCH / 2 >= ids_end.0 {
            self.reserve(token, ids_end).await?.end
        } else {
            ids_end
        };
        let pointer = CheckpointPointer {
            id,
            kind: match stop {
                Some(_) => PointerKind::Savepoint,
                None => PointerKind::Checkpoint,
            },
            location,
            completed_ms,
            drain: stop.as_ref().is_some_and(|stop| stop.drain),
        };
        let committed = insist("a checkpoint", token.job, async || match &stop {
            None => self.records.commit_checkpoint(token, &pointer).await,
            Some(StopsWith { trigger, .. }) => {
                let trigger = trigger.as_deref();
                self.records.commit_stop(token, trigger, &pointer).await
            }
        });
        committed.await?;
        Ok(ids_end)
    }

    /// The job has ended, and nothing about it changes any more.
    pub(super) async fn finish(
        &self,
        token: &EpochToken,
        digests: Digests,
        archive: &Archive,
        ended_ms: i64,
    ) -> Result<(), NotWritten> {
        loop {
            let (record, stored) = self.result_of(token.job, digests, archive, ended_ms).await;
            let finished = insist("a result", token.job, async || {
                condemned(self.records.finish(token, &record, stored.as_ref()).await)
            });
            if let Some(()) = finished.await? {
                return Ok(());
            }
        }
    }

    /// The job comes to this end, whoever has it next.
    pub(super) async fn begin_end(
        &self,
        token: &EpochToken,
        digests: Digests,
        archive: &Archive,
        ended_ms: i64,
    ) -> Result<(), NotWritten> {
        loop {
            let (record, stored) = self.result_of(token.job, digests, archive, ended_ms).await;
            let begun = insist("an end", token.job, async || {
                condemned(self.records.begin_end(token, &record, stored.as_ref()).await)
            });
            if let Some(()) = begun.await? {
                return Ok(());
            }
        }
    }

    /// The end that the job has come to, and what is to be deleted then.
    async fn ending(&self, job: JobId) -> Result<Option<BeginEnd>, NotWritten> {
        let begun = insist("an end", job, async || self.records.ending(job).await);
        let Some(record) = begun.await? else {
            return Ok(None);
        };
        let archive = match record.archive {
            Some(archive) => self.open::<Archive>("the archive", job, archive).await,
            None => Err(Failure::Internal("how it ends was not stored".to_owned()).into()),
        };
        let (result, deletions) = match archive {
            Ok(archive) => (archive.result, archive.deletions),
            Err(error) => {
                tracing::error!(%job, %error, "it ends, and nobody knows what it has left to delete");
                (bare_result(job, &record), Vec::new())
            }
        };
        let result = Box::new(result);
        Ok(Some(BeginEnd { result, deletions }))
    }

    /// As [`Self::finish`], of a job without a JobMaster. The end that a JobMaster has begun before is its end all the same.
    pub(super) async fn end(
        &self,
        job: JobId,
        digests: Digests,
        archive: &Archive,
        ended_ms: i64,
    ) -> Result<(), NotWritten> {
        if let Some(begun) = self.ending(job).await? {
            let archive = Archive {
                result: *begun.result,
                ..archive.clone()
            };
            self.end_so(job, digests, &archive, ended_ms).await?;
            // It is not the one that the caller knows.
            return Err(Failure::Ended(job).into());
        }
        self.end_so(job, digests, archive, ended_ms).await
    }

    async fn end_so(
        &self,
        job: JobId,
        digests: Digests,
        archive: &Archive,
        ended_ms: i64,
    ) -> Result<(), NotWritten> {
        loop {
            let (record, stored) = self.result_of(job, digests, archive, ended_ms).await;
            let ended = insist("a result", job, async || {
                let token = self.records.raise_epoch(&self.leader, job).await?;
                let result = (&record, stored.as_ref());
                condemned(self.records.end_job(&self.leader, &token, result).await)
            });
            if let Some(()) = ended.await? {
                return Ok(());
            }
        }
    }

    async fn result_of(
        &self,
        job: JobId,
        digests: Digests,
        archive: &Archive,
        ended_ms: i64,
    ) -> (ResultRecord, Option<Reclaim>) {
        let kept = self.keep_archive(job, archive).await;
        let record = ResultRecord {
            artifact: digests.artifact,
            graph: digests.graph,
            status: match archive.result.status {
                JobStatus::Finished => FinalStatus::Finished,
                JobStatus::Canceled => FinalStatus::Canceled,
                _ => FinalStatus::Failed,
            },
            ended_ms,
            // The whole of it is in the archive.
            error: archive
                .result
                .failure
                .as_ref()
                .map(|failure| failure.to_string().chars().take(1_000).collect()),
            archive: kept.as_ref().map(Reclaim::digest),
            cleanup: Cleanup::Dirty,
        };
        (record, kept)
    }

    /// That a job has ended matters more than how.
    async fn keep_archive(&self, job: JobId, archive: &Archive) -> Option<Reclaim> {
        for _ in 0..ARCHIVING {
            match self.keep("the archive", job, archive).await {
                Ok(kept) => return Some(kept),
                Err(error) => tracing::error!(%job, %error, "how it has ended is not stored yet"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        tracing::error!(%job, "how it has ended is not stored: only that it has");
        None
    }

    /// How a job has ended, whoever has written it.
    pub(super) async fn learn(&self, job: JobId) -> Result<JobResult, NotWritten> {
        let key = self.records.keys().result(job);
        let read = insist("the result", job, async || {
            self.records.read::<ResultRecord>(&key).await
        });
        let Some(record) = read.await? else {
            return Err(Failure::NoJob(job).into());
        };
        if let Some(archive) = record.value.archive
            && let Ok(archive) = self.open::<Archive>("the archive", job, archive).await
        {
            return Ok(archive.result);
        }
        Ok(bare_result(job, &record.value))
    }

    /// The job's vertices run between these bounds, whoever leads.
    pub(super) async fn require(&self, job: JobId, declared: &Requirements) -> Result<(), NotWritten> {
        let bounds = declared
            .iter()
            .map(|(vertex, Bounds { lower, upper })| (vertex, Requirement { lower, upper }));
        let bounds: BTreeMap<_, _> = bounds.collect();
        let written = insist("requirements", job, async || {
            let bounds = bounds.clone();
            let change = move |record: &mut JobRecord| record.requirements = bounds;
            self.records.update_job(&self.leader, job, change).await.map(drop)
        });
        Ok(written.await?)
    }

    /// The job is to be cancelled, whoever leads.
    pub(super) async fn intend_to_cancel(&self, job: JobId, asked_ms: i64) -> Result<(), NotWritten> {
        let asked = JobIntent {
            trigger: CANCEL.to_owned(),
            intent: Intent::Cancel,
            asked_ms,
        };
        let written = insist("a cancellation", job, async || {
            self.records.intend(&self.leader, job, &asked).await
        });
        Ok(written.await?)
    }

    /// Deletes what nobody needs any more of a job that has ended.
    pub(super) async fn clean(self, job: JobId) {
        let cleaned = insist("the end", job, async || {
            self.records.clean_job(&self.leader, job).await
        });
        if let Err(error) = cleaned.await {
            tracing::debug!(%job, %error, "its records are left for the next leader");
        }
    }

    /// Forgets a job that ended long ago.
    pub(super) async fn forget(self, job: JobId) {
        let forgotten = insist("an old result", job, async || {
            self.records.clean_job(&self.leader, job).await?;
            self.records.forget_job(&self.leader, job).await
        });
        if let Err(error) = forgotten.await {
            tracing::debug!(%job, %error, "its result is left for the next leader");
        }
    }

    /// Checks that records and blobs are of one life. Before any effect.
    pub(crate) async fn note_term(&self) -> Result<(), NotWritten> {
        let any = JobId::from_u128(0);
        let jobs = insist("the list", any, async || self.records.jobs().await).await?;
        let (blobs, term) = (self.blobs.clone(), self.leader.term());
        let noted = self.threads.run(move || blobs.note_term(term, jobs.is_empty()));
        noted
            .await
            .map_err(|error| Failure::Internal(error.to_string()))??;
        Ok(())
    }

    /// Everything that earlier terms have left, of ended jobs the `remembered` latest.
    pub(crate) async fn inherit(&self, remembered: usize) -> Result<Inheritance, NotWritten> {
        let any = JobId::from_u128(0);
        let jobs = insist("the list", any, async || self.records.jobs().await).await?;
        let mut left = Inheritance::default();
        let mut ended = Vec::new();
        for (job, view) in jobs {
            match &view.result {
                Some(result) => {
                    if result.value.cleanup == Cleanup::Dirty {
                        left.dirty.push(job);
                    }
                    ended.push((result.value.ended_ms, job, result.value.archive));
                }
                None => left.unfinished.extend(self.unfinished(job, view).await?),
            }
        }
        ended.sort_by_key(|(at, job, _)| (*at, *job));
        let surplus = ended.len().saturating_sub(remembered);
        for (_, job, _) in ended.drain(..surplus) {
            self.clone().forget(job).await;
        }
        for (_, job, archive) in ended {
            let Some(archive) = archive else { continue };
            match self.open::<Archive>("the archive", job, archive).await {
                Ok(archive) => left.ended.push(archive),
                // It has ended all the same.
                Err(error) => tracing::warn!(%job, %error, "how it ended cannot be shown"),
            }
        }
        Ok(left)
    }

    async fn unfinished(&self, job: JobId, view: JobView) -> Result<Option<Unfinished>, NotWritten> {
        let epoch = view.epoch();
        let claimed = view
            .epoch
            .as_ref()
            .is_some_and(|epoch| epoch.value.claimed_by.is_some());
        let Some(record) = view.record else {
            return Ok(None);
        };
        let record = record.value;
        let launch: JobLaunch = self.open("the description", job, record.graph).await?;
        Ok(Some(Unfinished {
            launch,
            digests: Digests {
                artifact: record.artifact,
                graph: record.graph,
            },
            submitted_ms: record.submitted_ms,
            cancelled: view.intents.values().any(|known| cancels(&known.value)),
            exits: record.exits,
            requirements: declared(&record.requirements),
            epoch,
            claimed,
        }))
    }
}

/// What is known of a job's end when it cannot be read how it was.
fn bare_result(job: JobId, record: &ResultRecord) -> JobResult {
    let failure = record.error.as_ref();
    JobResult {
        job,
        name: String::new(),
        status: match record.status {
            FinalStatus::Finished => JobStatus::Finished,
            FinalStatus::Canceled => JobStatus::Canceled,
            FinalStatus::Failed => JobStatus::Failed,
        },
        accumulators: AccumulatorValues::default(),
        failure: failure.map(|error| JobFailure::of_job(Fault::External, error, Duration::ZERO)),
        failures: Vec::new(),
        restarts: 0,
        duration: Duration::ZERO,
        vertices: Vec::new(),
        details: Vec::new(),
        checkpoints: None,
    }
}

/// The stored form of a job's end.
pub(super) fn archive_of(graph: &Arc<JobGraph>, result: &JobResult, times: &Times) -> Archive {
    Archive {
        graph: (**graph).clone(),
        result: result.clone(),
        times: times.clone(),
        deletions: Vec::new(),
    }
}
