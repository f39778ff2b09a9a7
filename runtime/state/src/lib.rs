//! State: what operators remember, keyed and not, and what a snapshot of it holds.
//!
//! This crate stores typed values in tables by key hash and hands out `Copy` handles to them. It
//! promises that a snapshot restored into a new instance gives the same answers, at any
//! parallelism. It refuses to know threads, time, windows and what the values mean.
//!
//! | Room | Holds |
//! |---|---|
//! | [`table`] | [`GroupedTable`]: one state of one subtask in memory, in key-group order |
//! | [`keyed`] | [`KeyedState`]: an operator's keyed states, declared by name, reached by handles |
//! | [`namespaced`] | [`NamespacedTable`]: a table for each window |
//! | [`operator`] | [`OperatorListState`] and [`BroadcastState`]: state without a key |
//! | [`function`] | the functions that reducing and aggregating states are made of |
//! | [`encoded`] | [`EncodedEntries`]: keyed entries as files hold them |
//! | [`away`] | [`AwayEntries`]: the same where they lie, until they are restored |
//! | [`store`] | [`ByteStore`]: stores of bytes that hold more than memory does, and what they must promise |
//! | [`cached`] | [`CachedTable`]: one state of one subtask in a store, the recently used values in memory |
//! | [`backend`] | [`StateBackend`]: which of both an operator's keyed states are in |
//! | [`stored`] | [`StoredStates`]: the states of a store on their way into a checkpoint |
//! | [`ttl`] | [`StateTtlConfig`]: how state expires |
//! | [`shape`] | [`Shape`]: what types of state look like in bytes, and whether one can be read as another |
//! | [`snapshot`] | [`OperatorSnapshot`]: all of it as plain data |

pub mod away;
pub mod backend;
pub mod cached;
pub mod encoded;
mod entries;
pub mod function;
pub mod keyed;
pub mod namespaced;
pub mod operator;
pub mod shape;
pub mod snapshot;
pub mod store;
pub mod stored;
pub mod table;
pub mod ttl;
mod uploads;

pub use away::{AwayEntries, EntrySource};
pub use backend::{RestoredStore, ScratchDir, StateBackend, StoreBackend};
pub use cached::{CacheMemory, CacheOptions, CachedTable, Codec, Delta};
pub use encoded::EncodedEntries;
pub use function::{AggregateFunction, ReduceFunction, StateValue};
pub use keyed::{
    AggregatingState, CurrentKey, KeyScope, KeyedState, ListState, MapState, ReducingState, StateDescriptor,
    StateHandle, Table, ValueState,
};
pub use namespaced::NamespacedTable;
pub use operator::{BroadcastState, OperatorListState};
pub use shape::{Shape, StateShape, StateShapes};
pub use snapshot::{EntryRef, KeyedEntry, KeyedSection, OperatorSection, OperatorSnapshot, Redistribution};
pub use store::{ByteStore, ByteStoreFactory};
pub use stored::{SettledFiles, SettledStates, StoredStates};
pub use table::{Change, GroupedTable, ScanBudget};
pub use ttl::{StateTtlConfig, StateVisibility, UpdateType};
pub use uploads::Upload;
