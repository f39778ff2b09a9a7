//! Functions over a stream and one that is broadcast to all of its subtasks: rules, exchange rates, switches.
//!
//! What the broadcast stream has said is kept in state that is the same in every subtask. So that it stays so, only a
//! record of the broadcast stream may change it, the same way everywhere: the other stream's records get it to
//! read. Records of the two streams meet in any order.

use crate::function::{Emitter, KeyedCx, KeyedOpenContext, ProcessCx};
use crate::operator::{CheckpointEvent, OpenContext};
use crate::timers::{HashedKey, TimeDomain, TimerService};
use hurtig_core::key::{OwnedKey, StableKey};
use hurtig_core::time::NO_TIMESTAMP;
use hurtig_core::{Result, UserError};
use hurtig_state::{BroadcastState, KeyedState, OperatorSnapshot, StateHandle, StateValue};
use std::borrow::Borrow;
use std::cell::RefCell;
use std::fmt;

/// What a broadcast function keeps of the broadcast stream: one [`BroadcastState`], or a tuple of up to four
/// with different names.
pub trait BroadcastStates: Send + 'static {
    /// Adds everything to a snapshot.
    ///
    /// # Errors
    /// When a value cannot be encoded; the text names the state.
    fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()>;

    /// Adds what a snapshot holds.
    ///
    /// # Errors
    /// When a value cannot be decoded; the text names the state.
    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()>;
}

impl<K: StateValue + Ord, V: StateValue> BroadcastStates for BroadcastState<K, V> {
    fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.snapshot(snapshot)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.restore(snapshot)
    }
}

macro_rules! broadcast_tuples {
    ($($state:ident $at:tt),+) => {
        impl<$($state: BroadcastStates),+> BroadcastStates for ($($state,)+) {
            fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
                $(self.$at.snapshot(snapshot)?;)+
                Ok(())
            }

            fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
                $(self.$at.restore(snapshot)?;)+
                Ok(())
            }
        }
    };
}

broadcast_tuples!(A 0, B 1);
broadcast_tuples!(A 0, B 1, C 2);
broadcast_tuples!(A 0, B 1, C 2, D 3);

/// A function over a stream without keys and a broadcast stream.
///
/// *Errors*: any error fails the task.
///
/// ```
/// use hurtig_core::UserError;
/// use hurtig_dataflow::broadcast::BroadcastProcessFunction;
/// use hurtig_dataflow::function::{Emitter, ProcessCx};
/// use hurtig_state::BroadcastState;
///
/// /// Lets the words pass that the broadcast stream has allowed.
/// struct Allowed;
///
/// impl BroadcastProcessFunction<String, (String, bool), String> for Allowed {
///     type State = BroadcastState<String, ()>;
///
///     fn state(&self) -> Self::State {
///         BroadcastState::new("allowed")
///     }
///
///     fn process(&mut self, word: String, allowed: &Self::State, _: ProcessCx<'_>, out: &mut Emitter<'_, String>) -> Result<(), UserError> {
///         if allowed.contains(&word) {
///             out.emit(word);
///         }
///         Ok(())
///     }
///
///     fn process_broadcast(&mut self, (word, allow): (String, bool), allowed: &mut Self::State, _: ProcessCx<'_>, _: &mut Emitter<'_, String>) -> Result<(), UserError> {
///         if allow {
///             allowed.put(word, ());
///         } else {
///             allowed.remove(&word);
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait BroadcastProcessFunction<In, B, Out>: Send {
    /// What is kept of the broadcast stream.
    type State: BroadcastStates;

    /// The state before anything was broadcast.
    fn state(&self) -> Self::State;

    /// Called once before any record.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Handles a record of the stream that is not broadcast.
    fn process(
        &mut self,
        record: In,
        state: &Self::State,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// Handles a record of the broadcast stream. Every subtask is given it, and must change the state the same
    /// way: by nothing but the record and the state itself. What is emitted here is emitted by each.
    fn process_broadcast(
        &mut self,
        record: B,
        state: &mut Self::State,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// As [`crate::function::ProcessFunction::on_checkpoint`].
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        let _ = event;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}

/// The state and timers of all keys of a subtask.
pub(crate) struct EveryKey<'a, Q: ?Sized + ToOwned<Owned: OwnedKey>> {
    pub(crate) state: &'a KeyedState<Q::Owned>,
    pub(crate) timers: &'a RefCell<TimerService<Q::Owned, ()>>,
}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> Clone for EveryKey<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> Copy for EveryKey<'_, Q> {}

/// What a keyed function may ask in a call that has no key: for a record of the broadcast stream, and at the turn of
/// backlog.
pub struct KeyedBroadcastCx<'a, Q: ?Sized + ToOwned<Owned: OwnedKey>> {
    record: ProcessCx<'a>,
    every_key: EveryKey<'a, Q>,
}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> Clone for KeyedBroadcastCx<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> Copy for KeyedBroadcastCx<'_, Q> {}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> fmt::Debug for KeyedBroadcastCx<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyedBroadcastCx").field(&self.record).finish()
    }
}

impl<'a, Q> KeyedBroadcastCx<'a, Q>
where
    Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey> + 'static,
{
    pub(crate) fn new(record: ProcessCx<'a>, every_key: EveryKey<'a, Q>) -> Self {
        Self { record, every_key }
    }

    /// The record's times (none at the turn of backlog), side outputs, accumulators, and where the function runs.
    pub fn record(self) -> ProcessCx<'a> {
        self.record
    }

    /// Calls `f` for every key of this subtask that has a value of a state, in the order of the keys' bytes: Flink's
    /// `applyToKeyedState`. It may read and change state of any kind and register timers; what it emits has the
    /// broadcast record's time.
    ///
    /// *Cost*: holds all these keys in memory, and reads the whole state where it is kept in a store. No other
    /// record is handled meanwhile.
    ///
    /// # Errors
    /// Those of `f`, after which it is not called again, and of the store.
    pub fn for_each_key(
        self,
        state: &impl StateHandle,
        mut f: impl FnMut(KeyedCx<'_, Q>) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        for key in self.every_key.state.keys(state)? {
            let key: &Q = key.borrow();
            f(KeyedCx {
                cx: self.record.cx(),
                state: self.every_key.state,
                timers: self.every_key.timers,
                key: HashedKey::new(key.stable_hash(), key),
                time: self.record.timestamp().unwrap_or(NO_TIMESTAMP),
            })?;
        }
        Ok(())
    }
}

/// A function over a keyed stream and a broadcast stream: with state and timers by key.
pub trait KeyedBroadcastProcessFunction<Q, In, B, Out>: Send
where
    Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey> + 'static,
{
    /// What is kept of the broadcast stream.
    type State: BroadcastStates;

    /// The state before anything was broadcast.
    fn state(&self) -> Self::State;

    /// Called once before any record: declares keyed state, unless the function was made with its handles.
    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, Q::Owned>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Handles a record of the keyed stream.
    fn process(
        &mut self,
        record: In,
        state: &Self::State,
        cx: KeyedCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// As [`BroadcastProcessFunction::process_broadcast`]. There is no key here, but all of them can be visited.
    fn process_broadcast(
        &mut self,
        record: B,
        state: &mut Self::State,
        cx: KeyedBroadcastCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// Handles a timer that this key has registered, for a time of a domain.
    fn on_timer(
        &mut self,
        timer: (i64, TimeDomain),
        state: &Self::State,
        cx: KeyedCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError> {
        let _ = (timer, state, cx, out);
        Ok(())
    }

    /// As [`crate::function::ProcessFunction::on_checkpoint`].
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        let _ = event;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}
