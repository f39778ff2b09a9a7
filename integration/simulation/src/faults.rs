//! What goes wrong.

use crate::messages::Pid;
use crate::store::locked;
use crate::world::{Body, MANAGERS, STORE, World};
use std::collections::BTreeMap;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process of a worker is killed.
    KillWorker,
    /// A TaskManager is killed, with all that it has started; another one comes.
    KillTaskManager,
    /// The process of the JobMaster is killed.
    KillJobMaster,
    /// The jobmanager that leads is killed; another one comes in its place.
    KillLeader,
    /// A process stands still, as under a debugger, and goes on.
    Pause,
    /// Two machines do not hear each other; one may be the store's.
    Cut,
    /// Connections between processes break now and then.
    BreakConnections,
    /// Nobody reaches the store.
    StoreAway,
    /// The store takes its time.
    StoreSlow,
    /// Requests to the store and its answers are lost, or take effect late.
    StoreForgets,
    /// Files of checkpoints are not written or deleted, or it is not said that they were.
    CheckpointStoreFails,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::KillWorker,
        Fault::KillTaskManager,
        Fault::KillJobMaster,
        Fault::KillLeader,
        Fault::Pause,
        Fault::Cut,
        Fault::BreakConnections,
        Fault::StoreAway,
        Fault::StoreSlow,
        Fault::StoreForgets,
        Fault::CheckpointStoreFails,
    ];
}

/// How often each kind has happened.
pub(crate) fn counted(faults: &[Fault]) -> BTreeMap<Fault, u64> {
    let mut counted = BTreeMap::new();
    for fault in faults {
        *counted.entry(*fault).or_default() += 1;
    }
    counted
}

impl World {
    /// Whether it was possible.
    pub(crate) fn inflict(&mut self, fault: Fault) -> bool {
        self.kernel.tell(0, format_args!("fault: {fault:?}"));
        match fault {
            Fault::KillWorker => self.kill_one(|body| matches!(body, Body::Worker(_))),
            Fault::KillTaskManager => self.kill_one(|body| matches!(body, Body::Launcher(_))),
            Fault::KillJobMaster => self.kill_one(|body| matches!(body, Body::Master(_))),
            Fault::KillLeader => match self.leader() {
                Some(pid) => {
                    self.kill(pid, "killed");
                    true
                }
                None => false,
            },
            Fault::Pause => self.pause(),
            Fault::Cut => {
                let hosts = (STORE + 1) as u64;
                let a = usize::try_from(self.kernel.random.below(hosts)).unwrap_or(0);
                let b = usize::try_from(self.kernel.random.below(hosts)).unwrap_or(0);
                // TaskManagers do not speak with the store.
                let alone = a == b || (a.max(b) == STORE && a.min(b) >= MANAGERS);
                if !alone {
                    self.kernel.cuts.insert((a.min(b), a.max(b)));
                    self.kernel
                        .tell(0, format_args!("hosts {a} and {b} do not hear each other"));
                }
                !alone
            }
            Fault::BreakConnections => {
                self.kernel.loss = 1 + self.kernel.random.below(8);
                true
            }
            Fault::StoreAway => {
                locked(&self.kernel.store).away = true;
                true
            }
            Fault::StoreSlow => {
                let slow = 100 + self.kernel.random.below(1_500);
                locked(&self.kernel.store).slow = slow;
                true
            }
            Fault::StoreForgets => {
                let loss = 5 + self.kernel.random.below(40);
                locked(&self.kernel.store).loss = loss;
                true
            }
            Fault::CheckpointStoreFails => {
                let (percent, seed) = (5 + self.kernel.random.below(60), self.kernel.random.next());
                self.kernel.blobs.fail(percent, seed);
                true
            }
        }
    }

    /// Nothing goes wrong any more, but for processes that stand still: those are waited for.
    pub(crate) fn heal(&mut self) {
        self.kernel.tell(0, format_args!("all is well again"));
        self.kernel.mend_cuts();
        self.kernel.loss = 0;
        self.kernel.blobs.fail(0, 0);
        let mut store = locked(&self.kernel.store);
        (store.away, store.slow, store.loss) = (false, 0, 0);
    }

    fn kill_one(&mut self, which: impl Fn(&Body) -> bool) -> bool {
        let all: Vec<Pid> = self.kind(which);
        match self.kernel.random.pick(&all) {
            Some(pid) => {
                self.kill(pid, "killed");
                true
            }
            None => false,
        }
    }

    fn pause(&mut self) -> bool {
        let all = self.kind(|body| !matches!(body, Body::Client));
        let lasts = self.kernel.random.millis(100, 20_000);
        match self.kernel.random.pick(&all) {
            Some(pid) => {
                let until = self.kernel.now.after(lasts);
                self.kernel.paused.insert(pid, until);
                self.kernel.tell(pid, format_args!("stands still for {lasts:?}"));
                true
            }
            None => false,
        }
    }
}
