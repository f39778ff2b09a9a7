//! What a leader holds in hand: its term, and the deadline that is compared at every effect.

use crate::kv::Revision;
use hurtig_core::time::{Clock, Time};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The leader's term, **T** in the protocol. Later terms are greater, whatever happened to the store in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term {
    /// The cluster's incarnation.
    pub incarnation: u64,
    /// The create revision of the election key.
    pub revision: Revision,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {}.{}", self.incarnation, self.revision)
    }
}

/// What may be done under a term, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything.
    Leading,
    /// Nothing now, perhaps again later.
    Suspended,
    /// Nothing, ever.
    Deposed,
}

#[derive(Debug, Default)]
struct Held {
    term: Option<Term>,
    until: Time,
}

/// The leadership of this process. Clones are the same one.
#[derive(Clone)]
pub struct Leadership {
    held: Arc<Mutex<Held>>,
    clock: Arc<dyn Clock>,
}

impl Leadership {
    /// A leadership that nobody has.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let held = Arc::default();
        Self { held, clock }
    }

    /// A leadership of one process that needs no election: that of an embedded cluster, and of tests.
    #[must_use]
    pub fn for_ever(clock: Arc<dyn Clock>, term: Term) -> Self {
        let leadership = Self::new(clock);
        leadership.set(Some(term), Time::from_nanos(u64::MAX));
        leadership
    }

    /// What may be done under `term` at this moment.
    #[must_use]
    pub fn standing(&self, term: Term) -> Standing {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.term {
            Some(held_term) if held_term != term => Standing::Deposed,
            None => Standing::Deposed,
            Some(_) if self.clock.now() >= held.until => Standing::Suspended,
            Some(_) => Standing::Leading,
        }
    }

    /// The term under which this process leads at this moment.
    #[must_use]
    pub fn leading(&self) -> Option<Term> {
        let term = self.held.lock().unwrap_or_else(PoisonError::into_inner).term?;
        (self.standing(term) == Standing::Leading).then_some(term)
    }

    /// The term holds until then; or none does.
    #[doc(hidden)]
    pub fn set(&self, term: Option<Term>, until: Time) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Held { term, until };
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leadership").field(&self.held).finish()
    }
}
