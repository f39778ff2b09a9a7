//! The enumerator: finds files and deals out their splits.

use crate::input::Compression;
use crate::paths::{InputFile, InputPaths};
use crate::split::FileSplit;
use hurtig_core::{Error, Result};
use hurtig_dataflow::source::{Assignment, Split, SplitEnumerator};
use hurtig_state::snapshot::{decode, encode};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Deals out splits in the order of paths, to whoever asks first.
pub(crate) struct FileEnumerator {
    pub(crate) paths: InputPaths,
    /// Size of a split; `None` when the format's files cannot be cut.
    pub(crate) split_bytes: Option<u64>,
    /// How long to wait for new files; `None` reads what is there at the start.
    pub(crate) discovery: Option<Duration>,
    pub(crate) seen: BTreeSet<String>,
    pub(crate) waiting: VecDeque<Split>,
}

impl FileEnumerator {
    /// Adds splits of files that have not been seen.
    fn discover(&mut self) -> Result<()> {
        for file in self.paths.discover(self.discovery.is_some())? {
            if self.seen.contains(&file.path) {
                continue;
            }
            for split in self.cut(&file)? {
                self.waiting.push_back(split.to_split()?);
            }
            self.seen.insert(file.path);
        }
        Ok(())
    }

    fn cut(&self, file: &InputFile) -> Result<Vec<FileSplit>> {
        let regular = file.bytes.is_some();
        if regular {
            check_readable(&file.path)?;
        }
        let plain = Compression::of(Path::new(&file.path)) == Compression::None;
        Ok(FileSplit::cut(
            file,
            self.split_bytes.filter(|_| plain && regular),
        ))
    }
}

/// What a snapshot holds.
#[derive(Serialize, Deserialize)]
struct Remembered {
    seen: BTreeSet<String>,
    waiting: Vec<Split>,
}

/// Says now what a reader would find out later. Not for pipes: opening one is taking it.
fn check_readable(path: &str) -> Result<()> {
    let failed = |e| Error::external(format!("cannot read input file '{path}'"), e);
    File::open(path).map(drop).map_err(failed)
}

impl SplitEnumerator for FileEnumerator {
    fn start(&mut self, _parallelism: u32) -> Result<()> {
        self.discover()
    }

    fn next_split(&mut self, _reader: u32) -> Result<Assignment> {
        if let Some(split) = self.waiting.pop_front() {
            return Ok(Assignment::Split(split));
        }
        let Some(interval) = self.discovery else {
            return Ok(Assignment::NoMore);
        };
        self.discover()?;
        Ok(match self.waiting.pop_front() {
            Some(split) => Assignment::Split(split),
            None => Assignment::Later(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    fn add_back(&mut self, splits: Vec<Split>) {
        for split in splits.into_iter().rev() {
            self.waiting.push_front(split);
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        encode(&Remembered {
            // Who looks once will never ask whether a file is new.
            seen: self.discovery.map(|_| self.seen.clone()).unwrap_or_default(),
            waiting: self.waiting.iter().cloned().collect(),
        })
    }

    fn restore(&mut self, snapshot: &[u8], _parallelism: u32) -> Result<()> {
        let Remembered { seen, waiting } = decode(snapshot)?;
        (self.seen, self.waiting) = (seen, waiting.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileSource;
    use crate::testing::write;
    use hurtig_dataflow::source::Source;

    fn id(assignment: Assignment) -> String {
        match assignment {
            Assignment::Split(split) => split.id.rsplit('/').next().unwrap().to_owned(),
            Assignment::Later(ms) => format!("later {ms}"),
            Assignment::NoMore => "no more".to_owned(),
        }
    }

    #[test]
    fn bounded_input_is_dealt_out_once_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "12345678901234567890");
        write(dir.path(), "b.gz", "12345678901234567890");
        let mut deal = FileSource::lines(dir.path())
            .split_bytes(10)
            .enumerator()
            .unwrap();
        deal.start(2).unwrap();
        let first = deal.next_split(0).unwrap();
        assert_eq!(id(first.clone()), "a:0");
        assert_eq!(id(deal.next_split(1).unwrap()), "a:10");
        let Assignment::Split(lost) = first else {
            unreachable!("checked above")
        };
        deal.add_back(vec![lost]);
        write(dir.path(), "late", "x");
        let rest: Vec<_> = (0..4).map(|_| id(deal.next_split(1).unwrap())).collect();
        assert_eq!(rest, ["a:0", "b.gz:0", "no more", "no more"]);
    }

    #[test]
    fn continuous_input_is_discovered_by_name_once() {
        let dir = tempfile::tempdir().unwrap();
        let source = FileSource::lines(dir.path()).continuous(Duration::from_millis(70));
        assert!(!source.bounded());
        let mut deal = source.enumerator().unwrap();
        deal.start(1).unwrap();
        assert_eq!(id(deal.next_split(0).unwrap()), "later 70");
        write(dir.path(), ".b.inprogress", "x\n");
        assert_eq!(id(deal.next_split(0).unwrap()), "later 70");
        std::fs::rename(dir.path().join(".b.inprogress"), dir.path().join("b")).unwrap();
        write(dir.path(), "c/d", "y\n");
        assert_eq!(id(deal.next_split(0).unwrap()), "b:0");
        write(dir.path(), "b", "x\nmore\n");
        write(dir.path(), "a", "");
        assert_eq!(id(deal.next_split(0).unwrap()), "d:0");
        assert_eq!(id(deal.next_split(0).unwrap()), "a:0");
        assert_eq!(id(deal.next_split(0).unwrap()), "later 70");
    }

    #[test]
    fn a_restored_enumerator_deals_out_what_was_left() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "12345678901234567890");
        let bounded = FileSource::lines(dir.path()).split_bytes(10);
        let mut before = bounded.enumerator().unwrap();
        before.start(1).unwrap();
        assert_eq!(id(before.next_split(0).unwrap()), "a:0");
        let snapshot = before.snapshot().unwrap();
        write(dir.path(), "b", "x\n");
        let mut after = bounded.enumerator().unwrap();
        after.restore(&snapshot, 2).unwrap();
        let rest: Vec<_> = (0..2).map(|_| id(after.next_split(1).unwrap())).collect();
        assert_eq!(rest, ["a:10", "no more"], "what came later is not read");

        let continuous = FileSource::lines(dir.path()).continuous(Duration::from_millis(70));
        let mut before = continuous.enumerator().unwrap();
        before.start(1).unwrap();
        assert_eq!(id(before.next_split(0).unwrap()), "a:0");
        let snapshot = before.snapshot().unwrap();
        write(dir.path(), "c", "y\n");
        let mut after = continuous.enumerator().unwrap();
        after.restore(&snapshot, 1).unwrap();
        let rest: Vec<_> = (0..3).map(|_| id(after.next_split(0).unwrap())).collect();
        assert_eq!(rest, ["b:0", "c:0", "later 70"]);
    }

    #[test]
    fn missing_input_fails_before_the_job_runs() {
        let source = FileSource::lines("/no/such/input");
        let want = "input path '/no/such/input' does not exist";
        assert_eq!(source.validate().unwrap_err().to_string(), want);
        assert_eq!(
            source.enumerator().unwrap().start(1).unwrap_err().to_string(),
            want
        );
    }
}
