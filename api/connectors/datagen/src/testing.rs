//! What tests of this crate share: a task that drives readers by hand, with a clock that stands still.

use hurtig_core::time::{Clock, ManualClock, Time};
use hurtig_dataflow::operator::{Budget, Collector, OpenContext, Services, SideOutputs, SubtaskInfo};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
use hurtig_state::{OperatorSection, OperatorSnapshot};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Records of a batch: small, so that readers are interrupted often.
const BATCH: usize = 3;

/// One reader of a source, called as the engine would.
pub(crate) struct Drive<T> {
    reader: Box<dyn SourceReader<T>>,
    out: Collector<T>,
    clock: Arc<ManualClock>,
    opened: Time,
    until: Time,
    pub(crate) finished: bool,
}

impl<T> Drive<T> {
    pub(crate) fn open(
        source: &impl Source<T>,
        index: u32,
        parallelism: u32,
        restored: Option<&OperatorSnapshot>,
    ) -> Self {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(100));
        let info = SubtaskInfo {
            index,
            parallelism,
            ..SubtaskInfo::single("datagen")
        };
        let services = Services::new(info, clock.clone(), SideOutputs::default());
        let mut reader = source.reader();
        reader.open(&mut OpenContext::new(&services, restored)).unwrap();
        let opened = clock.now();
        Self {
            reader,
            out: Collector::with_limit(BATCH),
            clock,
            opened,
            until: opened,
            finished: false,
        }
    }

    /// Whether nothing is due now.
    pub(crate) fn waits(&self) -> bool {
        self.until > self.clock.now()
    }

    /// One call, if it is time for it; what it produced.
    pub(crate) fn turn(&mut self) -> Vec<T> {
        assert!(!self.waits(), "the engine does not call before the time");
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(status) = self
            .reader
            .poll_batch(&mut cx, &mut self.out, &mut Budget::new(2))
        else {
            panic!("these sources never wait for the outside");
        };
        match status.unwrap() {
            SourceStatus::WaitUntil(until) => self.until = until,
            SourceStatus::Finished => self.finished = true,
            SourceStatus::More | SourceStatus::SplitFinished => {}
        }
        let batch = self.out.batch();
        let records = batch.drain(batch.len()).collect();
        batch.reset_if_empty();
        records
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    /// Moves the clock to where the reader wants it.
    pub(crate) fn wait(&mut self) {
        self.clock.advance(self.until.since(self.clock.now()));
    }

    pub(crate) fn elapsed_micros(&self) -> u64 {
        u64::try_from(self.clock.now().since(self.opened).as_micros()).unwrap()
    }

    /// All that is left, without regard to time.
    pub(crate) fn rest(&mut self) -> Vec<T> {
        let mut records = Vec::new();
        while !self.finished {
            self.wait();
            records.extend(self.turn());
        }
        records
    }

    pub(crate) fn snapshot(&mut self) -> OperatorSnapshot {
        let mut snapshot = OperatorSnapshot::default();
        self.reader.snapshot(&mut snapshot).unwrap();
        snapshot
    }
}

/// What comes out when `before` subtasks make `turns` calls each, and `after` subtasks the rest.
pub(crate) fn rescaled<T>(source: &impl Source<T>, before: u32, after: u32, turns: usize) -> Vec<T> {
    let (mut records, mut snapshots) = (Vec::new(), Vec::new());
    for index in 0..before {
        let mut drive = Drive::open(source, index, before, None);
        for _ in 0..turns {
            records.extend(drive.turn());
            drive.wait();
        }
        snapshots.push(drive.snapshot());
    }
    for index in 0..after {
        let share = dealt(&snapshots, index, after);
        records.extend(Drive::open(source, index, after, Some(&share)).rest());
    }
    records
}

/// The share of subtask `index`, entries dealt out in turn.
fn dealt(snapshots: &[OperatorSnapshot], index: u32, parallelism: u32) -> OperatorSnapshot {
    let mut share = OperatorSnapshot::default();
    let sections = snapshots.iter().flat_map(|snapshot| &snapshot.operator);
    let entries =
        sections.flat_map(|(name, section)| section.entries.iter().map(move |e| (name, section, e)));
    for (i, (name, section, entry)) in entries.enumerate() {
        let empty = OperatorSection {
            redistribution: section.redistribution,
            entries: Vec::new(),
        };
        let mine = share.operator.entry(name.clone()).or_insert(empty);
        if i % parallelism as usize == index as usize {
            mine.entries.push(entry.clone());
        }
    }
    share
}
