//! What the records say. Every one is a [`Record`] with a version of its own.

use super::codec::Record;
use hurtig_core::ids::{AllocationId, CheckpointId, JobId, TaskManagerId, VertexId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// How often a job was given to a JobMaster. Only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The SHA-256 of a blob. 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no digest: 64 hexadecimal digits are")]
pub struct NotADigest(String);

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotADigest(text.to_owned());
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <serde_bytes_like::Bytes as Deserialize>::deserialize(deserializer)?;
        let bytes = bytes
            .0
            .try_into()
            .map_err(|_| serde::de::Error::custom("a digest has 32 bytes"))?;
        Ok(Self(bytes))
    }
}

/// Bytes that are read as bytes.
mod serde_bytes_like {
    use serde::de::{Deserialize, Deserializer, Error, Visitor};

    pub(super) struct Bytes(pub(super) Vec<u8>);

    impl<'de> Deserialize<'de> for Bytes {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Expect;
            impl Visitor<'_> for Expect {
                type Value = Bytes;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                    Ok(Bytes(bytes.to_vec()))
                }
            }
            deserializer.deserialize_bytes(Expect)
        }
    }
}

/// What a job begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialRestore {
    /// The checkpoint or savepoint; none to begin with nothing.
    pub location: Option<String>,
    /// Whether state that no operator takes is left behind.
    pub allow_non_restored: bool,
    /// Whether the job has a checkpoint of its own since, so that this one is not looked at any more.
    pub consumed: bool,
}

/// Between which parallelisms a vertex may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The least.
    pub lower: u32,
    /// The most.
    pub upper: u32,
}

/// The exit of a JobMaster's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExit {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Of which epoch it was.
    pub epoch: Epoch,
    /// Status, signal, last lines.
    pub how: String,
}

/// A job, as it was submitted, and what was decided about it since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// The executable that it is.
    pub artifact: Option<Digest>,
    /// The blob with its JobGraph, and with the arguments and settings that it was planned with.
    pub graph: Digest,
    /// What it begins with.
    pub restore: InitialRestore,
    /// Declared resource requirements, by vertex.
    pub requirements: BTreeMap<VertexId, Requirement>,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: i64,
    /// Exits of its JobMasters that still count.
    pub exits: Vec<ProcessExit>,
}

impl JobRecord {
    /// The blobs that it names, each once.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + use<> {
        let artifact = self.artifact.filter(|artifact| *artifact != self.graph);
        artifact.into_iter().chain([self.graph])
    }

    /// Whether both describe the same submission.
    #[must_use]
    pub fn is_same_submission(&self, artifact: Option<Digest>, graph: Digest) -> bool {
        (self.artifact, self.graph) == (artifact, graph)
    }
}

/// Who may write for a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch.
    pub epoch: Epoch,
    /// The process that has claimed it.
    pub claimed_by: Option<String>,
}

/// A failure in the history of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastFailure {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What was wrong.
    pub message: String,
    /// Which task, if one.
    pub task: Option<String>,
}

/// What a JobMaster has deployed. Written before tasks are started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// In which epoch.
    pub epoch: Epoch,
    /// The how manieth of that epoch; with it the deployment's id.
    pub counter: u64,
    /// Parallelism of vertices.
    pub parallelism: BTreeMap<VertexId, u32>,
    /// Slots, and where they are.
    pub slots: BTreeMap<AllocationId, TaskManagerId>,
    /// Restarts so far.
    pub restarts: u64,
    /// What the restart strategy remembers, in its own words.
    pub restart_state: BTreeMap<String, i64>,
    /// The latest failures.
    pub failures: Vec<PastFailure>,
}

/// The checkpoint ids that are not reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRecord {
    /// The first one.
    pub next: u64,
}

/// What a pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PointerKind {
    /// A checkpoint.
    Checkpoint,
    /// A savepoint.
    Savepoint,
}

/// Where a completed checkpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPointer {
    /// Its id.
    pub id: CheckpointId,
    /// Which kind.
    pub kind: PointerKind,
    /// Its metadata.
    pub location: String,
    /// When it was completed, in milliseconds since 1970.
    pub completed_ms: i64,
    /// Of a savepoint: whether event time was brought to its end before it.
    #[serde(default)]
    pub drain: bool,
}

/// The checkpoint that a job recovers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestCheckpoint {
    /// Its id.
    pub id: CheckpointId,
}

/// What a job was asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Intent {
    /// End, without a savepoint. Never undone.
    Cancel,
    /// End with a savepoint.
    Stop {
        /// Where it goes.
        directory: Option<String>,
        /// Whether event time is brought to its end first.
        drain: bool,
        /// In which form it holds keyed state; `None`: as the job's settings say.
        #[serde(default)]
        format: Option<String>,
    },
    /// Run at another parallelism.
    Rescale {
        /// The parallelism of vertices.
        parallelism: BTreeMap<VertexId, u32>,
    },
    /// Take a savepoint.
    Savepoint {
        /// Where it goes.
        directory: Option<String>,
        /// In which form it holds keyed state; `None`: as the job's settings say.
        #[serde(default)]
        format: Option<String>,
        /// Whether the job is cancelled once it is there.
        #[serde(default)]
        cancel: bool,
    },
    /// Take a checkpoint.
    Checkpoint {
        /// What it is to be.
        form: String,
    },
    /// Something that this version does not know. It is not obeyed, and not lost.
    #[serde(other)]
    Unknown,
}

/// What came of an intent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentOutcome {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Where the savepoint is, if one was asked for.
    pub location: Option<String>,
    /// Why it was not done, if it was not.
    pub error: Option<String>,
    /// The checkpoint, if one was asked for.
    #[serde(default)]
    pub checkpoint: Option<CheckpointId>,
}

/// A savepoint that a job stops with: from here on it only commits and ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenSavepoint {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// Where it is.
    pub location: String,
}

/// An intent, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentRecord {
    /// What was asked.
    pub intent: Intent,
    /// When, in milliseconds since 1970.
    pub asked_ms: i64,
    /// What came of it.
    pub outcome: Option<IntentOutcome>,
    /// Of a stop: the savepoint, which is recorded.
    #[serde(default)]
    pub taken: Option<TakenSavepoint>,
}

/// How a job ended for good. There is no word for *suspended*: that is no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinalStatus {
    /// Its input ended.
    Finished,
    /// It was asked to end.
    Canceled,
    /// It could not go on.
    Failed,
}

/// How far the clean-up after a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cleanup {
    /// There is something left to delete.
    Dirty,
    /// There is not.
    Clean,
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// The executable that it was.
    pub artifact: Option<Digest>,
    /// Its JobGraph.
    pub graph: Digest,
    /// How it ended.
    pub status: FinalStatus,
    /// When, in milliseconds since 1970.
    pub ended_ms: i64,
    /// Why it failed.
    pub error: Option<String>,
    /// The blob that shows it to REST.
    pub archive: Option<Digest>,
    /// How far the clean-up is.
    pub cleanup: Cleanup,
}

/// Where a blob stands, when it is not simply there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobState {
    /// Nobody may refer to it; it is about to be deleted.
    Condemned {
        /// Since when, in milliseconds since 1970.
        at_ms: i64,
    },
    /// It is deleted. Who stores it again may revive it.
    Deleted {
        /// Since when, in milliseconds since 1970.
        at_ms: i64,
    },
}

/// An artifact that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// The name of its file.
    pub name: String,
    /// Its bytes.
    pub digest: Digest,
    /// When, in milliseconds since 1970.
    pub uploaded_ms: i64,
}

/// A savepoint that somebody wants deleted, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisposalRecord {
    /// Its whole path.
    pub path: String,
    /// When it was asked, in milliseconds since 1970.
    pub asked_ms: i64,
    /// What came of it.
    pub outcome: Option<IntentOutcome>,
}

/// That somebody needs a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobReference {
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

/// The life of a cluster in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Raised when somebody accepts a store that was restored.
    pub number: u64,
    /// The cluster, for all of its processes. Drawn once.
    #[serde(default)]
    pub cluster: Uuid,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// The candidate.
    pub candidate: String,
    /// Where it can be reached.
    pub address: String,
    /// Where its REST API is, if it has one.
    #[serde(default)]
    pub rest: Option<String>,
}

macro_rules! records {
    ($($type:ty = $name:literal),* $(,)?) => {
        $(impl Record for $type {
            const NAME: &'static str = $name;
            const VERSION: u32 = 1;
        })*
    };
}

records! {
    JobRecord = "the job record",
    EpochRecord = "the epoch",
    DeploymentRecord = "the deployment record",
    IdRecord = "the counter of checkpoint ids",
    CheckpointPointer = "the checkpoint pointer",
    LatestCheckpoint = "the latest checkpoint",
    IntentRecord = "the intent",
    ResultRecord = "the result",
    BlobState = "the state of the blob",
    BlobReference = "the reference to the blob",
    ArtifactRecord = "the artifact",
    DisposalRecord = "the disposal of a savepoint",
    Incarnation = "the incarnation",
    LeaderRecord = "the leader's record",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_print_and_parse() {
        let digest = Digest(std::array::from_fn(|at| u8::try_from(at * 8).unwrap()));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for wrong in ["", "zz", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32)] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
        let bytes = rmp_serde::to_vec_named(&digest).unwrap();
        assert_eq!(bytes.len(), 34);
        assert_eq!(rmp_serde::from_slice::<Digest>(&bytes).unwrap(), digest);
    }
}
