//! The torture kit: every way in which the engine may call an operator, against one plain run.
//!
//! An operator is run one record at a time and all at once, with an output of one record, with an
//! output that refuses every second call, with one unit of fuel, with random budgets and chunks,
//! and with a snapshot after every return that is restored into a new instance. Every run must emit
//! what the plain run did: in order, or per key where [`Torture::per_key`] says so; what timers of one
//! event emit is compared as a multiset with its times in order. Every call must keep the contract
//! of [`crate::operator`] ([`Violation`] lists what is checked).

use super::compare::{Item, Segment, compare};
use super::instance::{Call, Instance, Setup};
use super::output::take_all;
use super::script::{Script, Step};
use super::two_input::{Either, Joined};
use super::violation::{TortureFailure, Violation};
use crate::operator::{Budget, Collector, Operator, OutputTag, Progress, SubtaskInfo, TwoInputOperator};
use hurtig_core::time::{MAX_WATERMARK, MIN_WATERMARK, ManualClock};
use hurtig_core::Batch;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the operators of `factory` through everything, and panics with what went wrong.
///
/// # Panics
/// When the operator breaks its contract.
pub fn torture<In, Out, O>(factory: impl Fn() -> O + 'static, script: &Script<In>) -> TortureReport
where
    In: Clone + Debug + 'static,
    Out: Debug + 'static,
    O: Operator<In, Out> + 'static,
{
    or_panic(Torture::new(factory).run(script))
}

/// As [`torture`], for an operator with two inputs.
///
/// # Panics
/// When the operator breaks its contract.
pub fn torture_two_input<A, B, Out, O>(factory: impl Fn() -> O + 'static, script: &Script<Either<A, B>>) -> TortureReport
where
    A: Clone + Debug + 'static,
    B: Clone + Debug + 'static,
    Out: Debug + 'static,
    O: TwoInputOperator<A, B, Out> + 'static,
{
    or_panic(Torture::new(move || Joined::new(factory())).run(script))
}

fn or_panic(result: Result<TortureReport, TortureFailure>) -> TortureReport {
    match result {
        Ok(report) => report,
        Err(failure) => panic!("the operator breaks its contract: {failure}"),
    }
}

/// What the kit did; a test may demand that it did enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TortureReport {
    /// Runs of the script, the plain one included.
    pub runs: usize,
    /// Calls of the operator.
    pub calls: usize,
    /// Snapshots restored into a new instance.
    pub restores: usize,
    /// Records that the plain run emitted, side outputs included.
    pub emitted: usize,
}

/// The torture kit with its settings.
pub struct Torture<In, Out> {
    setup: Setup<In, Out>,
    key: Option<Box<dyn Fn(&Out) -> String>>,
    seeds: u64,
}

impl<In, Out> Debug for Torture<In, Out> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Torture").field("setup", &self.setup).field("seeds", &self.seeds).finish_non_exhaustive()
    }
}

impl<In, Out> Torture<In, Out>
where
    In: Clone + Debug + 'static,
    Out: Debug + 'static,
{
    /// A kit for the operators that `factory` makes.
    pub fn new<O: Operator<In, Out> + 'static>(factory: impl Fn() -> O + 'static) -> Self {
        Self { setup: Setup::new(Box::new(move || Box::new(factory()))), key: None, seeds: 24 }
    }

    /// Compares a side output too.
    #[must_use]
    pub fn side<T: Debug + Send + 'static>(mut self, tag: &OutputTag<T>) -> Self {
        self.setup.add_side(tag);
        self
    }

    /// Order is fixed only among outputs of one key.
    #[must_use]
    pub fn per_key<K: Debug>(mut self, key: impl Fn(&Out) -> K + 'static) -> Self {
        self.key = Some(Box::new(move |record| format!("{:?}", key(record))));
        self
    }

    /// How many random runs there are.
    #[must_use]
    pub fn seeds(self, seeds: u64) -> Self {
        Self { seeds, ..self }
    }

    /// Where the operator believes to run.
    #[must_use]
    pub fn as_subtask(mut self, info: SubtaskInfo) -> Self {
        self.setup.info = info;
        self
    }

    /// Runs `script` in every way.
    ///
    /// # Errors
    /// The first violation that is found.
    pub fn run(mut self, script: &Script<In>) -> Result<TortureReport, TortureFailure> {
        let mut report = TortureReport::default();
        let plain = self.once(Mode::plain(), script, None, &mut report)?;
        report.emitted = plain.segments.iter().map(Segment::len).sum();
        // Learns how much one unit of fuel can bring, which bounds what later runs may overshoot.
        let steps = self.once(Mode { fuel: Amount::One, ..Mode::named("fuel 1") }, script, None, &mut report)?;
        check(&plain, &steps)?;
        let modes = Mode::fixed().into_iter().chain((0..self.seeds).map(Mode::random));
        for mode in modes {
            let run = self.once(mode, script, Some(steps.most), &mut report)?;
            check(&plain, &run)?;
        }
        Ok(report)
    }

    fn once(
        &mut self,
        mode: Mode,
        script: &Script<In>,
        most: Option<usize>,
        report: &mut TortureReport,
    ) -> Result<Trace, TortureFailure> {
        self.setup.clock = ManualClock::new();
        let mut run = Run::start(self, mode, most)?;
        let result = run.follow(script);
        report.runs += 1;
        report.calls += run.calls;
        report.restores += run.restores;
        match result {
            Ok(()) => Ok(Trace { mode: run.mode.name, segments: run.segments, most: run.most }),
            Err(violation) => {
                let step = run.segments.last().map_or_else(|| "opening".to_owned(), |s| s.label.clone());
                Err(TortureFailure { mode: run.mode.name, step, violation })
            }
        }
    }
}

fn check(plain: &Trace, run: &Trace) -> Result<(), TortureFailure> {
    compare(&plain.segments, &run.segments).map_err(|violation| TortureFailure {
        mode: run.mode.clone(),
        step: "compared with the plain run".to_owned(),
        violation,
    })
}

impl Segment {
    fn len(&self) -> usize {
        self.main.len() + self.sides.iter().map(|(_, items)| items.len()).sum::<usize>()
    }
}

struct Trace {
    mode: String,
    segments: Vec<Segment>,
    most: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    One,
    All,
    Random(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Snapshots {
    Never,
    EveryReturn,
    Sometimes,
}

/// A way of running an operator.
#[derive(Debug)]
struct Mode {
    name: String,
    chunk: Amount,
    fuel: Amount,
    limit: Amount,
    /// The output is emptied only before every second call.
    refusing: bool,
    snapshots: Snapshots,
    random: u64,
}

/// More fuel than any script can use.
const AMPLE: usize = 1 << 20;
/// A step that takes more calls than this is taken for endless.
const CALLS_MAX: usize = 20_000;

impl Mode {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            chunk: Amount::All,
            fuel: Amount::All,
            limit: Amount::All,
            refusing: false,
            snapshots: Snapshots::Never,
            random: 0,
        }
    }

    fn plain() -> Self {
        Self::named("plain")
    }

    fn fixed() -> Vec<Self> {
        use Amount::One;
        use Snapshots::EveryReturn;
        vec![
            Self { chunk: One, ..Self::named("one record at a time") },
            Self { limit: One, ..Self::named("output of one record") },
            Self { limit: One, refusing: true, ..Self::named("output that refuses every second call") },
            Self { limit: Amount::Random(4), refusing: true, fuel: Amount::Random(5), random: 7, ..Self::named("small output that refuses every second call") },
            Self { snapshots: EveryReturn, ..Self::named("all at once, restored after every return") },
            Self { chunk: One, snapshots: EveryReturn, ..Self::named("one record at a time, restored after every return") },
            Self { fuel: One, snapshots: EveryReturn, ..Self::named("fuel 1, restored after every return") },
            Self { limit: One, snapshots: EveryReturn, ..Self::named("output of one record, restored after every return") },
            Self { fuel: One, limit: One, refusing: true, snapshots: EveryReturn, ..Self::named("fuel 1, refusing output, restored after every return") },
        ]
    }

    fn random(seed: u64) -> Self {
        Self {
            chunk: Amount::Random(9),
            fuel: Amount::Random(7),
            limit: Amount::Random(6),
            refusing: seed.is_multiple_of(3),
            snapshots: if seed.is_multiple_of(2) { Snapshots::Sometimes } else { Snapshots::Never },
            random: seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            name: format!("random budgets, seed {seed}"),
        }
    }

    /// The next number of a SplitMix64 sequence, below `below`.
    fn draw(&mut self, below: u32) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(below)) as usize
    }

    fn amount(&mut self, amount: Amount) -> usize {
        match amount {
            Amount::One => 1,
            Amount::All => AMPLE,
            Amount::Random(most) => 1 + self.draw(most),
        }
    }
}

/// One run of a script in one mode.
struct Run<'a, In, Out> {
    kit: &'a Torture<In, Out>,
    mode: Mode,
    instance: Instance<In, Out>,
    out: Collector<Out>,
    /// The output's limit.
    limit: usize,
    input: Batch<In>,
    segments: Vec<Segment>,
    watermark: i64,
    calls: usize,
    /// Fuel spent in the current step.
    fuel_spent: usize,
    restores: usize,
    /// The most that one call has emitted.
    most: usize,
    /// What one unit of fuel may bring, once that is known.
    per_fuel: Option<usize>,
}

impl<'a, In, Out> Run<'a, In, Out>
where
    In: Clone + Debug + 'static,
    Out: Debug + 'static,
{
    fn start(kit: &'a Torture<In, Out>, mode: Mode, per_fuel: Option<usize>) -> Result<Self, TortureFailure> {
        let instance = kit.setup.open(None, MIN_WATERMARK).map_err(|error| TortureFailure {
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
            calls: 0,
            fuel_spent: 0,
            restores: 0,
            most: 1,
            per_fuel,
        })
    }

    fn follow(&mut self, script: &Script<In>) -> Result<(), Violation> {
        let mut steps = script.steps();
        while let Some(step) = steps.first() {
            let mut used = 1;
            match step {
                Step::Record(..) => used = self.records(steps)?,
                Step::Watermark(wm) => self.advance(*wm)?,
                Step::ProcessingTime(ms) => self.processing_time(*ms)?,
            }
            steps = &steps[used..];
        }
        self.advance(MAX_WATERMARK)?;
        self.begin("the end of input".to_owned(), false);
        self.perform(&Call::End)?;
        self.instance.close().map_err(Violation::Failed)
    }

    fn begin(&mut self, label: String, by_records: bool) {
        let sides = self.kit.setup.sides.iter().map(|side| (side.name().to_owned(), Vec::new())).collect();
        self.segments.push(Segment { label, by_records, main: Vec::new(), sides });
    }

    /// Processes the records at the front of `steps`, in chunks; returns how many there are.
    fn records(&mut self, steps: &[Step<In>]) -> Result<usize, Violation> {
        let run = steps.iter().take_while(|step| matches!(step, Step::Record(..))).count();
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
            self.maybe_restore(progress)?;
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
            let Self { instance, input, out, calls, .. } = self;
            let id = *calls as u64;
            let made = catch_unwind(AssertUnwindSafe(|| match call {
                Some(call) => instance.call(call, input, out, &mut budget),
                None => instance.before_barrier(id, out, &mut budget),
            }));
            made.map_err(|panic| Violation::Panicked(panic_text(&*panic)))?.map_err(Violation::Failed)?
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
                Err(Violation::DoneWithInput { left: self.input.len() })
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
            return Err(Violation::PushedIntoFull { pushed: side_pushed + pushed });
        }
        if let Some(per_fuel) = self.per_fuel {
            let allowed = (self.limit - 1).max(before.len).saturating_add(per_fuel);
            if self.out.len() > allowed {
                return Err(Violation::Overshot { emitted: pushed, allowed: allowed - before.len });
            }
        }
        Ok(())
    }

    /// Moves what was emitted into the current segment.
    fn collect(&mut self) {
        let limit = self.mode.amount(self.mode.limit);
        let Some(segment) = self.segments.last_mut() else { return };
        let key = self.kit.key.as_ref();
        segment.main.extend(take_all(&mut self.out).into_iter().map(|(record, time)| Item {
            key: key.map(|key| key(&record)),
            text: format!("{record:?}"),
            time,
        }));
        for (side, (_, items)) in self.kit.setup.sides.iter().zip(&mut segment.sides) {
            let taken = side.take_text(&self.instance.services, limit);
            items.extend(taken.into_iter().map(|(text, time)| Item { key: None, text, time }));
        }
    }

    /// After a return: snapshots, and goes on with a new instance, if the mode says so.
    fn maybe_restore(&mut self, progress: Progress) -> Result<(), Violation> {
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
            self.instance = self.kit.setup.open(Some(&snapshot), self.watermark).map_err(Violation::Failed)?;
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
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
