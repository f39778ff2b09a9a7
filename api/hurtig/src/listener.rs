//! Who is told of the jobs that an environment runs.

use crate::{Error, JobClient, JobResult};

/// Is told of every job that an environment starts: Flink's `JobListener`. Called on the thread of
/// whoever executes the program, in the order of registration.
pub trait JobListener: Send + Sync {
    /// A job was submitted, or could not be.
    fn on_job_submitted(&self, job: Result<&JobClient, &Error>) {
        let _ = job;
    }

    /// A job that `execute` waited for has ended; an error says how, unless it finished.
    fn on_job_executed(&self, result: Result<&JobResult, &Error>) {
        let _ = result;
    }
}
