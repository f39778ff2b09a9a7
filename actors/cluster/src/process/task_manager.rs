//! The actor of a TaskManager's process: it fetches artifacts, has its launcher start processes, and reports how they end.

use super::blobs::{Program, fetch};
use super::cgroup::Groups;
use super::confine::out_of_memory;
use super::launch::{
    JobLaunch, LAUNCH_VERSION, Launch, PlanAnswer, ProcessExit, ProcessId, Role, RunningProcess,
};
use super::orders::{Order, Report, Start};
use super::output::last_bytes;
use super::plans::{compare, environment};
use super::registering::TaskManagerConfig;
use super::starter::Starter;
use crate::wire::{
    BlobRpc, EndProcess, EndProcesses, LauncherRpc, Plan, PlanJob, ProcessEnded, ResourceManagerRpc,
    StartJobMaster, StartWorker,
};
use hurtig_core::Error;
use hurtig_core::ids::{AllocationId, JobId, TaskManagerId};
use hurtig_dataflow::graph::JobGraph;
use hurtig_ha::blob::BlobDir;
use hurtig_kit::{Component, ExitReason, Panicked, Reply, ShellCx};
use hurtig_rpc::{Call, Gateway, Responder, Routes, TlsGiven};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// Messages that may wait for it.
const CAPACITY: usize = 1_024;
/// How long the leader may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A program must reach `execute` within this (`artifact.plan-timeout`).
const PLANNING: Duration = Duration::from_secs(30);
/// How much of the end of a log is read for a report.
const LAST_BYTES: u64 = 4_096;
/// Artifacts that are kept open, checked.
const PROGRAMS: usize = 16;
/// How many lines of that are reported.
const LAST_LINES: usize = 10;

/// What reaches a TaskManager of a cluster of processes.
pub(super) enum Event {
    StartMaster(Call<StartJobMaster>),
    StartWorker(Call<StartWorker>),
    EndProcesses(Call<EndProcesses>),
    EndProcess(Call<EndProcess>),
    Plan(Call<PlanJob>),
    /// The artifact of a process is here, or will not be.
    Fetched(Box<Prepared>, Result<Program, String>),
    /// From the launcher; `None`: it is gone.
    Heard(Option<Report>),
    /// Timer: a plan run has had its time.
    PlanExpired(u64),
    /// The leader knows of an end.
    Reported,
    /// It will not, and another one may be there.
    Unreported(ProcessId, Box<ProcessExit>),
    /// Somebody leads. Answered with what runs: ends that come later are reported when that is known there.
    Led(Box<Led>, Reply<Vec<RunningProcess>>),
    /// The leader knows what runs.
    Registered,
}

/// Who leads.
pub(super) struct Led {
    pub(super) cluster: Uuid,
    pub(super) address: String,
    /// Whether another one will follow it.
    pub(super) durable: bool,
    pub(super) resources: Gateway<ResourceManagerRpc>,
    pub(super) blobs: Gateway<BlobRpc>,
}

/// A process that waits for its artifact.
#[derive(Clone)]
pub(super) struct Prepared {
    what: What,
    role: Role,
    launch: JobLaunch,
}

/// Whether a command was taken up; the other error ends this process.
type TakenUp = Result<Result<(), Error>, ExitReason>;

impl Prepared {
    /// A plan is made twice.
    fn runs(self) -> Vec<Self> {
        match self.what {
            What::Plan { plan, .. } => [false, true]
                .map(|second| Self {
                    what: What::Plan { plan, second },
                    ..self.clone()
                })
                .into(),
            What::Process(_) => vec![self],
        }
    }
}

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Process(ProcessId),
    /// One of the two runs of a plan.
    Plan {
        plan: u64,
        second: bool,
    },
}

struct Running {
    what: What,
    log: PathBuf,
    dir: PathBuf,
    /// Bytes that it may use.
    memory: Option<u64>,
}

/// A plan whose runs have not both answered.
struct Planning {
    reply: Responder<Plan>,
    runs: Vec<u64>,
    graphs: Vec<JobGraph>,
}

pub(super) struct ProcessTaskManager {
    id: TaskManagerId,
    led: Option<Led>,
    config: TaskManagerConfig,
    artifacts: BlobDir,
    starter: Starter,
    /// Where processes have groups of their own.
    groups: Option<Groups>,
    /// Artifacts that were checked, by their digests, those that were used last at the end.
    programs: VecDeque<(String, Program)>,
    next: u64,
    running: BTreeMap<u64, Running>,
    /// What runs, or waits for its artifact, with its slots.
    begun: BTreeMap<ProcessId, Vec<AllocationId>>,
    /// What has ended while no leader knew of it.
    unreported: Vec<(ProcessId, ProcessExit)>,
    /// Whether the leader knows what runs here.
    registered: bool,
    /// Epochs of which nothing may be started any more.
    over: BTreeMap<JobId, NonZeroU64>,
    /// Who waits for the end of processes.
    waiting: Vec<Call<EndProcesses>>,
    plans: BTreeMap<u64, Planning>,
}

impl Component for ProcessTaskManager {
    type Event = Event;

    fn name(&self) -> String {
        format!("task manager {}", self.id)
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn started(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let own = cx.mailbox();
        let heard = move |report| {
            // Reports are few, and this actor never waits.
            if let Err(error) = own.tell(Event::Heard(report)) {
                tracing::error!(%error, "a report of the launcher is lost");
            }
        };
        let listening = self.starter.listen(heard);
        listening.map_err(|error| ExitReason::failed(Error::external("no thread for the launcher", error)))
    }

    fn handle(&mut self, event: Event, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            Event::StartMaster(call) => match self.start_master(call.message, cx)? {
                Ok(()) => call.reply.send(()),
                Err(error) => call.reply.fail(&error),
            },
            Event::StartWorker(call) => match self.start_worker(call.message, cx)? {
                Ok(()) => call.reply.send(()),
                Err(error) => call.reply.fail(&error),
            },
            Event::EndProcesses(call) => self.end_processes(call)?,
            Event::EndProcess(call) => {
                self.end_process(call.message.process)?;
                call.reply.send(());
            }
            Event::Plan(call) => self.plan(call, cx)?,
            Event::Fetched(prepared, fetched) => self.on_fetched(*prepared, fetched, cx)?,
            Event::Heard(Some(report)) => self.on_report(report, cx)?,
            Event::Heard(None) => {
                let gone = Error::internal("the launcher is gone, and all that it had started");
                return Err(ExitReason::failed(gone));
            }
            Event::PlanExpired(plan) => self.on_plan_expired(plan)?,
            Event::Reported => {}
            Event::Led(led, reply) => {
                (self.led, self.registered) = (Some(*led), false);
                let running = self.begun.iter().map(|(process, allocations)| RunningProcess {
                    process: *process,
                    allocations: allocations.clone(),
                });
                reply.send(running.collect());
            }
            Event::Registered => {
                self.registered = true;
                for (process, exit) in std::mem::take(&mut self.unreported) {
                    self.report(process, exit, cx);
                }
            }
            Event::Unreported(process, exit) => self.report(process, *exit, cx),
        }
        Ok(())
    }
}

impl ProcessTaskManager {
    /// One that nobody leads, and that runs nothing.
    pub(super) fn new(
        id: TaskManagerId,
        config: TaskManagerConfig,
        artifacts: BlobDir,
        (starter, groups): (Starter, Option<Groups>),
    ) -> Self {
        Self {
            id,
            led: None,
            config,
            artifacts,
            starter,
            groups,
            programs: VecDeque::new(),
            next: 0,
            running: BTreeMap::new(),
            begun: BTreeMap::new(),
            unreported: Vec::new(),
            registered: false,
            over: BTreeMap::new(),
            waiting: Vec::new(),
            plans: BTreeMap::new(),
        }
    }

    /// What a leader commands.
    pub(super) fn routes() -> Routes<LauncherRpc, Event> {
        Routes::new()
            .on(Event::StartMaster)
            .on(Event::StartWorker)
            .on(Event::EndProcesses)
            .on(Event::EndProcess)
            .on(Event::Plan)
    }

    fn led(&self) -> Result<&Led, Error> {
        self.led
            .as_ref()
            .ok_or_else(|| Error::internal("a command of a leader that is gone".to_owned()))
    }

    fn certificate_of(&self, job: JobId, epoch: NonZeroU64) -> Result<Option<Box<TlsGiven>>, Error> {
        let security = &self.config.security;
        security.certificate_of(job, epoch).map_err(Error::internal)
    }

    fn start_master(&mut self, order: StartJobMaster, cx: &mut ShellCx<'_, Self>) -> TakenUp {
        let StartJobMaster { epoch, launch } = order;
        let job = match job_of(&launch) {
            Ok(job) => job,
            Err(error) => return Ok(Err(error)),
        };
        let led = match self.led() {
            Ok(led) => led,
            Err(error) => return Ok(Err(error)),
        };
        let tls = match self.certificate_of(job, epoch) {
            Ok(tls) => tls,
            Err(error) => return Ok(Err(error)),
        };
        let role = Role::JobMaster {
            cluster: led.cluster,
            leader: led.address.clone(),
            epoch,
            jobmanagers: match led.durable {
                true => self.config.jobmanagers.clone(),
                false => Vec::new(),
            },
            tls,
        };
        let what = What::Process(ProcessId::JobMaster { job, epoch });
        self.prepare(Prepared { what, role, launch }, cx).map(Ok)
    }

    fn start_worker(&mut self, order: StartWorker, cx: &mut ShellCx<'_, Self>) -> TakenUp {
        let StartWorker {
            worker,
            epoch,
            allocations,
            master,
            launch,
        } = order;
        let job = match job_of(&launch) {
            Ok(job) => job,
            Err(error) => return Ok(Err(error)),
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let cluster = match self.led() {
            Ok(led) => led.cluster,
            Err(error) => return Ok(Err(error)),
        };
        let tls = match self.certificate_of(job, epoch) {
            Ok(tls) => tls,
            Err(error) => return Ok(Err(error)),
        };
        let role = Role::Worker {
            cluster,
            worker,
            epoch,
            allocations,
            master,
            threads: match self.config.threads {
                0 => u32::try_from(cores).unwrap_or(1),
                threads => threads,
            },
            task_manager: Some(self.id),
            tls,
        };
        let what = What::Process(ProcessId::Worker { job, epoch, worker });
        self.prepare(Prepared { what, role, launch }, cx).map(Ok)
    }

    /// Starts a process as soon as its artifact is here. What was started already, or is over, is not.
    fn prepare(&mut self, prepared: Prepared, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        if let What::Process(process) = prepared.what {
            if self.begun.contains_key(&process) {
                return Ok(());
            }
            self.begun.insert(process, allocations_of(&prepared.role));
        }
        let artifact = &prepared.launch.artifact;
        let known = self.programs.iter().find(|(digest, _)| digest == artifact);
        if let Some((_, program)) = known.filter(|(_, program)| program.is_unchanged()) {
            let program = program.clone();
            return self.on_fetched(prepared, Ok(program), cx);
        }
        let Some(led) = &self.led else {
            self.not_started(prepared.what, "nobody leads".to_owned(), cx);
            return Ok(());
        };
        let fetched = fetch(
            self.artifacts.clone(),
            artifact.clone(),
            led.blobs.clone(),
            cx.env().blocking.clone(),
        );
        let prepared = Box::new(prepared);
        cx.drive(fetched, |fetched| {
            let fetched = fetched.unwrap_or_else(|Panicked { message }| Err(message));
            Event::Fetched(prepared, fetched)
        });
        Ok(())
    }

    fn on_fetched(
        &mut self,
        prepared: Prepared,
        fetched: Result<Program, String>,
        cx: &mut ShellCx<'_, Self>,
    ) -> Result<(), ExitReason> {
        let what = prepared.what;
        if self.is_over(what) {
            self.forget(what);
            return Ok(());
        }
        if let What::Process(process) = what
            && !self.begun.contains_key(&process)
        {
            // It was ended while it waited.
            return Ok(());
        }
        let program = match fetched {
            Ok(program) => program,
            Err(why) => {
                self.not_started(what, why, cx);
                return Ok(());
            }
        };
        self.remember(&prepared.launch.artifact, program.clone());
        if let What::Plan { plan, .. } = what {
            cx.after(PLANNING, Event::PlanExpired(plan));
        }
        for prepared in prepared.runs() {
            let what = prepared.what;
            match self.start(prepared) {
                Ok(order) => self.order(&order, Some(&program))?,
                Err(why) => self.not_started(what, why, cx),
            }
        }
        Ok(())
    }

    fn forget(&mut self, what: What) {
        if let What::Process(process) = what {
            self.begun.remove(&process);
        }
    }

    fn is_over(&self, what: What) -> bool {
        match what {
            What::Process(process) => {
                let over = self.over.get(&process.job());
                over.is_some_and(|over| process.epoch() <= *over)
            }
            What::Plan { plan, .. } => !self.plans.contains_key(&plan),
        }
    }

    fn remember(&mut self, artifact: &str, program: Program) {
        self.programs.retain(|(digest, _)| digest != artifact);
        if self.programs.len() == PROGRAMS {
            self.programs.pop_front();
        }
        self.programs.push_back((artifact.to_owned(), program));
    }

    fn start(&mut self, prepared: Prepared) -> Result<Order, String> {
        let Prepared { what, role, launch } = prepared;
        let id = self.next;
        self.next += 1;
        let (name, environment) = match what {
            What::Process(process) => (process.to_string(), environment(false)),
            What::Plan { plan, second } => (
                format!("plan-{plan}-{}", u8::from(second) + 1),
                environment(second),
            ),
        };
        let dir = self.config.work_dir.join("jobs").join(&name);
        let log = self.config.log_dir.join(format!("{name}.log"));
        // What it keeps on disk for itself goes with it.
        let place = ("TMPDIR".to_owned(), dir.display().to_string());
        let environment = environment.into_iter().chain([place]).collect();
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        if let What::Plan { plan, .. } = what
            && let Some(planning) = self.plans.get_mut(&plan)
        {
            planning.runs.push(id);
        }
        let limits = &self.config.limits;
        let confinement = limits.of(&role, self.config.slots, self.groups.as_ref(), &name);
        self.running.insert(
            id,
            Running {
                what,
                log: log.clone(),
                dir: dir.clone(),
                memory: confinement.memory,
            },
        );
        tracing::info!(name, "is started");
        let launch = Launch {
            version: LAUNCH_VERSION,
            launcher: 0,
            role,
            job: launch,
        };
        Ok(Order::Start(Box::new(Start {
            id,
            name,
            dir,
            environment,
            log,
            log_bounds: self.config.logs,
            confinement,
            launch,
        })))
    }

    fn order(&self, order: &Order, program: Option<&Program>) -> Result<(), ExitReason> {
        let ordered = self.starter.order(order, program.map(Program::as_fd));
        ordered.map_err(|error| ExitReason::failed(Error::external("the launcher is gone", error)))
    }

    fn end_processes(&mut self, call: Call<EndProcesses>) -> Result<(), ExitReason> {
        let EndProcesses { job, epoch } = call.message;
        let over = self.over.entry(job).or_insert(epoch);
        *over = (*over).max(epoch);
        for id in self.left(&call.message) {
            self.order(&Order::Kill { id }, None)?;
        }
        self.waiting.push(call);
        self.answer_waiting();
        Ok(())
    }

    fn end_process(&mut self, process: ProcessId) -> Result<(), ExitReason> {
        let mut running = self.running.iter();
        match running.find(|(_, running)| running.what == What::Process(process)) {
            Some((id, _)) => self.order(&Order::Kill { id: *id }, None),
            None => {
                // It may wait for its artifact.
                self.begun.remove(&process);
                Ok(())
            }
        }
    }

    fn left(&self, end: &EndProcesses) -> Vec<u64> {
        let of_job = |what: &What| match what {
            What::Process(process) => process.job() == end.job && process.epoch() <= end.epoch,
            What::Plan { .. } => false,
        };
        let left = self.running.iter().filter(|(_, running)| of_job(&running.what));
        left.map(|(id, _)| *id).collect()
    }

    fn answer_waiting(&mut self) {
        for call in std::mem::take(&mut self.waiting) {
            if self.left(&call.message).is_empty() {
                call.reply.send(());
            } else {
                self.waiting.push(call);
            }
        }
    }

    fn on_report(&mut self, report: Report, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match report {
            Report::Refused { id, why } => {
                if let Some(running) = self.running.remove(&id) {
                    remove_dir(&running.dir);
                    self.not_started(running.what, why, cx);
                }
            }
            Report::Ended {
                id,
                code,
                signal,
                killed_for,
                answer,
            } => {
                let Some(running) = self.running.remove(&id) else {
                    return Ok(());
                };
                let mut exit = ProcessExit {
                    code,
                    signal,
                    last_lines: last_lines(&running.log),
                    ..ProcessExit::default()
                };
                let of_worker = matches!(running.what, What::Process(ProcessId::Worker { .. }));
                exit.out_of_memory = out_of_memory(killed_for, &exit, (running.memory, of_worker));
                remove_dir(&running.dir);
                self.forget(running.what);
                match running.what {
                    What::Process(process) => self.report(process, exit, cx),
                    What::Plan { plan, .. } => self.on_plan_run(plan, &answer, &exit)?,
                }
            }
        }
        self.answer_waiting();
        Ok(())
    }

    fn not_started(&mut self, what: What, why: String, cx: &mut ShellCx<'_, Self>) {
        self.forget(what);
        match what {
            What::Process(process) => {
                let not_started = Some(why);
                let exit = ProcessExit {
                    not_started,
                    ..ProcessExit::default()
                };
                self.report(process, exit, cx);
            }
            What::Plan { plan, .. } => self.answer_plan(plan, Plan::Refused(why)),
        }
    }

    /// The leader is told until it has heard; one that follows it is told then.
    fn report(&mut self, process: ProcessId, exit: ProcessExit, cx: &mut ShellCx<'_, Self>) {
        tracing::info!(%process, %exit, "has ended");
        let Some(led) = self.led.as_ref().filter(|_| self.registered) else {
            return self.unreported.push((process, exit));
        };
        let (resources, task_manager) = (led.resources.clone(), self.id);
        let reported = async move {
            let ended = ProcessEnded {
                task_manager,
                process,
                exit: exit.clone(),
            };
            match resources.ask(ended, PATIENCE).await {
                Err(error) if error.may_retry() => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Some(exit)
                }
                _ => None,
            }
        };
        cx.drive(reported, move |reported| match reported {
            Ok(Some(exit)) => Event::Unreported(process, Box::new(exit)),
            _ => Event::Reported,
        });
    }

    // Plans.

    fn plan(&mut self, call: Call<PlanJob>, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let plan = self.next;
        self.next += 1;
        let launch = call.message.launch;
        self.plans.insert(
            plan,
            Planning {
                reply: call.reply,
                runs: Vec::new(),
                graphs: Vec::new(),
            },
        );
        let what = What::Plan { plan, second: false };
        let role = Role::Plan;
        self.prepare(Prepared { what, role, launch }, cx)
    }

    fn answer_plan(&mut self, plan: u64, answer: Plan) {
        if let Some(planning) = self.plans.remove(&plan) {
            planning.reply.send(answer);
        }
    }

    fn on_plan_run(&mut self, plan: u64, answer: &[u8], exit: &ProcessExit) -> Result<(), ExitReason> {
        let Some(planning) = self.plans.get_mut(&plan) else {
            return Ok(());
        };
        let answered = match serde_json::from_slice(answer) {
            Ok(PlanAnswer::Graph(graph)) => {
                planning.graphs.push(*graph);
                match &planning.graphs[..] {
                    [one, other] => Some(compare(one, other)),
                    _ => None,
                }
            }
            Ok(PlanAnswer::Refused(why)) => Some(Plan::Refused(why)),
            // What it was started with still stands there.
            Err(_) => Some(Plan::Refused(format!(
                "the program has not planned a job: {exit}"
            ))),
        };
        match answered {
            Some(answer) => self.end_plan(plan, answer),
            None => Ok(()),
        }
    }

    fn on_plan_expired(&mut self, plan: u64) -> Result<(), ExitReason> {
        let why = format!("the program has not reached `execute` within {PLANNING:?}");
        self.end_plan(plan, Plan::Refused(why))
    }

    /// Answers, and ends the run that is still under way.
    fn end_plan(&mut self, plan: u64, answer: Plan) -> Result<(), ExitReason> {
        let runs = self.plans.get(&plan).map(|planning| planning.runs.clone());
        self.answer_plan(plan, answer);
        for id in runs.unwrap_or_default() {
            if self.running.contains_key(&id) {
                self.order(&Order::Kill { id }, None)?;
            }
        }
        Ok(())
    }
}

/// The slots of a process.
fn allocations_of(role: &Role) -> Vec<AllocationId> {
    match role {
        Role::Worker { allocations, .. } => allocations.clone(),
        Role::Plan | Role::JobMaster { .. } => Vec::new(),
    }
}

/// The job whose process is to be started.
fn job_of(launch: &JobLaunch) -> Result<JobId, Error> {
    let graph = launch.graph.as_ref().map(|graph| graph.id);
    graph.ok_or_else(|| {
        Error::internal("the command to start a process has no graph: its job was not planned".to_owned())
    })
}

fn remove_dir(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "a working directory cannot be deleted");
    }
}

/// The end of a log.
fn last_lines(log: &Path) -> Vec<String> {
    let bytes = last_bytes(log, LAST_BYTES);
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines[from..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_a_graph_fails() {
        let launch = JobLaunch {
            artifact: "0".repeat(64),
            args: Vec::new(),
            config: BTreeMap::new(),
            defaults: BTreeMap::new(),
            parallelism: None,
            graph: None,
        };
        let error = job_of(&launch).unwrap_err().to_string();
        assert!(error.contains("has no graph"), "{error}");
    }

    #[test]
    fn the_last_lines_of_a_log_are_found_in_a_long_one() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let text: String = (0..2_000).map(|n| format!("line {n}\n\n")).collect();
        std::fs::write(&log, text).unwrap();
        let lines = last_lines(&log);
        assert_eq!((lines.len(), lines[9].as_str()), (LAST_LINES, "line 1999"));
        assert!(last_lines(&dir.path().join("none")).is_empty());
    }
}
