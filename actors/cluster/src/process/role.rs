//! How a process of a job begins: it learns what it is, and binds its life to the launcher's.

use super::launch::{LAUNCH_VERSION, Launch, PlanAnswer};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::set_name;
use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io;

/// What the first two arguments say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// What the process was told.
    pub launch: Launch,
    /// The file that it was told by.
    descriptor: u32,
}

/// The role that this process was started in; `None`: none, it is a program like any other.
///
/// # Errors
/// When it was started in a role that cannot be entered: the process has to end.
pub fn enter(arguments: &[OsString]) -> Result<Option<Entered>, String> {
    let Some((role, descriptor)) = named(arguments) else {
        return Ok(None);
    };
    // Before anything else: who starts this process may be gone already.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    call_it(role);
    let path = path_of(descriptor);
    let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
    let launch: Launch =
        serde_json::from_reader(file).map_err(|error| format!("the launch data: {error}"))?;
    if launch.version > LAUNCH_VERSION {
        return Err(format!(
            "the cluster starts processes by launch version {}, and this artifact speaks {LAUNCH_VERSION}: build it with a newer Hurtig",
            launch.version
        ));
    }
    if launch.role.name() != role {
        return Err(format!(
            "the launch data are of a {}, and not of a {role}",
            launch.role.name()
        ));
    }
    let parent = getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    if i64::from(parent) != i64::from(launch.launcher) {
        return Err("the launcher of this process is gone".to_owned());
    }
    Ok(Some(Entered { launch, descriptor }))
}

/// What people see who list processes.
fn call_it(role: &str) {
    let name = CString::new(format!("hurtig-{role}")).unwrap_or_default();
    if let Err(error) = set_name(&name) {
        tracing::debug!(%error, "the process keeps its name");
    }
}

fn named(arguments: &[OsString]) -> Option<(&str, u32)> {
    let role = arguments.get(1)?.to_str()?.strip_prefix("--hurtig-role=")?;
    let descriptor = arguments.get(2)?.to_str()?.strip_prefix("--hurtig-fd=")?;
    Some((role, descriptor.parse().ok()?))
}

fn path_of(descriptor: u32) -> String {
    format!("/proc/self/fd/{descriptor}")
}

impl Entered {
    /// Answers a plan run.
    ///
    /// # Errors
    /// When the file that the answer goes into cannot be written.
    pub fn answer(&self, answer: &PlanAnswer) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(path_of(self.descriptor))?;
        Ok(serde_json::to_writer(file, answer)?)
    }
}
