//! Processes that outlive the command that starts them.

use super::known::is_alive;
use super::{START_TURNS, TURN};
use crate::failure::Failure;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts a process that outlives this one.
pub(super) fn spawn(dir: &Path, name: &str, arguments: &[String]) -> Result<Child, Failure> {
    let log = dir.join("log").join(format!("{name}.log"));
    let open = |log: &Path| -> std::io::Result<[File; 2]> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        Ok([file.try_clone()?, file])
    };
    let [out, err] = open(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        // It lets this command in, and is nobody else's.
        .env_remove("HURTIG_TOKEN")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0);
    let spawned = command.spawn();
    Ok(spawned.map_err(|error| format!("{name} cannot be started: {error}"))?)
}

/// The number of the next TaskManager of a directory: nobody has used it before.
pub(super) fn next_number(dir: &Path) -> u32 {
    let entries = std::fs::read_dir(dir.join("work"))
        .into_iter()
        .flatten()
        .flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.max().unwrap_or(0).saturating_add(1)
}

/// Where a jobmanager that is being started can be reached: by RPC, and by REST.
pub(super) async fn addresses_of(
    file: &Path,
    jobmanager: u32,
    dir: &Path,
) -> Result<(String, String), Failure> {
    let log = dir.join("log").join("jobmanager.log");
    for _ in 0..START_TURNS {
        if let Ok(bytes) = std::fs::read(file) {
            let read: serde_json::Value =
                serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
            let text = |key: &str| read[key].as_str().unwrap_or_default().to_owned();
            return Ok((text("rpc"), text("rest")));
        }
        if !is_alive(jobmanager) {
            return Err(format!(
                "the jobmanager has ended at once: {}. More stands in {}",
                last_line(&log),
                log.display()
            )
            .into());
        }
        tokio::time::sleep(TURN).await;
    }
    Err(format!(
        "the jobmanager is not ready; what it does stands in {}",
        log.display()
    )
    .into())
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("it has said nothing").to_owned()
}
