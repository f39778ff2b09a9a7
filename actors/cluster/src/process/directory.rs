//! Who leads: any jobmanager says it to anybody who asks.

use crate::wire::{DirectoryRpc, Leads, WhoLeads, WhoLeadsAnswer};
use hurtig_ha::leader::{Leadership, current_leader};
use hurtig_ha::records::{Life, Records};
use hurtig_kit::{Component, ExitReason, ShellCx};
use hurtig_rpc::{Call, Connectivity, Peer, Rpc};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

/// How long a jobmanager may take to say who leads.
const ASKING: Duration = Duration::from_secs(2);
/// How often who is led looks whether somebody else leads.
const LOOK: Duration = Duration::from_secs(3);
/// How long nobody is asked after all were, at first and at last.
const TURN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// The actor that says it.
#[derive(Clone)]
pub(super) struct Directory {
    pub(super) records: Records,
    pub(super) life: Life,
    pub(super) leadership: Leadership,
    /// Where this process listens.
    pub(super) address: String,
    /// Whether jobs outlive this process.
    pub(super) durable: bool,
}

/// What reaches it.
pub(super) enum DirectoryEvent {
    /// The question.
    WhoLeads(Call<WhoLeads>),
}

impl Directory {
    fn leads(&self, revision: u64, address: String) -> Option<Leads> {
        Some(Leads {
            cluster: self.life.cluster,
            incarnation: self.life.incarnation,
            revision: NonZeroU64::new(revision)?,
            address,
            durable: self.durable,
        })
    }
}

impl Component for Directory {
    type Event = DirectoryEvent;

    fn name(&self) -> String {
        "directory".to_owned()
    }

    fn capacity(&self) -> usize {
        1_024
    }

    fn handle(&mut self, event: DirectoryEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let DirectoryEvent::WhoLeads(call) = event;
        if let Some(term) = self.leadership.leading() {
            let leader = self.leads(term.revision.0, self.address.clone());
            call.reply.send(WhoLeadsAnswer { leader });
            return Ok(());
        }
        let own = self.clone();
        cx.detach(async move {
            let known = current_leader(&**own.records.store(), own.records.keys()).await;
            // What stands there of this process itself is of a term that does not hold now.
            let known = known
                .unwrap_or(None)
                .filter(|known| known.value.address != own.address);
            let leader = known.and_then(|known| own.leads(known.created.0, known.value.address));
            call.reply.send(WhoLeadsAnswer { leader });
        });
        Ok(())
    }
}

/// Asks all jobmanagers, one after the other, until one names the leader.
pub(super) async fn find_leader(rpc: &Rpc, jobmanagers: &[String]) -> Leads {
    let [mut turn, longest] = TURN;
    let mut said = BTreeMap::new();
    loop {
        for address in jobmanagers {
            match ask_one(rpc, address).await {
                Ok(Some(leads)) => return leads,
                Ok(None) => tracing::debug!(address, "nobody leads"),
                // Each problem once: it is asked again and again.
                Err(error) if said.get(address) != Some(&error) => {
                    tracing::warn!(address, error, "a jobmanager does not say who leads");
                    said.insert(address, error);
                }
                Err(_) => {}
            }
        }
        tokio::time::sleep(turn).await;
        turn = (turn * 2).min(longest);
    }
}

/// Waits until a jobmanager names a leader of a later term than `term`; while that is not known, one that is not at `address`. A
/// leader that is cut off from the store goes on answering.
pub(super) async fn superseded(
    rpc: &Rpc,
    jobmanagers: &[String],
    address: &str,
    term: Option<(u64, NonZeroU64)>,
) {
    if jobmanagers.len() < 2 {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOOK).await;
        for asked in jobmanagers.iter().filter(|asked| *asked != address) {
            let Ok(Some(leads)) = ask_one(rpc, asked).await else {
                continue;
            };
            let later = match term {
                Some(term) => (leads.incarnation, leads.revision) > term,
                None => leads.address != address,
            };
            if later {
                return;
            }
        }
    }
}

async fn ask_one(rpc: &Rpc, address: &str) -> Result<Option<Leads>, String> {
    let peer = rpc.connect(address);
    let asked = peer.gateway::<DirectoryRpc>("directory").ask(WhoLeads {}, ASKING);
    let answer = tokio::select! {
        answer = asked => answer.map_err(|error| error.to_string()),
        why = dead(&peer) => Err(why),
    };
    peer.close("it has said who leads");
    answer.map(|answer| answer.leader)
}

/// Waits for the end of a peer. Says how it has ended.
pub(super) async fn dead(peer: &Peer) -> String {
    let Some(mut states) = peer.watch() else {
        return std::future::pending().await;
    };
    let dead = states.wait_for(|state| matches!(state.connectivity, Connectivity::Dead(_)));
    match dead.await.map(|state| state.connectivity.clone()) {
        Ok(Connectivity::Dead(reason)) => reason.to_string(),
        _ => "its link has ended".to_owned(),
    }
}
