//! Every built-in operator under the torture kit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use hurtig_core::time::{DurationExt, NO_TIMESTAMP};
use hurtig_core::{Batch, Result, UserError};
use hurtig_dataflow::function::{
    CoProcessFunction, Emitter, KeyedCoProcessFunction, KeyedCx, KeyedProcessFunction, ProcessCx,
    ProcessFunction,
};
use hurtig_dataflow::key::{ByRef, ByValue};
use hurtig_dataflow::operator::{Cx, OpenContext, OutputTag};
use hurtig_dataflow::operators::*;
use hurtig_dataflow::sink::SinkWriter;
use hurtig_dataflow::testing::{Either, Joined, Script, Torture, torture, torture_two_input};
use hurtig_dataflow::timers::TimeDomain;
use hurtig_state::{ListState, OperatorSnapshot, Redistribution, ValueState};
use std::sync::{Arc, Mutex};

fn numbers() -> Script<i64> {
    let times = (0..40).map(|n| (n, 100 + n * 3 % 17));
    let common = (40..70).map(|n| (n, 200));
    let timeless = (70..80).map(|n| (n, NO_TIMESTAMP));
    Script::new()
        .records(times)
        .watermark(110)
        .records(common)
        .processing_time(1_000)
        .records(timeless)
        .watermark(300)
}

#[test]
fn map_forms() {
    let report = torture(|| Map::new(Arc::new(|n: i64| n * 5 + 1)), &numbers());
    assert_eq!(report.emitted, 80);
    assert!(report.restores > 500, "{report:?}");
    torture(
        || TryMap::new(Arc::new(|n: i64| Ok::<_, UserError>(n.to_string()))),
        &numbers(),
    );
}

#[test]
fn filter_forms() {
    let report = torture(|| Filter::new(Arc::new(|n: &i64| n & 3 != 0)), &numbers());
    assert_eq!(report.emitted, 60);
    torture(
        || TryFilter::new(Arc::new(|n: &i64| Ok::<_, UserError>(n % 3 == 0))),
        &numbers(),
    );
    torture(
        || FilterMap::new(Arc::new(|n: i64| (n % 3 == 0).then(|| n.to_string()))),
        &numbers(),
    );
    torture(
        || TryFilterMap::new(Arc::new(|n: i64| Ok::<_, UserError>((n % 3 == 0).then_some(n)))),
        &numbers(),
    );
}

#[test]
fn filter_of_records_that_are_costly_to_move() {
    let script = Script::new()
        .records((0..50).map(|n| ([n; 8], 5)))
        .records([([1; 8], 6)]);
    torture(|| Filter::new(Arc::new(|n: &[i64; 8]| n[0] & 3 != 0)), &script);
}

#[test]
fn flat_map_forms() {
    fn repeat(n: i64, out: &mut Emitter<'_, i64>) {
        out.extend((0..n % 5).map(|i| n * 10 + i));
    }
    let report = torture(|| FlatMap::new(Arc::new(repeat)), &numbers());
    assert_eq!(report.emitted, 160);
    torture(
        || {
            TryFlatMap::new(Arc::new(|n: i64, out: &mut Emitter<'_, i64>| {
                repeat(n, out);
                Ok::<(), UserError>(())
            }))
        },
        &numbers(),
    );
    let report = torture(
        || FlatMapIter::new(Arc::new(|n: i64| (0..n % 5).map(move |i| n * 10 + i))),
        &numbers(),
    );
    assert_eq!(report.emitted, 160);
}

#[test]
fn inspect_passes_everything_on() {
    let report = torture(
        || Inspect::new(Arc::new(|n: &i64, time: i64| assert!(*n < 80 && time != 0))),
        &numbers(),
    );
    assert_eq!(report.emitted, 80);
}

#[test]
fn assigned_times() {
    let strategy = || Watermarks::bounded(5.millis(), |n: &i64| n * 2).with_idleness(10.seconds());
    torture(move || AssignWatermarks::new(strategy(), 5.millis()), &numbers());
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<i64>>>);

impl SinkWriter<i64> for Written {
    fn write(&mut self, batch: &mut Batch<i64>, _: Cx<'_>) -> Result<()> {
        self.0.lock().unwrap().extend(batch.drain(usize::MAX));
        batch.reset_if_empty();
        Ok(())
    }
}

#[test]
fn sink_takes_every_record_once_and_in_order() {
    let written = Written::default();
    let seen = written.clone();
    let report = Torture::<i64, ()>::new(move || SinkOperator::new(Box::new(written.clone())))
        .run(&numbers())
        .unwrap();
    let seen = seen.0.lock().unwrap();
    assert_eq!(seen.len(), 80 * report.runs);
    assert!(seen.chunks(80).all(|run| run.iter().copied().eq(0..80)));
}

/// Remembers how many records it has seen, in state without a key.
struct Numbering {
    seen: u64,
    odd: OutputTag<i64>,
}

impl ProcessFunction<i64, (u64, i64)> for Numbering {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let restored = ctx.restored().map(|s| s.operator::<u64>("seen")).transpose()?;
        self.seen = restored.unwrap_or_default().into_iter().sum();
        Ok(())
    }

    fn process(
        &mut self,
        n: i64,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, (u64, i64)>,
    ) -> Result<(), UserError> {
        self.seen += 1;
        match n % 3 {
            0 => out.emit((self.seen, n)),
            1 => cx.side_output(&self.odd, n),
            _ => {
                out.emit((self.seen, n));
                out.emit_at((self.seen, -n), 7);
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<(), UserError> {
        Ok(snapshot.put_operator("seen", Redistribution::Split, &[self.seen])?)
    }
}

#[test]
fn process_with_state_and_side_output() {
    let odd = OutputTag::<i64>::new("odd");
    let tag = odd.clone();
    let make = move || {
        let odd = tag.clone();
        Process::new(move || Numbering {
            seen: 0,
            odd: odd.clone(),
        })
    };
    let report = Torture::new(make).side(&odd).run(&numbers()).unwrap();
    assert_eq!(report.emitted, 27 + 27 + 2 * 26);
}

type Reading = (u32, i64);

fn readings() -> Script<Reading> {
    let some = |from: i64| (from..from + 30).map(move |n| (((n * 7 % 5) as u32, n * 13 % 11), 100 + n));
    Script::new()
        .records(some(0))
        .watermark(112)
        .processing_time(50)
        .records(some(30))
        .watermark(140)
        .processing_time(1_000)
        .records(some(60))
        .watermark(141)
}

fn by_id() -> Arc<ByValue<impl Fn(&Reading) -> u32, u32>> {
    Arc::new(ByValue::new(|reading: &Reading| reading.0))
}

#[test]
fn rolling_aggregates() {
    fn check<F: Fn(&mut Reading, Reading) + Send + Sync + 'static>(reduce: F) {
        let reduce = Arc::new(reduce);
        let report = torture(move || Reduce::new(by_id(), reduce.clone()), &readings());
        assert_eq!(report.emitted, 90);
    }
    check(rolling::sum(|r: &Reading| r.1, |r, sum| r.1 = sum));
    check(rolling::min(|r: &Reading| r.1, |r, min| r.1 = min));
    check(rolling::max(|r: &Reading| r.1, |r, max| r.1 = max));
    check(rolling::min_by(|r: &Reading| r.1));
    check(rolling::max_by(|r: &Reading| r.1));
    let add = |kept: &mut Reading, r: Reading| {
        kept.1 += r.1;
        Ok::<(), UserError>(())
    };
    torture(move || TryReduce::new(by_id(), Arc::new(add)), &readings());
    let count = |id: &u32, n: &mut u64, _: &Reading| {
        *n += 1;
        (*id, *n)
    };
    torture(
        move || KeyedFold::new(by_id(), Arc::new(|| 0_u64), Arc::new(count)),
        &readings(),
    );
}

#[test]
fn rolling_by_a_borrowed_key() {
    let words = (0..60).map(|n| (format!("word {}", n % 7), n));
    let script = Script::new().records(words).watermark(3);
    let count = |word: &str, n: &mut u64, _: &String| {
        *n += 1;
        format!("{word}: {n}")
    };
    torture(
        move || {
            fn word(word: &String) -> &str {
                word
            }
            let by_word = Arc::new(ByRef::new(word));
            KeyedFold::new(by_word, Arc::new(|| 0_u64), Arc::new(count))
        },
        &script,
    );
}

/// Sums by key and reports on timers of both domains; some timers are deleted, some register others.
struct Alarms {
    sum: ValueState<i64>,
    recent: ListState<i64>,
    late: OutputTag<Reading>,
}

impl KeyedProcessFunction<u32, Reading, (u32, String)> for Alarms {
    fn process(
        &mut self,
        r: Reading,
        cx: KeyedCx<'_, u32>,
        out: &mut Emitter<'_, (u32, String)>,
    ) -> Result<(), UserError> {
        let time = cx.timestamp().ok_or("a reading without time")?;
        let sum = self.sum.update(cx, |sum| {
            *sum += r.1;
            *sum
        });
        self.recent.add(cx, r.1);
        cx.register_event_timer(time + r.1);
        cx.register_event_timer(130);
        if r.1 % 4 == 0 {
            cx.delete_event_timer(time + 5);
        }
        if r.1 % 3 == 0 {
            cx.register_processing_timer(40 + r.1 * 10);
        }
        if time <= cx.watermark() {
            cx.side_output(&self.late, r);
        }
        if r.1 > 8 {
            out.emit((r.0, format!("sum {sum}")));
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        domain: TimeDomain,
        cx: KeyedCx<'_, u32>,
        out: &mut Emitter<'_, (u32, String)>,
    ) -> Result<(), UserError> {
        let recent = self.recent.take(cx);
        out.emit((
            *cx.key(),
            format!("{domain:?} {time} {:?} {recent:?}", self.sum.get_cloned(cx)),
        ));
        if recent.len() > 2 {
            out.emit((*cx.key(), "busy".to_owned()));
        }
        if domain == TimeDomain::Event && time < 120 {
            cx.register_event_timer(time + 1);
            cx.register_processing_timer(900);
        }
        Ok(())
    }
}

#[test]
fn keyed_process_with_state_and_timers() {
    let late = OutputTag::<Reading>::new("late");
    let tag = late.clone();
    let make = move || {
        let late = tag.clone();
        KeyedProcess::with_state(by_id(), move |ctx| {
            Ok(Alarms {
                sum: ctx.value("sum")?,
                recent: ctx.list("recent")?,
                late: late.clone(),
            })
        })
    };
    let report = Torture::new(make.clone()).side(&late).run(&readings()).unwrap();
    assert!(report.emitted > 200 && report.restores > 1_000, "{report:?}");
    // Timers of one key fire in order, whatever the order between keys.
    Torture::new(make)
        .side(&late)
        .per_key(|out: &(u32, String)| out.0)
        .run(&readings())
        .unwrap();
}

fn mixed() -> Script<Either<Reading, String>> {
    let one = |n: i64| {
        let key = (n * 5 % 4) as u32;
        let record = if n % 3 == 0 {
            Either::Second(key.to_string())
        } else {
            Either::First((key, n))
        };
        (record, n)
    };
    Script::new()
        .records((0..30).map(one))
        .watermark(20)
        .processing_time(60)
        .records((30..60).map(one))
        .watermark(45)
}

#[test]
fn connected_streams() {
    let second = |s: String| format!("second {s}");
    torture_two_input(
        move || CoMap::new(Arc::new(|r: Reading| format!("first {r:?}")), Arc::new(second)),
        &mixed(),
    );
    let first = |r: Reading, out: &mut Emitter<'_, String>| {
        out.extend((0..r.1 % 4).map(|i| format!("{i} of {r:?}")));
        Ok::<(), UserError>(())
    };
    let second = |s: String, out: &mut Emitter<'_, String>| {
        out.emit(s);
        Ok::<(), UserError>(())
    };
    torture_two_input(
        move || CoFlatMap::new(Arc::new(first), Arc::new(second)),
        &mixed(),
    );
    torture_two_input(|| CoProcess::new(Interleaved::default), &mixed());
}

#[derive(Default)]
struct Interleaved {
    last: Option<String>,
}

impl CoProcessFunction<Reading, String, String> for Interleaved {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let restored = ctx
            .restored()
            .map(|s| s.operator::<Option<String>>("last"))
            .transpose()?;
        self.last = restored.unwrap_or_default().pop().flatten();
        Ok(())
    }

    fn process_first(
        &mut self,
        r: Reading,
        _: ProcessCx<'_>,
        out: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        out.emit(format!("{r:?} after {:?}", self.last));
        Ok(())
    }

    fn process_second(
        &mut self,
        s: String,
        _: ProcessCx<'_>,
        _: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        self.last = Some(s);
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<(), UserError> {
        Ok(snapshot.put_operator("last", Redistribution::Split, std::slice::from_ref(&self.last))?)
    }
}

/// The second stream opens a gate for its key, which a timer shuts.
struct Gate {
    open_until: ValueState<i64>,
}

impl KeyedCoProcessFunction<u32, Reading, String, (u32, i64)> for Gate {
    fn process_first(
        &mut self,
        r: Reading,
        cx: KeyedCx<'_, u32>,
        out: &mut Emitter<'_, (u32, i64)>,
    ) -> Result<(), UserError> {
        if self.open_until.get(cx).is_some() {
            out.emit(r);
        }
        Ok(())
    }

    fn process_second(
        &mut self,
        _: String,
        cx: KeyedCx<'_, u32>,
        _: &mut Emitter<'_, (u32, i64)>,
    ) -> Result<(), UserError> {
        let until = cx.timestamp().unwrap_or(0) + 7;
        self.open_until.set(cx, until);
        cx.register_event_timer(until);
        cx.register_processing_timer(until + 30);
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        domain: TimeDomain,
        cx: KeyedCx<'_, u32>,
        out: &mut Emitter<'_, (u32, i64)>,
    ) -> Result<(), UserError> {
        if domain == TimeDomain::Processing || self.open_until.get_cloned(cx) == Some(time) {
            self.open_until.clear(cx);
            out.emit((*cx.key(), -time));
        }
        Ok(())
    }
}

#[test]
fn keyed_co_process_shares_state_and_timers() {
    let make = || {
        let by_text = Arc::new(ByValue::new(|s: &String| s.parse::<u32>().unwrap()));
        KeyedCoProcess::with_state(by_id(), by_text, |ctx| {
            Ok(Gate {
                open_until: ctx.value("open")?,
            })
        })
    };
    let report = Torture::new(move || Joined::new(make())).run(&mixed()).unwrap();
    assert!(report.emitted > 40, "{report:?}");
}
