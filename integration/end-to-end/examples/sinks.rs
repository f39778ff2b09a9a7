//! Numbers into every sink that commits with checkpoints and is not a text file, for tests that kill.
//!
//! `OUT/parquet` holds them as Parquet, `OUT/numbers.db` in a table of SQLite, `OUT/ahead` as files of a target that
//! only knows 'write these records', behind a write-ahead sink.

use hurtig::prelude::*;
use hurtig_connector_parquet::ParquetFormat;
use hurtig_connector_sqlite::SqliteSink;
use std::path::{Path, PathBuf};

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = env.args();
    let [_, out, count, rate] = &args[..] else {
        return Err("usage: sinks OUT COUNT RECORDS_PER_SECOND".into());
    };
    let out = PathBuf::from(out);
    std::fs::create_dir_all(&out)?;
    let numbers = env
        .from_source(
            GeneratorSource::new(count.parse()?, |i| i).rate(rate.parse()?),
            Watermarks::none(),
        )
        .uid("numbers");
    let format = ParquetFormat::new()
        .column("n", |n: &u64| *n)
        .column("half", |n: &u64| n.is_multiple_of(2).then_some(n / 2));
    numbers
        .sink_to(FileSink::bulk(format, out.join("parquet")).part_suffix(".parquet"))
        .uid("parquet");
    let table = SqliteSink::new(out.join("numbers.db"), "numbers")
        .setup("CREATE TABLE IF NOT EXISTS numbers (n INTEGER NOT NULL)")
        .column("n", |n: &u64| n.cast_signed().into());
    numbers.sink_to(table).uid("sqlite");
    let folder = out.join("ahead");
    numbers
        .sink_to(WriteAheadSink::new(move || Ok(Folder::open(&folder)?)))
        .uid("ahead");
    env.execute("sinks").await?;
    Ok(())
}

/// A target whose names are its ledger.
struct Folder(PathBuf);

impl Folder {
    fn open(path: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }
}

impl WriteAheadTarget<u64> for Folder {
    fn write(&mut self, records: Vec<u64>, id: &CommitId) -> std::result::Result<(), UserError> {
        let lines: String = records.iter().map(|n| format!("{n}\n")).collect();
        let temporary = self.0.join(format!(".{id}"));
        std::fs::write(&temporary, lines)?;
        Ok(std::fs::rename(&temporary, self.0.join(id.to_string()))?)
    }

    fn is_committed(&mut self, id: &CommitId) -> std::result::Result<bool, UserError> {
        Ok(self.0.join(id.to_string()).try_exists()?)
    }
}
