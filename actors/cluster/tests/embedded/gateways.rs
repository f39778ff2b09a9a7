//! The Dispatcher and JobMasters as their clients' actors see them.

use crate::world::*;
use actix::prelude::*;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hurtig_cluster::gateway::*;
use hurtig_cluster::{CheckpointKind, ClusterError, ClusterHandle, JobOptions, RestartStrategyConfig};
use hurtig_core::ids::JobId;
use hurtig_dataflow::graph::JobStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

fn run(test: impl Future<Output = ()>) {
    System::new().block_on(async {
        actix_rt::time::timeout(Duration::from_secs(30), test)
            .await
            .unwrap();
    });
}

fn program(job: u128, does: Does) -> Arc<Program> {
    Arc::new(Program::new(graph(job, 2), move |_| does))
}

fn message(program: &Arc<Program>) -> SubmitJob {
    SubmitJob {
        graph: program.graph().clone(),
        code: Arc::new(Shared(program.clone())),
        options: JobOptions::from(RestartStrategyConfig::None),
    }
}

/// Writes down what it is told.
struct Watcher(watch::Sender<Vec<JobStatus>>);

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<JobStatusChanged> for Watcher {
    type Result = ();

    fn handle(&mut self, change: JobStatusChanged, _: &mut Context<Self>) {
        self.0.send_modify(|seen| seen.push(change.status));
    }
}

#[test]
fn actors_submit_watch_and_cancel_a_job_by_messages() {
    run(async {
        let cluster = cluster();
        let dispatcher = cluster.dispatcher();
        let endless = program(1, Does::Run);
        let job = dispatcher.send(message(&endless)).await.unwrap().unwrap();
        let (seen, mut states) = watch::channel(Vec::new());
        let watcher = Watcher(seen).start();
        let watching = WatchStatus(watcher.clone().recipient());
        job.master.send(watching).await.unwrap().unwrap();
        states
            .wait_for(|seen| seen.contains(&JobStatus::Running))
            .await
            .unwrap();
        for _ in 0..2 {
            let again = dispatcher.send(message(&endless)).await.unwrap().unwrap();
            assert_eq!(again.id, job.id, "the same graph is the same job");
        }
        let other = program(1, Does::Finish);
        let other = SubmitJob {
            graph: graph(1, 3),
            ..message(&other)
        };
        let refused = dispatcher.send(other).await.unwrap().unwrap_err();
        assert!(
            matches!(
                refused,
                ClusterError::Fingerprint { .. } | ClusterError::Conflict(_)
            ),
            "{refused}"
        );
        let found = dispatcher.send(FindJobMaster(job.id)).await.unwrap().unwrap();
        assert_eq!(found.send(GetStatus).await.unwrap().unwrap(), JobStatus::Running);
        found.send(Cancel).await.unwrap().unwrap();
        let awaited = OfJob(job.id, AwaitResult);
        let result = dispatcher.send(awaited).await.unwrap().unwrap();
        assert_eq!((result.job, result.status), (job.id, JobStatus::Canceled));
        let ended = states
            .wait_for(|seen| seen.last() == Some(&JobStatus::Canceled))
            .await;
        let ended = ended.unwrap().clone();
        let times = ended
            .iter()
            .filter(|status| **status == JobStatus::Canceled)
            .count();
        assert_eq!(times, 1, "{ended:?}");
        let late = Watcher(watch::Sender::new(Vec::new()));
        let mut told = late.0.subscribe();
        found
            .send(WatchStatus(late.start().recipient()))
            .await
            .unwrap()
            .unwrap();
        told.wait_for(|seen| *seen == [JobStatus::Canceled])
            .await
            .unwrap();
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn what_cannot_be_done_is_answered_with_the_reason() {
    run(async {
        let cluster = cluster();
        let dispatcher = cluster.dispatcher();
        let unknown = JobId::from_u128(9);
        let refused = [
            dispatcher
                .send(OfJob(unknown, Cancel))
                .await
                .unwrap()
                .unwrap_err(),
            dispatcher
                .send(FindJobMaster(unknown))
                .await
                .unwrap()
                .unwrap_err(),
            dispatcher
                .send(OfJob(unknown, AwaitResult))
                .await
                .unwrap()
                .unwrap_err(),
        ];
        for error in refused {
            assert!(
                matches!(error, ClusterError::UnknownJob(job) if job == unknown),
                "{error}"
            );
        }
        let fails = program(2, Does::Fail);
        let job = dispatcher.send(message(&fails)).await.unwrap().unwrap();
        let result = job.master.send(AwaitResult).await.unwrap().unwrap();
        assert_eq!(result.status, JobStatus::Failed);
        assert!(result.failure.as_ref().unwrap().to_string().contains("it fails"));
        let late = job
            .master
            .send(TakeCheckpoint(CheckpointKind::Configured))
            .await
            .unwrap();
        assert!(matches!(late, Err(ClusterError::Ended { .. })), "{late:?}");
        assert_eq!(dispatcher.send(ListJobs).await.unwrap().unwrap().len(), 1);
        cluster.shutdown().await.unwrap();
        assert_eq!(dispatcher.send(ListJobs).await.unwrap_err(), MailboxError::Closed);
        assert_eq!(
            job.master.send(GetStatus).await.unwrap_err(),
            MailboxError::Closed
        );
    });
}

#[test]
fn no_more_questions_are_open_than_may_be_and_room_comes_back() {
    run(async {
        let cluster = cluster();
        let dispatcher = cluster.dispatcher();
        let endless = program(3, Does::Run);
        let job = dispatcher.send(message(&endless)).await.unwrap().unwrap();
        let master = &job.master;
        let ask = |_| async move { master.send(AwaitResult).await.unwrap() };
        let mut open: FuturesUnordered<_> = (0..=MAX_OPEN).map(ask).collect();
        let refused = open.next().await.unwrap().unwrap_err();
        assert!(refused.to_string().contains("open questions"), "{refused}");
        // Another gateway to the same job has room of its own.
        dispatcher.send(OfJob(job.id, Cancel)).await.unwrap().unwrap();
        while let Some(answer) = open.next().await {
            assert_eq!(answer.unwrap().status, JobStatus::Canceled);
        }
        assert_eq!(
            job.master.send(GetStatus).await.unwrap().unwrap(),
            JobStatus::Canceled
        );
        cluster.shutdown().await.unwrap();
    });
}

/// Submits a job that has no end, has it watched, and keeps neither the cluster's handle nor a gateway.
async fn leave_a_watched_job(cluster: ClusterHandle) -> (watch::Receiver<Vec<JobStatus>>, Arc<Program>) {
    let endless = program(4, Does::Run);
    let job = cluster
        .dispatcher()
        .send(message(&endless))
        .await
        .unwrap()
        .unwrap();
    let watcher = Watcher(watch::Sender::new(Vec::new()));
    let mut states = watcher.0.subscribe();
    let watcher = watcher.start();
    job.master
        .send(WatchStatus(watcher.recipient()))
        .await
        .unwrap()
        .unwrap();
    states
        .wait_for(|seen| seen.contains(&JobStatus::Running))
        .await
        .unwrap();
    (states, endless)
}

#[test]
fn gateways_keep_the_cluster_and_watchers_do_not() {
    run(async {
        let handle = cluster();
        let only = handle.dispatcher();
        drop(handle);
        assert!(only.send(ListJobs).await.unwrap().unwrap().is_empty());
        drop(only);
        let (mut states, _program) = leave_a_watched_job(cluster()).await;
        // The watcher goes with the last that held it: the cluster's thread.
        while states.changed().await.is_ok() {}
    });
}
