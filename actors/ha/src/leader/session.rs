//! The brain of leader election: a state machine over time, answers of a store, and what a watch tells.
//!
//! It promises that its term holds only until the send time of the last answered grant or renewal plus
//! [`Timing::deadline`], that it takes office only by a transaction that created its key, that it goes on after the deadline only by
//! one that has seen that same key alive, and that its terms grow. It knows no store, no clock and no task.

use super::leadership::Term;
use crate::kv::{LeaseId, Revision};
use hurtig_core::time::Time;
use std::time::Duration;

/// The times of an election. Their order is checked when options are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// What is asked of the store.
    pub ttl: Duration,
    /// How often a lease is renewed.
    pub renew_every: Duration,
    /// How long after the send time of a renewal one may lead.
    pub deadline: Duration,
    /// How long to wait after the store has failed.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(5),
            renew_every: Duration::from_millis(1500),
            deadline: Duration::from_secs(4),
            retry: Duration::from_millis(500),
        }
    }
}

/// What happens to a session. Answers carry what was asked for, since they may come late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A lease was granted that was asked for at this time.
    Granted(LeaseId, Time),
    /// None was.
    NotGranted,
    /// The lease was renewed by what was sent at this time.
    Renewed(LeaseId, Time),
    /// It is not known whether the lease was renewed.
    NotRenewed(LeaseId),
    /// The lease is gone for certain.
    LeaseGone(LeaseId),
    /// A transaction has created our key with this lease, at this revision, or has found it so.
    Elected(LeaseId, Revision),
    /// Somebody else's key is there.
    Outvoted(LeaseId),
    /// It is not known whether our key was created.
    CampaignFailed(LeaseId),
    /// A transaction has seen our key of this term alive. It was sent at this time.
    Confirmed(Term, Time),
    /// A transaction has seen that our key of this term is not there any more.
    Refuted(Term),
    /// It could not be found out.
    NotConfirmed(Term),
    /// A watch tells what is under the election key: when it was created, if it is there.
    Watched(Option<Revision>),
    /// Somebody's write was refused because the term is not the store's any more.
    WriteRefused(Term),
    /// Leave, and do not come back.
    Resign,
}

/// What a session tells those who depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Takes office.
    Elected(Term),
    /// The deadline has passed: decide nothing, undo nothing.
    Suspended(Term),
    /// Goes on under the same term.
    Resumed(Term),
    /// The term is over.
    Deposed(Term),
}

/// What a session wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask for a lease.
    Grant,
    /// Renew it.
    Renew(LeaseId),
    /// Create the election key with this lease if it is absent.
    Campaign(LeaseId),
    /// Find out in a transaction whether the key of this term is alive.
    Confirm(Term),
    /// Give a lease back, and its keys with it.
    Revoke(LeaseId),
    /// This term holds until this time; or none does.
    Hold(Option<Term>, Time),
    /// Tell.
    Tell(Signal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Office {
    /// Without the key.
    None,
    /// A campaign is under way.
    Campaigning,
    /// Somebody else has it.
    Waiting,
    Leading(Term),
    Suspended(Term),
}

#[derive(Clone, Copy, Debug)]
struct HeldLease {
    id: LeaseId,
    /// When the last request was sent that was answered.
    fresh: Time,
    renewing: bool,
    /// When the next renewal is due.
    due: Time,
}

/// The session of one candidate.
#[derive(Clone, Debug)]
pub struct LeaderSession {
    timing: Timing,
    incarnation: u64,
    lease: Option<HeldLease>,
    granting: bool,
    confirming: bool,
    /// What has failed is tried again from then on.
    retry_at: Time,
    office: Office,
    resigned: bool,
}

impl LeaderSession {
    /// A session that wants to lead, in this incarnation.
    #[must_use]
    pub fn new(timing: Timing, incarnation: u64) -> Self {
        Self {
            timing,
            incarnation,
            lease: None,
            granting: false,
            confirming: false,
            retry_at: Time::ZERO,
            office: Office::None,
            resigned: false,
        }
    }

    /// The term that it holds, suspended or not.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        match self.office {
            Office::Leading(term) | Office::Suspended(term) => Some(term),
            _ => None,
        }
    }

    /// When [`Input::Tick`] is due at the latest.
    #[must_use]
    pub fn wake_at(&self, now: Time) -> Time {
        let mut at = now.after(self.timing.retry);
        if let Some(lease) = &self.lease {
            at = at.min(if lease.renewing { at } else { lease.due });
            if matches!(self.office, Office::Leading(_)) {
                at = at.min(self.until(lease));
            }
        }
        at.max(now)
    }

    /// Takes in what has happened, and says what is to be done, in order.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take_in(now, input, &mut effects);
        self.pass_deadline(now, &mut effects);
        if !self.resigned {
            self.ask(now, &mut effects);
        }
        effects
    }

    fn take_in(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => {}
            Input::Granted(id, sent) => self.granted(id, sent, effects),
            Input::NotGranted => {
                self.granting = false;
                self.later(now);
            }
            Input::Renewed(id, sent) => self.renewed(id, sent, effects),
            Input::NotRenewed(id) => self.not_renewed(now, id),
            Input::LeaseGone(id) => self.lease_gone(id, effects),
            Input::Elected(id, revision) => self.elected(id, revision, effects),
            Input::Outvoted(id) => {
                self.campaign_over(id, Office::Waiting);
                // What a watch says may have come before this answer.
                self.retry_at = now.after(self.timing.renew_every);
            }
            Input::CampaignFailed(id) => {
                self.campaign_over(id, Office::None);
                self.later(now);
            }
            Input::Confirmed(term, sent) => self.confirmed(now, term, sent, effects),
            Input::Refuted(term) => {
                self.confirming = false;
                self.depose(term, effects);
            }
            Input::NotConfirmed(_) => {
                self.confirming = false;
                self.later(now);
            }
            Input::Watched(created) => self.watched(created, effects),
            Input::WriteRefused(term) => self.doubt(term, effects),
            Input::Resign => self.resign(effects),
        }
    }

    fn granted(&mut self, id: LeaseId, sent: Time, effects: &mut Vec<Effect>) {
        self.granting = false;
        if self.resigned || self.lease.is_some() {
            return effects.push(Effect::Revoke(id));
        }
        let due = sent.after(self.timing.renew_every);
        self.lease = Some(HeldLease {
            id,
            fresh: sent,
            renewing: false,
            due,
        });
    }

    fn renewed(&mut self, id: LeaseId, sent: Time, effects: &mut Vec<Effect>) {
        let due = sent.after(self.timing.renew_every);
        let Some(lease) = self.lease_of(id) else {
            return;
        };
        lease.renewing = false;
        lease.due = due;
        // Answers may overtake each other.
        lease.fresh = lease.fresh.max(sent);
        if let (Office::Leading(term), Some(lease)) = (self.office, self.lease) {
            effects.push(Effect::Hold(Some(term), self.until(&lease)));
        }
    }

    fn not_renewed(&mut self, now: Time, id: LeaseId) {
        let due = now.after(self.timing.retry);
        if let Some(lease) = self.lease_of(id) {
            lease.renewing = false;
            lease.due = due;
        }
    }

    /// The store has deleted our key, or is about to.
    fn lease_gone(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        if self.lease_of(id).is_none() {
            return;
        }
        self.lease = None;
        self.retry_at = Time::ZERO;
        match self.term() {
            Some(term) => self.depose(term, effects),
            None => self.office = Office::None,
        }
    }

    fn elected(&mut self, id: LeaseId, revision: Revision, effects: &mut Vec<Effect>) {
        if self.office != Office::Campaigning || self.lease_of(id).is_none() {
            // The key hangs on a lease that was given up; it ends with that.
            return effects.push(Effect::Revoke(id));
        }
        let incarnation = self.incarnation;
        let term = Term {
            incarnation,
            revision,
        };
        // The deadline counts from the lease: the answer may have been long on its way.
        let until = self.lease.as_ref().map_or(Time::ZERO, |lease| self.until(lease));
        self.office = Office::Leading(term);
        effects.push(Effect::Hold(Some(term), until));
        effects.push(Effect::Tell(Signal::Elected(term)));
    }

    fn campaign_over(&mut self, id: LeaseId, office: Office) {
        if self.office == Office::Campaigning && self.lease_of(id).is_some() {
            self.office = office;
        }
    }

    fn confirmed(&mut self, now: Time, term: Term, sent: Time, effects: &mut Vec<Effect>) {
        self.confirming = false;
        let Some(lease) = self.lease else {
            return;
        };
        // The lease must have been renewed as well: the key alone may be about to end.
        let fresh = self.until(&lease) > now && sent >= lease.fresh;
        if self.office == Office::Suspended(term) && fresh {
            self.office = Office::Leading(term);
            effects.push(Effect::Hold(Some(term), self.until(&lease)));
            effects.push(Effect::Tell(Signal::Resumed(term)));
        }
    }

    fn watched(&mut self, created: Option<Revision>, effects: &mut Vec<Effect>) {
        match self.term() {
            // What a watch says may be old: it can only say that we are over when it names a later key, or when
            // a transaction agrees.
            Some(term) if created.is_some_and(|created| created > term.revision) => {
                self.depose(term, effects);
            }
            Some(term) if created != Some(term.revision) => self.doubt(term, effects),
            Some(_) => {}
            None if self.office == Office::Waiting && created.is_none() => {
                self.office = Office::None;
                self.retry_at = Time::ZERO;
            }
            None => {}
        }
    }

    fn doubt(&mut self, term: Term, effects: &mut Vec<Effect>) {
        if self.term() == Some(term) && !self.confirming {
            self.confirming = true;
            effects.push(Effect::Confirm(term));
        }
    }

    fn depose(&mut self, term: Term, effects: &mut Vec<Effect>) {
        if self.term() != Some(term) {
            return;
        }
        self.office = Office::None;
        effects.push(Effect::Hold(None, Time::ZERO));
        effects.push(Effect::Tell(Signal::Deposed(term)));
        // A new term begins with a new lease, so that nothing of the old one can keep the key alive.
        if let Some(lease) = self.lease.take() {
            effects.push(Effect::Revoke(lease.id));
        }
    }

    fn resign(&mut self, effects: &mut Vec<Effect>) {
        self.resigned = true;
        if let Some(term) = self.term() {
            self.depose(term, effects);
        } else if let Some(lease) = self.lease.take() {
            effects.push(Effect::Revoke(lease.id));
        }
        self.office = Office::None;
    }

    fn pass_deadline(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let until = self.lease.as_ref().map_or(Time::ZERO, |lease| self.until(lease));
        if let Office::Leading(term) = self.office
            && now >= until
        {
            self.office = Office::Suspended(term);
            effects.push(Effect::Tell(Signal::Suspended(term)));
        }
    }

    /// Whatever is missing is asked for, each once.
    fn ask(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Some(lease) = &mut self.lease else {
            if !self.granting && now >= self.retry_at {
                self.granting = true;
                effects.push(Effect::Grant);
            }
            return;
        };
        if !lease.renewing && now >= lease.due {
            lease.renewing = true;
            effects.push(Effect::Renew(lease.id));
        }
        let (id, fresh) = (lease.id, lease.fresh.after(self.timing.deadline) > now);
        match self.office {
            Office::None | Office::Waiting if fresh && now >= self.retry_at => {
                self.office = Office::Campaigning;
                effects.push(Effect::Campaign(id));
            }
            Office::Suspended(term) if fresh && !self.confirming && now >= self.retry_at => {
                self.confirming = true;
                effects.push(Effect::Confirm(term));
            }
            _ => {}
        }
    }

    fn later(&mut self, now: Time) {
        self.retry_at = now.after(self.timing.retry);
    }

    fn until(&self, lease: &HeldLease) -> Time {
        lease.fresh.after(self.timing.deadline)
    }

    fn lease_of(&mut self, id: LeaseId) -> Option<&mut HeldLease> {
        self.lease.as_mut().filter(|lease| lease.id == id)
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
