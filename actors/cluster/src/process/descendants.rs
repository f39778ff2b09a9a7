//! What was started by what was started: found, and ended.
//!
//! A process whose parent ends is handed over to the nearest subreaper above it. So who is one, and ends what is handed over to
//! it until nothing is, has ended everything below. Numbers of processes are safe to use here: a child keeps its number until
//! its parent has waited for it.

use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, test_kill_process, waitpid,
};
use std::io;

/// How often the processes that are to end are looked at.
pub(super) const TURN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};
/// How many turns they get: a process that the kernel does not let die is left behind.
const TURNS: u32 = 400;
/// Whose a process is: in its environment, which those inherit that it starts.
const OWNER: &str = "HURTIG_PROCESS";

/// Makes this process the one that orphans below it are handed over to.
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// What marks a process, and those that it starts, as belonging to `id`.
pub(super) fn mark(id: u64) -> (&'static str, String) {
    (OWNER, id.to_string())
}

/// Whose a process is; `None`: it has another environment, or has ended.
pub(super) fn owner_of(pid: Pid) -> Option<u64> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(OWNER.as_bytes())?.strip_prefix(b"="))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The processes whose parent is this one.
pub(super) fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero().get();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(own))
        .filter_map(Pid::from_raw)
        .collect()
}

/// Whether there is such a process.
pub(super) fn exists(pid: Pid) -> bool {
    test_kill_process(pid) != Err(Errno::SRCH)
}

/// The fourth field; the second one is in parentheses and may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Ends a child, and waits for it if it has ended.
pub(super) fn end(pid: Pid) {
    // It may have ended by now.
    let _ = kill_process(pid, Signal::KILL);
    // If it takes longer, another turn sees to it.
    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
}

/// Ends all children, and what is handed over when they have ended. True: nothing is left.
pub(super) fn end_all() -> bool {
    for _ in 0..TURNS {
        let left = children();
        if left.is_empty() {
            return true;
        }
        left.into_iter().for_each(end);
        pause();
    }
    children().is_empty()
}

/// Waits for a child to end by itself, for as long as [`end_all`] would take. True: it has.
pub(super) fn wait_for(pid: Pid) -> bool {
    for _ in 0..TURNS {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) => pause(),
            // An error: it is no child any more.
            Ok(Some(_)) | Err(_) => return true,
        }
    }
    false
}

fn pause() {
    // An interrupted turn is a shorter one.
    let _ = poll(&mut [], Some(&TURN));
}
