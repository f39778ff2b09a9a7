//! One run of the torture kit: a script in one mode, every call checked.

use super::compare::{Item, Segment};
use super::instance::{Call, Instance};
use super::mode::{AMPLE, CALLS_MAX, Mode, Snapshots};
use super::output::take_all;
use super::script::{Script, Step};
use super::torture::Torture;
use super::violation::{TortureFailure, Violation};
use crate::operator::{Budget, Collector, Progress};
use hurtig_core::Batch;
use hurtig_core::time::{MAX_WATERMARK, MIN_WATERMARK};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One run of a script in one mode.
pub(super) struct Run<'a, In, Out> {
    kit: &'a Torture<In, Out>,
    pub(super) mode: Mode,
    instance: Instance<In, Out>,
    out: Collector<Out>,
    /// The output's limit.
    limit: usize,
    input: Batch<In>,
    pub(super) segments: Vec<Segment>,
    watermark: i64,
    backlog: bool,
    pub(super) calls: usize,
    /// Fuel spent in the current step.
    fuel_spent: usize,
    pub(super) restores: usize,
    /// The most that one call has emitted.
    pub(super) most: usize,
    /// What one unit of fuel may bring, once that is known.
    per_fuel: Option<usize>,
}

impl<'a, In, Out> Run<'a, In, Out>
where
    In: Clone + Debug + 'static,
    Out: Debug + 'static,
{
    pub(super) fn start(
        kit: &'a Torture<In, Out>,
        mode: Mode,
        per_fuel: Option<usize>,
    ) -> Result<Self, TortureFailure> {
        let instance = kit
            .setup
            .open(None, MIN_WATERMARK)
            .map_err(|error| TortureFailure {
                mode: mode.name.clone(),
                step: "opening".to_owned(),
                violation: Violation::Failed(error),
            })?;
        Ok(Self {
            kit,
            mode,
            instance,
            out: Collector::with_limit(AMPLE),
            limit: AMPLE,
            input: Batch::new(),
            segments: Vec::new(),
            watermark: MIN_WATERMARK,
            backlog: false,
            calls: 0,
            fuel_spent: 0,
            restores: 0,
            most: 1,
            per_fuel,
        })
    }

    pub(super) fn follow(&mut self, script: &Script<In>) -> Result<(), Violation> {
        let mut steps = script.steps();
        while let Some(step) = steps.first() {
            let mut used = 1;
            match step {
                Step::Record(..) => used = self.records(steps)?,
                Step::Watermark(wm) => self.advance(*wm)?,
                Step::ProcessingTime(ms) => self.processing_time(*ms)?,
                Step::Backlog(backlog) => self.backlog(*backlog)?,
            }
            steps = &steps[used..];
        }
        self.backlog(false)?;
        self.advance(MAX_WATERMARK)?;
        self.begin("the end of input".to_owned(), false);
        self.perform(&Call::End)?;
        self.instance.close().map_err(Violation::Failed)
    }

    fn begin(&mut self, label: String, by_records: bool) {
        let sides = self
            .kit
            .setup
            .sides
            .iter()
            .map(|side| (side.name().to_owned(), Vec::new()))
            .collect();
        self.segments.push(Segment {
            label,
            by_records,
            main: Vec::new(),
            sides,
        });
    }

    /// Processes the records at the front of `steps`, in chunks; returns how many there are.
    fn records(&mut self, steps: &[Step<In>]) -> Result<usize, Violation> {
        let run = steps
            .iter()
            .take_while(|step| matches!(step, Step::Record(..)))
            .count();
        self.begin(format!("{run} records, the first being {:?}", steps[0]), true);
        let mut from = 0;
        while from < run {
            let chunk = self.mode.amount(self.mode.chunk).min(run - from);
            for step in &steps[from..from + chunk] {
                if let Step::Record(record, time) = step {
                    self.input.push(record.clone(), *time);
                }
            }
            self.perform(&Call::Process)?;
            from += chunk;
        }
        Ok(run)
    }

    fn advance(&mut self, wm: i64) -> Result<(), Violation> {
        self.begin(format!("watermark {wm}"), false);
        if wm <= self.watermark {
            return Ok(());
        }
        self.watermark = wm;
        self.instance.services.set_watermark(wm);
        self.perform(&Call::Watermark(wm))
    }

    fn backlog(&mut self, backlog: bool) -> Result<(), Violation> {
        self.begin(format!("backlog {backlog}"), false);
        if backlog == self.backlog {
            return Ok(());
        }
        self.backlog = backlog;
        self.instance.services.set_backlog(backlog);
        self.perform(&Call::Backlog(backlog))
    }

    /// A new instance is told of the backlog that it is in, before anything else.
    fn tell_backlog(&mut self) -> Result<(), Violation> {
        self.instance.services.set_backlog(self.backlog);
        if !self.backlog {
            return Ok(());
        }
        let (mut input, mut budget) = (Batch::new(), Budget::new(AMPLE as u32));
        let told = self
            .instance
            .call(&Call::Backlog(true), &mut input, &mut self.out, &mut budget);
        told.map(drop).map_err(Violation::Failed)
    }

    fn processing_time(&mut self, ms: i64) -> Result<(), Violation> {
        self.begin(format!("processing time {ms}"), false);
        self.kit.setup.clock.set_wall_ms(ms);
        let mut rounds = 0;
        while self.instance.services.wake_at() <= ms {
            rounds += 1;
            if rounds > CALLS_MAX {
                return Err(Violation::NeverDone { calls: rounds });
            }
            self.instance.services.clear_schedule();
            self.perform(&Call::ProcessingTime(ms))?;
        }
        Ok(())
    }

    /// Repeats a call until it is done.
    fn perform(&mut self, call: &Call) -> Result<(), Violation> {
        self.fuel_spent = 0;
        for _ in 0..CALLS_MAX {
            let progress = self.call_once(Some(call))?;
            if self.fuel_spent >= AMPLE {
                break;
            }
            self.maybe_restore(progress, call)?;
            match progress {
                Progress::Done => {
                    self.settle()?;
                    self.collect();
                    return Ok(());
                }
                Progress::More => {}
                Progress::Wait => self.finish_future()?,
            }
        }
        Err(Violation::NeverDone { calls: self.calls })
    }

    /// Hands over every future that is ready.
    fn settle(&mut self) -> Result<(), Violation> {
        loop {
            let mut budget = Budget::new(AMPLE as u32);
            match self.instance.complete(&mut self.out, &mut budget) {
                None => return Ok(()),
                Some(result) => drop(result.map_err(Violation::Failed)?),
            }
        }
    }

    fn finish_future(&mut self) -> Result<(), Violation> {
        let mut budget = Budget::new(AMPLE as u32);
        match self.instance.complete(&mut self.out, &mut budget) {
            None => Err(Violation::WaitsForNothing),
            Some(result) => result.map(drop).map_err(Violation::Failed),
        }
    }

    /// One call under the mode's budget, checked. `None` stands for `before_barrier`.
    fn call_once(&mut self, call: Option<&Call>) -> Result<Progress, Violation> {
        self.calls += 1;
        if !self.mode.refusing || self.calls.is_multiple_of(2) {
            self.collect();
            self.limit = self.mode.amount(self.mode.limit);
            self.out.set_limit(self.limit);
        }
        let fuel = self.mode.amount(self.mode.fuel) as u32;
        let mut budget = Budget::new(fuel);
        let before = Full::of(self);
        let waiting = self.input.len();
        let progress = {
            let Self {
                instance,
                input,
                out,
                calls,
                ..
            } = self;
            let id = *calls as u64;
            let made = catch_unwind(AssertUnwindSafe(|| match call {
                Some(call) => instance.call(call, input, out, &mut budget),
                None => instance.before_barrier(id, out, &mut budget),
            }));
            made.map_err(|panic| Violation::Panicked(panic_text(&*panic)))?
                .map_err(Violation::Failed)?
        };
        let spent = fuel - budget.left();
        self.fuel_spent += spent as usize;
        self.check_output(&before)?;
        let consumed = waiting - self.input.len();
        if consumed > fuel as usize {
            return Err(Violation::OverBudget { consumed, fuel });
        }
        match progress {
            Progress::Done if matches!(call, Some(Call::Process)) && !self.input.is_empty() => {
                Err(Violation::DoneWithInput {
                    left: self.input.len(),
                })
            }
            Progress::More if spent == 0 && !self.out.full() && !self.instance.services.side().full() => {
                Err(Violation::NoProgress)
            }
            progress => Ok(progress),
        }
    }

    fn check_output(&mut self, before: &Full) -> Result<(), Violation> {
        let pushed = self.out.len() - before.len;
        self.most = self.most.max(pushed);
        if before.main && pushed > 0 {
            return Err(Violation::PushedIntoFull { pushed });
        }
        let side_pushed = Full::of(self).side_len - before.side_len;
        if before.side && side_pushed + pushed > 0 {
            return Err(Violation::PushedIntoFull {
                pushed: side_pushed + pushed,
            });
        }
        if let Some(per_fuel) = self.per_fuel {
            let allowed = (self.limit - 1).max(before.len).saturating_add(per_fuel);
            if self.out.len() > allowed {
                return Err(Violation::Overshot {
                    emitted: pushed,
                    allowed: allowed - before.len,
                });
            }
        }
        Ok(())
    }

    /// Moves what was emitted into the current segment.
    fn collect(&mut self) {
        let limit = self.mode.amount(self.mode.limit);
        let Some(segment) = self.segments.last_mut() else {
            return;
        };
        let key = self.kit.key.as_ref();
        segment
            .main
            .extend(take_all(&mut self.out).into_iter().map(|(record, time)| Item {
                key: key.map(|key| key(&record)),
                text: format!("{record:?}"),
                time,
            }));
        for (side, (_, items)) in self.kit.setup.sides.iter().zip(&mut segment.sides) {
            let taken = side.take_text(&self.instance.services, limit);
            items.extend(taken.into_iter().map(|(text, time)| Item {
                key: None,
                text,
                time,
            }));
        }
    }

    /// After a return: snapshots, and goes on with a new instance, if the mode says so.
    fn maybe_restore(&mut self, progress: Progress, call: &Call) -> Result<(), Violation> {
        let (take, replace) = match self.mode.snapshots {
            Snapshots::Never => (false, false),
            Snapshots::EveryReturn => (true, true),
            Snapshots::Sometimes => match self.mode.draw(3) {
                0 => (true, true),
                1 => (true, false),
                _ => (false, false),
            },
        };
        if !take || progress == Progress::Wait {
            return Ok(());
        }
        if progress == Progress::Done {
            self.prepare_barrier()?;
        }
        let snapshot = self.instance.snapshot().map_err(Violation::Failed)?;
        if replace {
            self.collect();
            self.restores += 1;
            self.instance = self
                .kit
                .setup
                .open(Some(&snapshot), self.watermark)
                .map_err(Violation::Failed)?;
            // What is not done is called again, and says so itself.
            if progress == Progress::Done || !matches!(call, Call::Backlog(_)) {
                self.tell_backlog()?;
            }
        }
        Ok(())
    }

    fn prepare_barrier(&mut self) -> Result<(), Violation> {
        for _ in 0..CALLS_MAX {
            match self.call_once(None)? {
                Progress::Done => return Ok(()),
                Progress::More => {}
                Progress::Wait => self.finish_future()?,
            }
        }
        Err(Violation::NeverDone { calls: CALLS_MAX })
    }
}

/// How full the outputs were before a call.
struct Full {
    main: bool,
    len: usize,
    side: bool,
    side_len: usize,
}

impl Full {
    fn of<In, Out>(run: &Run<'_, In, Out>) -> Self {
        let services = &run.instance.services;
        Self {
            main: run.out.full(),
            len: run.out.len(),
            side: services.side().full(),
            side_len: run.kit.setup.sides.iter().map(|side| side.len(services)).sum(),
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
