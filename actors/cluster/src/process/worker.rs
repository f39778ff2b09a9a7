//! The process of a worker: tasks of one job, in the slots that it was started with.

use super::job_master::JobCodeHere;
use super::launch::Role;
use super::machine::measure;
use super::runtime::{DONE, FAILED, ORPHANED, listen, run};
use super::security::{HOST, Security};
use crate::job_master::JobMasterEvent;
use crate::programs::Programs;
use crate::task_manager::{TaskManager, TaskManagerInput, TaskManagerSetup};
use crate::wire::{Courier, JobMasterRpc, OpenWorker, WorkerOpened, WorkerRpc};
use hurtig_core::ids::{AllocationId, TaskManagerId};
use hurtig_kit::{ActorEnv, Shell, Threads};
use hurtig_network::{Network, NetworkConfig, NetworkSetup, Party};
use hurtig_rpc::{ClusterId, Fences, Registration, Routes, Stamp, TlsGiven};
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
    tls: Option<Box<TlsGiven>>,
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
        tls,
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
        tls,
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
    let security = Security::of_job(order.tls.map(|tls| *tls))?;
    let (rpc, address) = listen("worker", Some(order.cluster), env, (0, &security)).await?;
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
    let WorkerOpened {
        secret,
        exchange: tls,
    } = opened.map_err(|error| format!("the JobMaster: {error}"))?;
    let own = Party {
        job: job.0,
        secret,
        worker: worker.0,
    };
    if tls.is_none() && security.is_on() {
        return Err(
            "the JobMaster has no certificate for the exchange, and nothing may travel in the clear"
                .to_owned(),
        );
    }
    let exchange = exchange(own, factory.network(), tls, env)?;
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
fn exchange(
    own: Party,
    config: NetworkConfig,
    tls: Option<TlsGiven>,
    env: &ActorEnv,
) -> Result<Network, String> {
    let security = Security::of_job(tls)?;
    let network = Network::start(NetworkSetup {
        own,
        bind: security.bind(format!("{HOST}:0")),
        dialer: security.dialer(),
        config,
        clock: env.clock.clone(),
    });
    network.map_err(|error| hurtig_core::Error::external("the worker has no exchange", error).chain())
}
