//! Errors of the data plane, made for the one who must react.
//!
//! Every [`Error`] says whose [`Fault`] it is. User functions return [`UserError`] (any error that
//! is `Send + Sync`); the task wraps it with the place where it happened, and the chain of causes is
//! printed once, at the edge.

use crate::ids::TaskManagerId;
use std::fmt;

/// What a user's function returns when it fails.
pub type UserError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of anything in the data plane that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The program, its input or its configuration is wrong; trying again will not help.
    User,
    /// Something outside (disk, socket, service) failed; trying again may help.
    External,
    /// A broken promise of Hurtig itself.
    Internal,
}

/// A failure of the data plane.
#[derive(Debug)]
pub struct Error {
    fault: Fault,
    message: String,
    source: Option<UserError>,
    /// Whether trying again would end the same way for sure.
    permanent: bool,
    /// The worker that could not be reached.
    worker: Option<TaskManagerId>,
}

impl Error {
    /// A mistake in the program, its input or its configuration.
    pub fn user(message: impl Into<String>) -> Self {
        Self {
            fault: Fault::User,
            message: message.into(),
            source: None,
            permanent: false,
            worker: None,
        }
    }

    /// A failure outside of the engine.
    pub fn external(message: impl Into<String>, source: impl Into<UserError>) -> Self {
        Self {
            fault: Fault::External,
            message: message.into(),
            source: Some(source.into()),
            permanent: false,
            worker: None,
        }
    }

    /// A broken invariant of the engine: a bug.
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            fault: Fault::Internal,
            message: message.into(),
            source: None,
            permanent: false,
            worker: None,
        }
    }

    /// Adds the place or the doing that failed, keeping the cause.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        Self {
            fault: self.fault,
            message: message.into(),
            permanent: self.permanent,
            worker: self.worker,
            source: Some(Box::new(self)),
        }
    }

    /// Adds a cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<UserError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, of a kind that no restart helps against: the job fails, whatever its restart strategy says.
    #[must_use]
    pub fn for_good(self) -> Self {
        Self {
            permanent: true,
            ..self
        }
    }

    /// The same, because a worker could not be reached: if it is gone, much else fails of one cause.
    #[must_use]
    pub fn at_worker(self, worker: TaskManagerId) -> Self {
        Self {
            worker: Some(worker),
            ..self
        }
    }

    /// The worker that could not be reached, if that is the reason.
    pub fn worker(&self) -> Option<TaskManagerId> {
        self.worker
    }

    /// Whether no restart helps against it.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The message followed by every cause, joined by `: `.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Turns a user function's failure into an engine error.
pub fn user_failure(error: UserError) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => *ours,
        Err(theirs) => Error {
            fault: Fault::User,
            message: theirs.to_string(),
            source: theirs.source().map(text),
            permanent: false,
            worker: None,
        },
    }
}

fn text(source: &(dyn std::error::Error + 'static)) -> UserError {
    let mut message = source.to_string();
    let mut next = source.source();
    while let Some(cause) = next {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        next = cause.source();
    }
    message.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_lists_every_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let error = Error::external("cannot read a.txt", io).context("source 'lines', subtask 0");
        assert_eq!(
            error.chain(),
            "source 'lines', subtask 0: cannot read a.txt: disk on fire"
        );
        assert_eq!(error.fault(), Fault::External);
    }

    #[test]
    fn an_engine_error_that_passes_through_user_code_keeps_its_fault() {
        let boxed: UserError = Box::new(Error::internal("lost"));
        assert_eq!(user_failure(boxed).fault(), Fault::Internal);
        assert_eq!(user_failure("mine".into()).fault(), Fault::User);
    }

    #[test]
    fn what_no_restart_helps_against_stays_so_on_its_way() {
        let boxed: UserError = Box::new(Error::user("another type").for_good());
        assert!(user_failure(boxed).context("state 'total'").is_permanent());
        assert!(
            !Error::user("another type")
                .context("state 'total'")
                .is_permanent()
        );
    }
}
