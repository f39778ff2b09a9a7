//! Benchmarks: each figure of the engine beside the fastest loop written by hand, in the same run.
//!
//! `catalog` is the closed list of benches and bars, `work` what they process, `baselines` the loops,
//! `timely_peer` the same in Timely, `engine` the engine's programs. `suite` lets them take turns.

mod baselines;
mod beyond;
mod catalog;
mod crossing;
mod engine;
mod machine;
mod measure;
mod memory;
mod probes;
mod report;
mod restore;
mod schedule;
mod snapshots;
mod suite;
mod timely_peer;
mod work;

use clap::Parser;
use measure::Failure;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use suite::Scale;

/// Measures the engine, each figure beside its baseline.
#[derive(Debug, Parser)]
struct Options {
    /// Only benches whose ids begin so, such as `keyed_count` or `latency_1m.p2`; all but `soak_*` if there is none.
    ids: Vec<String>,
    /// A tenth of the input and three rounds: a look, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Rounds of each bench; medians are reported.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    repeat: Option<u16>,
    /// Without baselines, for profiling.
    #[arg(long)]
    engine_only: bool,
    /// Fail when a bar is not reached.
    #[arg(long)]
    strict: bool,
    /// List the ids and leave.
    #[arg(long)]
    list: bool,
}

impl Options {
    fn scale(&self) -> Scale {
        Scale {
            rounds: self.repeat.map_or(if self.quick { 3 } else { 5 }, usize::from),
            divisor: if self.quick { 10 } else { 1 },
            engine_only: self.engine_only,
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(reached) if reached || !options.strict => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

/// True when every bar was reached.
fn run(options: &Options) -> Result<bool, Failure> {
    let selected = catalog::select(&options.ids)?;
    if options.list {
        selected
            .iter()
            .for_each(|(bench, p)| list(&format!("{}.p{p}", bench.name)));
        return Ok(true);
    }
    let mut report = Report::begin(&output())?;
    for (bench, parallelism) in selected {
        let name = bench.name;
        let rows = suite::run(bench, parallelism, options.scale())
            .map_err(|e| format!("{name}.p{parallelism}: {e}"))?;
        for row in rows {
            report.add(row)?;
        }
    }
    Ok(report.end())
}

/// `bench.jsonl` in cargo's target directory.
fn output() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target"));
    target.unwrap_or_else(default).join("bench.jsonl")
}

#[expect(clippy::print_stdout, reason = "the list is what was asked for")]
fn list(id: &str) {
    println!("{id}");
}

#[expect(clippy::print_stderr, reason = "the edge where an error is printed once")]
fn complain(failure: &Failure) {
    eprintln!("error: {failure}");
}
