//! The processes of a cluster that run no user code.

use crate::say;
use clap::{Args, ValueEnum};
use hurtig_cluster::process::launcher::run_launcher;
use hurtig_cluster::process::{JobManager, JobManagerConfig, TaskManagerConfig, run_task_manager};
use hurtig_cluster::{ClusterConfig, LoadBalance};
use hurtig_rest::{RestConfig, serve};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How a jobmanager is started.
#[derive(Args)]
pub(crate) struct JobmanagerArgs {
    /// The port on this machine at which TaskManagers reach it; 0: any that is free.
    #[arg(long, default_value_t = 6123)]
    port: u16,
    /// The port of its REST API on this machine; 0: any that is free.
    #[arg(long, default_value_t = 8081)]
    rest_port: u16,
    /// Which free slots a job gets.
    #[arg(long, default_value = "none")]
    load_balance: Balance,
    /// Where it keeps artifacts.
    #[arg(long, default_value = "hurtig-storage")]
    storage_dir: PathBuf,
    /// Where it writes its addresses, as JSON, when it is ready.
    #[arg(long)]
    address_file: Option<PathBuf>,
}

/// Which free slots a job gets.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Balance {
    /// Those of few TaskManagers: little crosses between processes
    None,
    /// Those of the TaskManagers that are used the least: each does its share
    Slots,
}

impl Balance {
    /// As it is said on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Slots => "slots",
        }
    }
}

impl From<Balance> for LoadBalance {
    fn from(balance: Balance) -> Self {
        match balance {
            Balance::None => Self::None,
            Balance::Slots => Self::Slots,
        }
    }
}

/// How a TaskManager is started.
#[derive(Args)]
pub(crate) struct TaskmanagerArgs {
    /// Where the jobmanager listens.
    #[arg(long, default_value = "127.0.0.1:6123")]
    jobmanager: String,
    /// How many slots it offers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// Threads of each worker; 0: one for each core.
    #[arg(long, default_value_t = 0)]
    threads: u32,
    /// Where it keeps artifacts and the working directories of its processes. No two TaskManagers share one.
    #[arg(long, default_value = "hurtig-work")]
    work_dir: PathBuf,
    /// Where the logs of its processes go.
    #[arg(long, default_value = "hurtig-log")]
    log_dir: PathBuf,
}

pub(crate) fn jobmanager(args: JobmanagerArgs) -> Result<ExitCode, String> {
    say::start_log();
    let config = JobManagerConfig {
        port: args.port,
        storage_dir: args.storage_dir,
        cluster: ClusterConfig {
            load_balance: args.load_balance.into(),
            ..ClusterConfig::default()
        },
    };
    let jobmanager = JobManager::start(config).map_err(|error| error.to_string())?;
    let rpc = jobmanager.address().to_owned();
    let file = args.address_file;
    let ready = move |rest: &str| {
        tracing::info!(rpc, rest, "ready");
        if let Some(path) = file
            && let Err(error) = write_addresses(&path, &rpc, rest)
        {
            tracing::error!(path = %path.display(), %error, "the addresses cannot be written");
        }
    };
    let rest = RestConfig { port: args.rest_port };
    let served = actix_rt::System::new().block_on(serve(rest, jobmanager.clone(), ready));
    served.map_err(|error| format!("the REST API on port {}: {error}", args.rest_port))?;
    match jobmanager.cluster().fault() {
        Some(fault) => Err(fault.to_string()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Whoever reads them sees all of them or nothing.
fn write_addresses(path: &Path, rpc: &str, rest: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let text = serde_json::json!({ "rpc": rpc, "rest": rest }).to_string();
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

pub(crate) fn taskmanager(args: TaskmanagerArgs) -> Result<ExitCode, String> {
    say::start_log();
    let absolute =
        |path: PathBuf| std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()));
    let config = TaskManagerConfig {
        leader: args.jobmanager,
        slots: args.slots,
        threads: args.threads,
        work_dir: absolute(args.work_dir)?,
        log_dir: absolute(args.log_dir)?,
    };
    Ok(ExitCode::from(run_task_manager(config, &["launcher"])))
}

pub(crate) fn launcher() -> Result<ExitCode, String> {
    let ended = run_launcher();
    ended
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| format!("the launcher: {error}"))
}
