//! [`KeyedStates`] as a bounded source: its pieces are dealt to the subtasks in turn.
//!
//! A reader remembers the pieces that it has not read to their end, and how far it is in one. So a job that reads a large
//! savepoint goes on after a failure, also at another parallelism.

use crate::keyed::{Entries, KeyedStates};
use hurtig_core::{Error, Result};
use hurtig_dataflow::operator::{Budget, Collector, OpenContext};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
use hurtig_state::{OperatorSnapshot, Redistribution};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// Name of the snapshot's section.
const PIECES: &str = "savepoint-pieces";

/// A piece that is not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    /// What it is a piece of: see [`KeyedStates::fingerprint`].
    of: u64,
    piece: u64,
    /// Keys that have been read.
    done: u64,
}

impl<K: Send + 'static, V: Send + 'static> Source<(K, V)> for KeyedStates<K, V> {
    fn bounded(&self) -> bool {
        true
    }

    fn reader(&self) -> Box<dyn SourceReader<(K, V)>> {
        Box::new(Reader {
            of: self.fingerprint(),
            states: self.clone(),
            open: VecDeque::new(),
            entries: None,
        })
    }

    fn parallelism_limit(&self) -> Option<u32> {
        Some(u32::try_from(self.pieces()).unwrap_or(u32::MAX).max(1))
    }
}

struct Reader<K, V> {
    states: KeyedStates<K, V>,
    /// Its fingerprint.
    of: u64,
    /// The one that is being read in front.
    open: VecDeque<Open>,
    entries: Option<Entries>,
}

impl<K, V> Reader<K, V> {
    /// Every `parallelism`-th piece from `index` on.
    fn own(&self, index: u32, parallelism: u32) -> VecDeque<Open> {
        let (of, pieces) = (self.of, self.states.pieces() as u64);
        let pieces = (u64::from(index)..pieces).step_by(parallelism.max(1) as usize);
        pieces.map(|piece| Open { of, piece, done: 0 }).collect()
    }

    fn load(&self, open: Open) -> Result<Entries> {
        let other = || {
            Error::user(format!(
                "the source had read a part of another savepoint, or by other filters, than {}: give it what it was \
                 reading, or the operator another uid",
                self.states.place()
            ))
        };
        if open.of != self.of {
            return Err(other());
        }
        let entries = self
            .states
            .load(usize::try_from(open.piece).unwrap_or(usize::MAX))?;
        let mut entries = entries.ok_or_else(other)?;
        entries.skip_keys(open.done);
        Ok(entries)
    }
}

impl<K: Send, V: Send> SourceReader<(K, V)> for Reader<K, V> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.open = match ctx.restored() {
            Some(snapshot) => snapshot.operator(PIECES)?.into(),
            None => self.own(ctx.info().index, ctx.info().parallelism),
        };
        Ok(())
    }

    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<(K, V)>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        Poll::Ready(self.advance(out, b))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let open: Vec<Open> = self.open.iter().copied().collect();
        snapshot.put_operator(PIECES, Redistribution::Split, &open)
    }
}

impl<K, V> Reader<K, V> {
    /// Reads at most one piece, and gives out what there is room for.
    fn advance(&mut self, out: &mut Collector<(K, V)>, b: &mut Budget) -> Result<SourceStatus> {
        let Some(open) = self.open.front().copied() else {
            return Ok(SourceStatus::Finished);
        };
        let mut entries = match self.entries.take() {
            Some(entries) => entries,
            None => self.load(open)?,
        };
        let mut done = open.done;
        while !out.full() && b.spend() {
            let Some(found) = self.states.next_of(&mut entries) else {
                self.open.pop_front();
                return Ok(SourceStatus::More);
            };
            out.push(found?);
            done += 1;
        }
        self.open[0].done = done;
        self.entries = Some(entries);
        Ok(SourceStatus::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OperatorBuilder, Savepoint, SavepointWriter};
    use hurtig_core::time::ManualClock;
    use hurtig_dataflow::operator::{Services, SideOutputs, SubtaskInfo};
    use hurtig_state::OperatorSection;
    use std::task::Waker;

    const KEYS: u64 = 1_000;
    const FILES: u32 = 7;

    /// A task that has one of the readers.
    fn drive(
        states: &KeyedStates<u64, u64>,
        (index, parallelism): (u32, u32),
        restored: Option<&OperatorSnapshot>,
    ) -> Box<dyn SourceReader<(u64, u64)>> {
        let info = SubtaskInfo {
            index,
            parallelism,
            ..SubtaskInfo::single("savepoint")
        };
        let services = Services::new(info, ManualClock::new(), SideOutputs::default());
        let mut reader = states.reader();
        reader.open(&mut OpenContext::new(&services, restored)).unwrap();
        reader
    }

    /// What some calls give; all that is left when there is no end of them.
    fn read(reader: &mut dyn SourceReader<(u64, u64)>, calls: usize) -> Vec<(u64, u64)> {
        let mut records = Vec::new();
        for _ in 0..calls {
            let mut out = Collector::with_limit(16);
            let mut cx = Context::from_waker(Waker::noop());
            let polled = reader.poll_batch(&mut cx, &mut out, &mut Budget::new(11));
            let batch = out.batch();
            records.extend(batch.drain(batch.len()));
            match polled {
                Poll::Ready(Ok(SourceStatus::Finished)) => break,
                Poll::Ready(Ok(SourceStatus::More)) => {}
                other => panic!("{other:?}"),
            }
        }
        records
    }

    /// What subtasks remember, dealt out to others in turn.
    fn dealt(snapshots: &[OperatorSnapshot], index: usize, parallelism: usize) -> OperatorSnapshot {
        let entries = snapshots
            .iter()
            .flat_map(|snapshot| &snapshot.operator[PIECES].entries);
        let section = OperatorSection {
            redistribution: Redistribution::Split,
            entries: entries.skip(index).step_by(parallelism).cloned().collect(),
        };
        let mut snapshot = OperatorSnapshot::default();
        snapshot.operator.insert(PIECES.to_owned(), section);
        snapshot
    }

    fn savepoint_of(path: &str, keys: u64) -> KeyedStates<u64, u64> {
        let numbers = OperatorBuilder::new("numbers", 128)
            .unwrap()
            .files(FILES)
            .unwrap();
        let numbers = numbers.value("n", (0..keys).map(|n| (n, n + 1))).unwrap();
        SavepointWriter::new("numbers")
            .operator(numbers)
            .unwrap()
            .write(path)
            .unwrap();
        Savepoint::open(path).unwrap().value("numbers", "n").unwrap()
    }

    #[test]
    fn each_key_comes_once_wherever_reading_is_interrupted_and_at_any_parallelism() {
        let folder = tempfile::tempdir().unwrap();
        let states = savepoint_of(&folder.path().join("savepoint").display().to_string(), KEYS);
        assert_eq!(states.parallelism_limit(), Some(FILES));
        for (before, after) in [(1, 1), (1, 3), (3, 2), (2, 7), (7, 1)] {
            for calls in [0, 1, 2, 13, 14, 15, 40, 1_000] {
                let (mut records, mut snapshots) = (Vec::new(), Vec::new());
                for index in 0..before {
                    let mut reader = drive(&states, (index, before), None);
                    records.extend(read(&mut *reader, calls));
                    let mut snapshot = OperatorSnapshot::default();
                    reader.snapshot(&mut snapshot).unwrap();
                    snapshots.push(snapshot);
                }
                for index in 0..after {
                    let restored = dealt(&snapshots, index as usize, after as usize);
                    let mut reader = drive(&states, (index, after), Some(&restored));
                    records.extend(read(&mut *reader, usize::MAX));
                }
                records.sort_unstable();
                let wanted: Vec<(u64, u64)> = (0..KEYS).map(|n| (n, n + 1)).collect();
                assert_eq!(records, wanted, "{before} to {after} after {calls} calls");
            }
        }
    }

    /// What a reader of `states` says to a position in `before`.
    fn refusal(before: &KeyedStates<u64, u64>, states: &KeyedStates<u64, u64>) -> Option<String> {
        let mut snapshot = OperatorSnapshot::default();
        drive(before, (0, 1), None).snapshot(&mut snapshot).unwrap();
        let mut reader = drive(states, (0, 1), Some(&snapshot));
        let mut cx = Context::from_waker(Waker::noop());
        match reader.poll_batch(&mut cx, &mut Collector::with_limit(1), &mut Budget::new(1)) {
            Poll::Ready(polled) => polled.err().map(|error| error.to_string()),
            Poll::Pending => panic!("it waits for nothing"),
        }
    }

    #[test]
    fn a_position_in_another_savepoint_or_behind_another_filter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (one, other) = (
            savepoint_of(&path("one"), KEYS),
            savepoint_of(&path("other"), KEYS + 1),
        );
        assert_eq!(one.pieces(), other.pieces());
        let below = |key: u64| one.clone().only_keys_in(..key);
        let same = Savepoint::open(&path("one")).unwrap();
        assert_eq!(refusal(&one, &same.value("numbers", "n").unwrap()), None);
        assert_eq!(refusal(&below(7), &below(7)), None);
        for (before, after) in [
            (&one, &other),
            (&one, &one.clone().only_keys([&1])),
            (&one, &below(7)),
            (&below(7), &below(8)),
            (&below(7), &one.clone().only_keys_in(..=7)),
        ] {
            let text = refusal(before, after).unwrap();
            assert!(
                text.contains("another savepoint") && text.contains("'numbers'"),
                "{text}"
            );
        }
    }
}
