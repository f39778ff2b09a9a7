//! What tests of this crate share: files to read, and a task that drives readers by hand.

use hurtig_core::time::ManualClock;
use hurtig_dataflow::operator::{Budget, Collector, OpenContext, Services, SideOutputs, SubtaskInfo};
use hurtig_dataflow::source::{Assignment, Source, SourceReader, SourceStatus, SplitEnumerator};
use hurtig_state::OperatorSnapshot;
use std::path::Path;
use std::task::{Context, Poll, Waker};

/// Writes a file and the folders above it.
pub(crate) fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

pub(crate) fn services(index: u32, parallelism: u32) -> Services {
    let info = SubtaskInfo {
        index,
        parallelism,
        ..SubtaskInfo::single("files")
    };
    Services::new(info, ManualClock::new(), SideOutputs::default())
}

/// One reader and its collector.
pub(crate) struct Drive<T> {
    pub(crate) reader: Box<dyn SourceReader<T>>,
    pub(crate) out: Collector<T>,
    pub(crate) finished: bool,
}

impl<T> Drive<T> {
    pub(crate) fn new(source: &impl Source<T>, batch: usize, restored: Option<&OperatorSnapshot>) -> Self {
        let mut reader = source.reader();
        reader
            .open(&mut OpenContext::new(&services(0, 1), restored))
            .unwrap();
        Self {
            reader,
            out: Collector::with_limit(batch),
            finished: false,
        }
    }

    /// One call, with the splits that the reader asks for; what it produced.
    pub(crate) fn turn(&mut self, deal: &mut dyn SplitEnumerator) -> hurtig_core::Result<Vec<T>> {
        while self.reader.wants_split() {
            match deal.next_split(0)? {
                Assignment::Split(split) => self.reader.add_split(Some(split))?,
                Assignment::NoMore => self.reader.add_split(None)?,
                Assignment::Later(_) => break,
            }
        }
        let mut cx = Context::from_waker(Waker::noop());
        match self
            .reader
            .poll_batch(&mut cx, &mut self.out, &mut Budget::new(1_000))
        {
            Poll::Ready(status) => self.finished = status? == SourceStatus::Finished,
            Poll::Pending => assert!(self.out.is_empty(), "a pending reader adds nothing"),
        }
        let batch = self.out.batch();
        let records = batch.drain(batch.len()).collect();
        batch.reset_if_empty();
        Ok(records)
    }

    pub(crate) fn snapshot(&mut self) -> OperatorSnapshot {
        let mut snapshot = OperatorSnapshot::default();
        self.reader.snapshot(&mut snapshot).unwrap();
        snapshot
    }
}

/// Everything that `source` yields, in the order of its splits.
pub(crate) fn read_all<T>(source: &impl Source<T>) -> hurtig_core::Result<Vec<T>> {
    let mut deal = source.enumerator().unwrap();
    deal.start(1)?;
    let mut drive = Drive::new(source, 3, None);
    let mut records = Vec::new();
    while !drive.finished {
        records.extend(drive.turn(&mut *deal)?);
    }
    Ok(records)
}
