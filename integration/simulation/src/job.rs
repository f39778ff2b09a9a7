//! The job that is simulated: a source with splits, a count by key, and a sink with transactions.

use crate::blobs::Blobs;
use hurtig_cluster::checkpoints::CheckpointSettings;
use hurtig_cluster::{
    CheckpointRetention, FailoverStrategy, JobSettings, RestartStrategyConfig, RestoreFrom, RestoreTarget,
    ScalingConfig,
};
use hurtig_core::ids::{CheckpointId, JobId, NodeId};
use hurtig_core::{Error, Result};
use hurtig_dataflow::graph::{
    GraphSettings, JobGraph, NodeKind, PartitionKind, StreamEdge, StreamGraph, StreamNode,
};
use hurtig_dataflow::source::{Assignment, Split, SplitEnumerator};
use hurtig_storage::{BlobStores, Compression, SavepointFormat, SnapshotFolder};
use hurtig_task::CheckpointStorage;
use hurtig_task::interface::{TaskDescriptor, TaskFactory, TaskHandle, TaskLink};
use std::sync::Arc;
use std::time::Duration;

/// Its id.
pub(crate) const JOB: JobId = JobId::from_u128(0x5131);
/// Subtasks of each vertex.
pub(crate) const PARALLELISM: u32 = 2;
/// Records of each split.
pub(crate) const RECORDS: u32 = 10;
/// Keys that there are.
pub(crate) const KEYS: u32 = 7;

/// source (2 subtasks) -> hash -> count (2) -> hash -> sink (2).
pub(crate) fn graph() -> std::result::Result<Arc<JobGraph>, String> {
    let mut graph = StreamGraph::new();
    let mut add = |name: &str, kind| {
        let mut node = StreamNode::new(name, name, kind);
        node.uid = Some(name.to_owned());
        node.parallelism = Some(PARALLELISM);
        graph.add_node(node)
    };
    let source = add("numbers", NodeKind::Source);
    let count = add("count", NodeKind::Operator);
    let sink = add("sink", NodeKind::Sink);
    for (from, to) in [(source, count), (count, sink)] {
        let key = "u32".to_owned();
        graph.add_edge(StreamEdge::new(from, to).partitioned(PartitionKind::Hash { key }));
    }
    let settings = GraphSettings {
        job_name: "simulated".to_owned(),
        ..GraphSettings::default()
    };
    let graph = graph
        .job_graph(JOB, &settings)
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(graph))
}

/// How it is run by a JobMaster that begins so.
pub(crate) fn settings(
    restore: Option<&str>,
    first: CheckpointId,
) -> std::result::Result<JobSettings, String> {
    let folder = restore.map(SnapshotFolder::of_path).transpose();
    let folder = folder.map_err(|error| error.to_string())?;
    Ok(JobSettings {
        restart: RestartStrategyConfig::FixedDelay {
            attempts: None,
            delay: Duration::from_secs(1),
        },
        failover: FailoverStrategy::Region,
        slot_request_timeout: Duration::from_secs(300),
        cancellation_timeout: Duration::from_secs(180),
        exception_history: 16,
        checkpoints: CheckpointSettings {
            interval: Some(Duration::from_secs(2)),
            timeout: Duration::from_secs(10),
            ..CheckpointSettings::default()
        },
        retained_checkpoints: 1,
        retention: CheckpointRetention::default(),
        restore: folder.map(|folder| RestoreFrom {
            checkpoint: RestoreTarget::Folder(folder),
            allow_non_restored_state: false,
            claim: true,
        }),
        stopped: None,
        savepoint_dir: None,
        savepoint_format: SavepointFormat::Canonical,
        first_checkpoint: first,
        age: Duration::ZERO,
        scaling: ScalingConfig::default(),
        requirements: None,
    })
}

/// Deals out the splits of an input that grows by one each second. It remembers which is the next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Splits {
    next: u32,
    back: Vec<Split>,
    /// How many there are by now, and whether none will come.
    pub(crate) there: (u32, bool),
}

impl SplitEnumerator for Splits {
    fn start(&mut self, _: u32) -> Result<()> {
        Ok(())
    }

    fn next_split(&mut self, _: u32) -> Result<Assignment> {
        if let Some(split) = self.back.pop() {
            return Ok(Assignment::Split(split));
        }
        let (there, closed) = self.there;
        if self.next < there {
            let id = self.next.to_string();
            self.next += 1;
            return Ok(Assignment::Split(Split {
                id,
                bytes: Vec::new(),
            }));
        }
        Ok(match closed {
            true => Assignment::NoMore,
            false => Assignment::Later(500),
        })
    }

    fn add_back(&mut self, splits: Vec<Split>) {
        self.back.extend(splits);
    }

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        let back: Vec<&str> = self.back.iter().map(|split| split.id.as_str()).collect();
        serde_json::to_vec(&(self.next, back)).map_err(|error| Error::internal(error.to_string()))
    }

    fn restore(&mut self, snapshot: &[u8], _: u32) -> Result<()> {
        let (next, back): (u32, Vec<String>) =
            serde_json::from_slice(snapshot).map_err(|error| Error::internal(error.to_string()))?;
        self.next = next;
        let split = |id| Split {
            id,
            bytes: Vec::new(),
        };
        self.back = back.into_iter().map(split).collect();
        Ok(())
    }
}

/// The program, as far as a JobMaster's storage asks for it.
pub(crate) struct Program {
    pub(crate) graph: Arc<JobGraph>,
    storage: CheckpointStorage,
}

impl Program {
    pub(crate) fn new(graph: Arc<JobGraph>, blobs: &Blobs) -> Self {
        let places = BlobStores::local().with("sim", Arc::new(blobs.clone()));
        let storage = CheckpointStorage::new(Arc::new(blobs.clone()), Compression::None).with_places(places);
        Self { graph, storage }
    }
}

impl TaskFactory for Program {
    fn job_graph(&self) -> &JobGraph {
        &self.graph
    }

    fn enumerator(&self, node: NodeId) -> Option<Box<dyn SplitEnumerator>> {
        (node == NodeId(0)).then(|| Box::new(Splits::default()) as Box<dyn SplitEnumerator>)
    }

    fn start_task(&self, _: TaskDescriptor, _: Box<dyn TaskLink>) -> Result<TaskHandle> {
        Err(Error::internal("tasks of a simulation are models"))
    }

    fn checkpoints(&self) -> Option<&CheckpointStorage> {
        Some(&self.storage)
    }
}
