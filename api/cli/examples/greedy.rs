//! A program that takes what it gets, for tests of what a cluster lets it have.
//!
//! `WHAT` says of what: memory (`HOARD`), or room for logs (`SHOUT`: numbered lines, and last words before it ends).

use hurtig::prelude::*;
use std::sync::Mutex;

/// What one record takes.
const PIECE: usize = 1 << 20;
/// What is shouted.
const LINES: u64 = 20_000;

static HOARD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = env.args();
    let (take, rate): (fn(u64), u64) = match &args[..] {
        [_, what] if what == "HOARD" => (hoard, 500),
        [_, what] if what == "SHOUT" => (shout, 1_000_000),
        _ => return Err("usage: greedy HOARD|SHOUT".into()),
    };
    env.from_source(
        GeneratorSource::new(1_000_000, |i| i).rate(rate),
        Watermarks::none(),
    )
    .uid("numbers")
    .map(move |number: u64| {
        take(number);
        number
    })
    .uid("take")
    .discard()
    .uid("nowhere");
    env.execute("greedy").await?;
    Ok(())
}

fn hoard(number: u64) {
    if let Ok(mut hoard) = HOARD.lock() {
        hoard.push(vec![number as u8 | 1; PIECE]);
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]
fn shout(number: u64) {
    println!("shout {number:06} {}", "x".repeat(80));
    if number == LINES {
        eprintln!("the last words of it all");
        std::process::abort();
    }
}
