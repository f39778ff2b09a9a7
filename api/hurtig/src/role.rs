//! What a program does in a process that a cluster has started: its `execute` does not return.
//!
//! The program is run as ever, with the arguments and settings of the submission, up to its first `execute`. There the process becomes what it
//! was started for: a plan run answers the graph, a JobMaster or worker runs the graph that was submitted with the code that is here.

use crate::Error;
use crate::settings::JobSetup;
use hurtig_cluster::process::launch::{PlanAnswer, Role};
use hurtig_cluster::process::role::{Entered, enter};
use hurtig_cluster::process::{JobCodeHere, Obeys, run_job_master, run_worker};
use hurtig_core::config::{Configuration, options};
use hurtig_core::time::SystemClock;
use hurtig_dataflow::graph::JobGraph;
use hurtig_dataflow::program::Program;
use hurtig_state::StateBackend;
use hurtig_task::LinkedProgram;
use std::collections::BTreeMap;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

/// The role of this process. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct ProgramRole(Arc<Entered>);

tokio::task_local! {
    /// For environments that a program without an environment of its own makes.
    static CURRENT: ProgramRole;
}

/// What `execute` has built.
pub(crate) struct Built {
    pub(crate) name: String,
    pub(crate) graph: JobGraph,
    pub(crate) program: Program,
    pub(crate) config: Configuration,
    pub(crate) backend: StateBackend,
    pub(crate) setup: JobSetup,
}

impl ProgramRole {
    /// The role that this process was started in; `None`: it is a program that a person runs.
    pub(crate) fn of_process() -> Result<Option<Self>, String> {
        crate::note::keep();
        let arguments: Vec<_> = std::env::args_os().take(3).collect();
        Ok(enter(&arguments)?.map(|entered| Self(Arc::new(entered))))
    }

    /// That of the program which is being polled.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Polls `program` so that environments made in it have this role.
    pub(crate) fn scope<F: Future>(&self, program: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self.clone(), program)
    }

    /// The command line of the submission, as if a person had typed it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let name = std::env::args().next().unwrap_or_default();
        std::iter::once(name)
            .chain(self.0.launch.job.args.clone())
            .collect()
    }

    /// The settings of the submission, as definitions.
    pub(crate) fn definitions(&self) -> Vec<String> {
        let config = self.0.launch.job.config.iter();
        config.map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// What the cluster's configuration says of jobs.
    pub(crate) fn defaults(&self) -> &BTreeMap<String, String> {
        &self.0.launch.job.defaults
    }

    pub(crate) fn parallelism(&self) -> Option<u32> {
        self.0.launch.job.parallelism
    }

    fn is_plan(&self) -> bool {
        self.0.launch.role == Role::Plan
    }

    /// The program has ended without having run a job, or with an error.
    pub(crate) fn ended(&self, result: Result<(), String>) -> ExitCode {
        let why = match result {
            Ok(()) => "the program has ended without running a job".to_owned(),
            Err(why) => why,
        };
        if self.is_plan() {
            return self.answer(&PlanAnswer::Refused(why));
        }
        tracing::error!(why, "the program does not run its job");
        ExitCode::FAILURE
    }

    fn answer(&self, answer: &PlanAnswer) -> ExitCode {
        match self.0.answer(answer) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "the plan cannot be answered");
                ExitCode::FAILURE
            }
        }
    }

    /// Does what the process was started for, and ends it.
    ///
    /// # Errors
    /// When the program or its settings are wrong.
    pub(crate) async fn take_over(&self, built: Built) -> Result<std::convert::Infallible, Error> {
        match &self.0.launch.role {
            Role::Plan => self.plan(built),
            Role::JobMaster {
                cluster,
                leader,
                epoch,
                jobmanagers,
                tls,
            } => {
                let obeys = Obeys {
                    cluster: *cluster,
                    leader: leader.clone(),
                    jobmanagers: jobmanagers.clone(),
                    tls: tls.clone(),
                };
                let (epoch, code) = (*epoch, self.code(built)?);
                end_with(move || run_job_master(obeys, epoch, code))?;
            }
            role @ Role::Worker { .. } => {
                let (role, code) = (role.clone(), self.code(built)?);
                end_with(move || run_worker(&role, code))?;
            }
        }
        // The process ends beneath it.
        std::future::pending().await
    }

    fn plan(&self, built: Built) -> ! {
        let answer = match check(&built) {
            Ok(()) => PlanAnswer::Graph(Box::new(built.graph)),
            Err(error) => PlanAnswer::Refused(error.to_string()),
        };
        self.answer(&answer);
        std::process::exit(0)
    }

    /// The submitted graph with the code that was built here, if both are of one program.
    fn code(&self, built: Built) -> Result<JobCodeHere, Error> {
        let submitted = self.0.launch.job.graph.as_deref();
        let graph = submitted.ok_or_else(|| Error::program("the launch data have no graph".to_owned()))?;
        if graph.fingerprint != built.graph.fingerprint {
            return Err(Error::program(format!(
                "the program builds another graph (fingerprint {}) here than when it was submitted ({}): what a graph depends on \
                 must be arguments and settings",
                built.graph.fingerprint, graph.fingerprint
            )));
        }
        let settings = crate::settings::task_settings(&built.config);
        let linked = LinkedProgram::new(graph.clone(), built.program, settings, SystemClock::new())
            .keeping_state_in(built.backend);
        let linked = match built.setup.takes_checkpoints {
            true => linked.with_checkpoints(built.setup.storage),
            false => linked.with_savepoints(built.setup.storage),
        };
        Ok(JobCodeHere {
            graph: graph.clone(),
            factory: Arc::new(linked),
            options: built.setup.options,
            config: crate::settings::cluster_config(&built.config)?,
        })
    }
}

/// What is wrong with a job is said before it is accepted.
fn check(built: &Built) -> Result<(), Error> {
    built
        .program
        .validate(built.setup.goes_on(&built.name))
        .map_err(Error::job)?;
    crate::settings::cluster_config(&built.config)?;
    let config = &built.config;
    if config.get(&options::CHECKPOINT_INTERVAL).is_some() && config.get(&options::CHECKPOINT_DIR).is_none() {
        return Err(Error::Config(format!(
            "{} is set and {} is not: on a cluster, checkpoints in the memory of a process end with it. Set {1} to a directory \
             that all processes of the job reach",
            options::CHECKPOINT_INTERVAL.key(),
            options::CHECKPOINT_DIR.key()
        )));
    }
    for dir in [&options::CHECKPOINT_DIR, &options::SAVEPOINT_DIR] {
        if let Some(path) = config.get(dir).filter(|path| !is_whole(path)) {
            return Err(Error::Config(format!(
                "{} is '{path}', which each process of the job would look for in its own directory: name the whole path",
                dir.key()
            )));
        }
    }
    Ok(())
}

/// Whether a place means the same to all processes.
fn is_whole(path: &str) -> bool {
    path.starts_with('/') || path.contains("://")
}

/// Runs actors on a thread of their own, and ends the process with what they return.
fn end_with(run: impl FnOnce() -> u8 + Send + 'static) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name("hurtig-process".to_owned());
    let started = thread.spawn(move || std::process::exit(run().into()));
    started
        .map(drop)
        .map_err(|error| Error::Cluster(format!("no thread for the actors: {error}")))
}
