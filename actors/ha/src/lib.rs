//! Leader election and the durable job store, over a store in memory, in a directory or in etcd.
//!
//! It promises that a write which is not guarded by the term or the epoch that holds is never carried out, that an outcome which is
//! not known is never taken for another, and that nobody leads beyond his deadline. It refuses to know what jobs do: it keeps
//! their records.

pub mod blob;
pub mod clock;
pub mod collect;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod file;
pub mod kv;
pub mod leader;
pub mod memory;
pub mod records;
pub mod settings;
