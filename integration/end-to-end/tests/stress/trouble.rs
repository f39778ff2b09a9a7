//! Jobs that are cancelled, fail, restart or are dropped at any moment, with two inputs and side
//! outputs under back pressure: all of them end.

use crate::common::{Random, env_with, multiset, same};
use crate::stand::{Counter, Stand};
use crate::{HANGS_AFTER, setting, settings};
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::wait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    ByItself,
    /// Cancelled when so many records have been seen, or at once.
    Cancelled(u64),
    /// Its handle is dropped then.
    Dropped(u64),
    /// A function fails so often, and the job is restarted each time.
    Restarted(u64),
    /// It fails and is not restarted.
    Failed,
}

/// Even numbers go aside, multiples of six also on; fails when it is told.
struct Part {
    aside: OutputTag<i64>,
    failures: Arc<AtomicU64>,
    seen: Counter,
}

impl CoProcessFunction<i64, i64, i64> for Part {
    fn process_first(
        &mut self,
        n: i64,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, i64>,
    ) -> std::result::Result<(), UserError> {
        self.seen.add();
        let fails = n == 150
            && self
                .failures
                .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                .is_ok();
        if fails {
            return Err("told to fail".into());
        }
        if n % 2 == 0 {
            cx.side_output(&self.aside, n);
        }
        if n % 2 != 0 || n % 3 == 0 {
            out.emit(n);
        }
        Ok(())
    }

    fn process_second(
        &mut self,
        n: i64,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, i64>,
    ) -> std::result::Result<(), UserError> {
        self.process_first(-n, cx, out)
    }
}

const NUMBERS: i64 = 300;

/// A fork, a join of both, and a side output that is joined again.
fn build(env: &StreamEnv, ends: Ends, random: &mut Random, stand: &Arc<Stand>) -> hurtig::CollectHandle<i64> {
    let endless = matches!(ends, Ends::Cancelled(_) | Ends::Dropped(_));
    let last = if endless { i64::MAX - 1 } else { NUMBERS };
    let numbers = env.from_sequence(1, last);
    let failures = match ends {
        Ends::Restarted(times) => times,
        Ends::Failed => 1,
        _ => 0,
    };
    let failures = Arc::new(AtomicU64::new(failures));
    let (tag, seen) = (OutputTag::<i64>::new("aside"), stand.counter("seen by the join"));
    let aside = tag.clone();
    let second = if random.below(2) == 0 {
        numbers.rebalance()
    } else {
        numbers.shuffle()
    };
    let parts = numbers.rebalance().connect(&second).process(move || Part {
        aside: aside.clone(),
        failures: failures.clone(),
        seen: seen.clone(),
    });
    let arrived = stand.counter("arrived");
    let again = parts.side_output(&tag);
    let all = parts.union(&if random.below(2) == 0 {
        again.rebalance()
    } else {
        again
    });
    all.inspect(move |_| arrived.add())
        .filter(move |_| !endless)
        .collect()
}

/// Everything that a whole run brings.
fn expected() -> BTreeMap<i64, usize> {
    let both = (1..=NUMBERS).flat_map(|n| [n, -n]);
    let copies = |n: i64| usize::from(n % 2 == 0) + usize::from(n % 2 != 0 || n % 3 == 0);
    both.map(|n| (n, copies(n)))
        .filter(|(_, copies)| *copies > 0)
        .collect()
}

async fn run(env: StreamEnv, ends: Ends, seen: Counter) -> std::result::Result<JobResult, hurtig::Error> {
    let client = env.execute_async("trouble").await?;
    match ends {
        Ends::Cancelled(after) | Ends::Dropped(after) => {
            while seen.count() < after {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            if matches!(ends, Ends::Dropped(_)) {
                return Err(hurtig::Error::JobCanceled {
                    job: "dropped".to_owned(),
                });
            }
            client.cancel().await?;
            client.result().await
        }
        _ => client.result().await,
    }
}

fn one_run(seed: u64) {
    let mut random = Random(seed ^ 0x5EED);
    let ends = match random.below(6) {
        0 => Ends::Cancelled(random.one_of(&[0, 0, 1, 100, 5_000])),
        1 => Ends::Dropped(random.one_of(&[0, 1, 100, 5_000])),
        2 => Ends::Restarted(random.one_of(&[1, 2, 5])),
        3 => Ends::Failed,
        _ => Ends::ByItself,
    };
    let mut definitions = settings(&mut random);
    if matches!(ends, Ends::Restarted(_)) {
        definitions.push("restart-strategy.type=fixed-delay".to_owned());
        definitions.push("restart-strategy.fixed-delay.attempts=9".to_owned());
        definitions.push(format!(
            "restart-strategy.fixed-delay.delay={}ms",
            random.below(3)
        ));
    }
    let parallelism = random.one_of(&[1, 2, 2, 4]);
    let stand = Stand::new(format!(
        "seed {seed}, {ends:?}, parallelism {parallelism}, {definitions:?}"
    ));
    let definitions: Vec<&str> = definitions.iter().map(String::as_str).collect();
    let env = env_with(parallelism, &definitions);
    let results = build(&env, ends, &mut random, &stand);
    let seen = stand.counter_named("arrived");
    let ended = stand.watched(2 * HANGS_AFTER, || {
        wait(async { tokio::time::timeout(HANGS_AFTER, run(env, ends, seen)).await })
    });
    let Ok(ended) = ended else {
        panic!("no end after {HANGS_AFTER:?}: {}", stand.report());
    };
    match (ends, ended) {
        (Ends::ByItself, Ok(_)) => same(&multiset(results.take()), &expected(), stand.what()),
        (Ends::Restarted(times), Ok(result)) => {
            assert_eq!(u64::from(result.restarts), times, "{}", stand.what());
            // What earlier attempts have brought stays: at least once, not less.
            let (found, expected) = (multiset(results.take()), expected());
            let missing = expected
                .iter()
                .find(|(n, copies)| found.get(n).is_none_or(|found| found < copies));
            assert_eq!(missing, None, "{}", stand.what());
        }
        (Ends::Cancelled(_) | Ends::Dropped(_), Err(hurtig::Error::JobCanceled { .. })) => {}
        (Ends::Failed, Err(error)) if error.to_string().contains("told to fail") => {}
        (_, ended) => panic!("ended as {ended:?}: {}", stand.what()),
    }
}

#[test]
fn jobs_that_are_cancelled_fail_or_restart_at_any_moment_end() {
    let (first, runs) = (
        setting("HURTIG_STRESS_SEED", 1),
        setting("HURTIG_STRESS_RUNS", 300),
    );
    for seed in first..first + runs {
        one_run(seed);
    }
}
