//! The torture kit: every way in which the engine may call an operator, against one plain run.
//!
//! An operator is run one record at a time and all at once, with an output of one record, with an
//! output that refuses every second call, with one unit of fuel, with random budgets and chunks,
//! and with a snapshot after every return that is restored into a new instance. Every run must emit
//! what the plain run did: in order, or per key where [`Torture::per_key`] says so; what timers of one
//! event emit is compared as a multiset with its times in order. Every call must keep the contract
//! of [`crate::operator`] ([`super::Violation`] lists what is checked).

use super::compare::{Segment, compare};
use super::instance::Setup;
use super::mode::{Amount, Mode};
use super::run::Run;
use super::script::Script;
use super::two_input::{Either, Joined};
use super::violation::TortureFailure;
use crate::operator::{Operator, OutputTag, SubtaskInfo, TwoInputOperator};
use hurtig_core::time::ManualClock;
use std::fmt::Debug;

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
pub fn torture_two_input<A, B, Out, O>(
    factory: impl Fn() -> O + 'static,
    script: &Script<Either<A, B>>,
) -> TortureReport
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

/// The key of an output, as text.
type KeyText<Out> = Box<dyn Fn(&Out) -> String>;

/// The torture kit with its settings.
pub struct Torture<In, Out> {
    pub(super) setup: Setup<In, Out>,
    pub(super) key: Option<KeyText<Out>>,
    seeds: u64,
}

impl<In, Out> Debug for Torture<In, Out> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Torture")
            .field("setup", &self.setup)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}

impl<In, Out> Torture<In, Out>
where
    In: Clone + Debug + 'static,
    Out: Debug + 'static,
{
    /// A kit for the operators that `factory` makes.
    pub fn new<O: Operator<In, Out> + 'static>(factory: impl Fn() -> O + 'static) -> Self {
        Self {
            setup: Setup::new(Box::new(move || Box::new(factory()))),
            key: None,
            seeds: 24,
        }
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
        let steps = self.once(
            Mode {
                fuel: Amount::One,
                ..Mode::named("fuel 1")
            },
            script,
            None,
            &mut report,
        )?;
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
            Ok(()) => Ok(Trace {
                mode: run.mode.name,
                segments: run.segments,
                most: run.most,
            }),
            Err(violation) => {
                let step = run
                    .segments
                    .last()
                    .map_or_else(|| "opening".to_owned(), |s| s.label.clone());
                Err(TortureFailure {
                    mode: run.mode.name,
                    step,
                    violation,
                })
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
