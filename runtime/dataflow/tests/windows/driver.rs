//! Drives an operator as a task would: budgets, full outputs, restores at quiet points.

use crate::case::{Drive, Rec};
use crate::model::Fired;
use crate::subject::Subject;
use hurtig_core::key::StableKey;
use hurtig_core::time::{Clock, ManualClock};
use hurtig_core::{Batch, Result};
use hurtig_dataflow::operator::{
    Budget, Collector, Cx, OpenContext, Operator, Progress, Services, SideOutputs, SideSink, SubtaskInfo,
};
use hurtig_state::{OperatorSnapshot, ScanBudget};
use std::any::Any;
use std::sync::Arc;

/// Restores within one event.
const MAX_RESTORES: u32 = 12;

struct LateSink {
    collector: Collector<Rec>,
    limit: usize,
}

impl SideSink for LateSink {
    fn name(&self) -> &str {
        "late"
    }
    fn collector(&mut self) -> &mut dyn Any {
        &mut self.collector
    }
    fn full(&self) -> bool {
        self.collector.len() >= self.limit
    }
}

/// A snapshot of what the operator remembers now; it is written while all windows fire.
pub(crate) fn snapshot_of<Out>(
    operator: &mut dyn Operator<Rec, Out>,
    services: &Services,
) -> OperatorSnapshot {
    let mut snapshot = OperatorSnapshot::default();
    operator.snapshot(&mut snapshot).unwrap();
    operator
        .continue_snapshot(&mut snapshot, &mut ScanBudget::new(2))
        .unwrap();
    for call in 0..20 {
        let (mut out, mut budget) = (Collector::default(), Budget::new(7));
        let progress = operator.on_watermark(i64::MAX - 1, services.cx(), &mut out, &mut budget);
        operator
            .continue_snapshot(&mut snapshot, &mut ScanBudget::new(call % 2))
            .unwrap();
        if progress.unwrap() == Progress::Done {
            break;
        }
    }
    while !operator
        .continue_snapshot(&mut snapshot, &mut ScanBudget::new(1))
        .unwrap()
    {}
    snapshot.decode_sections().unwrap();
    snapshot
}

pub(crate) struct Driver<'a> {
    make: Box<dyn Fn() -> Subject + 'a>,
    operator: Subject,
    services: Services,
    clock: Arc<ManualClock>,
    drive: Drive,
    mores: u32,
    pub(crate) out: Vec<Fired>,
    pub(crate) late: Vec<(i64, Rec)>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(make: impl Fn() -> Subject + 'a, drive: Drive) -> Self {
        let clock = ManualClock::new();
        let services = services(clock.clone(), drive);
        let mut operator = make();
        operator.open(&mut OpenContext::new(&services, None)).unwrap();
        let make = Box::new(make);
        Self {
            make,
            operator,
            services,
            clock,
            drive,
            mores: 0,
            out: vec![],
            late: vec![],
        }
    }

    pub(crate) fn records(&mut self, records: &[(i64, Rec)], hashed: bool) {
        let mut batch = Batch::new();
        for (time, rec) in records {
            match hashed {
                true => batch.push_hashed(rec.clone(), *time, rec.key.stable_hash()),
                false => batch.push(rec.clone(), *time),
            }
        }
        self.turn(|op, cx, out, b| op.process(&mut batch, cx, out, b));
        assert!(batch.is_empty(), "Done leaves nothing behind");
        self.wake();
    }

    pub(crate) fn watermark(&mut self, wm: i64) {
        self.services.set_watermark(wm);
        self.turn(|op, cx, out, b| op.on_watermark(wm, cx, out, b));
        self.wake();
    }

    pub(crate) fn clock(&mut self, now: i64) {
        self.clock.set_wall_ms(now);
        self.wake();
    }

    fn wake(&mut self) {
        let now = self.clock.wall_ms();
        while self.services.wake_at() <= now {
            self.services.clear_schedule();
            self.turn(|op, cx, out, b| op.on_processing_time(now, cx, out, b));
        }
    }

    /// Goes on with a new operator from a snapshot, which it returns.
    pub(crate) fn restore(&mut self) -> OperatorSnapshot {
        let snapshot = snapshot_of(&mut *self.operator, &self.services);
        self.operator = (self.make)();
        self.services.clear_schedule();
        self.operator
            .open(&mut OpenContext::new(&self.services, Some(&snapshot)))
            .unwrap();
        snapshot
    }

    /// Restores with event time back at its beginning.
    pub(crate) fn restart(&mut self) {
        let snapshot = snapshot_of(&mut *self.operator, &self.services);
        self.services = services(self.clock.clone(), self.drive);
        self.operator = (self.make)();
        self.operator
            .open(&mut OpenContext::new(&self.services, Some(&snapshot)))
            .unwrap();
        self.wake();
    }

    fn turn(
        &mut self,
        mut call: impl FnMut(
            &mut dyn Operator<Rec, Fired>,
            Cx<'_>,
            &mut Collector<Fired>,
            &mut Budget,
        ) -> Result<Progress>,
    ) {
        let mut restores = 0;
        loop {
            let mut out = Collector::with_limit(self.drive.limit);
            let mut budget = Budget::new(self.drive.fuel);
            let progress = call(&mut *self.operator, self.services.cx(), &mut out, &mut budget).unwrap();
            let idle = budget.left() == self.drive.fuel && out.is_empty();
            let side = self.collect(&mut out);
            if progress == Progress::Done {
                return;
            }
            assert!(!idle || side, "More means that fuel was used or output filled");
            self.mores += 1;
            // A window that is being put together starts over at a restore, so there is an end to them.
            let restore = self
                .drive
                .restore_on_more
                .is_some_and(|n| self.mores.is_multiple_of(n));
            if restore && restores < MAX_RESTORES {
                restores += 1;
                self.restore();
            }
        }
    }

    fn collect(&mut self, out: &mut Collector<Fired>) -> bool {
        while let Some((fired, time)) = out.batch().pop_front() {
            assert_eq!(time, fired.3, "a result carries its window's last timestamp");
            self.out.push(fired);
        }
        let mut found = false;
        for sink in self.services.side().sinks().iter_mut() {
            let collector = sink.collector().downcast_mut::<Collector<Rec>>().unwrap();
            while let Some((rec, time)) = collector.batch().pop_front() {
                self.late.push((time, rec));
                found = true;
            }
        }
        found
    }
}

fn services(clock: Arc<ManualClock>, drive: Drive) -> Services {
    let sink = LateSink {
        collector: Collector::default(),
        limit: drive.limit,
    };
    Services::new(
        SubtaskInfo::single("windows"),
        clock,
        SideOutputs::new(vec![Box::new(sink)]),
    )
}
