//! Prints what a savepoint or checkpoint consists of, as JSON.
//!
//! ```text
//! cargo run --example inspect_savepoint -- /backup/savepoint-5e6f94-48b327cde3747140
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is what the program is for"
)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: inspect_savepoint PATH");
        return ExitCode::FAILURE;
    };
    match hurtig::inspect_snapshot(&path) {
        Ok(described) => println!("{described}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
