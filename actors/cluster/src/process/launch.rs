//! The launch contract: what a process of a job is started with, and what becomes known of its end.
//!
//! It is one of the public contracts: an artifact may be older than the cluster that starts it, or newer. Fields are added with a default.

use hurtig_core::ids::{AllocationId, JobId, TaskManagerId};
use hurtig_dataflow::graph::JobGraph;
use hurtig_rpc::TlsGiven;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use uuid::Uuid;

/// The version of this contract. An artifact that speaks only version 1 takes all tasks of its job to be in its one
/// worker.
pub const LAUNCH_VERSION: u32 = 2;

/// What every process of a job has in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLaunch {
    /// The digest of the artifact.
    pub artifact: String,
    /// The program's own arguments, without its name.
    pub args: Vec<String>,
    /// The settings of the submission.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// What the cluster's configuration said of jobs when this one was submitted. Weaker than everything else.
    #[serde(default)]
    pub defaults: BTreeMap<String, String>,
    /// The parallelism of the submission.
    #[serde(default)]
    pub parallelism: Option<u32>,
    /// The graph that was planned; `None` before.
    #[serde(default)]
    pub graph: Option<Box<JobGraph>>,
}

impl JobLaunch {
    /// Whether the same is run in the same way, as far as whoever submits it says.
    pub fn is_as(&self, other: &Self) -> bool {
        (&self.artifact, &self.args, &self.config, self.parallelism)
            == (&other.artifact, &other.args, &other.config, other.parallelism)
    }
}

/// What a process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Build the graph, answer it, and end.
    Plan,
    /// Be the job's JobMaster.
    JobMaster {
        /// The cluster.
        cluster: Uuid,
        /// Where the leader listens.
        leader: String,
        /// In which epoch.
        epoch: NonZeroU64,
        /// Where jobmanagers listen, one of which follows the leader when that is gone; none: nobody does.
        #[serde(default)]
        jobmanagers: Vec<String>,
        /// Its certificate; none: it speaks in the clear.
        #[serde(default)]
        tls: Option<Box<TlsGiven>>,
    },
    /// Run tasks of the job.
    Worker {
        /// The cluster.
        cluster: Uuid,
        /// Its name, for its JobMaster.
        worker: TaskManagerId,
        /// In which epoch.
        epoch: NonZeroU64,
        /// The slots that it has.
        allocations: Vec<AllocationId>,
        /// Where its JobMaster listens.
        master: String,
        /// Threads for tasks; 0: one for each core.
        threads: u32,
        /// The TaskManager that starts it.
        #[serde(default)]
        task_manager: Option<TaskManagerId>,
        /// Its certificate; none: it speaks in the clear.
        #[serde(default)]
        tls: Option<Box<TlsGiven>>,
    },
}

impl Role {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::JobMaster { .. } => "job-master",
            Self::Worker { .. } => "worker",
        }
    }
}

/// All that a process is told when it is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Of this contract.
    pub version: u32,
    /// The process that starts it and ends it.
    pub launcher: u32,
    /// What it is to do.
    pub role: Role,
    /// For which job.
    pub job: JobLaunch,
}

/// What a plan run answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanAnswer {
    /// The graph.
    Graph(Box<JobGraph>),
    /// What is wrong with the program.
    Refused(String),
}

/// A process of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProcessId {
    /// Its JobMaster.
    JobMaster {
        /// Of which job.
        job: JobId,
        /// In which epoch.
        epoch: NonZeroU64,
    },
    /// A worker.
    Worker {
        /// Of which job.
        job: JobId,
        /// In which epoch.
        epoch: NonZeroU64,
        /// Its name.
        worker: TaskManagerId,
    },
}

impl ProcessId {
    /// Of which job.
    pub fn job(&self) -> JobId {
        match self {
            Self::JobMaster { job, .. } | Self::Worker { job, .. } => *job,
        }
    }

    /// In which epoch.
    pub fn epoch(&self) -> NonZeroU64 {
        match self {
            Self::JobMaster { epoch, .. } | Self::Worker { epoch, .. } => *epoch,
        }
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JobMaster { job, epoch } => write!(f, "jobmaster-{job}-{epoch}"),
            Self::Worker { job, epoch, worker } => write!(f, "worker-{job}-{epoch}-{worker}"),
        }
    }
}

/// A process that a TaskManager has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningProcess {
    /// Which.
    pub process: ProcessId,
    /// The slots that it has.
    pub allocations: Vec<AllocationId>,
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExit {
    /// Why it was never started.
    #[serde(default)]
    pub not_started: Option<String>,
    /// Its exit code.
    #[serde(default)]
    pub code: Option<i32>,
    /// The signal that has killed it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// What memory has to do with it.
    #[serde(default)]
    pub out_of_memory: Option<String>,
    /// The end of its log.
    #[serde(default)]
    pub last_lines: Vec<String>,
}

impl fmt::Display for ProcessExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.not_started, self.code, self.signal) {
            (Some(why), ..) => write!(f, "it could not be started: {why}")?,
            (None, Some(code), _) => write!(f, "it ended with exit code {code}")?,
            (None, None, Some(signal)) => write!(f, "it was killed by signal {signal}")?,
            (None, None, None) => f.write_str("it is gone")?,
        }
        if let Some(why) = &self.out_of_memory {
            write!(f, ": {why}")?;
        }
        // What stands behind a panic says nothing.
        let said = self.last_lines.iter().rfind(|line| !line.starts_with("note: "));
        if let Some(last) = said {
            write!(f, "; the last line of its log: {last}")?;
        }
        Ok(())
    }
}
