//! Measuring: contenders take turns in the same run, and the median of the rounds counts.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

/// What can go wrong in a bench, for whoever runs it.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// One run's figure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// The figure that is compared: records a second, or a delay in milliseconds.
    pub value: f64,
    /// Checksum of the run's results, by which contenders that did the same work are compared.
    pub checksum: u64,
    /// Further figures by name, for the row's parameters.
    pub details: Vec<(&'static str, f64)>,
}

/// Against whom a figure is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The engine itself.
    Engine,
    /// A loop written by hand, alone on the machine.
    Loop,
    /// The same loop, as often at once as the engine has subtasks.
    LoopAtOnce,
    /// Another engine, at the same parallelism.
    Peer,
}

/// The detail of a rate that says what one record cost.
pub(crate) const CPU_NS: &str = "cpu_ns_per_record";

/// Something that can be measured.
pub(crate) struct Contender {
    /// Its name in tables.
    pub name: &'static str,
    /// Against whom it is held.
    pub role: Role,
    run: Box<dyn Fn() -> Result<Sample, Failure>>,
}

impl Contender {
    /// A contender.
    pub(crate) fn new(
        name: &'static str,
        role: Role,
        run: impl Fn() -> Result<Sample, Failure> + 'static,
    ) -> Self {
        Self {
            name,
            role,
            run: Box::new(run),
        }
    }

    /// Runs it once.
    pub(crate) fn sample(&self) -> Result<Sample, Failure> {
        (self.run)()
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A contender's figures, one a round.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Its name.
    pub name: &'static str,
    /// Against whom it is held.
    pub role: Role,
    /// Its samples in the order they were taken.
    pub samples: Vec<Sample>,
}

impl Measured {
    /// Median of its values.
    pub(crate) fn value(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.value).collect())
    }

    /// Median of each of its details.
    pub(crate) fn details(&self) -> Vec<(&'static str, f64)> {
        let names = self.samples.first().map_or(&[][..], |sample| &sample.details);
        let values = |at: usize| {
            self.samples
                .iter()
                .filter_map(move |sample| Some(sample.details.get(at)?.1))
        };
        names
            .iter()
            .enumerate()
            .map(|(at, (name, _))| (*name, median(values(at).collect())))
            .collect()
    }
}

/// Lets all contenders run `rounds` times. They take turns within a round, and each round begins with
/// another one, so that what happens to the machine happens to all of them; `before_round` looks at it.
pub(crate) fn interleaved(
    contenders: &[Contender],
    rounds: usize,
    mut before_round: impl FnMut(),
) -> Result<Vec<Measured>, Failure> {
    let empty = |c: &Contender| Measured {
        name: c.name,
        role: c.role,
        samples: Vec::new(),
    };
    let mut measured: Vec<Measured> = contenders.iter().map(empty).collect();
    for round in 0..rounds {
        before_round();
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            let sample = contenders[at]
                .sample()
                .map_err(|e| format!("{}: {e}", contenders[at].name))?;
            measured[at].samples.push(sample);
        }
    }
    Ok(measured)
}

/// The middle value; the upper of two, and 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Runs `work` and measures its rate, and what it cost of all processors together.
pub(crate) fn rate(records: u64, work: impl FnOnce() -> Result<u64, Failure>) -> Result<Sample, Failure> {
    let (start, cpu_before) = (now(), cpu_seconds());
    let checksum = work()?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
    let details = vec![(CPU_NS, cpu * 1e9 / records as f64)];
    Ok(Sample {
        value: records as f64 / seconds,
        checksum,
        details,
    })
}

/// Processor time that this process has used, of all its threads; 0 where the system does not tell.
/// Unlike a rate it says what a record cost also while other programs use the machine.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in parentheses: state, ten numbers, user ticks, system ticks.
    let numbers = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2);
    numbers.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// The machine's clock.
#[expect(clippy::disallowed_methods, reason = "a bench measures the machine's time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Blocks the thread until `deadline`.
#[expect(
    clippy::disallowed_methods,
    reason = "a loop written by hand has a thread to itself"
)]
pub(crate) fn sleep_until(deadline: Instant) {
    let left = deadline.saturating_duration_since(now());
    if left > Duration::ZERO {
        std::thread::sleep(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![2.0, 1.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn contenders_take_turns_and_none_is_always_first() -> Result<(), Failure> {
        let order = Rc::new(RefCell::new(String::new()));
        let contender = |name: &'static str, value: f64| {
            let order = Rc::clone(&order);
            Contender::new(name, Role::Loop, move || {
                order.borrow_mut().push_str(name);
                Ok(Sample {
                    value,
                    checksum: 0,
                    details: vec![("double", value * 2.0)],
                })
            })
        };
        let measured = interleaved(&[contender("a", 1.0), contender("b", 2.0)], 3, || {
            order.borrow_mut().push(' ');
        })?;
        assert_eq!(*order.borrow(), " ab ba ab");
        assert_eq!(measured[1].value(), 2.0);
        assert_eq!(measured[1].details(), vec![("double", 4.0)]);
        Ok(())
    }

    #[test]
    fn work_costs_processor_time() -> Result<(), Failure> {
        let sample = rate(1, || {
            let start = now();
            while start.elapsed() < Duration::from_millis(50) {}
            Ok(7)
        })?;
        assert_eq!(sample.checksum, 7);
        assert!(sample.value <= 20.0 && sample.details[0].1 >= 0.0);
        assert!(cpu_seconds() > 0.0);
        Ok(())
    }

    #[test]
    fn a_failure_names_its_contender() {
        let fails = Contender::new("engine", Role::Engine, || Err("no room".into()));
        assert!(interleaved(&[fails], 1, || ()).is_err_and(|e| e.to_string() == "engine: no room"));
    }
}
