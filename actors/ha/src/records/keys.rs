//! Where records lie.

use super::model::Digest;
use crate::kv::Key;
use hurtig_core::ids::{CheckpointId, JobId};

/// The keys of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    root: Key,
}

impl Keys {
    /// The keys of the cluster with this id, below `prefix`: `/hurtig/default`.
    #[must_use]
    pub fn new(prefix: &str, cluster: &str) -> Self {
        Self {
            root: Key::new(prefix).join(cluster),
        }
    }

    /// Above all of them.
    #[must_use]
    pub fn root(&self) -> &Key {
        &self.root
    }

    /// Above the election key.
    #[must_use]
    pub fn election(&self) -> Key {
        self.root.join("election")
    }

    /// Who leads: the election key.
    #[must_use]
    pub fn leader(&self) -> Key {
        self.election().join("leader")
    }

    /// The cluster's life.
    #[must_use]
    pub fn incarnation(&self) -> Key {
        self.root.join("incarnation")
    }

    /// Above all jobs.
    #[must_use]
    pub fn jobs(&self) -> Key {
        self.root.join("jobs")
    }

    /// Above all that is known of a job.
    #[must_use]
    pub fn job(&self, job: JobId) -> Key {
        self.jobs().join(job)
    }

    /// Its job record.
    #[must_use]
    pub fn record(&self, job: JobId) -> Key {
        self.job(job).join("record")
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self, job: JobId) -> Key {
        self.job(job).join("epoch")
    }

    /// Its deployment.
    #[must_use]
    pub fn deployment(&self, job: JobId) -> Key {
        self.job(job).join("deployment")
    }

    /// Its counter of checkpoint ids.
    #[must_use]
    pub fn ids(&self, job: JobId) -> Key {
        self.job(job).join("ids")
    }

    /// Above its checkpoint pointers.
    #[must_use]
    pub fn checkpoints(&self, job: JobId) -> Key {
        self.job(job).join("checkpoints")
    }

    /// One of them. Sorted by id.
    #[must_use]
    pub fn checkpoint(&self, job: JobId, id: CheckpointId) -> Key {
        self.checkpoints(job).join(format_args!("{:020}", id.0))
    }

    /// Its latest checkpoint.
    #[must_use]
    pub fn latest(&self, job: JobId) -> Key {
        self.job(job).join("latest")
    }

    /// Above its intents.
    #[must_use]
    pub fn intents(&self, job: JobId) -> Key {
        self.job(job).join("intents")
    }

    /// The end that it comes to, while its files are deleted.
    #[must_use]
    pub fn ending(&self, job: JobId) -> Key {
        self.job(job).join("ending")
    }

    /// Its result.
    #[must_use]
    pub fn result(&self, job: JobId) -> Key {
        self.job(job).join("result")
    }

    /// Above all artifacts.
    #[must_use]
    pub fn artifacts(&self) -> Key {
        self.root.join("artifacts")
    }

    /// Above all disposals of savepoints.
    #[must_use]
    pub fn disposals(&self) -> Key {
        self.root.join("disposals")
    }

    /// Above all blobs.
    #[must_use]
    pub fn blobs(&self) -> Key {
        self.root.join("blobs")
    }

    /// The state of a blob.
    #[must_use]
    pub fn blob_state(&self, digest: Digest) -> Key {
        self.blobs().join(digest).join("state")
    }

    /// Above the references to a blob.
    #[must_use]
    pub fn blob_references(&self, digest: Digest) -> Key {
        self.blobs().join(digest).join("refs")
    }
}

/// What may be a part of a key that users choose: letters, digits, `-`, `_`, `.`, at most 128, and no dot first.
#[must_use]
pub fn is_part(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.chars().all(allowed)
}
