//! Numbers in event time that each key counts, for tests of what is said of a job while it runs and after it.
//!
//! `COUNT` numbers, so many a second, are read and counted in the accumulator `numbers`. The number `FAILS`, if there is one, fails its task.

use hurtig::core::metrics::{Counter, Histogram};
use hurtig::prelude::*;

/// Keys; each has as many records as the others, give or take one.
const KEYS: u64 = 20;

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = env.args();
    let (count, rate, fails) = match &args[..] {
        [_, count, rate] => (count, rate, None),
        [_, count, rate, fails] => (count, rate, Some(fails.parse()?)),
        _ => return Err("usage: watched COUNT RECORDS_PER_SECOND [FAILS]".into()),
    };
    env.from_source(
        GeneratorSource::new(count.parse()?, |i| i).rate(rate.parse()?),
        Watermarks::monotonous(|i: &u64| i64::try_from(*i).unwrap_or(i64::MAX)),
    )
    .uid("numbers")
    .key_by(|i: &u64| i % KEYS)
    .process(move |ctx| {
        let half = |name| {
            let group = ctx.metrics().child("half", name);
            (group.counter("numbers"), group.histogram("sizes"))
        };
        Ok(Watching {
            halves: ["even", "odd"].map(half),
            seen: ctx.value("seen")?,
            fails,
        })
    })
    .uid("watch")
    .sink_to(DiscardingSink);
    env.execute("watched").await?;
    Ok(())
}

struct Watching {
    /// How many even and odd numbers there were, and how large.
    halves: [(Counter, Histogram); 2],
    seen: ValueState<u64>,
    fails: Option<u64>,
}

impl KeyedProcessFunction<u64, u64, u64> for Watching {
    fn process(
        &mut self,
        number: u64,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, u64>,
    ) -> std::result::Result<(), UserError> {
        if self.fails == Some(number) {
            return Err(format!("the number {number} is what it fails at").into());
        }
        let seen = self.seen.get_cloned(cx).unwrap_or(0) + 1;
        self.seen.set(cx, seen);
        let [even, odd] = &self.halves;
        let (numbers, sizes) = if number.is_multiple_of(2) { even } else { odd };
        numbers.inc();
        sizes.record(number);
        cx.accumulators().add_long("numbers", 1);
        out.emit(seen);
        Ok(())
    }
}
