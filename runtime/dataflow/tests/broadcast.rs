//! Broadcast functions under the torture kit, and their state in all subtasks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use hurtig_core::UserError;
use hurtig_dataflow::broadcast::{BroadcastProcessFunction, KeyedBroadcastCx, KeyedBroadcastProcessFunction};
use hurtig_dataflow::function::{Emitter, KeyedCx, ProcessCx};
use hurtig_dataflow::key::ByValue;
use hurtig_dataflow::operators::{BroadcastProcess, KeyedBroadcastProcess};
use hurtig_dataflow::testing::{Either, Script, TwoInputHarness, torture_two_input};
use hurtig_dataflow::timers::TimeDomain;
use hurtig_state::{BroadcastState, ValueState};
use std::sync::Arc;

type Reading = (u32, i64);
type Rule = (String, i64);
type Done = Result<(), UserError>;

fn mixed() -> Script<Either<Reading, Rule>> {
    let one = |n: i64| {
        let record = if n % 4 == 0 {
            Either::Second((format!("rule {}", n % 3), n))
        } else {
            Either::First(((n * 5 % 7) as u32, n))
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

/// Shows each reading with all rules, and how often they have changed.
struct Shows;

impl BroadcastProcessFunction<Reading, Rule, String> for Shows {
    type State = (BroadcastState<String, i64>, BroadcastState<(), u64>);

    fn state(&self) -> Self::State {
        (BroadcastState::new("rules"), BroadcastState::new("changes"))
    }

    fn process(
        &mut self,
        reading: Reading,
        (rules, changes): &Self::State,
        _: ProcessCx<'_>,
        out: &mut Emitter<'_, String>,
    ) -> Done {
        let rules: Vec<_> = rules.iter().collect();
        out.emit(format!("{reading:?} {rules:?} {:?}", changes.get(&())));
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (name, value): Rule,
        (rules, changes): &mut Self::State,
        _: ProcessCx<'_>,
        out: &mut Emitter<'_, String>,
    ) -> Done {
        changes.put((), changes.get(&()).unwrap_or(&0) + 1);
        if value % 5 == 0 {
            out.emit(format!("without {name}"));
            rules.remove(&name);
        } else {
            rules.put(name, value);
        }
        Ok(())
    }
}

/// Adds up readings by key, and hands the sum out with the newest rule when a timer fires.
struct Sums {
    sum: ValueState<i64>,
}

impl KeyedBroadcastProcessFunction<u32, Reading, Rule, (u32, i64, i64)> for Sums {
    type State = BroadcastState<String, i64>;

    fn state(&self) -> Self::State {
        BroadcastState::new("rules")
    }

    fn process(
        &mut self,
        (_, value): Reading,
        rules: &Self::State,
        cx: KeyedCx<'_, u32>,
        _: &mut Emitter<'_, (u32, i64, i64)>,
    ) -> Done {
        let sum = self.sum.get_cloned(cx).unwrap_or(0);
        self.sum.set(cx, sum + value * rules.len() as i64);
        cx.register_event_timer(value + 9);
        cx.register_processing_timer(50);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (name, value): Rule,
        rules: &mut Self::State,
        _: KeyedBroadcastCx<'_, u32>,
        _: &mut Emitter<'_, (u32, i64, i64)>,
    ) -> Done {
        rules.put(name, value);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: (i64, TimeDomain),
        rules: &Self::State,
        cx: KeyedCx<'_, u32>,
        out: &mut Emitter<'_, (u32, i64, i64)>,
    ) -> Done {
        let newest = rules.iter().map(|(_, value)| *value).max().unwrap_or(-1);
        out.emit((*cx.key(), self.sum.get_cloned(cx).unwrap_or(0), newest));
        Ok(())
    }
}

fn sums()
-> KeyedBroadcastProcess<Reading, ByValue<fn(&Reading) -> u32, u32>, Sums, BroadcastState<String, i64>> {
    let by_sensor: fn(&Reading) -> u32 = |reading| reading.0;
    let selector = Arc::new(ByValue::new(by_sensor));
    KeyedBroadcastProcess::with_state(selector, |ctx| {
        Ok(Sums {
            sum: ctx.value("sum")?,
        })
    })
}

#[test]
fn broadcast_functions_stand_torture() {
    torture_two_input(|| BroadcastProcess::new(|| Shows), &mixed());
    torture_two_input(sums, &mixed());
}

#[test]
fn a_rule_holds_from_its_record_on() {
    let mut harness = TwoInputHarness::new(|| BroadcastProcess::new(|| Shows)).unwrap();
    harness.push_first((1, 1), 0).unwrap();
    harness.push_second(("a".to_owned(), 7), 1).unwrap();
    harness.push_first((1, 2), 2).unwrap();
    harness.push_second(("a".to_owned(), 5), 3).unwrap();
    harness.push_first((1, 3), 4).unwrap();
    assert_eq!(
        harness.values(),
        [
            "(1, 1) [] None",
            "(1, 2) [(\"a\", 7)] Some(1)",
            "without a",
            "(1, 3) [] Some(2)",
        ]
    );
}

/// Counts readings by key; a rule called `clear` hands out and forgets the counts of the keys below its value, and sets
/// timers for the others.
struct Clears {
    count: ValueState<i64>,
}

impl KeyedBroadcastProcessFunction<u32, Reading, Rule, (u32, i64)> for Clears {
    type State = BroadcastState<String, i64>;

    fn state(&self) -> Self::State {
        BroadcastState::new("rules")
    }

    fn process(
        &mut self,
        _: Reading,
        _: &Self::State,
        cx: KeyedCx<'_, u32>,
        _: &mut Emitter<'_, (u32, i64)>,
    ) -> Done {
        self.count.set(cx, self.count.get_cloned(cx).unwrap_or(0) + 1);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (name, below): Rule,
        _: &mut Self::State,
        cx: KeyedBroadcastCx<'_, u32>,
        out: &mut Emitter<'_, (u32, i64)>,
    ) -> Done {
        let time = cx.record().timestamp().unwrap_or(0);
        cx.for_each_key(&self.count, |cx| {
            if name != "clear" {
                return Err("there is no such rule".into());
            }
            if i64::from(*cx.key()) < below {
                out.emit((*cx.key(), self.count.get_cloned(cx).unwrap_or(0)));
                self.count.clear(cx);
            } else {
                cx.register_event_timer(time + 10);
            }
            Ok(())
        })
    }

    fn on_timer(
        &mut self,
        (time, _): (i64, TimeDomain),
        _: &Self::State,
        cx: KeyedCx<'_, u32>,
        out: &mut Emitter<'_, (u32, i64)>,
    ) -> Done {
        out.emit((*cx.key(), -time));
        Ok(())
    }
}

#[test]
fn a_broadcast_record_reaches_the_state_of_every_key() {
    let by_sensor: fn(&Reading) -> u32 = |reading| reading.0;
    let mut harness = TwoInputHarness::new(move || {
        KeyedBroadcastProcess::with_state(Arc::new(ByValue::new(by_sensor)), |ctx| {
            Ok(Clears {
                count: ctx.value("count")?,
            })
        })
    })
    .unwrap();
    for key in [3, 1, 4, 1, 5] {
        harness.push_first((key, 0), 1).unwrap();
    }
    harness.push_second(("clear".to_owned(), 4), 20).unwrap();
    assert_eq!(harness.records(), [((1, 2), 20), ((3, 1), 20)]);
    let snapshot = harness.snapshot().unwrap();
    let mut harness = harness.restore(&snapshot).unwrap();
    harness.push_first((1, 0), 21).unwrap();
    harness.watermark(30).unwrap();
    let mut fired = harness.records();
    fired.sort();
    assert_eq!(fired, [((4, -30), 30), ((5, -30), 30)]);
    harness.push_second(("clear".to_owned(), 9), 31).unwrap();
    assert_eq!(harness.records(), [((1, 1), 31), ((4, 1), 31), ((5, 1), 31)]);
    harness.push_first((1, 0), 32).unwrap();
    let failed = harness.push_second(("other".to_owned(), 9), 33).unwrap_err();
    assert!(failed.to_string().contains("no such rule"), "{failed}");
}
