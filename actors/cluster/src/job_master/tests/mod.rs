//! The JobMaster's brain against tables, arithmetic, and a naive model of its tasks.

mod backlog;
mod checkpoints;
mod lives;
mod losses;
mod overview;
mod random;
mod region_model;
mod regions;
mod requests;
mod rescaling;
mod restarts;
mod savepoints;
mod states;
mod workers;

use super::checkpoints::CheckpointSettings;
use super::{JobEffect, JobEvent, JobMasterBrain, JobSettings};
use crate::config::ScalingConfig;
use crate::config::{CheckpointRetention, FailoverStrategy, RestartStrategyConfig};
use crate::messages::{JobMasterMessage, SlotNeed};
use crate::result::JobResult;
use hurtig_core::Error;
use hurtig_core::ids::{AllocationId, CheckpointId, ExecutionId, JobId, NodeId, TaskManagerId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{
    GraphSettings, JobGraph, JobStatus, NodeKind, PartitionKind, StreamEdge, StreamGraph, StreamNode,
    TaskState,
};
use hurtig_storage::SavepointFormat;
use hurtig_task::interface::{TaskDescriptor, TaskFailure};
use std::sync::Arc;
use std::time::Duration;

pub(super) const HOST: TaskManagerId = TaskManagerId::from_u128(7);
pub(super) const SOURCE: NodeId = NodeId(0);

/// source (2 subtasks) -> hash -> count (3 subtasks).
pub(super) fn job() -> Arc<JobGraph> {
    let mut graph = StreamGraph::new();
    let mut source = StreamNode::new("numbers", "Source", NodeKind::Source);
    source.parallelism = Some(2);
    source.uid = Some("in".to_owned());
    let mut sink = StreamNode::new("count", "Sink", NodeKind::Sink);
    sink.parallelism = Some(3);
    let (source, sink) = (graph.add_node(source), graph.add_node(sink));
    let hash = PartitionKind::Hash {
        key: "u64".to_owned(),
    };
    graph.add_edge(StreamEdge::new(source, sink).partitioned(hash));
    Arc::new(
        graph
            .job_graph(JobId::from_u128(1), &GraphSettings::default())
            .unwrap(),
    )
}

pub(super) fn settings(restart: RestartStrategyConfig) -> JobSettings {
    JobSettings {
        restart,
        failover: FailoverStrategy::Region,
        slot_request_timeout: Duration::from_secs(300),
        cancellation_timeout: Duration::from_secs(30),
        exception_history: 4,
        checkpoints: CheckpointSettings::default(),
        retained_checkpoints: 1,
        retention: CheckpointRetention::default(),
        restore: None,
        stopped: None,
        savepoint_dir: None,
        savepoint_format: SavepointFormat::Canonical,
        first_checkpoint: CheckpointId(1),
        age: Duration::ZERO,
        scaling: ScalingConfig::default(),
        requirements: None,
    }
}

pub(super) fn fixed(attempts: u32) -> RestartStrategyConfig {
    RestartStrategyConfig::FixedDelay {
        attempts: Some(attempts),
        delay: Duration::from_secs(1),
    }
}

/// A brain with a clock, and everything that it wanted done and nobody looked at.
pub(super) struct Bench {
    pub(super) brain: JobMasterBrain,
    pub(super) now: Time,
    pub(super) effects: Vec<JobEffect>,
}

impl Bench {
    pub(super) fn new(restart: RestartStrategyConfig) -> Self {
        Self::with(settings(restart))
    }

    pub(super) fn with(settings: JobSettings) -> Self {
        Self::of_job(job(), settings)
    }

    pub(super) fn of_job(job: Arc<JobGraph>, settings: JobSettings) -> Self {
        let brain = JobMasterBrain::new(job, settings, Time::ZERO);
        let mut bench = Self {
            brain,
            now: Time::ZERO,
            effects: Vec::new(),
        };
        bench.event(JobEvent::Start);
        bench
    }

    /// A job whose five tasks were deployed.
    pub(super) fn deployed(restart: RestartStrategyConfig) -> Self {
        let mut bench = Self::new(restart);
        bench.offer(3);
        bench.started(true);
        bench
    }

    /// A job whose five tasks run.
    pub(super) fn running(restart: RestartStrategyConfig) -> Self {
        let mut bench = Self::deployed(restart);
        bench.run_all();
        bench.take();
        bench
    }

    pub(super) fn run_all(&mut self) {
        for execution in self.executions() {
            self.state(execution, TaskState::Initializing);
            self.state(execution, TaskState::Running);
        }
    }

    pub(super) fn event(&mut self, event: JobEvent) {
        self.brain.handle(self.now, event, &mut self.effects);
    }

    pub(super) fn message(&mut self, message: JobMasterMessage) {
        self.event(JobEvent::Message(message));
    }

    pub(super) fn offer(&mut self, slots: u128) {
        let allocations = (0..slots).map(AllocationId::from_u128).collect();
        self.message(JobMasterMessage::SlotsOffered {
            task_manager: HOST,
            allocations,
            exchange: None,
            of: None,
        });
    }

    pub(super) fn started(&mut self, enumerates: bool) {
        let generation = self.brain.splits.generation(SOURCE);
        self.event(JobEvent::EnumeratorStarted {
            generation,
            node: SOURCE,
            enumerates,
        });
    }

    pub(super) fn state(&mut self, execution: ExecutionId, state: TaskState) {
        let failure = (state == TaskState::Failed).then(|| failure(&format!("boom {execution}")));
        self.message(JobMasterMessage::TaskStateChanged {
            execution,
            state,
            failure,
        });
    }

    pub(super) fn all(&mut self, state: TaskState) {
        self.executions()
            .into_iter()
            .for_each(|execution| self.state(execution, state));
    }

    pub(super) fn executions(&self) -> Vec<ExecutionId> {
        self.brain
            .graph()
            .executions()
            .map(|execution| execution.id)
            .collect()
    }

    /// The executions of the source, then those of the sink.
    pub(super) fn of(&self, vertex: usize) -> Vec<ExecutionId> {
        let vertex = self.brain.graph().job_graph().vertices[vertex].id;
        self.executions()
            .into_iter()
            .filter(|id| id.subtask.vertex == vertex)
            .collect()
    }

    pub(super) fn take(&mut self) -> Vec<JobEffect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn deployments(&mut self) -> Vec<TaskDescriptor> {
        let deployed = self.take().into_iter().filter_map(|effect| match effect {
            JobEffect::Deploy { descriptor, .. } => Some(*descriptor),
            _ => None,
        });
        deployed.collect()
    }

    pub(super) fn cancels(&self) -> Vec<ExecutionId> {
        let cancels = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::CancelTask { execution, .. } => Some(*execution),
            _ => None,
        });
        cancels.collect()
    }

    pub(super) fn result(&self) -> Option<&JobResult> {
        self.effects.iter().find_map(|effect| match effect {
            JobEffect::Ended(result) => Some(&**result),
            _ => None,
        })
    }

    pub(super) fn timers(&self) -> Vec<(Duration, JobEvent)> {
        let timers = self.effects.iter().filter_map(|effect| match effect {
            JobEffect::After(delay, event) => Some((*delay, event.clone())),
            _ => None,
        });
        timers.collect()
    }

    /// The timer of the last restart that was decided on.
    #[track_caller]
    pub(super) fn restart_timer(&self) -> (Duration, JobEvent) {
        let timers = self.timers().into_iter();
        let mut restarts = timers.filter(|(_, event)| matches!(event, JobEvent::RestartDue { .. }));
        restarts.next_back().unwrap()
    }

    /// Its delay is over.
    #[track_caller]
    pub(super) fn restart(&mut self) {
        let (delay, due) = self.restart_timer();
        self.now = self.now.after(delay);
        self.event(due);
    }

    /// The deployment of the region of the first task.
    pub(super) fn generation(&self) -> u32 {
        self.brain.graph().regions()[0].generation
    }

    #[track_caller]
    pub(super) fn is(&self, status: JobStatus) {
        assert_eq!(self.brain.status(), status);
    }
}

pub(super) fn failure(message: &str) -> TaskFailure {
    TaskFailure::new(&Error::user(message), None)
}
