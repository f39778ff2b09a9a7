//! State files: the snapshots of one subtask's operators, in key-group order, behind one handle.
//!
//! The data of a file are entries and nothing else: one section after the other, the entries of a
//! keyed section in key-group order. The index says what the sections are and where each group
//! begins, so that a reader can fetch some groups without the rest.

mod away;
mod cursor;
mod index;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{open_state_groups, read_state, read_state_groups};
#[cfg(test)]
pub(crate) use write::state_image as image_of;
pub use write::write_state;

use serde::{Deserialize, Serialize};

/// Names a state file and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHandle {
    /// Its path in the store.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its checksum, which its last block holds too.
    pub checksum: u64,
    /// The paths of the files that it names, which other checkpoints may name too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
}
