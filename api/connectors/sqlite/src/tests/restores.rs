//! What the table is after kills, restores and restarts.

use super::*;
use std::collections::BTreeSet;

/// The snapshots of all subtasks together, as each of them gets it.
fn union(snapshots: impl IntoIterator<Item = OperatorSnapshot>) -> OperatorSnapshot {
    let mut union = OperatorSnapshot::default();
    for (name, section) in snapshots.into_iter().flat_map(|snapshot| snapshot.operator) {
        match union.operator.get_mut(&name) {
            Some(all) => all.entries.extend(section.entries),
            None => {
                union.operator.insert(name, section);
            }
        }
    }
    union
}

#[test]
fn killed_between_prepare_and_commit_it_commits_at_the_restore() {
    let dir = tempfile::tempdir().unwrap();
    let sink = numbers(dir.path());
    let mut drive = Drive::open(&sink, subtask(0, 1), None).unwrap();
    drive.write(&[1]);
    let snapshot = drive.barrier(1);
    drive.write(&(2..10_000).collect::<Vec<_>>());
    drop(drive);
    assert!(read(dir.path()).is_empty());
    for _ in 0..2 {
        Drive::open(&sink, subtask(0, 1), Some(&snapshot)).unwrap();
        assert_eq!(read(dir.path()), [1], "and a second time nothing");
    }
    assert_eq!(
        count(dir.path(), "hurtig_staged"),
        0,
        "what was not prepared is gone"
    );
    assert_eq!(count(dir.path(), "hurtig_transactions"), 1);
}

#[test]
fn subtasks_that_are_no_more_are_committed_by_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let sink = numbers(dir.path());
    let mut drives: Vec<_> = (0..3)
        .map(|index| Drive::open(&sink, subtask(index, 3), None).unwrap())
        .collect();
    let snapshot = union(drives.iter_mut().zip(0..).map(|(drive, n)| {
        drive.write(&[n]);
        drive.barrier(1)
    }));
    drives
        .iter_mut()
        .for_each(|drive| drive.write(&(10..9_000).collect::<Vec<_>>()));
    drop(drives);
    let second = Drive::open(&sink, subtask(1, 2), Some(&snapshot)).unwrap();
    assert_eq!(read(dir.path()), [1]);
    let first = Drive::open(&sink, subtask(0, 2), Some(&snapshot)).unwrap();
    assert_eq!(read(dir.path()), [0, 1, 2]);
    assert_eq!(count(dir.path(), "hurtig_staged"), 0);
    drop((first, second));
    for index in 0..4 {
        Drive::open(&sink, subtask(index, 4), Some(&snapshot)).unwrap();
    }
    assert_eq!(read(dir.path()), [0, 1, 2]);
}

#[test]
fn a_savepoint_that_nobody_went_on_with_can_still_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let sink = numbers(dir.path());
    let mut drive = Drive::open(&sink, subtask(0, 1), None).unwrap();
    drive.write(&[1]);
    let savepoint = drive.barrier(1);
    drop(drive);
    // The job begins afresh, and another time.
    drop(Drive::open(&sink, subtask(0, 1), None).unwrap());
    Drive::open(&sink, subtask(0, 1), Some(&savepoint)).unwrap();
    assert_eq!(read(dir.path()), [1]);

    let mut drive = Drive::open(&sink, subtask(0, 1), None).unwrap();
    drive.write(&[2]);
    let savepoint = drive.barrier(1);
    drop(drive);
    drop(Drive::open(&sink.clone().discard_staged(true), subtask(0, 1), None).unwrap());
    assert_eq!(count(dir.path(), "hurtig_staged"), 0);
    let error = Drive::open(&sink, subtask(0, 1), Some(&savepoint)).err().unwrap();
    let want = "cannot be committed: it was discarded by a job with discard_staged(true)";
    assert!(error.to_string().ends_with(want), "{error}");
}

#[test]
fn another_database_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let mut drive = Drive::open(&numbers(dir.path()), subtask(0, 1), None).unwrap();
    drive.write(&[1]);
    let snapshot = drive.barrier(1);
    let error = Drive::open(&numbers(other.path()), subtask(0, 1), Some(&snapshot))
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("is not the one that the checkpoint counts on"),
        "{error}"
    );
    // A copy from before the checkpoint.
    drop(drive);
    let connection = open(dir.path());
    connection
        .execute_batch("DELETE FROM hurtig_transactions; DELETE FROM sqlite_sequence")
        .unwrap();
    let error = Drive::open(&numbers(dir.path()), subtask(0, 1), Some(&snapshot))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("is newer than the database"),
        "{error}"
    );
}

#[test]
fn a_program_with_other_columns_commits_what_was_staged_with_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = Drive::open(&numbers(dir.path()), subtask(0, 1), None).unwrap();
    drive.write(&[1]);
    let snapshot = drive.barrier(1);
    drop(drive);
    open(dir.path())
        .execute_batch("ALTER TABLE numbers ADD COLUMN half REAL")
        .unwrap();
    let sink = numbers(dir.path()).column("half", |n| (*n as f64 / 2.0).into());
    let mut drive = Drive::open(&sink, subtask(0, 1), Some(&snapshot)).unwrap();
    drive.write(&[3]);
    drive.barrier(2);
    drive.complete(2).unwrap();
    let query = "SELECT group_concat(n || ':' || ifnull(half, '-')) FROM numbers";
    let text: String = open(dir.path()).query_row(query, [], |row| row.get(0)).unwrap();
    assert_eq!(text, "1:-,3:1.5");
}

#[derive(Clone, Debug)]
enum Step {
    Write(u16),
    Barrier,
    /// The last checkpoint is complete; so many subtasks are told.
    Complete(usize),
    /// All die, and begin at another parallelism with the last complete checkpoint.
    Die(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop_oneof![1..40u16, 4_000..9_000u16].prop_map(Step::Write),
        3 => Just(Step::Barrier),
        3 => (0..5usize).prop_map(Step::Complete),
        1 => (1..5u32).prop_map(Step::Die),
    ]
}

/// A job whose source is a counter.
struct Job {
    folder: tempfile::TempDir,
    drives: Vec<Drive<i64>>,
    next: i64,
    last_id: u64,
    taken: Option<(u64, i64, OperatorSnapshot)>,
    complete: Option<(i64, OperatorSnapshot)>,
    seen: BTreeSet<i64>,
}

impl Job {
    fn start(&mut self, parallelism: u32) {
        self.drives.clear();
        self.taken = None;
        self.next = self.complete.as_ref().map_or(0, |(next, _)| *next);
        let snapshot = self.complete.as_ref().map(|(_, snapshot)| snapshot);
        let sink = numbers(self.folder.path());
        let open = |index| Drive::open(&sink, subtask(index, parallelism), snapshot).unwrap();
        self.drives = (0..parallelism).map(open).collect();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(n) => {
                let parallelism = self.drives.len() as i64;
                let records = self.next..self.next + i64::from(n);
                self.next = records.end;
                for (index, drive) in (0..).zip(&mut self.drives) {
                    let own = records.clone().filter(|i| i % parallelism == index);
                    drive.write(&own.collect::<Vec<_>>());
                }
            }
            Step::Barrier => {
                self.last_id += 1;
                let id = self.last_id;
                let snapshot = union(self.drives.iter_mut().map(|drive| drive.barrier(id)));
                self.taken = Some((id, self.next, snapshot));
            }
            Step::Complete(told) => {
                if let Some((id, next, snapshot)) = self.taken.take() {
                    self.complete = Some((next, snapshot));
                    let told = self.drives.iter_mut().take(told);
                    told.for_each(|drive| drive.complete(id).unwrap());
                }
            }
            Step::Die(parallelism) => self.start(parallelism),
        }
    }

    /// What is in the table is what a complete checkpoint covers, once, and it stays.
    fn check(&mut self) {
        let found = read(self.folder.path());
        let now: BTreeSet<i64> = found.iter().copied().collect();
        assert_eq!(now.len(), found.len(), "a row is there twice");
        let covered = self.complete.as_ref().map_or(0, |(next, _)| *next);
        assert!(now.iter().all(|i| *i < covered), "there before its checkpoint");
        assert!(now.is_superset(&self.seen), "something has vanished");
        self.seen = now;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_row_is_there_once(
        parallelism in 1..4u32,
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut job = Job {
            folder: tempfile::tempdir().unwrap(),
            drives: Vec::new(),
            next: 0,
            last_id: 0,
            taken: None,
            complete: None,
            seen: BTreeSet::new(),
        };
        job.start(parallelism);
        for step in steps {
            job.step(step);
            job.check();
        }
        job.step(Step::Barrier);
        job.step(Step::Complete(usize::MAX));
        job.check();
        prop_assert!(job.seen.iter().copied().eq(0..job.next), "something is lost");
    }
}
