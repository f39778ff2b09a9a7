//! The all-round job on a cluster of processes, whose workers, JobMasters, TaskManagers, leaders and etcd are killed and
//! stopped while it runs: every record, window and timer is in its output once, and nothing is left behind.
//!
//! `CHAOS_EVENTS` says how many faults (default 5, or 2), `CHAOS_SEED` where randomness begins, `CHAOS_BACKEND` the state backend
//! and `CHAOS_BARRIERS` after how many milliseconds barriers overtake, or `never` (default: by chance). A run says how long
//! it took from each kind of fault to the next complete checkpoint.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]
#![allow(clippy::print_stdout, reason = "a failing run must tell its seed")]

mod ending;
#[path = "../../../../actors/ha/tests/conformance/etcd_process.rs"]
#[allow(
    dead_code,
    reason = "not every test that needs an etcd does everything with it"
)]
mod etcd_process;
mod rescale;
mod stand;

use etcd_process::Etcd;
use hurtig_end_to_end::all_round::check;
use hurtig_end_to_end::{Random, built_example, number};
use stand::{LEADERS, Stand, TASK_MANAGERS, signal, sleep, until};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Faults of a run, where nobody says how many.
const EVENTS: u64 = 5;
/// Records a second.
const RATE: u64 = 4_000;
/// More deaths of its JobMaster than this, within ten minutes, a job does not outlive.
const JOB_MASTERS: usize = 4;

/// What happens to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillWorker,
    StopWorker,
    KillJobMaster,
    KillTaskManager,
    StopTaskManager,
    KillLeader,
    StopLeader,
    KillJobmanager,
    KillEtcd,
    StopEtcd,
    /// All processes of the cluster and its jobs at once.
    KillEverything,
}

use Fault::*;

/// With one jobmanager, which lives; what is there more often happens more often.
const WITHOUT_LEADERS: &[Fault] = &[
    KillWorker,
    KillWorker,
    KillWorker,
    KillWorker,
    StopWorker,
    KillJobMaster,
    KillTaskManager,
    StopTaskManager,
];

const WITH_LEADERS: &[Fault] = &[
    KillWorker,
    KillWorker,
    KillJobMaster,
    KillTaskManager,
    KillLeader,
    KillLeader,
    StopLeader,
    KillJobmanager,
    KillEtcd,
    StopEtcd,
];

struct Trial {
    random: Random,
    stand: Stand,
    /// Every fault that happened, with the time until the next checkpoint.
    happened: Vec<(Fault, Duration)>,
}

impl Trial {
    fn new(seed: u64, etcd: Option<Etcd>) -> Self {
        Self {
            random: Random::new(seed),
            stand: Stand::start(etcd),
            happened: Vec::new(),
        }
    }

    fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.random.below(bound))
    }

    fn chosen(&mut self, variable: &str, by_chance: &[&str]) -> String {
        let chosen = by_chance[self.random.below(by_chance.len() as u64) as usize];
        std::env::var(variable).unwrap_or_else(|_| chosen.to_owned())
    }

    fn settings(&mut self) -> Vec<String> {
        let mut settings = vec![
            "parallelism.default=4".to_owned(),
            format!(
                "state.backend.type={}",
                self.chosen("CHAOS_BACKEND", &["hashmap", "rocksdb"])
            ),
            format!(
                "execution.checkpointing.interval={}ms",
                50 + self.random.below(200)
            ),
            format!(
                "execution.checkpointing.dir={}",
                self.stand.path("checkpoints").display()
            ),
            "restart-strategy.type=fixed-delay".to_owned(),
            "restart-strategy.fixed-delay.attempts=1000000".to_owned(),
            "restart-strategy.fixed-delay.delay=10ms".to_owned(),
        ];
        match self.chosen("CHAOS_BARRIERS", &["never", "0", "10"]).as_str() {
            "never" => {}
            after => settings.extend([
                "execution.checkpointing.unaligned.enabled=true".to_owned(),
                format!("execution.checkpointing.aligned-checkpoint-timeout={after}ms"),
            ]),
        }
        settings
    }

    /// Submits the job, as soon as somebody leads and there are slots.
    fn submit(&mut self, count: u64) {
        let settings = self.settings();
        println!("{settings:?}");
        let settings = settings
            .into_iter()
            .flat_map(|setting| ["-D".to_owned(), setting]);
        let job = [
            built_example("all_round").display().to_string(),
            self.stand.path("out").display().to_string(),
            count.to_string(),
            RATE.to_string(),
        ];
        let args: Vec<String> = settings.chain(job).collect();
        let mut refused = String::new();
        until("a submission", || {
            let submitted = self.stand.ask(&["run", "--detached"], &args);
            submitted.map_err(|why| refused = why).ok()
        });
        if !refused.is_empty() {
            println!("refused before: {}", refused.lines().next().unwrap_or_default());
        }
    }

    /// Lets faults happen until there were as many as wanted, or the job has finished.
    fn trouble(&mut self, events: u64, kinds: &[Fault]) {
        let mut last = None;
        while (self.happened.len() as u64) < events {
            let before = self.stand.checkpoint();
            let mut turns = 0_u32;
            let (finished, took) = until("the next checkpoint", || {
                turns += 1;
                match self.stand.checkpoint() > before {
                    true => Some(false),
                    // A job that has finished keeps no checkpoint. Asking costs a process.
                    false => (turns.is_multiple_of(200) && self.stand.state().as_deref() == Some("FINISHED"))
                        .then_some(true),
                }
            });
            if let Some(fault) = last.take() {
                self.happened.push((fault, took));
            }
            if finished || self.happened.len() as u64 == events {
                return;
            }
            let pause = [0, 100, 500, 1_500][self.random.below(4) as usize];
            let pause = self.millis(pause + 1);
            sleep(pause);
            let fault = kinds[self.random.below(kinds.len() as u64) as usize];
            last = self.happen(fault).then_some(fault);
        }
    }

    /// Whether it could happen.
    fn happen(&mut self, fault: Fault) -> bool {
        let short = self.millis(6_000);
        let long = Duration::from_secs([1, 6, 12][self.random.below(3) as usize]);
        let any = self.random.below(TASK_MANAGERS as u64) as usize;
        let leader = self.stand.leader();
        match fault {
            KillWorker => return self.hit("worker", "KILL"),
            StopWorker => return self.hit("worker", "STOP"),
            KillJobMaster => {
                let killed = self.happened.iter().filter(|(fault, _)| *fault == KillJobMaster);
                return killed.count() < JOB_MASTERS && self.hit("job-master", "KILL");
            }
            KillTaskManager => self.stand.kill(false, any, short / 6),
            StopTaskManager => self.stand.pause(false, any, long),
            KillLeader => self.stand.kill(true, leader, short),
            StopLeader => self.stand.pause(true, leader, long),
            KillJobmanager => self.stand.kill(true, any % LEADERS, short),
            KillEverything => self.stand.kill_everything(short),
            KillEtcd | StopEtcd => {
                let Some(etcd) = &mut self.stand.etcd else {
                    return false;
                };
                match fault {
                    KillEtcd => etcd.kill(),
                    _ => etcd.pause(),
                }
                sleep(short);
                match fault {
                    KillEtcd => etcd.restart(),
                    _ => etcd.resume(),
                }
            }
        }
        true
    }

    fn hit(&mut self, role: &str, name: &str) -> bool {
        let processes = self.stand.processes(role);
        if processes.is_empty() {
            return false;
        }
        let process = processes[self.random.below(processes.len() as u64) as usize];
        signal(process, name)
    }

    /// The job ends well, with the right results, and leaves nothing.
    fn end(&self, count: u64) {
        until("the end of the job", || {
            let state = self.stand.state()?;
            assert!(state != "FAILED" && state != "CANCELED", "the job has {state}");
            (state == "FINISHED").then_some(())
        });
        check(&self.stand.path("out"), count);
        until("the end of the job's processes", || {
            let left = ["worker", "job-master"].map(|role| self.stand.processes(role).len());
            (left == [0, 0]).then_some(())
        });
        until("the removal of the job's checkpoints", || {
            files(&self.stand.path("checkpoints")).is_empty().then_some(())
        });
    }

    fn report(&self) {
        let mut by_kind: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
        for (fault, took) in &self.happened {
            by_kind.entry(*fault).or_default().push(*took);
        }
        for (fault, mut times) in by_kind {
            times.sort_unstable();
            let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
            println!(
                "{fault:?}: {} times, {median:.1?} until the next checkpoint in the middle, {most:.1?} at most",
                times.len()
            );
        }
    }
}

/// The files of a folder and of those below it.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let below = entries.flat_map(|entry| match entry.path().is_dir() {
        true => files(&entry.path()),
        false => vec![entry.path().display().to_string()],
    });
    below.collect()
}

/// Two clusters at once would be measured by how slow they make each other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(etcd: Option<Etcd>, kinds: &[Fault], events: u64) {
    let _one = alone();
    let (events, seed) = (
        number("CHAOS_EVENTS", events),
        number("CHAOS_SEED", u64::from(std::process::id())),
    );
    println!("CHAOS_SEED={seed}");
    // From a fault to the next one about two seconds of running, and some for the end.
    let count = RATE * (2 * events + 5);
    let mut trial = Trial::new(seed, etcd);
    trial.submit(count);
    trial.trouble(events, kinds);
    trial.end(count);
    trial.report();
    assert!(
        !trial.happened.is_empty(),
        "the job ended before anything happened to it"
    );
}

#[test]
fn nothing_is_lost_or_repeated_whatever_of_a_cluster_dies_or_stops() {
    run(None, WITHOUT_LEADERS, EVENTS);
}

#[test]
fn nothing_is_lost_or_repeated_whoever_leads() {
    if let Some(etcd) = Etcd::start() {
        run(Some(etcd), WITH_LEADERS, EVENTS);
    }
}

#[test]
fn nothing_is_lost_or_repeated_when_everything_is_killed_at_once() {
    if let Some(etcd) = Etcd::start() {
        run(Some(etcd), &[KillEverything], 2);
    }
}
