//! Numbers that each key counts by itself, written once each, for tests that kill the processes of a cluster.
//!
//! `OUT` gets lines `key count`, of which no key has one twice or misses one. With `FORK`, each task that counts starts a program that
//! would outlive it; with `ORPHAN`, one whose parent ends at once. With `LAST`, each key says `key last` when event time ends.

use hurtig::prelude::*;
use std::process::{Command, Stdio};

/// Keys; each has as many records as the others, give or take one.
const KEYS: u64 = 20;

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = env.args();
    let usage = "usage: numbered OUT COUNT RECORDS_PER_SECOND [FORK|ORPHAN|LAST]";
    let [_, out, count, rate, more @ ..] = &args[..] else {
        return Err(usage.into());
    };
    let more: Vec<&str> = more.iter().map(AsRef::as_ref).collect();
    let (fork, last) = match more[..] {
        [] => (None, false),
        ["FORK"] => (Some("--wait"), false),
        ["ORPHAN"] => (Some("--fork"), false),
        ["LAST"] => (None, true),
        _ => return Err(usage.into()),
    };
    env.from_source(
        GeneratorSource::new(count.parse()?, |i| i % KEYS).rate(rate.parse()?),
        Watermarks::none(),
    )
    .uid("numbers")
    .key_by(|key: &u64| *key)
    .process(move |ctx| {
        if let Some(how) = fork {
            start_sleeper(how).map_err(|error| hurtig::core::Error::external("no child", error))?;
        }
        Ok(Counting {
            count: ctx.value("count")?,
            last,
        })
    })
    .uid("count")
    .sink_to(FileSink::lines(out).rolling(RollingPolicy::on_checkpoint()))
    .uid("out");
    env.execute("numbered").await?;
    Ok(())
}

struct Counting {
    count: ValueState<u64>,
    last: bool,
}

impl KeyedProcessFunction<u64, u64, String> for Counting {
    fn process(
        &mut self,
        key: u64,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, String>,
    ) -> std::result::Result<(), UserError> {
        let count = self.count.get_cloned(cx).unwrap_or(0);
        self.count.set(cx, count + 1);
        if self.last && count == 0 {
            cx.register_event_timer(i64::MAX - 1);
        }
        out.emit(format!("{key} {count}"));
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, String>,
    ) -> std::result::Result<(), UserError> {
        out.emit(format!("{} last", cx.key()));
        Ok(())
    }
}

/// In a session of its own, so that it is in no group of anybody.
fn start_sleeper(how: &str) -> std::io::Result<()> {
    let mut command = Command::new("/usr/bin/setsid");
    command
        .args([how, "/bin/sleep", "1000"])
        .stdin(Stdio::null())
        .spawn()?;
    Ok(())
}
