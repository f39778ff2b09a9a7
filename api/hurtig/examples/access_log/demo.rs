//! The shipped sample, played as a live stream.

use super::{PathMinute, hits, per_minute, shared, top};
use hurtig::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds that the sample takes on a terminal.
const SECONDS: u64 = 20;
/// Paths of each minute.
const TOP: usize = 3;

fn sample() -> PathBuf {
    const SAMPLE: &str = "examples/data/access.log.gz";
    // Under `cargo run` cargo says where the sources are; else they are where this was built.
    let said = std::env::var_os("CARGO_MANIFEST_DIR").map(|here| PathBuf::from(here).join(SAMPLE));
    said.filter(|sample| sample.exists())
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(SAMPLE))
}

/// The sample's lines, and how many were no text, read with the engine's own file source.
async fn read_sample() -> Result<(Vec<Str>, i64)> {
    let env = StreamEnv::new();
    let lines = env
        .from_source(FileSource::lines(sample()), Watermarks::none())
        .collect();
    let result = env.execute("read the sample").await?;
    Ok((lines.take(), shared::malformed(&result)))
}

/// Plays the sample, a few thousand lines a second on a terminal and at full speed elsewhere.
pub(crate) async fn run(env: &StreamEnv, disorder: Duration) -> Result {
    let (lines, unreadable) = read_sample().await?;
    let lines = Arc::new(lines);
    let count = lines.len() as u64;
    let live = std::io::stdout().is_terminal();
    let replayed = lines.clone();
    let source = GeneratorSource::new(count, move |i| replayed[i as usize].clone());
    let source = if live {
        source.rate((count / SECONDS).max(1))
    } else {
        source
    };
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let lines = env
        .from_source(source, Watermarks::none())
        .name("Replayed Log")
        .inspect(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
    let late = OutputTag::new("late");
    let minutes = per_minute(&hits(&lines, disorder), Some(&late));
    let late = minutes.side_output(&late).collect();
    let best = top(&minutes, TOP).collect();
    let job = env.execute_async("access log demo").await?;
    let mut rows = follow(live.then_some(count), &seen, &job, || best.take()).await?;
    let result = job.result().await?;
    rows.extend(best.take());
    print(&rows, live)?;
    let mut out = std::io::stdout().lock();
    let (read, malformed) = (count as i64 + unreadable, shared::malformed(&result) + unreadable);
    writeln!(
        out,
        "lines={read} late={} malformed={malformed}",
        late.take().len()
    )?;
    Ok(())
}

/// Shows how far the stream has come until the job has ended; returns the rows that came meanwhile.
async fn follow(
    show: Option<u64>,
    seen: &AtomicU64,
    job: &JobClient,
    take: impl Fn() -> Vec<(u64, PathMinute)>,
) -> Result<Vec<(u64, PathMinute)>> {
    let mut rows = Vec::new();
    let Some(count) = show else { return Ok(rows) };
    let bar = ProgressBar::new(count);
    bar.set_style(ProgressStyle::with_template(
        "{bar:20} {pos}/{len} lines  {wide_msg}",
    )?);
    while seen.load(Ordering::Relaxed) < count && !job.status().await?.is_terminal() {
        bar.set_position(seen.load(Ordering::Relaxed));
        rows.extend(take());
        if let Some((_, leader)) = rows.iter().rev().find(|(rank, _)| *rank == 1) {
            bar.set_message(format!("{} leads {}", leader.path, clock(leader.minute)));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// `HH:MM` of a time in milliseconds, UTC.
fn clock(ms: i64) -> String {
    let minutes = ms.div_euclid(60_000).rem_euclid(24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// A table for people, or plain lines for programs.
fn print(rows: &[(u64, PathMinute)], table: bool) -> Result {
    let mut out = std::io::stdout().lock();
    if table {
        writeln!(
            out,
            "{:>6} {:>4} {:>6} {:>10}  path",
            "minute", "rank", "hits", "bytes"
        )?;
    }
    for (rank, row) in rows {
        let (hits, bytes) = (row.traffic.hits, row.traffic.bytes);
        if table {
            writeln!(
                out,
                "{:>6} {rank:>4} {hits:>6} {bytes:>10}  {}",
                clock(row.minute),
                row.path
            )?;
        } else {
            writeln!(out, "{}\t{rank}\t{}\t{hits}\t{bytes}", row.minute, row.path)?;
        }
    }
    Ok(())
}
