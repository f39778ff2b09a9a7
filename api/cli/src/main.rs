//! The program `hurtig`: processes of a cluster, and commands to it.
//!
//! `jobmanager` and `taskmanager` are processes, in the foreground. `cluster` starts and ends both in the background. The others
//! speak to a jobmanager's REST API, or to nobody. A command returns what it has found out; saying it, to people or programs, is left to
//! `say`.

mod artifacts;
mod attached;
mod client;
mod cluster;
mod config;
mod failure;
mod jobs;
mod machines;
mod plan;
#[cfg(test)]
mod reference;
mod rescale;
mod savepoints;
mod say;
mod servers;
mod session;
mod shell;
mod table;
mod usage;

use clap::{Parser, Subcommand};
use session::Session;
use std::process::ExitCode;

// The allocator of artifacts too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Stateful computation over data streams: processes of a cluster, and commands to it.
#[derive(Parser)]
#[command(name = "hurtig", version, after_help = failure::exit_codes())]
struct Line {
    #[command(flatten)]
    session: Session,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs an artifact: a program with `#[hurtig::main]`.
    Run(artifacts::RunArgs),
    /// The plan of an artifact, which is not run.
    Info(artifacts::InfoArgs),
    /// The jobs of a cluster that have not ended.
    List(jobs::ListArgs),
    /// What a job does: its vertices, checkpoints, failures.
    Show(jobs::ShowArgs),
    /// Ends a job without waiting for the end of its input.
    Cancel(jobs::CancelArgs),
    /// Stops a job with a savepoint. Whatever that holds is committed, and nothing else.
    Stop(savepoints::StopArgs),
    /// Takes a savepoint of a job, which goes on; deletes one, or says what is in it.
    Savepoint(savepoints::SavepointArgs),
    /// Takes a checkpoint of a job now.
    Checkpoint(savepoints::CheckpointArgs),
    /// Changes the parallelism of a job that runs, or shows it.
    Rescale(rescale::RescaleArgs),
    /// Artifacts that a cluster keeps.
    #[command(subcommand)]
    Artifacts(artifacts::ArtifactsCommand),
    /// The TaskManagers of a cluster.
    TaskManagers(machines::TaskManagersArgs),
    /// What the processes of a cluster log.
    Logs(machines::LogsArgs),
    /// A cluster of this machine, in the background.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Settings: what holds, whether it is right, and what can be set.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// A jobmanager, in the foreground: accepts jobs and serves the REST API.
    Jobmanager(servers::JobmanagerArgs),
    /// A TaskManager, in the foreground: starts and ends the processes of jobs.
    Taskmanager(servers::TaskmanagerArgs),
    /// The part of a TaskManager that starts processes. Not for people.
    #[command(hide = true)]
    Launcher,
    /// What lets a shell complete words of this command line.
    Completions(shell::CompletionsArgs),
    /// The manual page, for `man`.
    Man(shell::ManArgs),
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let line = match Line::try_parse_from(&args) {
        Ok(line) => line,
        Err(error) => return usage::end(&error, &args),
    };
    let session = &line.session;
    let outcome = match line.command {
        Command::Run(args) => artifacts::run(args, session),
        Command::Info(args) => artifacts::info(args, session),
        Command::List(args) => jobs::list(&args, session),
        Command::Show(args) => jobs::show(&args, session),
        Command::Cancel(args) => jobs::cancel(&args, session),
        Command::Stop(args) => savepoints::stop(args, session),
        Command::Savepoint(args) => savepoints::savepoint(args, session),
        Command::Checkpoint(args) => savepoints::checkpoint(&args, session),
        Command::Rescale(args) => rescale::rescale(&args, session),
        Command::Artifacts(command) => artifacts::artifacts(command, session),
        Command::TaskManagers(args) => machines::task_managers(&args, session),
        Command::Logs(args) => machines::logs(&args, session),
        Command::Cluster(command) => cluster::run(command, session),
        Command::Config(command) => config::run(command, session),
        Command::Completions(args) => Ok(shell::completions(&args)),
        Command::Man(args) => shell::man(&args),
        Command::Jobmanager(args) => return serves(servers::jobmanager(args), session),
        Command::Taskmanager(args) => return serves(servers::taskmanager(args), session),
        Command::Launcher => return serves(servers::launcher(), session),
    };
    session.output.end(outcome)
}

/// A process of a cluster has ended, and says nothing if that was as it should be.
fn serves(ended: Result<ExitCode, failure::Failure>, session: &Session) -> ExitCode {
    match ended {
        Ok(code) => code,
        Err(failure) => session.output.end(Err(failure)),
    }
}
