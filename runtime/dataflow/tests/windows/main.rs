//! Windows against naive models, and the fast paths against the general operator.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it stands"
)]

mod case;
mod directed;
mod driver;
mod model;
mod stagger;
mod subject;

use case::{Case, Drive, Step, Trig};
use driver::Driver;
use hurtig_dataflow::timers::{EVENT_SECTION, PROCESSING_SECTION};
use hurtig_state::OperatorSnapshot;
use model::{Fired, Model};
use proptest::prelude::*;
use proptest::test_runner::Config;
use subject::{Kind, build};

/// Where record times and watermarks begin.
const BASE: i64 = 20;

fn sorted<T: Clone + std::fmt::Debug>(items: &[T]) -> Vec<String> {
    let mut texts: Vec<_> = items.iter().map(|item| format!("{item:?}")).collect();
    texts.sort();
    texts
}

/// What an aggregate would make of all elements.
fn summed(fired: &Fired) -> Fired {
    let (key, window, values, time) = fired;
    (
        *key,
        *window,
        vec![values.len() as i64, values.iter().sum()],
        *time,
    )
}

/// What a reducing function would make of them; nothing of none.
fn reduced(fired: &Fired) -> Option<Fired> {
    let (key, window, values, time) = fired;
    let value = values.iter().copied().reduce(|sum, value| sum + value)?;
    Some((*key, *window, vec![value], *time))
}

/// The general operator remembers no window and no timer longer than it has to.
fn check_remembered(model: &Model, snapshot: &OperatorSnapshot) -> Result<(), TestCaseError> {
    let (windows, timers) = model.remembered();
    let stored = snapshot.section("windows").len();
    prop_assert!(windows.contains(&stored), "{} windows of {:?}", stored, windows);
    // The custom trigger leaves its timers behind.
    if model.case.trig != Trig::Odd {
        let stored = [EVENT_SECTION, PROCESSING_SECTION].map(|section| snapshot.section(section).len());
        prop_assert_eq!(stored, timers, "timers");
    }
    Ok(())
}

fn check_against_model(case: &Case, kind: Kind, steps: &[Step], drive: Drive) -> Result<(), TestCaseError> {
    let mut model = Model::new(case.clone());
    let mut driver = Driver::new(|| build(case, kind), drive);
    let (mut wm, mut clock) = (BASE, 0);
    for step in steps
        .iter()
        .chain(&[Step::Watermark(i64::MAX), Step::Clock(1_000)])
    {
        match step {
            Step::Records(records, hashed) => {
                let records: Vec<_> = records.iter().map(|(t, rec)| (wm + t, rec.clone())).collect();
                records.iter().for_each(|(t, rec)| model.record(*t, rec));
                driver.records(&records, *hashed);
            }
            Step::Watermark(by) => {
                wm = wm.saturating_add(*by);
                model.watermark(wm);
                driver.watermark(wm);
            }
            Step::Clock(by) => {
                clock += by;
                model.clock(clock);
                driver.clock(clock);
            }
            Step::Restore | Step::Restart => {
                let snapshot = driver.restore();
                let fast =
                    matches!(kind, Kind::Fast { .. } | Kind::Aggregate | Kind::Reducing) && case.is_fast();
                if !fast {
                    check_remembered(&model, &snapshot)?;
                }
            }
        }
        // Timers of a time that has passed already are due at once.
        model.clock(clock);
        let expected: Vec<_> = match kind {
            Kind::Fast { shareable: true } | Kind::General { shareable: true } => {
                model.out.iter().map(summed).collect()
            }
            Kind::Reducing => model.out.iter().filter_map(reduced).collect(),
            _ => model.out.clone(),
        };
        prop_assert_eq!(sorted(&driver.out), sorted(&expected), "after {:?}", step);
        if matches!(step, Step::Watermark(_)) && matches!(kind, Kind::Fast { .. }) {
            prop_assert!(
                driver.out.is_sorted_by_key(|fired| fired.3),
                "windows fire in time order"
            );
        }
        let late = if case.side { &model.late[..] } else { &[] };
        prop_assert_eq!(&driver.late[..], late);
        model.out.clear();
        driver.out.clear();
    }
    Ok(())
}

/// Both operators of one case give the same results after every step, restarts included.
fn check_same(case: &Case, shareable: bool, steps: &[Step], drives: [Drive; 2]) -> Result<(), TestCaseError> {
    let mut fast = Driver::new(|| build(case, Kind::Fast { shareable }), drives[0]);
    let mut general = Driver::new(|| build(case, Kind::General { shareable }), drives[1]);
    let (mut base, mut wm, mut clock) = (BASE, BASE, 0);
    for step in steps
        .iter()
        .chain(&[Step::Watermark(i64::MAX), Step::Clock(1_000)])
    {
        for driver in [&mut fast, &mut general] {
            match step {
                Step::Records(records, hashed) => {
                    let records: Vec<_> = records.iter().map(|(t, rec)| (base + t, rec.clone())).collect();
                    driver.records(&records, *hashed);
                }
                Step::Watermark(by) => driver.watermark(wm.saturating_add(*by)),
                Step::Clock(by) => driver.clock(clock + by),
                Step::Restore => drop(driver.restore()),
                Step::Restart => driver.restart(),
            }
        }
        match step {
            Step::Watermark(by) => {
                wm = wm.saturating_add(*by);
                base = base.max(wm);
            }
            Step::Clock(by) => clock += by,
            // Event time begins anew, a little before where it was.
            Step::Restart => wm -= 8,
            _ => {}
        }
        prop_assert_eq!(sorted(&fast.out), sorted(&general.out), "after {:?}", step);
        prop_assert_eq!(&fast.late, &general.late);
        fast.out.clear();
        general.out.clear();
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_general_operator_does_what_the_definitions_say(
        case in case::case(), steps in case::steps(false), drive in case::drive(),
    ) {
        check_against_model(&case, Kind::Elements, &steps, drive)?;
    }

    #[test]
    fn aggregates_do_what_the_definitions_say_whatever_fires_and_evicts(
        case in case::case(), reducing: bool, steps in case::steps(false), drive in case::drive(),
    ) {
        let kind = if reducing { Kind::Reducing } else { Kind::Aggregate };
        check_against_model(&case, kind, &steps, drive)?;
    }

    #[test]
    fn grid_windows_with_an_aggregate_do_what_the_definitions_say(
        assign in case::grid(), event_time in prop::bool::weighted(0.8), shareable: bool, lateness in case::lateness(),
        side: bool, steps in case::steps(false), drive in case::drive(),
    ) {
        let case = Case::by_default(assign, event_time, (lateness, side));
        check_against_model(&case, Kind::Fast { shareable }, &steps, drive)?;
    }

    #[test]
    fn sessions_with_an_aggregate_do_what_the_definitions_say(
        assign in case::session(), event_time in prop::bool::weighted(0.8), shareable: bool, lateness in case::lateness(),
        side: bool, steps in case::steps(false), drive in case::drive(),
    ) {
        let case = Case::by_default(assign, event_time, (lateness, side));
        check_against_model(&case, Kind::Fast { shareable }, &steps, drive)?;
    }

    #[test]
    fn fast_and_general_operators_agree_also_when_event_time_starts_again(
        assign in prop_oneof![case::grid(), case::session()], event_time in prop::bool::weighted(0.9), shareable: bool,
        lateness in case::lateness(), side: bool, steps in case::steps(true), drives in [case::drive(), case::drive()],
    ) {
        let case = Case::by_default(assign, event_time, (lateness, side));
        check_same(&case, shareable, &steps, drives)?;
    }
}
