//! What is remembered of a cluster in its directory, and whether its processes live.

use crate::failure::{Failure, Kind};
use crate::say;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What is remembered of a cluster.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) rest: String,
    pub(crate) rpc: String,
    pub(crate) jobmanager: u32,
    pub(crate) task_managers: Vec<u32>,
    /// What was given with `-D`: TaskManagers that are added later get it too.
    #[serde(default)]
    pub(crate) settings: Vec<String>,
}

impl Known {
    /// The cluster in a directory; an error without one.
    pub(crate) fn of(dir: &Path) -> Result<Self, Failure> {
        read(dir)?.ok_or_else(|| {
            let text = format!(
                "there is no cluster in {}: start one with `hurtig cluster start`, or name the directory of one with --dir",
                dir.display()
            );
            Failure::new(Kind::Unreachable, text)
        })
    }

    /// Whoever reads it meanwhile sees all of it or what was there before. Settings may be secrets.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        let (file, temporary) = (file(dir), dir.join("cluster.json.tmp"));
        let write = || {
            let mut options = OpenOptions::new();
            let mut opened = options
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            opened.write_all(&text)?;
            std::fs::rename(&temporary, &file)
        };
        let written: std::io::Result<()> = write();
        Ok(written.map_err(|error| format!("{}: {error}", file.display()))?)
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("cluster.json")
}

/// Forgets the cluster in a directory.
pub(crate) fn forget(dir: &Path) -> std::io::Result<()> {
    std::fs::remove_file(file(dir))
}

/// The directory of a cluster, by its whole path.
pub(crate) fn directory(dir: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(dir) = dir {
        return Ok(std::path::absolute(dir).map_err(|error| format!("{}: {error}", dir.display()))?);
    }
    let home = std::env::var_os("HOME").ok_or("HOME is not set: name the cluster's directory with --dir")?;
    Ok(Path::new(&home).join(".local/state/hurtig"))
}

/// The cluster in a directory, if there is one.
pub(crate) fn read(dir: &Path) -> Result<Option<Known>, Failure> {
    let path = file(dir);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| format!("{}: {error}", path.display()))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display()).into()),
    }
}

/// The cluster in a directory; who has none may name another one.
pub(crate) fn reachable(dir: Option<&Path>) -> Result<Known, Failure> {
    let dir = directory(dir)?;
    read(&dir)?.ok_or_else(|| {
        let text = format!(
            "there is no cluster in {}: start one with `hurtig cluster start`, or name one with --rest",
            dir.display()
        );
        Failure::new(Kind::Unreachable, text)
    })
}

pub(crate) fn is_alive(process: u32) -> bool {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok()) && !is_zombie(process)
}

pub(crate) fn terminate(process: u32) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw)
        && is_alive(process)
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        say::error(&format!("process {process} cannot be ended: {error}"));
    }
}

/// It has ended, and who has started it has not asked.
fn is_zombie(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}
