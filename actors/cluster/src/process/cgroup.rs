//! Control groups (cgroup v2) where the system lets the TaskManager make some: one for each process of a job, with all that this starts.
//!
//! A group has either processes or groups that are bounded, so whoever is in the delegated one moves to a group of its own first.

use super::descendants::exists;
use rustix::fs::getxattr;
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Where the cluster's own processes go.
const CLUSTER: &str = "hurtig-cluster";
/// What the names of groups begin with; the number of a TaskManager's process comes next.
const PREFIX: &str = "hurtig-";
/// What groups are for, in the order in which they are asked for.
const WANTED: [&str; 3] = ["memory", "cpu", "pids"];
/// How systemd marks what it has delegated; the second one is seen by privileged processes only.
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];
/// The weight of one slot, and the greatest.
const WEIGHT: [u64; 2] = [100, 10_000];

/// A delegated group, below which there may be others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Groups {
    dir: PathBuf,
    /// Those of [`WANTED`] that it has.
    controllers: Vec<String>,
}

/// The group that a process is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupOrder {
    dir: PathBuf,
    /// What is written into which of its files.
    settings: Vec<(String, String)>,
}

/// What a process may have of its group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub(super) memory: Option<u64>,
    /// 0: of a process that needs none.
    pub(super) slots: usize,
    pub(super) tasks: Option<u32>,
}

impl Groups {
    /// The group that `taskmanager.cgroup` names. The inner error says why there is none, where there need not be one.
    ///
    /// # Errors
    /// When the one that is asked for cannot be used.
    pub(super) fn find(setting: &str) -> Result<Result<Self, String>, String> {
        match setting {
            "none" => Ok(Err("`taskmanager.cgroup` is `none`".to_owned())),
            "auto" => Ok(delegated().and_then(|dir| Self::take(&dir))),
            dir => match Self::take(Path::new(dir)) {
                Ok(groups) => Ok(Ok(groups)),
                Err(why) => Err(format!("`taskmanager.cgroup`: {why}")),
            },
        }
    }

    fn take(dir: &Path) -> Result<Self, String> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| format!("{path}: {error}")
        };
        let listed = dir.join("cgroup.controllers");
        let read = std::fs::read_to_string(&listed);
        let offered = read.map_err(|error| {
            format!(
                "{} is no control group of version 2: its cgroup.controllers: {error}",
                dir.display()
            )
        })?;
        make_room(dir).map_err(failed(dir))?;
        let control = dir.join("cgroup.subtree_control");
        let enabled = std::fs::read_to_string(&control).map_err(failed(&control))?;
        let has = |list: &str, name: &str| list.split_whitespace().any(|one| one == name);
        let mut controllers = Vec::new();
        for name in WANTED.into_iter().filter(|name| has(&offered, name)) {
            if !has(&enabled, name) {
                std::fs::write(&control, format!("+{name}")).map_err(failed(&control))?;
            }
            controllers.push(name.to_owned());
        }
        let groups = Self {
            dir: dir.to_owned(),
            controllers,
        };
        groups.remove(|task_manager| !exists(task_manager));
        Ok(groups)
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let missing: Vec<_> = WANTED.into_iter().filter(|name| !self.has(name)).collect();
        let without = match &missing[..] {
            [] => String::new(),
            missing => format!(
                "; it has no controllers {}, so that nothing is bounded by those",
                missing.join(", ")
            ),
        };
        format!(
            "each process of a job has a control group of its own in {}{without}",
            self.dir.display()
        )
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|one| one == controller)
    }

    /// A group for a process of this TaskManager.
    pub(super) fn order(&self, name: &str, share: Share) -> GroupOrder {
        let mut settings = Vec::new();
        let mut set = |file: &str, value: String| settings.push((file.to_owned(), value));
        if let Some(memory) = share.memory.filter(|_| self.has("memory")) {
            set("memory.max", memory.to_string());
            // What it has started is of no use without it.
            set("memory.oom.group", "1".to_owned());
        }
        if self.has("cpu") {
            let [one, most] = WEIGHT;
            set(
                "cpu.weight",
                (one * share.slots.max(1) as u64).min(most).to_string(),
            );
        }
        if let Some(tasks) = share.tasks.filter(|_| self.has("pids")) {
            set("pids.max", tasks.to_string());
        }
        let dir = self.dir.join(format!("{PREFIX}{}-{name}", std::process::id()));
        GroupOrder { dir, settings }
    }

    /// Removes what this TaskManager's launcher has left, if it was killed.
    pub(super) fn remove_own(&self) {
        let own = std::process::id();
        self.remove(|task_manager| u32::try_from(task_manager.as_raw_nonzero().get()) == Ok(own));
    }

    /// Removes empty groups of some TaskManagers.
    fn remove(&self, wanted: impl Fn(Pid) -> bool) {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
            if number.and_then(Pid::from_raw).is_some_and(&wanted) {
                // One that is not empty stays.
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }
}

/// The group of this process, if it was delegated.
fn delegated() -> Result<PathBuf, String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let (groups, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
    let none = || "the system has no control groups of version 2".to_owned();
    let dir = place(&groups, &mounts).ok_or_else(none)?;
    // Others of the cluster may have moved this process already.
    let dir = match dir.parent().filter(|_| dir.ends_with(CLUSTER)) {
        Some(above) => above.to_owned(),
        None => dir,
    };
    let marked = |mark: &&str| {
        let mut value = [0_u8; 8];
        getxattr(&dir, *mark, &mut value[..]).is_ok_and(|length| value[..length].starts_with(b"1"))
    };
    match MARKS.iter().any(marked) {
        true => Ok(dir),
        false => Err(format!("{} was not delegated to the TaskManager", dir.display())),
    }
}

/// Where the group of a process lies, by its `cgroup` and `mountinfo`.
fn place(groups: &str, mounts: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, mounted) = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then_some(())?;
        let mut fields = mount.split_whitespace().skip(3);
        Some((fields.next()?, fields.next()?))
    })?;
    let below = Path::new(own).strip_prefix(root).ok()?;
    Some(Path::new(mounted).join(below))
}

/// Moves the processes of a group into one below, if this one is among them.
fn make_room(dir: &Path) -> io::Result<()> {
    let inside = || std::fs::read_to_string(dir.join("cgroup.procs"));
    let own = std::process::id().to_string();
    if !inside()?.lines().any(|process| process == own) {
        return Ok(());
    }
    let cluster = dir.join(CLUSTER);
    make_dir(&cluster)?;
    // What is started meanwhile is there the second time.
    for _ in 0..2 {
        for process in inside()?.lines() {
            match std::fs::write(cluster.join("cgroup.procs"), process) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Whether there is no such process any more.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// The group of a process.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Group {
    pub(super) fn make(order: &GroupOrder) -> io::Result<Self> {
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| {
                io::Error::new(error.kind(), format!("its control group: {path}: {error}"))
            }
        };
        make_dir(&order.dir).map_err(at(&order.dir))?;
        let group = Self(order.dir.clone());
        for (file, value) in &order.settings {
            let path = order.dir.join(file);
            if let Err(error) = std::fs::write(&path, value) {
                group.remove();
                return Err(at(&path)(error));
            }
        }
        Ok(group)
    }

    /// Takes a process in, with what it will start.
    pub(super) fn enter(&self, process: Pid) -> io::Result<()> {
        match std::fs::write(self.0.join("cgroup.procs"), process.to_string()) {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Kills all that is in it, where the system can (from Linux 5.14 on).
    pub(super) fn kill(&self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
    }

    /// Whether the system has killed in it because its memory was used up.
    pub(super) fn was_out_of_memory(&self) -> bool {
        let events = std::fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills
            .and_then(|kills| kills.trim().parse::<u64>().ok())
            .is_some_and(|kills| kills > 0)
    }

    /// False: there is still something in it.
    pub(super) fn remove(&self) -> bool {
        match std::fs::remove_dir(&self.0) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{read_to_string, write};

    /// A directory with the files that a delegated group has.
    fn delegated_dir(controllers: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| write(dir.path().join(name), text).unwrap();
        put("cgroup.controllers", controllers);
        put("cgroup.subtree_control", "");
        put("cgroup.procs", "");
        dir
    }

    const SHARE: Share = Share {
        memory: Some(1 << 30),
        slots: 3,
        tasks: Some(99),
    };

    #[test]
    fn a_group_bounds_what_its_controllers_can_and_says_what_they_cannot() {
        let dir = delegated_dir("cpuset cpu io memory pids\n");
        let groups = Groups::take(dir.path()).unwrap();
        // Each is a write of its own; the file of a directory keeps the last.
        assert_eq!(
            read_to_string(dir.path().join("cgroup.subtree_control")).unwrap(),
            "+pids"
        );
        assert!(
            !groups.describe().contains("no controllers"),
            "{}",
            groups.describe()
        );
        let group = Group::make(&groups.order("worker-7", SHARE)).unwrap();
        let path = dir.path().join(format!("hurtig-{}-worker-7", std::process::id()));
        let set = |file: &str| read_to_string(path.join(file)).unwrap_or_default();
        let all = ["memory.max", "memory.oom.group", "cpu.weight", "pids.max"].map(set);
        assert_eq!(all, ["1073741824", "1", "300", "99"]);
        group.enter(Pid::from_raw(4_711).unwrap()).unwrap();
        group.kill();
        assert_eq!(["cgroup.procs", "cgroup.kill"].map(set), ["4711", "1"]);
        assert!(!group.was_out_of_memory());
        write(
            path.join("memory.events"),
            "low 0\noom 3\noom_kill 1\noom_group_kill 0\n",
        )
        .unwrap();
        assert!(group.was_out_of_memory());

        let poor = delegated_dir("cpuset cpu\n");
        let groups = Groups::take(poor.path()).unwrap();
        assert!(
            groups.describe().contains("no controllers memory, pids"),
            "{}",
            groups.describe()
        );
        let order = groups.order(
            "worker-7",
            Share {
                slots: 1_000,
                ..SHARE
            },
        );
        assert_eq!(order.settings, [("cpu.weight".to_owned(), "10000".to_owned())]);
    }

    #[test]
    fn who_is_in_the_delegated_group_moves_below_it() {
        let dir = delegated_dir("memory\n");
        let own = std::process::id().to_string();
        write(dir.path().join("cgroup.procs"), &own).unwrap();
        Groups::take(dir.path()).unwrap();
        let moved = dir.path().join(CLUSTER).join("cgroup.procs");
        assert_eq!(read_to_string(moved).unwrap(), own);
        // Processes of others are not moved.
        let dir = delegated_dir("memory\n");
        write(dir.path().join("cgroup.procs"), "1\n").unwrap();
        Groups::take(dir.path()).unwrap();
        assert!(!dir.path().join(CLUSTER).exists());
    }

    #[test]
    fn a_directory_that_is_no_group_is_refused_and_auto_says_why_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        let refused = Groups::find(&path).unwrap_err();
        assert!(
            refused.contains("`taskmanager.cgroup`")
                && refused.contains(&path)
                && refused.contains("no control group"),
            "{refused}"
        );
        assert!(Groups::find("none").unwrap().unwrap_err().contains("`none`"));
    }

    #[test]
    fn what_dead_task_managers_have_left_is_removed_and_nothing_else() {
        let dir = delegated_dir("memory\n");
        let [dead, own, other] = ["hurtig-999999999-worker", "hurtig-1-worker", "system.slice"].map(|name| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        });
        Groups::take(dir.path()).unwrap();
        assert_eq!([dead, own, other].map(|path| path.exists()), [false, true, true]);
    }

    #[test]
    fn the_place_of_a_group_is_found_in_what_the_kernel_says() {
        let mounts = "24 30 0:22 / /proc rw - proc proc rw\n\
                      35 30 0:30 /user /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = |own: &str| place(&format!("4:memory:/x\n0::{own}\n"), mounts);
        assert_eq!(found("/user/a/b").unwrap(), Path::new("/sys/fs/cgroup/a/b"));
        assert_eq!(found("/elsewhere"), None);
        assert_eq!(place("4:memory:/x\n", mounts), None);
    }
}
