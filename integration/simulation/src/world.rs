//! A cluster: its processes, and what happens to them.

use crate::job;
use crate::kernel::{Happening, Host, Kernel};
use crate::launcher::TaskManager;
use crate::manager::JobManager;
use crate::master::Master;
use crate::messages::{Ask, Input, Pid, Refused, Reply, Then};
use crate::plan::Plan;
use crate::worker::Worker;
use hurtig_core::ids::TaskManagerId;
use hurtig_dataflow::graph::JobStatus;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Jobmanagers are on the first hosts.
pub(crate) const MANAGERS: Host = 2;
/// TaskManagers on the next ones.
pub(crate) const TASK_MANAGERS: Host = 3;
/// The host of the store.
pub(crate) const STORE: Host = MANAGERS + TASK_MANAGERS;
/// The host of who submits.
const CLIENT: Host = STORE + 1;
/// Slots of each TaskManager: the job needs two.
const SLOTS: u32 = 2;

/// A process.
pub(crate) enum Body {
    Manager(Box<JobManager>),
    Launcher(Box<TaskManager>),
    Master(Box<Master>),
    Worker(Box<Worker>),
    Client,
}

/// A simulated cluster.
pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) processes: BTreeMap<Pid, Body>,
    plan: Plan,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan) -> Result<Self, String> {
        let kernel = Kernel::new(seed, job::graph()?);
        let processes = BTreeMap::new();
        let mut world = Self {
            kernel,
            processes,
            plan,
        };
        for host in 0..STORE {
            world.restart(host);
        }
        world.kernel.spawn(CLIENT, Body::Client);
        world.kernel.after(crate::store::LEASES, Happening::Leases);
        world.kernel.after(Duration::from_millis(100), Happening::Plan);
        world.settle();
        Ok(world)
    }

    /// Runs to the end of the plan, or the first violation.
    pub(crate) fn run(&mut self, most: u64) {
        while !self.plan.is_over() && self.kernel.checks.violations.is_empty() {
            let Some(what) = self.kernel.next() else { return };
            self.happen(what);
            self.settle();
            self.look_at_leaders();
            if self.kernel.counts.steps >= most {
                self.kernel.checks.violated(format!("no end after {most} steps"));
            }
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::To(pid, input) => self.deliver(pid, input),
            Happening::Beat(watcher, target) => self.kernel.beat(watcher, target),
            Happening::StoreReached(id) => self.kernel.store_reached(id),
            // Whoever waits is asked whether it can go on after every step.
            Happening::StoreAnswered(id) => drop(self.kernel.store_answered(id)),
            Happening::Leases => self.kernel.look_at_leases(),
            Happening::Restart(host) => self.restart(host),
            Happening::Plan => {
                let mut plan = std::mem::take(&mut self.plan);
                plan.step(self);
                self.plan = plan;
                self.kernel.after(Duration::from_millis(250), Happening::Plan);
            }
        }
    }

    fn deliver(&mut self, pid: Pid, input: Input) {
        let kernel = &mut self.kernel;
        if let Some(until) = kernel.paused.get(&pid) {
            let until = *until;
            if until > kernel.now {
                return kernel.at(until, Happening::To(pid, input));
            }
            kernel.paused.remove(&pid);
        }
        let Some(body) = self.processes.get_mut(&pid) else {
            if let Input::Call { from, id, .. } = input {
                let delay = kernel.random.millis(1, 100);
                kernel.after(delay, Happening::To(from, Input::Missing(id)));
            }
            return;
        };
        match input {
            Input::Answered(id, answer) => {
                if let Some(then) = kernel.called(id) {
                    body.answered(pid, then, *answer, kernel);
                }
            }
            Input::Missing(id) => {
                if let Some(then) = kernel.called(id) {
                    body.answered(pid, then, Err(Refused::Unreachable), kernel);
                }
            }
            input => body.handle(pid, input, kernel),
        }
    }

    /// Processes that were started begin, those that were ended are gone, and what was asked of the store is on its way.
    fn settle(&mut self) {
        loop {
            for (pid, body) in std::mem::take(&mut self.kernel.births) {
                self.processes.insert(pid, body);
                self.kernel
                    .after(Duration::ZERO, Happening::To(pid, Input::Begin));
            }
            for (pid, how) in std::mem::take(&mut self.kernel.deaths) {
                self.kill(pid, &how);
            }
            self.work();
            self.kernel.send_requests();
            if self.kernel.births.is_empty() && self.kernel.deaths.is_empty() {
                return;
            }
        }
    }

    /// Goes on with what waits for the store.
    fn work(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut done = Vec::new();
        for (id, (pid, work)) in &mut self.kernel.work {
            if self.kernel.paused.contains_key(pid) {
                continue;
            }
            if let Poll::Ready(outcome) = work.as_mut().poll(&mut cx) {
                done.push((*id, *pid, outcome));
            }
        }
        for (id, pid, outcome) in done {
            self.kernel.work.remove(&id);
            self.kernel
                .after(Duration::ZERO, Happening::To(pid, Input::Done(outcome)));
        }
    }

    /// A process is gone, with all that it has started.
    pub(crate) fn kill(&mut self, pid: Pid, how: &str) {
        let Some(body) = self.processes.remove(&pid) else {
            return;
        };
        let host = self.kernel.hosts.get(&pid).copied();
        self.kernel
            .tell(pid, format_args!("is gone from host {host:?}: {how}"));
        self.kernel.bury(pid);
        let delay = self.kernel.random.millis(1_000, 4_000);
        match (body, host) {
            (Body::Manager(_), Some(host)) => self.kernel.after(delay, Happening::Restart(host)),
            (Body::Launcher(launcher), Some(host)) => {
                for child in launcher.children() {
                    self.kill(child, "its TaskManager is gone");
                }
                self.kernel.after(delay, Happening::Restart(host));
            }
            (Body::Master(_) | Body::Worker(_), Some(host)) => {
                let launcher = self.launcher_of(host);
                let delay = self.kernel.random.millis(1, 50);
                if let Some(launcher) = launcher {
                    let ended = Input::ChildEnded(pid, how.to_owned());
                    self.kernel.after(delay, Happening::To(launcher, ended));
                }
            }
            _ => {}
        }
    }

    fn launcher_of(&self, host: Host) -> Option<Pid> {
        let mut all = self.processes.iter();
        let found = all.find(|(pid, body)| {
            matches!(body, Body::Launcher(_)) && self.kernel.hosts.get(pid) == Some(&host)
        });
        found.map(|(pid, _)| *pid)
    }

    fn restart(&mut self, host: Host) {
        let pid = self.kernel.next_pid;
        let body = if host < MANAGERS {
            Body::Manager(Box::new(JobManager::new(pid, &mut self.kernel)))
        } else {
            let id = TaskManagerId::from_u128(self.kernel.random.wide());
            Body::Launcher(Box::new(TaskManager::new(pid, (host, SLOTS), id)))
        };
        self.kernel.spawn(host, body);
        self.kernel.tell(pid, format_args!("is started on host {host}"));
    }

    /// At most one jobmanager leads, at any time.
    fn look_at_leaders(&mut self) {
        let leads =
            |body: &Body| matches!(body, Body::Manager(manager) if manager.leadership.leading().is_some());
        let leading = self.processes.values().filter(|body| leads(body)).count();
        self.kernel.checks.made += 1;
        if leading > 1 {
            self.kernel
                .checks
                .violated(format!("{leading} jobmanagers lead at once"));
        }
    }

    // What the plan asks.

    pub(crate) fn kind(&self, wanted: impl Fn(&Body) -> bool) -> Vec<Pid> {
        self.processes
            .iter()
            .filter(|(_, body)| wanted(body))
            .map(|(pid, _)| *pid)
            .collect()
    }

    pub(crate) fn leader(&self) -> Option<Pid> {
        let mut all = self.processes.iter();
        let leads =
            |body: &Body| matches!(body, Body::Manager(manager) if manager.leadership.leading().is_some());
        all.find(|(_, body)| leads(body)).map(|(pid, _)| *pid)
    }

    /// Whether some JobMaster says that the job runs.
    pub(crate) fn runs(&self) -> bool {
        let runs = |body: &Body| match body {
            Body::Master(master) => master
                .brain()
                .is_some_and(|brain| brain.status() == JobStatus::Running),
            _ => false,
        };
        self.processes.values().any(runs)
    }
}

impl Body {
    fn handle(&mut self, own: Pid, input: Input, kernel: &mut Kernel) {
        match self {
            Self::Manager(manager) => {
                let host = kernel.hosts.get(&own).copied().unwrap_or_default();
                manager.handle(input, host, kernel);
            }
            Self::Launcher(launcher) => launcher.handle(input, kernel),
            Self::Master(master) => master.handle(input, kernel),
            Self::Worker(worker) => worker.handle(input, kernel),
            Self::Client => {
                if matches!(input, Input::Begin | Input::Timer(_)) {
                    submit(own, kernel);
                }
            }
        }
    }

    fn answered(&mut self, own: Pid, then: Then, answer: Result<Reply, Refused>, kernel: &mut Kernel) {
        match self {
            Self::Manager(manager) => manager.answered(then, answer, kernel),
            Self::Launcher(launcher) => launcher.answered(then, answer, kernel),
            Self::Master(master) => master.answered(then, answer, kernel),
            Self::Worker(worker) => worker.answered(then, answer, kernel),
            Self::Client => match answer {
                Ok(_) => kernel.checks.accepted(),
                Err(_) => kernel.timer(
                    own,
                    Duration::from_millis(700),
                    crate::messages::Timer::LookForLeader,
                ),
            },
        }
    }
}

/// Asks one jobmanager after the other to take the job.
fn submit(own: Pid, kernel: &mut Kernel) {
    let managers: Vec<Pid> = kernel.managers.values().copied().collect();
    match kernel.random.pick(&managers) {
        Some(manager) => {
            let patience = Duration::from_secs(10);
            let stamp = None;
            kernel.ask((own, manager), stamp, Ask::Submit, (patience, Then::Submitted));
        }
        None => kernel.timer(
            own,
            Duration::from_millis(200),
            crate::messages::Timer::LookForLeader,
        ),
    }
}
