//! Names: which directory a checkpoint has, which files are in it, and which one is the latest.

use crate::error::{Result, StorageError};
use crate::metadata::{METADATA_NAME, read_metadata};
use crate::path::join;
use crate::stop_record::{STOP_RECORD_NAME, StopRecord};
use crate::store::BlobStore;
use hurtig_core::ids::{CheckpointId, ExecutionId, JobId};
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

const CHECKPOINT: &str = "chk-";

/// How many digits of a job's id a savepoint's directory carries.
const JOB_DIGITS: usize = 6;

/// Where a job's checkpoints lie, from the root of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointLayout {
    /// The job.
    pub job: JobId,
}

impl CheckpointLayout {
    /// The layout of a job.
    pub fn new(job: JobId) -> Self {
        Self { job }
    }

    /// The directory of everything but savepoints: `<job id>`.
    pub fn root(&self) -> String {
        self.job.to_string()
    }

    /// The directory of what several checkpoints name: `<job id>/shared`.
    pub fn shared(&self) -> String {
        join(&self.root(), "shared")
    }

    /// The directory of what belongs to tasks and to no checkpoint: `<job id>/taskowned`.
    pub fn task_owned(&self) -> String {
        join(&self.root(), "taskowned")
    }

    /// The directory of a checkpoint: `<job id>/chk-<n>`.
    pub fn checkpoint(&self, id: CheckpointId) -> String {
        join(&self.root(), &format!("{CHECKPOINT}{id}"))
    }

    /// The directory of a savepoint: `savepoint-<first digits of the job id>-<random>`.
    pub fn savepoint(&self, random: u64) -> String {
        format!("savepoint-{}-{random:016x}", &self.root()[..JOB_DIGITS])
    }

    /// A new state file in `dir`: `<vertex>-<subtask>-<attempt>-<random>`. The random number is drawn
    /// for every file, so that no name is used twice.
    pub fn state_file(dir: &str, execution: ExecutionId, random: u64) -> String {
        let subtask = execution.subtask;
        let (vertex, index, attempt) = (subtask.vertex, subtask.index, execution.attempt);
        join(dir, &format!("{vertex}-{index}-{attempt}-{random:016x}"))
    }
}

/// The id and the directory of a job's latest checkpoint: the one with the highest id that was
/// completed, or the savepoint that it has stopped with, whose directory holds a
/// [`StopRecord`] in place of metadata. Without a job, the latest of the job whose latest checkpoint was triggered last; ids of
/// different jobs do not compare. With a name, only jobs of that name count.
///
/// # Errors
/// When the metadata of a candidate cannot be read. It is never passed over for an older one: going
/// back further is an operator's decision. Also what the store fails with.
pub fn latest_checkpoint(
    store: &dyn BlobStore,
    job: Option<JobId>,
    name: Option<&str>,
) -> Result<Option<(CheckpointId, String)>> {
    let folder = job.map(|job| job.to_string()).unwrap_or_default();
    let mut latest: BTreeMap<JobId, CheckpointId> = BTreeMap::new();
    for path in store.list(&folder)? {
        if let Some((job, id)) = completed(&path) {
            let best = latest.entry(job).or_insert(id);
            *best = id.max(*best);
        }
    }
    let mut found = None;
    for (job, id) in latest {
        let dir = CheckpointLayout::new(job).checkpoint(id);
        let (job_name, triggered_ms) = about(store, &dir, job, id)?;
        if name.is_some_and(|name| name != job_name) {
            continue;
        }
        found = found.max(Some((triggered_ms, id, dir)));
    }
    Ok(found.map(|(_, id, dir)| (id, dir)))
}

/// The job's name and the time of the trigger, as the directory of a complete checkpoint has them.
fn about(store: &dyn BlobStore, dir: &str, job: JobId, id: CheckpointId) -> Result<(String, u64)> {
    let (file, its_job, its_id, about) = match StopRecord::read(store, dir)? {
        Some(stop) => (
            STOP_RECORD_NAME,
            stop.job_id,
            stop.checkpoint_id,
            (stop.job_name, stop.triggered_ms),
        ),
        None => {
            let found = read_metadata(store, dir)?;
            let about = (found.job_name, found.triggered_ms);
            (METADATA_NAME, found.job_id, found.checkpoint_id, about)
        }
    };
    if its_job == job && its_id == id {
        return Ok(about);
    }
    let problem = format!(
        "it belongs to checkpoint {its_id} of job {its_job}; somebody moved it: move it back, or name it where it is"
    );
    Err(StorageError::incompatible(&join(dir, file), problem))
}

/// Whether `dir` is the directory of a checkpoint: `<job id>/chk-<n>`.
pub(crate) fn is_checkpoint(dir: &str) -> bool {
    completed(&join(dir, METADATA_NAME)).is_some()
}

/// The checkpoint whose metadata lie at `path`, or the record that it is a savepoint.
fn completed(path: &str) -> Option<(JobId, CheckpointId)> {
    let file = path.strip_suffix(METADATA_NAME);
    let file = file.or_else(|| path.strip_suffix(STOP_RECORD_NAME));
    let dir = file?.strip_suffix('/')?;
    let (job, number) = dir.split_once('/')?;
    let job: JobId = job.parse().ok()?;
    let id = CheckpointId(number.strip_prefix(CHECKPOINT)?.parse().ok()?);
    // Other spellings of the same numbers are not ours.
    (CheckpointLayout::new(job).checkpoint(id) == dir).then_some((job, id))
}
