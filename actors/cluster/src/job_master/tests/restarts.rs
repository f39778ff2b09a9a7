use super::*;
use crate::job_master::RestartStrategy;
use proptest::prelude::*;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(seconds: f64) -> Time {
    Time::from_nanos((seconds * 1e9) as u64)
}

/// The answers of a strategy to failures at these times.
fn answers(config: RestartStrategyConfig, failures: &[f64]) -> Vec<Option<Duration>> {
    let mut strategy = RestartStrategy::new(config, 1);
    failures
        .iter()
        .map(|failure| strategy.on_failure(at(*failure)))
        .collect()
}

fn exponential(attempts: Option<u32>) -> RestartStrategyConfig {
    RestartStrategyConfig::ExponentialDelay {
        initial: secs(1),
        max: secs(4),
        multiplier: 1.5,
        reset_after: secs(3_600),
        jitter: 0.0,
        attempts,
    }
}

#[test]
fn none_never_forgives() {
    assert_eq!(answers(RestartStrategyConfig::None, &[0.0, 1e6]), [None, None]);
}

#[test]
fn fixed_delay_forgives_so_often() {
    let delay = Some(secs(1));
    assert_eq!(answers(fixed(2), &[0.0, 1.0, 1e6]), [delay, delay, None]);
    let forever = RestartStrategyConfig::FixedDelay {
        attempts: None,
        delay: secs(1),
    };
    assert!(
        answers(forever, &[0.0; 1_000])
            .iter()
            .all(|answer| *answer == delay)
    );
}

#[test]
fn exponential_delays_begin_with_the_first_and_grow_to_the_maximum() {
    let millis = |value| Some(Duration::from_millis(value));
    let delays = answers(exponential(None), &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
    let expected = [1_000, 1_500, 2_250, 3_375, 4_000, 4_000].map(millis);
    assert_eq!(delays, expected);
    // An hour without failure behind the restart forgets everything; a moment less does not.
    let after_an_hour = |seconds| answers(exponential(None), &[0.0, 10.0, 11.5 + seconds])[2];
    assert_eq!(after_an_hour(3_600.0), millis(1_000));
    assert_eq!(after_an_hour(3_599.9), millis(2_250));
    assert_eq!(
        answers(exponential(Some(2)), &[0.0, 10.0, 20.0]),
        [millis(1_000), millis(1_500), None]
    );
    // What fails before the restart has no restart of its own.
    assert_eq!(
        answers(exponential(Some(2)), &[0.0, 0.25, 1.0, 10.0]),
        [1_000, 750, 0, 1_500].map(millis)
    );
}

#[test]
fn failure_rate_counts_failures_within_the_interval() {
    let config = RestartStrategyConfig::FailureRate {
        max_failures: 2,
        interval: secs(10),
        delay: secs(3),
    };
    let go = Some(secs(3));
    assert_eq!(answers(config.clone(), &[0.0, 1.0, 2.0]), [go, go, None]);
    assert_eq!(
        answers(config.clone(), &[0.0, 1.0, 10.0, 11.0, 11.5]),
        [go, go, go, go, None]
    );
    assert_eq!(answers(config, &[0.0, 20.0, 40.0, 60.0]), [go; 4]);
}

proptest! {
    #[test]
    fn jitter_stays_within_its_share(seed: u64, failures in 2..40usize) {
        let config = RestartStrategyConfig::ExponentialDelay {
            initial: secs(1), max: secs(60), multiplier: 1.5, reset_after: secs(3_600), jitter: 0.1, attempts: None,
        };
        let mut strategy = RestartStrategy::new(config, seed);
        for number in 0..failures {
            let now = at(1_000.0 * number as f64);
            let delay = strategy.on_failure(now).unwrap().as_secs_f64();
            let middle = 1.5_f64.powi(number as i32).min(60.0);
            prop_assert!((delay - middle).abs() <= middle * 0.1 + 1e-6, "{delay} is not near {middle}");
            prop_assert!((1.0..=60.0).contains(&delay), "{delay} is out of its bounds");
        }
    }

    /// Against the definition: a failure is forgiven when fewer than the maximum came before it
    /// within the interval.
    #[test]
    fn failure_rate_is_what_it_says(gaps in prop::collection::vec(0..8u64, 1..60), max in 1..5u32) {
        let config = RestartStrategyConfig::FailureRate { max_failures: max, interval: secs(10), delay: secs(0) };
        let mut strategy = RestartStrategy::new(config, 0);
        let mut times: Vec<u64> = Vec::new();
        for gap in gaps {
            let now = times.last().unwrap_or(&0) + gap;
            let recent = times.iter().filter(|time| now - **time < 10).count();
            let answer = strategy.on_failure(at(now as f64));
            prop_assert_eq!(answer.is_some(), recent < max as usize);
            times.push(now);
        }
    }
}

#[test]
fn a_restart_waits_for_all_tasks_and_for_its_delay() {
    for delay_first in [true, false] {
        let mut bench = Bench::running(fixed(1));
        let old = bench.executions();
        bench.state(old[0], TaskState::Failed);
        bench.is(JobStatus::Restarting);
        let (delay, due) = bench.restart_timer();
        assert_eq!(delay, secs(1));
        if delay_first {
            bench.event(due.clone());
        }
        assert_eq!(bench.generation(), 0);
        bench.all(TaskState::Canceled);
        if !delay_first {
            assert_eq!(bench.generation(), 0);
            bench.event(due.clone());
        }
        assert_eq!(bench.generation(), 1);
        assert!(bench.effects.contains(&JobEffect::EndGeneration {
            at: vec![HOST],
            generation: 0
        }));
        bench.is(JobStatus::Restarting);
        bench.take();
        bench.started(true);
        bench.is(JobStatus::Running);
        let deployed = bench.deployments();
        assert!(deployed.len() == 5 && deployed.iter().all(|task| task.generation == 1));
        assert!(deployed.iter().all(|task| task.execution.attempt.0 == 1));
        // What the first attempts still say, and the old timer, change nothing.
        old.into_iter()
            .for_each(|execution| bench.state(execution, TaskState::Failed));
        bench.event(due);
        bench.is(JobStatus::Running);
    }
}

#[test]
fn the_second_failure_is_not_forgiven_and_both_are_remembered() {
    let mut bench = Bench::running(fixed(1));
    let execution = bench.executions()[0];
    bench.state(execution, TaskState::Failed);
    bench.all(TaskState::Canceled);
    let due = bench.restart_timer().1;
    bench.event(due);
    bench.started(true);
    bench.run_all();
    let execution = bench.executions()[3];
    bench.state(execution, TaskState::Failed);
    bench.all(TaskState::Canceled);
    bench.is(JobStatus::Failed);
    let result = bench.result().unwrap();
    assert_eq!((result.restarts, result.failures.len()), (1, 2));
    assert_eq!(result.failure.as_ref().unwrap().attempt, Some(1));
}

#[test]
fn a_cancel_wins_over_a_restart() {
    let mut bench = Bench::running(fixed(1));
    let execution = bench.executions()[0];
    bench.state(execution, TaskState::Failed);
    let due = bench.restart_timer().1;
    bench.message(JobMasterMessage::Cancel);
    bench.event(due);
    bench.all(TaskState::Canceled);
    bench.is(JobStatus::Canceled);
}

#[test]
fn an_enumerator_that_fails_again_uses_up_restarts() {
    let mut bench = Bench::running(fixed(2));
    for generation in 0..3 {
        let failure = failure("listing failed");
        bench.event(JobEvent::EnumeratorFailed {
            generation,
            node: SOURCE,
            failure,
        });
        bench.all(TaskState::Canceled);
        if generation < 2 {
            bench.is(JobStatus::Restarting);
            let due = bench.restart_timer().1;
            bench.event(due);
        }
    }
    bench.is(JobStatus::Failed);
    assert_eq!(bench.result().unwrap().restarts, 2);
}

#[test]
fn answers_for_an_earlier_generation_are_ignored() {
    let mut bench = Bench::running(fixed(1));
    let reader = bench.of(0)[0];
    bench.message(JobMasterMessage::SplitRequested {
        execution: reader,
        node: SOURCE,
    });
    bench.state(reader, TaskState::Failed);
    bench.all(TaskState::Canceled);
    let due = bench.restart_timer().1;
    bench.event(due);
    bench.take();
    let assignment = hurtig_dataflow::source::Assignment::NoMore;
    bench.event(JobEvent::SplitAssigned {
        generation: 0,
        node: SOURCE,
        reader,
        assignment,
    });
    bench.event(JobEvent::EnumeratorFailed {
        generation: 0,
        node: SOURCE,
        failure: failure("late"),
    });
    assert!(bench.take().is_empty());
    bench.is(JobStatus::Restarting);
}
