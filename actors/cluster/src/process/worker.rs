//! The process of a worker: tasks of one job, in the slots that it was started with.

use super::job_master::JobCodeHere;
use super::launch::Role;
use super::machine::measure;
use super::runtime::{DONE, FAILED, HOST, ORPHANED, listen, run};
use crate::job_master::JobMasterEvent;
use crate::programs::Programs;
use crate::task_manager::{TaskManager, TaskManagerInput, TaskManagerSetup};
use crate::wire::{Courier, JobMasterRpc, OpenWorker, WorkerOpened, WorkerRpc};
use hurtig_core::ids::{AllocationId, TaskManagerId};
use hurtig_kit::{ActorEnv, Shell, Threads};
use hurtig_network::{Network, NetworkConfig, NetworkSetup, Party, tcp};
use hurtig_rpc::{ClusterId, Fences, Registration, Routes, Stamp, TcpDialer};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long the JobMaster may take to know this worker.
const OPENING: Duration = Duration::from_secs(10);

/// What a worker was started for.
struct Order {
    cluster: ClusterId,
    worker: TaskManagerId,
    epoch: NonZeroU64,
    allocations: Vec<AllocationId>,
    master: String,
    threads: u32,
    task_manager: Option<TaskManagerId>,
}

/// Runs a worker, whose role says for whom. Returns the code with which the process ends.
pub fn run_worker(role: &Role, code: JobCodeHere) -> u8 {
    let Role::Worker {
        cluster,
        worker,
        epoch,
        allocations,
        master,
        threads,
        task_manager,
    } = role.clone()
    else {
        tracing::error!(?role, "this is no worker");
        return FAILED;
    };
    let order = Order {
        cluster: ClusterId(cluster),
        worker,
        epoch,
        allocations,
        master,
        threads,
        task_manager,
    };
    run(async move |env| match work(order, code, &env).await {
        Ok(code) => code,
        Err(why) => {
            tracing::error!(why, "the worker cannot begin");
            FAILED
        }
    })
}

async fn work(order: Order, code: JobCodeHere, env: &ActorEnv) -> Result<u8, String> {
    let (rpc, address) = listen("worker", Some(order.cluster), env, 0).await?;
    let job = code.graph.id;
    let stamp = Stamp::job(job, order.epoch);
    let fences = Fences::new();
    fences.follow(stamp).map_err(|error| error.to_string())?;
    let (factory, (alive, ended)) = (code.factory, oneshot::channel());
    if let Some(group) = factory.job_metrics() {
        measure(&group, "worker");
    }
    let setup = TaskManagerSetup {
        id: order.worker,
        of: order.task_manager,
        threads: order.threads.max(1),
        slots: None,
        spawner: Box::new(Threads),
        programs: Programs::of(job, factory.clone()),
        resource_manager: None,
        alive: Some(alive),
    };
    let (mailbox, probe) = Shell::start(TaskManager::new(setup), env.clone());
    let registration = Registration {
        name: "worker".to_owned(),
        mailbox: mailbox.clone(),
        routes: Routes::<WorkerRpc, _>::new()
            .on(TaskManagerInput::Delivered)
            .on(TaskManagerInput::MetricsAsked),
        fences,
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())?;
    let gateway = rpc
        .connect(order.master)
        .gateway::<JobMasterRpc>("job-master")
        .stamped(stamp);
    let worker = order.worker;
    let opened = gateway.ask(OpenWorker { worker, address }, OPENING).await;
    let WorkerOpened { secret } = opened.map_err(|error| format!("the JobMaster: {error}"))?;
    let own = Party {
        job: job.0,
        secret,
        worker: worker.0,
    };
    let exchange = exchange(own, factory.network(), env)?;
    let receives_at = exchange.address().to_owned();
    factory.connect(Arc::new(exchange));
    let (lost_sender, mut lost) = mpsc::channel(1);
    let on_lost = Box::new(move |why| {
        // There is one loss.
        let _ = lost_sender.try_send(why);
    });
    let master = Courier::<JobMasterEvent>::start(gateway, env, on_lost).mailbox;
    let request = TaskManagerInput::RequestSlots {
        job,
        allocations: order.allocations,
        master,
        exchange: Some(receives_at),
    };
    mailbox.tell(request).map_err(|error| error.to_string())?;
    Ok(tokio::select! {
        _ = ended => DONE,
        why = lost.recv() => {
            tracing::warn!(why, "the JobMaster is gone, or has been replaced");
            ORPHANED
        }
    })
}

/// By which the job's tasks here and in its other workers exchange records.
fn exchange(own: Party, config: NetworkConfig, env: &ActorEnv) -> Result<Network, String> {
    let network = Network::start(NetworkSetup {
        own,
        bind: tcp(format!("{HOST}:0")),
        dialer: Arc::new(TcpDialer),
        config,
        clock: env.clock.clone(),
    });
    network.map_err(|error| hurtig_core::Error::external("the worker has no exchange", error).chain())
}
