//! The ResourceManager's brain: declared requirements against offered slots.
//!
//! A job gets all that it needs at least or nothing, so that two jobs never hold half of what each needs. Jobs
//! are served in the order in which they asked; a job that does not fit waits and lets later,
//! smaller ones pass. What is left when all have been looked at goes to those that can use more than they need, in the same
//! order. What a job loses with a TaskManager it misses again.

use crate::config::LoadBalance;
use crate::messages::ResourceManagerMessage;
use hurtig_core::ids::{AllocationId, JobId, TaskManagerId};
use std::collections::{BTreeMap, BTreeSet};

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
    used: BTreeMap<JobId, BTreeSet<AllocationId>>,
}

impl Offer {
    fn used(&self) -> u32 {
        let used: usize = self.used.values().map(BTreeSet::len).sum();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    fn free(&self) -> u32 {
        self.slots
            .map_or(u32::MAX, |slots| slots.saturating_sub(self.used()))
    }

    fn free_again(&mut self, job: JobId, allocations: &[AllocationId]) {
        let Some(used) = self.used.get_mut(&job) else {
            return;
        };
        used.retain(|allocation| !allocations.contains(allocation));
        if used.is_empty() {
            self.used.remove(&job);
        }
    }

    /// Whether a slot more here leaves less in use than one more there.
    fn emptier(&self, taken: u32, other: (&Self, u32)) -> bool {
        let use_of = |offer: &Self, taken| (u64::from(offer.used() + taken), offer.slots);
        match (use_of(self, taken), use_of(other.0, other.1)) {
            ((mine, Some(of)), (theirs, Some(of_other))) => {
                mine * u64::from(of_other) < theirs * u64::from(of)
            }
            ((_, mine), (_, theirs)) => mine.is_none() && theirs.is_some(),
        }
    }
}

/// What a job needs in all.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    least: u32,
    most: u32,
}

/// Slots and who needs them.
#[derive(Clone, Debug, Default)]
pub struct ResourceBrain {
    balance: LoadBalance,
    offers: BTreeMap<TaskManagerId, Offer>,
    /// Jobs in the order in which they asked, with what they need in all.
    required: Vec<(JobId, Wanted)>,
    next_allocation: u128,
}

impl ResourceBrain {
    /// Nobody offers or needs anything yet.
    pub fn new(balance: LoadBalance) -> Self {
        Self {
            balance,
            ..Self::default()
        }
    }

    /// One whose names for slots are none of an earlier term's.
    pub fn of_term(balance: LoadBalance, term: u64) -> Self {
        Self {
            next_allocation: u128::from(term) << 64,
            ..Self::new(balance)
        }
    }

    /// A TaskManager comes with slots that an earlier term has granted.
    pub fn hold(&mut self, task_manager: TaskManagerId, job: JobId, allocations: &[AllocationId]) {
        let offer = self.offers.entry(task_manager).or_insert_with(|| Offer {
            slots: Some(0),
            used: BTreeMap::new(),
        });
        offer.used.entry(job).or_default().extend(allocations);
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

    /// Slots that a job holds.
    pub fn held(&self, job: JobId) -> u32 {
        let held = self.offers.values().filter_map(|offer| offer.used.get(&job));
        u32::try_from(held.map(BTreeSet::len).sum::<usize>()).unwrap_or(u32::MAX)
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
            ResourceManagerMessage::Require {
                job, slots, least, ..
            } => {
                let (least, most) = (least.unwrap_or(slots).min(slots), slots);
                self.require(job, Wanted { least, most });
            }
            ResourceManagerMessage::Release { job } => {
                self.required.retain(|(requiring, _)| *requiring != job);
                self.offers.values_mut().for_each(|offer| {
                    offer.used.remove(&job);
                });
            }
            ResourceManagerMessage::Freed {
                task_manager,
                job,
                allocations,
            } => {
                if let Some(offer) = self.offers.get_mut(&task_manager) {
                    offer.free_again(job, &allocations);
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

    fn require(&mut self, job: JobId, wanted: Wanted) {
        match self.required.iter_mut().find(|(requiring, _)| *requiring == job) {
            Some(required) => required.1 = wanted,
            None => self.required.push((job, wanted)),
        }
    }

    /// A job does not use these slots any more.
    pub fn give_back(&mut self, job: JobId, allocations: &[AllocationId]) {
        let offers = self.offers.values_mut();
        offers.for_each(|offer| offer.free_again(job, allocations));
    }

    fn serve(&mut self, out: &mut Vec<ResourceEffect>) {
        let mut free = self.offers.values().map(Offer::free).fold(0, u32::saturating_add);
        let mut given = vec![0; self.required.len()];
        let held: Vec<u32> = self.required.iter().map(|(job, _)| self.held(*job)).collect();
        for (at, (_, wanted)) in self.required.iter().enumerate() {
            let missing = wanted.least.saturating_sub(held[at]);
            if missing <= free {
                given[at] = missing;
                free -= missing;
            }
        }
        for (at, (_, wanted)) in self.required.iter().enumerate() {
            let has = held[at] + given[at];
            if has >= wanted.least {
                let more = wanted.most.saturating_sub(has).min(free);
                given[at] += more;
                free -= more;
            }
        }
        let jobs: Vec<JobId> = self.required.iter().map(|(job, _)| *job).collect();
        for (job, missing) in jobs.into_iter().zip(given) {
            if missing > 0 {
                self.grant(job, missing, out);
            }
        }
    }

    /// Takes slots from TaskManagers, of which enough are free.
    fn grant(&mut self, job: JobId, missing: u32, out: &mut Vec<ResourceEffect>) {
        for (task_manager, taken) in self.shares(job, missing) {
            let Some(offer) = self.offers.get_mut(&task_manager) else {
                continue;
            };
            let first = self.next_allocation;
            self.next_allocation += u128::from(taken);
            let allocations: Vec<_> = (first..self.next_allocation)
                .map(AllocationId::from_u128)
                .collect();
            offer.used.entry(job).or_default().extend(&allocations);
            out.push(ResourceEffect::Allocate {
                task_manager,
                job,
                allocations,
            });
        }
    }

    /// How many slots each TaskManager gives, of which together enough are free. Of several that are equal, the one with
    /// the smallest id.
    fn shares(&self, job: JobId, missing: u32) -> BTreeMap<TaskManagerId, u32> {
        match self.balance {
            LoadBalance::None => self.packed(job, missing),
            LoadBalance::Slots => self.balanced(missing),
        }
    }

    /// On few TaskManagers: one, if they fit there; rather where the job is already, then where the least is left over.
    /// Otherwise those with the most first.
    fn packed(&self, job: JobId, missing: u32) -> BTreeMap<TaskManagerId, u32> {
        let fitting = self.offers.iter().filter(|(_, offer)| offer.free() >= missing);
        let best = fitting.min_by_key(|(id, offer)| (!offer.used.contains_key(&job), offer.free(), **id));
        if let Some((id, _)) = best {
            return BTreeMap::from([(*id, missing)]);
        }
        let mut most_first: Vec<_> = self.offers.iter().collect();
        most_first.sort_by_key(|(id, offer)| (std::cmp::Reverse(offer.free()), **id));
        let (mut shares, mut left) = (BTreeMap::new(), missing);
        for (id, offer) in most_first {
            let taken = left.min(offer.free());
            if taken > 0 {
                shares.insert(*id, taken);
                left -= taken;
            }
        }
        shares
    }

    /// One after the other from the TaskManager that is used the least.
    fn balanced(&self, missing: u32) -> BTreeMap<TaskManagerId, u32> {
        let mut shares: BTreeMap<TaskManagerId, u32> = BTreeMap::new();
        for _ in 0..missing {
            let taken = |id| shares.get(id).copied().unwrap_or(0);
            let with_room = self.offers.iter().filter(|(id, offer)| offer.free() > taken(id));
            let least = with_room.reduce(|best, next| {
                if next.1.emptier(taken(next.0), (best.1, taken(best.0))) {
                    next
                } else {
                    best
                }
            });
            if let Some((id, _)) = least {
                *shares.entry(*id).or_insert(0) += 1;
            }
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::SlotNeed;
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
        told(brain, SlotNeed::exactly(slots).of(job(number))).len()
    }

    #[test]
    fn an_elastic_task_manager_has_what_is_needed() {
        let mut brain = ResourceBrain::new(LoadBalance::None);
        register(&mut brain, 1, None);
        assert_eq!(require(&mut brain, 1, 5_000), 1);
        assert_eq!(brain.held(job(1)), 5_000);
    }

    #[test]
    fn what_an_earlier_term_has_granted_is_not_granted_again() {
        let mut brain = ResourceBrain::of_term(LoadBalance::None, 7);
        let task_manager = TaskManagerId::from_u128(1);
        brain.hold(
            task_manager,
            job(1),
            &[AllocationId::from_u128(5), AllocationId::from_u128(6)],
        );
        assert_eq!(register(&mut brain, 1, Some(3)), []);
        assert_eq!((brain.totals(), brain.held(job(1))), ((3, 1), 2));
        assert_eq!(require(&mut brain, 1, 2), 0, "it has what it needs");
        assert_eq!(require(&mut brain, 2, 2), 0, "there is not enough");
        let effects = told(&mut brain, SlotNeed::exactly(1).of(job(3)));
        let [ResourceEffect::Allocate { allocations, .. }] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(
            allocations,
            &[AllocationId::from_u128(7 << 64)],
            "a name of its own"
        );
    }

    #[test]
    fn a_job_gets_all_or_nothing_and_smaller_ones_pass() {
        let mut brain = ResourceBrain::new(LoadBalance::None);
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

    fn can_use(brain: &mut ResourceBrain, number: u128, least: u32, slots: u32) {
        let need = SlotNeed {
            slots,
            least,
            returned: Vec::new(),
        };
        told(brain, need.of(job(number)));
    }

    #[test]
    fn what_is_left_goes_to_those_that_can_use_more() {
        let mut brain = ResourceBrain::new(LoadBalance::None);
        can_use(&mut brain, 1, 3, 10);
        can_use(&mut brain, 2, 2, 4);
        let held = |brain: &ResourceBrain| [1, 2].map(|number| brain.held(job(number)));
        register(&mut brain, 1, Some(2));
        assert_eq!(held(&brain), [0, 2], "nobody holds less than it needs");
        register(&mut brain, 2, Some(4));
        assert_eq!(
            held(&brain),
            [4, 2],
            "each has what it needs, and the first one the rest"
        );
        register(&mut brain, 3, Some(20));
        assert_eq!(held(&brain), [10, 4]);
        // What is given back is free for others.
        can_use(&mut brain, 1, 1, 1);
        assert_eq!((held(&brain), brain.totals()), ([10, 4], (26, 12)));
        let all: Vec<AllocationId> = brain
            .offers
            .values()
            .flat_map(|offer| offer.used.get(&job(1)).into_iter().flatten())
            .copied()
            .collect();
        brain.give_back(job(1), &all[1..]);
        assert_eq!((held(&brain), brain.totals()), ([1, 4], (26, 21)));
    }

    /// How many slots each TaskManager gives when a job asks.
    fn given(brain: &mut ResourceBrain, number: u128, slots: u32) -> Vec<(TaskManagerId, usize)> {
        let job = job(number);
        let effects = told(brain, SlotNeed::exactly(slots).of(job));
        let given = |ResourceEffect::Allocate {
                         task_manager,
                         allocations,
                         ..
                     }| (task_manager, allocations.len());
        effects.into_iter().map(given).collect()
    }

    #[test]
    fn a_job_is_on_few_task_managers_and_leaves_little_over() {
        let at = TaskManagerId::from_u128;
        let mut brain = ResourceBrain::new(LoadBalance::None);
        for (number, slots) in [(1, 4), (2, 2), (3, 3)] {
            register(&mut brain, number, Some(slots));
        }
        assert_eq!(
            given(&mut brain, 1, 2),
            [(at(2), 2)],
            "nothing is left over there"
        );
        assert_eq!(given(&mut brain, 2, 2), [(at(3), 2)]);
        assert_eq!(given(&mut brain, 3, 5), [(at(1), 4), (at(3), 1)]);
        assert_eq!(brain.totals(), (9, 0));
    }

    #[test]
    fn a_job_that_grows_does_so_where_it_is() {
        let at = TaskManagerId::from_u128;
        let mut brain = ResourceBrain::new(LoadBalance::None);
        register(&mut brain, 1, Some(4));
        assert_eq!(given(&mut brain, 1, 2), [(at(1), 2)]);
        register(&mut brain, 2, Some(1));
        assert_eq!(given(&mut brain, 1, 3), [(at(1), 1)]);
    }

    #[test]
    fn balanced_slots_come_from_who_is_used_the_least() {
        let at = TaskManagerId::from_u128;
        let mut brain = ResourceBrain::new(LoadBalance::Slots);
        register(&mut brain, 1, Some(4));
        register(&mut brain, 2, Some(4));
        assert_eq!(given(&mut brain, 1, 2), [(at(1), 1), (at(2), 1)]);
        register(&mut brain, 3, Some(2));
        assert_eq!(given(&mut brain, 2, 2), [(at(1), 1), (at(3), 1)]);
        assert_eq!(given(&mut brain, 3, 5), [(at(1), 2), (at(2), 2), (at(3), 1)]);
    }

    #[test]
    fn what_one_of_two_workers_had_is_granted_anew() {
        let mut brain = ResourceBrain::new(LoadBalance::None);
        register(&mut brain, 1, Some(2));
        assert_eq!(require(&mut brain, 1, 2), 1);
        assert_eq!(require(&mut brain, 1, 2), 0);
        let freed = |number| ResourceManagerMessage::Freed {
            task_manager: TaskManagerId::from_u128(1),
            job: job(1),
            allocations: vec![AllocationId::from_u128(number)],
        };
        let effects = told(&mut brain, freed(0));
        assert!(
            matches!(&effects[..], [ResourceEffect::Allocate { allocations, .. }] if allocations.len() == 1),
            "{effects:?}"
        );
        assert!(told(&mut brain, freed(0)).is_empty(), "it was freed before");
        assert_eq!((brain.held(job(1)), brain.totals()), (2, (2, 0)));
        let lost = ResourceManagerMessage::Lost {
            task_manager: TaskManagerId::from_u128(1),
        };
        assert!(told(&mut brain, lost).is_empty());
        assert_eq!(brain.held(job(1)), 0);
        assert_eq!(
            register(&mut brain, 3, Some(3)).len(),
            1,
            "it waits for another one"
        );
    }

    #[test]
    fn repeated_messages_change_nothing() {
        let mut brain = ResourceBrain::new(LoadBalance::None);
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
            balanced in any::<bool>(), steps in prop::collection::vec((0..3u8, 1..5u128, 1..5u32), 1..60)
        ) {
            let balance = if balanced { LoadBalance::Slots } else { LoadBalance::None };
            let mut brain = ResourceBrain::new(balance);
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
                        SlotNeed::exactly(count).of(job(number))
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
