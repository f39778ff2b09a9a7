//! The process of a jobmanager: it stands for election, says who leads, and while it leads has an office. After
//! `actors/ha/src/leader/election.rs` and `actors/cluster/src/process/leader.rs`.

use crate::kernel::{Host, Kernel};
use crate::launcher::stamp_of;
use crate::messages::{Ask, Done, Input, Pid, Refused, Reply, Then, Timer};
use crate::office::{Office, insist};
use crate::store::SimStore;
use hurtig_ha::kv::Store as _;
use hurtig_ha::leader::{
    Effect, Input as ElectionInput, LeaderSession, Leadership, Signal, Term, Timing, campaign, confirm,
    grant, renew,
};
use hurtig_ha::records::{Keys, LeaderToken, Records};
use hurtig_rpc::{FenceError, Fences};
use std::sync::Arc;

/// See the module.
pub(crate) struct JobManager {
    own: Pid,
    session: LeaderSession,
    ticks: u64,
    pub(crate) leadership: Leadership,
    store: SimStore,
    records: Records,
    pub(crate) office: Option<Office>,
}

impl JobManager {
    pub(crate) fn new(own: Pid, kernel: &mut Kernel) -> Self {
        let store = SimStore::new(own, kernel.store.clone());
        let records = Records::new(Arc::new(store.clone()), keys());
        Self {
            own,
            session: LeaderSession::new(Timing::default(), 1),
            ticks: 0,
            leadership: Leadership::new(kernel.clock.clone()),
            store,
            records,
            office: None,
        }
    }

    pub(crate) fn handle(&mut self, input: Input, host: Host, kernel: &mut Kernel) {
        match input {
            Input::Begin => {
                kernel.managers.insert(host, self.own);
                self.step(ElectionInput::Tick, kernel);
            }
            Input::Watched(created) => {
                let created = created.map(hurtig_ha::kv::Revision);
                self.step(ElectionInput::Watched(created), kernel);
            }
            Input::Timer(Timer::Tick(tick)) if tick == self.ticks => self.step(ElectionInput::Tick, kernel),
            Input::Timer(Timer::Tick(_)) => {}
            Input::Done(Done::Election(input)) => self.step(input, kernel),
            Input::Done(Done::Inherited(term, jobs)) => self.begin(term, *jobs, kernel),
            Input::Done(Done::Leader(call, leader)) => {
                let leader = leader.map(|(pid, revision)| (pid, term_of(revision)));
                kernel.answer(self.own, call, Ok(Reply::Leader(leader)));
            }
            Input::Call {
                id,
                ask: Ask::WhoLeads,
                ..
            } => self.who_leads(id, kernel),
            Input::Call { from, id, stamp, ask } => match &mut self.office {
                None => kernel.answer(self.own, id, Err(Refused::NotNow)),
                // Clients have no token.
                Some(office) if matches!(ask, Ask::Submit) => office.on_call((from, id), None, ask, kernel),
                Some(office) => match office.fences.admit(stamp) {
                    // Whoever has not heard of the new leader yet asks again.
                    Err(FenceError::Unregistered(_)) if matches!(ask, Ask::Claim { .. }) => {
                        kernel.answer(self.own, id, Err(Refused::NotNow));
                    }
                    Err(fenced) => {
                        kernel.checks.fenced += 1;
                        kernel.answer(self.own, id, Err(Refused::Fenced(fenced)));
                    }
                    Ok(()) => office.on_call((from, id), stamp, ask, kernel),
                },
            },
            other => {
                if let Some(office) = &mut self.office {
                    office.handle(other, kernel);
                }
            }
        }
    }

    pub(crate) fn answered(&mut self, then: Then, answer: Result<Reply, Refused>, kernel: &mut Kernel) {
        if let Some(office) = &mut self.office {
            office.answered(then, answer, kernel);
        }
    }

    fn step(&mut self, input: ElectionInput, kernel: &mut Kernel) {
        let now = kernel.now;
        for effect in self.session.step(now, input) {
            self.carry_out(effect, kernel);
        }
        self.ticks += 1;
        let wait = self.session.wake_at(now).since(now);
        // A tick that is due now comes a moment later, and not without end at the same one.
        let wait = wait.max(std::time::Duration::from_micros(100));
        kernel.timer(self.own, wait, Timer::Tick(self.ticks));
    }

    fn carry_out(&mut self, effect: Effect, kernel: &mut Kernel) {
        let (store, now, own) = (self.store.clone(), kernel.now, self.own);
        match effect {
            Effect::Grant => {
                let ttl = Timing::default().ttl;
                kernel.drive(own, async move { Done::Election(grant(&store, ttl, now).await) });
            }
            Effect::Renew(lease) => {
                kernel.drive(
                    own,
                    async move { Done::Election(renew(&store, lease, now).await) },
                );
            }
            Effect::Campaign(lease) => {
                let value = own.to_string().into_bytes();
                let key = keys().leader();
                kernel.drive(own, async move {
                    Done::Election(campaign(&store, key, value, lease).await)
                });
            }
            Effect::Confirm(term) => {
                let key = keys().leader();
                kernel.drive(own, async move {
                    Done::Election(confirm(&store, key, term, now).await)
                });
            }
            Effect::Revoke(lease) => kernel.drive(own, async move {
                // It ends by itself.
                let _ = store.revoke(lease).await;
                Done::Nothing
            }),
            Effect::Hold(term, until) => self.leadership.set(term, until),
            Effect::Tell(Signal::Elected(term)) => self.elected(term, kernel),
            Effect::Tell(Signal::Deposed(_)) => kernel.end(own, "another jobmanager leads, or may"),
            Effect::Tell(Signal::Suspended(_) | Signal::Resumed(_)) => {}
        }
    }

    fn elected(&mut self, term: Term, kernel: &mut Kernel) {
        kernel.checks.elections += 1;
        kernel.tell(self.own, format_args!("is elected: {term}"));
        let (records, store) = (self.records.clone(), self.store.clone());
        kernel.drive(self.own, async move {
            let jobs = insist(&store, async || records.jobs().await).await;
            Done::Inherited(term, Box::new(jobs))
        });
    }

    fn begin(
        &mut self,
        term: Term,
        jobs: Result<
            std::collections::BTreeMap<hurtig_core::ids::JobId, hurtig_ha::records::JobView>,
            hurtig_ha::records::Failure,
        >,
        kernel: &mut Kernel,
    ) {
        let jobs = match jobs {
            Ok(jobs) => jobs,
            Err(error) => return kernel.end(self.own, format!("it cannot lead: {error}")),
        };
        let fences = Fences::new();
        if fences.hold(stamp_of(term)).is_err() {
            return kernel.end(self.own, "a newer leader is known here");
        }
        let leader = LeaderToken::new(term, self.leadership.clone());
        let ways = (self.records.clone(), self.store.clone());
        let mut office = Office::new(self.own, (term, leader), ways, fences);
        office.take_on(jobs, kernel);
        self.office = Some(office);
    }

    /// Who leads, as it knows itself or the store says.
    fn who_leads(&self, call: u64, kernel: &mut Kernel) {
        if let Some(term) = self.leadership.leading() {
            let leader = self.office.as_ref().map(|_| (self.own, term));
            return kernel.answer(self.own, call, Ok(Reply::Leader(leader)));
        }
        let (store, key, own) = (self.store.clone(), keys().leader(), self.own);
        kernel.drive(self.own, async move {
            let entry = store.get(&key).await.ok().flatten();
            let leader = entry.and_then(|entry| {
                let pid = String::from_utf8(entry.value).ok()?.parse().ok()?;
                Some((pid, entry.created.0))
            });
            // What stands there of this process itself is of a term that does not hold now.
            let leader = leader.filter(|(pid, _)| *pid != own);
            Done::Leader(call, leader)
        });
    }
}

pub(crate) fn keys() -> Keys {
    Keys::new("/hurtig", "simulated")
}

fn term_of(revision: u64) -> Term {
    Term {
        incarnation: 1,
        revision: hurtig_ha::kv::Revision(revision),
    }
}
