use crate::{Cell, OnConflict, SqliteSink};
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::ManualClock;
use hurtig_core::{Batch, Result};
use hurtig_dataflow::operator::{CheckpointEvent, OpenContext, Services, SideOutputs, SubtaskInfo};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use hurtig_state::OperatorSnapshot;
use proptest::prelude::*;
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

mod restores;

/// One writer of a sink, called as the engine would.
struct Drive<T> {
    writer: Box<dyn SinkWriter<T>>,
    services: Services,
}

fn subtask(index: u32, parallelism: u32) -> SubtaskInfo {
    SubtaskInfo {
        index,
        parallelism,
        uid: Some("numbers".into()),
        ..SubtaskInfo::single("sink")
    }
}

impl<T: Clone + Send + 'static> Drive<T> {
    fn open(sink: &SqliteSink<T>, info: SubtaskInfo, restored: Option<&OperatorSnapshot>) -> Result<Self> {
        Self::open_in(true, sink, info, restored)
    }

    fn open_in(
        takes_checkpoints: bool,
        sink: &SqliteSink<T>,
        info: SubtaskInfo,
        restored: Option<&OperatorSnapshot>,
    ) -> Result<Self> {
        let services = Services::new(info, ManualClock::new(), SideOutputs::default());
        let services = services.taking_checkpoints(takes_checkpoints);
        let mut writer = sink.writer();
        writer.open(&mut OpenContext::new(&services, restored))?;
        Ok(Self { writer, services })
    }

    fn write(&mut self, records: &[T]) {
        let mut batch = Batch::from_records(records.to_vec());
        self.writer.write(&mut batch, self.services.cx()).unwrap();
        assert!(batch.is_empty());
    }

    fn barrier(&mut self, id: u64) -> OperatorSnapshot {
        self.writer.before_barrier(CheckpointId(id)).unwrap();
        let mut snapshot = OperatorSnapshot::default();
        self.writer.snapshot(&mut snapshot).unwrap();
        snapshot
    }

    fn complete(&mut self, id: u64) -> Result<()> {
        self.writer
            .on_checkpoint(CheckpointEvent::Completed(CheckpointId(id)))
    }
}

fn numbers(folder: &Path) -> SqliteSink<i64> {
    SqliteSink::new(folder.join("numbers.db"), "numbers")
        .setup("CREATE TABLE IF NOT EXISTS numbers (n INTEGER NOT NULL)")
        .column("n", |n: &i64| (*n).into())
}

fn open(folder: &Path) -> Connection {
    Connection::open(folder.join("numbers.db")).unwrap()
}

fn read(folder: &Path) -> Vec<i64> {
    let connection = open(folder);
    let mut statement = connection.prepare("SELECT n FROM numbers ORDER BY n").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(std::result::Result::unwrap).collect()
}

fn count(folder: &Path, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    open(folder).query_row(&query, [], |row| row.get(0)).unwrap()
}

#[test]
fn rows_appear_when_their_checkpoint_has_completed() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = Drive::open(&numbers(dir.path()), subtask(0, 1), None).unwrap();
    drive.write(&[1, 2]);
    drive.writer.flush().unwrap();
    drive.barrier(1);
    drive.write(&[3]);
    assert!(read(dir.path()).is_empty());
    let aborted = CheckpointEvent::Aborted(CheckpointId(1));
    drive.writer.on_checkpoint(aborted).unwrap();
    assert!(read(dir.path()).is_empty());
    drive.barrier(2);
    drive.write(&[4]);
    drive.complete(2).unwrap();
    assert_eq!(
        read(dir.path()),
        [1, 2, 3],
        "with those of the one that was given up"
    );
    drive.complete(2).unwrap();
    assert!(drive.writer.uncommitted());
    drive.barrier(3);
    drive.complete(3).unwrap();
    assert!(!drive.writer.uncommitted());
    drive.writer.close().unwrap();
    assert_eq!(read(dir.path()), [1, 2, 3, 4]);
    assert_eq!(count(dir.path(), "hurtig_staged"), 0);
}

#[test]
fn a_late_notification_commits_its_own_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = Drive::open(&numbers(dir.path()), subtask(0, 1), None).unwrap();
    drive.write(&[1]);
    drive.barrier(1);
    drive.write(&[2]);
    drive.barrier(2);
    drive.complete(1).unwrap();
    assert_eq!(read(dir.path()), [1]);
    drive.complete(2).unwrap();
    assert_eq!(read(dir.path()), [1, 2]);
}

#[test]
fn what_does_not_fit_into_memory_is_staged() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = Drive::open(&numbers(dir.path()), subtask(0, 1), None).unwrap();
    let all: Vec<i64> = (0..20_000).collect();
    all.chunks(1_000).for_each(|some| drive.write(some));
    assert!(count(dir.path(), "hurtig_staged") >= 3);
    drive.barrier(1);
    drive.complete(1).unwrap();
    assert_eq!(read(dir.path()), all);
}

#[test]
fn a_job_without_checkpoints_writes_when_it_goes_idle() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = Drive::open_in(false, &numbers(dir.path()), subtask(0, 1), None).unwrap();
    drive.write(&[1]);
    drive.writer.flush().unwrap();
    assert_eq!(read(dir.path()), [1]);
    drive.write(&[2]);
    assert!(!drive.writer.uncommitted());
    drive.writer.close().unwrap();
    assert_eq!(read(dir.path()), [1, 2]);
    assert_eq!(count(dir.path(), "hurtig_transactions"), 0);
}

#[test]
fn cells_are_what_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let cells = [
        Cell::Null,
        i64::MIN.into(),
        true.into(),
        0.1f64.into(),
        "o'ne \"two\"\0".into(),
        vec![0u8, 255, 7].into(),
        Option::<i32>::None.into(),
        Some(7u32).into(),
    ];
    let mut sink = SqliteSink::new(dir.path().join("numbers.db"), "all \"kinds\"")
        .setup("CREATE TABLE IF NOT EXISTS \"all \"\"kinds\"\"\" (a, b, c, d, e, f, g, \"h i\")");
    for (i, name) in ["a", "b", "c", "d", "e", "f", "g", "h i"].into_iter().enumerate() {
        sink = sink.column(name, move |row: &[Cell; 8]| row[i].clone());
    }
    let mut drive = Drive::open(&sink, subtask(0, 1), None).unwrap();
    drive.write(&[cells]);
    drive.barrier(1);
    drive.complete(1).unwrap();
    // As SQLite itself writes them.
    let query = "SELECT group_concat(x, ' ') FROM (SELECT quote(a)||' '||quote(b)||' '||quote(c)||' '||quote(d)||' '||quote(hex(e))||' '||quote(f)||' '||quote(g)||' '||quote(\"h i\") AS x FROM \"all \"\"kinds\"\"\")";
    let text: String = open(dir.path()).query_row(query, [], |row| row.get(0)).unwrap();
    assert_eq!(
        text,
        "NULL -9223372036854775808 1 0.1 '6F276E65202274776F2200' X'00FF07' NULL 7"
    );
}

#[test]
fn conflicts_are_decided_as_the_sink_says() {
    let pairs = [(1, "a"), (2, "b"), (1, "c")];
    for (decision, want) in [
        (OnConflict::Replace, Some("1c2b")),
        (OnConflict::Ignore, Some("1a2b")),
        (OnConflict::Fail, None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let sink = SqliteSink::new(dir.path().join("numbers.db"), "pairs")
            .setup("CREATE TABLE IF NOT EXISTS pairs (k INTEGER PRIMARY KEY, v TEXT)")
            .column("k", |pair: &(i64, &str)| pair.0.into())
            .column("v", |pair: &(i64, &str)| pair.1.into())
            .on_conflict(decision);
        let mut drive = Drive::open(&sink, subtask(0, 1), None).unwrap();
        drive.write(&pairs);
        drive.barrier(1);
        let committed = drive.complete(1);
        let query = "SELECT group_concat(k || v, '') FROM (SELECT * FROM pairs ORDER BY k)";
        let text: Option<String> = open(dir.path()).query_row(query, [], |row| row.get(0)).unwrap();
        assert_eq!(text.as_deref(), want, "{decision:?}");
        if want.is_none() {
            let error = committed.unwrap_err().chain();
            assert!(
                error.contains("a row is refused by a constraint; let the table"),
                "{error}"
            );
            assert!(error.contains("UNIQUE constraint failed: pairs.k"), "{error}");
        }
    }
}

#[test]
fn mistakes_are_named_before_the_job_starts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("numbers.db");
    let said = |sink: SqliteSink<i64>| Sink::<i64>::validate(&sink).unwrap_err().chain();
    let none = said(SqliteSink::new(&path, "t"));
    assert_eq!(
        none,
        "the sink of table 't' has no columns; name them with SqliteSink::column"
    );
    let table = said(SqliteSink::new(&path, "t").column("n", |n: &i64| (*n).into()));
    let want = format!(
        "cannot run INSERT INTO \"t\" (\"n\") VALUES (?1) in database '{}': no such table: t",
        path.display()
    );
    assert!(table.starts_with(&want), "{table}");
    let column = said(numbers(dir.path()).column("m", |n: &i64| (*n).into()));
    assert!(column.contains("has no column named m"), "{column}");
    let setup = said(numbers(dir.path()).setup("CREATE TABEL x"));
    assert!(setup.starts_with("cannot run the setup of database '"), "{setup}");
    let folder =
        said(SqliteSink::new(dir.path().join("no/such/x.db"), "t").column("n", |n: &i64| (*n).into()));
    assert!(folder.starts_with("cannot open database '"), "{folder}");
    std::fs::write(dir.path().join("text.db"), "x".repeat(5_000)).unwrap();
    let text = said(SqliteSink::new(dir.path().join("text.db"), "t").column("n", |n: &i64| (*n).into()));
    assert!(text.contains("file is not a database"), "{text}");
}

#[test]
fn subtasks_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let sink = numbers(dir.path());
    let work = |index: u32| {
        let sink = sink.clone();
        move || {
            let mut drive = Drive::open(&sink, subtask(index, 4), None).unwrap();
            for id in 1..=20 {
                let first = (i64::from(index) * 20 + id - 1) * 300;
                drive.write(&(first..first + 300).collect::<Vec<_>>());
                drive.barrier(id.cast_unsigned());
                drive.complete(id.cast_unsigned()).unwrap();
            }
        }
    };
    let threads: Vec<_> = (0..4).map(|index| std::thread::spawn(work(index))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(read(dir.path()).into_iter().eq(0..24_000));
}

#[test]
fn who_waits_too_long_says_for_what() {
    let dir = tempfile::tempdir().unwrap();
    let sink = numbers(dir.path()).busy_timeout(Duration::from_millis(20));
    let mut drive = Drive::open(&sink, subtask(0, 1), None).unwrap();
    drive.write(&[1]);
    let snapshot = drive.barrier(1);
    let other = open(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = drive.complete(1).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("others wrote for longer than busy_timeout"),
        "{error}"
    );
    assert_eq!(
        error.fault(),
        hurtig_core::Fault::External,
        "trying again may help"
    );
    other.execute_batch("ROLLBACK").unwrap();
    // The job goes on from its checkpoint.
    drop(drive);
    Drive::open(&sink, subtask(0, 1), Some(&snapshot)).unwrap();
    assert_eq!(read(dir.path()), [1]);
}
