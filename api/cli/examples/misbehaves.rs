//! A program that is no good job, for tests of what a cluster says to that.
//!
//! `WHAT` says how: a graph that depends on the `time`, the `environment` or the `directory`; `nothing` is run; it `panics` before it
//! has a job; as a worker it `ends` or builds `another` graph; as a JobMaster it `aborts`.

use hurtig::prelude::*;
use std::time::{SystemTime, UNIX_EPOCH};

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = env.args();
    let [_, what] = &args[..] else {
        return Err("usage: misbehaves WHAT".into());
    };
    let role = role();
    let uid = match what.as_str() {
        "time" => now()?,
        "environment" => std::env::var("TZ").unwrap_or_default(),
        "directory" => std::env::current_dir()?.display().to_string(),
        "another" => role.replace("plan", "job-master"),
        "nothing" => return Ok(()),
        #[expect(clippy::panic, reason = "that is what it is for")]
        "panics" => panic!("it panics on purpose"),
        "ends" if role == "worker" => {
            say_last_words();
            std::process::exit(7)
        }
        "aborts" if role == "job-master" => {
            say_last_words();
            std::process::abort()
        }
        _ => "uid".to_owned(),
    };
    env.from_source(SequenceSource::new(1, 10), Watermarks::none())
        .uid(&format!("source{uid}"))
        .discard()
        .uid("sink");
    env.execute("misbehaves").await?;
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "the cluster takes it up, for the failure of the job"
)]
fn say_last_words() {
    eprintln!("its last words");
}

/// The name of the role that it was started in; empty: none.
fn role() -> String {
    let first = std::env::args().nth(1).unwrap_or_default();
    first
        .strip_prefix("--hurtig-role=")
        .unwrap_or_default()
        .to_owned()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a graph must not depend on it, which is what is shown"
)]
fn now() -> std::result::Result<String, std::time::SystemTimeError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(since.as_nanos().to_string())
}
