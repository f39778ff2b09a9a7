//! What can be wrong with a program's graph. Every message names the operators and a way out.

use hurtig_core::Error;
use thiserror::Error as ThisError;

/// A mistake in the program's graph; always the program's fault, and known before anything runs.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum GraphError {
    /// Nothing was added to the environment.
    #[error("the program has no operators: add a source and a sink before execute()")]
    Empty,
    /// Nothing consumes what the program computes.
    #[error(
        "the program has no sink, so nothing would be computed: end a stream of {operators} with sink_to(), print() or collect()"
    )]
    NoSink {
        /// The operators whose output nobody consumes.
        operators: String,
    },
    /// Two operators with one identity.
    #[error("uid '{uid}' is used by '{first}' and by '{second}': a uid must be unique within the job")]
    DuplicateUid {
        /// The uid (or uid hash).
        uid: String,
        /// The operator that came first.
        first: String,
        /// The one that repeats it.
        second: String,
    },
    /// A uid that names nothing.
    #[error(
        "operator '{operator}' has an empty uid: give it a name that stays the same when the program changes"
    )]
    EmptyUid {
        /// The operator.
        operator: String,
    },
    /// Parallelism 0, or above the number of key groups that any job can have.
    #[error("{place}: parallelism {parallelism} is not between 1 and {limit}")]
    ParallelismOutOfRange {
        /// Operator or setting.
        place: String,
        /// What was asked for.
        parallelism: u32,
        /// The most that any operator can have.
        limit: u32,
    },
    /// Max parallelism 0 or too large.
    #[error("{place}: max parallelism {max_parallelism} is not between 1 and {limit}")]
    MaxParallelismOutOfRange {
        /// Operator or setting.
        place: String,
        /// What was asked for.
        max_parallelism: u32,
        /// The most that any operator can have.
        limit: u32,
    },
    /// More subtasks than key groups.
    #[error(
        "operator '{operator}' has parallelism {parallelism}, above its max parallelism {max_parallelism}: lower the one or raise the other"
    )]
    AboveMaxParallelism {
        /// The operator.
        operator: String,
        /// Its parallelism.
        parallelism: u32,
        /// Its max parallelism.
        max_parallelism: u32,
    },
    /// More subtasks than the operator can use.
    #[error("operator '{operator}' cannot run with parallelism {parallelism}: at most {limit} is possible")]
    AboveParallelismLimit {
        /// The operator.
        operator: String,
        /// What was asked for.
        parallelism: u32,
        /// What is possible.
        limit: u32,
    },
    /// `forward()` between different parallelism.
    #[error(
        "forward from '{from}' (parallelism {from_parallelism}) to '{to}' (parallelism {to_parallelism}) needs equal parallelism: use rebalance() or rescale(), or set the same parallelism on both"
    )]
    ForwardParallelism {
        /// The producing operator.
        from: String,
        /// Its parallelism.
        from_parallelism: u32,
        /// The consuming operator.
        to: String,
        /// Its parallelism.
        to_parallelism: u32,
    },
    /// `pipeline.auto-generate-uids` is false and an operator has no uid.
    #[error(
        "operator '{operator}' has no uid: give it one with uid(), or set pipeline.auto-generate-uids to true"
    )]
    MissingUid {
        /// The operator.
        operator: String,
    },
    /// Streams run in a circle.
    #[error("the operators {operators} form a cycle: a stream cannot flow into its own input")]
    Cycle {
        /// The operators of the circle.
        operators: String,
    },
    /// An edge that does not fit its operators.
    #[error("a stream from {from} to {to} is not possible: {reason}")]
    BadEdge {
        /// The producing operator.
        from: String,
        /// The consuming operator.
        to: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// An operator that reads, without anything to read.
    #[error("operator '{operator}' has no input")]
    NoInput {
        /// The operator.
        operator: String,
    },
    /// An override that names no vertex.
    #[error(
        "pipeline.jobvertex-parallelism-overrides names vertex {vertex}, which this job does not have; it has {known}"
    )]
    UnknownOverride {
        /// The vertex id given.
        vertex: String,
        /// The vertices of the job.
        known: String,
    },
}

impl From<GraphError> for Error {
    fn from(error: GraphError) -> Self {
        Error::user(error.to_string())
    }
}
