//! What the torture kit has to say about an operator.

use hurtig_core::Error;
use std::fmt;

/// A broken promise of the operator contract.
#[derive(Debug)]
pub enum Violation {
    /// The output is not that of the plain run.
    OutputDiffers {
        /// Where: the main output or a side output, and after which steps.
        place: String,
        /// What the plain run emitted there.
        plain: String,
        /// What this run emitted.
        here: String,
    },
    /// `Done` was returned with records left in the input.
    DoneWithInput {
        /// How many.
        left: usize,
    },
    /// `More` was returned although neither fuel was spent nor an output filled.
    NoProgress,
    /// Records were pushed although the output was full when the call began.
    PushedIntoFull {
        /// How many.
        pushed: usize,
    },
    /// One call emitted more than its output's limit plus the most that one unit of fuel brings.
    Overshot {
        /// Records emitted by the call.
        emitted: usize,
        /// What was allowed.
        allowed: usize,
    },
    /// More records were consumed than the call had fuel for.
    OverBudget {
        /// Records consumed.
        consumed: usize,
        /// Fuel of the call.
        fuel: u32,
    },
    /// A step took more calls, or more fuel, than any script can need.
    NeverDone {
        /// Calls made so far.
        calls: usize,
    },
    /// `Wait` was returned, but no future of the operator can end the wait.
    WaitsForNothing,
    /// The operator failed.
    Failed(Error),
    /// The operator panicked.
    Panicked(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutputDiffers { place, plain, here } => {
                write!(
                    f,
                    "other output than in the plain run, {place}\n  plain: {plain}\n  here:  {here}"
                )
            }
            Self::DoneWithInput { left } => write!(f, "returned Done with {left} records left in its input"),
            Self::NoProgress => write!(f, "returned More without having spent fuel or filled an output"),
            Self::PushedIntoFull { pushed } => {
                write!(
                    f,
                    "pushed {pushed} records into an output that was full before the call (ask out.full())"
                )
            }
            Self::Overshot { emitted, allowed } => write!(
                f,
                "emitted {emitted} records in one call where {allowed} were allowed (ask out.full() between records)"
            ),
            Self::OverBudget { consumed, fuel } => {
                write!(
                    f,
                    "consumed {consumed} records with fuel for {fuel} (ask Budget::spend or take)"
                )
            }
            Self::NeverDone { calls } => write!(f, "still not done with the step after {calls} calls in all"),
            Self::WaitsForNothing => write!(f, "returned Wait without a future that could end it"),
            Self::Failed(error) => write!(f, "failed: {}", error.chain()),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
        }
    }
}

/// A violation and where it happened.
#[derive(Debug)]
pub struct TortureFailure {
    /// The way in which the operator was run.
    pub mode: String,
    /// The step of the script, or what comes after its end.
    pub step: String,
    /// What went wrong.
    pub violation: Violation,
}

impl fmt::Display for TortureFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run '{}', {}: {}", self.mode, self.step, self.violation)
    }
}

impl std::error::Error for TortureFailure {}
