//! Checkpoint files: where they lie, what their bytes mean, and how state is dealt out again.
//!
//! This crate promises that a file is there, whole and durable, when a write returns; that nothing
//! is ever overwritten; and that a flipped or missing byte is refused with the path and the offset.
//! It blocks its caller, and refuses to know coordinators, actors, clocks and randomness.
//!
//! | Room | Holds |
//! |---|---|
//! | [`store`] | [`BlobStore`]: objects by path; [`LocalStore`], [`MemoryStore`]; what every store must do |
//! | [`stores`] | [`BlobStores`]: stores by their location |
//! | [`format`](mod@format) | header, blocks and checksums of every file; [`verify_file`] |
//! | [`state_file`] | [`write_state`], [`read_state`], [`read_state_groups`], [`open_state_groups`] |
//! | [`metadata`] | [`CheckpointMetadata`]: what a checkpoint consists of |
//! | [`description`] | [`SnapshotDescription`]: the same as it is shown |
//! | [`folder`] | [`SnapshotFolder`]: a checkpoint or savepoint wherever it lies |
//! | [`stop_record`] | [`StopRecord`]: where the savepoint is that a job has stopped with |
//! | [`layout`] | [`CheckpointLayout`]: names; [`latest_checkpoint`] |
//! | [`rescale`] | [`redistribute`]: state for another parallelism |
//! | [`error`] | [`StorageError`] |
//!
//! `docs/formats.md` describes every byte of the files; `tests/golden` holds examples of them, which
//! a build must read and, uncompressed, write again.

pub mod description;
pub mod error;
pub mod folder;
pub mod format;
pub mod layout;
pub mod local_copies;
pub mod metadata;
pub mod path;
pub mod rescale;
pub mod state_file;
pub mod stop_record;
pub mod store;
pub mod store_files;
pub mod stores;
#[cfg(test)]
mod tests;

pub use description::SnapshotDescription;
pub use error::{Result, StorageError};
pub use folder::{SnapshotFolder, delete_snapshot};
pub use format::{Compression, FileInfo, FileKind, verify_file};
pub use layout::{CheckpointLayout, latest_checkpoint};
pub use local_copies::LocalCopies;
pub use metadata::{
    CheckpointMetadata, METADATA_FORMAT_VERSION, METADATA_NAME, OperatorStates, SavepointFormat,
    SnapshotKind, SubtaskState, read_metadata, write_metadata,
};
pub use path::is_whole;
pub use rescale::{Scale, redistribute};
pub use state_file::{StateHandle, open_state_groups, read_state, read_state_groups, write_state};
pub use stop_record::{STOP_RECORD_NAME, StopRecord};
pub use store::{BlobStore, Fill, LocalStore, MemoryStore, conformance};
pub use store_files::{
    NamedBytes, Reader, Reuse, SharedFolder, checkpoint_of, forget_files, has_store, save_store,
};
pub use stores::{BlobStores, OpenStore};
