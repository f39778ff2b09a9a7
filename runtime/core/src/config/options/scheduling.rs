//! Options of scheduling: with which slots a job begins, and when it goes over to another parallelism.

use std::time::Duration;

use crate::config::{AnyOption, ConfigOption, Scheduler, SchedulerMode, Scope};

/// Whether a job needs all slots of its plan.
pub static SCHEDULER: ConfigOption<Scheduler> = ConfigOption::new(
    "jobmanager.scheduler",
    Scope::Program,
    || Scheduler::Default,
    "Which slots a job waits for: under `Default` all that its plan needs; under `Adaptive` it runs with those that there are, \
     up to the parallelism of its plan. Operators whose parallelism the program sets keep it. Whatever is set here, \
     `hurtig rescale` changes it for a job that runs.",
)
.flink("Default");

/// Whether a job uses all there is.
pub static SCHEDULER_MODE: ConfigOption<Option<SchedulerMode>> = ConfigOption::new(
    "scheduler-mode",
    Scope::Program,
    || None,
    "`reactive`: a job uses all slots that there are, up to its max parallelism, whatever parallelism it was planned with. \
     Operators whose parallelism the program sets keep it.",
)
.flink("(none)");

/// Patience of a job that begins.
pub static RESOURCE_WAIT: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.submission.resource-wait-timeout",
    Scope::Program,
    || Duration::from_secs(300),
    "How long an adaptive job that is to begin, or to begin again after a failure, waits for the slots that it needs at least. \
     It fails then.",
)
.flink("5 min")
.accepting(|wait| !wait.is_zero(), "a duration of more than 0");

/// Hope of a job that begins.
pub static BEGIN_STABILIZATION: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout",
    Scope::Program,
    || Duration::from_secs(10),
    "How long an adaptive job that is to begin, or to begin again with slots lost, waits for more once it has what it needs at \
     least. 0 when `scheduler-mode` is `reactive` and this is not set.",
)
.flink("10 s");

/// Hope of a job that runs.
pub static STABILIZATION: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout",
    Scope::Program,
    || Duration::from_secs(60),
    "How long a job that runs waits for still more slots once it could use some, before it takes them. It does not wait when it \
     has all that it can use. 0 when `scheduler-mode` is `reactive` and this is not set.",
)
.flink("1 min");

/// Rest between two changes.
pub static COOLDOWN: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling",
    Scope::Program,
    || Duration::from_secs(30),
    "How long a job runs at least before it takes slots that have come. Whoever declares another parallelism does not wait.",
)
.flink("30 s");

/// The longest time until a change.
pub static RESCALE_DELAY: ConfigOption<Option<Duration>> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.rescale-trigger.max-delay",
    Scope::Program,
    || None,
    "How long a job that changes its parallelism waits for the checkpoint that it goes on from. Then it goes on from the one \
     before. When it is not set, as long as that takes.",
)
.flink("(none)");

/// Whether a checkpoint is taken for a change.
pub static ACTIVE_CHECKPOINT: ConfigOption<bool> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.rescale-trigger.active-checkpoint.enabled",
    Scope::Program,
    || true,
    "Whether a job with checkpoints takes one before it changes its parallelism, so that nothing is done twice; otherwise it \
     waits for the next one.",
)
.flink("true");

/// How often a checkpoint is tried for a change.
pub static RESCALE_CHECKPOINT_FAILURES: ConfigOption<u32> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.rescale-trigger.max-checkpoint-failures",
    Scope::Program,
    || 2,
    "After so many failed checkpoints a job that changes its parallelism goes on from the last complete one.",
)
.flink("2")
.accepting(|failures| *failures > 0, "an integer of at least 1");

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &SCHEDULER,
    &SCHEDULER_MODE,
    &RESOURCE_WAIT,
    &BEGIN_STABILIZATION,
    &STABILIZATION,
    &COOLDOWN,
    &RESCALE_DELAY,
    &ACTIVE_CHECKPOINT,
    &RESCALE_CHECKPOINT_FAILURES,
];
