//! The program `hurtig`: processes of a cluster, and commands to it.
//!
//! `jobmanager` and `taskmanager` are processes, in the foreground. `cluster` starts and ends both in the background. `run`, `list`,
//! `cancel`, `savepoint` and `stop` speak to a jobmanager's REST API.

mod client;
mod cluster;
mod commands;
mod say;
mod servers;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

// The allocator of artifacts too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Stateful computation over data streams: processes of a cluster, and commands to it.
#[derive(Parser)]
#[command(name = "hurtig", version)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A jobmanager, in the foreground: accepts jobs and serves the REST API.
    Jobmanager(servers::JobmanagerArgs),
    /// A TaskManager, in the foreground: starts and ends the processes of jobs.
    Taskmanager(servers::TaskmanagerArgs),
    /// The part of a TaskManager that starts processes. Not for people.
    #[command(hide = true)]
    Launcher,
    /// A cluster of this machine, in the background.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Runs an artifact: a program with `#[hurtig::main]`.
    Run(commands::RunArgs),
    /// The jobs of the cluster.
    List(At),
    /// Ends a job without waiting for the end of its input.
    Cancel(commands::CancelArgs),
    /// Takes a savepoint of a job, which goes on.
    Savepoint(commands::SavepointArgs),
    /// Stops a job with a savepoint. Whatever that holds is committed, and nothing else.
    Stop(commands::StopArgs),
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Starts a jobmanager and TaskManagers.
    Start(cluster::StartArgs),
    /// Cancels all jobs and ends the cluster.
    Stop(cluster::Where),
    /// Who is there, and what runs.
    Status(cluster::Where),
}

/// Which cluster a command is for.
#[derive(Args, Clone, Debug)]
struct At {
    /// The REST address of its jobmanager; otherwise that of the cluster in `--dir`.
    #[arg(long)]
    rest: Option<String>,
    /// The directory of a cluster that `hurtig cluster start` has started.
    #[arg(long, env = "HURTIG_CLUSTER_DIR")]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let outcome = match line.command {
        Command::Jobmanager(args) => servers::jobmanager(args),
        Command::Taskmanager(args) => servers::taskmanager(args),
        Command::Launcher => servers::launcher(),
        Command::Cluster(ClusterCommand::Start(args)) => cluster::start(&args),
        Command::Cluster(ClusterCommand::Stop(place)) => cluster::stop(&place),
        Command::Cluster(ClusterCommand::Status(place)) => cluster::status(&place),
        Command::Run(args) => commands::run(args),
        Command::List(at) => commands::list(&at),
        Command::Cancel(args) => commands::cancel(&args),
        Command::Savepoint(args) => commands::savepoint(args),
        Command::Stop(args) => commands::stop(args),
    };
    match outcome {
        Ok(code) => code,
        Err(why) => {
            say::error(&why);
            ExitCode::FAILURE
        }
    }
}
