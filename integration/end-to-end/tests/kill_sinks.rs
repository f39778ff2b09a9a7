//! Kill -9 at random moments, at changing parallelism: each number is in Parquet, in SQLite and behind the write-ahead
//! sink once, and what is visible after a kill stays.
//!
//! `CHAOS_KILLS` says how many kills (default 6), `CHAOS_SEED` where randomness begins.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]
#![allow(clippy::print_stdout, reason = "a failing run must tell its seed")]

use hurtig_end_to_end::{Random, number, start_example};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const RATE: u64 = 12_000;

/// Visible files in a folder, none if there is no such folder.
fn visible(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'))
        .collect()
}

fn in_parquet(out: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    for path in visible(&out.join("parquet")) {
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap());
        let reader = reader.unwrap_or_else(|error| panic!("a torn file is visible, {path:?}: {error}"));
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let n = row.get_ulong(0).unwrap();
            assert_eq!(row.get_ulong(1).ok(), n.is_multiple_of(2).then_some(n / 2));
            found.push(n);
        }
    }
    found
}

fn in_sqlite(out: &Path) -> Vec<u64> {
    let connection = rusqlite::Connection::open(out.join("numbers.db")).unwrap();
    let Ok(mut statement) = connection.prepare("SELECT n FROM numbers") else {
        return Vec::new();
    };
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(|row: rusqlite::Result<i64>| row.unwrap().cast_unsigned())
        .collect()
}

fn ahead(out: &Path) -> Vec<u64> {
    let files = visible(&out.join("ahead"));
    let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| {
            text.lines()
                .map(|line| line.parse().unwrap())
                .collect::<Vec<u64>>()
        })
        .collect()
}

type Read = fn(&Path) -> Vec<u64>;
const SINKS: [(&str, Read); 3] = [
    ("Parquet", in_parquet),
    ("SQLite", in_sqlite),
    ("the write-ahead sink's target", ahead),
];

struct Trial {
    random: Random,
    folder: tempfile::TempDir,
    count: u64,
    seen: [BTreeSet<u64>; 3],
}

impl Trial {
    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn start(&mut self) -> std::process::Child {
        std::fs::create_dir_all(self.out()).unwrap();
        let parallelism = 1 + self.random.below(4);
        let interval = 20 + self.random.below(100);
        let checkpoints = self.folder.path().join("checkpoints");
        let args = [
            "-p".to_owned(),
            parallelism.to_string(),
            "-D".to_owned(),
            format!("execution.checkpointing.interval={interval}ms"),
            "-D".to_owned(),
            format!("execution.checkpointing.dir={}", checkpoints.display()),
            "--restore".to_owned(),
            "latest".to_owned(),
            self.out().display().to_string(),
            self.count.to_string(),
            RATE.to_string(),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        start_example("sinks", &args)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a life is as long as chance has it, whatever happens in it"
    )]
    fn kill(&mut self) {
        let mut child = self.start();
        std::thread::sleep(Duration::from_millis(100 + self.random.below(800)));
        // It may have ended already.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("FAILED") && !said.contains("error:"), "{said}");
    }

    /// Nothing is there twice, and nothing has vanished.
    fn check(&mut self) {
        let out = self.out();
        for ((name, read), seen) in SINKS.iter().zip(&mut self.seen) {
            let found = read(&out);
            let now: BTreeSet<u64> = found.iter().copied().collect();
            assert_eq!(now.len(), found.len(), "something is in {name} twice");
            let lost: Vec<_> = seen.difference(&now).take(5).collect();
            assert!(lost.is_empty(), "{lost:?} have vanished from {name}");
            *seen = now;
        }
        println!("visible: {:?}", self.seen.each_ref().map(BTreeSet::len));
    }
}

#[test]
fn every_sink_has_everything_once_whatever_is_killed() {
    let kills = number("CHAOS_KILLS", 6);
    let seed = number("CHAOS_SEED", 1);
    println!("CHAOS_SEED={seed} CHAOS_KILLS={kills}");
    let mut trial = Trial {
        random: Random::new(seed),
        folder: tempfile::tempdir().unwrap(),
        // Some of it is left when the last kill has come.
        count: RATE * (kills + 4) / 2,
        seen: [const { BTreeSet::new() }; 3],
    };
    for _ in 0..kills {
        trial.kill();
        trial.check();
    }
    let end = trial.start().wait_with_output().unwrap();
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    trial.check();
    for ((name, _), seen) in SINKS.iter().zip(&trial.seen) {
        let lost = (0..trial.count).filter(|n| !seen.contains(n)).count();
        assert_eq!(
            (lost, seen.len() as u64),
            (0, trial.count),
            "{name}: lost, and found"
        );
    }
}
