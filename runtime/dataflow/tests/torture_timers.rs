//! Planted bugs in how an operator handles its timers: the torture kit must find each.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use hurtig_core::{Batch, Result};
use hurtig_dataflow::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use hurtig_dataflow::testing::{Script, Torture, TortureFailure, Violation};
use hurtig_state::{OperatorSnapshot, Redistribution};
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    /// Takes all due timers out at once into a place that the snapshot misses.
    LosesTimersBeingFired,
    /// Removes a timer only in the call after the one that emitted for it.
    FiresAgainAfterMore,
    /// Does not ask for processing time again after a restore.
    NotRearmed,
    /// Fires all timers of a watermark whatever the output says.
    IgnoresFull,
    /// Stops at a full output and says that it is done.
    DoneTooEarly,
    /// The restored instance fires what had fired already.
    KeepsFired,
}

/// Each record sets an event-time timer and a processing-time timer, which emit it.
struct Timers {
    bug: Bug,
    event: BTreeSet<(i64, i64)>,
    processing: BTreeSet<(i64, i64)>,
    due: Vec<(i64, i64)>,
    fired: Vec<(i64, i64)>,
}

impl Timers {
    fn new(bug: Bug) -> Self {
        Self {
            bug,
            event: BTreeSet::new(),
            processing: BTreeSet::new(),
            due: Vec::new(),
            fired: Vec::new(),
        }
    }

    fn fire_taken(&mut self, wm: i64, out: &mut Collector<i64>, b: &mut Budget) -> Progress {
        while let Some(&timer) = self.event.first().filter(|timer| timer.0 <= wm) {
            self.event.remove(&timer);
            self.due.insert(0, timer);
        }
        while !self.due.is_empty() {
            if out.full() || !b.spend() {
                return Progress::More;
            }
            if let Some((time, n)) = self.due.pop() {
                out.push_at(n, time);
            }
        }
        Progress::Done
    }
}

fn fire(
    bug: Bug,
    timers: &mut BTreeSet<(i64, i64)>,
    up_to: i64,
    out: &mut Collector<i64>,
    b: &mut Budget,
) -> Progress {
    while let Some(&(time, n)) = timers.first().filter(|timer| timer.0 <= up_to) {
        if out.full() && bug == Bug::DoneTooEarly {
            return Progress::Done;
        }
        if (out.full() && bug != Bug::IgnoresFull) || !b.spend() {
            return Progress::More;
        }
        out.push_at(n, time);
        if bug == Bug::FiresAgainAfterMore && b.left() == 0 {
            return Progress::More;
        }
        timers.remove(&(time, n));
    }
    Progress::Done
}

impl Operator<i64, i64> for Timers {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        if let Some(snapshot) = ctx.restored() {
            self.event = snapshot.operator("event")?.into_iter().collect();
            self.processing = snapshot.operator("processing")?.into_iter().collect();
        }
        if self.bug != Bug::NotRearmed
            && let Some(&(time, _)) = self.processing.first()
        {
            ctx.cx().schedule(time);
        }
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<i64>,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        while !input.is_empty() {
            if out.full() || !b.spend() {
                return Ok(Progress::More);
            }
            if let Some((n, time)) = input.pop_front() {
                self.event.insert((time + n % 4, n));
                self.processing.insert((30 + n, -n));
                cx.schedule(30 + n);
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        _: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        if self.bug == Bug::LosesTimersBeingFired {
            return Ok(self.fire_taken(wm, out, b));
        }
        if self.bug == Bug::KeepsFired {
            self.fired.extend(self.event.iter().filter(|timer| timer.0 <= wm));
        }
        Ok(fire(self.bug, &mut self.event, wm, out, b))
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<i64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let progress = fire(self.bug, &mut self.processing, now, out, b);
        if let Some(&(time, _)) = self.processing.first() {
            // A call that is repeated anyway needs no other reminder.
            cx.schedule(time.max(now + 1));
        }
        Ok(progress)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let event: Vec<_> = self.event.iter().chain(&self.fired).copied().collect();
        snapshot.put_operator("event", Redistribution::Split, &event)?;
        let processing: Vec<_> = self.processing.iter().copied().collect();
        snapshot.put_operator("processing", Redistribution::Split, &processing)
    }
}

fn run(bug: Bug) -> Result<usize, TortureFailure> {
    let script = Script::new()
        .records((0..12).map(|n| (n, 10 + n)))
        .watermark(15)
        .processing_time(36)
        .records((12..20).map(|n| (n, 10 + n)))
        .watermark(24)
        .processing_time(60);
    Torture::new(move || Timers::new(bug))
        .run(&script)
        .map(|report| report.emitted)
}

#[test]
fn without_a_bug_every_timer_fires_once() {
    assert_eq!(run(Bug::None).unwrap(), 40);
}

#[test]
fn every_timer_bug_is_found() {
    for bug in [
        Bug::LosesTimersBeingFired,
        Bug::FiresAgainAfterMore,
        Bug::NotRearmed,
        Bug::DoneTooEarly,
        Bug::KeepsFired,
    ] {
        let failure = run(bug).expect_err("the planted bug was not found");
        let expected = matches!(
            failure.violation,
            Violation::OutputDiffers { .. } | Violation::NeverDone { .. }
        );
        assert!(expected, "{bug:?} found as {failure}");
    }
    let failure = run(Bug::IgnoresFull).expect_err("the planted bug was not found");
    assert!(
        matches!(
            failure.violation,
            Violation::Overshot { .. } | Violation::PushedIntoFull { .. }
        ),
        "{failure}"
    );
}
