//! Which thread runs which task.
//!
//! A slot's tasks are one pipeline. When a job has at least as many slots here as there are
//! threads, each slot stays on one thread, and slots take turns. When it has fewer, a slot's tasks
//! are dealt over its share of the threads, so that none stands idle. Blocking tasks get a thread
//! of their own.

use crate::messages::TaskId;
use hurtig_core::ids::{AllocationId, JobId};
use std::collections::BTreeMap;

/// A thread of a TaskManager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostId {
    /// One of the worker threads.
    Shared(u32),
    /// The thread of one blocking task.
    Own(TaskId),
}

/// One job's slots here.
#[derive(Clone, Debug)]
struct JobSlots {
    /// Where its first slot begins.
    base: u32,
    slots: Vec<AllocationId>,
    /// Tasks dealt from each slot so far.
    dealt: BTreeMap<AllocationId, u32>,
}

/// Threads, their load, and the slots of jobs.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    load: Vec<u32>,
    jobs: BTreeMap<JobId, JobSlots>,
}

impl Placement {
    pub(super) fn new(threads: u32) -> Self {
        Self {
            load: vec![0; threads.max(1) as usize],
            jobs: BTreeMap::new(),
        }
    }

    fn threads(&self) -> u32 {
        u32::try_from(self.load.len()).unwrap_or(u32::MAX)
    }

    /// Adds slots of a job; those known already are ignored.
    pub(super) fn add_slots(&mut self, job: JobId, allocations: &[AllocationId]) {
        let base = self.least_loaded();
        let fresh = || JobSlots {
            base,
            slots: Vec::new(),
            dealt: BTreeMap::new(),
        };
        let slots = &mut self.jobs.entry(job).or_insert_with(fresh).slots;
        for allocation in allocations {
            if !slots.contains(allocation) {
                slots.push(*allocation);
            }
        }
    }

    pub(super) fn remove_job(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    fn least_loaded(&self) -> u32 {
        let loads = self.load.iter().enumerate();
        let least = loads
            .min_by_key(|(thread, load)| (**load, *thread))
            .map_or(0, |(thread, _)| thread);
        u32::try_from(least).unwrap_or(0)
    }

    /// A worker thread for the next task of a slot; `None` when the slot is not the job's.
    pub(super) fn place(&mut self, job: JobId, slot: AllocationId) -> Option<HostId> {
        let threads = self.threads();
        let slots = self.jobs.get_mut(&job)?;
        let index = u32::try_from(slots.slots.iter().position(|known| *known == slot)?).ok()?;
        let count = u32::try_from(slots.slots.len()).ok()?;
        let width = (threads / count).max(1);
        let dealt = slots.dealt.entry(slot).or_insert(0);
        let thread = (slots.base + index * width + *dealt % width) % threads;
        *dealt += 1;
        self.load[thread as usize] += 1;
        Some(HostId::Shared(thread))
    }

    /// Whether a slot is the job's.
    pub(super) fn has(&self, job: JobId, slot: AllocationId) -> bool {
        self.jobs
            .get(&job)
            .is_some_and(|slots| slots.slots.contains(&slot))
    }

    /// A task has ended. A restarted pipeline is dealt like the first one.
    pub(super) fn remove(&mut self, job: JobId, slot: AllocationId, host: HostId) {
        if let HostId::Shared(thread) = host {
            self.load[thread as usize] -= 1;
            if let Some(dealt) = self
                .jobs
                .get_mut(&job)
                .and_then(|slots| slots.dealt.get_mut(&slot))
            {
                *dealt = dealt.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The threads of `tasks` tasks in each of `slots` slots.
    fn threads(placement: &mut Placement, job: u128, slots: u128, tasks: u32) -> Vec<Vec<u32>> {
        let job = JobId::from_u128(job);
        let names: Vec<AllocationId> = (0..slots).map(AllocationId::from_u128).collect();
        placement.add_slots(job, &names);
        let place = |placement: &mut Placement, slot| match placement.place(job, slot) {
            Some(HostId::Shared(thread)) => thread,
            other => panic!("{other:?}"),
        };
        names
            .iter()
            .map(|slot| (0..tasks).map(|_| place(placement, *slot)).collect())
            .collect()
    }

    #[test]
    fn a_pipeline_stays_together_when_all_threads_have_one() {
        assert_eq!(threads(&mut Placement::new(2), 1, 2, 3), [[0, 0, 0], [1, 1, 1]]);
        assert_eq!(
            threads(&mut Placement::new(2), 1, 4, 2),
            [[0, 0], [1, 1], [0, 0], [1, 1]]
        );
    }

    #[test]
    fn few_pipelines_are_spread_over_their_share() {
        assert_eq!(threads(&mut Placement::new(2), 1, 1, 3), [[0, 1, 0]]);
        assert_eq!(threads(&mut Placement::new(4), 1, 2, 3), [[0, 1, 0], [2, 3, 2]]);
    }

    #[test]
    fn a_second_job_begins_where_there_is_least_to_do() {
        let mut placement = Placement::new(4);
        threads(&mut placement, 1, 1, 3);
        assert_eq!(threads(&mut placement, 2, 4, 1), [[3], [0], [1], [2]]);
    }

    #[test]
    fn unknown_slots_have_no_place() {
        let mut placement = Placement::new(1);
        let (job, slot) = (JobId::from_u128(1), AllocationId::from_u128(1));
        assert!(placement.place(job, slot).is_none());
        placement.add_slots(job, &[slot]);
        assert!(placement.place(job, slot).is_some());
        placement.remove_job(job);
        assert!(!placement.has(job, slot));
    }
}
