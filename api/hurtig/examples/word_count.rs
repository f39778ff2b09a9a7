//! Counts how often each word occurs.
//!
//! ```text
//! cargo run --release --example word_count -- --input FILE --parallelism 2
//! ```
//!
//! Input: lines of UTF-8 text; words are runs of bytes other than ASCII whitespace. A line that is
//! not UTF-8 is malformed. Output: `word TAB count`, in no order.

mod common;

use clap::Parser;
use hurtig::prelude::*;
use std::fmt::Write;

/// Counts how often each word occurs.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: common::Options,
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result<(), hurtig::Error> {
    let options = Arguments::parse_from(env.args()).options;
    options.configure(&env);

    let counts = common::lines(&env, &options.input)
        .flat_map(|line: Str, out| {
            words(&line).for_each(|word| out.emit(Str::from(word)));
        })
        .name("Words")
        .key_by_ref(|word: &Str| word.as_str())
        .window(GlobalWindows::with_end_of_stream_trigger())
        .aggregate_then(Count::new(), |word: &str, _, count, out| {
            out.push((Str::from(word), *count))
        });

    common::write(&counts, &options.output, |(word, count), line| {
        let _ = write!(line, "{word}\t{count}");
    });
    common::run(&env, "word count").await
}

/// The runs of bytes other than the six of C's `isspace`, of which Rust's ASCII whitespace lacks VT.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '\t', '\n', '\u{b}', '\u{c}', '\r'])
        .filter(|word| !word.is_empty())
}
