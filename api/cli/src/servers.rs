//! The processes of a cluster that run no user code.

use crate::config::Layers;
use crate::failure::Failure;
use crate::say;
use clap::{Args, ValueEnum};
use hurtig_cluster::process::launcher::run_launcher;
use hurtig_cluster::process::{
    JobManager, JobManagerConfig, LogBounds, ProcessLimits, Security, TaskManagerConfig, run_task_manager,
};
use hurtig_cluster::{ClusterConfig, LoadBalance};
use hurtig_core::config::{Configuration, options};
use hurtig_rest::{Reporting, RestConfig, serve};
use hurtig_storage::BlobStores;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long a jobmanager that leaves takes to say so.
const LEAVING: Duration = Duration::from_secs(2);

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
    #[command(flatten)]
    settings: Layers,
}

/// The settings of a jobmanager. Where nothing is said of a place for what outlives the process, it is `storage`.
fn read_settings(layers: &Layers, storage: &Path) -> Result<Configuration, Failure> {
    let read = layers.read(&[])?;
    if read.get(&options::STORAGE_DIR).is_some() {
        return Ok(read);
    }
    let storage = std::path::absolute(storage).map_err(|error| error.to_string())?;
    let storage = format!("{}={}", options::STORAGE_DIR.key(), storage.display());
    layers.read(&[storage])
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
    /// Where the jobmanagers listen, with commas between them; one of them leads.
    #[arg(long, default_value = "127.0.0.1:6123", value_delimiter = ',')]
    jobmanager: Vec<String>,
    /// Seconds for which none of them may be heard of.
    #[arg(long, default_value_t = 900)]
    patience: u64,
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
    #[command(flatten)]
    settings: Layers,
}

pub(crate) fn jobmanager(args: JobmanagerArgs) -> Result<ExitCode, Failure> {
    say::start_log();
    let taken = |error| format!("the REST API on port {}: {error}", args.rest_port);
    let settings = read_settings(&args.settings, &args.storage_dir)?;
    let rest_config = RestConfig::new(args.rest_port, &settings).map_err(|error| error.to_string())?;
    let listening = rest_config.listen().map_err(taken)?;
    raise_file_limit();
    let system = actix_rt::System::new();
    // Before anybody can know that it is there: what it is told then must not end it by the signal itself.
    let told_to_end = system.block_on(async { told_to_end() });
    let told_to_end = told_to_end.map_err(|error| format!("signals cannot be waited for: {error}"))?;
    let rest = listening.address().to_owned();
    let config = JobManagerConfig {
        security: Security::of_jobmanager(&settings)?,
        stores: stores(&settings),
        settings,
        port: args.port,
        storage_dir: args.storage_dir,
        cluster: ClusterConfig {
            load_balance: args.load_balance.into(),
            ..ClusterConfig::default()
        },
        rest: Some(rest.clone()),
    };
    let shown = shown_settings(&config, args.rest_port);
    let reporting = Reporting::read(&config.settings)?;
    let jobmanager = JobManager::start(config).map_err(|error| error.to_string())?;
    let rpc = jobmanager.address().to_owned();
    tracing::info!(rpc, rest, "ready");
    if let Some(path) = args.address_file {
        let written = write_addresses(&path, &rpc, &rest);
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let (served, ended) = system.block_on(async {
        tokio::select! {
            served = serve(listening, jobmanager.clone(), shown, reporting, told_to_end) => (served, None),
            deposed = jobmanager.ended() => (Ok(()), Some(deposed)),
        }
    });
    served.map_err(taken)?;
    if ended == Some(true) {
        tracing::warn!("begins again: another jobmanager leads, or may");
        return Err(begin_again().into());
    }
    // Another one leads at once, and not when nobody has renewed what this one has.
    jobmanager.resign();
    let left = async { tokio::time::timeout(LEAVING, jobmanager.ended()).await };
    let _ = system.block_on(left);
    match jobmanager.cluster().fault().filter(|_| ended.is_some()) {
        Some(fault) => Err(fault.to_string().into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// What returns when the process is told to end by SIGTERM, SIGINT or SIGQUIT, which it is from now on not ended by.
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    })
}

/// Where savepoints may lie that are to be deleted: in directories and, as the settings and the environment say, at `s3://…`.
fn stores(settings: &Configuration) -> BlobStores {
    let stores = BlobStores::local();
    #[cfg(feature = "s3")]
    let stores = hurtig_object_store::with_s3(stores, settings);
    #[cfg(not(feature = "s3"))]
    let _ = settings;
    stores
}

/// Each connection is a file, and a shell allows few by default.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Becomes a new process in the place of this one, of which nothing is left. Returns why it cannot.
fn begin_again() -> String {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut command = std::process::Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, name);
    let error = std::os::unix::process::CommandExt::exec(command.args(arguments));
    format!("a jobmanager that does not lead any more could not begin again: {error}")
}

/// What a jobmanager runs with, by the names of the options.
fn shown_settings(config: &JobManagerConfig, rest_port: u16) -> BTreeMap<String, String> {
    let cluster = &config.cluster;
    let set = config.settings.entries().filter(|entry| entry.source.is_some());
    let millis = |duration: std::time::Duration| format!("{} ms", duration.as_millis());
    [
        ("jobmanager.rpc.port", config.port.to_string()),
        ("rest.port", rest_port.to_string()),
        ("rest.bind-address", "127.0.0.1".to_owned()),
        ("blob.storage.directory", config.storage_dir.display().to_string()),
        ("slot.request.timeout", millis(cluster.slot_request_timeout)),
        ("task.cancellation.timeout", millis(cluster.cancellation_timeout)),
        ("rpc.ask-timeout", millis(cluster.ask_timeout)),
        ("jobstore.max-capacity", cluster.job_store_capacity.to_string()),
        (
            "web.exception-history-size",
            cluster.exception_history.to_string(),
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into_iter()
    .chain(set.map(|entry| (entry.option.key().to_owned(), entry.value)))
    .collect()
}

/// Whoever reads them sees all of them or nothing.
fn write_addresses(path: &Path, rpc: &str, rest: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let text = serde_json::json!({ "rpc": rpc, "rest": rest }).to_string();
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

pub(crate) fn taskmanager(args: TaskmanagerArgs) -> Result<ExitCode, Failure> {
    say::start_log();
    let absolute =
        |path: PathBuf| std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()));
    let settings = args.settings.read(&[])?;
    let config = TaskManagerConfig {
        limits: ProcessLimits::read(&settings)?,
        security: Security::of_task_manager(&settings)?,
        logs: LogBounds {
            bytes: settings.get(&options::LOG_SIZE).get(),
            old: settings.get(&options::LOG_FILES),
        },
        jobmanagers: args.jobmanager,
        patience: Duration::from_secs(args.patience),
        slots: args.slots,
        threads: args.threads,
        work_dir: absolute(args.work_dir)?,
        log_dir: absolute(args.log_dir)?,
    };
    Ok(ExitCode::from(run_task_manager(config, &["launcher"])))
}

pub(crate) fn launcher() -> Result<ExitCode, Failure> {
    say::start_log();
    let ended = run_launcher();
    ended.map_err(|error| format!("the launcher: {error}"))?;
    Ok(ExitCode::SUCCESS)
}
