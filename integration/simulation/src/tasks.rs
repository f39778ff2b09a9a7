//! Models of tasks: what a task owes its job, without operators, threads and files. A task is a brain: it is told what comes and says
//! what it does.

use crate::job::{KEYS, PARALLELISM, RECORDS};
use crate::messages::{Element, Record};
use hurtig_core::ids::{CheckpointId, SubtaskId};
use hurtig_task::interface::TaskDescriptor;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// What it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Send(SubtaskId, Element),
    RequestSplit,
    /// Its part of a checkpoint is cut.
    Cut(CheckpointId, Vec<u8>),
    /// It needs a checkpoint to end.
    RequestCheckpoint,
    /// A transaction becomes visible.
    Commit(String, Vec<Record>),
    Finished,
}

/// What its place in the graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    Count,
    Sink,
}

/// A transaction that is prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Prepared {
    checkpoint: u64,
    name: String,
    records: Vec<Record>,
}

/// What it remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    /// Of a source: splits that it reads, and how far it is.
    splits: VecDeque<(u32, u32)>,
    counts: BTreeMap<u32, u32>,
    prepared: Vec<Prepared>,
}

#[derive(Clone, Debug, Default)]
struct Channel {
    queue: VecDeque<Element>,
    barrier: Option<CheckpointId>,
    ended: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) descriptor: TaskDescriptor,
    role: Role,
    memory: Remembered,
    /// Of a sink: records since the last barrier.
    open: Vec<Record>,
    inputs: BTreeMap<SubtaskId, Channel>,
    outputs: Vec<SubtaskId>,
    asked: bool,
    no_more: bool,
    /// The last checkpoint that it was cut for.
    cut: Option<CheckpointId>,
    triggered: Option<CheckpointId>,
    /// It waits for a checkpoint that was cut after its end.
    ending: bool,
    cut_at_end: Option<CheckpointId>,
    over: bool,
}

impl Task {
    /// A task with what it had stored; `inputs` and `outputs` are the subtasks that it is connected with.
    pub(crate) fn new(
        descriptor: TaskDescriptor,
        role: Role,
        (inputs, outputs): (Vec<SubtaskId>, Vec<SubtaskId>),
        state: Option<&[u8]>,
    ) -> Result<Self, String> {
        let memory = match state {
            Some(state) => serde_json::from_slice(state).map_err(|error| error.to_string())?,
            None => Remembered::default(),
        };
        let inputs = inputs
            .into_iter()
            .map(|from| (from, Channel::default()))
            .collect();
        Ok(Self {
            descriptor,
            role,
            memory,
            open: Vec::new(),
            inputs,
            outputs,
            asked: false,
            no_more: false,
            cut: None,
            triggered: None,
            ending: false,
            cut_at_end: None,
            over: false,
        })
    }

    pub(crate) fn is_source(&self) -> bool {
        self.role == Role::Source
    }

    /// It runs.
    pub(crate) fn begin(&mut self, out: &mut Vec<Act>) {
        let restore = self.descriptor.restore.clone();
        // What is restored was completed: it is committed, again perhaps.
        for prepared in std::mem::take(&mut self.memory.prepared) {
            out.push(Act::Commit(prepared.name, prepared.records));
        }
        if restore.is_some_and(|restore| restore.finished) {
            self.finish(out);
        }
    }

    /// A source reads a little.
    pub(crate) fn step(&mut self, out: &mut Vec<Act>) {
        if self.over || self.role != Role::Source {
            return;
        }
        let Some((split, next)) = self.memory.splits.pop_front() else {
            if self.no_more {
                return self.finish(out);
            }
            if !self.asked {
                self.asked = true;
                out.push(Act::RequestSplit);
            }
            return;
        };
        let end = (next + 5).min(RECORDS);
        let records = (next..end).map(|index| Record {
            split,
            index,
            key: (split * 3 + index) % KEYS,
            count: 0,
        });
        self.scatter(records.collect(), |record| record.key, out);
        if end < RECORDS {
            self.memory.splits.push_front((split, end));
        }
    }

    pub(crate) fn add_split(&mut self, split: Option<u32>) {
        self.asked = false;
        match split {
            Some(split) => self.memory.splits.push_back((split, 0)),
            None => self.no_more = true,
        }
    }

    pub(crate) fn trigger(&mut self, checkpoint: CheckpointId, out: &mut Vec<Act>) {
        if self.over || self.cut.is_some_and(|cut| cut >= checkpoint) {
            return;
        }
        if self.role == Role::Source {
            return self.cut(checkpoint, out);
        }
        self.triggered = Some(checkpoint);
        self.align(out);
    }

    pub(crate) fn completed(&mut self, checkpoint: CheckpointId, out: &mut Vec<Act>) {
        let prepared = std::mem::take(&mut self.memory.prepared);
        let (ready, later) = prepared
            .into_iter()
            .partition(|one| one.checkpoint <= checkpoint.0);
        self.memory.prepared = later;
        let ready: Vec<Prepared> = ready;
        for prepared in ready {
            out.push(Act::Commit(prepared.name, prepared.records));
        }
        if self.cut_at_end.is_some_and(|cut| cut <= checkpoint) {
            self.finish(out);
        }
    }

    pub(crate) fn aborted(&mut self, checkpoint: CheckpointId, out: &mut Vec<Act>) {
        for channel in self
            .inputs
            .values_mut()
            .filter(|channel| channel.barrier == Some(checkpoint))
        {
            channel.barrier = None;
        }
        if self.triggered == Some(checkpoint) {
            self.triggered = None;
        }
        if self.cut_at_end == Some(checkpoint) {
            self.cut_at_end = None;
            out.push(Act::RequestCheckpoint);
        }
        self.read(out);
    }

    pub(crate) fn take(&mut self, from: SubtaskId, element: Element, out: &mut Vec<Act>) {
        if let Some(channel) = self.inputs.get_mut(&from) {
            channel.queue.push_back(element);
            self.read(out);
        }
    }

    /// Works through what has come, as far as barriers allow.
    fn read(&mut self, out: &mut Vec<Act>) {
        while let Some((from, element)) = self.next_element() {
            match element {
                Element::Records(records) => self.process(records, out),
                Element::Barrier(checkpoint) => self.on_barrier(from, checkpoint, out),
                Element::End => {
                    if let Some(channel) = self.inputs.get_mut(&from) {
                        channel.ended = true;
                    }
                    self.align(out);
                    self.look_at_end(out);
                }
            }
        }
    }

    fn next_element(&mut self) -> Option<(SubtaskId, Element)> {
        if self.over {
            return None;
        }
        let mut open = self
            .inputs
            .iter_mut()
            .filter(|(_, channel)| channel.barrier.is_none());
        open.find_map(|(from, channel)| Some((*from, channel.queue.pop_front()?)))
    }

    fn on_barrier(&mut self, from: SubtaskId, checkpoint: CheckpointId, out: &mut Vec<Act>) {
        // Whoever waits for an older one waits in vain: it was given up.
        for channel in self
            .inputs
            .values_mut()
            .filter(|channel| channel.barrier < Some(checkpoint))
        {
            channel.barrier = None;
        }
        let newest = self.inputs.values().filter_map(|channel| channel.barrier).max();
        let late = newest.is_some_and(|newest| newest > checkpoint) || self.cut >= Some(checkpoint);
        if let Some(channel) = self.inputs.get_mut(&from).filter(|_| !late) {
            channel.barrier = Some(checkpoint);
        }
        self.align(out);
    }

    /// Cuts when every channel has had the barrier, or has ended.
    fn align(&mut self, out: &mut Vec<Act>) {
        let barrier = self.inputs.values().filter_map(|channel| channel.barrier).max();
        let Some(checkpoint) = barrier.max(self.triggered) else {
            return;
        };
        let there = |channel: &Channel| channel.ended || channel.barrier == Some(checkpoint);
        if self.inputs.values().all(there) && self.cut < Some(checkpoint) {
            self.inputs
                .values_mut()
                .for_each(|channel| channel.barrier = None);
            self.triggered = None;
            self.cut(checkpoint, out);
        }
    }

    fn cut(&mut self, checkpoint: CheckpointId, out: &mut Vec<Act>) {
        self.cut = Some(checkpoint);
        for to in self.outputs.clone() {
            out.push(Act::Send(to, Element::Barrier(checkpoint)));
        }
        if !self.open.is_empty() {
            let index = self.descriptor.execution.subtask.index;
            self.memory.prepared.push(Prepared {
                checkpoint: checkpoint.0,
                name: format!("sink-{index}-{checkpoint}"),
                records: std::mem::take(&mut self.open),
            });
        }
        if self.ending {
            self.cut_at_end = self.cut_at_end.or(Some(checkpoint));
        }
        let state = serde_json::to_vec(&self.memory).unwrap_or_default();
        out.push(Act::Cut(checkpoint, state));
    }

    fn process(&mut self, records: Vec<Record>, out: &mut Vec<Act>) {
        match self.role {
            Role::Source => {}
            Role::Count => {
                let counted = records.into_iter().map(|record| {
                    let count = self.memory.counts.entry(record.key).or_default();
                    *count += 1;
                    Record {
                        count: *count,
                        ..record
                    }
                });
                let counted = counted.collect();
                self.scatter(counted, |record| record.split, out);
            }
            Role::Sink => self.open.extend(records),
        }
    }

    fn scatter(&self, records: Vec<Record>, by: impl Fn(&Record) -> u32, out: &mut Vec<Act>) {
        for to in &self.outputs {
            let part = records
                .iter()
                .filter(|record| by(record) % PARALLELISM == to.index);
            let part: Vec<Record> = part.copied().collect();
            if !part.is_empty() {
                out.push(Act::Send(*to, Element::Records(part)));
            }
        }
    }

    fn look_at_end(&mut self, out: &mut Vec<Act>) {
        if self.over || self.ending || !self.inputs.values().all(|channel| channel.ended) {
            return;
        }
        if self.role == Role::Sink && !(self.open.is_empty() && self.memory.prepared.is_empty()) {
            self.ending = true;
            return out.push(Act::RequestCheckpoint);
        }
        self.finish(out);
    }

    fn finish(&mut self, out: &mut Vec<Act>) {
        if self.over {
            return;
        }
        self.over = true;
        for to in self.outputs.clone() {
            out.push(Act::Send(to, Element::End));
        }
        out.push(Act::Finished);
    }
}
