use super::*;
use hurtig_core::accumulators::AccumulatorValue;
use hurtig_dataflow::source::{Assignment, Split};
use hurtig_task::interface::TaskReport;

use RestartStrategyConfig::None as Never;

#[test]
fn a_job_waits_for_slots_and_enumerators_then_deploys_everything() {
    let mut bench = Bench::new(Never);
    bench.is(JobStatus::Created);
    assert!(
        bench
            .take()
            .contains(&JobEffect::RequireSlots(SlotNeed::exactly(3)))
    );
    bench.offer(2);
    bench.started(true);
    assert!(bench.deployments().is_empty());
    bench.offer(3);
    bench.is(JobStatus::Running);
    let deployed = bench.deployments();
    assert_eq!(deployed.len(), 5);
    let (source, sink) = (&deployed[0], &deployed[2]);
    assert_eq!(source.operators, [SOURCE]);
    assert_eq!(source.outputs[0].consumers, 0..3);
    assert_eq!(sink.inputs[0].producers, 0..2);
    assert_eq!(source.slot, sink.slot, "subtask 0 of all vertices shares a slot");
    let groups: usize = deployed[2..].iter().map(|task| task.key_groups.len()).sum();
    assert_eq!(groups, 128);
}

#[test]
fn repeated_offers_are_not_more_slots() {
    let mut bench = Bench::new(Never);
    bench.started(true);
    (0..4).for_each(|_| bench.offer(2));
    bench.is(JobStatus::Created);
}

#[test]
fn a_job_is_finished_when_all_its_tasks_are() {
    let mut bench = Bench::running(Never);
    let executions = bench.executions();
    for execution in &executions {
        assert!(bench.result().is_none());
        bench.state(*execution, TaskState::Finished);
        bench.state(*execution, TaskState::Finished);
    }
    bench.now = Time::from_nanos(7);
    let result = bench.result().unwrap();
    assert_eq!((result.status, &result.failure), (JobStatus::Finished, &None));
    assert!(bench.effects.contains(&JobEffect::Release(vec![HOST])));
    assert_eq!(
        bench
            .effects
            .iter()
            .filter(|effect| matches!(effect, JobEffect::Ended(_)))
            .count(),
        1
    );
    bench.take();
    bench.message(JobMasterMessage::Cancel);
    bench.state(executions[0], TaskState::Failed);
    assert!(bench.take().is_empty(), "nothing follows the end");
}

#[test]
fn a_failing_subtask_cancels_the_others_and_the_first_failure_wins() {
    let mut bench = Bench::running(Never);
    let [first, second] = bench.of(1)[..2] else {
        panic!()
    };
    bench.state(first, TaskState::Failed);
    bench.is(JobStatus::Failing);
    assert_eq!(bench.cancels().len(), 4);
    bench.state(second, TaskState::Failed);
    assert_eq!(bench.cancels().len(), 4, "nobody is told twice");
    bench.all(TaskState::Canceled);
    bench.is(JobStatus::Failed);
    let result = bench.result().unwrap();
    let failure = result.failure.as_ref().unwrap();
    assert_eq!(
        failure.to_string(),
        format!("operator 'count', subtask 1 of 3: boom {first}")
    );
    assert_eq!(result.failures.len(), 1);
    assert_eq!(result.failures[0].concurrent.len(), 1);
    assert_eq!(result.failures[0].concurrent[0].subtask, Some((1, 3)));
}

#[test]
fn failures_name_the_operator_and_its_uid() {
    let mut bench = Bench::running(Never);
    let execution = bench.of(0)[1];
    let failure = TaskFailure::panic(hurtig_core::Fault::User, "index out of bounds", Some(SOURCE));
    let state = TaskState::Failed;
    bench.message(JobMasterMessage::TaskStateChanged {
        execution,
        state,
        failure: Some(failure),
    });
    bench.all(TaskState::Canceled);
    let failure = bench.result().unwrap().failure.clone().unwrap();
    let text = "operator 'numbers' (uid 'in'), subtask 2 of 2: panicked: index out of bounds";
    assert_eq!(failure.to_string(), text);
    assert!(failure.cause.panicked);
}

#[test]
fn cancelling_while_deploying_ends_every_task() {
    let mut bench = Bench::deployed(Never);
    let executions = bench.executions();
    bench.state(executions[0], TaskState::Initializing);
    bench.message(JobMasterMessage::Cancel);
    bench.is(JobStatus::Cancelling);
    assert_eq!(bench.cancels().len(), 5);
    // The cancel crosses with what the tasks were saying.
    bench.state(executions[0], TaskState::Running);
    bench.state(executions[0], TaskState::Finished);
    bench.state(executions[1], TaskState::Initializing);
    executions[1..]
        .iter()
        .for_each(|execution| bench.state(*execution, TaskState::Canceled));
    bench.is(JobStatus::Canceled);
    assert!(bench.result().unwrap().failure.is_none());
}

#[test]
fn cancelling_before_anything_is_deployed_ends_at_once() {
    let mut bench = Bench::new(Never);
    bench.offer(3);
    bench.message(JobMasterMessage::Cancel);
    bench.is(JobStatus::Canceled);
    assert!(bench.cancels().is_empty());
    bench.started(true);
    assert!(
        bench.deployments().is_empty(),
        "an enumerator that starts late starts nothing"
    );
}

#[test]
fn a_second_cancel_tells_nobody_twice() {
    let mut bench = Bench::running(Never);
    bench.message(JobMasterMessage::Cancel);
    bench.message(JobMasterMessage::Cancel);
    assert_eq!(bench.cancels().len(), 5);
}

#[test]
fn cancelling_a_failing_job_ends_it_as_cancelled() {
    let mut bench = Bench::running(Never);
    let execution = bench.executions()[0];
    bench.state(execution, TaskState::Failed);
    bench.message(JobMasterMessage::Cancel);
    bench.is(JobStatus::Cancelling);
    bench.all(TaskState::Canceled);
    bench.is(JobStatus::Canceled);
}

#[test]
fn tasks_that_do_not_stop_are_fatal_and_named() {
    let mut bench = Bench::running(Never);
    bench.message(JobMasterMessage::Cancel);
    let timers = bench.timers();
    let [(delay, deadline)] = &timers[..] else {
        panic!("{timers:?}")
    };
    assert_eq!(*delay, Duration::from_secs(30));
    let executions = bench.executions();
    executions[1..]
        .iter()
        .for_each(|execution| bench.state(*execution, TaskState::Canceled));
    bench.now = bench.now.after(*delay);
    bench.event(deadline.clone());
    let fatal = bench.effects.iter().find_map(|effect| match effect {
        JobEffect::Fatal(text) => Some(text.clone()),
        _ => None,
    });
    let text = fatal.unwrap();
    assert!(
        text.contains("(1 of") && text.contains("task.cancellation.timeout"),
        "{text}"
    );
    bench.state(executions[0], TaskState::Canceled);
    bench.is(JobStatus::Canceled);
}

#[test]
fn missing_slots_fail_the_job_with_advice() {
    let mut bench = Bench::new(fixed(3));
    bench.offer(2);
    bench.event(JobEvent::SlotDeadline { request: 1 });
    let failure = bench.result().unwrap().failure.clone().unwrap();
    assert!(
        failure.to_string().contains("needs 3 slots and has 2"),
        "{failure}"
    );
    let mut enough = Bench::deployed(Never);
    enough.event(JobEvent::SlotDeadline { request: 1 });
    enough.is(JobStatus::Running);
}

#[test]
fn missing_input_fails_the_job_before_it_runs() {
    let mut bench = Bench::new(fixed(3));
    bench.offer(3);
    let failure = failure("no such folder: /data");
    bench.event(JobEvent::EnumeratorFailed {
        generation: 0,
        node: SOURCE,
        failure,
    });
    bench.is(JobStatus::Failed);
    let failure = bench.result().unwrap().failure.clone().unwrap();
    assert_eq!(
        failure.to_string(),
        "operator 'numbers' (uid 'in'): no such folder: /data"
    );
    assert!(bench.deployments().is_empty());
}

fn split(id: &str) -> Split {
    Split {
        id: id.to_owned(),
        bytes: Vec::new(),
    }
}

fn asked(bench: &mut Bench) -> Vec<ExecutionId> {
    let asked = bench.take().into_iter().filter_map(|effect| match effect {
        JobEffect::AskEnumerator { reader, .. } => Some(reader),
        _ => None,
    });
    asked.collect()
}

fn answer(bench: &mut Bench, reader: ExecutionId, assignment: Assignment) {
    let generation = bench.brain.splits.generation(SOURCE);
    bench.event(JobEvent::SplitAssigned {
        generation,
        node: SOURCE,
        reader,
        assignment,
    });
}

#[test]
fn an_enumerator_answers_one_reader_at_a_time() {
    let mut bench = Bench::running(Never);
    let [one, two] = bench.of(0)[..] else { panic!() };
    let request = |execution| JobMasterMessage::SplitRequested {
        execution,
        node: SOURCE,
    };
    bench.message(request(one));
    bench.message(request(one));
    bench.message(request(two));
    assert_eq!(asked(&mut bench), [one]);
    answer(&mut bench, one, Assignment::Split(split("a")));
    let sent = |execution, split| JobEffect::SendSplit {
        to: HOST,
        execution,
        node: SOURCE,
        split,
    };
    assert!(bench.effects.contains(&sent(one, Some(split("a")))));
    assert_eq!(asked(&mut bench), [two]);
    answer(&mut bench, two, Assignment::Later(250));
    let timers = bench.timers();
    assert_eq!(timers[0].0, Duration::from_millis(250));
    bench.message(request(two));
    assert!(asked(&mut bench).is_empty(), "it was told to wait");
    bench.event(timers[0].1.clone());
    assert_eq!(asked(&mut bench), [two]);
    answer(&mut bench, two, Assignment::NoMore);
    assert!(bench.effects.contains(&sent(two, None)));
    bench.message(request(one));
    assert_eq!(asked(&mut bench), [one]);
}

#[test]
fn a_source_without_enumerator_has_no_splits() {
    let mut bench = Bench::new(Never);
    bench.offer(3);
    bench.started(false);
    bench.run_all();
    let execution = bench.of(0)[0];
    bench.message(JobMasterMessage::SplitRequested {
        execution,
        node: SOURCE,
    });
    assert!(bench.effects.contains(&JobEffect::SendSplit {
        to: HOST,
        execution,
        node: SOURCE,
        split: None
    }));
}

#[test]
fn accumulators_are_the_last_totals_of_every_subtask() {
    let mut bench = Bench::running(Never);
    for (index, execution) in bench.executions().into_iter().enumerate() {
        for factor in 1..=2 {
            let value = AccumulatorValue::Long(factor * (index as i64 + 1));
            let report = TaskReport {
                accumulators: [("rows".to_owned(), value)].into(),
                ..TaskReport::default()
            };
            bench.message(JobMasterMessage::TaskReported { execution, report });
        }
    }
    bench.all(TaskState::Finished);
    let expected = AccumulatorValue::Long(2 * (1 + 2 + 3 + 4 + 5));
    assert_eq!(bench.result().unwrap().accumulators["rows"], expected);
}

#[test]
fn an_accumulator_of_two_kinds_fails_the_job_and_is_named() {
    let mut bench = Bench::running(Never);
    let executions = bench.executions();
    let values = [AccumulatorValue::Long(1), AccumulatorValue::Double(1.0)];
    for (execution, value) in executions.iter().zip(values) {
        bench.is(JobStatus::Running);
        let report = TaskReport {
            accumulators: [("rows".to_owned(), value)].into(),
            ..TaskReport::default()
        };
        bench.message(JobMasterMessage::TaskReported {
            execution: *execution,
            report,
        });
    }
    bench.is(JobStatus::Failing);
    bench.all(TaskState::Canceled);
    let failure = bench.result().unwrap().failure.clone().unwrap().to_string();
    let expected =
        "accumulator 'rows' cannot be merged: one operator or subtask uses it as Long, another as Double";
    assert!(failure.contains(expected), "{failure}");
}
