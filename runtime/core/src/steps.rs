//! Named steps of the checkpoint and commit protocols, at which tests end the process.
//!
//! Without the feature `steps`, which only tests enable, reaching one costs nothing and does nothing. With it, a
//! process whose environment, or one of whose arguments, says `DIE_AT_STEP=checkpoint published:3` aborts when it reaches that
//! step for the third time, without unwinding and without closing anything, as at kill -9. With `DIE_AT_STEP=cleared:1:/some/file`
//! only the first of several processes does, which makes that file.

/// The variable that names a step and how often it is reached before the process ends.
pub const DIE_AT: &str = "DIE_AT_STEP";

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal,)*) => {
        /// A step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step { $($(#[$doc])* $step,)* }

        impl Step {
            /// All of them.
            pub const ALL: &[Step] = &[$(Step::$step),*];

            /// The name in [`DIE_AT`].
            pub const fn name(self) -> &'static str {
                match self { $(Step::$step => $name,)* }
            }
        }
    };
}

steps! {
    /// A task is about to be told of a checkpoint.
    Triggering = "triggering",
    /// A barrier has left a task; its part is not stored.
    Cut = "cut",
    /// A file of a checkpoint is written under a temporary name.
    FileWritten = "file written",
    /// A file of a checkpoint has its name.
    FilePublished = "file published",
    /// A task's part is stored; nobody has been told.
    PartStored = "part stored",
    /// All parts are acknowledged; no metadata are written.
    Publishing = "publishing",
    /// The savepoint of a stop is complete; nothing says that the job has stopped with it.
    SavepointComplete = "savepoint complete",
    /// The metadata are written; no task was told.
    Published = "checkpoint published",
    /// A task was told that a checkpoint is complete; its operators were not.
    Notified = "notified",
    /// A sink is about to make a file visible.
    Completing = "completing a file",
    /// A sink has made a file visible.
    FileCompleted = "file completed",
    /// A task's operators have committed.
    Committed = "committed",
    /// An old checkpoint is about to be deleted.
    Discarding = "discarding",
    /// Its metadata are deleted, and nothing else.
    HalfDiscarded = "half discarded",
    /// The end that a job comes to is recorded; its checkpoints are there.
    EndBegun = "end begun",
    /// Nothing of its checkpoints is left; its end was not told.
    Cleared = "cleared",
    /// The checkpoint that the job begins with is found.
    Found = "checkpoint found",
    /// A task's state is loaded; its operators are not open.
    Loaded = "state loaded",
    /// A task's operators are open, and have committed what was to be.
    Restored = "restored",
}

/// Ends the process if it was told to at this step.
#[inline]
pub fn reached(step: Step) {
    #[cfg(feature = "steps")]
    deadly::reached(step);
    #[cfg(not(feature = "steps"))]
    let _ = step;
}

#[cfg(feature = "steps")]
mod deadly {
    use super::{DIE_AT, Step};
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Death {
        step: String,
        /// Whoever makes this file dies.
        mark: Option<PathBuf>,
        /// How often it is still reached before the process ends.
        left: AtomicU64,
    }

    static DEATH: OnceLock<Option<Death>> = OnceLock::new();

    pub(super) fn reached(step: Step) {
        let death = DEATH.get_or_init(|| wanted().as_deref().and_then(death));
        if let Some(death) = death.as_ref().filter(|death| death.step == step.name())
            && death.left.fetch_sub(1, Ordering::SeqCst) == 1
            && death
                .mark
                .as_ref()
                .is_none_or(|mark| File::create_new(mark).is_ok())
        {
            std::process::abort();
        }
    }

    fn wanted() -> Option<String> {
        let argument = |argument: String| Some(argument.strip_prefix(DIE_AT)?.strip_prefix('=')?.to_owned());
        std::env::var(DIE_AT)
            .ok()
            .or_else(|| std::env::args().find_map(argument))
    }

    fn death(text: &str) -> Option<Death> {
        let mut parts = text.splitn(3, ':');
        Some(Death {
            step: parts.next()?.to_owned(),
            left: AtomicU64::new(parts.next()?.parse().ok()?),
            mark: parts.next().map(PathBuf::from),
        })
    }
}
