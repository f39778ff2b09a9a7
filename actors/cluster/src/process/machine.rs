//! What a process that runs no user code says of itself and of its machine, and of the logs that it writes.

use super::output::is_log;
use crate::wire::{AskMachine, BlobPart, MachineRpc, ReadLog};
use hurtig_core::Error;
use hurtig_core::metrics::MetricGroup;
use hurtig_kit::{ActorEnv, Component, ExitReason, Shell, ShellCx};
use hurtig_rpc::{Call, Fences, Registration, Routes, Rpc};
use rustix::fs::{Mode, OFlags, open};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Questions that may wait.
const CAPACITY: usize = 256;
/// Logs that are told of.
const MAX_LOGS: usize = 1_000;
/// Threads that are told of.
const MAX_THREADS: usize = 1_000;
/// Bytes of a log that are read at once.
pub const LOG_PART: u64 = 256 << 10;
/// Parts of a second in which the system counts time of processors (`USER_HZ`, the same on all machines).
const TICKS: u64 = 100;

/// A process, and the machine that it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// Processors that the process may use.
    pub cores: u32,
    /// Memory of the machine, in bytes.
    pub physical_memory: u64,
    /// Memory that could be had.
    pub available_memory: u64,
    /// Memory that the process has.
    pub resident_memory: u64,
    /// Its threads, as far as there are not too many.
    pub threads: Vec<ThreadFacts>,
    /// Its open files.
    pub open_files: u64,
    /// How many it may have.
    pub max_open_files: u64,
    /// Time that it has used processors, in nanoseconds.
    pub cpu_ns: u64,
    /// The name of its own log.
    pub log: Option<String>,
    /// The logs that it and its processes write.
    pub logs: Vec<LogFile>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadFacts {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Whether it runs, or waits for a processor.
    pub runs: bool,
}

/// A log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Its name, by which it is read.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written to, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// Where the logs of a process are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// The file into which its own output goes, if it is one.
    own: Option<PathBuf>,
    /// The directory into which it has others write: all logs there, and those that were put aside.
    dir: Option<PathBuf>,
}

impl Logs {
    /// Those of this process, and of those that write into a directory.
    pub fn of_this_process(dir: Option<PathBuf>) -> Self {
        let output = std::fs::read_link("/proc/self/fd/2").ok();
        let own = output.filter(|path| path.is_absolute() && path.is_file());
        Self { own, dir }
    }

    /// The name of the process's own.
    pub fn own(&self) -> Option<String> {
        Some(self.own.as_ref()?.file_name()?.to_str()?.to_owned())
    }

    fn paths(&self) -> Vec<PathBuf> {
        let entries = self
            .dir
            .iter()
            .filter_map(|dir| std::fs::read_dir(dir).ok())
            .flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let logs = paths.filter(|path| is_log(path));
        let other = logs.filter(|path| Some(path) != self.own.as_ref());
        self.own.iter().cloned().chain(other).collect()
    }

    /// Each of them. Blocks.
    pub fn list(&self) -> Vec<LogFile> {
        let mut logs: Vec<LogFile> = self.paths().iter().filter_map(|path| described(path)).collect();
        logs.sort_by(|one, other| one.name.cmp(&other.name));
        logs.dedup_by(|one, other| one.name == other.name);
        logs.truncate(MAX_LOGS);
        logs
    }

    /// Bytes of one from an offset on, no more than [`LOG_PART`]; `None`: there is no such log. Only what [`Self::list`]
    /// tells of is read, whatever the name says. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str, offset: u64) -> io::Result<Option<Vec<u8>>> {
        let mut paths = self.paths().into_iter();
        let found = paths.find(|path| described(path).is_some_and(|log| log.name == name));
        let Some(path) = found else { return Ok(None) };
        let opened = open(
            &path,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut file = File::from(opened);
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(LOG_PART).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

fn described(path: &Path) -> Option<LogFile> {
    let metadata = std::fs::symlink_metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(LogFile {
        name: path.file_name()?.to_str()?.to_owned(),
        bytes: metadata.len(),
        modified_ms: i64::try_from(since.as_millis()).ok()?,
    })
}

impl MachineFacts {
    /// Those of this process. Blocks; what the system does not say is 0.
    pub fn read(logs: &Logs) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (memory, status) = (read("/proc/meminfo"), read("/proc/self/status"));
        let kilobytes = |text: &str, name: &str| field(text, name).saturating_mul(1_024);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self {
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            physical_memory: kilobytes(&memory, "MemTotal:"),
            available_memory: kilobytes(&memory, "MemAvailable:"),
            resident_memory: kilobytes(&status, "VmRSS:"),
            threads: threads(),
            open_files: open_files(),
            max_open_files: field(&read("/proc/self/limits"), "Max open files"),
            cpu_ns: cpu_ns(&read("/proc/self/stat")).unwrap_or(0),
            log: logs.own(),
            logs: logs.list(),
        }
    }
}

/// Has what this process uses told with the metrics of its job, when they are asked for.
pub(super) fn measure(job: &MetricGroup, role: &str) {
    let group = job.child("process", role);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let number = |number: u64| number as f64;
    group.computed("Status.JVM.CPU.Time", move || {
        number(cpu_ns(&read("/proc/self/stat")).unwrap_or(0))
    });
    group.computed("Status.JVM.Memory.Heap.Used", move || {
        number(field(&read("/proc/self/status"), "VmRSS:").saturating_mul(1_024))
    });
    group.computed("Status.JVM.Threads.Count", move || {
        number(field(&read("/proc/self/status"), "Threads:"))
    });
    group.computed("Status.JVM.FileDescriptor.Open", move || number(open_files()));
}

fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64)
}

fn threads() -> Vec<ThreadFacts> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let threads = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(')')?;
        Some(ThreadFacts {
            id: path.file_name()?.to_str()?.parse().ok()?,
            name: before.split_once('(')?.1.to_owned(),
            runs: after.trim_start().starts_with('R'),
        })
    });
    threads.take(MAX_THREADS).collect()
}

/// The first number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Time in user and in kernel mode: the 14th and 15th field, counted behind the name, which may hold anything.
fn cpu_ns(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks.saturating_mul(1_000_000_000 / TICKS))
}

/// Lets others ask about this process.
pub(super) fn register_machine(rpc: &Rpc, logs: Logs, env: &ActorEnv) -> Result<(), String> {
    let (mailbox, probe) = Shell::start(Machine(logs), env.clone());
    let registration = Registration {
        name: "machine".to_owned(),
        mailbox,
        routes: Routes::<MachineRpc, _>::new()
            .on(MachineEvent::Asked)
            .on(MachineEvent::Read),
        fences: Fences::open(),
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())
}

/// What reaches a [`Machine`].
enum MachineEvent {
    Asked(Call<AskMachine>),
    Read(Call<ReadLog>),
    Done,
}

/// Answers what is asked about its process.
struct Machine(Logs);

impl Component for Machine {
    type Event = MachineEvent;

    fn name(&self) -> String {
        "machine".to_owned()
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn handle(&mut self, event: MachineEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let logs = self.0.clone();
        match event {
            MachineEvent::Asked(call) => {
                let answer = move || call.reply.send(MachineFacts::read(&logs));
                cx.blocking(answer, |_| MachineEvent::Done);
            }
            MachineEvent::Read(call) => {
                let answer = move || match logs.read(&call.message.name, call.message.offset) {
                    Ok(bytes) => call.reply.send(bytes.map(|bytes| BlobPart { bytes })),
                    Err(error) => call.reply.fail(&Error::external("a log cannot be read", error)),
                };
                cx.blocking(answer, |_| MachineEvent::Done);
            }
            MachineEvent::Done => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_on_a_machine() {
        let facts = MachineFacts::read(&Logs::default());
        assert!(
            facts.cores > 0 && facts.threads.iter().any(|thread| thread.runs) && facts.open_files > 2,
            "{facts:?}"
        );
        assert!(facts.resident_memory > 0 && facts.resident_memory < facts.physical_memory);
        assert!(facts.available_memory > 0 && facts.max_open_files >= facts.open_files);
        assert_eq!(
            cpu_ns("7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0"),
            Some(3_000_000_000)
        );
    }

    #[test]
    fn only_logs_of_the_list_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("log");
        std::fs::create_dir(&inside).unwrap();
        let put = |path: PathBuf| std::fs::write(path, "0123456789").unwrap();
        put(inside.join("a.log"));
        put(inside.join("a.log.1"));
        put(inside.join("secret.txt"));
        put(dir.path().join("b.log"));
        std::os::unix::fs::symlink(dir.path().join("b.log"), inside.join("c.log")).unwrap();
        let logs = Logs {
            own: None,
            dir: Some(inside.clone()),
        };
        let names: Vec<String> = logs.list().into_iter().map(|log| log.name).collect();
        assert_eq!(names, ["a.log", "a.log.1"]);
        assert_eq!(logs.read("a.log", 7).unwrap().unwrap(), b"789");
        assert_eq!(logs.read("a.log", 70).unwrap().unwrap(), b"");
        for strange in [
            "../b.log",
            "secret.txt",
            "c.log",
            "",
            "a.log/",
            "/etc/passwd",
            "..%2fb.log",
        ] {
            assert_eq!(logs.read(strange, 0).unwrap(), None, "{strange}");
        }
        let one = Logs {
            own: Some(inside.join("secret.txt")),
            dir: None,
        };
        assert_eq!(one.read("secret.txt", 0).unwrap().unwrap(), b"0123456789");
        assert_eq!(
            (one.read("a.log", 0).unwrap(), one.own().as_deref()),
            (None, Some("secret.txt"))
        );
        assert!(Logs::default().list().is_empty());
    }
}
