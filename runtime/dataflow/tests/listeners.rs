//! What functions are told of checkpoints, and what they remember that belongs to no key.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use hurtig_core::UserError;
use hurtig_core::ids::CheckpointId;
use hurtig_dataflow::broadcast::{BroadcastProcessFunction, KeyedBroadcastCx, KeyedBroadcastProcessFunction};
use hurtig_dataflow::function::*;
use hurtig_dataflow::key::ByValue;
use hurtig_dataflow::operator::{CheckpointEvent, OpenContext};
use hurtig_dataflow::operators::*;
use hurtig_dataflow::rich::{FilterFunction, FlatMapFunction, MapFunction, RichFilter, RichFlatMap, RichMap};
use hurtig_dataflow::testing::{Harness, TwoInputHarness};
use hurtig_state::{BroadcastState, OperatorSnapshot, Redistribution};
use std::sync::{Arc, Mutex};

type Done = Result<(), UserError>;
type Told = Arc<Mutex<Vec<CheckpointEvent>>>;

/// Counts what it has processed, says so, and notes what it is told; the number 13 in a notice is bad luck.
#[derive(Clone, Default)]
struct Noting {
    told: Told,
    seen: u64,
}

impl Noting {
    fn see(&mut self, out: &mut Emitter<'_, u64>) -> Done {
        self.seen += 1;
        out.emit(self.seen);
        Ok(())
    }

    fn remember(&self, snapshot: &mut OperatorSnapshot) -> Done {
        Ok(snapshot.put_operator("seen", Redistribution::Split, &[self.seen])?)
    }

    fn begin(&mut self, restored: Option<&OperatorSnapshot>) -> Done {
        let seen = restored
            .map(|snapshot| snapshot.operator::<u64>("seen"))
            .transpose()?;
        self.seen = seen.into_iter().flatten().sum();
        Ok(())
    }

    fn note(&self, event: CheckpointEvent) -> Done {
        if event == CheckpointEvent::Aborted(CheckpointId(3)) {
            return Err("cannot take it back".into());
        }
        self.told.lock().unwrap().push(event);
        Ok(())
    }
}

/// The hooks that all functions have alike.
macro_rules! remembers_and_notes {
    () => {
        fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Done {
            self.remember(snapshot)
        }

        fn on_checkpoint(&mut self, event: CheckpointEvent) -> Done {
            self.note(event)
        }
    };
}

impl ProcessFunction<u64, u64> for Noting {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Done {
        self.begin(ctx.restored())
    }

    fn process(&mut self, _: u64, _: ProcessCx<'_>, out: &mut Emitter<'_, u64>) -> Done {
        self.see(out)
    }

    remembers_and_notes!();
}

impl KeyedProcessFunction<u64, u64, u64> for Noting {
    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> Done {
        self.begin(ctx.restored())
    }

    fn process(&mut self, _: u64, _: KeyedCx<'_, u64>, out: &mut Emitter<'_, u64>) -> Done {
        self.see(out)
    }

    remembers_and_notes!();
}

impl CoProcessFunction<u64, u64, u64> for Noting {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Done {
        self.begin(ctx.restored())
    }

    fn process_first(&mut self, _: u64, _: ProcessCx<'_>, out: &mut Emitter<'_, u64>) -> Done {
        self.see(out)
    }

    fn process_second(&mut self, _: u64, _: ProcessCx<'_>, out: &mut Emitter<'_, u64>) -> Done {
        self.see(out)
    }

    remembers_and_notes!();
}

impl KeyedCoProcessFunction<u64, u64, u64, u64> for Noting {
    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> Done {
        self.begin(ctx.restored())
    }

    fn process_first(&mut self, _: u64, _: KeyedCx<'_, u64>, out: &mut Emitter<'_, u64>) -> Done {
        self.see(out)
    }

    fn process_second(&mut self, _: u64, _: KeyedCx<'_, u64>, out: &mut Emitter<'_, u64>) -> Done {
        self.see(out)
    }

    remembers_and_notes!();
}

type Seen = BroadcastState<(), u64>;

impl BroadcastProcessFunction<u64, u64, u64> for Noting {
    type State = Seen;

    fn state(&self) -> Seen {
        Seen::new("broadcast")
    }

    fn process(&mut self, _: u64, seen: &Seen, _: ProcessCx<'_>, out: &mut Emitter<'_, u64>) -> Done {
        out.emit(*seen.get(&()).unwrap_or(&0));
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        _: u64,
        seen: &mut Seen,
        _: ProcessCx<'_>,
        out: &mut Emitter<'_, u64>,
    ) -> Done {
        seen.put((), seen.get(&()).unwrap_or(&0) + 1);
        out.emit(seen.get(&()).copied().unwrap());
        Ok(())
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Done {
        self.note(event)
    }
}

impl KeyedBroadcastProcessFunction<u64, u64, u64, u64> for Noting {
    type State = Seen;

    fn state(&self) -> Seen {
        Seen::new("broadcast")
    }

    fn process(&mut self, _: u64, seen: &Seen, _: KeyedCx<'_, u64>, out: &mut Emitter<'_, u64>) -> Done {
        out.emit(*seen.get(&()).unwrap_or(&0));
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        _: u64,
        seen: &mut Seen,
        _: KeyedBroadcastCx<'_, u64>,
        out: &mut Emitter<'_, u64>,
    ) -> Done {
        seen.put((), seen.get(&()).unwrap_or(&0) + 1);
        out.emit(seen.get(&()).copied().unwrap());
        Ok(())
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Done {
        self.note(event)
    }
}

impl MapFunction<u64, u64> for Noting {
    fn map(&mut self, n: u64, _: ProcessCx<'_>) -> Result<u64, UserError> {
        Ok(n)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Done {
        self.note(event)
    }
}

impl FilterFunction<u64> for Noting {
    fn filter(&mut self, _: &u64, _: ProcessCx<'_>) -> Result<bool, UserError> {
        Ok(true)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Done {
        self.note(event)
    }
}

impl FlatMapFunction<u64, u64> for Noting {
    fn flat_map(&mut self, n: u64, _: ProcessCx<'_>, out: &mut Emitter<'_, u64>) -> Done {
        out.emit(n);
        Ok(())
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Done {
        self.note(event)
    }
}

/// Tells a function with a life of two checkpoints.
fn rich<F: ProcessFunction<u64, u64> + 'static>(wrap: fn(Noting) -> F) {
    let one = Noting::default();
    let told = one.told.clone();
    let mut harness = Harness::new(move || {
        let one = one.clone();
        Process::new(move || wrap(one.clone()))
    })
    .unwrap();
    for completed in [true, false] {
        harness.push(7, 1).unwrap();
        harness.snapshot().unwrap();
        harness.end_checkpoint(completed).unwrap();
    }
    assert_eq!(*told.lock().unwrap(), EXPECTED);
    assert_eq!(harness.values(), [7, 7]);
}

#[test]
fn rich_functions_are_told_of_checkpoints() {
    rich(RichMap);
    rich(RichFilter);
    rich(RichFlatMap);
}

fn key() -> Arc<ByValue<fn(&u64) -> u64, u64>> {
    let key: fn(&u64) -> u64 = |n| *n;
    Arc::new(ByValue::new(key))
}

const EXPECTED: [CheckpointEvent; 2] = [
    CheckpointEvent::Completed(CheckpointId(1)),
    CheckpointEvent::Aborted(CheckpointId(2)),
];

/// Takes three checkpoints, of which the last ends badly; goes on from the first. The count goes on.
macro_rules! checkpoints {
    ($harness:expr, $push:ident, $told:expr) => {{
        let (mut harness, told): (_, Told) = ($harness.unwrap(), $told);
        harness.$push(7, 1).unwrap();
        let snapshot = harness.snapshot().unwrap();
        harness.end_checkpoint(true).unwrap();
        harness.$push(7, 2).unwrap();
        harness.snapshot().unwrap();
        harness.end_checkpoint(false).unwrap();
        assert_eq!(*told.lock().unwrap(), EXPECTED);
        harness.snapshot().unwrap();
        let failed = harness.end_checkpoint(false).unwrap_err().to_string();
        assert!(failed.contains("cannot take it back"), "{failed}");
        assert_eq!(harness.values(), [1, 2]);
        let mut again = harness.restore(&snapshot).unwrap();
        again.$push(7, 3).unwrap();
        assert_eq!(again.values(), [2]);
    }};
}

#[test]
fn functions_of_every_kind_are_told_of_checkpoints_and_remember() {
    let noting = Noting::default;
    let one = noting();
    let (told, make) = (one.told.clone(), move || one.clone());
    checkpoints!(Harness::new(move || Process::new(make.clone())), push, told);
    let one = noting();
    let (told, make) = (one.told.clone(), move || one.clone());
    checkpoints!(
        Harness::new(move || KeyedProcess::new(key(), make.clone())),
        push,
        told
    );
    let one = noting();
    let (told, make) = (one.told.clone(), move || one.clone());
    checkpoints!(
        TwoInputHarness::<u64, u64, u64>::new(move || CoProcess::new(make.clone())),
        push_second,
        told
    );
    let one = noting();
    let (told, make) = (one.told.clone(), move || one.clone());
    checkpoints!(
        TwoInputHarness::<u64, u64, u64>::new(move || KeyedCoProcess::new(key(), key(), make.clone())),
        push_second,
        told
    );
    let one = noting();
    let (told, make) = (one.told.clone(), move || one.clone());
    checkpoints!(
        TwoInputHarness::<u64, u64, u64>::new(move || BroadcastProcess::new(make.clone())),
        push_second,
        told
    );
    let one = noting();
    let (told, make) = (one.told.clone(), move || one.clone());
    checkpoints!(
        TwoInputHarness::<u64, u64, u64>::new(move || {
            let make = make.clone();
            KeyedBroadcastProcess::with_state(key(), move |_| Ok(make()))
        }),
        push_second,
        told
    );
}
