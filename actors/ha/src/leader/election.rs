//! The shell of leader election: asks the store what the session wants to know, and tells what it decides.

use super::compaction::Compaction;
use super::leadership::{Leadership, Term};
use super::session::{Effect, Input, LeaderSession, Signal, Timing};
use crate::kv::{
    Change, Entry, Guard, Key, LeaseId, Outcome, Revision, Settled, Store, StoreError, Transaction, Update,
    Watcher, settle,
};
use crate::records::{Keys, LeaderRecord, Stored, encode_new};
use hurtig_core::time::Time;
use hurtig_kit::{Component, ExitReason, Panicked, ShellCx, Timer};
use std::fmt;
use std::sync::Arc;

/// How many messages may wait: each asker sends one, and answers of the store do not pass through the mailbox.
const CAPACITY: usize = 64;

/// Who wants to lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What is written under the election key.
    pub record: LeaderRecord,
    /// The cluster's incarnation, as it was checked before.
    pub incarnation: u64,
    /// When.
    pub timing: Timing,
}

/// What an election hears.
pub enum ElectionEvent {
    /// Something was found out.
    Found(Input),
    /// The store has this revision.
    Revision(Revision),
    /// It is time.
    Wake,
    /// A watch tells.
    Told(Box<(Watcher, Update)>),
    /// A write was refused because this term is over, in the opinion of the store.
    WriteRefused(Term),
    /// Leave.
    Resign,
    /// What was asked of the store has panicked.
    Broken(Panicked),
}

/// The actor that wants to lead. It tells of its standing in order; [`Leadership`] has it at every moment.
pub struct LeaderElection {
    session: LeaderSession,
    candidate: Candidate,
    store: Arc<dyn Store>,
    keys: Keys,
    leadership: Leadership,
    tell: Box<dyn FnMut(Signal)>,
    timer: Option<Timer>,
    compaction: Compaction,
}

impl LeaderElection {
    /// An election among those who share the store and the keys. `tell` is called on the actor's thread, and must not block.
    #[must_use]
    pub fn new(
        candidate: Candidate,
        (store, keys): (Arc<dyn Store>, Keys),
        leadership: Leadership,
        tell: impl FnMut(Signal) + 'static,
    ) -> Self {
        Self {
            session: LeaderSession::new(candidate.timing, candidate.incarnation),
            candidate,
            store,
            keys,
            leadership,
            tell: Box::new(tell),
            timer: None,
            compaction: Compaction::default(),
        }
    }

    fn step(&mut self, input: Input, cx: &mut ShellCx<'_, Self>) {
        let effects = self.session.step(cx.now(), input);
        for effect in effects {
            self.carry_out(effect, cx);
        }
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        let wait = self.session.wake_at(cx.now()).since(cx.now());
        self.timer = Some(cx.after(wait, ElectionEvent::Wake));
    }

    fn carry_out(&mut self, effect: Effect, cx: &mut ShellCx<'_, Self>) {
        let (store, now) = (self.store.clone(), cx.now());
        match effect {
            Effect::Grant => {
                let ttl = self.candidate.timing.ttl;
                ask(cx, async move { grant(&*store, ttl, now).await });
            }
            Effect::Renew(lease) => ask(cx, async move { renew(&*store, lease, now).await }),
            Effect::Campaign(lease) => self.campaign(lease, cx),
            Effect::Confirm(term) => {
                let key = self.keys.leader();
                ask(cx, async move { confirm(&*store, key, term, now).await });
            }
            Effect::Revoke(lease) => cx.detach(async move {
                if let Err(error) = store.revoke(lease).await {
                    tracing::debug!(%error, "a lease was not given back; it ends by itself");
                }
            }),
            Effect::Hold(term, until) => self.leadership.set(term, until),
            Effect::Tell(signal) => {
                tracing::info!(?signal, candidate = self.candidate.record.candidate, "leadership");
                (self.tell)(signal);
            }
        }
    }

    fn campaign(&self, lease: LeaseId, cx: &mut ShellCx<'_, Self>) {
        let (store, key) = (self.store.clone(), self.keys.leader());
        match encode_new(&key, &self.candidate.record) {
            Ok(value) => ask(cx, async move { campaign(&*store, key, value, lease).await }),
            Err(error) => {
                tracing::error!(%error, "the candidate's record cannot be written");
                ask(cx, std::future::ready(Input::CampaignFailed(lease)));
            }
        }
    }

    fn watch(watcher: Watcher, cx: &mut ShellCx<'_, Self>) {
        let mut watcher = watcher;
        let next = async move {
            let update = watcher.next().await;
            (watcher, update)
        };
        cx.drive(next, |told| {
            told.map_or_else(ElectionEvent::Broken, |told| ElectionEvent::Told(Box::new(told)))
        });
    }

    fn told(&mut self, update: Update, cx: &mut ShellCx<'_, Self>) {
        let key = self.keys.leader();
        let created = |entry: Option<&Entry>| Input::Watched(entry.map(|entry| entry.created));
        match update {
            Update::Snapshot(listing) => self.step(created(listing.get(&key)), cx),
            Update::Changed(_, changes) => {
                for (changed, entry) in changes {
                    if changed == key {
                        self.step(created(entry.as_ref()), cx);
                    }
                }
            }
        }
    }
}

impl LeaderElection {
    /// The leader has old history forgotten, before it fills the store.
    fn look_after_history(&mut self, cx: &mut ShellCx<'_, Self>) {
        if self.leadership.leading().is_none() || !self.compaction.is_due(cx.now()) {
            return;
        }
        let listed = self.store.list(&self.keys.election());
        cx.drive(listed, |listed| match listed {
            Ok(Ok(listing)) => ElectionEvent::Revision(listing.revision),
            // It is looked at again next time.
            Ok(Err(_)) => ElectionEvent::Wake,
            Err(panicked) => ElectionEvent::Broken(panicked),
        });
    }

    fn compact(&mut self, revision: Revision, cx: &mut ShellCx<'_, Self>) {
        if let Some(up_to) = self.compaction.sample(cx.now(), revision) {
            let compacted = self.store.compact(up_to);
            cx.detach(async move {
                if let Err(error) = compacted.await {
                    tracing::warn!(%error, "old history was not forgotten; it is tried again in five minutes");
                }
            });
        }
    }
}

impl Component for LeaderElection {
    type Event = ElectionEvent;

    fn name(&self) -> String {
        format!("leader-election-{}", self.candidate.record.candidate)
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn started(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        Self::watch(Watcher::new(self.store.clone(), self.keys.election()), cx);
        self.step(Input::Tick, cx);
        Ok(())
    }

    fn handle(&mut self, event: ElectionEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            ElectionEvent::Found(input) => self.step(input, cx),
            ElectionEvent::Wake => {
                self.step(Input::Tick, cx);
                self.look_after_history(cx);
            }
            ElectionEvent::Revision(revision) => self.compact(revision, cx),
            ElectionEvent::Told(told) => {
                let (watcher, update) = *told;
                self.told(update, cx);
                Self::watch(watcher, cx);
            }
            ElectionEvent::WriteRefused(term) => self.step(Input::WriteRefused(term), cx),
            ElectionEvent::Resign => self.step(Input::Resign, cx),
            ElectionEvent::Broken(Panicked { message }) => return Err(ExitReason::Panicked(message)),
        }
        Ok(())
    }
}

fn ask(cx: &mut ShellCx<'_, LeaderElection>, question: impl Future<Output = Input> + 'static) {
    cx.drive(question, |answer| {
        answer.map_or_else(ElectionEvent::Broken, ElectionEvent::Found)
    });
}

/// Asks for a lease.
pub async fn grant(store: &dyn Store, ttl: std::time::Duration, sent: Time) -> Input {
    match store.grant(ttl).await {
        Ok(lease) => Input::Granted(lease.id, sent),
        Err(error) => {
            tracing::warn!(%error, "no lease to lead with");
            Input::NotGranted
        }
    }
}

/// Renews a lease.
pub async fn renew(store: &dyn Store, lease: LeaseId, sent: Time) -> Input {
    match store.renew(lease).await {
        Ok(()) => Input::Renewed(lease, sent),
        Err(StoreError::LeaseGone(_)) => Input::LeaseGone(lease),
        Err(error) => {
            tracing::warn!(%error, "the lease was not renewed");
            Input::NotRenewed(lease)
        }
    }
}

/// Creates the election key, if nobody has it.
pub async fn campaign(store: &dyn Store, key: Key, value: Vec<u8>, lease: LeaseId) -> Input {
    let put = Change::Put(key.clone(), value, Some(lease));
    let transaction = Transaction::new(vec![Guard::Absent(key.clone())], vec![put]);
    match settle(store, transaction, false).await {
        Settled::Done(revision) => Input::Elected(lease, revision),
        // An earlier campaign with this lease may have come through late: the transaction has seen the key alive.
        Settled::Refused(seen) | Settled::Overtaken(seen) => match seen.get(&key) {
            Some(entry) if entry.lease == Some(lease) => Input::Elected(lease, entry.created),
            _ => Input::Outvoted(lease),
        },
        Settled::Rejected(StoreError::LeaseGone(_)) => Input::LeaseGone(lease),
        Settled::Rejected(_) | Settled::Unknown(_) => Input::CampaignFailed(lease),
    }
}

/// Finds out whether a term holds.
pub async fn confirm(store: &dyn Store, key: Key, term: Term, sent: Time) -> Input {
    let alive = Guard::CreatedAt(key, term.revision);
    match store.commit(Transaction::new(vec![alive], vec![])).await {
        Outcome::Done(_) => Input::Confirmed(term, sent),
        Outcome::Refused(_) => Input::Refuted(term),
        Outcome::Rejected(_) | Outcome::Unknown(_) => Input::NotConfirmed(term),
    }
}

/// Who leads, by what is under the election key.
///
/// # Errors
/// When the store cannot be reached, or the record cannot be read.
pub async fn current_leader(
    store: &dyn Store,
    keys: &Keys,
) -> Result<Option<Stored<LeaderRecord>>, crate::records::Failure> {
    let entry = store.get(&keys.leader()).await?;
    entry.as_ref().map(Stored::read).transpose()
}

impl fmt::Debug for ElectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(input) => f.debug_tuple("Found").field(input).finish(),
            Self::Revision(revision) => f.debug_tuple("Revision").field(revision).finish(),
            Self::Wake => f.write_str("Wake"),
            Self::Told(told) => f.debug_tuple("Told").field(&told.1).finish(),
            Self::WriteRefused(term) => f.debug_tuple("WriteRefused").field(term).finish(),
            Self::Resign => f.write_str("Resign"),
            Self::Broken(panicked) => f.debug_tuple("Broken").field(panicked).finish(),
        }
    }
}

impl fmt::Debug for LeaderElection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaderElection")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
