//! Reports on a web server's access log, by event time.
//!
//! ```text
//! cargo run --release --example access_log -- --demo
//! cargo run --release --example access_log -- --input 'logs/*.gz' --report sessions
//! ```
//!
//! Input: Common or Combined Log Format. Output, columns separated by tabs, times in milliseconds:
//! `hits` minute, path, hits, bytes; `top` minute, rank, path, hits; `sessions` client, start, end,
//! hits, bytes; `late` time, client, path, status, bytes of the lines that came after their minute.

mod common;

use clap::{Parser, ValueEnum};
use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, ValueEnum)]
enum Report {
    Hits,
    Top,
    Sessions,
    Late,
}

/// Reports on a web server's access log.
#[derive(Parser)]
struct Arguments {
    /// File, folder, glob, or `-` for standard input.
    #[arg(
        long,
        required_unless_present = "demo",
        default_value_if("demo", "true", DEMO)
    )]
    input: Option<String>,
    /// File, replaced if it exists, or `-` for standard output.
    #[arg(long, default_value = "-")]
    output: String,
    /// Parallel subtasks of each operator.
    #[arg(long)]
    parallelism: Option<u32>,
    /// What to report.
    #[arg(long, value_enum, default_value = "top")]
    report: Report,
    /// Paths a minute in the report `top`.
    #[arg(long, default_value_t = 3)]
    top: usize,
    /// The pause that ends a session.
    #[arg(long, default_value_t = 300_000)]
    gap_ms: u64,
    /// How much later than a newer line a line may come.
    #[arg(long, default_value_t = 10_000)]
    out_of_orderness_ms: u64,
    /// Runs on the sample that comes with this example.
    #[arg(long)]
    demo: bool,
}

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/access.log.gz");

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    client: String,
    path: String,
    time: i64,
    status: u16,
    bytes: u64,
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result<(), hurtig::Error> {
    let arguments = Arguments::parse_from(env.args());
    if let Some(parallelism) = arguments.parallelism {
        env.set_parallelism(parallelism);
    }
    let bound = Duration::from_millis(arguments.out_of_orderness_ms);
    let input = arguments.input.as_deref().unwrap_or(DEMO);
    let lines = common::records(&env, input, parse)
        .assign_timestamps_and_watermarks(Watermarks::bounded(bound, |line: &Line| line.time));
    report(&lines, &arguments);
    common::run(&env, "access log").await
}

fn report(lines: &DataStream<Line>, arguments: &Arguments) {
    let output = &arguments.output;
    match arguments.report {
        Report::Hits => common::write(&hits(lines), output, |(minute, path, hits, bytes), line| {
            let _ = write!(line, "{minute}\t{path}\t{hits}\t{bytes}");
        }),
        Report::Top => common::write(
            &top(&hits(lines), arguments.top),
            output,
            |(minute, rank, path, hits), line| {
                let _ = write!(line, "{minute}\t{rank}\t{path}\t{hits}");
            },
        ),
        Report::Sessions => common::write(
            &sessions(lines, arguments.gap_ms),
            output,
            |(client, start, end, hits, bytes), line| {
                let _ = write!(line, "{client}\t{start}\t{end}\t{hits}\t{bytes}");
            },
        ),
        Report::Late => common::write(&hits(lines).side_output(&late()), output, |late: &Line, line| {
            let Line {
                client,
                path,
                time,
                status,
                bytes,
            } = late;
            let _ = write!(line, "{time}\t{client}\t{path}\t{status}\t{bytes}");
        }),
    }
}

fn late() -> OutputTag<Line> {
    OutputTag::new("late")
}

fn hits(lines: &DataStream<Line>) -> DataStream<(i64, String, u64, u64)> {
    lines
        .key_by_ref(|line: &Line| line.path.as_str())
        .window(Tumbling::of(MINUTE))
        .side_output_late_data(&late())
        .aggregate_then(Traffic, |path: &str, window, &(hits, bytes), out| {
            out.push((window.start, path.to_owned(), hits, bytes));
        })
}

fn top(hits: &DataStream<(i64, String, u64, u64)>, n: usize) -> DataStream<(i64, usize, String, u64)> {
    hits.window_all(Tumbling::of(MINUTE))
        .apply(move |_, window, paths, out| {
            let mut paths: Vec<_> = paths.iter().collect();
            paths.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.1.cmp(&b.1)));
            for (rank, (_, path, hits, _)) in (1..).zip(paths.into_iter().take(n)) {
                out.push((window.start, rank, path.clone(), *hits));
            }
        })
}

fn sessions(lines: &DataStream<Line>, gap_ms: u64) -> DataStream<(String, i64, i64, u64, u64)> {
    lines
        .key_by_ref(|line: &Line| line.client.as_str())
        .window(Session::with_gap(Duration::from_millis(gap_ms)))
        .aggregate_then(Traffic, |client: &str, window, &(hits, bytes), out| {
            out.push((client.to_owned(), window.start, window.end, hits, bytes));
        })
}

/// Hits and bytes.
struct Traffic;

impl AggregateFunction for Traffic {
    type In = Line;
    type Acc = (u64, u64);
    type Out = (u64, u64);

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, (hits, bytes): &mut (u64, u64), line: Line) {
        *hits += 1;
        *bytes += line.bytes;
    }

    fn result(&self, traffic: &(u64, u64)) -> (u64, u64) {
        *traffic
    }

    fn merge(&self, into: &mut (u64, u64), other: (u64, u64)) {
        *into = (into.0 + other.0, into.1 + other.1);
    }
}

/// A line of the Common or Combined Log Format.
fn parse(line: &str) -> Option<Line> {
    if line.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return None;
    }
    let (client, rest) = word(line)?;
    let (_, rest) = word(rest)?;
    let (_, rest) = word(rest)?;
    let (date, rest) = rest.strip_prefix('[')?.split_once("] ")?;
    let (request, rest) = quoted(rest)?;
    let (status, rest) = word(rest.strip_prefix(' ')?).filter(|(status, _)| status.len() == 3)?;
    let (bytes, rest) = rest
        .split_once(' ')
        .map_or((rest, None), |(bytes, rest)| (bytes, Some(rest)));
    if let Some(rest) = rest {
        let (_, rest) = quoted(rest)?;
        let (_, rest) = quoted(rest.strip_prefix(' ')?)?;
        rest.is_empty().then_some(())?;
    }
    Some(Line {
        client: client.to_owned(),
        path: path(request)?.to_owned(),
        time: time(date)?,
        status: u16::try_from(number(status)?)
            .ok()
            .filter(|status| (100..600).contains(status))?,
        bytes: if bytes == "-" { 0 } else { number(bytes)? },
    })
}

fn word(text: &str) -> Option<(&str, &str)> {
    text.split_once(' ').filter(|(word, _)| !word.is_empty())
}

/// One to 15 digits.
fn number(text: &str) -> Option<u64> {
    let digits = text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The text between double quotes, and what follows; a backslash escapes the next character.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}

fn path(request: &str) -> Option<&str> {
    let mut parts = request.split(' ');
    let (method, target, protocol) = (parts.next()?, parts.next()?, parts.next()?);
    let method = !method.is_empty()
        && method
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_');
    let version = protocol.strip_prefix("HTTP/")?.as_bytes();
    let version = match version {
        [major] => major.is_ascii_digit(),
        [major, b'.', minor] => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    };
    let path = target.split('?').next()?;
    (method && version && !path.is_empty() && parts.next().is_none()).then_some(path)
}

/// Milliseconds of a date such as `29/Feb/2024:23:59:59 +0100`.
fn time(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let shape = b"00/aaa/0000:00:00:00 +0000";
    let fits = |(byte, shape): (u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'a' => byte.is_ascii_alphabetic(),
        b'+' => byte == b'+' || byte == b'-',
        other => byte == *other,
    };
    if date.len() != shape.len() || !date.bytes().zip(shape).all(fits) {
        return None;
    }
    let field = |from: usize, to: usize| date[from..to].parse::<i32>().ok();
    let small = |from: usize| field(from, from + 2).and_then(|n| i8::try_from(n).ok());
    let month = (1..).zip(MONTHS).find(|(_, name)| *name == &date[3..6])?.0;
    let (year, second) = (i16::try_from(field(7, 11)?).ok()?, small(18)?);
    let local = jiff::civil::DateTime::new(year, month, small(0)?, small(12)?, small(15)?, second, 0).ok()?;
    let (hours, minutes) = (field(22, 24)?, field(24, 26)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = i64::from(hours * 3600 + minutes * 60) * if &date[21..22] == "-" { -1 } else { 1 };
    let utc = jiff::tz::Offset::UTC.to_timestamp(local).ok()?.as_millisecond() - seconds * 1000;
    (0..253_402_300_800_000).contains(&utc).then_some(utc)
}
