//! What a folder is after kills, restores and restarts.

use super::{Drive, checkpointed, files, named, subtask, visible};
use crate::{FileSink, RollingPolicy};
use hurtig_dataflow::sink::Sink;
use hurtig_state::{OperatorSnapshot, Redistribution};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The snapshots of all subtasks together, as each of them gets it.
fn union(snapshots: impl IntoIterator<Item = OperatorSnapshot>) -> OperatorSnapshot {
    let mut union = OperatorSnapshot::default();
    for (name, section) in snapshots.into_iter().flat_map(|snapshot| snapshot.operator) {
        assert_eq!(section.redistribution, Redistribution::Union);
        let all = union.operator.entry(name);
        match all {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(section);
            }
            std::collections::btree_map::Entry::Occupied(mut old) => {
                old.get_mut().entries.extend(section.entries);
            }
        }
    }
    union
}

/// As kill -9 leaves it: nothing is flushed or deleted.
fn kill<T>(drive: Drive<T>) {
    std::mem::forget(drive.writer);
}

#[test]
fn an_incomplete_part_is_cut_to_the_checkpoint_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::csv(dir.path()).header(true);
    let mut drive = Drive::open_in((true, subtask(0, 1, 0)), &sink, None).unwrap();
    #[derive(Clone, serde::Serialize)]
    struct Row {
        n: u64,
    }
    drive.write(&[Row { n: 1 }]);
    let snapshot = drive.barrier(1);
    drive.write(&[Row { n: 2 }]);
    drive.writer.flush().unwrap();
    assert_eq!(files(dir.path()), named(&[(".part-0-0.pending", "n\n1\n2\n")]));
    kill(drive);
    let mut drive = Drive::open_in((true, subtask(0, 1, 0)), &sink, Some(&snapshot)).unwrap();
    assert_eq!(files(dir.path()), named(&[(".part-0-0.pending", "n\n1\n")]));
    assert!(drive.services.wake_at() < i64::MAX, "its minute goes on");
    drive.write(&[Row { n: 3 }]);
    drive.writer.end_input().unwrap();
    drive.barrier(2);
    drive.complete(2);
    drive.close();
    assert_eq!(
        files(dir.path()),
        named(&[("part-0-0", "n\n1\n3\n")]),
        "one header"
    );
}

#[test]
fn who_is_no_more_leaves_its_part_to_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path());
    let mut drives: Vec<_> = (0..3)
        .map(|index| checkpointed(&sink, subtask(index, 3, 0), None))
        .collect();
    let snapshots: Vec<_> = ["a", "b", "c"]
        .iter()
        .zip(&mut drives)
        .map(|(record, drive)| {
            drive.write(&[*record]);
            drive.barrier(1)
        })
        .collect();
    for mut drive in drives {
        drive.write(&["lost"]);
        drive.writer.flush().unwrap();
        kill(drive);
    }
    let snapshot = union(snapshots);
    let mut first = checkpointed(&sink, subtask(0, 2, 0), Some(&snapshot));
    let mut second = checkpointed(&sink, subtask(1, 2, 0), Some(&snapshot));
    second.write(&["B"]);
    for drive in [&mut first, &mut second] {
        drive.barrier(2);
        drive.complete(2);
    }
    assert_eq!(visible(dir.path()), named(&[("part-2-0", "c\n")]));
    for mut drive in [first, second] {
        drive.writer.end_input().unwrap();
        drive.barrier(3);
        drive.complete(3);
        drive.close();
    }
    let want = [("part-0-0", "a\n"), ("part-1-0", "b\nB\n"), ("part-2-0", "c\n")];
    assert_eq!(files(dir.path()), named(&want));
}

#[test]
fn going_back_behind_the_end_of_a_part_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path());
    let mut drive = checkpointed(&sink, subtask(0, 1, 0), None);
    drive.write(&["a"]);
    let old = drive.barrier(1);
    drive.write(&["b"]);
    drive.writer.end_input().unwrap();
    drive.barrier(2);
    drive.complete(2);
    drive.close();
    let mut drive = checkpointed(&sink, subtask(0, 1, 0), Some(&old));
    drive.write(&["b"]);
    drive.writer.end_input().unwrap();
    drive.barrier(3);
    drive.complete(3);
    drive.close();
    // What came behind the old checkpoint comes again, as for everything that was committed since.
    let want = [("part-0-0", "a\nb\n"), ("part-0-1", "b\n")];
    assert_eq!(files(dir.path()), named(&want));
}

#[test]
fn what_a_checkpoint_counts_on_and_is_gone_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let said = |sink: &FileSink<_>, snapshot| {
        let opened = Drive::<&str>::open_in((true, subtask(0, 1, 0)), sink, Some(snapshot));
        opened.err().unwrap().chain()
    };
    let sink = FileSink::lines(dir.path());
    let mut drive = checkpointed(&sink, subtask(0, 1, 0), None);
    drive.write(&["abc"]);
    let open = drive.barrier(1);
    drive.writer.end_input().unwrap();
    let pending = drive.barrier(2);
    kill(drive);
    let part = dir.path().join(".part-0-0.pending");
    std::fs::write(&part, "ab").unwrap();
    let error = said(&sink, &open);
    let want = format!(
        "cannot continue output file '{}': it has 2 bytes and the snapshot was taken at 4",
        part.display()
    );
    assert_eq!(error, want);
    std::fs::remove_file(&part).unwrap();
    let part = dir.path().join("part-0-0");
    let error = said(&sink, &open);
    assert!(
        error.starts_with(&format!("cannot continue output file '{}'", part.display())),
        "{error}"
    );
    let error = said(&sink, &pending);
    assert!(
        error.starts_with(&format!("cannot complete output file '{}'", part.display())),
        "{error}"
    );
    std::fs::write(&part, "abc").unwrap();
    let error = said(&sink, &open);
    assert!(
        error.contains("3 bytes and the snapshot was taken at 4"),
        "{error}"
    );
}

#[test]
fn a_restart_from_scratch_knows_its_own_parts_from_those_of_another_job() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| crate::testing::write(dir.path(), name, "theirs");
    // Another job's parts appear between this one's check and its attempts.
    write("part-0-5");
    let sink = FileSink::lines(dir.path());
    for attempt in 0..3 {
        let opened = Drive::<&str>::open(&sink, subtask(0, 1, attempt), None);
        let error = opened.err().unwrap().to_string();
        assert!(
            error.contains("part-0-5' exists; name another one"),
            "attempt {attempt}: {error}"
        );
    }
    std::fs::remove_file(dir.path().join("part-0-5")).unwrap();
    // Its own parts are replaced, those of a job of old stay.
    write(".part-0-2.pending");
    write(".part-0-3.inprogress");
    let mut drive = Drive::open(&sink.clone().part_bytes(2), subtask(0, 1, 0), None).unwrap();
    drive.write(&["a"]);
    drive.write(&["b"]);
    kill(drive);
    let kept = (".part-0-2.pending", "theirs");
    let want = named(&[kept, ("part-0-3", "a\n"), ("part-0-4", "b\n")]);
    assert_eq!(files(dir.path()), want);
    let mut drive = Drive::open(&sink, subtask(0, 1, 1), None).unwrap();
    drive.write(&["A"]);
    drive.close();
    assert_eq!(files(dir.path()), named(&[kept, ("part-0-3", "A\n")]));
    // With checkpoints, nothing of its own could be visible.
    let opened = Drive::<&str>::open_in((true, subtask(0, 1, 1)), &sink, None);
    assert!(opened.err().unwrap().to_string().contains("part-0-3' exists"));
    let mut drive = Drive::open(&sink.overwrite(true), subtask(0, 1, 0), None).unwrap();
    drive.write(&["all"]);
    drive.close();
    assert_eq!(files(dir.path()), named(&[("part-0-0", "all\n")]));
}

#[test]
fn a_job_without_checkpoints_that_began_with_a_savepoint_begins_with_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path());
    let mut drive = checkpointed(&sink, subtask(0, 1, 0), None);
    drive.write(&["a"]);
    let savepoint = drive.barrier(1);
    kill(drive);
    let sink = FileSink::lines(dir.path()).part_bytes(3);
    for attempt in 0..2 {
        let mut drive = Drive::open(&sink, subtask(0, 1, attempt), Some(&savepoint)).unwrap();
        drive.write(&["b"]);
        drive.write(&["ccc"]);
        drive.close();
        let want = [("part-0-0", "a\nb\n"), ("part-0-1", "ccc\n")];
        assert_eq!(files(dir.path()), named(&want), "attempt {attempt}");
    }
}

#[test]
fn a_late_notification_commits_its_own_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path()).rolling(RollingPolicy::on_checkpoint());
    let mut drive = checkpointed(&sink, subtask(0, 1, 0), None);
    drive.write(&["a"]);
    drive.barrier(1);
    drive.write(&["b"]);
    drive.barrier(2);
    drive.complete(1);
    assert_eq!(visible(dir.path()), named(&[("part-0-0", "a\n")]));
    drive.complete(2);
    let want = [("part-0-0", "a\n"), ("part-0-1", "b\n")];
    assert_eq!(visible(dir.path()), named(&want));
}

#[test]
fn a_commit_that_failed_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path()).rolling(RollingPolicy::on_checkpoint());
    let mut drive = checkpointed(&sink, subtask(0, 1, 0), None);
    drive.write(&["a"]);
    let snapshot = drive.barrier(1);
    // A folder of the part's name is in the way.
    std::fs::create_dir(dir.path().join("part-0-0")).unwrap();
    let done = hurtig_dataflow::operator::CheckpointEvent::Completed(hurtig_core::ids::CheckpointId(1));
    let error = drive.writer.on_checkpoint(done).unwrap_err().chain();
    assert!(error.starts_with("cannot complete output file '"), "{error}");
    drop(drive);
    std::fs::remove_dir(dir.path().join("part-0-0")).unwrap();
    checkpointed(&sink, subtask(0, 1, 1), Some(&snapshot)).close();
    assert_eq!(files(dir.path()), named(&[("part-0-0", "a\n")]));
}

#[derive(Clone, Debug)]
enum Step {
    Write(u8),
    Flush,
    /// The wall clock goes on so many seconds.
    Pass(u64),
    Barrier,
    /// The last checkpoint is complete; so many subtasks are told.
    Complete(usize),
    /// All die, and begin at another parallelism with the last complete checkpoint.
    Die {
        abruptly: bool,
        parallelism: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..40u8).prop_map(Step::Write),
        1 => Just(Step::Flush),
        1 => (1..100u64).prop_map(Step::Pass),
        3 => Just(Step::Barrier),
        3 => (0..5usize).prop_map(Step::Complete),
        1 => (any::<bool>(), 1..5u32).prop_map(|(abruptly, parallelism)| Step::Die { abruptly, parallelism }),
    ]
}

fn policy() -> impl Strategy<Value = RollingPolicy> {
    prop_oneof![
        Just(RollingPolicy::on_checkpoint()),
        Just(RollingPolicy::default()),
        Just(RollingPolicy::default().part_bytes(30)),
        Just(RollingPolicy::default().part_bytes(100).at_checkpoints(true)),
    ]
}

/// A job whose source is a counter: what it has written up to each checkpoint is known.
struct Job<S> {
    sink: S,
    folder: tempfile::TempDir,
    drives: Vec<Drive<u64>>,
    next: u64,
    last_id: u64,
    /// Taken and not complete.
    taken: Option<(u64, u64, OperatorSnapshot)>,
    complete: Option<(u64, OperatorSnapshot)>,
    seen: BTreeSet<u64>,
}

impl<S: Sink<u64>> Job<S> {
    fn start(&mut self, parallelism: u32) {
        let state = self.complete.as_ref();
        self.next = state.map_or(0, |(next, _)| *next);
        self.taken = None;
        let snapshot = state.map(|(_, snapshot)| snapshot);
        let open =
            |index| Drive::open_in((true, subtask(index, parallelism, 0)), &self.sink, snapshot).unwrap();
        self.drives = (0..parallelism).map(open).collect();
    }

    fn barrier(&mut self) {
        self.last_id += 1;
        let id = self.last_id;
        let snapshots: Vec<_> = self.drives.iter_mut().map(|drive| drive.barrier(id)).collect();
        self.taken = Some((id, self.next, union(snapshots)));
    }

    fn complete(&mut self, told: usize) {
        if let Some((id, next, snapshot)) = self.taken.take() {
            self.complete = Some((next, snapshot));
            self.drives
                .iter_mut()
                .take(told)
                .for_each(|drive| drive.complete(id));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(n) => {
                let parallelism = self.drives.len() as u64;
                let records: Vec<u64> = (self.next..self.next + u64::from(n)).collect();
                self.next += u64::from(n);
                for (index, drive) in self.drives.iter_mut().enumerate() {
                    let own = records.iter().filter(|i| *i % parallelism == index as u64);
                    drive.write(&own.copied().collect::<Vec<_>>());
                }
            }
            Step::Flush => self
                .drives
                .iter_mut()
                .for_each(|drive| drive.writer.flush().unwrap()),
            Step::Pass(seconds) => self.drives.iter_mut().for_each(|drive| {
                drive.clock.advance(std::time::Duration::from_secs(seconds));
                let now = drive.services.cx().processing_time();
                drive.writer.on_processing_time(now, drive.services.cx()).unwrap();
            }),
            Step::Barrier => self.barrier(),
            Step::Complete(told) => self.complete(told),
            Step::Die {
                abruptly,
                parallelism,
            } => {
                let drives = std::mem::take(&mut self.drives);
                if abruptly {
                    drives.into_iter().for_each(kill);
                } else {
                    drop(drives);
                }
                self.start(parallelism);
            }
        }
    }

    fn read(&self) -> Vec<u64> {
        let mut left = vec![self.folder.path().to_owned()];
        let mut found = Vec::new();
        while let Some(next) = left.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
                    let text = std::fs::read_to_string(path).unwrap();
                    found.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
                }
            }
        }
        found
    }

    /// Visible is what a complete checkpoint covers, once, and it stays.
    fn check(&mut self) {
        let found = self.read();
        let now: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!(now.len(), found.len(), "something is visible twice");
        let covered = self.complete.as_ref().map_or(0, |(next, _)| *next);
        assert!(now.iter().all(|i| *i < covered), "visible before its checkpoint");
        assert!(now.is_superset(&self.seen), "something has vanished");
        self.seen = now;
    }

    fn finish(&mut self) {
        self.drives
            .iter_mut()
            .for_each(|drive| drive.writer.end_input().unwrap());
        self.barrier();
        self.complete(usize::MAX);
        self.drives.drain(..).for_each(Drive::close);
        self.check();
        assert!(self.seen.iter().copied().eq(0..self.next), "something is lost");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everything_is_visible_once(
        policy in policy(),
        parallelism in 1..4u32,
        buckets in 1..4u64,
        overwrite in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let sink = FileSink::lines(folder.path()).rolling(policy).part_suffix(".txt");
        let sink = sink.overwrite(overwrite).bucket_by(move |i: &u64, name: &mut String| {
            if buckets > 1 {
                *name = format!("b/{}", i % buckets);
            }
        });
        let mut job = Job {
            sink,
            folder,
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
        job.finish();
    }
}
