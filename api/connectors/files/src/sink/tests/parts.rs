//! When parts are complete, where they lie and what they are called.

use super::{Drive, checkpointed, files, named, subtask, visible};
use crate::{DateTimeBuckets, FileSink, PartEncoder, PartFormat, RollingPolicy};
use hurtig_core::{Batch, Result};
use hurtig_dataflow::sink::Sink;
use std::time::Duration;

/// All visible files below a folder with their paths in it.
fn tree(folder: &std::path::Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

impl<T: Clone> Drive<T> {
    /// Time goes on, and the task calls if it was asked to.
    fn pass(&mut self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        let now = self.services.cx().processing_time();
        if self.services.wake_at() <= now {
            self.services.clear_schedule();
            self.writer.on_processing_time(now, self.services.cx()).unwrap();
        }
    }

    fn write_at(&mut self, records: &[(T, i64)]) -> Result<()> {
        let mut batch = Batch::new();
        records
            .iter()
            .for_each(|(record, time)| batch.push(record.clone(), *time));
        self.writer.write(&mut batch, self.services.cx())
    }
}

#[test]
fn a_part_is_complete_after_a_minute_or_a_minute_without_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = Drive::open(&FileSink::lines(dir.path()), subtask(0, 1, 0), None).unwrap();
    drive.write(&["a"]);
    drive.pass(59_999);
    assert_eq!(visible(dir.path()), []);
    drive.write(&["b"]);
    drive.pass(1);
    assert_eq!(
        visible(dir.path()),
        named(&[("part-0-0", "a\nb\n")]),
        "a minute old"
    );

    let policy = RollingPolicy::default().rollover_interval(Duration::from_secs(3_600));
    let quiet = dir.path().join("quiet");
    let sink = FileSink::lines(&quiet).rolling(policy);
    let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
    for record in ["a", "b"] {
        drive.write(&[record]);
        drive.pass(59_999);
    }
    drive.write(&["c"]);
    drive.pass(59_999);
    assert_eq!(visible(&quiet), [], "there were records in each minute");
    drive.pass(1);
    assert_eq!(visible(&quiet), named(&[("part-0-0", "a\nb\nc\n")]));
    assert_eq!(
        drive.services.wake_at(),
        i64::MAX,
        "nothing is left to be woken for"
    );
}

#[test]
fn a_part_goes_on_over_checkpoints_and_is_visible_with_the_one_behind_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = checkpointed(&FileSink::lines(dir.path()), subtask(0, 1, 0), None);
    drive.write(&["a"]);
    drive.barrier(1);
    drive.complete(1);
    drive.write(&["b"]);
    drive.pass(60_000);
    drive.write(&["c"]);
    assert_eq!(visible(dir.path()), []);
    drive.barrier(2);
    drive.complete(2);
    assert_eq!(visible(dir.path()), named(&[("part-0-0", "a\nb\n")]));
    assert!(drive.writer.uncommitted());
    drive.writer.end_input().unwrap();
    drive.barrier(3);
    drive.complete(3);
    assert!(!drive.writer.uncommitted());
    drive.close();
    let want = [("part-0-0", "a\nb\n"), ("part-0-1", "c\n")];
    assert_eq!(files(dir.path()), named(&want));
}

#[test]
fn records_lie_in_their_buckets() {
    let dir = tempfile::tempdir().unwrap();
    let by_letter = FileSink::lines(dir.path())
        .bucket_by(|word: &&str, bucket: &mut String| {
            bucket.push_str("letter=");
            bucket.push_str(&word[..1]);
        })
        .part_prefix("words")
        .part_suffix(".txt");
    let mut drive = Drive::open(&by_letter, subtask(3, 4, 0), None).unwrap();
    drive.write(&["alpha", "beta", "aleph", "azur"]);
    drive.write(&["bravo"]);
    drive.close();
    let want = [
        ("letter=a/words-3-0.txt", "alpha\naleph\nazur\n"),
        ("letter=b/words-3-1.txt", "beta\nbravo\n"),
    ];
    assert_eq!(tree(dir.path()), named(&want));
}

#[test]
fn date_time_buckets_are_those_of_date() {
    let dir = tempfile::tempdir().unwrap();
    // From `date -u -d @1772373599`: Sun Mar  1 13:59:59 UTC 2026.
    let before = 1_772_373_599_999;
    let sink = FileSink::lines(dir.path().join("event")).buckets(DateTimeBuckets::event_time());
    let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
    let records = [("a", before), ("b", before + 1), ("c", before), ("d", -1)];
    drive.write_at(&records).unwrap();
    drive.close();
    let want = [
        ("1969-12-31--23/part-0-2", "d\n"),
        ("2026-03-01--13/part-0-0", "a\nc\n"),
        ("2026-03-01--14/part-0-1", "b\n"),
    ];
    assert_eq!(tree(&dir.path().join("event")), named(&want));

    let daily = DateTimeBuckets::processing_time()
        .format("day=%F/hour=%H")
        .offset_hours(-5);
    let sink = FileSink::lines(dir.path().join("clock")).buckets(daily);
    let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
    drive.clock.set_wall_ms(before);
    drive.write(&["a"]);
    drive.close();
    let want = [("day=2026-03-01/hour=08/part-0-0", "a\n")];
    assert_eq!(tree(&dir.path().join("clock")), named(&want));
}

#[test]
fn buckets_stay_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for bucket in [
        "..",
        "../out2",
        "a/../../b",
        "/tmp/x",
        ".hidden",
        "a/.b",
        "a//b",
        "a/",
        "\0",
    ] {
        let sink = FileSink::lines(&out).bucket_by(move |_: &&str, name: &mut String| name.push_str(bucket));
        let mut drive = Drive::open(&sink, subtask(0, 1, 0), None).unwrap();
        let error = drive.write_at(&[("x", 0)]).unwrap_err().to_string();
        let want = format!(
            "bucket {bucket:?} is no folder below '{}': a bucket is",
            out.display()
        );
        assert!(error.starts_with(&want), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(files(&out), []);
}

#[test]
fn mistakes_are_named_before_the_job_starts() {
    let dir = tempfile::tempdir().unwrap();
    let sink = || FileSink::lines(dir.path());
    let said = |sink: &dyn Fn() -> Result<()>| sink().unwrap_err().chain();
    for prefix in ["", ".x", "a/b"] {
        let error = said(&|| Sink::<&str>::validate(&sink().part_prefix(prefix)));
        assert!(
            error.starts_with(&format!("part prefix {prefix:?} does not")),
            "{error}"
        );
    }
    for suffix in ["0", "/x"] {
        let error = said(&|| Sink::<&str>::validate(&sink().part_suffix(suffix)));
        assert!(
            error.starts_with(&format!("part suffix {suffix:?} does not")),
            "{error}"
        );
    }
    for (format, text) in [
        ("%!", "cannot format a time as bucket '%!'"),
        ("../%Y", "is no folder below"),
    ] {
        let buckets = DateTimeBuckets::event_time().format(format);
        let error = said(&|| Sink::<&str>::validate(&sink().buckets(buckets.clone())));
        assert!(error.contains(text), "{error}");
    }
    let mut drive = Drive::open(
        &sink().buckets(DateTimeBuckets::event_time()),
        subtask(0, 1, 0),
        None,
    )
    .unwrap();
    let error = drive.write_at(&[("x", i64::MIN)]).unwrap_err().to_string();
    assert!(error.contains("give the source watermarks"), "{error}");
}

/// Counts its records behind them.
#[derive(Clone)]
struct Counted;

struct CountedPart(Vec<u8>, u64);

impl PartFormat<&'static str> for Counted {
    type Encoder = CountedPart;
    const RESUMABLE: bool = false;

    fn begin(&self, length: u64) -> Result<CountedPart> {
        assert_eq!(length, 0);
        Ok(CountedPart(Vec::new(), 0))
    }
}

impl PartEncoder<&'static str> for CountedPart {
    fn encode(&mut self, records: &[&'static str], _: &mut Vec<u8>) -> Result<()> {
        self.1 += records.len() as u64;
        self.0.extend(records.iter().flat_map(|record| record.bytes()));
        Ok(())
    }

    fn buffered_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.append(&mut self.0);
        out.extend_from_slice(format!(" {}", self.1).as_bytes());
        Ok(())
    }
}

#[test]
fn a_bulk_part_ends_at_every_checkpoint_and_knows_its_end() {
    let dir = tempfile::tempdir().unwrap();
    // Even if the policy would leave it open.
    let sink = FileSink::bulk(Counted, dir.path()).rolling(RollingPolicy::default().part_bytes(4));
    let mut drive = checkpointed(&sink, subtask(0, 1, 0), None);
    drive.write(&["ab"]);
    drive.barrier(1);
    drive.write(&["c", "d"]);
    drive.write(&["efgh"]);
    drive.write(&["i"]);
    drive.complete(1);
    assert_eq!(visible(dir.path()), named(&[("part-0-0", "ab 1")]));
    drive.writer.end_input().unwrap();
    drive.barrier(2);
    drive.complete(2);
    drive.close();
    let want = [
        ("part-0-0", "ab 1"),
        ("part-0-1", "cdefgh 3"),
        ("part-0-2", "i 1"),
    ];
    assert_eq!(files(dir.path()), named(&want));
}
