//! Why a record was not read or written, and what to do then.

use super::codec::MAX_RECORD;
use super::model::Epoch;
use crate::kv::{Key, Parked, StoreError};
use crate::leader::Term;
use hurtig_core::ids::JobId;

/// Why something was not done. In the doubt, nothing may be deleted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Past the deadline: not leading now, perhaps again under the same term. Answer 503, decide nothing.
    #[error("leadership is suspended: the store has not confirmed it in time. Try again soon")]
    Suspended,
    /// Somebody else leads, or may.
    #[error("{0} does not lead any more")]
    Deposed(Term),
    /// The job has a higher epoch, or it was claimed by another process: end.
    #[error(
        "epoch {epoch} of job {job} is over or not this process's: a replacement was started. This process must end"
    )]
    Fenced {
        /// The job.
        job: JobId,
        /// The epoch that is over.
        epoch: Epoch,
    },
    /// There is no such job.
    #[error("there is no job {0}")]
    NoJob(JobId),
    /// The job has its result: nothing about it changes any more.
    #[error("job {0} has ended")]
    Ended(JobId),
    /// What there is contradicts what was asked.
    #[error("{0}")]
    Conflict(String),
    /// Somebody wrote in between. Read again, and try again.
    #[error("{0} was changed in between; try again")]
    Changed(Key),
    /// It may have been in effect until somebody else wrote. Delete nothing.
    #[error(
        "it is not known whether the last write was in effect before somebody else wrote; nothing may be deleted"
    )]
    Overtaken,
    /// The outcome is unknown: park, keep everything, settle later.
    #[error("it is not known whether the last write took effect: {}", .0.why)]
    Unknown(Parked),
    /// The store says no, and nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Larger than a record may be.
    #[error(
        "{what} at {key} would have {bytes} bytes, {MAX_RECORD} are allowed. Store what is large as a blob, and name its \
         digest in the record"
    )]
    TooLarge {
        /// Which type of record.
        what: &'static str,
        /// Where.
        key: Key,
        /// How large it would be.
        bytes: usize,
    },
    /// Only a newer program may read it.
    #[error(
        "{what} at {key} was written by a newer version of Hurtig ({written}; this one reads up to {readable}). Use that \
         version for all jobmanagers"
    )]
    TooNew {
        /// Which type of record.
        what: &'static str,
        /// Where.
        key: Key,
        /// Its version.
        written: u32,
        /// Ours.
        readable: u32,
    },
    /// The bytes are not what they should be.
    #[error(
        "{what} at {key} cannot be read: {why}. Nothing was changed; restore the store, or delete the key by hand"
    )]
    Damaged {
        /// Which type of record.
        what: &'static str,
        /// Where.
        key: Key,
        /// What is wrong.
        why: String,
    },
    /// The blob is being deleted. Store it again, and then refer to it.
    #[error("blob {0} is being deleted; store it again")]
    Condemned(String),
    /// A broken promise of our own.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Failure {
    /// Whether the same call may be made again, later, with hope.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(
            self,
            Self::Suspended
                | Self::Changed(_)
                | Self::Condemned(_)
                | Self::Store(StoreError::Unreachable(_) | StoreError::Full(_))
        )
    }
}
