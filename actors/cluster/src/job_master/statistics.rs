//! What became of a job's checkpoints and savepoints, for those who watch it.

use super::checkpoints::AbortReason;
use crate::config::CheckpointKind;
use hurtig_core::ids::{CheckpointId, ExecutionId, VertexId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::JobGraph;
use hurtig_storage::{CheckpointMetadata, SavepointFormat, SnapshotKind};
use hurtig_task::interface::{CheckpointPart, PartFigures};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Checkpoints that are remembered one by one (`web.checkpoints.history`).
const HISTORY: usize = 10;
/// Completed ones of which shares are computed.
const SAMPLES: usize = 1_000;
/// Subtasks of a job beyond which nothing is remembered of single ones.
const MAX_SUBTASKS: usize = 2_000;

/// Checkpoints and savepoints of a job since its JobMaster has begun.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointStatistics {
    /// Begun, savepoints included.
    pub triggered: u64,
    /// Durable, savepoints included.
    pub completed: u64,
    /// Given up, savepoints included. Those that ended with their job or its restart do not count.
    pub failed: u64,
    /// Under way.
    #[serde(default)]
    pub in_progress: u64,
    /// How often the job began with one.
    #[serde(default)]
    pub restored: u64,
    /// The last checkpoint that is durable.
    pub last_checkpoint: Option<CheckpointRecord>,
    /// The last savepoint that is durable.
    pub last_savepoint: Option<CheckpointRecord>,
    /// The last one that was given up.
    pub last_failure: Option<CheckpointRecord>,
    /// What the job began with.
    #[serde(default)]
    pub last_restored: Option<RestoredCheckpoint>,
    /// The last ones, newest first.
    #[serde(default)]
    pub history: Vec<CheckpointRecord>,
    /// Lengths of what was written for those that are durable.
    #[serde(default)]
    pub bytes: Spread,
    /// Lengths of everything that they name.
    #[serde(default)]
    pub full_bytes: Spread,
    /// Bytes of records that their barriers have overtaken; `None`: nobody has measured that.
    #[serde(default)]
    pub in_flight_bytes: Option<Spread>,
    /// Milliseconds from the trigger to durability.
    #[serde(default)]
    pub duration_ms: Spread,
}

impl CheckpointStatistics {
    /// What is known of one, if it is not forgotten.
    pub fn of(&self, checkpoint: CheckpointId) -> Option<&CheckpointRecord> {
        let latest = [&self.last_checkpoint, &self.last_savepoint, &self.last_failure];
        let mut known = self.history.iter().chain(latest.into_iter().flatten());
        known.find(|record| record.checkpoint == checkpoint)
    }

    fn records(&mut self) -> impl Iterator<Item = &mut CheckpointRecord> {
        let latest = [
            &mut self.last_checkpoint,
            &mut self.last_savepoint,
            &mut self.last_failure,
        ];
        self.history.iter_mut().chain(latest.into_iter().flatten())
    }

    /// Completes paths, which the one knows who knows where checkpoints are kept.
    pub(super) fn complete_paths(&mut self, whole: impl Fn(&str) -> Option<String>) {
        for record in self.records() {
            record.path = record.path.take().and_then(|path| whole(&path));
        }
    }
}

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotType {
    /// A checkpoint, as the configuration says or as somebody has asked for it.
    Checkpoint(CheckpointKind),
    /// A savepoint.
    Savepoint(SavepointFormat),
}

/// How far a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointStatus {
    /// It is under way.
    InProgress,
    /// It is durable.
    Completed,
    /// It was given up.
    Failed,
}

/// A checkpoint or savepoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// What it is.
    pub kind: SnapshotType,
    /// How far it is.
    pub status: CheckpointStatus,
    /// When it was triggered, in milliseconds since 1970.
    pub triggered_ms: i64,
    /// From its trigger until it was durable or given up, or until now.
    pub duration: Duration,
    /// Length of all its state files, as stored.
    pub bytes: u64,
    /// Length of the files of stores that it names beside them.
    #[serde(default)]
    pub stores: StoreBytes,
    /// Why it was given up.
    pub cause: Option<String>,
    /// Where it is, if that has a name.
    pub path: Option<String>,
    /// Whether it was deleted since.
    pub discarded: bool,
    /// What each vertex has contributed.
    pub vertices: BTreeMap<VertexId, VertexCheckpoint>,
}

impl CheckpointRecord {
    /// Bytes that were written for it.
    pub fn written(&self) -> u64 {
        self.bytes + self.stores.new
    }

    /// Bytes of everything that it names.
    pub fn full(&self) -> u64 {
        self.bytes + self.stores.all
    }

    /// Bytes of records that barriers have overtaken; `None`: not all tasks have measured that.
    pub fn in_flight_bytes(&self) -> Option<u64> {
        let mut vertices = self.vertices.values().map(VertexCheckpoint::in_flight_bytes);
        vertices.try_fold(0_u64, |sum, bytes| Some(sum + bytes?))
    }
}

/// Bytes of files of stores that a checkpoint names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreBytes {
    /// All of them.
    pub all: u64,
    /// Those that were written for it.
    pub new: u64,
}

impl StoreBytes {
    /// Those of a task.
    pub fn of(figures: &PartFigures) -> Self {
        Self {
            all: figures.named_bytes,
            new: figures.new_bytes,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            new: self.new + other.new,
        }
    }
}

impl VertexCheckpoint {
    /// Bytes of records that barriers have overtaken, so far; `None`: not all tasks have measured that.
    pub fn in_flight_bytes(&self) -> Option<u64> {
        (self.measured == self.acknowledged).then_some(self.in_flight_bytes)
    }
}

/// What a vertex has contributed to a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VertexCheckpoint {
    /// How many subtasks take part.
    pub subtasks: u32,
    /// How many of them have stored their part, or had nothing to store any more.
    pub acknowledged: u32,
    /// When the last one had, since the trigger.
    pub last: Option<Duration>,
    /// Length of their state files.
    pub bytes: u64,
    /// Length of the files of stores that it names beside them.
    #[serde(default)]
    pub stores: StoreBytes,
    /// Bytes of records that barriers have overtaken.
    #[serde(default)]
    pub in_flight_bytes: u64,
    /// How many of those that have acknowledged have measured that, or had nothing to store.
    #[serde(default)]
    pub measured: u32,
    /// Each of them that has, by its index; none when the job has too many.
    pub parts: BTreeMap<u32, SubtaskCheckpoint>,
}

/// What a subtask has contributed to a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubtaskCheckpoint {
    /// When the JobMaster knew of it, since the trigger.
    pub after: Duration,
    /// Length of its state file.
    pub bytes: u64,
    /// How long that took to be stored, beside the records; `None`: the subtask had finished.
    pub stored_in: Option<Duration>,
    /// Whether its barrier overtook records.
    pub overtook: bool,
    /// What it has measured.
    #[serde(default)]
    pub figures: Option<PartFigures>,
}

/// What a job began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredCheckpoint {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// Whether it is a savepoint.
    pub savepoint: bool,
    /// Where it is.
    pub path: String,
    /// When, in milliseconds since 1970.
    pub restored_ms: i64,
}

/// How numbers are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: u64,
    /// The greatest.
    pub max: u64,
    /// The mean.
    pub avg: u64,
    /// What these shares of the last ones do not exceed: 50, 90, 95, 99 and 99.9 %.
    pub shares: [f64; 5],
}

/// The shares of [`Spread`].
const SHARES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// Numbers as they come.
#[derive(Clone, Debug, Default)]
struct Sample {
    count: u64,
    sum: u128,
    least: u64,
    most: u64,
    last: VecDeque<u64>,
}

impl Sample {
    fn add(&mut self, value: u64) {
        self.least = if self.count == 0 {
            value
        } else {
            self.least.min(value)
        };
        self.most = self.most.max(value);
        self.count += 1;
        self.sum += u128::from(value);
        if self.last.len() == SAMPLES {
            self.last.pop_front();
        }
        self.last.push_back(value);
    }

    fn spread(&self) -> Spread {
        let mut sorted: Vec<u64> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let mean = self.sum.checked_div(u128::from(self.count)).unwrap_or(0);
        Spread {
            min: self.least,
            max: self.most,
            avg: u64::try_from(mean).unwrap_or(u64::MAX),
            shares: SHARES.map(|share| percentile(&sorted, share)),
        }
    }
}

/// Between the two numbers around the place `share * (n + 1)`, as statisticians and Flink do it.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is shown needs no more than 53 bits"
)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place within a short list"
)]
fn percentile(sorted: &[u64], share: f64) -> f64 {
    let place = share * (sorted.len() as f64 + 1.0);
    let below = place.floor() as usize;
    match (
        below.checked_sub(1).and_then(|at| sorted.get(at)),
        sorted.get(below),
    ) {
        (Some(low), Some(high)) => *low as f64 + (place - place.floor()) * (*high as f64 - *low as f64),
        (None, _) => sorted.first().map_or(0.0, |first| *first as f64),
        (Some(_), None) => sorted.last().map_or(0.0, |last| *last as f64),
    }
}

/// One that is remembered.
#[derive(Clone, Debug)]
struct Tracked {
    triggered: Time,
    record: CheckpointRecord,
}

/// Statistics as they grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Statistics {
    so_far: CheckpointStatistics,
    /// The last ones, oldest first, and those that are under way.
    history: VecDeque<Tracked>,
    /// The last ones of their kind, which may have left the history.
    latest: [Option<Tracked>; 3],
    restored: Option<(Time, RestoredCheckpoint)>,
    bytes: Sample,
    full_bytes: Sample,
    in_flight_bytes: Sample,
    duration_ms: Sample,
}

impl Statistics {
    pub(super) fn triggered(
        &mut self,
        now: Time,
        checkpoint: CheckpointId,
        kind: SnapshotType,
        graph: &JobGraph,
    ) {
        self.so_far.triggered += 1;
        let vertices = graph.vertices.iter().map(|vertex| {
            let subtasks = vertex.parallelism;
            let empty = VertexCheckpoint {
                subtasks,
                ..VertexCheckpoint::default()
            };
            (vertex.id, empty)
        });
        let record = CheckpointRecord {
            checkpoint,
            kind,
            status: CheckpointStatus::InProgress,
            triggered_ms: 0,
            duration: Duration::ZERO,
            bytes: 0,
            stores: StoreBytes::default(),
            cause: None,
            path: None,
            discarded: false,
            vertices: vertices.collect(),
        };
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Tracked {
            triggered: now,
            record,
        });
    }

    /// A task has stored its part, or has ended and owes none.
    pub(super) fn acknowledged(
        &mut self,
        now: Time,
        checkpoint: CheckpointId,
        execution: ExecutionId,
        part: Option<&CheckpointPart>,
    ) {
        let Some(tracked) = self.under_way(checkpoint) else {
            return;
        };
        let after = now.since(tracked.triggered);
        let all: u32 = tracked
            .record
            .vertices
            .values()
            .map(|vertex| vertex.subtasks)
            .sum();
        let vertex = tracked.record.vertices.get_mut(&execution.subtask.vertex);
        let Some(vertex) = vertex.filter(|vertex| !vertex.parts.contains_key(&execution.subtask.index))
        else {
            return;
        };
        let bytes = part
            .and_then(|part| part.handle.as_ref())
            .map_or(0, |handle| handle.bytes);
        let figures = part.and_then(|part| part.figures);
        vertex.acknowledged += 1;
        vertex.measured += u32::from(part.is_none() || figures.is_some());
        vertex.last = vertex.last.max(Some(after));
        vertex.bytes += bytes;
        if let Some(figures) = figures {
            vertex.stores = vertex.stores.plus(StoreBytes::of(&figures));
            vertex.in_flight_bytes += figures.in_flight_bytes;
        }
        if all as usize <= MAX_SUBTASKS {
            let stored_in = part.map(|part| part.stored_in);
            let own = SubtaskCheckpoint {
                after,
                bytes,
                stored_in,
                overtook: part.is_some_and(|part| part.overtook),
                figures,
            };
            vertex.parts.insert(execution.subtask.index, own);
        }
    }

    /// The one that tasks contribute to.
    pub(super) fn in_progress(&self) -> Option<CheckpointId> {
        let last = self.history.back()?;
        (last.record.status == CheckpointStatus::InProgress).then_some(last.record.checkpoint)
    }

    fn under_way(&mut self, checkpoint: CheckpointId) -> Option<&mut Tracked> {
        let mut tracked = self.history.iter_mut().rev();
        tracked.find(|one| {
            one.record.checkpoint == checkpoint && one.record.status == CheckpointStatus::InProgress
        })
    }

    /// `path` is where it is, as far as that is known here.
    pub(super) fn completed(&mut self, now: Time, metadata: &CheckpointMetadata, path: String) {
        let Some(tracked) = self.under_way(metadata.checkpoint_id) else {
            return;
        };
        tracked.record.status = CheckpointStatus::Completed;
        tracked.record.duration = now.since(tracked.triggered);
        let record = &mut tracked.record;
        let vertices = record.vertices.values().map(|vertex| vertex.stores);
        record.stores = vertices.fold(StoreBytes::default(), StoreBytes::plus);
        record.bytes = bytes(metadata);
        tracked.record.path = Some(path);
        let tracked = tracked.clone();
        let millis = tracked.record.duration.as_millis();
        self.so_far.completed += 1;
        self.bytes.add(tracked.record.written());
        self.full_bytes.add(tracked.record.full());
        if let Some(bytes) = tracked.record.in_flight_bytes() {
            self.in_flight_bytes.add(bytes);
        }
        self.duration_ms.add(u64::try_from(millis).unwrap_or(u64::MAX));
        match metadata.kind {
            SnapshotKind::Checkpoint => self.latest[0] = Some(tracked),
            SnapshotKind::Savepoint => self.latest[1] = Some(tracked),
        }
    }

    pub(super) fn aborted(&mut self, now: Time, checkpoint: CheckpointId, reason: &AbortReason) {
        if *reason == AbortReason::Stopped {
            let over = |one: &Tracked| {
                one.record.checkpoint == checkpoint && one.record.status == CheckpointStatus::InProgress
            };
            return self.history.retain(|one| !over(one));
        }
        let Some(tracked) = self.under_way(checkpoint) else {
            return;
        };
        tracked.record.status = CheckpointStatus::Failed;
        tracked.record.duration = now.since(tracked.triggered);
        tracked.record.cause = Some(reason.to_string());
        let tracked = tracked.clone();
        self.so_far.failed += 1;
        self.latest[2] = Some(tracked);
    }

    /// The job begins with this one.
    pub(super) fn restored(&mut self, now: Time, metadata: &CheckpointMetadata, path: String) {
        self.so_far.restored += 1;
        let restored = RestoredCheckpoint {
            checkpoint: metadata.checkpoint_id,
            savepoint: metadata.kind == SnapshotKind::Savepoint,
            path,
            restored_ms: 0,
        };
        self.restored = Some((now, restored));
    }

    /// All of it, at this time, of which `wall_ms` is the time of day. `retained` are the checkpoints that were not deleted.
    pub(super) fn at(
        &self,
        now: Time,
        wall_ms: i64,
        retained: &BTreeSet<CheckpointId>,
    ) -> CheckpointStatistics {
        let at = |time: Time| {
            wall_ms.saturating_sub(i64::try_from(now.since(time).as_millis()).unwrap_or(i64::MAX))
        };
        let seen = |tracked: &Tracked| {
            let mut record = tracked.record.clone();
            record.triggered_ms = at(tracked.triggered);
            match record.status {
                CheckpointStatus::InProgress => record.duration = now.since(tracked.triggered),
                CheckpointStatus::Failed => record.discarded = true,
                CheckpointStatus::Completed => {
                    let checkpoint = matches!(record.kind, SnapshotType::Checkpoint(_));
                    record.discarded = checkpoint && !retained.contains(&record.checkpoint);
                }
            }
            record
        };
        let [checkpoint, savepoint, failure] = &self.latest;
        let in_progress = |one: &&Tracked| one.record.status == CheckpointStatus::InProgress;
        CheckpointStatistics {
            in_progress: self.history.iter().filter(in_progress).count() as u64,
            last_checkpoint: checkpoint.as_ref().map(seen),
            last_savepoint: savepoint.as_ref().map(seen),
            last_failure: failure.as_ref().map(seen),
            last_restored: self.restored.as_ref().map(|(time, restored)| RestoredCheckpoint {
                restored_ms: at(*time),
                ..restored.clone()
            }),
            history: self.history.iter().rev().map(seen).collect(),
            bytes: self.bytes.spread(),
            full_bytes: self.full_bytes.spread(),
            in_flight_bytes: (self.in_flight_bytes.count > 0).then(|| self.in_flight_bytes.spread()),
            duration_ms: self.duration_ms.spread(),
            ..self.so_far.clone()
        }
    }
}

/// Operators of one chain share a file: each file counts once.
fn bytes(metadata: &CheckpointMetadata) -> u64 {
    let subtasks = metadata.operators.iter().flat_map(|one| one.subtasks.values());
    let handles = subtasks.filter_map(|subtask| subtask.handle.as_ref());
    let files: BTreeMap<&str, u64> = handles
        .map(|handle| (handle.path.as_str(), handle.bytes))
        .collect();
    files.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::{AttemptNumber, JobId, SubtaskId};
    use hurtig_dataflow::graph::{GraphSettings, NodeKind, StreamEdge, StreamGraph, StreamNode};

    fn graph() -> JobGraph {
        graph_with(&GraphSettings::default())
    }

    fn graph_with(settings: &GraphSettings) -> JobGraph {
        let mut graph = StreamGraph::new();
        let source = graph.add_node(StreamNode::new("numbers", "Source", NodeKind::Source));
        let sink = graph.add_node(StreamNode::new("out", "Sink", NodeKind::Sink));
        graph.add_edge(StreamEdge::new(source, sink));
        graph.job_graph(JobId::from_u128(1), settings).unwrap()
    }

    #[test]
    fn the_last_ones_are_remembered_and_survive_encoding() {
        let (graph, mut statistics) = (graph(), Statistics::default());
        let kind = SnapshotType::Checkpoint(CheckpointKind::Full);
        let execution = ExecutionId {
            subtask: SubtaskId {
                vertex: graph.vertices[0].id,
                index: 0,
            },
            attempt: AttemptNumber(0),
        };
        let at = |seconds| Time::from_nanos(seconds * 1_000_000_000);
        for id in 1..=13 {
            let id = CheckpointId(id);
            statistics.triggered(at(id.0), id, kind, &graph);
            statistics.acknowledged(at(id.0 + 1), id, execution, None);
            statistics.acknowledged(at(id.0 + 2), id, execution, None);
            if id.0 < 12 {
                let why = AbortReason::NotPublished(format!("full {id}"));
                statistics.aborted(at(id.0 + 3), id, &why);
            }
        }
        statistics.aborted(at(20), CheckpointId(13), &AbortReason::Stopped);
        let seen = statistics.at(at(20), 100_000, &BTreeSet::new());
        assert_eq!((seen.triggered, seen.failed, seen.in_progress), (13, 11, 1));
        let ids: Vec<u64> = seen.history.iter().map(|record| record.checkpoint.0).collect();
        assert_eq!(
            ids,
            (4..=12).rev().collect::<Vec<_>>(),
            "ten with the one that has ended with its job"
        );
        let [under_way, failed, ..] = &seen.history[..] else {
            panic!("{seen:?}")
        };
        assert_eq!(
            (under_way.status, under_way.duration.as_secs()),
            (CheckpointStatus::InProgress, 8)
        );
        assert_eq!((failed.triggered_ms, failed.duration.as_secs()), (91_000, 3));
        let vertex = &failed.vertices[&graph.vertices[0].id];
        assert_eq!(
            (vertex.subtasks, vertex.acknowledged),
            (1, 1),
            "a part counts once"
        );
        assert_eq!(vertex.last, Some(Duration::from_secs(1)));
        assert_eq!(seen.of(CheckpointId(11)), seen.last_failure.as_ref());
        assert_eq!(seen.of(CheckpointId(2)), None);
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<CheckpointStatistics>(&text).unwrap(), seen);
    }

    #[test]
    fn what_tasks_have_measured_is_added_up() {
        let two_vertices = GraphSettings {
            chaining: false,
            ..GraphSettings::default()
        };
        let (graph, mut statistics) = (graph_with(&two_vertices), Statistics::default());
        let kind = SnapshotType::Checkpoint(CheckpointKind::Incremental);
        let (one, at) = (CheckpointId(1), |millis: u64| {
            Time::from_nanos(millis * 1_000_000)
        });
        let of = |vertex: usize| ExecutionId {
            subtask: SubtaskId {
                vertex: graph.vertices[vertex].id,
                index: 0,
            },
            attempt: AttemptNumber(0),
        };
        let part = |figures| CheckpointPart {
            handle: None,
            shapes: Vec::new(),
            stored_in: Duration::ZERO,
            overtook: true,
            figures,
        };
        let figures = PartFigures {
            in_flight_bytes: 40,
            named_bytes: 1_000,
            new_bytes: 100,
            ..PartFigures::default()
        };
        statistics.triggered(at(0), one, kind, &graph);
        statistics.acknowledged(at(1), one, of(0), Some(&part(Some(figures))));
        let seen = statistics.at(at(2), 0, &BTreeSet::new());
        let vertex = &seen.history[0].vertices[&graph.vertices[0].id];
        let stores = StoreBytes { all: 1_000, new: 100 };
        assert_eq!((vertex.stores, vertex.in_flight_bytes()), (stores, Some(40)));
        // A program that was built before that could be measured: what is not known is not called nothing.
        statistics.acknowledged(at(3), one, of(1), Some(&part(None)));
        let seen = statistics.at(at(4), 0, &BTreeSet::new());
        assert_eq!(seen.history[0].in_flight_bytes(), None);
        let metadata = CheckpointMetadata {
            format_version: 2,
            checkpoint_id: one,
            kind: SnapshotKind::Checkpoint,
            job_id: JobId::from_u128(1),
            job_name: "numbers".to_owned(),
            triggered_ms: 0,
            key_hash_version: 1,
            supersedes: Vec::new(),
            native: None,
            operators: Vec::new(),
        };
        statistics.completed(at(5), &metadata, "chk-1".to_owned());
        let seen = statistics.at(at(6), 0, &BTreeSet::new());
        assert_eq!((seen.bytes.max, seen.full_bytes.max), (100, 1_000));
        assert_eq!(seen.in_flight_bytes, None, "not all have measured it");
    }

    #[test]
    fn shares_lie_between_numbers_and_are_of_the_last_ones_only() {
        let mut sample = Sample::default();
        assert_eq!(sample.spread(), Spread::default());
        sample.add(40);
        assert_eq!(sample.spread().shares, [40.0; 5], "one number is every share");
        [10, 20, 30].into_iter().for_each(|value| sample.add(value));
        let spread = sample.spread();
        assert_eq!((spread.min, spread.max, spread.avg), (10, 40, 25));
        // The place of the half is 2.5, those of the others are beyond the last.
        assert_eq!(spread.shares, [25.0, 40.0, 40.0, 40.0, 40.0]);
        (0..SAMPLES).for_each(|_| sample.add(7));
        let spread = sample.spread();
        assert_eq!((spread.min, spread.max, spread.shares[2]), (7, 40, 7.0));
    }
}
