//! The session as a table, and many sessions over a model of a store that does everything wrong that etcd may.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LEASE: LeaseId = LeaseId(7);

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

fn term(revision: u64) -> Term {
    Term {
        incarnation: 1,
        revision: Revision(revision),
    }
}

/// A session that leads since `millis`, with a lease that was asked for then.
fn leading(millis: u64) -> LeaderSession {
    let mut session = LeaderSession::new(Timing::default(), 1);
    let now = at(millis);
    assert_eq!(session.step(now, Input::Tick), [Effect::Grant]);
    assert_eq!(
        session.step(now, Input::Granted(LEASE, now)),
        [Effect::Campaign(LEASE)]
    );
    let elected = session.step(now, Input::Elected(LEASE, Revision(3)));
    let until = at(millis + 4000);
    assert_eq!(
        elected,
        [
            Effect::Hold(Some(term(3)), until),
            Effect::Tell(Signal::Elected(term(3)))
        ]
    );
    session
}

#[test]
fn the_deadline_counts_from_when_the_renewal_was_sent() {
    let mut session = leading(0);
    assert_eq!(session.step(at(1500), Input::Tick), [Effect::Renew(LEASE)]);
    let renewed = session.step(at(3900), Input::Renewed(LEASE, at(1500)));
    assert_eq!(
        renewed,
        [Effect::Hold(Some(term(3)), at(5500)), Effect::Renew(LEASE)]
    );
    assert_eq!(session.wake_at(at(5400)), at(5500));
    assert_eq!(
        session.step(at(5500), Input::Tick),
        [Effect::Tell(Signal::Suspended(term(3)))]
    );
}

#[test]
fn an_answer_that_came_too_late_elects_nobody_who_may_act() {
    let mut session = LeaderSession::new(Timing::default(), 1);
    session.step(at(0), Input::Tick);
    session.step(at(0), Input::Granted(LEASE, at(0)));
    let effects = session.step(at(5000), Input::Elected(LEASE, Revision(3)));
    let expected = [
        Effect::Hold(Some(term(3)), at(4000)),
        Effect::Tell(Signal::Elected(term(3))),
        Effect::Tell(Signal::Suspended(term(3))),
        Effect::Renew(LEASE),
    ];
    assert_eq!(effects, expected);
}

#[test]
fn a_suspended_leader_goes_on_only_with_a_new_lease_time_and_a_key_that_was_seen() {
    let mut session = leading(0);
    session.step(at(4000), Input::Tick);
    // The lease lives: now the key is looked for.
    let renewed = session.step(at(6000), Input::Renewed(LEASE, at(5900)));
    assert_eq!(renewed, [Effect::Confirm(term(3))]);
    // What was seen before the renewal says nothing about after it.
    let early = session
        .clone()
        .step(at(6100), Input::Confirmed(term(3), at(5800)));
    assert_eq!(early, [Effect::Confirm(term(3))]);
    let confirmed = session.step(at(6100), Input::Confirmed(term(3), at(6000)));
    assert_eq!(
        confirmed,
        [
            Effect::Hold(Some(term(3)), at(9900)),
            Effect::Tell(Signal::Resumed(term(3)))
        ]
    );
}

#[test]
fn a_key_that_is_gone_deposes_even_with_a_fresh_lease() {
    let mut session = leading(0);
    assert_eq!(
        session.step(at(10), Input::Watched(None)),
        [Effect::Confirm(term(3))]
    );
    let refuted = session.step(at(20), Input::Refuted(term(3)));
    let expected = [
        Effect::Hold(None, Time::ZERO),
        Effect::Tell(Signal::Deposed(term(3))),
        Effect::Revoke(LEASE),
        Effect::Grant,
    ];
    assert_eq!(refuted, expected);
    let later = leading(0).step(at(10), Input::Watched(Some(Revision(4))));
    assert_eq!(later[..2], expected[..2]);
}

#[test]
fn a_lease_that_is_gone_is_not_campaigned_with() {
    let mut session = LeaderSession::new(Timing::default(), 1);
    session.step(at(0), Input::Tick);
    session.step(at(0), Input::Granted(LEASE, at(0)));
    session.step(at(1), Input::Outvoted(LEASE));
    assert_eq!(session.step(at(2), Input::LeaseGone(LEASE)), [Effect::Grant]);
    assert_eq!(session.step(at(3), Input::Watched(None)), []);
    let next = LeaseId(8);
    assert_eq!(
        session.step(at(4), Input::Granted(next, at(2))),
        [Effect::Campaign(next)]
    );
    // A ghost: the answer belongs to the lease that is gone.
    assert_eq!(
        session.step(at(5), Input::Elected(LEASE, Revision(9))),
        [Effect::Revoke(LEASE)]
    );
    assert_eq!(session.term(), None);
}

#[test]
fn who_waits_asks_again_even_if_no_watch_tells() {
    let mut session = LeaderSession::new(Timing::default(), 1);
    session.step(at(0), Input::Tick);
    session.step(at(0), Input::Granted(LEASE, at(0)));
    session.step(at(0), Input::Outvoted(LEASE));
    assert_eq!(session.step(at(100), Input::Tick), []);
    let effects = session.step(at(1500), Input::Tick);
    assert_eq!(effects, [Effect::Renew(LEASE), Effect::Campaign(LEASE)]);
}

#[test]
fn who_resigns_gives_its_key_back_and_stays_away() {
    let mut session = leading(0);
    let effects = session.step(at(10), Input::Resign);
    assert_eq!(effects.last(), Some(&Effect::Revoke(LEASE)));
    assert_eq!(session.step(at(9000), Input::Tick), []);
    assert_eq!(
        session.step(at(9000), Input::Granted(LeaseId(9), at(10))),
        [Effect::Revoke(LeaseId(9))]
    );
}

/// A store for sessions: leases, one key, and a revision.
#[derive(Default)]
struct Model {
    now: u64,
    revision: u64,
    leases: BTreeMap<i64, u64>,
    /// Revision and lease.
    key: Option<(u64, i64)>,
    last_lease: i64,
    /// The greatest term under which a write took effect.
    written: Option<Term>,
}

impl Model {
    fn expire(&mut self) {
        let now = self.now;
        let ended: Vec<i64> = self
            .leases
            .iter()
            .filter(|(_, ends)| **ends <= now)
            .map(|(id, _)| *id)
            .collect();
        ended.into_iter().for_each(|lease| self.end(lease));
    }

    fn end(&mut self, lease: i64) {
        self.leases.remove(&lease);
        if self.key.is_some_and(|(_, of)| of == lease) {
            self.key = None;
            self.revision += 1;
        }
    }

    /// Carries out what a session asked for at `sent`; what it would be told.
    fn carry_out(&mut self, effect: Effect, sent: Time) -> Option<Input> {
        Some(match effect {
            Effect::Grant => {
                self.last_lease += 1;
                self.leases.insert(self.last_lease, self.now + 5000);
                Input::Granted(LeaseId(self.last_lease), sent)
            }
            Effect::Renew(LeaseId(id)) => match self.leases.get_mut(&id) {
                Some(ends) => {
                    *ends = self.now + 5000;
                    Input::Renewed(LeaseId(id), sent)
                }
                None => Input::LeaseGone(LeaseId(id)),
            },
            Effect::Campaign(LeaseId(id)) => self.campaign(id),
            Effect::Confirm(term) if self.is_term(term) => Input::Confirmed(term, sent),
            Effect::Confirm(term) => Input::Refuted(term),
            Effect::Revoke(LeaseId(id)) => {
                self.end(id);
                return None;
            }
            Effect::Hold(..) | Effect::Tell(_) => return None,
        })
    }

    fn campaign(&mut self, id: i64) -> Input {
        match self.key {
            Some((revision, lease)) if lease == id => Input::Elected(LeaseId(id), Revision(revision)),
            Some(_) => Input::Outvoted(LeaseId(id)),
            None if !self.leases.contains_key(&id) => Input::LeaseGone(LeaseId(id)),
            None => {
                self.revision += 1;
                self.key = Some((self.revision, id));
                Input::Elected(LeaseId(id), Revision(self.revision))
            }
        }
    }

    fn is_term(&self, term: Term) -> bool {
        self.key.is_some_and(|(revision, _)| revision == term.revision.0)
    }
}

/// What is told when a request or its answer is lost.
fn lost(effect: Effect) -> Option<Input> {
    match effect {
        Effect::Grant => Some(Input::NotGranted),
        Effect::Renew(id) => Some(Input::NotRenewed(id)),
        Effect::Campaign(id) => Some(Input::CampaignFailed(id)),
        Effect::Confirm(term) => Some(Input::NotConfirmed(term)),
        _ => None,
    }
}

struct Candidate {
    session: LeaderSession,
    hold: (Option<Term>, Time),
    asked: Vec<(Effect, Time)>,
    answers: Vec<Input>,
    told: Vec<Signal>,
}

impl Candidate {
    fn step(&mut self, now: Time, input: Input) {
        for effect in self.session.step(now, input) {
            match effect {
                Effect::Hold(term, until) => self.hold = (term, until),
                Effect::Tell(signal) => self.tell(signal),
                other => self.asked.push((other, now)),
            }
        }
    }

    /// Signals come in an order that makes sense.
    fn tell(&mut self, signal: Signal) {
        let before = self.told.last().copied();
        let makes_sense = match (before, signal) {
            (None | Some(Signal::Deposed(_)), Signal::Elected(_)) => true,
            (Some(Signal::Elected(a) | Signal::Resumed(a)), Signal::Suspended(b) | Signal::Deposed(b)) => {
                a == b
            }
            (Some(Signal::Suspended(a)), Signal::Resumed(b) | Signal::Deposed(b)) => a == b,
            _ => false,
        };
        assert!(makes_sense, "{signal:?} after {before:?}");
        self.told.push(signal);
    }
}

/// One step of the world: who, what, how long.
type Move = (usize, u8, u64);

fn run(moves: &[Move], honest: bool) -> usize {
    let mut model = Model::default();
    let new = |_| Candidate {
        session: LeaderSession::new(Timing::default(), 1),
        hold: (None, Time::ZERO),
        asked: vec![],
        answers: vec![],
        told: vec![],
    };
    let mut candidates: Vec<Candidate> = (0..3).map(new).collect();
    for (who, what, long) in moves {
        let candidate = &mut candidates[*who];
        let now = at(model.now);
        match what {
            // Requests come out of order, and more than once.
            0..=3 => deliver(&mut model, candidate, *long, *what == 3),
            4..=6 if !candidate.answers.is_empty() => {
                let input = candidate
                    .answers
                    .remove(usize::try_from(*long).unwrap() % candidate.answers.len());
                candidate.step(now, input);
            }
            7 if !candidate.asked.is_empty() => {
                let (effect, _) = candidate
                    .asked
                    .remove(usize::try_from(*long).unwrap() % candidate.asked.len());
                candidate.answers.extend(lost(effect));
            }
            8 => candidate.step(
                now,
                Input::Watched(model.key.map(|(revision, _)| Revision(revision))),
            ),
            9 if !honest => {
                if let Some((_, lease)) = model.key {
                    model.end(lease);
                }
            }
            10 => candidate.step(now, Input::Tick),
            _ => model.now += long * 10,
        }
        model.expire();
        write(&mut model, &candidates);
        if honest {
            at_most_one(&model, &candidates);
        }
    }
    candidates.iter().map(|candidate| candidate.told.len()).sum()
}

fn deliver(model: &mut Model, candidate: &mut Candidate, which: u64, lose_answer: bool) {
    if candidate.asked.is_empty() {
        return;
    }
    let (effect, sent) = candidate
        .asked
        .remove(usize::try_from(which).unwrap() % candidate.asked.len());
    let answer = model.carry_out(effect, sent);
    candidate
        .answers
        .extend(if lose_answer { lost(effect) } else { answer });
}

/// Everybody who may write does: no effect of an earlier term comes after one of a later.
fn write(model: &mut Model, candidates: &[Candidate]) {
    for candidate in candidates {
        let (Some(term), until) = candidate.hold else {
            continue;
        };
        // The guard of the store; what the deadline forbids is not even tried.
        if at(model.now) < until && model.is_term(term) {
            assert!(
                model.written.is_none_or(|written| written <= term),
                "{term} after {:?}",
                model.written
            );
            model.written = Some(term);
        }
    }
}

/// Where leases live as long as they were granted for, deadlines alone exclude two leaders.
fn at_most_one(model: &Model, candidates: &[Candidate]) {
    let leads = |candidate: &&Candidate| candidate.hold.0.is_some() && at(model.now) < candidate.hold.1;
    let leaders: Vec<_> = candidates
        .iter()
        .filter(leads)
        .map(|candidate| candidate.hold)
        .collect();
    assert!(leaders.len() <= 1, "{leaders:?} at {}", model.now);
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    prop::collection::vec((0..3usize, 0..13u8, 0..60u64), 50..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn terms_grow_whatever_is_lost_late_or_revoked(moves in moves()) {
        run(&moves, false);
    }

    #[test]
    fn with_leases_that_live_there_is_one_leader(moves in moves()) {
        run(&moves, true);
    }
}

#[test]
fn the_random_worlds_elect_leaders() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let signals: usize = (0..50)
        .map(|_| {
            let moves = proptest::strategy::ValueTree::current(&moves().new_tree(&mut runner).unwrap());
            run(&moves, false)
        })
        .sum();
    assert!(signals > 100, "{signals} signals in 50 worlds");
}
