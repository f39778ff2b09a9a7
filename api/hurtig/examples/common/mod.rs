//! What the examples share: options, text input, text output, and the count of malformed lines.
#![allow(dead_code, reason = "each example uses a part of it")]

use clap::Args;
use hurtig::prelude::*;

/// The accumulator in which sources, too, count what they cannot read.
pub(crate) const MALFORMED: &str = "numMalformedRecords";

/// The options that all examples have.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// File, folder, glob, or `-` for standard input.
    #[arg(long)]
    pub(crate) input: String,
    /// File, replaced if it exists, or `-` for standard output.
    #[arg(long, default_value = "-")]
    pub(crate) output: String,
    /// Parallel subtasks of each operator.
    #[arg(long)]
    pub(crate) parallelism: Option<u32>,
}

impl Options {
    /// Lets the environment run as the command line says.
    pub(crate) fn configure(&self, env: &StreamEnv) {
        if let Some(parallelism) = self.parallelism {
            env.set_parallelism(parallelism);
        }
    }
}

/// The lines of `path`.
pub(crate) fn lines(env: &StreamEnv, path: &str) -> DataStream<Str> {
    if path == "-" {
        return env
            .from_source(StdinSource::lines(), Watermarks::none())
            .set_parallelism(1);
    }
    env.from_source(FileSource::lines(path), Watermarks::none())
}

/// The records that `parse` makes of the lines of `path`; lines without one are counted.
pub(crate) fn records<T: Data>(env: &StreamEnv, path: &str, parse: fn(&str) -> Option<T>) -> DataStream<T> {
    let records = lines(env, path).process(move || Parse { parse }).name("Parse");
    // Standard input has one reader; another parallelism behind it would mix up the order of lines.
    if path == "-" {
        records.set_parallelism(1)
    } else {
        records
    }
}

struct Parse<T> {
    parse: fn(&str) -> Option<T>,
}

impl<T: Data> ProcessFunction<Str, T> for Parse<T> {
    fn process(
        &mut self,
        line: Str,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, T>,
    ) -> std::result::Result<(), UserError> {
        match (self.parse)(line.as_str()) {
            Some(record) => out.emit(record),
            None => cx.accumulators().add_long(MALFORMED, 1),
        }
        Ok(())
    }
}

/// Writes each record as a line that `format` makes.
pub(crate) fn write<T: Data>(
    stream: &DataStream<T>,
    output: &str,
    format: impl Fn(&T, &mut String) + Clone + Send + Sync + 'static,
) {
    if output == "-" {
        stream.sink_to(StdoutSink::format(format)).set_parallelism(1);
    } else {
        stream
            .sink_to(SingleFileSink::format(output, format).overwrite(true))
            .set_parallelism(1);
    }
}

/// Runs the program and says on standard error how many lines were malformed.
#[expect(
    clippy::print_stderr,
    reason = "the count belongs beside the results, not among them"
)]
pub(crate) async fn run(env: &StreamEnv, name: &str) -> Result<(), hurtig::Error> {
    let result = env.execute(name).await?;
    eprintln!("malformed={}", result.long(MALFORMED));
    Ok(())
}
