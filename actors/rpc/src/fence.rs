//! Fencing: who may command, within which scope, and what a receiver has seen of it.
//!
//! Tokens of different scopes are never compared. A receiver learns a scope when it registers; a message never adds one.

use hurtig_core::ids::JobId;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// A cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub Uuid);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

/// Within what a token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Commands of the cluster's leader, by its term.
    Cluster(ClusterId),
    /// Commands of a job's JobMaster, by its epoch.
    Job(JobId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(id) => write!(f, "cluster {id}"),
            Self::Job(id) => write!(f, "job {id}"),
        }
    }
}

/// A leader's term or a job's epoch. It only grows, and there is no zeroth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken {
    /// The incarnation of the cluster's store, which counts first; 0 in a job's scope.
    pub incarnation: u64,
    /// The create revision of the leader's election key, or the epoch.
    pub number: NonZeroU64,
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            0 => write!(f, "{}", self.number),
            incarnation => write!(f, "{incarnation}.{}", self.number),
        }
    }
}

/// A token with its scope, as a message carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Within what it counts.
    pub scope: Scope,
    /// Of whom.
    pub token: FencingToken,
}

impl Stamp {
    /// That of a leader: its term is (incarnation, revision).
    pub fn cluster(cluster: ClusterId, incarnation: u64, revision: NonZeroU64) -> Self {
        Self {
            scope: Scope::Cluster(cluster),
            token: FencingToken {
                incarnation,
                number: revision,
            },
        }
    }

    /// That of a JobMaster.
    pub fn job(job: JobId, epoch: NonZeroU64) -> Self {
        Self {
            scope: Scope::Job(job),
            token: FencingToken {
                incarnation: 0,
                number: epoch,
            },
        }
    }
}

/// Why a stamp was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    /// A newer token was seen: who sent this has been replaced, and must stop.
    #[error("{scope}: token {yours} is older than {newer}, which the receiver has seen")]
    Fenced {
        /// The scope.
        scope: Scope,
        /// What the message carried.
        yours: FencingToken,
        /// What the receiver knows.
        newer: FencingToken,
    },
    /// The receiver itself holds an older token: it has been replaced, and the message is for its successor.
    #[error("{scope}: the receiver holds {held}, and was replaced by {yours}")]
    Superseded {
        /// The scope.
        scope: Scope,
        /// What the message carried.
        yours: FencingToken,
        /// What the receiver holds.
        held: FencingToken,
    },
    /// The receiver has not registered there: nobody has told it who commands.
    #[error("{0}: the receiver has not learned who commands there")]
    Unregistered(Scope),
    /// The message has no stamp, and the receiver takes none without.
    #[error("the message carries no fencing token, and the receiver takes none without")]
    Unstamped,
}

/// How a receiver stands to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stance {
    /// Obeys the highest.
    Follows,
    /// Is the one whose token it is.
    Holds,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    token: FencingToken,
    stance: Stance,
    superseded_by: Option<FencingToken>,
}

#[derive(Debug, Default)]
struct Inner {
    scopes: Mutex<BTreeMap<Scope, Known>>,
    open: bool,
}

/// What one receiver knows of those who may command it. Clones are the same; endpoints may share one.
#[derive(Clone, Debug, Default)]
pub struct Fences(Arc<Inner>);

impl Fences {
    /// Knows nobody yet, and refuses messages without a stamp.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows nobody yet, and takes messages without a stamp too: for questions that anybody may ask, registration first.
    pub fn open() -> Self {
        Self(Arc::new(Inner {
            open: true,
            ..Inner::default()
        }))
    }

    /// Learns who commands a scope; what it knows already is never replaced by something older.
    ///
    /// # Errors
    /// When it knows of a newer one.
    pub fn follow(&self, stamp: Stamp) -> Result<(), FenceError> {
        self.enter(stamp, Stance::Follows)
    }

    /// Takes up a token of its own: as a leader, or as a JobMaster.
    ///
    /// # Errors
    /// When it knows of a newer one.
    pub fn hold(&self, stamp: Stamp) -> Result<(), FenceError> {
        self.enter(stamp, Stance::Holds)
    }

    /// Forgets a scope: the job is over.
    pub fn forget(&self, scope: Scope) {
        self.with(|scopes| scopes.remove(&scope));
    }

    /// The highest token that was accepted in a scope.
    pub fn current(&self, scope: Scope) -> Option<FencingToken> {
        self.with(|scopes| scopes.get(&scope).map(|known| known.token))
    }

    /// The token that has replaced the one that is held here, if that was seen.
    pub fn superseded_by(&self, scope: Scope) -> Option<FencingToken> {
        self.with(|scopes| scopes.get(&scope).and_then(|known| known.superseded_by))
    }

    /// Looks at the stamp of a message. A follower takes a higher token as its own.
    ///
    /// # Errors
    /// When the message must not be obeyed.
    pub fn admit(&self, stamp: Option<Stamp>) -> Result<(), FenceError> {
        let Some(Stamp { scope, token }) = stamp else {
            return if self.0.open {
                Ok(())
            } else {
                Err(FenceError::Unstamped)
            };
        };
        self.with(|scopes| {
            let known = scopes.get_mut(&scope).ok_or(FenceError::Unregistered(scope))?;
            known.admit(scope, token)
        })
    }

    fn enter(&self, Stamp { scope, token }: Stamp, stance: Stance) -> Result<(), FenceError> {
        let fresh = Known {
            token,
            stance,
            superseded_by: None,
        };
        self.with(|scopes| {
            let known = scopes.entry(scope).or_insert(fresh);
            let newest = known.superseded_by.map_or(known.token, |by| by.max(known.token));
            if token < newest {
                return Err(FenceError::Fenced {
                    scope,
                    yours: token,
                    newer: newest,
                });
            }
            *known = fresh;
            Ok(())
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Scope, Known>) -> T) -> T {
        act(&mut self.0.scopes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn admit(&mut self, scope: Scope, yours: FencingToken) -> Result<(), FenceError> {
        let held = self.token;
        if yours < held {
            let newer = self.superseded_by.map_or(held, |by| by.max(held));
            return Err(FenceError::Fenced { scope, yours, newer });
        }
        if self.stance == Stance::Holds && yours > held {
            self.superseded_by = self.superseded_by.max(Some(yours));
            return Err(FenceError::Superseded { scope, yours, held });
        }
        self.token = yours;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epoch(job: u128, number: u64) -> Stamp {
        Stamp::job(JobId::from_u128(job), NonZeroU64::new(number).unwrap())
    }

    fn term(incarnation: u64, number: u64) -> Stamp {
        Stamp::cluster(
            ClusterId(Uuid::from_u128(1)),
            incarnation,
            NonZeroU64::new(number).unwrap(),
        )
    }

    #[test]
    fn nothing_is_admitted_before_its_scope_was_learned() {
        let fences = Fences::new();
        let stamp = epoch(1, 5);
        assert_eq!(
            fences.admit(Some(stamp)),
            Err(FenceError::Unregistered(stamp.scope))
        );
        assert_eq!(fences.current(stamp.scope), None, "a message adds no scope");
        assert_eq!(fences.admit(None), Err(FenceError::Unstamped));
        assert_eq!(Fences::open().admit(None), Ok(()));
    }

    #[test]
    fn a_scope_is_compared_with_itself_only() {
        let fences = Fences::new();
        fences.follow(epoch(1, 9)).unwrap();
        fences.follow(epoch(2, 1)).unwrap();
        fences.follow(term(1, 3)).unwrap();
        assert_eq!(fences.admit(Some(epoch(2, 1))), Ok(()));
        assert_eq!(fences.admit(Some(term(1, 4))), Ok(()));
        assert!(
            matches!(fences.admit(Some(epoch(1, 8))), Err(FenceError::Fenced { newer, .. }) if newer == epoch(1, 9).token)
        );
    }

    #[test]
    fn a_restored_store_counts_before_its_revision() {
        let fences = Fences::new();
        fences.follow(term(1, 900)).unwrap();
        assert_eq!(fences.admit(Some(term(2, 3))), Ok(()));
        assert!(fences.admit(Some(term(1, 901))).is_err());
    }

    #[test]
    fn a_holder_that_meets_a_higher_token_is_superseded_and_refuses() {
        let fences = Fences::new();
        let (own, next) = (epoch(1, 3), epoch(1, 4));
        fences.hold(own).unwrap();
        assert_eq!(fences.admit(Some(own)), Ok(()));
        assert!(
            matches!(fences.admit(Some(next)), Err(FenceError::Superseded { held, .. }) if held == own.token)
        );
        assert_eq!(fences.superseded_by(own.scope), Some(next.token));
        assert_eq!(fences.current(own.scope), Some(own.token));
        assert!(
            fences.hold(own).is_err(),
            "it cannot take up again what was taken from it"
        );
    }

    proptest! {
        /// Against the rule as it is said: a follower admits what is not below the highest it has admitted or learned.
        #[test]
        fn no_command_is_obeyed_after_one_of_a_higher_token(first in 1u64..6, tokens in prop::collection::vec(1u64..12, 0..40)) {
            let fences = Fences::new();
            fences.follow(epoch(1, first)).unwrap();
            let mut highest = first;
            for token in tokens {
                let admitted = fences.admit(Some(epoch(1, token))).is_ok();
                prop_assert_eq!(admitted, token >= highest);
                highest = highest.max(token);
            }
            prop_assert_eq!(fences.current(epoch(1, 1).scope), Some(epoch(1, highest).token));
        }
    }
}
