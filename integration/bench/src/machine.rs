//! What the machine gives: how many threads' worth of work several threads get done at once.
//!
//! Virtual processors may be hardware threads of one core, or be shared with other machines. Two threads
//! then do less than twice the work of one, whatever they run, and a figure per core says nothing
//! about the engine. The probe keeps a core's units of arithmetic busy and touches no memory.

use crate::measure::now;
use std::hint::black_box;

/// Steps of the probe: some 15 ms.
const STEPS: u64 = 4_000_000;
/// Chains of multiplications that do not depend on each other, enough to leave no unit idle.
const CHAINS: usize = 8;
/// The least part of `n` threads' work that makes `n` cores of a machine.
const WHOLE: f64 = 0.9;

/// How many threads' worth of work `threads` threads get done at once; 1 when a thread cannot be started.
pub(crate) fn cores(threads: u32) -> f64 {
    let start = now();
    black_box(chains(STEPS));
    let alone = start.elapsed();
    let start = now();
    let others: Vec<_> = (1..threads)
        .map(|_| std::thread::Builder::new().spawn(|| black_box(chains(STEPS))))
        .collect();
    black_box(chains(STEPS));
    let complete = others
        .into_iter()
        .all(|other| other.is_ok_and(|thread| thread.join().is_ok()));
    if !complete {
        return 1.0;
    }
    f64::from(threads) * alone.as_secs_f64() / start.elapsed().as_secs_f64()
}

/// Whether `cores` are those that `threads` threads need.
pub(crate) fn suffices(cores: f64, threads: u32) -> bool {
    cores >= WHOLE * f64::from(threads)
}

fn chains(steps: u64) -> u64 {
    let mut values: [u64; CHAINS] = std::array::from_fn(|at| at as u64 + 1);
    for step in 0..steps {
        for value in &mut values {
            *value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ step;
        }
        values = black_box(values);
    }
    values.iter().fold(0, |sum, value| sum ^ value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_has_one_core() {
        let one = cores(1);
        assert!((0.2..5.0).contains(&one), "{one}");
        assert!(suffices(1.8, 2) && !suffices(1.79, 2));
    }
}
