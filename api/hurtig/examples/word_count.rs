//! Word count: how often each word occurs in text.
//!
//! Words stand between ASCII white space. Writes one line a word, `word<TAB>count`, when the input
//! has ended.
//!
//! ```text
//! cargo run --release -p hurtig --example word_count -- --input README.md
//! ```

use clap::Parser;
use hurtig::prelude::*;

mod shared;

#[derive(Parser)]
#[command(about = "Counts words")]
struct Args {
    #[command(flatten)]
    io: shared::InOut,
}

/// White space as C's `isspace` has it.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = Args::parse_from(env.args());
    let counts = args
        .io
        .lines(&env)
        .flat_map(|line: Str, out| {
            line.split(is_space)
                .filter(|word| !word.is_empty())
                .for_each(|word| out.emit(Str::from(word)));
        })
        .name("Split Words")
        .key_by_ref(|word: &Str| word)
        .window(GlobalWindows::with_end_of_stream_trigger())
        .aggregate_then(
            Count::new(),
            |word: &Str, _, count: &u64, out: &mut Collector<String>| {
                out.push(format!("{word}\t{count}"));
            },
        )
        .name("Count Words");
    args.io.write(&counts);
    shared::run(&env, "word count").await
}
