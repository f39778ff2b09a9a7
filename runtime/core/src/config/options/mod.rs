//! The declarations of all options, grouped as the reference is.
//!
//! A new option is a constant in one of these files and a line in that file's `OPTIONS`. Keys are
//! Flink's wherever Flink has the concept.

mod checkpoints;
mod client;
mod cluster;
mod high_availability;
mod metrics;
mod network;
mod object_stores;
mod pipeline;
mod processes;
mod rest;
mod restart;
mod rocksdb;
mod scheduling;
mod security;
mod state;

pub use checkpoints::*;
pub use client::*;
pub use cluster::*;
pub use high_availability::*;
pub use metrics::*;
pub use network::*;
pub use object_stores::*;
pub use pipeline::*;
pub use processes::*;
pub use rest::*;
pub use restart::*;
pub use rocksdb::*;
pub use scheduling::*;
pub use security::*;
pub use state::*;

use super::AnyOption;

/// A group of options: a heading of the reference.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) doc: &'static str,
    /// Whether the jobs of a cluster begin with what the cluster's configuration says of them.
    pub(super) of_jobs: bool,
    pub(super) options: &'static [&'static dyn AnyOption],
}

/// Every option there is.
pub(super) static REGISTRY: &[Section] = &[
    Section {
        title: "Programs",
        doc: "How a job is built: its parallelism, its batches, its watermarks.",
        of_jobs: true,
        options: pipeline::OPTIONS,
    },
    Section {
        title: "Restarts",
        doc: "What happens after a job has failed.",
        of_jobs: true,
        options: restart::OPTIONS,
    },
    Section {
        title: "Scheduling",
        doc: "With which slots a job runs. See [Parallelism that changes](../operations/rescaling.md).",
        of_jobs: true,
        options: scheduling::OPTIONS,
    },
    Section {
        title: "State",
        doc: "Where keyed state is kept while a job runs.",
        of_jobs: true,
        options: state::OPTIONS,
    },
    Section {
        title: "RocksDB",
        doc: "How the state backend `rocksdb` is tuned. Most jobs need none of it. See \
              [State backends](../operations/state-backends.md#tuning).",
        of_jobs: true,
        options: rocksdb::OPTIONS,
    },
    Section {
        title: "Checkpoints",
        doc: "When a job's state is made durable, where, and what a job begins with.",
        of_jobs: true,
        options: checkpoints::OPTIONS,
    },
    Section {
        title: "Clients",
        doc: "What becomes of a job when who has submitted it is gone. Read by `hurtig run`, from its command line, its environment and its \
              configuration file; a cluster believes what the submission says. See \
              [A job that ends with its client](../operations/cluster.md#a-job-that-ends-with-its-client).",
        of_jobs: false,
        options: client::OPTIONS,
    },
    Section {
        title: "Object stores",
        doc: "How `s3://bucket/path` is reached, wherever a checkpoint or savepoint may lie there. Programs need the feature \
              `s3` of the crate `hurtig`.",
        of_jobs: true,
        options: object_stores::OPTIONS,
    },
    Section {
        title: "Task managers",
        doc: "How a task manager's process divides its threads and its memory.",
        of_jobs: true,
        options: cluster::OPTIONS,
    },
    Section {
        title: "Processes of jobs",
        doc: "What the processes that a TaskManager starts may use up on their machine. Read by `hurtig taskmanager`. See \
              [A cluster of processes](../operations/cluster.md).",
        of_jobs: false,
        options: processes::OPTIONS,
    },
    Section {
        title: "Network",
        doc: "What the workers of a job exchange: how much may be on its way, in which form, and how long a worker is waited for. \
              Nothing of it concerns a job with one worker. See [Tuning the network](../operations/network.md).",
        of_jobs: true,
        options: network::OPTIONS,
    },
    Section {
        title: "High availability",
        doc: "Who leads the cluster, and where jobs are recorded. Read by processes of a cluster; embedded programs need none of it.",
        of_jobs: false,
        options: high_availability::OPTIONS,
    },
    Section {
        title: "Metrics",
        doc: "Who is told what a cluster measures. Read by the jobmanager; embedded programs have no reporters.",
        of_jobs: false,
        options: metrics::OPTIONS,
    },
    Section {
        title: "REST API",
        doc: "Who may ask a jobmanager what, and how much. Read by processes of a cluster.",
        of_jobs: false,
        options: rest::OPTIONS,
    },
    Section {
        title: "TLS",
        doc: "Certificates, as PEM files. Read by processes of a cluster and by commands; jobs are given theirs. See \
              [Security](../operations/security.md).",
        of_jobs: false,
        options: security::OPTIONS,
    },
];
