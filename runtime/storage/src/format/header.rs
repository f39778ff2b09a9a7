//! The first bytes of every file.

use super::{checksum, u64_at};
use crate::error::{Result, StorageError};
use std::fmt;

/// Length of the header.
pub(crate) const HEADER_BYTES: usize = 24;

/// The format that this build writes, and the only one there is yet.
pub const FORMAT_VERSION: u8 = 1;

/// The first byte is not ASCII, so no text file is taken for one of ours.
const MAGIC: [u8; 7] = *b"\x89HURTIG";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// State of one subtask's operators.
    State,
    /// What a checkpoint consists of.
    Metadata,
    /// Where the savepoint is that a job has stopped with.
    StopRecord,
    /// A file of a store that holds keyed state.
    StoreFile,
}

impl FileKind {
    fn code(self) -> u8 {
        match self {
            Self::State => 1,
            Self::Metadata => 2,
            Self::StopRecord => 3,
            Self::StoreFile => 4,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::State, Self::Metadata, Self::StopRecord, Self::StoreFile]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::State => "state file",
            Self::Metadata => "metadata file",
            Self::StopRecord => "stop record",
            Self::StoreFile => "file of a store",
        })
    }
}

/// The version of Hurtig that wrote a file. It is for people; readers go by the format version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterVersion {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Patch version.
    pub patch: u16,
}

impl WriterVersion {
    /// The version of this build.
    pub fn current() -> Self {
        // Cargo writes these from the manifest; a number it would refuse cannot be here.
        let number = |text: &str| text.parse().unwrap_or(0);
        Self {
            major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            patch: number(env!("CARGO_PKG_VERSION_PATCH")),
        }
    }
}

impl fmt::Display for WriterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Appends a header to an empty file.
pub(super) fn write(out: &mut Vec<u8>, kind: FileKind, writer: WriterVersion) {
    debug_assert!(out.is_empty());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FORMAT_VERSION, kind.code(), 0]);
    for number in [writer.major, writer.minor, writer.patch] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let sum = checksum(0, out);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Reads the header from a file's first bytes.
pub(super) fn read(path: &str, bytes: &[u8]) -> Result<(FileKind, WriterVersion)> {
    let corrupt = |offset, problem: String| Err(StorageError::corrupt(path, offset, problem));
    if bytes.len() < HEADER_BYTES {
        let problem = format!(
            "the file ends after {} bytes, within its header of 24",
            bytes.len()
        );
        return corrupt(0, problem);
    }
    if bytes[..7] != MAGIC {
        return corrupt(
            0,
            "this is no file of Hurtig: it does not begin with 89 'HURTIG'".into(),
        );
    }
    if bytes[7] != FORMAT_VERSION {
        let problem = format!(
            "format version {} where this build knows {FORMAT_VERSION} only: a newer Hurtig wrote it, and can read \
             it, or the byte was changed",
            bytes[7]
        );
        return corrupt(7, problem);
    }
    let (stored, computed) = (u64_at(bytes, 16), checksum(0, &bytes[..16]));
    if stored != computed {
        return corrupt(
            0,
            format!("the header has checksum {stored:016x}, expected {computed:016x}"),
        );
    }
    let Some(kind) = FileKind::of_code(bytes[8]) else {
        return corrupt(
            8,
            format!("unknown kind of file {}; a newer Hurtig may know it", bytes[8]),
        );
    };
    let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let writer = WriterVersion {
        major: number(10),
        minor: number(12),
        patch: number(14),
    };
    Ok((kind, writer))
}
