//! Web access logs: hits and bytes, top paths, sessions, late lines; event time and windows.
//!
//! Reads the Common and the Combined Log Format. Times are milliseconds since 1970; columns are
//! separated by tabs:
//!
//! | report | columns |
//! |---|---|
//! | `hits` | minute, path, hits, bytes |
//! | `top` | minute, rank, path, hits: the `--top` paths of each minute, equal ones by name |
//! | `sessions` | client, start, end, hits, bytes: until a client is silent for `--gap-ms` |
//! | `late` | time, client, path, status, bytes of lines that came after their minute was complete |
//!
//! Which lines are late depends on when watermarks are sent, every 200 ms, and so on how fast the input is read: a few more
//! or less from run to run.
//!
//! `--demo` plays the shipped sample as a live stream.
//!
//! ```text
//! cargo run --release -p hurtig --example access_log -- --input /var/log/nginx/access.log --report top
//! ```

use clap::{Parser, ValueEnum};
use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[path = "access_log/demo.rs"]
mod demo;
#[path = "access_log/format.rs"]
mod format;
mod shared;

use format::Hit;

const LIVE_DISORDER_MS: u64 = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Report {
    Hits,
    Top,
    Sessions,
    Late,
}

#[derive(Parser)]
#[command(about = "Reports on web access logs")]
struct Args {
    #[command(flatten)]
    io: shared::InOut,
    /// What to report.
    #[arg(long, value_enum, default_value_t = Report::Hits)]
    report: Report,
    /// Paths of each minute in the report `top`.
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Silence that ends a session, in milliseconds.
    #[arg(long, default_value_t = 300_000)]
    gap_ms: u64,
    /// How far lines may be out of order, in milliseconds; later ones are late. By default 10000 for
    /// a live stream (standard input, `--demo`) and the report `late`, and without limit in files.
    #[arg(long)]
    out_of_orderness_ms: Option<u64>,
    /// Play the shipped sample as a live stream.
    #[arg(long)]
    demo: bool,
}

/// Hits and bytes of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Traffic {
    hits: u64,
    bytes: u64,
}

struct SumTraffic;

impl AggregateFunction for SumTraffic {
    type In = Hit;
    type Acc = Traffic;
    type Out = Traffic;

    const SHAREABLE: bool = true;

    fn create(&self) -> Traffic {
        Traffic::default()
    }

    fn add(&self, sum: &mut Traffic, hit: Hit) {
        sum.hits += 1;
        sum.bytes += hit.bytes;
    }

    fn result(&self, sum: &Traffic) -> Traffic {
        sum.clone()
    }

    fn merge(&self, sum: &mut Traffic, other: Traffic) {
        sum.hits += other.hits;
        sum.bytes += other.bytes;
    }
}

/// Traffic of one path in one minute.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PathMinute {
    minute: i64,
    path: Str,
    traffic: Traffic,
}

/// Parses lines and gives hits their event time.
fn hits(lines: &DataStream<Str>, disorder: Duration) -> DataStream<Hit> {
    lines
        .process(|| shared::Parse(|line: &Str| format::parse(line)))
        .name("Parse Log Lines")
        .assign_timestamps_and_watermarks(Watermarks::bounded(disorder, |hit: &Hit| hit.time))
}

/// Traffic of each path and minute; what is late goes to the side output `late`, or is dropped.
fn per_minute(hits: &DataStream<Hit>, late: Option<&OutputTag<Hit>>) -> DataStream<PathMinute> {
    let minutes = hits.key_by_ref(|hit| &hit.path).window(Tumbling::of(1.minutes()));
    let minutes = match late {
        Some(late) => minutes.side_output_late_data(late),
        None => minutes,
    };
    minutes
        .aggregate_then(
            SumTraffic,
            |path: &Str, window, traffic, out: &mut Collector<PathMinute>| {
                out.push(PathMinute {
                    minute: window.start,
                    path: path.clone(),
                    traffic: traffic.clone(),
                });
            },
        )
        .uid("per-minute")
}

/// The `n` paths with most hits of each minute, with their rank from 1.
fn top(minutes: &DataStream<PathMinute>, n: usize) -> DataStream<(u64, PathMinute)> {
    minutes
        .window_all(Tumbling::of(1.minutes()))
        .apply(move |_, _, paths, out: &mut Collector<(u64, PathMinute)>| {
            let mut paths: Vec<&PathMinute> = paths.iter().collect();
            paths.sort_by(|a, b| {
                b.traffic
                    .hits
                    .cmp(&a.traffic.hits)
                    .then_with(|| a.path.cmp(&b.path))
            });
            (1..)
                .zip(paths.into_iter().take(n))
                .for_each(|(rank, path)| out.push((rank, path.clone())));
        })
        .uid("top")
}

fn sessions(hits: &DataStream<Hit>, gap: Duration) -> DataStream<String> {
    hits.key_by_ref(|hit| &hit.client)
        .window(Session::with_gap(gap))
        .aggregate_then(
            SumTraffic,
            |client: &Str, window, traffic, out: &mut Collector<String>| {
                let Traffic { hits, bytes } = traffic;
                out.push(format!(
                    "{client}\t{}\t{}\t{hits}\t{bytes}",
                    window.start, window.end
                ));
            },
        )
        .uid("sessions")
}

fn late_lines(hits: &DataStream<Hit>) -> DataStream<String> {
    let late = OutputTag::new("late");
    per_minute(hits, Some(&late)).side_output(&late).map(|hit| {
        format!(
            "{}\t{}\t{}\t{}\t{}",
            hit.time, hit.client, hit.path, hit.status, hit.bytes
        )
    })
}

/// How far lines may be out of order.
fn disorder(args: &Args) -> Duration {
    let said = args.out_of_orderness_ms;
    match args.report {
        _ if args.demo => Duration::from_millis(said.unwrap_or(LIVE_DISORDER_MS)),
        Report::Late => Duration::from_millis(said.unwrap_or(LIVE_DISORDER_MS)),
        _ => args.io.disorder(said, LIVE_DISORDER_MS),
    }
}

fn report(args: &Args, hits: &DataStream<Hit>) -> DataStream<String> {
    match args.report {
        Report::Hits => per_minute(hits, None).map(|row| {
            format!(
                "{}\t{}\t{}\t{}",
                row.minute, row.path, row.traffic.hits, row.traffic.bytes
            )
        }),
        Report::Top => top(&per_minute(hits, None), args.top)
            .map(|(rank, row)| format!("{}\t{rank}\t{}\t{}", row.minute, row.path, row.traffic.hits)),
        Report::Sessions => sessions(hits, Duration::from_millis(args.gap_ms)),
        Report::Late => late_lines(hits),
    }
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = Args::parse_from(env.args());
    let disorder = disorder(&args);
    if args.demo {
        return demo::run(&env, disorder).await;
    }
    let lines = args.io.lines(&env);
    let results = report(&args, &hits(&lines, disorder));
    args.io.write(&results);
    shared::run(&env, "access log").await
}
