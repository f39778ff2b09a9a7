//! What a jobmanager does with its term: it takes on the jobs that it finds, and ends when the term does.
//!
//! One term, one life: a jobmanager that is deposed ends with all of its actors, and whoever runs it begins again with a new one. So nothing
//! of an old term is left that could decide anything.

use super::blobs::{BlobEvent, Blobs};
use super::placement::{Placement, ProcessEvent};
use crate::config::ClusterConfig;
use crate::dispatcher::{
    Dispatcher, DispatcherCall, DispatcherInput, DispatcherSetup, Durable, Inheritance, MasterProcesses,
};
use crate::programs::Programs;
use crate::resource_manager::{ResourceManager, ResourceManagerEvent};
use crate::wire::{BlobRpc, DispatcherRpc, ResourceManagerRpc};
use hurtig_core::Error;
use hurtig_ha::blob::BlobDir;
use hurtig_ha::collect::Collected;
use hurtig_ha::leader::{Leadership, Signal, Term};
use hurtig_ha::records::{LeaderToken, Life, Records};
use hurtig_kit::{ActorEnv, Component, ExitReason, Mailbox, Panicked, Probe, Shell, ShellCx};
use hurtig_rpc::{ClusterId, Fences, Registration, Routes, Rpc, Stamp};
use hurtig_storage::BlobStores;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Messages that may wait: the election says few things.
const CAPACITY: usize = 64;

/// The actors of a leader.
#[derive(Clone)]
pub(super) struct Office {
    pub(super) dispatcher: watch::Sender<Option<Mailbox<DispatcherInput>>>,
    pub(super) resource_manager: watch::Sender<Option<Mailbox<ResourceManagerEvent>>>,
    /// The right to write.
    pub(super) durable: watch::Sender<Option<Durable>>,
    /// Whether a term has ended that began here.
    pub(super) deposed: watch::Sender<bool>,
}

/// What a jobmanager needs to lead.
pub(super) struct LeaderSetup {
    pub(super) rpc: Rpc,
    pub(super) records: Records,
    pub(super) life: Life,
    pub(super) leadership: Leadership,
    pub(super) blobs: BlobDir,
    /// Where savepoints may lie.
    pub(super) stores: BlobStores,
    pub(super) config: ClusterConfig,
    pub(super) office: Office,
    /// Those of the cluster that its jobs may use.
    pub(super) secrets: BTreeMap<String, String>,
}

/// What reaches it.
pub(super) enum LeaderEvent {
    /// From the election.
    Signal(Signal),
    /// What earlier terms have left was read.
    Read(Term, Box<Result<(Durable, Inheritance), String>>),
    /// Timer: what was kept long enough is forgotten.
    Tidy,
    /// That was done, as far as it could be.
    Tidied,
}

/// From one look at what may be forgotten to the next; the first comes sooner.
const TIDY: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(600)];

/// See the module.
pub(super) struct Leader {
    setup: LeaderSetup,
}

impl Leader {
    pub(super) fn new(setup: LeaderSetup) -> Self {
        Self { setup }
    }

    /// Nothing has an effect before the directory was compared with the store.
    fn elected(&self, term: Term, cx: &mut ShellCx<'_, Self>) {
        let setup = &self.setup;
        let durable = Durable {
            records: setup.records.clone(),
            leader: LeaderToken::new(term, setup.leadership.clone()),
            blobs: setup.blobs.clone(),
            threads: cx.env().blocking.clone(),
            stores: setup.stores.clone(),
        };
        let remembered = setup.config.job_store_capacity;
        let read = async move {
            durable.note_term().await.map_err(|error| error.to_string())?;
            let left = durable
                .inherit(remembered)
                .await
                .map_err(|error| error.to_string())?;
            Ok((durable, left))
        };
        cx.drive(read, move |read| {
            let read = read.unwrap_or_else(|Panicked { message }| Err(message));
            LeaderEvent::Read(term, Box::new(read))
        });
    }

    fn begin(&self, term: Term, durable: Durable, left: Inheritance, env: &ActorEnv) -> Result<(), String> {
        let LeaderSetup {
            rpc,
            life,
            config,
            office,
            blobs,
            secrets,
            ..
        } = &self.setup;
        let revision = NonZeroU64::new(term.revision.0).ok_or("a term at revision 0")?;
        let stamp = Stamp::cluster(ClusterId(life.cluster), term.incarnation, revision);
        let fences = Fences::open();
        fences.hold(stamp).map_err(|error| error.to_string())?;
        // They know each other by their mailboxes, so one of them is told later.
        let placement = Placement::new(rpc.clone(), stamp, secrets.clone());
        let (resource_manager, probe) = Shell::start(
            ResourceManager::of_processes(placement, config.load_balance, term.revision.0),
            env.clone(),
        );
        register_resource_manager(rpc, &resource_manager, (probe, fences.clone()))?;
        office.durable.send_replace(Some(durable.clone()));
        let setup = DispatcherSetup {
            config: config.clone(),
            resource_manager: resource_manager.clone(),
            programs: Programs::default(),
            processes: Some(MasterProcesses::new(rpc.clone(), fences.clone(), durable, left)),
        };
        let (dispatcher, probe) = Shell::start(Dispatcher::new(setup), env.clone());
        let reporting = ResourceManagerEvent::Processes(Box::new(ProcessEvent::ReportTo(dispatcher.clone())));
        let told = resource_manager.tell(reporting);
        told.map_err(|error| error.to_string())?;
        register_dispatcher(rpc, &dispatcher, (probe, fences.clone()))?;
        register_blobs(rpc, blobs.clone(), fences, env)?;
        office.resource_manager.send_replace(Some(resource_manager));
        office.dispatcher.send_replace(Some(dispatcher));
        Ok(())
    }

    /// Carries on what earlier terms have begun, and begins to tidy up.
    fn keep_house(&self, cx: &mut ShellCx<'_, Self>) {
        let Some(durable) = self.setup.office.durable.borrow().clone() else {
            return;
        };
        let clock = cx.env().clock.clone();
        cx.detach(async move { durable.dispose_open(&|| clock.wall_ms()).await });
        cx.after(TIDY[0], LeaderEvent::Tidy);
    }

    fn tidy(&self, cx: &mut ShellCx<'_, Self>) {
        let Some(durable) = self.setup.office.durable.borrow().clone() else {
            return;
        };
        let now_ms = cx.env().clock.wall_ms();
        let tidied = async move {
            if let Err(error) = durable.forget_outcomes(now_ms).await {
                tracing::warn!(%error, "old outcomes are not forgotten yet");
            }
            match durable.collect(now_ms).await {
                Ok(collected) if collected == Collected::default() => {}
                Ok(collected) => tracing::info!(?collected, "blobs that nobody needs"),
                Err(error) => tracing::warn!(%error, "blobs are not collected yet"),
            }
        };
        cx.drive(tidied, |_| LeaderEvent::Tidied);
    }

    fn deposed(&self, term: Term) -> ExitReason {
        self.setup.office.deposed.send_replace(true);
        ExitReason::failed(Error::external(
            "another jobmanager leads, or may",
            std::io::Error::other(term.to_string()),
        ))
    }
}

impl Component for Leader {
    type Event = LeaderEvent;

    fn name(&self) -> String {
        "leader".to_owned()
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn handle(&mut self, event: LeaderEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let wrong =
            |why: String| ExitReason::failed(Error::external("it cannot lead", std::io::Error::other(why)));
        match event {
            LeaderEvent::Signal(Signal::Elected(term)) => self.elected(term, cx),
            // Whatever is written asks whether the term holds at that moment.
            LeaderEvent::Signal(Signal::Suspended(_) | Signal::Resumed(_)) => {}
            LeaderEvent::Signal(Signal::Deposed(term)) => return Err(self.deposed(term)),
            LeaderEvent::Read(term, read) => match *read {
                Ok((durable, left)) => {
                    self.begin(term, durable, left, cx.env()).map_err(wrong)?;
                    self.keep_house(cx);
                    tracing::info!(%term, "leads");
                }
                // Whoever leads now may have written what looked strange.
                Err(_) if self.setup.leadership.leading() != Some(term) => return Err(self.deposed(term)),
                Err(why) => return Err(wrong(why)),
            },
            LeaderEvent::Tidy => self.tidy(cx),
            LeaderEvent::Tidied => _ = cx.after(TIDY[1], LeaderEvent::Tidy),
        }
        Ok(())
    }
}

type Watched = (Arc<Probe>, Fences);

fn register_resource_manager(
    rpc: &Rpc,
    mailbox: &Mailbox<ResourceManagerEvent>,
    (probe, fences): Watched,
) -> Result<(), String> {
    let event = |event| ResourceManagerEvent::Processes(Box::new(event));
    let registration = Registration {
        name: "resource-manager".to_owned(),
        mailbox: mailbox.clone(),
        routes: Routes::<ResourceManagerRpc, _>::new()
            .on(move |call| event(ProcessEvent::Registered(call)))
            .on(move |call| event(ProcessEvent::Ended(call)))
            .on(move |call| event(ProcessEvent::Delivered(call))),
        fences,
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())
}

fn register_dispatcher(
    rpc: &Rpc,
    mailbox: &Mailbox<DispatcherInput>,
    (probe, fences): Watched,
) -> Result<(), String> {
    let call = DispatcherInput::Processes;
    let registration = Registration {
        name: "dispatcher".to_owned(),
        mailbox: mailbox.clone(),
        routes: Routes::<DispatcherRpc, _>::new()
            .on(move |claim| call(DispatcherCall::Claim(claim)))
            .on(move |record| call(DispatcherCall::Record(record)))
            .on(move |end| call(DispatcherCall::BeginEnd(end)))
            .on(move |delivery| call(DispatcherCall::Delivered(delivery))),
        fences,
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())
}

fn register_blobs(rpc: &Rpc, artifacts: BlobDir, fences: Fences, env: &ActorEnv) -> Result<(), String> {
    let (mailbox, probe) = Shell::start(Blobs(artifacts), env.clone());
    let registration = Registration {
        name: "blobs".to_owned(),
        mailbox,
        routes: Routes::<BlobRpc, _>::new().on(BlobEvent::Read),
        fences,
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())
}
