//! The enumerator: finds files and deals out their splits.
//!
//! Of a source that waits for new files, those that are there at the start are backlog: until each reader has asked for
//! another split behind its last one of them, which says that it has read that.

use crate::input::Compression;
use crate::paths::{InputFile, InputPaths};
use crate::split::FileSplit;
use hurtig_core::{Error, Result};
use hurtig_dataflow::source::{Assignment, EnumeratorContext, Split, SplitEnumerator};
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
    pub(crate) context: Option<EnumeratorContext>,
    pub(crate) backlog: Backlog,
}

/// How far the files are that were there at the start.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Their splits that wait.
    waiting: usize,
    /// Who may be reading one.
    readers: BTreeSet<u32>,
    parallelism: u32,
}

impl Backlog {
    fn is_over(&self) -> bool {
        self.waiting == 0 && self.readers.is_empty()
    }
}

impl FileEnumerator {
    /// Adds splits of files that have not been seen.
    fn discover(&mut self, backlog: bool) -> Result<()> {
        for file in self.paths.discover(self.discovery.is_some())? {
            if self.seen.contains(&file.path) {
                continue;
            }
            for split in self.cut(&file)? {
                let split = FileSplit { backlog, ..split };
                self.waiting.push_back(split.to_split()?);
                self.backlog.waiting += usize::from(backlog);
            }
            self.seen.insert(file.path);
        }
        Ok(())
    }

    /// Takes the next split for a reader, which has read those that it had.
    fn deal(&mut self, reader: u32) -> Option<Split> {
        self.backlog.readers.remove(&reader);
        let split = self.waiting.pop_front()?;
        if is_backlog(&split) {
            self.backlog.waiting -= 1;
            self.backlog.readers.insert(reader);
        }
        Some(split)
    }

    fn say_backlog(&self) {
        if let Some(context) = &self.context {
            context.set_backlog(!self.backlog.is_over());
        }
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
    /// Whether readers may have been busy with files that were there at the start.
    #[serde(default)]
    backlog: bool,
}

fn is_backlog(split: &Split) -> bool {
    FileSplit::from_split(split).is_ok_and(|split| split.backlog)
}

/// Says now what a reader would find out later. Not for pipes: opening one is taking it.
fn check_readable(path: &str) -> Result<()> {
    let failed = |e| Error::external(format!("cannot read input file '{path}'"), e);
    File::open(path).map(drop).map_err(failed)
}

impl SplitEnumerator for FileEnumerator {
    fn open(&mut self, context: EnumeratorContext) {
        self.context = Some(context);
    }

    fn start(&mut self, parallelism: u32) -> Result<()> {
        self.backlog.parallelism = parallelism;
        self.discover(self.discovery.is_some())?;
        self.say_backlog();
        Ok(())
    }

    fn next_split(&mut self, reader: u32) -> Result<Assignment> {
        let mut split = self.deal(reader);
        if split.is_none() && self.discovery.is_some() {
            self.discover(false)?;
            split = self.deal(reader);
        }
        self.say_backlog();
        Ok(match (split, self.discovery) {
            (Some(split), _) => Assignment::Split(split),
            (None, None) => Assignment::NoMore,
            (None, Some(interval)) => {
                Assignment::Later(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX))
            }
        })
    }

    fn add_back(&mut self, splits: Vec<Split>) {
        for split in splits.into_iter().rev() {
            if is_backlog(&split) {
                self.backlog.waiting += 1;
                // Whoever gave it back has gone back behind others of its splits too, and who that is nobody says.
                self.backlog.readers.extend(0..self.backlog.parallelism);
            }
            self.waiting.push_front(split);
        }
        self.say_backlog();
    }

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        encode(&Remembered {
            // Who looks once will never ask whether a file is new.
            seen: self.discovery.map(|_| self.seen.clone()).unwrap_or_default(),
            waiting: self.waiting.iter().cloned().collect(),
            backlog: !self.backlog.is_over(),
        })
    }

    fn restore(&mut self, snapshot: &[u8], parallelism: u32) -> Result<()> {
        let Remembered {
            seen,
            waiting,
            backlog,
        } = decode(snapshot)?;
        (self.seen, self.waiting) = (seen, waiting.into());
        // Any reader may go on in a split that was dealt out before.
        let readers = if backlog { 0..parallelism } else { 0..0 };
        self.backlog = Backlog {
            waiting: self.waiting.iter().filter(|split| is_backlog(split)).count(),
            readers: readers.collect(),
            parallelism,
        };
        self.say_backlog();
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

    /// An enumerator of `source` for two readers, and whether it says that they read backlog.
    fn begin(
        source: &FileSource<crate::format::Lines>,
        snapshot: Option<&[u8]>,
    ) -> (Box<dyn SplitEnumerator>, EnumeratorContext) {
        let context = EnumeratorContext::new(|| {});
        let mut deal = source.enumerator().unwrap();
        deal.open(context.clone());
        match snapshot {
            Some(snapshot) => deal.restore(snapshot, 2).unwrap(),
            None => deal.start(2).unwrap(),
        }
        (deal, context)
    }

    #[test]
    fn files_that_were_there_are_backlog_until_each_reader_has_asked_behind_them() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "12345678901234567890");
        write(dir.path(), "b", "x\n");
        let source = FileSource::lines(dir.path())
            .split_bytes(10)
            .continuous(Duration::from_millis(70));
        let (mut deal, context) = begin(&source, None);
        assert!(context.is_backlog(), "before anybody reads");
        for (reader, want) in [(0, "a:0"), (1, "a:10"), (0, "b:0")] {
            assert_eq!(id(deal.next_split(reader).unwrap()), want);
        }
        assert_eq!(id(deal.next_split(1).unwrap()), "later 70");
        assert!(context.is_backlog(), "reader 0 is at b");
        // What has come meanwhile is read, and is none of it.
        write(dir.path(), "c", "y\n");
        assert_eq!(id(deal.next_split(1).unwrap()), "c:0");
        assert!(context.is_backlog());
        assert_eq!(id(deal.next_split(0).unwrap()), "later 70");
        assert!(!context.is_backlog(), "reader 1 may be at c still");
        write(dir.path(), "d", "y\n");
        assert_eq!(id(deal.next_split(0).unwrap()), "d:0");
        assert!(!context.is_backlog());
    }

    #[test]
    fn without_files_at_the_start_or_without_an_end_there_is_no_backlog() {
        let dir = tempfile::tempdir().unwrap();
        let continuous = FileSource::lines(dir.path()).continuous(Duration::from_millis(70));
        assert!(!begin(&continuous, None).1.is_backlog());
        write(dir.path(), "a", "x\n");
        let (mut deal, context) = begin(&FileSource::lines(dir.path()), None);
        assert_eq!(id(deal.next_split(0).unwrap()), "a:0");
        assert!(!context.is_backlog(), "a bounded source follows nothing");
    }

    #[test]
    fn a_restored_enumerator_is_in_backlog_while_any_reader_may_be() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "x\n");
        let source = FileSource::lines(dir.path()).continuous(Duration::from_millis(70));
        let (mut deal, _) = begin(&source, None);
        let waiting = deal.snapshot().unwrap();
        assert_eq!(id(deal.next_split(1).unwrap()), "a:0");
        let reading = deal.snapshot().unwrap();
        assert_eq!(id(deal.next_split(1).unwrap()), "later 70");
        let over = deal.snapshot().unwrap();

        let (mut deal, context) = begin(&source, Some(&waiting));
        assert!(context.is_backlog());
        assert_eq!(id(deal.next_split(0).unwrap()), "a:0");
        for (reader, still) in [(1, true), (0, false)] {
            assert_eq!(id(deal.next_split(reader).unwrap()), "later 70");
            assert_eq!(context.is_backlog(), still);
        }
        // The split is some reader's, and who it is nobody says.
        let (mut deal, context) = begin(&source, Some(&reading));
        assert!(context.is_backlog());
        for (reader, still) in [(1, true), (1, true), (0, false)] {
            assert_eq!(id(deal.next_split(reader).unwrap()), "later 70");
            assert_eq!(context.is_backlog(), still);
        }
        assert!(!begin(&source, Some(&over)).1.is_backlog());
    }

    #[test]
    fn a_split_of_the_backlog_that_is_given_back_is_backlog_again() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "x\n");
        let source = FileSource::lines(dir.path()).continuous(Duration::from_millis(70));
        let (mut deal, context) = begin(&source, None);
        let Assignment::Split(old) = deal.next_split(0).unwrap() else {
            unreachable!("a file is there")
        };
        deal.next_split(0).unwrap();
        write(dir.path(), "b", "x\n");
        let Assignment::Split(new) = deal.next_split(0).unwrap() else {
            unreachable!("a file has come")
        };
        deal.add_back(vec![new]);
        assert!(!context.is_backlog());
        deal.add_back(vec![old]);
        assert!(context.is_backlog());
        let ids: Vec<_> = [1, 0, 1, 0]
            .map(|reader| id(deal.next_split(reader).unwrap()))
            .into();
        assert_eq!(ids, ["a:0", "b:0", "later 70", "later 70"]);
        assert!(!context.is_backlog());
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
