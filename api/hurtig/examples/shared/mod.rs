//! What the examples share: `--input`, `--output`, `--parallelism`, and lines in and out.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each example uses its part of this module"
)]

pub mod sensors;

use clap::Args;
use hurtig::core::metrics::MetricValue;
use hurtig::prelude::*;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Where a program reads and writes.
#[derive(Args, Clone, Debug)]
pub struct InOut {
    /// A file, a folder, a glob, or `-` for standard input.
    #[arg(long, default_value = "-")]
    pub input: String,
    /// A file, or `-` for standard output.
    #[arg(long, default_value = "-")]
    pub output: String,
    /// Subtasks of each operator; otherwise what `-p` or `parallelism.default` says.
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub parallelism: Option<u32>,
}

impl InOut {
    /// Refuses standard input as another input, if it is this one.
    pub fn apart_from(&self, option: &str, other: &str) -> Result {
        if self.input == "-" && other == "-" {
            let problem =
                format!("--input and {option} cannot both read standard input: give one of them a file");
            return Err(problem.into());
        }
        Ok(())
    }

    /// The lines of the input, read by as many subtasks as there are.
    pub fn lines(&self, env: &StreamEnv) -> DataStream<Str> {
        if let Some(parallelism) = self.parallelism {
            env.set_parallelism(parallelism);
        }
        lines(env, &self.input)
    }

    /// The lines of the input in the order of the input, read by one subtask.
    pub fn lines_in_order(&self, env: &StreamEnv) -> DataStream<Str> {
        self.lines(env).set_parallelism(1)
    }

    /// How far records of the input may be out of order: see [`disorder`].
    pub fn disorder(&self, said: Option<u64>, usual: u64) -> Duration {
        disorder(&self.input, said, usual)
    }

    /// Writes one line a record.
    pub fn write(&self, results: &DataStream<String>) {
        if self.output == "-" {
            results
                .sink_to(StdoutSink::new())
                .name("Standard Output")
                .set_parallelism(1);
        } else {
            let file = SingleFileSink::lines(Path::new(&self.output)).overwrite(true);
            results.sink_to(file).name("Output File").set_parallelism(1);
        }
    }
}

/// Beyond all times that [`millis`] takes.
const NEVER_LATE_MS: u64 = 2_000_000_000_000_000_000;

/// How far records may be out of order: as `said`, else `usual` for a live stream. Files are all
/// there, in whatever order, and nothing in them is late.
pub fn disorder(input: &str, said: Option<u64>, usual: u64) -> Duration {
    let ms = if input == "-" { usual } else { NEVER_LATE_MS };
    Duration::from_millis(said.unwrap_or(ms))
}

/// The lines of a file, folder or glob, or of standard input.
pub fn lines(env: &StreamEnv, input: &str) -> DataStream<Str> {
    if input == "-" {
        let stdin = env.from_source(StdinSource::lines(), Watermarks::none());
        stdin.name("Standard Input").set_parallelism(1)
    } else {
        env.from_source(FileSource::lines(input), Watermarks::none())
            .name("Input Files")
    }
}

/// The accumulator of lines that are not of their format.
pub const MALFORMED: &str = "malformed";

/// Parses lines; what is malformed is counted and left out.
pub struct Parse<F>(pub F);

impl<T, F> ProcessFunction<Str, T> for Parse<F>
where
    F: Fn(&Str) -> Option<T> + Send,
{
    fn process(&mut self, line: Str, cx: ProcessCx<'_>, out: &mut Emitter<'_, T>) -> Result<(), UserError> {
        match (self.0)(&line) {
            Some(record) => out.emit(record),
            None => cx.accumulators().add_long(MALFORMED, 1),
        }
        Ok(())
    }
}

/// Lines that could not be read as text, or were not of their format.
pub fn malformed(result: &JobResult) -> i64 {
    result.long(MALFORMED) + result.long("numMalformedRecords")
}

/// Runs the program, and says on standard error how many records windows dropped because they were
/// late, if there were any, and how many lines were malformed.
pub async fn run(env: &StreamEnv, name: &str) -> Result {
    let job = env.execute_async(name).await?;
    let result = job.result().await?;
    let dropped = job.metrics().into_iter().map(|metric| match metric.value {
        MetricValue::Counter(count) if metric.name == "numLateRecordsDropped" => count,
        _ => 0,
    });
    let mut out = std::io::stderr().lock();
    let late: u64 = dropped.sum();
    if late > 0 {
        writeln!(out, "late={late}")?;
    }
    writeln!(out, "malformed={}", malformed(&result))?;
    Ok(())
}

/// The fields of a line of exactly `N` comma-separated fields.
pub fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    let mut fields = line.split(',');
    let found = std::array::from_fn(|_| fields.next());
    if fields.next().is_some() || found.iter().any(Option::is_none) {
        return None;
    }
    Some(found.map(Option::unwrap_or_default))
}

/// Milliseconds: digits only, below 10^18 so that sums stay far from overflow.
pub fn millis(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = digits.then(|| text.parse::<i64>().ok())??;
    (value < 1_000_000_000_000_000_000).then_some(value)
}
