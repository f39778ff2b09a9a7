//! Tasks on a real arbiter: they share it with timers and wakes, end when told, blame the operator
//! that failed, account for their time, and get the splits that their readers ask for.

use crate::world::*;
use actix_rt::System;
use hurtig_core::ids::JobId;
use hurtig_core::time::{Clock, ManualClock, SystemClock};
use hurtig_core::types::TypeInfo;
use hurtig_dataflow::graph::{
    GraphSettings, NodeKind, PartitionKind, StreamEdge, StreamGraph, StreamNode, TaskState,
};
use hurtig_dataflow::operators::watermark::WatermarkStrategy;
use hurtig_dataflow::program::{EdgeName, NodeCode, Program, TypedEdge, TypedSource};
use hurtig_dataflow::source::Split;
use hurtig_exchange::Partitioner;
use hurtig_task::interface::{OutputDescriptor, TaskDescriptor, TaskFactory, TaskHandle, TaskReport};
use hurtig_task::{LinkedProgram, TaskSettings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};

/// How long this thread has waited for a processor in all, while others had it. Zero where the system does not tell.
fn waited() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = stat
        .split_whitespace()
        .nth(1)
        .and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

/// The median lateness of a timer and of a wake from another thread, over 20 of each. What other programs on the
/// machine add to it is taken off.
async fn lateness(clock: &Arc<SystemClock>) -> Duration {
    let mut late = Vec::new();
    for _ in 0..20 {
        let (before, due) = (waited(), clock.now().after(Duration::from_millis(5)));
        tokio::time::sleep(Duration::from_millis(5)).await;
        let timer = clock.now().since(due).saturating_sub(waited() - before);
        let (sender, wake) = tokio::sync::oneshot::channel();
        let (before, other) = (waited(), clock.clone());
        std::thread::spawn(move || sender.send(other.now()));
        let sent = wake.await.unwrap();
        let wake = clock.now().since(sent).saturating_sub(waited() - before);
        late.push(timer.max(wake));
    }
    late.sort_unstable();
    late[late.len() / 2]
}

#[test]
fn three_busy_tasks_keep_neither_timers_nor_wakes_waiting() {
    System::new().block_on(async {
        let job = job(Reads::Endlessly, false);
        let mut tasks: Vec<_> = (0..3).map(|_| start(&job)).collect();
        for (_, told) in &mut tasks {
            running(told).await;
        }
        let clock = SystemClock::new();
        // A virtual machine may be late by itself: the best of three runs.
        let mut best = Duration::MAX;
        for _ in 0..3 {
            best = best.min(lateness(&clock).await);
        }
        assert!(best <= Duration::from_millis(6), "{best:?} late");
        tasks.iter().for_each(|(task, _)| task.cancel());
        for (_, told) in &mut tasks {
            assert_eq!(state(told).await.0, TaskState::Canceled);
        }
    });
}

#[test]
fn a_busy_task_ends_soon_after_its_cancel_and_says_so_once() {
    System::new().block_on(async {
        let job = job(Reads::Endlessly, false);
        let clock = SystemClock::new();
        let mut best = Duration::MAX;
        // As above: the best of three.
        for _ in 0..3 {
            let (task, mut told) = start(&job);
            running(&mut told).await;
            let (before, others) = (clock.now(), waited());
            task.cancel();
            task.cancel();
            assert_eq!(state(&mut told).await.0, TaskState::Canceled);
            best = best.min(clock.now().since(before).saturating_sub(waited() - others));
            while let Some(more) = told.recv().await {
                assert!(!matches!(more, Told::State(..)), "a terminal state is the last");
            }
        }
        assert!(best <= Duration::from_millis(100), "{best:?}");
    });
}

#[test]
fn a_panic_fails_the_task_and_blames_the_operator() {
    System::new().block_on(async {
        let (_task, mut told) = start(&job(Reads::Endlessly, true));
        running(&mut told).await;
        let (state, failure) = state(&mut told).await;
        let failure = failure.unwrap();
        assert_eq!((state, failure.operator), (TaskState::Failed, Some(SINK)));
        assert!(failure.message.contains("planted"), "{failure}");
    });
}

#[test]
fn splits_are_asked_for_one_by_one_and_reach_the_reader() {
    System::new().block_on(async {
        let (task, mut told) = start(&job(Reads::Splits, false));
        running(&mut told).await;
        let mut answers = vec![None, Some(2), Some(1)];
        loop {
            match next(&mut told).await {
                Told::Split(node) => {
                    let answer = answers.pop().unwrap();
                    task.add_split(
                        node,
                        answer.map(|n| Split {
                            id: n.to_string(),
                            bytes: vec![n],
                        }),
                    );
                }
                Told::Report(_) => {}
                Told::Stored(..) | Told::Declined(..) | Told::WantsCheckpoint | Told::Prepared(_) => {
                    panic!("no checkpoint was asked for")
                }
                Told::State(state, failure) => {
                    assert_eq!((state, failure), (TaskState::Finished, None));
                    break;
                }
            }
        }
        assert!(answers.is_empty());
    });
}

/// A source whose consumer stands in another task, which is never started.
fn unread(clock: Arc<dyn Clock>) -> (LinkedProgram, TaskDescriptor) {
    let mut graph = StreamGraph::new();
    let source = graph.add_node(StreamNode::new("in", "Source", NodeKind::Source));
    let sink = graph.add_node(StreamNode::new("out", "Sink", NodeKind::Sink));
    let partition = PartitionKind::Rebalance;
    graph.add_edge(StreamEdge::new(source, sink).partitioned(partition.clone()));
    let graph = graph
        .job_graph(JobId::from_u128(1), &GraphSettings::default())
        .unwrap();
    let strategy = WatermarkStrategy::for_generator(|| Silent);
    let mut program = Program::default();
    let code = TypedSource::new(Input(Reads::Endlessly), strategy);
    program.add_node(source, NodeCode::Source(Box::new(code)));
    let edge = TypedEdge::new(TypeInfo::<u64>::of(), |_| Partitioner::Forward);
    let name = EdgeName {
        from: source,
        to: sink,
        input: 0,
        side: None,
    };
    program.add_edge(name, Box::new(edge));
    let output = OutputDescriptor {
        edge: graph.edges[0].id,
        producer: source,
        side: None,
        partition,
        consumers: 0..1,
        consumer_parallelism: 1,
        consumer_max_parallelism: 128,
        elsewhere: BTreeMap::new(),
    };
    let mut descriptor = descriptor(&graph, 1);
    descriptor.outputs.push(output);
    let job = LinkedProgram::new(graph, program, TaskSettings::default(), clock);
    (job, descriptor)
}

#[test]
fn a_task_whose_output_is_full_is_back_pressured_for_that_time() {
    System::new().block_on(async {
        let (job, descriptor) = unread(SystemClock::new());
        let (sender, mut told) = channel(4_096);
        let task = job.start_task(descriptor, Box::new(Link(sender))).unwrap();
        running(&mut told).await;
        loop {
            if let Told::Report(report) = next(&mut told).await {
                let total = report.busy_ms + report.idle_ms + report.backpressured_ms;
                assert!(total >= 500, "a second has passed: {report:?}");
                assert!(report.backpressured_ms * 10 >= total * 9, "{report:?}");
                break;
            }
        }
        task.cancel();
        assert_eq!(
            state(&mut told).await.0,
            TaskState::Canceled,
            "it ends although it is stuck"
        );
    });
}

/// Has a task report after five seconds of a clock that nothing else moves.
async fn reported(task: &TaskHandle, told: &mut Receiver<Told>, clock: &ManualClock) -> TaskReport {
    // A first report, so that the task has been polled and rests.
    task.report_now();
    while !matches!(next(told).await, Told::Report(_)) {}
    clock.advance(Duration::from_secs(5));
    task.report_now();
    loop {
        if let Told::Report(report) = next(told).await {
            return report;
        }
    }
}

#[test]
fn a_report_counts_the_time_up_to_now() {
    System::new().block_on(async {
        let clock = ManualClock::new();
        let job = job_at(Reads::Nothing, false, clock.clone());
        let (task, mut told) = start(&job);
        running(&mut told).await;
        let report = reported(&task, &mut told, &clock).await;
        assert_eq!(
            (report.idle_ms, report.backpressured_ms),
            (5_000, 0),
            "{report:?}"
        );

        let clock = ManualClock::new();
        let (job, descriptor) = unread(clock.clone());
        let (sender, mut told) = channel(4_096);
        let task = job.start_task(descriptor, Box::new(Link(sender))).unwrap();
        running(&mut told).await;
        let report = reported(&task, &mut told, &clock).await;
        assert_eq!(
            (report.idle_ms, report.backpressured_ms),
            (0, 5_000),
            "{report:?}"
        );
    });
}

/// The times of a task that is busy or idle throughout, against the clock.
async fn accounted(reads: Reads) -> (u64, TaskReport) {
    let clock = SystemClock::new();
    let before = clock.now();
    let (task, mut told) = start(&job(reads, false));
    running(&mut told).await;
    loop {
        if let Told::Report(report) = next(&mut told).await {
            let elapsed = clock.now().since(before).as_millis();
            task.cancel();
            return (u64::try_from(elapsed).unwrap(), report);
        }
    }
}

/// Never more than has passed; and, in one of three runs, as a report may be late and others take the processor, about
/// all of it, and nine tenths of one kind.
async fn add_up(reads: Reads, kind: impl Fn(&TaskReport) -> u64) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (elapsed, report) = accounted(reads).await;
        let total = report.busy_ms + report.idle_ms + report.backpressured_ms;
        assert!(total <= elapsed, "{total} of {elapsed}: {report:?}");
        if total + elapsed / 5 + 20 >= elapsed && kind(&report) * 10 >= total * 9 {
            return;
        }
        seen.push((elapsed, report));
    }
    panic!("{seen:?}");
}

#[test]
fn busy_and_idle_time_add_up_to_the_time_that_passed() {
    System::new().block_on(async {
        add_up(Reads::Endlessly, |report| report.busy_ms).await;
        add_up(Reads::Nothing, |report| report.idle_ms).await;
    });
}
