//! What must hold, whatever happens: looked at after every change, from outside, by other means than those of the product.

use crate::job::{JOB, KEYS, RECORDS};
use crate::kernel::{Happening, Kernel};
use crate::manager::keys;
use crate::messages::{Input, Pid, Record};
use crate::store::locked;
use hurtig_core::ids::CheckpointId;
use hurtig_ha::kv::Transaction;
use hurtig_ha::records::{
    CheckpointPointer, EpochRecord, FinalStatus, LatestCheckpoint, ResultRecord, Stored,
};
use hurtig_storage::{CheckpointLayout, read_metadata};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use uuid::Uuid;

/// Violations that are told of one run.
const MOST: usize = 3;

/// What was found out about a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    /// How often something was compared.
    pub(crate) made: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) elections: u64,
    pub(crate) replaced: u64,
    pub(crate) gave_up: bool,
    pub(crate) ended_by_successor: u64,
    ending: bool,
    pub(crate) fenced: u64,
    pub(crate) checkpoints: u64,
    pub(crate) transactions: u64,
    pub(crate) repeated_commits: u64,
    /// Requests to the store whose answers nobody hears.
    pub(crate) unheard: BTreeSet<u64>,
    used: BTreeMap<CheckpointId, NonZeroU64>,
    published: BTreeMap<CheckpointId, NonZeroU64>,
    claims: BTreeMap<NonZeroU64, Uuid>,
    committed: BTreeMap<String, Vec<Record>>,
    seen: BTreeSet<(u32, u32)>,
    accepted: bool,
    epoch: u64,
    latest: Option<CheckpointId>,
    pub(crate) result: Option<FinalStatus>,
    failure: String,
}

impl Checks {
    pub(crate) fn violated(&mut self, what: String) {
        if self.violations.len() < MOST {
            self.violations.push(what);
        }
    }

    fn holds(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.made += 1;
        if !holds {
            self.violated(what());
        }
    }

    pub(crate) fn accepted(&mut self) {
        self.accepted = true;
    }

    pub(crate) fn failed_with(&mut self, why: String) {
        self.failure = why;
    }

    /// A JobMaster tells tasks to begin a checkpoint.
    pub(crate) fn triggered(&mut self, checkpoint: CheckpointId, epoch: NonZeroU64) {
        let first = *self.used.entry(checkpoint).or_insert(epoch);
        self.holds(first == epoch, || {
            format!("checkpoint {checkpoint} was begun in epoch {first}, and again in epoch {epoch}")
        });
    }

    /// A JobMaster writes the metadata of a checkpoint.
    pub(crate) fn published(&mut self, checkpoint: CheckpointId, epoch: NonZeroU64) {
        let before = self.published.insert(checkpoint, epoch);
        self.holds(before.is_none(), || {
            format!("checkpoint {checkpoint} is published twice")
        });
    }

    pub(crate) fn claimed(&mut self, epoch: NonZeroU64, process: Uuid) {
        let first = *self.claims.entry(epoch).or_insert(process);
        self.holds(first == process, || {
            format!("epoch {epoch} was granted to process {first}, and then to {process}")
        });
    }

    /// A transaction of the sink becomes visible. Again, it must be the same.
    pub(crate) fn commit(&mut self, name: &str, records: Vec<Record>) {
        if let Some(known) = self.committed.get(name) {
            let same = *known == records;
            self.repeated_commits += 1;
            return self.holds(same, || {
                format!("transaction {name} is committed again with other records")
            });
        }
        let over = self.result.is_some();
        self.holds(!over, || {
            format!("transaction {name} becomes visible after the end of the job")
        });
        let latest = self.latest;
        let number = name
            .rsplit('-')
            .next()
            .and_then(|number| number.parse().ok())
            .map(CheckpointId);
        self.holds(number.is_some() && number <= latest, || {
            format!(
                "transaction {name} becomes visible, and the last checkpoint that is recorded is {latest:?}"
            )
        });
        for record in &records {
            let new = self.seen.insert((record.split, record.index));
            self.holds(new, || {
                format!("{record:?} becomes visible twice, the second time by {name}")
            });
        }
        self.transactions += 1;
        self.committed.insert(name.to_owned(), records);
    }

    /// All has ended: every record of these splits is visible once, and was counted once.
    pub(crate) fn complete(&mut self, splits: u32) {
        let failure = self.failure.clone();
        let result = self.result;
        self.holds(result == Some(FinalStatus::Finished), || {
            format!("the job has ended as {result:?}: {failure}")
        });
        for split in 0..splits {
            for index in 0..RECORDS {
                let there = self.seen.contains(&(split, index));
                self.holds(there, || format!("record {index} of split {split} is lost"));
            }
        }
        let expected = (splits * RECORDS) as usize;
        let seen = self.seen.len();
        self.holds(seen == expected, || {
            format!("{seen} records are visible, of {expected}")
        });
        for key in 0..KEYS {
            let all = self
                .committed
                .values()
                .flatten()
                .filter(|record| record.key == key);
            let mut counts: Vec<u32> = all.map(|record| record.count).collect();
            counts.sort_unstable();
            let right = counts.iter().copied().eq((1..).take(counts.len()));
            self.holds(right, || format!("key {key} was counted {counts:?}"));
        }
    }

    pub(crate) fn latest(&self) -> Option<CheckpointId> {
        self.latest
    }
}

impl Kernel {
    /// The store has changed.
    pub(crate) fn after_change(&mut self, transaction: &Transaction) {
        let keys = keys();
        self.counts_of_change();
        if transaction
            .changes()
            .iter()
            .any(|change| *change.key() == keys.leader())
        {
            self.tell_watchers();
        }
    }

    fn counts_of_change(&mut self) {
        let (keys, shared) = (keys(), self.store.clone());
        let state = locked(&shared);
        let machine = &state.machine;
        let record = machine.get(&keys.record(JOB)).is_some();
        let epoch = machine
            .get(&keys.epoch(JOB))
            .and_then(|entry| Stored::<EpochRecord>::read(entry).ok());
        let epoch = epoch.map_or(0, |stored| stored.value.epoch.0);
        let latest = machine.get(&keys.latest(JOB));
        let latest = latest.and_then(|entry| Stored::<LatestCheckpoint>::read(entry).ok());
        let latest = latest.map(|stored| stored.value.id);
        let result = machine.get(&keys.result(JOB));
        let result = result.and_then(|entry| Stored::<ResultRecord>::read(entry).ok());
        let result = result.map(|stored| stored.value.status);
        let ending = machine.get(&keys.ending(JOB)).is_some();
        drop(state);
        let checks = &mut self.checks;
        checks.ending = ending;
        let accepted = checks.accepted;
        checks.holds(!accepted || record || result.is_some(), || {
            "an accepted job is forgotten".to_owned()
        });
        let before = checks.epoch;
        checks.holds(epoch >= before, || {
            format!("the epoch went back from {before} to {epoch}")
        });
        let ended = checks.result;
        checks.holds(ended.is_none() || ended == result, || {
            format!("the job had ended as {ended:?}, and now as {result:?}")
        });
        checks.holds(ended.is_none() || epoch == before, || {
            format!("the job had ended, and gets epoch {epoch}")
        });
        let last = checks.latest;
        checks.holds(latest >= last, || {
            format!("the latest checkpoint went back from {last:?} to {latest:?}")
        });
        if let Some(id) = latest.filter(|_| latest > last) {
            let by = checks.published.get(&id).map(|epoch| epoch.get());
            checks.holds(by == Some(epoch), || {
                format!("checkpoint {id} of epoch {by:?} was recorded in epoch {epoch}")
            });
            checks.checkpoints += 1;
        }
        (checks.epoch, checks.latest, checks.result) = (epoch, latest, result);
        if latest > last {
            self.look_at_recorded();
        }
    }

    /// Something was deleted in the checkpoint store.
    pub(crate) fn look_at_deleted(&mut self) {
        if !self.blobs.take_deleted().is_empty() {
            self.look_at_recorded();
        }
    }

    /// All that recorded checkpoints name is there, as long as the job has not ended.
    fn look_at_recorded(&mut self) {
        // What the end is has to be recorded before anything is deleted.
        if self.checks.result.is_some() || self.checks.ending {
            return;
        }
        let shared = self.store.clone();
        let listing = locked(&shared).machine.list(&keys().checkpoints(JOB));
        for entry in &listing.entries {
            let Ok(pointer) = Stored::<CheckpointPointer>::read(entry) else {
                continue;
            };
            let id = pointer.value.id;
            let folder = CheckpointLayout::new(JOB).checkpoint(id);
            let missing = match read_metadata(self.blobs.truth(), &folder) {
                Ok(metadata) => metadata
                    .state_files()
                    .find(|path| !self.blobs.has(path))
                    .map(str::to_owned),
                Err(error) => Some(error.to_string()),
            };
            self.checks.holds(missing.is_none(), || {
                format!("checkpoint {id} is recorded, and what it names is gone: {missing:?}")
            });
        }
    }

    /// Tells jobmanagers what is under the election key, sooner or later.
    pub(crate) fn tell_watchers(&mut self) {
        let created = locked(&self.store)
            .machine
            .get(&keys().leader())
            .map(|entry| entry.created.0);
        let managers: Vec<(usize, Pid)> = self.managers.iter().map(|(host, pid)| (*host, *pid)).collect();
        for (host, manager) in managers {
            if self.cut(host, crate::world::STORE) || locked(&self.store).away {
                continue;
            }
            let delay = self.random.millis(1, 200);
            self.after(delay, Happening::To(manager, Input::Watched(created)));
        }
    }
}
