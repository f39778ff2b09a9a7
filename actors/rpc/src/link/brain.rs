//! When to dial, when to wait, and when the peer is dead.

use super::state::DeathReason;
use crate::connection::CloseReason;
use crate::handshake::DialError;
use hurtig_core::time::Time;
use std::time::Duration;
use uuid::Uuid;

/// Two refusals within this time are a death: the process is gone, and nobody is taking its place.
pub(super) const REFUSALS: Duration = Duration::from_millis(300);
/// The pause after a refusal, and the shortest after a failure.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(1);

const _: () = assert!(PAUSE.as_millis() < REFUSALS.as_millis());

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Keep,
    /// Dial.
    Dial,
    /// Use the connection.
    Up,
    /// Give up, for ever.
    Dead(DeathReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Dialing,
    Pausing {
        until: Time,
    },
    Up {
        since: Time,
    },
    /// For the peer to dial again.
    Waiting,
    Dead,
}

/// The life of a link.
#[derive(Debug)]
pub(super) struct LinkBrain {
    dials: bool,
    timeout: Duration,
    state: State,
    incarnation: Option<Uuid>,
    last_heard: Time,
    refused: Option<Time>,
    pause: Duration,
    failure: Option<String>,
}

impl LinkBrain {
    /// A link that has no connection yet, and either dials or waits to be dialled.
    pub(super) fn new(dials: bool, timeout: Duration, now: Time) -> Self {
        Self {
            dials,
            timeout,
            state: if dials { State::Dialing } else { State::Waiting },
            incarnation: None,
            last_heard: now,
            refused: None,
            pause: PAUSE,
            failure: None,
        }
    }

    /// There is a connection, to a process of this incarnation.
    pub(super) fn connected(&mut self, now: Time, incarnation: Uuid) -> Step {
        if self.state == State::Dead {
            return Step::Keep;
        }
        if self.incarnation.is_some_and(|known| known != incarnation) {
            return self.die(DeathReason::OtherIncarnation);
        }
        self.incarnation = Some(incarnation);
        (self.state, self.refused, self.last_heard) = (State::Up { since: now }, None, now);
        Step::Up
    }

    /// Whether no attempt has failed as yet.
    pub(super) fn has_not_failed(&self) -> bool {
        self.failure.is_none()
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, now: Time, error: DialError) -> Step {
        if self.state != State::Dialing {
            return Step::Keep;
        }
        let reason = match error {
            DialError::Refused => {
                if self.refused.is_some_and(|before| now.since(before) <= REFUSALS) {
                    return self.die(DeathReason::Refused);
                }
                self.refused = Some(now);
                self.state = State::Pausing {
                    until: now.after(PAUSE),
                };
                return Step::Keep;
            }
            DialError::Failed(text) => {
                self.failure = Some(text);
                self.state = State::Pausing {
                    until: now.after(self.pause),
                };
                self.pause = (self.pause * 2).min(MAX_PAUSE);
                return self.tick(now);
            }
            DialError::Incompatible { ours, theirs, older } => {
                DeathReason::Incompatible { ours, theirs, older }
            }
            DialError::Rejected(text) => DeathReason::Rejected(text),
            DialError::Forgotten => DeathReason::Forgotten,
        };
        self.die(reason)
    }

    /// The connection has ended.
    pub(super) fn lost(&mut self, now: Time, reason: &CloseReason, last_heard: Time) -> Step {
        let State::Up { since } = self.state else {
            return Step::Keep;
        };
        self.last_heard = last_heard;
        if let CloseReason::Goodbye(text) = reason {
            return self.die(DeathReason::Left(text.clone()));
        }
        if self.is_silent(now) {
            return self.die(DeathReason::Silent(self.timeout));
        }
        if !self.dials {
            self.state = State::Waiting;
            return Step::Keep;
        }
        if now.since(since) >= PAUSE {
            (self.state, self.pause) = (State::Dialing, PAUSE);
            return Step::Dial;
        }
        // It ended as soon as it was there: not at once again, and less and less often.
        self.state = State::Pausing {
            until: now.after(self.pause),
        };
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        Step::Keep
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) -> Step {
        let has_connection = matches!(self.state, State::Up { .. } | State::Dead);
        if !has_connection && self.is_silent(now) {
            let silent = DeathReason::Silent(self.timeout);
            let failure = self.failure.take().filter(|_| self.incarnation.is_none());
            let failed = failure.map(|text| DeathReason::Failed(self.timeout, text));
            return self.die(failed.unwrap_or(silent));
        }
        match self.state {
            State::Pausing { until } if now >= until => {
                self.state = State::Dialing;
                Step::Dial
            }
            _ => Step::Keep,
        }
    }

    /// When [`Self::tick`] is due.
    pub(super) fn wakeup(&self) -> Option<Time> {
        let silent = self.last_heard.after(self.timeout);
        match self.state {
            State::Up { .. } | State::Dead => None,
            State::Pausing { until } => Some(until.min(silent)),
            State::Dialing | State::Waiting => Some(silent),
        }
    }

    /// Whether the link had a connection before.
    pub(super) fn is_resuming(&self) -> bool {
        self.incarnation.is_some()
    }

    /// Ends it.
    pub(super) fn die(&mut self, reason: DeathReason) -> Step {
        self.state = State::Dead;
        Step::Dead(reason)
    }

    fn is_silent(&self, now: Time) -> bool {
        now.since(self.last_heard) >= self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(8);

    fn ms(millis: u64) -> Time {
        Time::ZERO.after(Duration::from_millis(millis))
    }

    fn dialler() -> LinkBrain {
        LinkBrain::new(true, TIMEOUT, Time::ZERO)
    }

    fn up(at: u64) -> LinkBrain {
        let mut brain = dialler();
        assert_eq!(brain.connected(ms(at), Uuid::from_u128(1)), Step::Up);
        brain
    }

    fn failed() -> DialError {
        DialError::Failed("no route".to_owned())
    }

    #[test]
    fn two_refusals_within_300_ms_are_a_death_and_slow_ones_are_not() {
        let mut brain = dialler();
        assert_eq!(brain.failed(ms(0), DialError::Refused), Step::Keep);
        assert_eq!(brain.wakeup(), Some(ms(100)));
        assert_eq!(brain.tick(ms(100)), Step::Dial);
        assert_eq!(
            brain.failed(ms(300), DialError::Refused),
            Step::Dead(DeathReason::Refused)
        );

        let mut brain = dialler();
        brain.failed(ms(0), DialError::Refused);
        brain.tick(ms(100));
        assert_eq!(brain.failed(ms(301), DialError::Refused), Step::Keep);
        assert_eq!(brain.tick(ms(401)), Step::Dial);
        assert_eq!(brain.connected(ms(402), Uuid::nil()), Step::Up);
    }

    #[test]
    fn a_closed_connection_is_dialled_again_at_once_and_one_that_flaps_is_not() {
        let mut brain = up(0);
        assert_eq!(brain.lost(ms(5_000), &CloseReason::Closed, ms(5_000)), Step::Dial);
        assert_eq!(brain.connected(ms(5_010), Uuid::from_u128(1)), Step::Up);
        assert_eq!(brain.lost(ms(5_020), &CloseReason::Closed, ms(5_020)), Step::Keep);
        assert_eq!(brain.wakeup(), Some(ms(5_120)));
    }

    #[test]
    fn another_incarnation_at_the_address_is_a_death() {
        let mut brain = up(0);
        brain.lost(ms(1_000), &CloseReason::Closed, ms(1_000));
        assert_eq!(
            brain.connected(ms(1_100), Uuid::from_u128(2)),
            Step::Dead(DeathReason::OtherIncarnation)
        );
        assert_eq!(
            brain.connected(ms(1_200), Uuid::from_u128(1)),
            Step::Keep,
            "dead is for ever"
        );
    }

    #[test]
    fn silence_counts_from_what_was_last_heard_whatever_was_tried_since() {
        let mut brain = up(0);
        assert_eq!(
            brain.lost(ms(7_000), &CloseReason::Io("reset".to_owned()), ms(2_000)),
            Step::Dial
        );
        assert_eq!(brain.failed(ms(9_900), failed()), Step::Keep);
        assert_eq!(brain.wakeup(), Some(ms(10_000)));
        assert_eq!(brain.tick(ms(10_000)), Step::Dead(DeathReason::Silent(TIMEOUT)));
        let silent = CloseReason::Silent(TIMEOUT);
        assert_eq!(
            up(0).lost(ms(8_000), &silent, ms(0)),
            Step::Dead(DeathReason::Silent(TIMEOUT))
        );
    }

    #[test]
    fn a_peer_that_was_never_there_dies_of_its_last_failure() {
        let mut brain = dialler();
        brain.failed(ms(4_000), failed());
        let died = Step::Dead(DeathReason::Failed(TIMEOUT, "no route".to_owned()));
        assert_eq!(brain.tick(ms(8_000)), died);
    }

    #[test]
    fn who_was_dialled_waits_for_its_peer() {
        let mut brain = LinkBrain::new(false, TIMEOUT, Time::ZERO);
        brain.connected(ms(0), Uuid::nil());
        assert_eq!(brain.lost(ms(1_000), &CloseReason::Closed, ms(900)), Step::Keep);
        assert_eq!(brain.tick(ms(8_899)), Step::Keep);
        assert_eq!(brain.connected(ms(8_899), Uuid::nil()), Step::Up);
        brain.lost(ms(9_000), &CloseReason::Closed, ms(8_950));
        assert_eq!(brain.tick(ms(16_950)), Step::Dead(DeathReason::Silent(TIMEOUT)));
    }

    #[test]
    fn a_peer_that_says_goodbye_is_not_dialled_again() {
        let left = CloseReason::Goodbye("drained".to_owned());
        assert_eq!(
            up(0).lost(ms(1_000), &left, ms(1_000)),
            Step::Dead(DeathReason::Left("drained".to_owned()))
        );
    }

    proptest! {
        /// Whatever happens: dead is said once and is the end, a dial is asked for only when none is under way, and a link that
        /// never gets a connection dies in time.
        #[test]
        fn a_link_lives_or_dies_and_never_hangs(events in prop::collection::vec((0u8..5, 0u64..2_000), 1..60)) {
            let (mut brain, mut now, mut dialing, mut dead, mut connected) = (dialler(), 0, true, false, false);
            for (event, wait) in events {
                now += wait;
                let step = match event {
                    0 if dialing => { dialing = false; brain.connected(ms(now), Uuid::nil()) }
                    1 if dialing => { dialing = false; brain.failed(ms(now), DialError::Refused) }
                    2 if dialing => { dialing = false; brain.failed(ms(now), failed()) }
                    3 if connected => { connected = false; brain.lost(ms(now), &CloseReason::Closed, ms(now)) }
                    _ => brain.tick(ms(now)),
                };
                prop_assert!(!dead || step == Step::Keep, "{:?} after death", step);
                match step {
                    Step::Dial => { prop_assert!(!dialing && !connected); dialing = true; }
                    Step::Up => connected = true,
                    Step::Dead(_) => { dead = true; connected = false; }
                    Step::Keep => {}
                }
                prop_assert_eq!(brain.wakeup().is_none(), dead || connected);
            }
            if !dead && !connected {
                // Somebody who always says "failed" and waits as asked sees the end.
                for _ in 0..100 {
                    if dialing { brain.failed(ms(now), failed()); }
                    let Some(at) = brain.wakeup() else { break };
                    now = now.max(at.as_nanos() / 1_000_000);
                    dialing = brain.tick(ms(now)) == Step::Dial;
                }
                prop_assert_eq!(brain.wakeup(), None);
            }
        }
    }
}
