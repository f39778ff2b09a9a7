//! A program for tests of signals: it never ends by itself.
//!
//! `endless write FOLDER` writes small part files and says every number; `endless stuck` blocks in a
//! function; `endless waiting` starts no job.

#![allow(clippy::print_stdout, reason = "the test waits for what is printed")]

use hurtig::prelude::*;

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    env.set_parallelism(1);
    let args = env.args();
    let mut args = args.iter().skip(1).map(String::as_str);
    match args.next() {
        Some("write") => write(&env, args.next().unwrap_or_default()).await,
        Some("stuck") => stuck(&env).await,
        _ => {
            println!("waiting");
            std::future::pending().await
        }
    }
}

async fn write(env: &StreamEnv, folder: &str) -> Result {
    let numbers = env.from_source(GeneratorSource::unbounded(|i| i).rate(5_000), Watermarks::none());
    numbers.sink_to(FileSink::lines(folder).part_bytes(4_000));
    numbers.print();
    env.execute("write").await?;
    Ok(())
}

async fn stuck(env: &StreamEnv) -> Result {
    let stuck = env.from_sequence(1, 10).map(|n: i64| {
        println!("stuck at {n}");
        loop {
            std::thread::park();
        }
        #[expect(unreachable_code, reason = "gives the function its type")]
        n
    });
    stuck.print();
    env.execute("stuck").await?;
    Ok(())
}
