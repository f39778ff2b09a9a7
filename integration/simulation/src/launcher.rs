//! The process of a TaskManager: it registers with whoever leads, starts the processes of the job, and reports how they end. After
//! `actors/cluster/src/process/registering.rs` and `task_manager.rs`.

use crate::kernel::{Host, Kernel};
use crate::master::Master;
use crate::messages::{Ask, Input, Launch, Pid, Proc, Refused, Reply, Then, Timer};
use crate::worker::{Order, Worker};
use crate::world::Body;
use hurtig_core::ids::{AllocationId, TaskManagerId};
use hurtig_ha::leader::Term;
use hurtig_rpc::{ClusterId, Fences, Stamp};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;
use uuid::Uuid;

/// How long the leader may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked who leads.
const LOOK: Duration = Duration::from_millis(500);
/// How long a leader is left alone that refuses.
const PAUSE: Duration = Duration::from_millis(300);

/// The stamp of a leader.
pub(crate) fn stamp_of(term: Term) -> Stamp {
    let revision = NonZeroU64::new(term.revision.0).unwrap_or(NonZeroU64::MIN);
    Stamp::cluster(ClusterId(Uuid::from_u128(1)), term.incarnation, revision)
}

/// See the module.
pub(crate) struct TaskManager {
    own: Pid,
    host: Host,
    id: TaskManagerId,
    slots: u32,
    leader: Option<(Pid, Term)>,
    registered: bool,
    registering: bool,
    /// What runs, and with which slots.
    running: BTreeMap<Proc, (Pid, Vec<AllocationId>)>,
    begun: BTreeMap<Proc, Vec<AllocationId>>,
    over: Option<NonZeroU64>,
    /// Ends that no leader knows of.
    owed: BTreeMap<Proc, String>,
    fences: Fences,
}

impl TaskManager {
    pub(crate) fn new(own: Pid, (host, slots): (Host, u32), id: TaskManagerId) -> Self {
        Self {
            own,
            host,
            id,
            slots,
            leader: None,
            registered: false,
            registering: false,
            running: BTreeMap::new(),
            begun: BTreeMap::new(),
            over: None,
            owed: BTreeMap::new(),
            fences: Fences::new(),
        }
    }

    /// What it has started and what runs.
    pub(crate) fn children(&self) -> Vec<Pid> {
        self.running.values().map(|(pid, _)| *pid).collect()
    }

    pub(crate) fn handle(&mut self, input: Input, kernel: &mut Kernel) {
        match input {
            Input::Begin => self.look(kernel),
            Input::Call { id, stamp, ask, .. } => self.on_call(id, stamp, ask, kernel),
            Input::Lost(peer) if self.leader.is_some_and(|(leader, _)| leader == peer) => {
                (self.leader, self.registered) = (None, false);
            }
            Input::Timer(Timer::LookForLeader) => self.look(kernel),
            Input::Timer(Timer::Report { process }) => self.report(process, kernel),
            Input::Timer(Timer::Launch(launch)) => self.launch(*launch, kernel),
            Input::ChildEnded(pid, how) => self.on_ended(pid, how, kernel),
            _ => {}
        }
    }

    pub(crate) fn answered(&mut self, then: Then, answer: Result<Reply, Refused>, kernel: &mut Kernel) {
        match (then, answer) {
            (Then::Leads, Ok(Reply::Leader(Some((leader, term))))) => self.on_leader(leader, term, kernel),
            (Then::Registered { leader }, answer) => {
                self.registering = false;
                if self.leader.is_some_and(|(known, _)| known == leader) && answer.is_ok() {
                    self.registered = true;
                    for process in self.owed.keys().copied().collect::<Vec<_>>() {
                        self.report(process, kernel);
                    }
                }
            }
            (Then::Reported { process }, answer) => match answer {
                Ok(_) => drop(self.owed.remove(&process)),
                Err(_) => kernel.timer(self.own, PAUSE, Timer::Report { process }),
            },
            _ => {}
        }
    }

    fn look(&mut self, kernel: &mut Kernel) {
        let managers: Vec<Pid> = kernel.managers.values().copied().collect();
        for manager in managers {
            kernel.ask((self.own, manager), None, Ask::WhoLeads, (PATIENCE, Then::Leads));
        }
        kernel.timer(self.own, LOOK, Timer::LookForLeader);
    }

    fn on_leader(&mut self, leader: Pid, term: Term, kernel: &mut Kernel) {
        let known = self.leader.map(|(_, known)| known);
        if known.is_some_and(|known| known > term) || self.registering {
            return;
        }
        if known == Some(term) && self.registered {
            return;
        }
        if self.fences.follow(stamp_of(term)).is_err() {
            return;
        }
        if let Some((old, _)) = self.leader.filter(|(old, _)| *old != leader) {
            kernel.unwatch(self.own, old);
        }
        self.leader = Some((leader, term));
        self.registered = false;
        self.registering = true;
        kernel.watch(self.own, leader);
        let processes = self
            .begun
            .iter()
            .map(|(process, slots)| (*process, slots.clone()));
        let ask = Ask::Register {
            task_manager: self.id,
            slots: self.slots,
            processes: processes.collect(),
        };
        let then = Then::Registered { leader };
        kernel.ask((self.own, leader), Some(stamp_of(term)), ask, (PATIENCE, then));
    }

    fn on_call(&mut self, id: u64, stamp: Option<Stamp>, ask: Ask, kernel: &mut Kernel) {
        if let Err(fenced) = self.fences.admit(stamp) {
            kernel.checks.fenced += 1;
            return kernel.answer(self.own, id, Err(Refused::Fenced(fenced)));
        }
        match ask {
            Ask::StartMaster { epoch } => self.prepare(Proc::Master { epoch }, (Vec::new(), 0), kernel),
            Ask::StartWorker {
                worker,
                epoch,
                allocations,
                master,
            } => {
                self.prepare(Proc::Worker { epoch, worker }, (allocations, master), kernel);
            }
            Ask::EndProcesses { epoch } => {
                self.over = self.over.max(Some(epoch));
                let left = self
                    .running
                    .iter()
                    .filter(|(process, _)| process.epoch() <= epoch);
                for pid in left.map(|(_, (pid, _))| *pid).collect::<Vec<_>>() {
                    kernel.end(pid, "killed: its epoch is over");
                }
                self.begun
                    .retain(|process, _| process.epoch() > epoch || self.running.contains_key(process));
            }
            Ask::EndProcess { process } => match self.running.get(&process) {
                Some((pid, _)) => kernel.end(*pid, "killed: nobody needs it"),
                None => {
                    kernel.tell(
                        self.own,
                        format_args!("{process:?} is ended before it is started"),
                    );
                    self.begun.remove(&process);
                }
            },
            _ => {}
        }
        kernel.answer(self.own, id, Ok(Reply::Done));
    }

    /// Starts a process as soon as its artifact is here. What was started already, or is over, is not.
    fn prepare(
        &mut self,
        process: Proc,
        (allocations, master): (Vec<AllocationId>, Pid),
        kernel: &mut Kernel,
    ) {
        let Some((leader, _)) = self.leader else { return };
        if self.begun.contains_key(&process) {
            return;
        }
        self.begun.insert(process, allocations.clone());
        let delay = kernel.random.millis(5, 400);
        let launch = Launch {
            process,
            allocations,
            master,
            leader,
        };
        kernel.timer(self.own, delay, Timer::Launch(Box::new(launch)));
    }

    fn launch(&mut self, launch: Launch, kernel: &mut Kernel) {
        let Launch {
            process,
            allocations,
            master,
            leader,
        } = launch;
        let over = self.over.is_some_and(|over| process.epoch() <= over);
        if over || !self.begun.contains_key(&process) {
            self.begun.remove(&process);
            return;
        }
        let pid = kernel.next_pid;
        let body = match process {
            Proc::Master { epoch } => {
                let name = Uuid::from_u128(kernel.random.wide());
                Body::Master(Box::new(Master::new(pid, epoch, leader, name)))
            }
            Proc::Worker { epoch, worker } => {
                let of = self.id;
                let order = Order {
                    worker,
                    of,
                    epoch,
                    allocations: allocations.clone(),
                    master,
                };
                Body::Worker(Box::new(Worker::new(pid, order)))
            }
        };
        kernel.tell(
            pid,
            format_args!("is started on host {} as {process:?}", self.host),
        );
        kernel.spawn(self.host, body);
        self.running.insert(process, (pid, allocations));
    }

    fn on_ended(&mut self, pid: Pid, how: String, kernel: &mut Kernel) {
        let found = self.running.iter().find(|(_, (known, _))| *known == pid);
        let Some(process) = found.map(|(process, _)| *process) else {
            return;
        };
        self.running.remove(&process);
        self.begun.remove(&process);
        self.owed.insert(process, how);
        self.report(process, kernel);
    }

    fn report(&self, process: Proc, kernel: &mut Kernel) {
        let Some(how) = self.owed.get(&process).cloned() else {
            return;
        };
        // Without a leader it is said when somebody leads.
        if let Some((leader, term)) = self.leader.filter(|_| self.registered) {
            let ask = Ask::ProcessEnded { process, how };
            let then = Then::Reported { process };
            kernel.ask((self.own, leader), Some(stamp_of(term)), ask, (PATIENCE, then));
        }
    }
}
