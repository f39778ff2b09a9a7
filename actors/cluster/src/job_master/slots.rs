//! The job's slots, and which subtask sits in which.

use hurtig_core::ids::{AllocationId, SubtaskId, TaskManagerId};
use hurtig_dataflow::graph::JobGraph;
use hurtig_exchange::remote::PeerWorker;
use std::collections::BTreeMap;

/// A slot somewhere.
pub(super) type Slot = (TaskManagerId, AllocationId);

/// The slots that were offered to the job. Each stays in its place, so that what runs on keeps its own when others are
/// lost and replaced.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotPool {
    /// `None`: lost, and not replaced yet.
    places: Vec<Option<Slot>>,
    /// Where the tasks of each TaskManager receive records of tasks elsewhere.
    exchanges: BTreeMap<TaskManagerId, String>,
}

impl SlotPool {
    /// Adds slots; those known already are ignored.
    pub(super) fn offer(
        &mut self,
        task_manager: TaskManagerId,
        allocations: &[AllocationId],
        exchange: Option<String>,
    ) {
        for &allocation in allocations {
            let slot = Some((task_manager, allocation));
            if self.places.contains(&slot) {
                continue;
            }
            match self.places.iter_mut().find(|place| place.is_none()) {
                Some(free) => *free = slot,
                None => self.places.push(slot),
            }
        }
        if let Some(exchange) = exchange {
            self.exchanges.insert(task_manager, exchange);
        }
    }

    /// The slots that a TaskManager has offered.
    pub(super) fn of(&self, task_manager: TaskManagerId) -> Vec<AllocationId> {
        let there = self.slots().filter(|slot| slot.0 == task_manager);
        there.map(|slot| slot.1).collect()
    }

    /// Takes away the slots of a TaskManager that is gone; false if it had none.
    pub(super) fn remove(&mut self, task_manager: TaskManagerId) -> bool {
        let before = self.len();
        for place in &mut self.places {
            place.take_if(|slot| slot.0 == task_manager);
        }
        self.exchanges.remove(&task_manager);
        self.len() < before
    }

    pub(super) fn len(&self) -> usize {
        self.slots().count()
    }

    /// Slots beyond those that are needed take the places of those that were lost.
    fn close_gaps(&mut self, needed: usize) {
        while self.places.len() > needed {
            let surplus = self.places.pop().flatten();
            let gap = self.places.iter_mut().take(needed).find(|place| place.is_none());
            match (surplus, gap) {
                (Some(slot), Some(gap)) => *gap = Some(slot),
                (Some(slot), None) => return self.places.push(Some(slot)),
                (None, _) => {}
            }
        }
    }

    /// Takes away all slots but so many, by who offered them. Those of few TaskManagers are kept, the ones that have offered
    /// most, so that others have none left.
    pub(super) fn surplus(&mut self, needed: usize) -> BTreeMap<TaskManagerId, Vec<AllocationId>> {
        let mut offered: BTreeMap<TaskManagerId, usize> = BTreeMap::new();
        self.slots()
            .for_each(|slot| *offered.entry(slot.0).or_default() += 1);
        let mut most_first: Vec<_> = offered.into_iter().collect();
        most_first.sort_by_key(|(id, count)| (std::cmp::Reverse(*count), *id));
        let mut left = needed;
        let kept = most_first.into_iter().map(|(id, count)| {
            let kept = count.min(left);
            left -= kept;
            (id, kept)
        });
        let mut kept: BTreeMap<TaskManagerId, usize> = kept.collect();
        let mut surplus: BTreeMap<TaskManagerId, Vec<AllocationId>> = BTreeMap::new();
        for place in &mut self.places {
            let Some((id, allocation)) = *place else { continue };
            match kept.get_mut(&id) {
                Some(left) if *left > 0 => *left -= 1,
                _ => {
                    surplus.entry(id).or_default().push(allocation);
                    *place = None;
                }
            }
        }
        if !surplus.is_empty() {
            self.places.retain(Option::is_some);
        }
        surplus
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.places.iter().flatten()
    }

    /// A TaskManager, as tasks elsewhere reach its tasks. Without an address there is none who would look for it.
    pub(super) fn peer(&self, worker: TaskManagerId) -> PeerWorker {
        let address = self.exchanges.get(&worker).cloned().unwrap_or_default();
        PeerWorker { worker, address }
    }

    /// The TaskManagers that offered something.
    pub(super) fn task_managers(&self) -> Vec<TaskManagerId> {
        let mut all: Vec<TaskManagerId> = self.slots().map(|slot| slot.0).collect();
        all.sort();
        all.dedup();
        all
    }

    /// A slot for every subtask: subtask `i` of every vertex of a slot sharing group shares the
    /// group's slot `i`. `None` while there are not enough.
    pub(super) fn assign(&mut self, graph: &JobGraph) -> Option<BTreeMap<SubtaskId, Slot>> {
        let mut first = 0;
        let mut firsts = BTreeMap::new();
        for (group, width) in graph.slot_groups() {
            firsts.insert(group, first);
            first += width as usize;
        }
        self.close_gaps(first);
        let places: Vec<Slot> = self.places.iter().take(first).map_while(|place| *place).collect();
        if places.len() < first {
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
                .map(|(subtask, place)| (subtask, places[place]))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(pool: &mut SlotPool, worker: u128, slots: std::ops::Range<u128>) {
        let slots: Vec<_> = slots.map(AllocationId::from_u128).collect();
        let address = format!("at-{worker}");
        pool.offer(TaskManagerId::from_u128(worker), &slots, Some(address));
    }

    fn places(pool: &SlotPool) -> Vec<Option<u128>> {
        let worker = |slot: &Slot| slot.0.0.as_u128();
        pool.places.iter().map(|slot| slot.as_ref().map(worker)).collect()
    }

    #[test]
    fn what_is_left_keeps_its_place_and_what_comes_takes_that_of_what_was_lost() {
        let mut pool = SlotPool::default();
        offer(&mut pool, 1, 0..2);
        offer(&mut pool, 2, 2..4);
        offer(&mut pool, 1, 0..2);
        assert_eq!(places(&pool), [Some(1), Some(1), Some(2), Some(2)]);
        assert!(pool.remove(TaskManagerId::from_u128(1)));
        assert!(!pool.remove(TaskManagerId::from_u128(1)));
        assert_eq!(
            (places(&pool), pool.len()),
            (vec![None, None, Some(2), Some(2)], 2)
        );
        offer(&mut pool, 3, 4..5);
        assert_eq!(places(&pool), [Some(3), None, Some(2), Some(2)]);
        offer(&mut pool, 4, 5..6);
        assert_eq!(places(&pool), [Some(3), Some(4), Some(2), Some(2)]);
        assert_eq!(pool.task_managers().len(), 3);
        assert!(pool.remove(TaskManagerId::from_u128(4)));
        offer(&mut pool, 5, 6..8);
        assert_eq!(places(&pool), [Some(3), Some(5), Some(2), Some(2), Some(5)]);
        assert!(pool.remove(TaskManagerId::from_u128(3)));
        pool.close_gaps(4);
        assert_eq!(places(&pool), [Some(5), Some(5), Some(2), Some(2)]);
        offer(&mut pool, 3, 8..9);
        pool.close_gaps(4);
        assert_eq!(places(&pool).len(), 5, "one more than needed");
        assert_eq!(pool.peer(TaskManagerId::from_u128(3)).address, "at-3");
    }
}
