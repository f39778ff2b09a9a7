//! The ResourceManager's brain: declared requirements against offered slots.
//!
//! A job gets all of its slots or none, so that two jobs never hold half of what each needs. Jobs
//! are served in the order in which they asked; a job that does not fit waits and lets later,
//! smaller ones pass.

use crate::messages::ResourceManagerMessage;
use hurtig_core::ids::{AllocationId, JobId, TaskManagerId};
use std::collections::BTreeMap;

/// What a ResourceManager wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceEffect {
    /// Have a TaskManager offer slots to a job.
    Allocate {
        /// Who.
        task_manager: TaskManagerId,
        /// For whom.
        job: JobId,
        /// The slots' names.
        allocations: Vec<AllocationId>,
    },
}

/// The slots of one TaskManager.
#[derive(Clone, Debug)]
struct Offer {
    /// `None`: as many as are wanted.
    slots: Option<u32>,
    used: BTreeMap<JobId, u32>,
}

impl Offer {
    fn free(&self) -> u32 {
        let used: u32 = self.used.values().sum();
        self.slots.map_or(u32::MAX, |slots| slots.saturating_sub(used))
    }
}

/// Slots and who needs them.
#[derive(Clone, Debug, Default)]
pub struct ResourceBrain {
    offers: BTreeMap<TaskManagerId, Offer>,
    /// Jobs in the order in which they asked, with what they still miss.
    waiting: Vec<(JobId, u32)>,
    next_allocation: u128,
}

impl ResourceBrain {
    /// Nobody offers or needs anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Slots that a job holds.
    pub fn held(&self, job: JobId) -> u32 {
        self.offers
            .values()
            .filter_map(|offer| offer.used.get(&job))
            .sum()
    }

    /// Decides what a message leads to.
    pub fn handle(&mut self, message: ResourceManagerMessage, out: &mut Vec<ResourceEffect>) {
        match message {
            ResourceManagerMessage::Register { task_manager, slots } => {
                let offer = self.offers.entry(task_manager);
                offer
                    .or_insert_with(|| Offer {
                        slots,
                        used: BTreeMap::new(),
                    })
                    .slots = slots;
            }
            ResourceManagerMessage::Require { job, slots } => self.require(job, slots),
            ResourceManagerMessage::Release { job } => {
                self.waiting.retain(|(waiting, _)| *waiting != job);
                self.offers.values_mut().for_each(|offer| {
                    offer.used.remove(&job);
                });
            }
        }
        self.serve(out);
    }

    fn require(&mut self, job: JobId, slots: u32) {
        let missing = slots.saturating_sub(self.held(job));
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == job) {
            Some(waiting) => waiting.1 = missing,
            None => self.waiting.push((job, missing)),
        }
        self.waiting.retain(|(_, missing)| *missing > 0);
    }

    fn serve(&mut self, out: &mut Vec<ResourceEffect>) {
        let free = self.offers.values().map(Offer::free).fold(0, u32::saturating_add);
        let mut left = free;
        let (served, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, missing)| {
                let fits = *missing <= left;
                left -= if fits { *missing } else { 0 };
                fits
            });
        self.waiting = waiting;
        let served: Vec<(JobId, u32)> = served;
        served
            .into_iter()
            .for_each(|(job, missing)| self.grant(job, missing, out));
    }

    /// Takes slots from TaskManagers in the order of their ids; they are known to suffice.
    fn grant(&mut self, job: JobId, mut missing: u32, out: &mut Vec<ResourceEffect>) {
        for (&task_manager, offer) in &mut self.offers {
            let taken = missing.min(offer.free());
            if taken == 0 {
                continue;
            }
            missing -= taken;
            *offer.used.entry(job).or_insert(0) += taken;
            let first = self.next_allocation;
            self.next_allocation += u128::from(taken);
            let allocations = (first..self.next_allocation)
                .map(AllocationId::from_u128)
                .collect();
            out.push(ResourceEffect::Allocate {
                task_manager,
                job,
                allocations,
            });
        }
        assert_eq!(missing, 0, "a job is served only when its slots are free");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn job(number: u128) -> JobId {
        JobId::from_u128(number)
    }

    fn register(brain: &mut ResourceBrain, number: u128, slots: Option<u32>) -> Vec<ResourceEffect> {
        let task_manager = TaskManagerId::from_u128(number);
        told(brain, ResourceManagerMessage::Register { task_manager, slots })
    }

    fn told(brain: &mut ResourceBrain, message: ResourceManagerMessage) -> Vec<ResourceEffect> {
        let mut out = Vec::new();
        brain.handle(message, &mut out);
        out
    }

    fn require(brain: &mut ResourceBrain, number: u128, slots: u32) -> usize {
        told(
            brain,
            ResourceManagerMessage::Require {
                job: job(number),
                slots,
            },
        )
        .len()
    }

    #[test]
    fn an_elastic_task_manager_has_what_is_needed() {
        let mut brain = ResourceBrain::new();
        register(&mut brain, 1, None);
        assert_eq!(require(&mut brain, 1, 5_000), 1);
        assert_eq!(brain.held(job(1)), 5_000);
    }

    #[test]
    fn a_job_gets_all_or_nothing_and_smaller_ones_pass() {
        let mut brain = ResourceBrain::new();
        register(&mut brain, 1, Some(2));
        register(&mut brain, 2, Some(2));
        assert_eq!(require(&mut brain, 1, 3), 2);
        assert_eq!(require(&mut brain, 2, 4), 0);
        assert_eq!(require(&mut brain, 3, 1), 1);
        assert_eq!([1, 2, 3].map(|number| brain.held(job(number))), [3, 0, 1]);
        assert_eq!(
            told(&mut brain, ResourceManagerMessage::Release { job: job(1) }),
            []
        );
        let effects = told(&mut brain, ResourceManagerMessage::Release { job: job(3) });
        assert_eq!(effects.len(), 2);
        assert_eq!(brain.held(job(2)), 4);
    }

    #[test]
    fn repeated_messages_change_nothing() {
        let mut brain = ResourceBrain::new();
        register(&mut brain, 1, Some(4));
        assert_eq!(require(&mut brain, 1, 2), 1);
        assert_eq!(require(&mut brain, 1, 2), 0);
        assert!(register(&mut brain, 1, Some(4)).is_empty());
        assert_eq!(brain.held(job(1)), 2);
        told(&mut brain, ResourceManagerMessage::Release { job: job(1) });
        told(&mut brain, ResourceManagerMessage::Release { job: job(1) });
        assert_eq!(brain.held(job(1)), 0);
    }

    proptest! {
        /// No slot is given twice, no TaskManager gives more than it has, nobody holds part of
        /// what it asked for.
        #[test]
        fn slots_are_never_given_twice(
            steps in prop::collection::vec((0..3u8, 1..5u128, 1..5u32), 1..60)
        ) {
            let mut brain = ResourceBrain::new();
            let mut wanted: BTreeMap<JobId, u32> = BTreeMap::new();
            let mut slots: BTreeMap<TaskManagerId, u32> = BTreeMap::new();
            let mut names = std::collections::BTreeSet::new();
            for (kind, number, count) in steps {
                let message = match kind {
                    0 => {
                        let task_manager = TaskManagerId::from_u128(number);
                        let count = *slots.entry(task_manager).or_insert(count);
                        ResourceManagerMessage::Register { task_manager, slots: Some(count) }
                    }
                    1 if !wanted.contains_key(&job(number)) => {
                        wanted.insert(job(number), count);
                        ResourceManagerMessage::Require { job: job(number), slots: count }
                    }
                    _ => {
                        wanted.remove(&job(number));
                        ResourceManagerMessage::Release { job: job(number) }
                    }
                };
                for ResourceEffect::Allocate { allocations, .. } in told(&mut brain, message) {
                    prop_assert!(allocations.into_iter().all(|name| names.insert(name)));
                }
                for number in 1..5 {
                    let held = brain.held(job(number));
                    prop_assert!(held == 0 || Some(&held) == wanted.get(&job(number)));
                }
                let held: u32 = (1..5).map(|number| brain.held(job(number))).sum();
                let all: u32 = slots.values().sum();
                prop_assert!(held <= all);
                // Nobody waits who would fit.
                let waits = wanted.iter().filter(|(job, _)| brain.held(**job) == 0);
                prop_assert!(waits.clone().all(|(_, count)| *count > all - held));
            }
        }
    }
}
