//! Prints what a savepoint or checkpoint consists of, as JSON.
//!
//! ```text
//! cargo run --example inspect_savepoint -- /backup/savepoint-5e6f94-48b327cde3747140
//! ```

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

fn main() -> hurtig::Result {
    let path = std::env::args().nth(1).ok_or("usage: inspect_savepoint PATH")?;
    println!("{}", hurtig::inspect_snapshot(&path)?);
    Ok(())
}
