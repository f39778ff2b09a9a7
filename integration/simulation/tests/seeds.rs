//! Runs of the whole control plane, from seeds.

#![allow(
    clippy::print_stdout,
    reason = "what was covered is printed, and the seeds of the day"
)]

use hurtig_simulation::{Fault, Outcome, Scenario, simulate};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seeds that are always run.
const FIXED: std::ops::Range<u64> = 1..101;
/// As many are drawn from the date.
const OF_THE_DAY: u64 = 100;
/// Rounds of faults of each run.
const ROUNDS: u32 = 5;

fn run(seed: u64, scenario: &Scenario) -> Outcome {
    let outcome = simulate(seed, scenario).unwrap_or_else(|why| panic!("{why}"));
    assert!(
        outcome.violations.is_empty(),
        "seed {seed}: {}\n{}\nrepeat it with SIM_SEED={seed} SIM_ROUNDS={} cargo run -p hurtig-simulation --example seeds",
        outcome.violations.join("\n"),
        outcome.story.join("\n"),
        scenario.rounds,
    );
    outcome
}

/// Runs seeds, says what they have covered, and sees that each has covered what the standard scenario is to.
fn run_all(seeds: impl Iterator<Item = u64>) -> Vec<Outcome> {
    let scenario = Scenario::standard(ROUNDS);
    let outcomes: Vec<Outcome> = seeds.map(|seed| run(seed, &scenario)).collect();
    for outcome in outcomes.iter().filter(|outcome| !outcome.gave_up) {
        let faults: u64 = outcome.faults.values().sum();
        assert!(outcome.checkpoints >= 10 && faults >= 5, "{outcome:#?}");
        assert!(outcome.terms > 1 && outcome.replaced > 0, "{outcome:#?}");
        assert!(outcome.steps > 0 && outcome.checks > 0 && outcome.recoveries > 0);
    }
    let total = |what: fn(&Outcome) -> u64| outcomes.iter().map(what).sum::<u64>();
    let faults = |outcome: &Outcome| outcome.faults.values().sum();
    println!(
        "{} runs: {} steps, {} faults, {} checks, {} recoveries, {} checkpoints, {} terms, {} JobMasters replaced",
        outcomes.len(),
        total(|outcome| outcome.steps),
        total(faults),
        total(|outcome| outcome.checks),
        total(|outcome| outcome.recoveries),
        total(|outcome| outcome.checkpoints),
        total(|outcome| outcome.terms),
        total(|outcome| outcome.replaced),
    );
    outcomes
}

#[test]
fn a_job_runs_to_its_end_when_nothing_goes_wrong() {
    for seed in 1..6 {
        let outcome = run(seed, &Scenario::calm());
        assert!(
            outcome.checkpoints >= 2 && outcome.transactions >= 4,
            "{outcome:#?}"
        );
        assert_eq!((outcome.terms, outcome.replaced, outcome.faults.len()), (1, 0, 0));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let scenario = Scenario::standard(ROUNDS);
    for seed in [7, 8] {
        let (first, second) = (run(seed, &scenario), run(seed, &scenario));
        assert_eq!(first, second);
        assert_ne!(first.trace, run(seed + 100, &scenario).trace);
    }
}

/// Every kind of fault happens, and what it should lead to does too.
#[test]
fn fixed_seeds_keep_every_promise() {
    let outcomes = run_all(FIXED);
    let mut faults: BTreeMap<Fault, u64> = BTreeMap::new();
    for outcome in &outcomes {
        outcome
            .faults
            .iter()
            .for_each(|(fault, times)| *faults.entry(*fault).or_default() += times);
    }
    for fault in Fault::ALL {
        assert!(
            faults.contains_key(&fault),
            "{fault:?} has never happened: {faults:?}"
        );
    }
    let any = |what: fn(&Outcome) -> bool| outcomes.iter().any(what);
    assert!(
        any(|outcome| outcome.repeated_commits > 0),
        "nothing was committed again"
    );
    assert!(any(|outcome| outcome.lost > 0), "no message was lost");
    let given_up = outcomes.iter().filter(|outcome| outcome.gave_up).count();
    assert!(given_up * 5 < outcomes.len(), "{given_up} jobs were given up");
}

/// Other seeds every day.
#[test]
fn seeds_of_the_day_keep_every_promise() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the seeds are drawn from the date, which is printed"
    )]
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let first = 1_000_000 + now.as_secs() / 86_400 * 1_000;
    println!("seeds from {first}");
    run_all(first..first + OF_THE_DAY);
}
