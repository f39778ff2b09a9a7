//! Records that barriers have overtaken, on their way into a checkpoint and back.
//!
//! They are a section of the operator state of the first operator of a task, one entry a channel. A channel is
//! known by the edge and the subtask that it leads from, so that it is found again whatever the edges' numbers.

use crate::interface::TaskDescriptor;
use hurtig_core::ids::EdgeId;
use hurtig_core::{Error, Result};
use hurtig_dataflow::chain::{InFlightRestore, ReplayedKeys, RestoredChannel};
use hurtig_dataflow::graph::{JobEdge, JobGraph, PartitionKind};
use hurtig_exchange::{ChannelState, InFlight};
use hurtig_state::{OperatorSnapshot, Redistribution};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The name of the section; no program can give it to a state of its own.
pub(crate) const SECTION: &str = "hurtig:in-flight";

/// A channel that leads to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelName {
    /// Which input: 0 or 1.
    input: u8,
    /// What names the edge.
    edge: String,
    /// The subtask that it leads from.
    producer: u32,
    /// Whether keys decide where records go.
    keyed: bool,
}

/// What is stored of one channel.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    edge: String,
    producer: u32,
    task_watermark: i64,
    channel: ChannelState,
}

/// The channels that lead to a task, in the order in which it has them.
pub(crate) fn channels_of(task: &TaskDescriptor, graph: &JobGraph) -> Result<Vec<ChannelName>> {
    let mut names = Vec::new();
    for input in 0..2 {
        let inputs = task.inputs.iter().filter(|descriptor| descriptor.input == input);
        for descriptor in inputs {
            let edge = name_of(descriptor.edge, graph)?;
            names.extend(descriptor.producers.clone().map(|producer| ChannelName {
                input,
                edge: edge.clone(),
                producer,
                keyed: is_keyed(&descriptor.partition),
            }));
        }
    }
    Ok(names)
}

fn is_keyed(partition: &PartitionKind) -> bool {
    matches!(partition, PartitionKind::Hash { .. })
}

fn name_of(id: EdgeId, graph: &JobGraph) -> Result<String> {
    let unknown = || Error::internal(format!("the job has no edge {id}"));
    let edge = graph
        .edges
        .iter()
        .find(|edge| edge.id == id)
        .ok_or_else(unknown)?;
    let from = graph.vertex(edge.from).ok_or_else(unknown)?;
    let producer = from
        .operators
        .iter()
        .find(|operator| operator.node == edge.producer);
    let producer = producer.ok_or_else(unknown)?.id;
    let earlier = graph.edges.iter().take_while(|other| other.id != id);
    let nth = earlier
        .filter(|other: &&JobEdge| other.is_parallel_to(edge))
        .count();
    let side = edge.side.as_deref().unwrap_or_default();
    // Records without the hash of a key belong to nobody once keys decide.
    let by = if is_keyed(&edge.partition) { "key" } else { "turn" };
    Ok(format!("{producer} {side:?} {nth} by {by} to {}", edge.input))
}

/// Adds what was in flight to the state of the first operator. Returns how many bytes that are.
pub(crate) fn put(in_flight: InFlight, channels: &[ChannelName], into: &mut OperatorSnapshot) -> Result<u64> {
    let entry = |(name, channel): (&ChannelName, ChannelState)| Entry {
        edge: name.edge.clone(),
        producer: name.producer,
        task_watermark: in_flight.watermark,
        channel,
    };
    let entries: Vec<Entry> = channels.iter().zip(in_flight.channels).map(entry).collect();
    into.put_operator(SECTION, Redistribution::Union, &entries)?;
    let entries = into.operator.get(SECTION).map(|section| section.entries.iter());
    Ok(entries
        .into_iter()
        .flatten()
        .map(|entry| entry.len() as u64)
        .sum())
}

/// What subtasks of an operator had in flight, taken out of their state.
#[derive(Default)]
pub(crate) struct Found {
    /// By old subtask.
    entries: Vec<(u32, Vec<Entry>)>,
}

impl Found {
    /// Takes it out of the state of an old subtask.
    pub(crate) fn take_from(&mut self, subtask: u32, state: &mut OperatorSnapshot) -> Result<()> {
        if state.operator.contains_key(SECTION) {
            self.entries.push((subtask, state.operator(SECTION)?));
            state.operator.remove(SECTION);
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What a task of `from` subtasks before begins with: its own channels, or, when there is another number of
    /// subtasks now, what belongs to it of all. `Err` says what cannot be restored.
    pub(crate) fn deal(
        self,
        from: u32,
        task: &TaskDescriptor,
        channels: &[ChannelName],
    ) -> Result<Option<InFlightRestore>, String> {
        let own = task.execution.subtask.index;
        let rescaled = from != task.parallelism;
        let subtasks = if rescaled { from as usize } else { 1 };
        let (mut watermark, mut seen) = (i64::MAX, 0);
        let (mut restored, mut origins) = (Vec::new(), Vec::new());
        for (subtask, entries) in self.entries {
            if !rescaled && subtask != own {
                continue;
            }
            seen += 1;
            for entry in entries {
                let name = channels.iter().find(|name| name.edge == entry.edge);
                let Some(name) = name else {
                    if entry.channel.elements.is_empty() {
                        continue;
                    }
                    return Err(lost_edge(&entry.edge));
                };
                watermark = watermark.min(entry.task_watermark);
                let keep = (rescaled && name.keyed).then(|| ReplayedKeys {
                    groups: groups_of(task),
                    max_parallelism: task.max_parallelism,
                });
                if rescaled && !name.keyed && subtask % task.parallelism != own {
                    continue;
                }
                origins.push((name.input, entry.edge, entry.producer));
                restored.push(RestoredChannel {
                    input: name.input,
                    state: entry.channel,
                    keep,
                });
            }
        }
        if restored.is_empty() {
            return Ok(None);
        }
        let present = channels
            .iter()
            .map(|name| (name.input, &name.edge, name.producer));
        let same_channels =
            !rescaled && present.eq(origins.iter().map(|(input, edge, n)| (*input, edge, *n)));
        restored.sort_by_key(|channel| channel.input);
        Ok(Some(InFlightRestore {
            // A subtask that had nothing in flight has not said where event time was.
            watermark: if seen < subtasks { i64::MIN } else { watermark },
            channels: restored,
            same_channels,
        }))
    }
}

fn lost_edge(edge: &str) -> String {
    format!(
        "records were on their way on edge '{edge}', which the program does not have any more: restore an unaligned \
         checkpoint with the program that took it, or begin with a savepoint; \
         execution.checkpointing.recover-without-channel-state.checkpoint-id drops these records"
    )
}

pub(crate) fn groups_of(task: &TaskDescriptor) -> Range<u16> {
    let index = |group: u32| u16::try_from(group).unwrap_or(u16::MAX);
    index(task.key_groups.first().get())..index(task.key_groups.last().get() + 1)
}

#[cfg(test)]
#[path = "in_flight_tests.rs"]
mod tests;
