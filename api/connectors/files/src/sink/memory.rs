//! What the writers of a folder remember in snapshots, and how they find the folder again.

use super::folder::{FileSink, REMEDY};
use super::names::{FoundPart, PartNames, Stage};
use super::output::{complete, failed};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Error, Result};
use hurtig_dataflow::operator::{OpenContext, SubtaskInfo};
use hurtig_state::{OperatorSnapshot, Redistribution};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::PoisonError;

/// Names of the snapshot's sections. Everybody gets the whole of each, and takes what has its number.
const PENDING: &str = "pending-parts";
const OPEN: &str = "open-parts";
const COUNTERS: &str = "part-counters";

/// A complete part that no checkpoint has committed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PendingPart {
    /// Its name with the bucket before it.
    pub(super) name: String,
    /// Whose it is. Snapshots of old do not say so: the name does.
    #[serde(default)]
    subtask: Option<u32>,
    /// The checkpoint that commits it; `None` before its barrier.
    pub(super) checkpoint: Option<CheckpointId>,
}

impl PendingPart {
    pub(super) fn new(name: String, subtask: u32) -> Self {
        Self {
            name,
            subtask: Some(subtask),
            checkpoint: None,
        }
    }

    fn subtask(&self) -> Option<u32> {
        let named = || PartNames::default().parse(&self.name);
        self.subtask.or_else(|| Some(named()?.0))
    }
}

/// A part that was being written at the barrier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OpenPart {
    /// Its name with the bucket before it.
    pub(super) name: String,
    pub(super) subtask: u32,
    /// Bytes that it had at the barrier.
    pub(super) length: u64,
    pub(super) begun_ms: i64,
    pub(super) written_ms: i64,
}

/// Adds the sections to a snapshot.
pub(super) fn remember(
    snapshot: &mut OperatorSnapshot,
    pending: &[PendingPart],
    open: &[OpenPart],
    counters: &BTreeMap<u32, u64>,
) -> Result<()> {
    let counters: Vec<(u32, u64)> = counters.iter().map(|(subtask, next)| (*subtask, *next)).collect();
    snapshot.put_operator(PENDING, Redistribution::Union, pending)?;
    snapshot.put_operator(OPEN, Redistribution::Union, open)?;
    snapshot.put_operator(COUNTERS, Redistribution::Union, &counters)
}

/// What a writer goes on with.
pub(super) struct Recovered {
    /// Parts to go on with: its own, and those of subtasks that are no more.
    pub(super) open: Vec<OpenPart>,
    /// The number of the next part by subtask.
    pub(super) counters: BTreeMap<u32, u64>,
}

/// Whether a part is this subtask's to commit or delete. The first one also answers for subtasks of a job that
/// had more.
fn owns(subtask: u32, info: &SubtaskInfo) -> bool {
    subtask == info.index || (info.index == 0 && subtask >= info.parallelism)
}

/// Commits what the restored snapshot promises, deletes what nobody will commit, and finds the first number that
/// is free.
pub(super) fn recover<F, B>(
    sink: &FileSink<F, B>,
    buckets: bool,
    ctx: &OpenContext<'_>,
) -> Result<Recovered> {
    let info = ctx.info();
    let mut promised: Vec<PendingPart> = section(ctx, PENDING)?;
    promised.retain(|part| part.subtask().is_some_and(|subtask| owns(subtask, info)));
    for part in &promised {
        complete(&sink.folder.join(&part.name))?;
    }
    let mut open: Vec<OpenPart> = section(ctx, OPEN)?;
    open.retain(|part| owns(part.subtask, info));
    let mut counters: BTreeMap<u32, u64> = section::<(u32, u64)>(ctx, COUNTERS)?.into_iter().collect();
    counters.retain(|subtask, _| owns(*subtask, info));
    let known: BTreeSet<String> = open.iter().map(|part| part.name.clone()).collect();
    let fates = Fates {
        sink,
        info,
        restored: ctx.restored().is_some(),
        takes_checkpoints: ctx.takes_checkpoints(),
        begun: sink.begun.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    };
    for part in sink.names.find(&sink.folder, buckets)? {
        if !owns(part.subtask, info) {
            continue;
        }
        if known.contains(&part.name) || fates.keeps(&part)? {
            let next = counters.entry(part.subtask).or_default();
            *next = (*next).max(part.counter + 1);
        } else {
            let path = sink.folder.join(&part.file);
            fs::remove_file(&path).map_err(failed("delete", &path))?;
        }
    }
    note_first(sink, info, counters.get(&info.index).copied().unwrap_or(0));
    Ok(Recovered { open, counters })
}

/// Notes the first number of this job.
fn note_first<F, B>(sink: &FileSink<F, B>, info: &SubtaskInfo, first: u64) {
    let mut begun = sink.begun.lock().unwrap_or_else(PoisonError::into_inner);
    if info.attempt == 0 {
        begun.insert(info.index, first);
    } else {
        begun.entry(info.index).or_insert(first);
    }
}

fn section<V: DeserializeOwned>(ctx: &OpenContext<'_>, name: &str) -> Result<Vec<V>> {
    ctx.restored()
        .map_or(Ok(Vec::new()), |state| state.operator::<V>(name))
}

/// What becomes of parts that the restored snapshot does not promise.
struct Fates<'a, F, B> {
    sink: &'a FileSink<F, B>,
    info: &'a SubtaskInfo,
    restored: bool,
    takes_checkpoints: bool,
    begun: BTreeMap<u32, u64>,
}

impl<F, B> Fates<'_, F, B> {
    /// Whether an attempt of this job in this process has written it.
    fn is_ours(&self, part: &FoundPart) -> bool {
        let first = self.begun.get(&part.subtask);
        self.info.attempt > 0 && first.is_some_and(|first| part.counter >= *first)
    }

    /// Whether a part stays; otherwise it is to be deleted.
    ///
    /// # Errors
    /// When it may not stay and may not be deleted either.
    fn keeps(&self, part: &FoundPart) -> Result<bool> {
        // Without checkpoints everything that former attempts wrote comes again. With them nothing of this job
        // is visible before the first one, and everything that is belongs to one that has completed.
        let comes_again = self.is_ours(part) && !self.takes_checkpoints;
        match part.stage {
            Stage::InProgress => Ok(false),
            // A savepoint or an older checkpoint may count on it.
            Stage::Pending => Ok(self.restored || !(self.sink.overwrite || self.is_ours(part))),
            Stage::Visible if comes_again => Ok(false),
            Stage::Visible if self.restored => Ok(true),
            Stage::Visible if self.sink.overwrite => Ok(false),
            Stage::Visible => Err(Error::user(format!(
                "output file '{}' exists; {REMEDY}",
                self.sink.folder.join(&part.file).display()
            ))),
        }
    }
}
