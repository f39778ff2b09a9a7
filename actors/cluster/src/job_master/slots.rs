//! The job's slots, and which subtask sits in which.

use hurtig_core::ids::{AllocationId, SubtaskId, TaskManagerId};
use hurtig_dataflow::graph::JobGraph;
use std::collections::BTreeMap;

/// A slot somewhere.
pub(super) type Slot = (TaskManagerId, AllocationId);

/// The slots that were offered to the job, in order of arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotPool {
    slots: Vec<Slot>,
}

impl SlotPool {
    /// Adds slots; those known already are ignored.
    pub(super) fn offer(&mut self, task_manager: TaskManagerId, allocations: &[AllocationId]) {
        for &allocation in allocations {
            if !self.slots.contains(&(task_manager, allocation)) {
                self.slots.push((task_manager, allocation));
            }
        }
    }

    /// Takes away the slots of a TaskManager that is gone; false if it had none.
    pub(super) fn remove(&mut self, task_manager: TaskManagerId) -> bool {
        let before = self.slots.len();
        self.slots.retain(|slot| slot.0 != task_manager);
        self.slots.len() < before
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The TaskManagers that offered something.
    pub(super) fn task_managers(&self) -> Vec<TaskManagerId> {
        let mut all: Vec<TaskManagerId> = self.slots.iter().map(|slot| slot.0).collect();
        all.sort();
        all.dedup();
        all
    }

    /// A slot for every subtask: subtask `i` of every vertex of a slot sharing group shares the
    /// group's slot `i`. `None` while there are not enough.
    pub(super) fn assign(&self, graph: &JobGraph) -> Option<BTreeMap<SubtaskId, Slot>> {
        let mut first = 0;
        let mut firsts = BTreeMap::new();
        for (group, width) in graph.slot_groups() {
            firsts.insert(group, first);
            first += width as usize;
        }
        if self.slots.len() < first {
            return None;
        }
        let subtasks = graph.vertices.iter().flat_map(|vertex| {
            let first = firsts[vertex.slot_sharing_group.as_str()];
            (0..vertex.parallelism).map(move |index| {
                (
                    SubtaskId {
                        vertex: vertex.id,
                        index,
                    },
                    first + index as usize,
                )
            })
        });
        Some(
            subtasks
                .map(|(subtask, slot)| (subtask, self.slots[slot]))
                .collect(),
        )
    }
}
