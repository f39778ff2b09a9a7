//! The ResourceManager's brain: declared requirements against offered slots.
//!
//! A job gets all that it misses or nothing, so that two jobs never hold half of what each needs. Jobs
//! are served in the order in which they asked; a job that does not fit waits and lets later,
//! smaller ones pass. What a job loses with a TaskManager it misses again.

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

/// Where the slots of a job may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// Anywhere.
    #[default]
    Anywhere,
    /// On one TaskManager: its tasks exchange records within a process.
    Together,
}

/// Slots and who needs them.
#[derive(Clone, Debug, Default)]
pub struct ResourceBrain {
    spread: Spread,
    offers: BTreeMap<TaskManagerId, Offer>,
    /// Jobs in the order in which they asked, with what they need in all.
    required: Vec<(JobId, u32)>,
    next_allocation: u128,
}

impl ResourceBrain {
    /// Nobody offers or needs anything yet.
    pub fn new(spread: Spread) -> Self {
        Self {
            spread,
            ..Self::default()
        }
    }

    /// The most slots that a job can ever get of those who offer some now; `None`: any number.
    pub fn largest(&self) -> Option<u32> {
        let slots = || self.offers.values().map(|offer| offer.slots);
        match self.spread {
            Spread::Anywhere => slots().try_fold(0_u32, |sum, slots| Some(sum.saturating_add(slots?))),
            Spread::Together => slots().try_fold(0_u32, |most, slots| Some(most.max(slots?))),
        }
    }

    /// Slots in all, and those that are free; a TaskManager with any number counts as none.
    pub fn totals(&self) -> (u32, u32) {
        let bounded = self.offers.values().filter(|offer| offer.slots.is_some());
        bounded.fold((0, 0), |(all, free), offer| {
            (all + offer.slots.unwrap_or(0), free + offer.free())
        })
    }

    /// Slots of a TaskManager that no job has; one with any number has none to count.
    pub fn free_of(&self, task_manager: TaskManagerId) -> u32 {
        let offer = self.offers.get(&task_manager);
        let bounded = offer.filter(|offer| offer.slots.is_some());
        bounded.map_or(0, Offer::free)
    }

    /// The TaskManagers that hold slots for a job.
    pub fn holders(&self, job: JobId) -> Vec<TaskManagerId> {
        let offers = self.offers.iter();
        let holders = offers.filter(|(_, offer)| offer.used.contains_key(&job));
        holders.map(|(task_manager, _)| *task_manager).collect()
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
                self.required.retain(|(requiring, _)| *requiring != job);
                self.offers.values_mut().for_each(|offer| {
                    offer.used.remove(&job);
                });
            }
            ResourceManagerMessage::Freed { task_manager, job } => {
                if let Some(offer) = self.offers.get_mut(&task_manager) {
                    offer.used.remove(&job);
                }
            }
            // Its slots are free when its process has ended.
            ResourceManagerMessage::GiveUp { .. } => {}
            ResourceManagerMessage::Lost { task_manager } => {
                self.offers.remove(&task_manager);
            }
        }
        self.serve(out);
    }

    fn require(&mut self, job: JobId, slots: u32) {
        match self.required.iter_mut().find(|(requiring, _)| *requiring == job) {
            Some(required) => required.1 = slots,
            None => self.required.push((job, slots)),
        }
    }

    fn serve(&mut self, out: &mut Vec<ResourceEffect>) {
        let required = self.required.clone();
        for (job, slots) in required {
            let missing = slots.saturating_sub(self.held(job));
            if missing > 0 {
                self.grant(job, missing, out);
            }
        }
    }

    /// Takes slots from TaskManagers in the order of their ids, if there are enough.
    fn grant(&mut self, job: JobId, mut missing: u32, out: &mut Vec<ResourceEffect>) {
        let from = self.sources(job, missing);
        let free = from.iter().filter_map(|from| self.offers.get(from));
        if free.map(Offer::free).fold(0, u32::saturating_add) < missing {
            return;
        }
        for task_manager in from {
            let Some(offer) = self.offers.get_mut(&task_manager) else {
                continue;
            };
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

    /// Where slots for a job may be taken from.
    fn sources(&self, job: JobId, missing: u32) -> Vec<TaskManagerId> {
        let holders = self.holders(job);
        match (self.spread, holders.first()) {
            (Spread::Anywhere, _) => self.offers.keys().copied().collect(),
            (Spread::Together, Some(holder)) => vec![*holder],
            (Spread::Together, None) => {
                let fits = |(_, offer): &(&TaskManagerId, &Offer)| offer.free() >= missing;
                let found = self.offers.iter().find(fits);
                found.map(|(task_manager, _)| *task_manager).into_iter().collect()
            }
        }
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
        let mut brain = ResourceBrain::new(Spread::Anywhere);
        register(&mut brain, 1, None);
        assert_eq!(require(&mut brain, 1, 5_000), 1);
        assert_eq!(brain.held(job(1)), 5_000);
    }

    #[test]
    fn a_job_gets_all_or_nothing_and_smaller_ones_pass() {
        let mut brain = ResourceBrain::new(Spread::Anywhere);
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
    fn slots_of_one_job_are_together_and_what_is_lost_is_granted_anew() {
        let mut brain = ResourceBrain::new(Spread::Together);
        register(&mut brain, 1, Some(2));
        register(&mut brain, 2, Some(3));
        assert_eq!((brain.largest(), brain.totals()), (Some(3), (5, 5)));
        assert_eq!(
            require(&mut brain, 1, 4),
            0,
            "five are free, and no four together"
        );
        let effects = told(
            &mut brain,
            ResourceManagerMessage::Require {
                job: job(1),
                slots: 3,
            },
        );
        let at = TaskManagerId::from_u128;
        assert!(
            matches!(effects[..], [ResourceEffect::Allocate { task_manager, .. }] if task_manager == at(2))
        );
        assert_eq!(require(&mut brain, 2, 2), 1);
        let freed = ResourceManagerMessage::Freed {
            task_manager: at(2),
            job: job(1),
        };
        let effects = told(&mut brain, freed);
        assert!(
            matches!(&effects[..], [ResourceEffect::Allocate { task_manager, allocations, .. }]
                if *task_manager == at(2) && allocations.len() == 3),
            "{effects:?}"
        );
        assert!(told(&mut brain, ResourceManagerMessage::Lost { task_manager: at(2) }).is_empty());
        assert_eq!((brain.held(job(1)), brain.held(job(2))), (0, 2));
        assert_eq!(
            register(&mut brain, 3, Some(3)).len(),
            1,
            "it waits for another one"
        );
    }

    #[test]
    fn repeated_messages_change_nothing() {
        let mut brain = ResourceBrain::new(Spread::Anywhere);
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
            let mut brain = ResourceBrain::new(Spread::Anywhere);
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
