//! What processes of jobs may use up, and what is said of one that has used it up.
//!
//! Limits are set from outside, by the launcher, when the process is there and its program has not begun: what it starts inherits them.

use super::cgroup::{Group, GroupOrder, Groups, Share};
use super::launch::{ProcessExit, Role};
use hurtig_core::config::{ByteSize, ConfigValue as _, Configuration, options};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde::{Deserialize, Serialize};
use std::io;

/// How much sooner than others a worker is ended when the machine's memory runs out; from 0 to 1,000. The cluster's own processes have 0.
const WORKER_SCORE: u16 = 500;
/// A JobMaster or a plan run goes after the workers.
const OTHER_SCORE: u16 = 300;
/// What a program says last that gets no more memory: Rust's, and C++'s (RocksDB).
const LAST_WORDS: [&str; 2] = ["memory allocation of ", "bad_alloc"];

/// What the processes of a TaskManager may use up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Bytes for all workers together (`taskmanager.memory.process.size`).
    pub workers: Option<u64>,
    /// Bytes for each other process (`jobmaster.memory`).
    pub others: Option<u64>,
    /// `taskmanager.processes.max-open-files`.
    pub open_files: Option<u32>,
    /// `taskmanager.processes.max-threads`.
    pub tasks: Option<u32>,
    /// `taskmanager.processes.core-dumps`.
    pub core_dumps: bool,
    /// `taskmanager.cgroup`.
    pub cgroup: String,
}

impl ProcessLimits {
    /// As configured.
    ///
    /// # Errors
    /// When there cannot be as many open files.
    pub fn read(config: &Configuration) -> Result<Self, String> {
        let open_files = config.get(&options::PROCESS_OPEN_FILES);
        let most = getrlimit(Resource::Nofile).maximum;
        if let (Some(wanted), Some(most)) = (open_files, most)
            && u64::from(wanted) > most
        {
            let key = options::PROCESS_OPEN_FILES.key();
            return Err(format!(
                "`{key}`: {wanted} are more than the {most} of the TaskManager (`ulimit -Hn`)"
            ));
        }
        let bytes = |size: Option<ByteSize>| size.map(ByteSize::get);
        Ok(Self {
            workers: bytes(config.get(&options::PROCESS_MEMORY)),
            others: bytes(config.get(&options::JOB_MASTER_MEMORY)),
            open_files,
            tasks: config.get(&options::PROCESS_TASKS),
            core_dumps: config.get(&options::PROCESS_CORE_DUMPS),
            cgroup: config.get(&options::PROCESS_CGROUP),
        })
    }

    /// Those of one process, of a TaskManager with `slots`.
    pub(super) fn of(&self, role: &Role, slots: u32, groups: Option<&Groups>, name: &str) -> Confinement {
        let (memory, own_slots, oom_score) = match role {
            Role::Worker { allocations, .. } => {
                let own = allocations.len();
                let share = |all: u64| u128::from(all) * own as u128 / u128::from(slots.max(1));
                let share = self
                    .workers
                    .map(|all| u64::try_from(share(all)).unwrap_or(u64::MAX));
                (share, own, WORKER_SCORE)
            }
            Role::Plan | Role::JobMaster { .. } => (self.others, 0, OTHER_SCORE),
        };
        let share = Share {
            memory,
            slots: own_slots,
            tasks: self.tasks,
        };
        Confinement {
            memory,
            open_files: self.open_files,
            core_dumps: self.core_dumps,
            oom_score,
            group: groups.map(|groups| groups.order(name, share)),
        }
    }
}

/// The limits of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confinement {
    /// Bytes that it may write to, without its stack.
    pub(super) memory: Option<u64>,
    open_files: Option<u32>,
    core_dumps: bool,
    oom_score: u16,
    pub(super) group: Option<GroupOrder>,
}

impl Confinement {
    /// Confines a process that was just started.
    pub(super) fn apply(&self, process: Pid, group: Option<&Group>) -> io::Result<()> {
        let limit = |resource, most: Option<u64>| {
            let limit = Rlimit {
                current: most,
                maximum: most,
            };
            match prlimit(Some(process), resource, limit) {
                // It has ended at once.
                Ok(_) | Err(Errno::SRCH) => Ok(()),
                Err(error) => Err(io::Error::other(format!("its limit of {resource:?}: {error}"))),
            }
        };
        if let Some(group) = group {
            group.enter(process)?;
        }
        if self.memory.is_some() {
            limit(Resource::Data, self.memory)?;
        }
        let files = self
            .open_files
            .map(u64::from)
            .or(getrlimit(Resource::Nofile).maximum);
        limit(Resource::Nofile, files)?;
        if !self.core_dumps {
            limit(Resource::Core, Some(0))?;
        }
        // Where it cannot be raised, nothing worse happens than without.
        let _ = std::fs::write(
            format!("/proc/{process}/oom_score_adj"),
            self.oom_score.to_string(),
        );
        Ok(())
    }
}

/// Why a process was killed, as far as its launcher can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KilledFor {
    /// The memory of its group was used up.
    ItsMemory,
    /// The system has killed processes for the machine's memory while this one ran.
    MaybeMemory,
}

/// How many processes the system has killed for want of memory.
pub(super) fn kills_for_memory() -> u64 {
    let counters = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let kills = counters.lines().find_map(|line| line.strip_prefix("oom_kill "));
    kills.and_then(|kills| kills.trim().parse().ok()).unwrap_or(0)
}

/// What is to be said of memory when a process has ended that had `limit`.
pub(super) fn out_of_memory(
    killed: Option<KilledFor>,
    exit: &ProcessExit,
    (limit, is_worker): (Option<u64>, bool),
) -> Option<String> {
    let (key, advice) = match is_worker {
        true => (
            options::PROCESS_MEMORY.key(),
            "give it more, or keep its keyed state on disk (`state.backend.type: rocksdb`)",
        ),
        false => (options::JOB_MASTER_MEMORY.key(), "give it more"),
    };
    let said = |line: &String| LAST_WORDS.iter().any(|words| line.contains(words));
    let aborted = exit.signal == Some(Signal::ABORT.as_raw());
    match (killed, limit) {
        (Some(KilledFor::MaybeMemory), _) => Some(
            "the machine's memory has run out meanwhile, and the system has killed processes for that: this one most likely, too".to_owned(),
        ),
        (None, Some(limit)) if aborted && exit.last_lines.iter().any(said) => Some(used_up(limit, key, advice)),
        (Some(KilledFor::ItsMemory), Some(limit)) => Some(used_up(limit, key, advice)),
        _ => None,
    }
}

fn used_up(limit: u64, key: &str, advice: &str) -> String {
    let limit = ByteSize::bytes(limit).text();
    format!("it has used up its memory, its share of `{key}`: {limit}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::{AllocationId, TaskManagerId};
    use std::num::NonZeroU64;
    use uuid::Uuid;

    fn limits(settings: &[&str]) -> Result<ProcessLimits, String> {
        let config = Configuration::builder()
            .definitions(settings.iter().copied())
            .build();
        ProcessLimits::read(&config.unwrap())
    }

    fn worker(slots: u128) -> Role {
        Role::Worker {
            cluster: Uuid::nil(),
            worker: TaskManagerId::random(),
            epoch: NonZeroU64::MIN,
            allocations: (0..slots).map(AllocationId::from_u128).collect(),
            master: String::new(),
            threads: 1,
            task_manager: None,
            tls: None,
        }
    }

    #[test]
    fn a_worker_has_the_share_of_its_slots_and_others_have_their_own() {
        let limits = limits(&["taskmanager.memory.process.size=4 gb", "jobmaster.memory=300 mb"]).unwrap();
        let of = |role: &Role| limits.of(role, 4, None, "x");
        assert_eq!(of(&worker(1)).memory, Some(1 << 30));
        assert_eq!(of(&worker(3)).memory, Some(3 << 30));
        assert_eq!(of(&Role::Plan).memory, Some(300 << 20));
        assert!(of(&worker(1)).oom_score > of(&Role::Plan).oom_score);
        let without = super::tests::limits(&[]).unwrap().of(&worker(1), 4, None, "x");
        assert_eq!((without.memory, without.group), (None, None));
    }

    #[test]
    fn more_open_files_than_the_task_manager_may_have_are_refused() {
        let refused = limits(&["taskmanager.processes.max-open-files=4000000000"]);
        // Where there is no limit, nothing is refused.
        if getrlimit(Resource::Nofile).maximum.is_some() {
            let refused = refused.unwrap_err();
            assert!(
                refused.contains("max-open-files") && refused.contains("ulimit"),
                "{refused}"
            );
        }
    }

    #[test]
    fn an_end_for_want_of_memory_is_told_from_others() {
        let ended = |signal: Option<Signal>, line: &str| ProcessExit {
            signal: signal.map(Signal::as_raw),
            last_lines: vec![line.to_owned()],
            ..ProcessExit::default()
        };
        let refused = ended(Some(Signal::ABORT), "memory allocation of 4096 bytes failed");
        let of = |killed, exit: &ProcessExit, limit| out_of_memory(killed, exit, (limit, true));
        let said = of(None, &refused, Some(512 << 20)).unwrap();
        assert!(said.contains("512 mb") && said.contains("rocksdb"), "{said}");
        assert_eq!(of(None, &refused, None), None, "nothing bounds it");
        assert_eq!(
            of(None, &ended(Some(Signal::ABORT), "assertion failed"), Some(1)),
            None
        );
        assert_eq!(
            of(None, &ended(None, "memory allocation of 1 bytes"), Some(1)),
            None
        );
        let killed = ended(Some(Signal::KILL), "");
        assert_eq!(of(None, &killed, Some(1)), None);
        assert!(
            of(Some(KilledFor::ItsMemory), &killed, Some(1 << 30))
                .unwrap()
                .contains("1 gb")
        );
        assert!(
            of(Some(KilledFor::MaybeMemory), &killed, None)
                .unwrap()
                .contains("most likely")
        );
        let master = out_of_memory(None, &refused, (Some(1), false)).unwrap();
        assert!(
            master.contains("jobmaster.memory") && !master.contains("rocksdb"),
            "{master}"
        );
    }
}
