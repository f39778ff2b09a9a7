//! Where a job stands: what each operator has seen, and where the threads are.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// Counts one thing in all subtasks.
#[derive(Clone)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one job.
pub(crate) struct Stand {
    what: String,
    counters: Mutex<Vec<(&'static str, Counter)>>,
}

impl Stand {
    pub(crate) fn new(what: String) -> Arc<Self> {
        Arc::new(Self {
            what,
            counters: Mutex::default(),
        })
    }

    pub(crate) fn counter(&self, name: &'static str) -> Counter {
        let counter = Counter(Arc::default());
        self.counters.lock().unwrap().push((name, counter.clone()));
        counter
    }

    /// A counter that was made before.
    pub(crate) fn counter_named(&self, name: &str) -> Counter {
        let counters = self.counters.lock().unwrap();
        let named = counters.iter().find(|counter| counter.0 == name);
        named.unwrap_or_else(|| panic!("no counter '{name}'")).1.clone()
    }

    /// Which job it is.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Runs a job. Should the thread itself be stuck, where no future's deadline helps, another one
    /// reports and ends the process.
    pub(crate) fn watched<R>(self: &Arc<Self>, longest: Duration, job: impl FnOnce() -> R) -> R {
        let (ended, is_over) = mpsc::sync_channel::<()>(1);
        let stand = self.clone();
        let watchdog = std::thread::spawn(move || {
            if is_over.recv_timeout(longest) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("stuck for {longest:?}: {}", stand.report());
                std::process::abort();
            }
        });
        let result = job();
        drop(ended);
        watchdog.join().unwrap();
        result
    }

    /// Everything that helps to understand why it does not go on.
    pub(crate) fn report(&self) -> String {
        let counters = self.counters.lock().unwrap();
        let counts = counters
            .iter()
            .map(|(name, counter)| format!("{name}: {}", counter.count()));
        let counts: Vec<String> = counts.collect();
        format!("{}\n{}\n{}", self.what, counts.join(", "), threads())
    }
}

/// The stacks of all threads, or at least their names and states.
fn threads() -> String {
    let process = std::process::id().to_string();
    let stacks = Command::new("gdb")
        .args(["--batch", "--nx", "-p", &process, "-ex", "thread apply all bt 12"])
        .output();
    match stacks {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => names(),
    }
}

fn names() -> String {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let line = |task: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        format!("thread {} waits in {}", read("comm").trim(), read("wchan").trim())
    };
    tasks.map(line).collect::<Vec<_>>().join("\n")
}
