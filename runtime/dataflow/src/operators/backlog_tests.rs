//! The merger against a naive model.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Set(usize, bool),
    End(usize),
    /// Other inputs in the place of so many from one on.
    Replace(usize, usize, Vec<bool>),
}

/// Which planted bug a model has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    /// All inputs must be in backlog, not any.
    All,
    /// An input that ends stays in backlog.
    CountsEnded,
    /// What was said last is believed, whoever said it.
    LastWord,
    /// Inputs that are replaced leave their backlog behind.
    CountsReplaced,
}

/// Everything is computed anew after each step.
struct Model {
    inputs: Vec<bool>,
    left_behind: bool,
    last: bool,
    bug: Bug,
}

impl Model {
    fn is_backlog(&self) -> bool {
        match self.bug {
            Bug::All => self.inputs.iter().all(|input| *input),
            Bug::LastWord => self.last,
            Bug::CountsReplaced if self.left_behind => true,
            _ => self.inputs.contains(&true),
        }
    }

    fn step(&mut self, step: &Step) -> Option<bool> {
        let before = self.is_backlog();
        match step {
            Step::Set(input, backlog) => {
                self.inputs[*input] = *backlog;
                self.last = *backlog;
            }
            Step::End(_) if self.bug == Bug::CountsEnded => {}
            Step::End(input) => {
                self.inputs[*input] = false;
                self.last = false;
            }
            Step::Replace(from, count, by) => {
                let range = *from..*from + *count;
                self.left_behind |= self.inputs[range.clone()].contains(&true);
                self.inputs.splice(range, by.iter().copied());
                self.last = by.contains(&true);
            }
        }
        let after = self.is_backlog();
        (after != before).then_some(after)
    }
}

const INPUTS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let input = 0..INPUTS;
    prop_oneof![
        8 => (input.clone(), any::<bool>()).prop_map(|(input, backlog)| Step::Set(input, backlog)),
        2 => input.clone().prop_map(Step::End),
        1 => (input, prop::collection::vec(any::<bool>(), 1..INPUTS)).prop_map(|(from, by)| {
            let count = by.len().min(INPUTS - from);
            Step::Replace(from, count, by[..count].to_vec())
        }),
    ]
}

fn compare(steps: &[Step], bug: Bug) -> Result<(), TestCaseError> {
    let mut merger = BacklogMerger::new(vec![false; INPUTS]);
    let mut model = Model {
        inputs: vec![false; INPUTS],
        left_behind: false,
        last: false,
        bug,
    };
    for step in steps {
        let turned = match step {
            Step::Set(input, backlog) => merger.set(*input, *backlog),
            Step::End(input) => merger.end(*input),
            Step::Replace(from, count, by) => merger.replace(*from..*from + *count, by),
        };
        prop_assert_eq!(turned, model.step(step), "at {:?}", step);
        prop_assert_eq!(merger.is_backlog(), model.is_backlog());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn merging_agrees_with_a_naive_model(steps in prop::collection::vec(step(), 0..40)) {
        compare(&steps, Bug::None)?;
    }
}

/// The comparison above is worth something: it tells each of these bugs from the merger.
#[test]
fn the_comparison_finds_planted_bugs() {
    for bug in [Bug::All, Bug::CountsEnded, Bug::LastWord, Bug::CountsReplaced] {
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

#[test]
fn inputs_that_begin_in_backlog_count_from_the_start() {
    let mut merger = BacklogMerger::new(vec![true, false]);
    assert!(merger.is_backlog() && merger.input(0) && !merger.input(1));
    assert_eq!(merger.set(0, true), None, "it is in backlog already");
    assert_eq!(merger.set(0, false), Some(false));
}
