//! RocksDB as a store of keyed state.
//!
//! [`RocksFactory`] opens stores that keep each state in a column family of its own. It promises what
//! [`hurtig_state::ByteStore`] asks for, that all stores of a factory together stay near one budget of
//! memory, and that no code of a user runs on RocksDB's threads, and none of Hurtig but what tells which values of
//! a state have expired. It refuses to know key and value types, caches of objects, and where checkpoints are
//! copied.
//!
//! | Room | Holds |
//! |---|---|
//! | [`options`] | [`RocksMemory`], [`RocksFactory`]: how stores are tuned and bounded |
//! | `settings` | [`RocksSettings`]: what a configuration says of them |
//! | `store` | the store |
//! | `reads` | look-ups for many keys, by several threads |
//! | `expiry` | compactions that drop what has expired |
//! | `files` | directories of stores and checkpoints |
//! | [`error`] | [`RocksError`] |

pub mod error;
mod expiry;
mod files;
pub mod options;
mod reads;
mod settings;
mod store;

pub use error::RocksError;
pub use options::{RocksFactory, RocksMemory};
pub use settings::RocksSettings;
