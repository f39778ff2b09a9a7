use crate::{FileSink, RollingPolicy, SingleFileSink};
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::ManualClock;
use hurtig_core::{Batch, Result};
use hurtig_dataflow::operator::{CheckpointEvent, OpenContext, Services, SideOutputs, SubtaskInfo};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use hurtig_state::{OperatorSection, OperatorSnapshot, Redistribution};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

mod parts;
mod restores;

/// One writer of a sink, called as the engine would.
struct Drive<T> {
    writer: Box<dyn SinkWriter<T>>,
    services: Services,
    clock: Arc<ManualClock>,
}

fn subtask(index: u32, parallelism: u32, attempt: u32) -> SubtaskInfo {
    SubtaskInfo {
        index,
        parallelism,
        attempt,
        ..SubtaskInfo::single("sink")
    }
}

impl<T: Clone> Drive<T> {
    fn open(sink: &impl Sink<T>, info: SubtaskInfo, restored: Option<&OperatorSnapshot>) -> Result<Self> {
        Self::open_in((false, info), sink, restored)
    }

    /// In a job that takes checkpoints, or not.
    fn open_in(
        (takes_checkpoints, info): (bool, SubtaskInfo),
        sink: &impl Sink<T>,
        restored: Option<&OperatorSnapshot>,
    ) -> Result<Self> {
        let clock = ManualClock::new();
        let services = Services::new(info, clock.clone(), SideOutputs::default());
        let services = services.taking_checkpoints(takes_checkpoints);
        let mut writer = sink.writer();
        writer.open(&mut OpenContext::new(&services, restored))?;
        Ok(Self {
            writer,
            services,
            clock,
        })
    }

    fn write(&mut self, records: &[T]) {
        let mut batch = Batch::from_records(records.to_vec());
        self.writer.write(&mut batch, self.services.cx()).unwrap();
        assert!(batch.is_empty());
    }

    fn close(mut self) {
        self.writer.flush().unwrap();
        self.writer.close().unwrap();
    }

    fn complete(&mut self, id: u64) {
        let event = CheckpointEvent::Completed(CheckpointId(id));
        self.writer.on_checkpoint(event).unwrap();
    }

    fn barrier(&mut self, id: u64) -> OperatorSnapshot {
        self.writer.before_barrier(CheckpointId(id)).unwrap();
        let mut snapshot = OperatorSnapshot::default();
        self.writer.snapshot(&mut snapshot).unwrap();
        snapshot
    }
}

/// Names and contents of all files of a folder, sorted.
fn files(folder: &Path) -> Vec<(String, String)> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (
            entry.file_name().into_string().unwrap(),
            std::fs::read_to_string(entry.path()).unwrap(),
        )
    };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(entry).collect();
    files.sort();
    files
}

fn named(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files
        .iter()
        .map(|&(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

#[test]
fn parts_are_hidden_until_they_are_complete() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("deep/out");
    let sink = FileSink::lines(&out).part_bytes(8);
    let mut first = Drive::open(&sink, subtask(0, 2, 0), None).unwrap();
    let mut second = Drive::open(&sink, subtask(1, 2, 0), None).unwrap();
    first.write(&["a", "b"]);
    first.writer.flush().unwrap();
    assert_eq!(files(&out), named(&[(".part-0-0.inprogress", "a\nb\n")]));
    first.write(&["cc"]);
    first.write(&["dddddd"]);
    first.write(&["e"]);
    second.write(&["f"]);
    first.close();
    second.close();
    let want = [
        ("part-0-0", "a\nb\ncc\ndddddd\n"),
        ("part-0-1", "e\n"),
        ("part-1-0", "f\n"),
    ];
    assert_eq!(files(&out), named(&want), "a batch stays together");
    Drive::<&str>::open(&FileSink::lines(dir.path().join("empty")), subtask(0, 1, 0), None)
        .unwrap()
        .close();
    assert_eq!(files(&dir.path().join("empty")), []);
}

#[test]
fn existing_output_is_refused_unless_it_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let sink = FileSink::lines(&out);
    Sink::<&str>::validate(&sink).unwrap();
    for (name, text) in [
        ("part-0-0", "old"),
        ("part-7-3", "old"),
        ("keep.txt", "mine"),
        ("part-x", "mine"),
    ] {
        crate::testing::write(&out, name, text);
    }
    let error = Sink::<&str>::validate(&sink).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!(
            "output folder '{}' is not empty: it holds '",
            out.display()
        )),
        "{error}"
    );
    let error = Drive::<&str>::open(&sink, subtask(0, 2, 0), None)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("exists; name another one"), "{error}");
    let sink = sink.overwrite(true);
    Sink::<&str>::validate(&sink).unwrap();
    for index in 0..2 {
        let mut drive = Drive::open(&sink, subtask(index, 2, 0), None).unwrap();
        drive.write(&["new"]);
        drive.close();
    }
    let want = [
        ("keep.txt", "mine"),
        ("part-0-0", "new\n"),
        ("part-1-0", "new\n"),
        ("part-x", "mine"),
    ];
    assert_eq!(files(&out), named(&want));
    let error = Sink::<&str>::validate(&FileSink::lines(out.join("keep.txt")))
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("is a file; name a folder"), "{error}");
}

fn checkpointed(
    sink: &impl Sink<&'static str>,
    info: SubtaskInfo,
    state: Option<&OperatorSnapshot>,
) -> Drive<&'static str> {
    Drive::open_in((true, info), sink, state).unwrap()
}

fn visible(folder: &Path) -> Vec<(String, String)> {
    let mut files = files(folder);
    files.retain(|(name, _)| !name.starts_with('.'));
    files
}

#[test]
fn a_part_is_visible_when_its_checkpoint_has_completed() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path()).rolling(RollingPolicy::on_checkpoint().part_bytes(4));
    let mut drive = checkpointed(&sink, subtask(0, 1, 0), None);
    drive.write(&["full"]);
    drive.write(&["a"]);
    drive.barrier(1);
    drive.write(&["b"]);
    assert_eq!(visible(dir.path()), []);
    drive
        .writer
        .on_checkpoint(CheckpointEvent::Aborted(CheckpointId(1)))
        .unwrap();
    assert_eq!(visible(dir.path()), []);
    drive.barrier(2);
    drive.write(&["c"]);
    let completed = CheckpointEvent::Completed(CheckpointId(2));
    drive.writer.on_checkpoint(completed).unwrap();
    let want = [("part-0-0", "full\n"), ("part-0-1", "a\n"), ("part-0-2", "b\n")];
    assert_eq!(
        visible(dir.path()),
        named(&want),
        "what came before the barrier of 2"
    );
    drive.writer.on_checkpoint(completed).unwrap();
    assert!(drive.writer.uncommitted());
    drive.barrier(3);
    drive
        .writer
        .on_checkpoint(CheckpointEvent::Completed(CheckpointId(3)))
        .unwrap();
    assert!(!drive.writer.uncommitted());
    drive.close();
    assert_eq!(visible(dir.path()).len(), 4);
}

#[test]
fn a_restore_commits_what_its_checkpoint_promises_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path()).rolling(RollingPolicy::on_checkpoint());
    let mut drives: Vec<_> = (0..2)
        .map(|index| checkpointed(&sink, subtask(index, 2, 0), None))
        .collect();
    let mut union = OperatorSnapshot::default();
    for (drive, text) in drives.iter_mut().zip(["x", "y"]) {
        drive.write(&[text]);
        let state = drive.barrier(1);
        let entries = state.operator["pending-parts"].entries.clone();
        let section = union
            .operator
            .entry("pending-parts".to_owned())
            .or_insert(OperatorSection {
                redistribution: Redistribution::Union,
                entries: Vec::new(),
            });
        section.entries.extend(entries);
        drive.write(&["behind the barrier"]);
        drive.barrier(2);
    }
    // Killed after the checkpoint was published, before anybody was told, and one had been.
    drives[0]
        .writer
        .on_checkpoint(CheckpointEvent::Completed(CheckpointId(1)))
        .unwrap();
    drop(drives);
    let mut again = checkpointed(&sink, subtask(0, 1, 0), Some(&union));
    assert_eq!(
        visible(dir.path()),
        named(&[("part-0-0", "x\n"), ("part-1-0", "y\n")])
    );
    let hidden = [
        (".part-0-1.pending", "behind the barrier\n"),
        (".part-1-1.pending", "behind the barrier\n"),
    ];
    assert_eq!(
        files(dir.path())[..2],
        named(&hidden),
        "a savepoint may count on them"
    );
    again.write(&["z"]);
    again.barrier(3);
    again
        .writer
        .on_checkpoint(CheckpointEvent::Completed(CheckpointId(3)))
        .unwrap();
    again.close();
    let want = [("part-0-0", "x\n"), ("part-0-2", "z\n"), ("part-1-0", "y\n")];
    assert_eq!(visible(dir.path()), named(&want));
}

#[test]
fn a_restart_from_scratch_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSink::lines(dir.path());
    let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
    drive.write(&["first"]);
    drive.close();
    let mut drive = Drive::open(&sink, subtask(0, 1, 1), None).unwrap();
    drive.write(&["anew"]);
    drive.close();
    assert_eq!(files(dir.path()), named(&[("part-0-0", "anew\n")]));
}

#[derive(Clone, Serialize)]
struct Count {
    word: String,
    n: u64,
}

fn count(word: &str, n: u64) -> Count {
    Count {
        word: word.to_owned(),
        n,
    }
}

#[test]
fn formats_are_what_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let records = [count("a,\"b\"", 1), count("c\nd", 2)];
    let csv = FileSink::csv(dir.path()).part_bytes(1).delimiter(b';');
    let mut drive = Drive::open(&csv, subtask(0, 1, 0), None).unwrap();
    drive.write(&records);
    drive.write(&[count("e", 3)]);
    drive.close();
    let want = [
        ("part-0-0", "word;n\n\"a,\"\"b\"\"\";1\n\"c\nd\";2\n"),
        ("part-0-1", "word;n\ne;3\n"),
    ];
    assert_eq!(files(dir.path()), named(&want), "a header in every part");
    for (name, bare) in [("json", false), ("csv", true)] {
        let path = dir.path().join(name);
        if bare {
            let mut drive =
                Drive::open(&SingleFileSink::csv(&path).header(false), subtask(0, 1, 0), None).unwrap();
            drive.write(&records[..1]);
            drive.write(&records[..1]);
            drive.close();
            assert_eq!(
                std::fs::read_to_string(path).unwrap(),
                "\"a,\"\"b\"\"\",1\n".repeat(2)
            );
        } else {
            let mut drive = Drive::open(&SingleFileSink::json_lines(&path), subtask(0, 1, 0), None).unwrap();
            drive.write(&records);
            drive.close();
            let want = "{\"word\":\"a,\\\"b\\\"\",\"n\":1}\n{\"word\":\"c\\nd\",\"n\":2}\n";
            assert_eq!(std::fs::read_to_string(path).unwrap(), want);
        }
    }
}

/// A cancelled task drops its writers without closing them.
#[test]
fn a_cancelled_job_leaves_complete_files_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, path) = (dir.path().join("parts"), dir.path().join("one/single"));
    let sink = FileSink::lines(&parts).part_bytes(4);
    let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
    drive.write(&["abcd"]);
    drive.write(&["e"]);
    drive.writer.flush().unwrap();
    assert_eq!(files(&parts).len(), 2);
    drop(drive);
    assert_eq!(files(&parts), named(&[("part-0-0", "abcd\n")]));

    crate::testing::write(&dir.path().join("one"), "single", "old");
    let sink = SingleFileSink::lines(&path).overwrite(true);
    let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
    drive.write(&["new"]);
    drive.writer.flush().unwrap();
    assert_eq!(files(&dir.path().join("one")).len(), 2);
    drop(drive);
    assert_eq!(files(&dir.path().join("one")), named(&[("single", "old")]));
}

#[test]
fn a_single_file_appears_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x/out.tsv");
    let sink = SingleFileSink::format(&path, |(word, n): &(&str, u64), line: &mut String| {
        line.push_str(word);
        line.push_str(&format!("\t{n}"));
    });
    let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
    drive.write(&[("a", 1)]);
    let snapshot = drive.barrier(1);
    drive.write(&[("lost", 2)]);
    drive.writer.flush().unwrap();
    assert!(!path.exists());
    drop(drive);
    let mut drive = Drive::open(&sink, subtask(0, 1, 1), Some(&snapshot)).unwrap();
    drive.write(&[("b", 3)]);
    drive.close();
    assert_eq!(
        files(path.parent().unwrap()),
        named(&[("out.tsv", "a\t1\nb\t3\n")])
    );
    Drive::open(&sink.clone().overwrite(true), subtask(0, 1, 0), None)
        .unwrap()
        .close();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "no record, no line");
}

#[test]
fn output_in_a_bucket_is_refused_too() {
    let dir = tempfile::tempdir().unwrap();
    // A job was killed before anything was visible.
    for bucket in ["a", "a/b"] {
        crate::testing::write(&dir.path().join(bucket), ".part-0-0.inprogress", "lost");
    }
    Sink::<&str>::validate(&FileSink::lines(dir.path())).unwrap();
    crate::testing::write(&dir.path().join("a/b"), "part-0-0", "old");
    let error = Sink::<&str>::validate(&FileSink::lines(dir.path())).unwrap_err();
    assert!(error.to_string().contains("it holds 'a'"), "{error}");
}

#[test]
fn a_single_file_says_what_it_refuses() {
    let dir = tempfile::tempdir().unwrap();
    crate::testing::write(dir.path(), "full", "x");
    let said = |sink: &SingleFileSink<crate::LineEncoder>, info| {
        let opened =
            Sink::<&str>::validate(sink).and_then(|()| Drive::<&str>::open(sink, info, None).map(drop));
        opened.unwrap_err().chain()
    };
    let full = SingleFileSink::lines(dir.path().join("full"));
    assert!(said(&full, subtask(0, 1, 0)).contains("full' exists and is not empty"));
    let parallel = said(&full.overwrite(true), subtask(1, 2, 0));
    assert!(parallel.contains("set the sink's parallelism to 1"), "{parallel}");
    let folder = said(&SingleFileSink::lines(dir.path()), subtask(0, 1, 0));
    assert!(folder.ends_with("is a folder; name a file"), "{folder}");
    let below_file = said(
        &SingleFileSink::lines(dir.path().join("full/out")),
        subtask(0, 1, 0),
    );
    assert!(
        below_file.starts_with("cannot create output folder '") && below_file.contains("full': "),
        "{below_file}"
    );
}

#[test]
fn a_full_disk_fails_with_path_and_cause() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = Drive::open(&FileSink::lines(dir.path()), subtask(0, 1, 0), None).unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join(".part-0-0.inprogress")).unwrap();
    drive.write(&["a"]);
    let error = drive.writer.flush().unwrap_err().chain();
    assert!(
        error.starts_with("cannot write output file '") && error.contains("No space left"),
        "{error}"
    );
}

#[test]
fn a_record_that_the_format_cannot_express_fails_with_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = Drive::open(&FileSink::csv(dir.path()), subtask(0, 1, 0), None).unwrap();
    let mut batch = Batch::from_records(vec![std::collections::BTreeMap::from([(1, vec![2])])]);
    let error = drive
        .writer
        .write(&mut batch, drive.services.cx())
        .unwrap_err()
        .chain();
    assert!(
        error.starts_with("cannot write a record of type") && error.contains("as CSV: "),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_link_stays_and_what_it_points_to_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("real/file"), dir.path().join("link"));
    crate::testing::write(dir.path(), "real/file", "old\n");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let sink = SingleFileSink::lines(&link).overwrite(true);
    let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
    drive.write(&["new"]);
    drive.close();
    assert!(link.is_symlink());
    assert_eq!(
        files(file.parent().unwrap()),
        [("file".to_owned(), "new\n".to_owned())]
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_written_to_and_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let path = pipe.clone();
    let reader = std::thread::spawn(move || std::fs::read_to_string(path).unwrap());
    let sink = SingleFileSink::lines(&pipe);
    assert!(Sink::<&str>::blocking(&sink), "a pipe may wait for its reader");
    let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
    drive.write(&["a", "b"]);
    drive.close();
    assert_eq!(reader.join().unwrap(), "a\nb\n");
    let kept = std::fs::symlink_metadata(&pipe).unwrap().file_type();
    assert!(kept.is_fifo(), "{kept:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
