//! What clients see of subtasks, against what was told.

use super::*;
use crate::{AttemptDetail, SubtaskDetail};
use hurtig_task::interface::TaskReport;

const WORKER: TaskManagerId = TaskManagerId::from_u128(11);
const WALL: i64 = 1_000_000;

fn report(bench: &mut Bench, execution: ExecutionId, records_out: u64) {
    let report = TaskReport {
        records_out,
        bytes_in: records_out * 4,
        bytes_out: records_out * 8,
        busy_ms: 3,
        ..TaskReport::default()
    };
    bench.message(JobMasterMessage::TaskReported { execution, report });
}

fn subtasks(bench: &Bench, vertex: usize) -> Vec<SubtaskDetail> {
    let vertex = bench.brain.graph().job_graph().vertices[vertex].id;
    bench.brain.vertex(vertex, bench.now, WALL).unwrap().subtasks
}

#[test]
fn totals_of_a_vertex_are_complete_when_each_subtask_has_reported() {
    let mut bench = Bench::running(fixed(1));
    let sources = bench.of(0);
    report(&mut bench, sources[0], 5);
    let of = |bench: &Bench| bench.brain.vertices(bench.now, WALL)[0].totals;
    assert_eq!((of(&bench).records_out, of(&bench).complete), (5, false));
    report(&mut bench, sources[1], 7);
    assert_eq!((of(&bench).records_out, of(&bench).complete), (12, true));
    assert_eq!((of(&bench).bytes_out, of(&bench).busy_ms), (96, 6));
    assert_eq!(of(&bench).bytes_in, 48);
    assert!(!bench.brain.vertices(bench.now, WALL)[1].totals.complete);
    report(&mut bench, sources[1], 8);
    assert_eq!(
        of(&bench).records_out,
        13,
        "the last report counts, not their sum"
    );
}

#[test]
fn workers_that_offer_before_anything_runs_are_known_where_they_are() {
    let mut bench = Bench::new(fixed(1));
    let all = [(1_u128, 0..2), (2, 2..3)];
    for (number, slots) in all {
        bench.message(JobMasterMessage::SlotsOffered {
            task_manager: TaskManagerId::from_u128(number),
            allocations: slots.map(AllocationId::from_u128).collect(),
            exchange: None,
            of: Some(TaskManagerId::from_u128(100 + number)),
        });
    }
    bench.started(true);
    bench.run_all();
    let at = |subtask: &SubtaskDetail| subtask.current.place.as_ref().unwrap().task_manager;
    let places: Vec<_> = subtasks(&bench, 1).iter().map(at).collect();
    assert_eq!(places, [101, 101, 102].map(TaskManagerId::from_u128));
}

#[test]
fn attempts_that_were_replaced_are_remembered_with_what_they_did_and_where() {
    let mut bench = Bench::new(fixed(1));
    bench.message(JobMasterMessage::SlotsOffered {
        task_manager: WORKER,
        allocations: (0..3).map(AllocationId::from_u128).collect(),
        exchange: Some("127.0.0.1:99".to_owned()),
        of: Some(HOST),
    });
    bench.started(true);
    bench.run_all();
    bench.take();
    let failing = bench.of(1)[2];
    report(&mut bench, failing, 4);
    bench.now = bench.now.after(Duration::from_millis(250));
    bench.state(failing, TaskState::Failed);
    bench.all(TaskState::Canceled);
    bench.restart();
    let subtask = subtasks(&bench, 1).remove(2);
    let [before] = &subtask.previous[..] else {
        panic!("{subtask:?}");
    };
    let AttemptDetail {
        attempt,
        state,
        totals,
        ..
    } = before;
    assert_eq!((*attempt, *state, totals.records_out), (0, TaskState::Failed, 4));
    let place = before.place.as_ref().unwrap();
    assert_eq!(
        (place.task_manager, place.exchange.as_deref()),
        (HOST, Some("127.0.0.1:99"))
    );
    let ran = before.spent(WALL)[&TaskState::Running];
    assert_eq!(ran, 250);
    assert_eq!(before.end_ms().unwrap() - before.start_ms().unwrap(), 250);
    assert_eq!(
        (subtask.current.attempt, subtask.current.totals.complete),
        (1, false)
    );
    assert_eq!(subtask.attempt(0), Some(before));
    assert!(subtask.attempt(2).is_none());
    let strange = hurtig_core::ids::VertexId::from_u128(1);
    assert!(bench.brain.vertex(strange, bench.now, WALL).is_none());
}
