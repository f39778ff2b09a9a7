//! The write-ahead sink over targets that fail at any moment, against what a checkpoint covers.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig_core::ids::CheckpointId;
use hurtig_core::time::ManualClock;
use hurtig_core::{Batch, Result, UserError};
use hurtig_dataflow::operator::{CheckpointEvent, OpenContext, Services, SideOutputs, SubtaskInfo};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use hurtig_dataflow::write_ahead::{CommitId, WriteAheadSink, WriteAheadTarget};
use hurtig_state::{OperatorSection, OperatorSnapshot, Redistribution};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// What goes wrong with the next write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    /// It is refused.
    Before,
    /// It is done, and nobody learns of it.
    After,
}

#[derive(Debug)]
struct World {
    written: Vec<u64>,
    ledger: BTreeSet<CommitId>,
    trouble: Trouble,
}

/// A table with a ledger.
#[derive(Clone)]
struct Table(Arc<Mutex<World>>);

impl Table {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            written: Vec::new(),
            ledger: BTreeSet::new(),
            trouble: Trouble::None,
        })))
    }

    fn sink(&self) -> WriteAheadSink<Table> {
        let table = self.clone();
        WriteAheadSink::new(move || Ok(table.clone()))
    }

    fn trouble(&self, trouble: Trouble) {
        self.0.lock().unwrap().trouble = trouble;
    }

    fn written(&self) -> Vec<u64> {
        let mut written = self.0.lock().unwrap().written.clone();
        written.sort_unstable();
        written
    }
}

impl WriteAheadTarget<u64> for Table {
    fn write(&mut self, records: Vec<u64>, id: &CommitId) -> std::result::Result<(), UserError> {
        let mut world = self.0.lock().unwrap();
        let trouble = std::mem::replace(&mut world.trouble, Trouble::None);
        if trouble == Trouble::Before {
            return Err("no connection".into());
        }
        assert!(world.ledger.insert(*id), "the ledger was not asked");
        world.written.extend(records);
        match trouble {
            Trouble::After => Err("the answer was lost".into()),
            _ => Ok(()),
        }
    }

    fn is_committed(&mut self, id: &CommitId) -> std::result::Result<bool, UserError> {
        Ok(self.0.lock().unwrap().ledger.contains(id))
    }
}

struct Drive {
    writer: Box<dyn SinkWriter<u64>>,
    services: Services,
}

impl Drive {
    fn open<W: WriteAheadTarget<u64> + 'static>(
        sink: &WriteAheadSink<W>,
        takes_checkpoints: bool,
        index: u32,
        restored: Option<&OperatorSnapshot>,
    ) -> Result<Self> {
        let info = SubtaskInfo {
            index,
            ..SubtaskInfo::single("sink")
        };
        let services = Services::new(info, ManualClock::new(), SideOutputs::default());
        let services = services.taking_checkpoints(takes_checkpoints);
        let mut writer = sink.writer();
        writer.open(&mut OpenContext::new(&services, restored))?;
        Ok(Self { writer, services })
    }

    fn write(&mut self, records: &[u64]) -> Result<()> {
        let mut batch = Batch::from_records(records.to_vec());
        self.writer.write(&mut batch, self.services.cx())
    }

    fn barrier(&mut self, id: u64) -> OperatorSnapshot {
        self.writer.before_barrier(CheckpointId(id)).unwrap();
        let mut snapshot = OperatorSnapshot::default();
        self.writer.snapshot(&mut snapshot).unwrap();
        snapshot
    }

    fn complete(&mut self, id: u64) -> Result<()> {
        let event = CheckpointEvent::Completed(CheckpointId(id));
        self.writer.on_checkpoint(event)
    }
}

/// What each of `parallelism` subtasks gets of these snapshots: entries are dealt out in turn.
fn deal(snapshots: Vec<OperatorSnapshot>, parallelism: usize) -> Vec<OperatorSnapshot> {
    let mut dealt = vec![OperatorSnapshot::default(); parallelism];
    let sections = snapshots.into_iter().flat_map(|snapshot| snapshot.operator);
    let mut next = 0;
    for (name, section) in sections {
        assert_eq!(section.redistribution, Redistribution::Split);
        for entry in section.entries {
            let place = dealt[next % parallelism].operator.entry(name.clone());
            let empty = OperatorSection {
                redistribution: Redistribution::Split,
                entries: Vec::new(),
            };
            place.or_insert(empty).entries.push(entry);
            next += 1;
        }
    }
    dealt
}

#[test]
fn records_are_written_when_their_checkpoint_has_completed() {
    let table = Table::new();
    let mut drive = Drive::open(&table.sink(), true, 0, None).unwrap();
    drive.write(&[1, 2]).unwrap();
    drive.writer.flush().unwrap();
    drive.barrier(1);
    drive.write(&[3]).unwrap();
    assert!(table.written().is_empty());
    let aborted = CheckpointEvent::Aborted(CheckpointId(1));
    drive.writer.on_checkpoint(aborted).unwrap();
    drive.barrier(2);
    drive.write(&[4]).unwrap();
    drive.complete(2).unwrap();
    assert_eq!(table.written(), [1, 2, 3]);
    drive.complete(2).unwrap();
    assert!(drive.writer.uncommitted());
    drive.barrier(3);
    drive.complete(3).unwrap();
    assert!(!drive.writer.uncommitted());
    assert_eq!(table.written(), [1, 2, 3, 4]);
}

#[test]
fn a_late_notification_commits_its_own_checkpoint() {
    let table = Table::new();
    let mut drive = Drive::open(&table.sink(), true, 0, None).unwrap();
    drive.write(&[1]).unwrap();
    drive.barrier(1);
    drive.write(&[2]).unwrap();
    drive.barrier(2);
    drive.complete(1).unwrap();
    assert_eq!(table.written(), [1]);
    drive.complete(2).unwrap();
    assert_eq!(table.written(), [1, 2]);
}

#[test]
fn the_ledger_says_what_was_done_before_the_restore() {
    for (trouble, before) in [(Trouble::Before, vec![]), (Trouble::After, vec![7])] {
        let table = Table::new();
        let mut drive = Drive::open(&table.sink(), true, 3, None).unwrap();
        drive.write(&[7]).unwrap();
        let snapshot = drive.barrier(5);
        table.trouble(trouble);
        let error = drive.complete(5).unwrap_err().chain();
        assert!(
            error.starts_with("cannot write the 1 records of commit "),
            "{error}"
        );
        assert!(error.contains("-3-5: "), "{error}");
        assert_eq!(table.written(), before);
        for _ in 0..2 {
            Drive::open(&table.sink(), true, 0, Some(&snapshot)).unwrap();
            assert_eq!(table.written(), [7], "{trouble:?}");
        }
    }
}

#[test]
fn ids_of_another_attempt_are_others() {
    let table = Table::new();
    for n in 0..3 {
        // Each begins afresh, with checkpoint 1.
        let mut drive = Drive::open(&table.sink(), true, 0, None).unwrap();
        drive.write(&[n]).unwrap();
        drive.barrier(1);
        drive.complete(1).unwrap();
    }
    assert_eq!(table.written(), [0, 1, 2]);
}

#[test]
fn a_closure_is_a_target_and_a_job_without_checkpoints_writes_when_it_goes_idle() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let target = seen.clone();
    let sink = WriteAheadSink::new(move || {
        let seen = target.clone();
        Ok(move |records: Vec<u64>, _: &CommitId| {
            seen.lock().unwrap().push(records);
            Ok::<(), UserError>(())
        })
    });
    let mut drive = Drive::open(&sink, false, 0, None).unwrap();
    drive.write(&[1]).unwrap();
    drive.write(&[2]).unwrap();
    drive.writer.flush().unwrap();
    drive.writer.flush().unwrap();
    drive.write(&[3]).unwrap();
    assert!(!drive.writer.uncommitted());
    drive.writer.close().unwrap();
    assert_eq!(*seen.lock().unwrap(), [vec![1, 2], vec![3]]);
}

#[test]
fn what_waits_is_bounded() {
    let table = Table::new();
    let mut drive = Drive::open(&table.sink().max_records(3), true, 0, None).unwrap();
    drive.write(&[1, 2]).unwrap();
    drive.barrier(1);
    drive.write(&[3]).unwrap();
    let error = drive.write(&[4]).unwrap_err().to_string();
    assert!(
        error.starts_with("more than 3 records wait for a checkpoint: take"),
        "{error}"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64),
    Barrier,
    /// The last checkpoint is complete; so many subtasks are told.
    Complete(usize),
    Trouble(Trouble),
    /// All die, and begin at another parallelism with the last complete checkpoint.
    Die(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..30u64).prop_map(Step::Write),
        3 => Just(Step::Barrier),
        3 => (0..5usize).prop_map(Step::Complete),
        1 => prop_oneof![Just(Trouble::Before), Just(Trouble::After)].prop_map(Step::Trouble),
        1 => (1..5usize).prop_map(Step::Die),
    ]
}

/// A job whose source is a counter.
struct Job {
    table: Table,
    drives: Vec<Drive>,
    next: u64,
    last_id: u64,
    taken: Option<(u64, u64, Vec<OperatorSnapshot>)>,
    complete: (u64, Vec<OperatorSnapshot>),
}

impl Job {
    /// Tries until it opens: a restore may meet trouble too.
    fn start(&mut self, parallelism: usize) {
        self.taken = None;
        self.next = self.complete.0;
        let dealt = deal(self.complete.1.clone(), parallelism);
        let sink = self.table.sink();
        let open = || {
            let each = (0..).zip(&dealt);
            each.map(|(index, state)| Drive::open(&sink, true, index, Some(state)))
                .collect::<Result<Vec<_>>>()
        };
        self.drives = open().or_else(|_| open()).unwrap();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(n) => {
                let parallelism = self.drives.len() as u64;
                let records = self.next..self.next + n;
                self.next = records.end;
                for (index, drive) in (0..).zip(&mut self.drives) {
                    let own = records.clone().filter(|i| i % parallelism == index);
                    drive.write(&own.collect::<Vec<_>>()).unwrap();
                }
            }
            Step::Barrier => {
                self.last_id += 1;
                let id = self.last_id;
                let snapshots = self.drives.iter_mut().map(|drive| drive.barrier(id)).collect();
                self.taken = Some((id, self.next, snapshots));
            }
            Step::Complete(told) => {
                let Some((id, next, snapshots)) = self.taken.take() else {
                    return;
                };
                self.complete = (next, snapshots);
                let mut told = self.drives.iter_mut().take(told);
                if told.any(|drive| drive.complete(id).is_err()) {
                    self.start(self.drives.len());
                }
            }
            Step::Trouble(trouble) => self.table.trouble(trouble),
            Step::Die(parallelism) => self.start(parallelism),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_everything_is_written_once(
        parallelism in 1..4usize,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut job = Job {
            table: Table::new(),
            drives: Vec::new(),
            next: 0,
            last_id: 0,
            taken: None,
            complete: (0, Vec::new()),
        };
        job.start(parallelism);
        for step in steps {
            job.step(step);
            let covered = job.complete.0;
            prop_assert!(job.table.written().iter().all(|i| *i < covered), "written before its checkpoint");
        }
        job.step(Step::Barrier);
        job.step(Step::Complete(usize::MAX));
        prop_assert!(job.table.written().into_iter().eq(0..job.complete.0), "lost or twice");
    }
}
