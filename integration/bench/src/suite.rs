//! Who takes part in which bench, and how their figures become rows.

use crate::baselines::{Loop, keyed, open_loop, session, stateless, strings, union, windows};
use crate::beyond::{self, Updates};
use crate::catalog::{Backend, Bar, Bench, Kind, TIMELY_BAR};
use crate::crossing::{self, Place};
use crate::engine;
use crate::machine;
use crate::measure::{Contender, Failure, Measured, Role, Sample, interleaved, median, rate};
use crate::report::{Row, rounded};
use crate::restore;
use crate::schedule::Schedule;
use crate::snapshots;
use crate::timely_peer;
use crate::work::Work;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a bench may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Rounds of each bench.
    pub rounds: usize,
    /// Inputs are divided by this.
    pub divisor: u64,
    /// Leave the baselines out: for profiling.
    pub engine_only: bool,
}

/// Keys of the benches that do not say how many.
const KEYS: u64 = 1 << 10;
/// Keys of the benches of snapshots.
const MANY_KEYS: u64 = 1 << 20;
/// Different words.
const WORDS: u64 = 1 << 14;
/// Groups of keys that are active in turns: each key pauses for 1.5 s, longer than a session's gap.
const TURNS: u64 = 16;
/// Keys that enter a table, and how many each second.
const GROWTH: Schedule = Schedule {
    rate: 1_000_000,
    records: 10_000_000,
};
/// How often benches with checkpoints take one.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// The unit of rates.
const RATE: &str = "records/s";
/// The unit of delays.
const DELAY: &str = "ms";
/// How long a latency run lasts, in seconds.
const LATENCY_SECONDS: u64 = 4;

/// Runs one bench at one parallelism.
///
/// # Errors
/// A contender failed, or two that should agree did not.
pub(crate) fn run(bench: Bench, parallelism: u32, scale: Scale) -> Result<Vec<Row>, Failure> {
    let id = format!("{}.p{parallelism}", bench.name);
    let plan = plan(bench.kind, parallelism, scale);
    let chosen = |c: &Contender| !scale.engine_only || c.role == Role::Engine;
    let contenders: Vec<Contender> = plan.contenders.into_iter().filter(chosen).collect();
    let mut cores = Vec::new();
    let rounds = scale.rounds.min(bench.kind.most_rounds());
    let measured = interleaved(&contenders, rounds, || {
        cores.push(machine::cores(parallelism));
    })?;
    let cores = median(cores);
    if !scale.engine_only {
        check(&measured, plan.expected.as_deref())?;
    }
    let mut params = plan.params;
    params["parallelism"] = json!(parallelism);
    params["rounds"] = json!(rounds);
    params["cores"] = json!(rounded(cores));
    let table = Table {
        id,
        unit: plan.unit,
        bar: bench
            .bar
            .filter(|bar| !matches!(bar, Bar::OfTwo(_)) || parallelism == 2),
        parallelism,
        has_cores: machine::suffices(cores, parallelism),
        params,
    };
    table.rows(&measured)
}

/// A bench at one parallelism.
struct Plan {
    contenders: Vec<Contender>,
    unit: &'static str,
    params: Value,
    /// Computes the checksum that engine and peers must have; `None` when delays are measured.
    expected: Option<Box<dyn Fn() -> u64>>,
}

fn plan(kind: Kind, p: u32, scale: Scale) -> Plan {
    let keyed =
        |millions: u64, keys: u64| Work::keyed(millions * 1_000_000 / scale.divisor * u64::from(p), keys);
    match kind {
        Kind::StatelessChain => {
            let records = 1_000_000_000 / scale.divisor * u64::from(p);
            let plan = throughput(records, p, stateless::loops, move || {
                engine::stateless_chain(p, records)
            });
            with(plan, json!({"records": records}))
        }
        Kind::KeyedCount { keys } => keyed_count(keyed(120, keys), p),
        Kind::Tumbling => windowed(keyed(100, KEYS), p, windows::TUMBLING),
        Kind::Sliding => windowed(keyed(100, KEYS), p, windows::SLIDING),
        Kind::Session => {
            let work = keyed(100, KEYS).in_turns(TURNS);
            by_work(work, p, session::loops, move || engine::session_count(p, work))
        }
        Kind::Union => {
            let records = 160_000_000 / scale.divisor * u64::from(p);
            let plan = throughput(records, p, union::loops, move || engine::union(p, records));
            with(plan, json!({"records": records, "inputs": union::INPUTS}))
        }
        Kind::Strings => {
            let work = keyed(40, WORDS);
            by_work(work, p, strings::loops, move || engine::string_count(p, work))
        }
        Kind::TableGrowth => {
            let schedule = Schedule {
                records: GROWTH.records / scale.divisor,
                ..GROWTH
            };
            let engine = move || engine::table_growth(p, schedule);
            let mut plan = delays(schedule, 0.9999, engine, move || open_loop::growing_map(schedule));
            let machine = move || delay_at(0.9999, schedule, &open_loop::channel(schedule)?);
            plan.contenders
                .push(Contender::new("two threads, no map", Role::Peer, machine));
            plan
        }
        Kind::Latency { rate } => {
            let schedule = Schedule {
                rate,
                records: rate * LATENCY_SECONDS / scale.divisor.min(LATENCY_SECONDS),
            };
            let engine = move || engine::latency(p, schedule);
            delays(schedule, 0.999, engine, move || open_loop::channel(schedule))
        }
        Kind::Crossing { keys } => {
            let work = keyed(60, keys);
            let run = move |place| rate(work.records, || crossing::keyed_count(p, work, place));
            Plan {
                contenders: vec![
                    Contender::new("engine", Role::Engine, move || run(Place::Apart)),
                    Contender::new("in one worker", Role::Peer, move || run(Place::Together)),
                ],
                unit: RATE,
                params: json!({"records": work.records, "keys": work.keys, "workers": p}),
                expected: Some(Box::new(move || keyed::loops(work).first().map_or(0, Loop::run))),
            }
        }
        Kind::CrossingLatency { rate } => {
            let schedule = Schedule {
                rate,
                records: rate * LATENCY_SECONDS / scale.divisor.min(LATENCY_SECONDS),
            };
            let engine = move || crossing::latency(p, schedule, Place::Apart);
            delays(schedule, 0.999, engine, move || open_loop::channel(schedule))
        }
        Kind::HashmapUpdate => {
            let work = keyed(60, MANY_KEYS);
            let table = Loop::new("table", {
                let share = work.share(u64::from(p));
                move || snapshots::hashmap_update(share)
            });
            let engine = move || table.run_at_once(p);
            let mut plan = by_work(work, p, keyed::loops, engine);
            // Each thread has a share and its own table.
            let share = work.share(u64::from(p));
            plan.expected = Some(Box::new(move || keyed::fused(share)));
            plan
        }
        Kind::Checkpointed(backend) => {
            let work = keyed(200, MANY_KEYS);
            let run = move |every| counted(p, work, backend, every);
            Plan {
                contenders: vec![
                    Contender::new("engine", Role::Engine, move || run(Some(CHECKPOINT_EVERY))),
                    Contender::new("without checkpoints", Role::Peer, move || run(None)),
                ],
                unit: RATE,
                params: json!({"records": work.records, "keys": work.keys, "checkpoint_every_ms": CHECKPOINT_EVERY.as_millis()}),
                expected: None,
            }
        }
        Kind::RocksDbCached => {
            let work = keyed(100, MANY_KEYS);
            let run = move |backend| counted(p, work, backend, None);
            Plan {
                contenders: vec![
                    Contender::new("engine", Role::Engine, move || run(Backend::RocksDb)),
                    Contender::new("hashmap", Role::Peer, move || run(Backend::HashMap)),
                ],
                unit: RATE,
                params: json!({"records": work.records, "keys": work.keys}),
                expected: None,
            }
        }
        Kind::RocksDbBeyondCache { keys, memory } => {
            let work = Updates {
                keys: keys / scale.divisor,
                updates: 1_000_000 / scale.divisor * u64::from(p),
                memory: memory / scale.divisor,
            };
            Plan {
                contenders: beyond::contenders(p, work),
                unit: RATE,
                params: json!({"keys": work.keys, "updates": work.updates, "memory": work.memory}),
                expected: None,
            }
        }
        Kind::Restore(backend, values) => {
            let entries = restore::entries(values, scale.divisor);
            Plan {
                contenders: restore::contenders(p, backend, values, entries),
                unit: restore::unit(values),
                params: json!({"entries": entries}),
                expected: None,
            }
        }
        Kind::CheckpointDelay => {
            let schedule = Schedule {
                rate: 1_000_000,
                records: 6_000_000 / scale.divisor.min(6),
            };
            let engine = move || engine::checkpoint_delay(p, schedule, MANY_KEYS, CHECKPOINT_EVERY);
            delays(schedule, 0.9999, engine, move || open_loop::channel(schedule))
        }
    }
}

/// Running counts with the state in `backend`, and checkpoints if they are asked for.
fn counted(p: u32, work: Work, backend: Backend, every: Option<Duration>) -> Result<Sample, Failure> {
    rate(work.records, || {
        engine::checkpointed_count(p, work, backend, every)
    })
}

fn keyed_count(work: Work, p: u32) -> Plan {
    let mut plan = by_work(work, p, keyed::loops, move || engine::keyed_count(p, work));
    let timely = move || rate(work.records, || timely_peer::keyed_count(work, p as usize));
    plan.contenders.push(Contender::new("timely", Role::Peer, timely));
    plan
}

fn windowed(work: Work, p: u32, shape: windows::Shape) -> Plan {
    let loops = move |work| windows::loops(work, shape);
    let plan = by_work(work, p, loops, move || engine::window_count(p, work, shape));
    with(
        plan,
        json!({"size_ms": shape.size_ms, "slide_ms": shape.slide_ms}),
    )
}

/// A bench over `work`, whose loops do the share of one subtask on one thread.
fn by_work(
    work: Work,
    p: u32,
    loops: impl Fn(Work) -> Vec<Loop> + 'static,
    engine: impl Fn() -> Result<u64, Failure> + 'static,
) -> Plan {
    let share = work.share(u64::from(p));
    let mut contenders = vec![engine_of(work.records, engine)];
    contenders.extend(
        loops(share)
            .into_iter()
            .flat_map(|l| loops_of(share.records, l, p)),
    );
    let expected = move || loops(work).first().map_or(0, Loop::run);
    let params = json!({
        "records": work.records, "keys": work.keys, "baseline_records": share.records, "baseline_keys": share.keys,
    });
    Plan {
        contenders,
        unit: RATE,
        params,
        expected: Some(Box::new(expected)),
    }
}

/// A bench over numbers.
fn throughput(
    records: u64,
    p: u32,
    loops: impl Fn(u64) -> Vec<Loop> + 'static,
    engine: impl Fn() -> Result<u64, Failure> + 'static,
) -> Plan {
    let share = records / u64::from(p);
    let mut contenders = vec![engine_of(records, engine)];
    contenders.extend(loops(share).into_iter().flat_map(|l| loops_of(share, l, p)));
    let expected = move || loops(records).first().map_or(0, Loop::run);
    Plan {
        contenders,
        unit: RATE,
        params: json!({}),
        expected: Some(Box::new(expected)),
    }
}

fn with(mut plan: Plan, more: Value) -> Plan {
    if let (Value::Object(params), Value::Object(more)) = (&mut plan.params, more) {
        params.extend(more);
    }
    plan
}

fn engine_of(records: u64, run: impl Fn() -> Result<u64, Failure> + 'static) -> Contender {
    Contender::new("engine", Role::Engine, move || rate(records, &run))
}

/// A loop over `records` alone and, beside several subtasks, on as many threads at once.
fn loops_of(records: u64, one: Loop, p: u32) -> impl Iterator<Item = Contender> {
    let several = one.clone();
    let alone = Contender::new(one.name, Role::Loop, move || rate(records, || Ok(one.run())));
    let at_once = Contender::new(several.name, Role::LoopAtOnce, move || {
        rate(records * u64::from(p), || several.run_at_once(p))
    });
    std::iter::once(alone).chain((p > 1).then_some(at_once))
}

type Delays = Result<Histogram<u64>, Failure>;

/// A bench of delays, at this quantile.
fn delays(
    schedule: Schedule,
    quantile: f64,
    engine: impl Fn() -> Delays + 'static,
    two_threads: impl Fn() -> Delays + 'static,
) -> Plan {
    let contenders = vec![
        Contender::new("engine", Role::Engine, move || {
            delay_at(quantile, schedule, &engine()?)
        }),
        Contender::new("two threads", Role::Peer, move || {
            delay_at(quantile, schedule, &two_threads()?)
        }),
    ];
    let params = json!({"records": schedule.records, "rate": schedule.rate, "quantile": quantile});
    Plan {
        contenders,
        unit: DELAY,
        params,
        expected: None,
    }
}

/// The delay at this quantile, when all records arrived.
fn delay_at(quantile: f64, schedule: Schedule, delays: &Histogram<u64>) -> Result<Sample, Failure> {
    if delays.len() != schedule.records {
        return Err(format!("{} of {} records arrived", delays.len(), schedule.records).into());
    }
    let ms = |nanos: u64| nanos as f64 / 1e6;
    let at = |quantile| ms(delays.value_at_quantile(quantile));
    let details = vec![
        ("p50_ms", at(0.5)),
        ("p99_ms", at(0.99)),
        ("p99.9_ms", at(0.999)),
        ("p99.99_ms", at(0.9999)),
        ("max_ms", ms(delays.max())),
    ];
    Ok(Sample {
        value: at(quantile),
        checksum: 0,
        details,
    })
}

/// Loops did the same work, and so did the engine and its peers.
fn check(measured: &[Measured], expected: Option<&dyn Fn() -> u64>) -> Result<(), Failure> {
    let Some(expected) = expected else { return Ok(()) };
    let expected = expected();
    let of = |role: Role| measured.iter().filter(move |m| m.role == role);
    let loops = of(Role::Loop)
        .next()
        .and_then(|m| m.samples.first())
        .map_or(0, |sample| sample.checksum);
    for one in measured {
        let want = match one.role {
            Role::Loop | Role::LoopAtOnce => loops,
            Role::Engine | Role::Peer => expected,
        };
        if let Some(wrong) = one.samples.iter().find(|sample| sample.checksum != want) {
            return Err(format!(
                "{}: wrong results, checksum {} instead of {want}",
                one.name, wrong.checksum
            )
            .into());
        }
    }
    Ok(())
}

/// What all rows of a bench at one parallelism have in common.
struct Table {
    id: String,
    unit: &'static str,
    bar: Option<Bar>,
    parallelism: u32,
    /// Whether the machine gave as many cores as there were subtasks.
    has_cores: bool,
    params: Value,
}

impl Table {
    /// The engine beside the fastest loop, and beside each peer.
    fn rows(&self, measured: &[Measured]) -> Result<Vec<Row>, Failure> {
        let engine = measured
            .iter()
            .find(|m| m.role == Role::Engine)
            .ok_or("the engine did not run")?;
        let of = |role: Role| measured.iter().filter(move |m| m.role == role);
        let fastest = |role: Role| of(role).max_by(|a, b| a.value().total_cmp(&b.value()));
        let at_once = fastest(Role::LoopAtOnce);
        let mut rows: Vec<Row> = fastest(Role::Loop)
            .map(|one| self.beside_loop(engine, one, at_once.is_none()))
            .into_iter()
            .collect();
        rows.extend(at_once.map(|one| self.beside_loops(engine, one)));
        let machine = of(Role::Peer).map(Measured::value).fold(f64::INFINITY, f64::min);
        rows.extend(of(Role::Peer).map(|peer| self.beside_peer(engine, peer, machine)));
        if rows.is_empty() {
            rows.push(self.row(engine, engine, 1.0));
        }
        Ok(rows)
    }

    /// Beside a loop that has the machine to itself. The bar is here unless the machine had no core for each
    /// subtask; it is then beside loops at once, unless this is the `only` row or the bar is no ratio.
    fn beside_loop(&self, engine: &Measured, one: &Measured, only: bool) -> Row {
        let mut row = self.row(
            engine,
            one,
            engine.value() / f64::from(self.parallelism) / one.value(),
        );
        row.params["ratio"] = json!("value / parallelism / baseline_value");
        row.baseline = format!("loop: {}", one.name);
        let here = self.has_cores || only || matches!(self.bar, Some(Bar::OfTwo(_)));
        row.held_to(self.bar.filter(|_| here))
    }

    /// Beside loops that share the machine as the subtasks do: what is lost to the engine alone. The bar is
    /// here when the machine had no core for each, so that no program could reach the one beside a loop alone.
    fn beside_loops(&self, engine: &Measured, loops: &Measured) -> Row {
        let mut row = self.row(engine, loops, engine.value() / loops.value());
        row.params["ratio"] = json!("value / baseline_value");
        row.baseline = format!("{} loops at once: {}", self.parallelism, loops.name);
        let elsewhere = self.has_cores || matches!(self.bar, Some(Bar::OfTwo(_)));
        row.held_to(self.bar.filter(|_| !elsewhere))
    }

    /// Beside a peer; of several in a bench of delays, the fastest shows the `machine`'s own.
    fn beside_peer(&self, engine: &Measured, peer: &Measured, machine: f64) -> Row {
        let mut row = self.row(engine, peer, engine.value() / peer.value());
        row.params["ratio"] = json!("value / baseline_value");
        let (least, parallelism) = TIMELY_BAR;
        match self.unit {
            DELAY if peer.value() > machine => row,
            DELAY => row.held_to(self.bar.map(|bar| bar.beside(machine))),
            _ if matches!(self.bar, Some(Bar::PeerRatio(_))) => row.held_to(self.bar),
            _ if self.bar.is_none() => row,
            _ if parallelism == self.parallelism => row.held_to(Some(Bar::LoopRatio(least))),
            _ => row,
        }
    }

    fn row(&self, engine: &Measured, other: &Measured, ratio: f64) -> Row {
        let mut params = self.params.clone();
        for (name, one) in [("engine", engine), ("baseline", other)] {
            let samples: Vec<f64> = one.samples.iter().map(|sample| rounded(sample.value)).collect();
            params[name] = json!({"rounds": samples});
            for (detail, value) in one.details() {
                params[name][detail] = json!(rounded(value));
            }
        }
        let baseline = other.name.to_owned();
        let (value, baseline_value) = (engine.value(), other.value());
        Row {
            bench: self.id.clone(),
            value,
            unit: self.unit,
            baseline,
            baseline_value,
            ratio,
            bar: None,
            params,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &'static str, role: Role, value: f64) -> Measured {
        let sample = Sample {
            value,
            ..Sample::default()
        };
        Measured {
            name,
            role,
            samples: vec![sample],
        }
    }

    /// The baselines that hold the bar, at parallelism 2.
    fn held_by(bar: Bar, has_cores: bool, others: &[Measured]) -> Result<Vec<String>, Failure> {
        let table = Table {
            id: "bench.p2".to_owned(),
            unit: RATE,
            bar: Some(bar),
            parallelism: 2,
            has_cores,
            params: json!({}),
        };
        let mut all = vec![one("engine", Role::Engine, 1.0)];
        all.extend_from_slice(others);
        let rows = table.rows(&all)?;
        let held = rows.into_iter().filter(|row| row.bar.is_some());
        Ok(held.map(|row| row.baseline).collect())
    }

    #[test]
    fn every_bar_is_held_by_one_row_whatever_the_machine_gives() -> Result<(), Failure> {
        let alone = one("fused", Role::Loop, 1.0);
        let at_once = one("fused", Role::LoopAtOnce, 1.0);
        let both = [alone.clone(), at_once];
        let ratio = Bar::LoopRatio(0.5);
        assert_eq!(held_by(ratio, true, &both)?, ["loop: fused"]);
        assert_eq!(held_by(ratio, false, &both)?, ["2 loops at once: fused"]);
        for has_cores in [true, false] {
            assert_eq!(held_by(Bar::OfTwo(1.0), has_cores, &both)?, ["loop: fused"]);
            for bar in [ratio, Bar::OfTwo(1.0)] {
                assert_eq!(
                    held_by(bar, has_cores, std::slice::from_ref(&alone))?,
                    ["loop: fused"]
                );
            }
        }
        Ok(())
    }
}
