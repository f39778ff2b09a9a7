//! The merger against a naive model, and case by case.

use super::*;
use WatermarkStatus::{Active, Idle};
use proptest::prelude::*;

fn wm(watermark: i64) -> WatermarkUpdate {
    WatermarkUpdate {
        watermark: Some(watermark),
        status: None,
    }
}

#[test]
fn the_least_input_decides() {
    let mut merger = WatermarkMerger::new(2);
    assert_eq!(merger.watermark(0, 10), WatermarkUpdate::NONE);
    assert_eq!(merger.watermark(1, 7), wm(7));
    assert_eq!(merger.watermark(1, 5), WatermarkUpdate::NONE);
    assert_eq!(merger.watermark(1, 12), wm(10));
}

#[test]
fn an_idle_input_does_not_count_and_returns_when_it_has_caught_up() {
    let mut merger = WatermarkMerger::new(2);
    let _ = merger.watermark(0, 10);
    assert_eq!(merger.status(1, Idle), wm(10));
    assert_eq!(merger.status(1, Active), WatermarkUpdate::NONE);
    assert_eq!(merger.watermark(1, 5), WatermarkUpdate::NONE);
    // Behind the result, it is not waited for.
    assert_eq!(merger.watermark(0, 11), wm(11));
    // Caught up, it is.
    assert_eq!(merger.watermark(1, 11), WatermarkUpdate::NONE);
    assert_eq!(merger.watermark(0, 20), WatermarkUpdate::NONE);
    assert_eq!(merger.watermark(1, 15), wm(15));
}

#[test]
fn when_the_last_input_turns_idle_the_greatest_watermark_is_given_out() {
    let mut merger = WatermarkMerger::new(2);
    let _ = merger.watermark(0, 10);
    let _ = merger.watermark(1, 4);
    assert_eq!(merger.status(0, Idle), WatermarkUpdate::NONE);
    assert_eq!(
        merger.status(1, Idle),
        WatermarkUpdate {
            watermark: Some(10),
            status: Some(Idle)
        }
    );
    assert_eq!(
        merger.status(1, Active),
        WatermarkUpdate {
            watermark: None,
            status: Some(Active)
        }
    );
}

#[test]
fn event_time_ends_when_every_input_has_ended() {
    let mut merger = WatermarkMerger::new(3);
    let _ = merger.watermark(0, 10);
    let _ = merger.status(2, Idle);
    assert_eq!(merger.end(1), wm(10));
    assert_eq!(
        merger.watermark(0, MAX_WATERMARK),
        WatermarkUpdate {
            watermark: None,
            status: Some(Idle)
        }
    );
    assert_eq!(
        merger.end(2),
        WatermarkUpdate {
            watermark: Some(MAX_WATERMARK),
            status: Some(Active)
        }
    );
    assert!(merger.all_ended());
}

#[test]
fn events_are_ordered_around_the_status() {
    let idle = WatermarkUpdate {
        watermark: Some(3),
        status: Some(Idle),
    };
    assert_eq!(
        idle.events().collect::<Vec<_>>(),
        [Event::Watermark(3), Event::Status(Idle)]
    );
    let active = WatermarkUpdate {
        watermark: Some(3),
        status: Some(Active),
    };
    assert_eq!(
        active.events().collect::<Vec<_>>(),
        [Event::Status(Active), Event::Watermark(3)]
    );
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Watermark(usize, i64),
    Idle(usize),
    Active(usize),
    End(usize),
    /// Another merger goes on where this one stands.
    GoOn,
}

/// Which planted bug a merger has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    /// An idle input is still waited for.
    CountsIdle,
    /// A returning input is aligned at once.
    AlignsAtOnce,
    /// Nothing is given out when all are idle.
    NoFlush,
    /// An ended input is still waited for.
    CountsEnded,
    /// A returning input is aligned at once, and the result follows it back.
    MovesBack,
}

/// Flink's valve, written from its description without any shortcut: everything is computed anew
/// after each step.
struct Model {
    /// Watermark, idle, ended, aligned.
    inputs: Vec<(i64, bool, bool, bool)>,
    result: i64,
    idle: bool,
    bug: Bug,
}

impl Model {
    fn new(inputs: usize, bug: Bug) -> Self {
        Self {
            inputs: vec![(MIN_WATERMARK, false, false, true); inputs],
            result: MIN_WATERMARK,
            idle: false,
            bug,
        }
    }

    fn least(&self) -> Option<i64> {
        let counts = |i: &&(i64, bool, bool, bool)| {
            i.3 || (self.bug == Bug::CountsIdle && i.1 && !i.2) || (self.bug == Bug::CountsEnded && i.2)
        };
        self.inputs.iter().filter(counts).map(|i| i.0).min()
    }

    fn emit(&mut self, to: Option<i64>) -> Option<i64> {
        let to = to.filter(|&to| to > self.result || (self.bug == Bug::MovesBack && to != self.result))?;
        self.result = to;
        Some(to)
    }

    fn step(&mut self, step: Step) -> WatermarkUpdate {
        match step {
            Step::Watermark(i, MAX_WATERMARK) => self.step(Step::End(i)),
            Step::Watermark(i, w) => {
                let result = self.result;
                let input = &mut self.inputs[i];
                if input.1 || input.2 || w <= input.0 {
                    return WatermarkUpdate::NONE;
                }
                input.0 = w;
                input.3 |= w >= result;
                let least = self.least();
                WatermarkUpdate {
                    watermark: self.emit(least),
                    status: None,
                }
            }
            Step::Idle(i) => {
                if self.inputs[i].1 || self.inputs[i].2 {
                    return WatermarkUpdate::NONE;
                }
                self.inputs[i].1 = true;
                self.gone(i)
            }
            Step::Active(i) => {
                if !self.inputs[i].1 || self.inputs[i].2 {
                    return WatermarkUpdate::NONE;
                }
                self.inputs[i].1 = false;
                self.inputs[i].3 =
                    self.inputs[i].0 >= self.result || matches!(self.bug, Bug::AlignsAtOnce | Bug::MovesBack);
                let status = self.idle.then_some(Active);
                self.idle = false;
                WatermarkUpdate {
                    watermark: None,
                    status,
                }
            }
            Step::End(i) => self.end(i),
            Step::GoOn => WatermarkUpdate::NONE,
        }
    }

    fn end(&mut self, i: usize) -> WatermarkUpdate {
        if self.inputs[i].2 {
            return WatermarkUpdate::NONE;
        }
        self.inputs[i].2 = true;
        if self.inputs.iter().all(|i| i.2) {
            let status = self.idle.then_some(Active);
            self.idle = false;
            return WatermarkUpdate {
                watermark: self.emit(Some(MAX_WATERMARK)),
                status,
            };
        }
        if self.inputs[i].1 {
            WatermarkUpdate::NONE
        } else {
            self.gone(i)
        }
    }

    fn gone(&mut self, i: usize) -> WatermarkUpdate {
        self.inputs[i].3 = false;
        let was_least = self.inputs[i].0 == self.result;
        let all_idle = self.inputs.iter().all(|i| i.1 || i.2);
        let to = if all_idle {
            self.inputs.iter().map(|i| i.0).max()
        } else {
            self.least()
        };
        let flush = was_least && !(all_idle && self.bug == Bug::NoFlush);
        let watermark = if flush { self.emit(to) } else { None };
        let status = (all_idle && !self.idle).then_some(Idle);
        self.idle |= all_idle;
        WatermarkUpdate { watermark, status }
    }
}

const INPUTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let input = 0..INPUTS;
    prop_oneof![
        12 => (input.clone(), 0i64..12).prop_map(|(i, w)| Step::Watermark(i, w)),
        4 => input.clone().prop_map(Step::Idle),
        4 => input.clone().prop_map(Step::Active),
        1 => input.prop_map(Step::End),
        1 => Just(Step::GoOn),
    ]
}

fn apply(merger: &mut WatermarkMerger, step: Step) -> WatermarkUpdate {
    match step {
        Step::Watermark(i, w) => merger.watermark(i, w),
        Step::Idle(i) => merger.status(i, Idle),
        Step::Active(i) => merger.status(i, Active),
        Step::End(i) => merger.end(i),
        // What has ended is known to the one that it ended for alone.
        Step::GoOn if merger.inputs.iter().any(|input| input.ended) => WatermarkUpdate::NONE,
        Step::GoOn => {
            let inputs: Vec<_> = (0..INPUTS).map(|i| merger.input(i)).collect();
            *merger = WatermarkMerger::going_on(merger.current(), inputs.into_iter());
            WatermarkUpdate::NONE
        }
    }
}

fn compare(steps: &[Step], bug: Bug) -> Result<(), TestCaseError> {
    let mut merger = WatermarkMerger::new(INPUTS);
    let mut model = Model::new(INPUTS, bug);
    let mut last = MIN_WATERMARK;
    for &step in steps {
        let got = apply(&mut merger, step);
        prop_assert_eq!(got, model.step(step), "at {:?}", step);
        prop_assert!(got.watermark.is_none_or(|w| w > last), "event time moved back");
        last = got.watermark.unwrap_or(last);
        prop_assert_eq!(merger.current(), last);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn merging_agrees_with_a_naive_valve(steps in prop::collection::vec(step(), 0..40)) {
        compare(&steps, Bug::None)?;
    }
}

/// The comparison above is worth something: it tells each of these bugs from the valve.
#[test]
fn the_comparison_finds_planted_bugs() {
    for bug in [
        Bug::CountsIdle,
        Bug::AlignsAtOnce,
        Bug::NoFlush,
        Bug::CountsEnded,
        Bug::MovesBack,
    ] {
        let config = ProptestConfig {
            cases: 5_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let mut runner = proptest::test_runner::TestRunner::new_with_rng(
            config,
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        let found = runner.run(&prop::collection::vec(step(), 0..40), |steps| {
            compare(&steps, bug)
        });
        assert!(found.is_err(), "{bug:?} was not found");
    }
}
