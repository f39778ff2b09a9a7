//! Which regions do not run, and what they wait for before they do (again).
//!
//! Regions that a failure has stopped are started again together: they form a *restart*. It waits until its tasks
//! are over and its delay has passed, then until what it needs is there (enumerators, slots). A failure that hits
//! regions of a one restart that has not begun to prepare is a part of it; one that reaches beyond it makes a
//! new restart, which takes in every restart that it touches.

use super::failures::EntryId;
use hurtig_dataflow::graph::RegionId;
use std::collections::{BTreeMap, BTreeSet};

/// Names a restart within its job.
pub(super) type RestartId = u32;

/// The regions of a job that do not run.
#[derive(Clone, Debug, Default)]
pub(super) struct Failover {
    restarts: BTreeMap<RestartId, Restart>,
    next: RestartId,
}

#[derive(Clone, Debug)]
struct Restart {
    regions: BTreeSet<RegionId>,
    stage: Stage,
    /// What it came from; `None`: from the submission.
    cause: Option<EntryId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its tasks are being stopped, or its delay has not passed.
    Stopping {
        /// Whether the delay has.
        due: bool,
    },
    /// Its tasks are new and wait for what they need.
    Preparing,
}

impl Restart {
    fn is_stopped(&self, over: impl Fn(RegionId) -> bool) -> bool {
        self.stage == (Stage::Stopping { due: true }) && self.regions.iter().all(|region| over(*region))
    }
}

impl Failover {
    /// The first start of these regions.
    pub(super) fn start(&mut self, regions: BTreeSet<RegionId>) -> RestartId {
        self.add(regions, Stage::Preparing, None)
    }

    /// A failure has stopped these regions. Returns the restart and all of its regions.
    pub(super) fn stop(
        &mut self,
        mut regions: BTreeSet<RegionId>,
        cause: EntryId,
    ) -> (RestartId, BTreeSet<RegionId>) {
        self.restarts.retain(|_, restart| {
            let touched = !restart.regions.is_disjoint(&regions);
            if touched {
                regions.append(&mut restart.regions);
            }
            !touched
        });
        let id = self.add(regions.clone(), Stage::Stopping { due: false }, Some(cause));
        (id, regions)
    }

    /// All regions are stopped, and nothing has failed.
    pub(super) fn stop_as_planned(&mut self, regions: BTreeSet<RegionId>) -> RestartId {
        self.restarts.clear();
        self.add(regions, Stage::Stopping { due: false }, None)
    }

    fn add(&mut self, regions: BTreeSet<RegionId>, stage: Stage, cause: Option<EntryId>) -> RestartId {
        let id = self.next;
        self.next += 1;
        let restart = Restart {
            regions,
            stage,
            cause,
        };
        self.restarts.insert(id, restart);
        id
    }

    /// What a failure of these regions is a part of: one restart stops them all already. Two that do are not
    /// enough, since what has failed may have to begin again with all of them.
    pub(super) fn part_of(&self, regions: &BTreeSet<RegionId>) -> Option<EntryId> {
        let mut restarts = self.restarts.values();
        let around = restarts.find(|restart| restart.regions.is_superset(regions))?;
        around.cause.filter(|_| around.stage != Stage::Preparing)
    }

    /// Whether these regions are being stopped without a failure.
    pub(super) fn is_planned(&self, regions: &BTreeSet<RegionId>) -> bool {
        let mut restarts = self.restarts.values();
        let around = restarts.find(|restart| restart.regions.is_superset(regions));
        around.is_some_and(|around| around.stage != Stage::Preparing && around.cause.is_none())
    }

    /// Whether regions wait for what they need.
    pub(super) fn is_preparing(&self) -> bool {
        let mut restarts = self.restarts.values();
        restarts.any(|restart| restart.stage == Stage::Preparing)
    }

    /// The delay of a restart is over.
    pub(super) fn due(&mut self, id: RestartId) {
        if let Some(restart) = self.restarts.get_mut(&id)
            && restart.stage != Stage::Preparing
        {
            restart.stage = Stage::Stopping { due: true };
        }
    }

    /// The next restart whose delay is over and whose regions all are, and whether nothing has failed.
    pub(super) fn stopped(&self, over: impl Fn(RegionId) -> bool) -> Option<(&BTreeSet<RegionId>, bool)> {
        let mut restarts = self.restarts.values();
        let next = restarts.find(|restart| restart.is_stopped(&over))?;
        Some((&next.regions, next.cause.is_none()))
    }

    /// The regions of [`Self::stopped`], which are preparing from now on.
    pub(super) fn take_stopped(&mut self, over: impl Fn(RegionId) -> bool) -> Option<BTreeSet<RegionId>> {
        let mut restarts = self.restarts.values_mut();
        let restart = restarts.find(|restart| restart.is_stopped(&over))?;
        restart.stage = Stage::Preparing;
        Some(restart.regions.clone())
    }

    /// The next restart that waits for nothing but what `ready` says is there; its regions run from now on.
    pub(super) fn take_prepared(
        &mut self,
        ready: impl Fn(&BTreeSet<RegionId>) -> bool,
    ) -> Option<BTreeSet<RegionId>> {
        let mut restarts = self.restarts.iter();
        let (id, _) =
            restarts.find(|(_, restart)| restart.stage == Stage::Preparing && ready(&restart.regions))?;
        let id = *id;
        self.restarts.remove(&id).map(|restart| restart.regions)
    }

    /// Whether all regions run.
    pub(super) fn is_over(&self) -> bool {
        self.restarts.is_empty()
    }

    /// Whether a region runs.
    pub(super) fn runs(&self, region: RegionId) -> bool {
        !self
            .restarts
            .values()
            .any(|restart| restart.regions.contains(&region))
    }

    /// The job ends: nothing is started again.
    pub(super) fn give_up(&mut self) {
        self.restarts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(regions: impl IntoIterator<Item = u32>) -> BTreeSet<RegionId> {
        regions.into_iter().map(RegionId).collect()
    }

    #[test]
    fn a_restart_waits_for_its_delay_its_regions_and_what_they_need() {
        let mut failover = Failover::default();
        let (id, all) = failover.stop(set([1, 2]), 7);
        assert_eq!(all, set([1, 2]));
        assert!(failover.runs(RegionId(0)) && !failover.runs(RegionId(1)));
        assert_eq!(failover.take_stopped(|_| true), None, "its delay is not over");
        failover.due(id);
        assert_eq!(
            failover.take_stopped(|region| region.0 == 1),
            None,
            "region 2 is not"
        );
        assert_eq!(failover.take_stopped(|_| true), Some(set([1, 2])));
        assert_eq!(failover.take_stopped(|_| true), None, "once");
        assert_eq!(failover.take_prepared(|_| false), None);
        assert_eq!(failover.take_prepared(|_| true), Some(set([1, 2])));
        assert!(failover.is_over());
    }

    #[test]
    fn what_fails_while_it_is_stopped_is_part_of_that() {
        let mut failover = Failover::default();
        let (id, _) = failover.stop(set([1, 2]), 7);
        assert_eq!(failover.part_of(&set([2])), Some(7));
        assert_eq!(failover.part_of(&set([2, 3])), None, "region 3 ran");
        failover.stop(set([3]), 8);
        assert_eq!(
            failover.part_of(&set([2, 3])),
            None,
            "they would not begin together"
        );
        failover.due(id);
        failover.take_stopped(|_| true);
        assert_eq!(failover.part_of(&set([2])), None, "it was being started");
    }

    #[test]
    fn a_restart_takes_in_those_that_it_touches_and_their_timers_mean_nothing() {
        let mut failover = Failover::default();
        let (first, _) = failover.stop(set([1]), 0);
        let (second, _) = failover.stop(set([2]), 1);
        let (both, all) = failover.stop(set([2, 3]), 2);
        assert_eq!(all, set([2, 3]));
        failover.due(second);
        assert_eq!(failover.take_stopped(|_| true), None);
        failover.due(first);
        assert_eq!(failover.take_stopped(|_| true), Some(set([1])));
        failover.due(both);
        assert_eq!(failover.take_stopped(|_| true), Some(set([2, 3])));
    }
}
