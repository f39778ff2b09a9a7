//! Runs seeds from the command line: `SIM_SEED=1 SIM_SEEDS=1000 cargo run -p hurtig-simulation --example seeds`.
//!
//! `SIM_SEED` is the first seed, `SIM_SEEDS` how many there are, `SIM_ROUNDS` how many rounds of faults each run has.

#![allow(clippy::print_stdout, reason = "it is there to be read")]

use hurtig_simulation::{Scenario, simulate};
use std::process::ExitCode;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[allow(clippy::disallowed_methods, reason = "it measures how fast the simulator is")]
fn main() -> ExitCode {
    let (first, seeds) = (number("SIM_SEED", 1), number("SIM_SEEDS", 1));
    let rounds = u32::try_from(number("SIM_ROUNDS", 5)).unwrap_or(5);
    let scenario = match rounds {
        0 => Scenario::calm(),
        rounds => Scenario::standard(rounds),
    };
    let begin = std::time::Instant::now();
    let mut failed = 0;
    let mut totals = [0_u64; 12];
    for seed in first..first + seeds {
        let outcome = match simulate(seed, &scenario) {
            Ok(outcome) => outcome,
            Err(why) => {
                println!("{why}");
                return ExitCode::FAILURE;
            }
        };
        if seeds == 1 {
            outcome.story.iter().for_each(|line| println!("{line}"));
            println!("{:?}", outcome.faults);
        }
        if !outcome.violations.is_empty() {
            failed += 1;
            println!("seed {seed}: {}", outcome.violations.join("; "));
        }
        let faults: u64 = outcome.faults.values().sum();
        let of_run = [
            outcome.steps,
            faults,
            outcome.checks,
            outcome.recoveries,
            outcome.checkpoints,
            outcome.transactions,
            outcome.terms,
            outcome.replaced,
            outcome.fenced,
            outcome.lost,
            u64::from(outcome.gave_up),
            outcome.time.as_secs(),
        ];
        totals
            .iter_mut()
            .zip(of_run)
            .for_each(|(total, of_run)| *total += of_run);
    }
    let names = [
        "steps",
        "faults",
        "checks",
        "recoveries",
        "checkpoints",
        "transactions",
        "terms",
        "JobMasters replaced",
        "messages fenced",
        "messages lost",
        "given up",
        "virtual seconds",
    ];
    let shown: Vec<String> = names
        .iter()
        .zip(totals)
        .map(|(name, total)| format!("{total} {name}"))
        .collect();
    let took = begin.elapsed().as_secs_f64();
    println!("seeds {first} to {}: {}", first + seeds - 1, shown.join(", "));
    println!("{failed} failed; {:.1} seeds/s", seeds as f64 / took);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
