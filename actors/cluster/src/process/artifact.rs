//! What tells an artifact from any other file: an ELF note, which is read and never run.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Whose note it is.
pub const NOTE_NAME: &str = "Hurtig";
/// Which of our notes.
pub const NOTE_TYPE: u32 = 1;

/// Program headers that a file may have; linkers make about a dozen.
const MAX_HEADERS: u16 = 1_024;
/// Notes of a file are shorter than this.
const MAX_NOTES: u64 = 64 << 10;
/// Size of the header of a 64-bit ELF file.
const ELF_HEADER: usize = 64;
/// Size of each program header.
const PROGRAM_HEADER: usize = 56;
/// A program header that describes notes.
const PT_NOTE: u32 = 4;
/// Where notes can begin.
const NOTE_ALIGN: usize = 4;
/// Name padded to four bytes: it ends with a zero.
const PADDED_NAME: usize = 8;

/// The bytes of a note with this description, for a section `.note.hurtig`. `N` is 20 more than the length of the description,
/// rounded up to four.
pub const fn note_bytes<const N: usize>(description: &str) -> [u8; N] {
    let (name, text) = (NOTE_NAME.as_bytes(), description.as_bytes());
    let mut bytes = [0; N];
    bytes[0] = name.len() as u8 + 1;
    bytes[4] = text.len() as u8;
    bytes[8] = NOTE_TYPE as u8;
    let mut at = 0;
    while at < name.len() {
        bytes[12 + at] = name[at];
        at += 1;
    }
    at = 0;
    while at < text.len() {
        bytes[12 + PADDED_NAME + at] = text[at];
        at += 1;
    }
    bytes
}

/// What an artifact says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The launch versions that it speaks, from and to.
    pub launch: (u32, u32),
    /// The version of Hurtig that it was built with.
    pub hurtig: String,
}

/// Why a file is not run.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error(
        "the file is no executable of Linux (ELF, 64 bits): upload the program that `cargo build` has made"
    )]
    NoExecutable,
    /// It is for other machines.
    #[error(
        "the file was built for machines of ELF type {found}, and this one has type {here}: build it for this architecture"
    )]
    OtherMachine {
        /// Its machine.
        found: u16,
        /// This machine.
        here: u16,
    },
    /// It is some other program.
    #[error("the file is an executable, but no artifact of Hurtig: its `main` has no `#[hurtig::main]`")]
    NoNote,
    /// Its note is not one of ours.
    #[error("the note of the artifact is damaged: build it again")]
    BadNote,
    /// It is too old, or too new.
    #[error("the artifact was built with Hurtig {hurtig}, which speaks launch versions {}-{}; this cluster speaks {here}: {}", .launch.0, .launch.1, if .launch.1 < *.here { "build it with a newer Hurtig" } else { "upgrade the cluster" })]
    Incompatible {
        /// Of the artifact.
        launch: (u32, u32),
        /// Of the artifact.
        hurtig: String,
        /// Of this cluster.
        here: u32,
    },
}

/// The machine of this process, as ELF has it.
const HERE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// Reads an artifact's note.
///
/// # Errors
/// Why the file is no artifact that could be run here.
pub fn read_note(path: &Path) -> Result<Note, ArtifactError> {
    note_of(&mut File::open(path)?)
}

fn note_of(file: &mut (impl Read + Seek)) -> Result<Note, ArtifactError> {
    let mut header = [0; ELF_HEADER];
    read_at(file, 0, &mut header)?;
    let is_elf = header[..4] == *b"\x7fELF" && header[4] == 2 && header[5] == 1;
    let is_program = matches!(u16_at(&header, 16), Some(2 | 3));
    if !is_elf || !is_program {
        return Err(ArtifactError::NoExecutable);
    }
    let found = u16_at(&header, 18).unwrap_or(0);
    if found != HERE {
        return Err(ArtifactError::OtherMachine { found, here: HERE });
    }
    let (table, size, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    let (Some(table), Some(size), Some(count)) = (table, size, count) else {
        return Err(ArtifactError::NoExecutable);
    };
    if usize::from(size) != PROGRAM_HEADER || count > MAX_HEADERS {
        return Err(ArtifactError::NoExecutable);
    }
    for index in 0..u64::from(count) {
        let mut segment = [0; PROGRAM_HEADER];
        let at = index
            .checked_mul(PROGRAM_HEADER as u64)
            .and_then(|offset| table.checked_add(offset));
        read_at(file, at.ok_or(ArtifactError::NoExecutable)?, &mut segment)?;
        if u32_at(&segment, 0) == Some(PT_NOTE)
            && let Some(description) = note_in(file, &segment)?
        {
            return parse(&description);
        }
    }
    Err(ArtifactError::NoNote)
}

/// A file that ends too early is no executable.
fn read_at(file: &mut (impl Read + Seek), at: u64, into: &mut [u8]) -> Result<(), ArtifactError> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ArtifactError::NoExecutable,
        _ => ArtifactError::Io(error),
    })
}

/// The description of our note among those of a segment. Linkers put notes of several alignments into one segment, with gaps
/// that the segment does not tell of, so that ours is looked for wherever it may begin.
fn note_in(file: &mut (impl Read + Seek), segment: &[u8]) -> Result<Option<Vec<u8>>, ArtifactError> {
    let (offset, length) = (u64_at(segment, 8), u64_at(segment, 32));
    let (Some(offset), Some(length)) = (offset, length.filter(|length| *length <= MAX_NOTES)) else {
        return Ok(None);
    };
    let mut notes = vec![0; usize::try_from(length).unwrap_or(0)];
    read_at(file, offset, &mut notes)?;
    let mut places = (0..notes.len()).step_by(NOTE_ALIGN);
    Ok(places.find_map(|at| our_note(&notes[at..])))
}

/// The description of the note that begins here, if it is ours.
fn our_note(note: &[u8]) -> Option<Vec<u8>> {
    let (name_size, size, kind) = (u32_at(note, 0)?, u32_at(note, 4)?, u32_at(note, 8)?);
    let name_end = 12_usize.checked_add(usize::try_from(name_size).ok()?)?;
    if kind != NOTE_TYPE || note.get(12..name_end)?.strip_suffix(b"\0")? != NOTE_NAME.as_bytes() {
        return None;
    }
    let start = 12 + PADDED_NAME;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    Some(note.get(start..end)?.to_vec())
}

/// Lines of `key=value`; those that are not known are of a later version.
fn parse(description: &[u8]) -> Result<Note, ArtifactError> {
    let text = std::str::from_utf8(description).map_err(|_| ArtifactError::BadNote)?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let launch = value("launch").and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some((from.parse().ok()?, to.parse().ok()?))
    });
    Ok(Note {
        launch: launch.ok_or(ArtifactError::BadNote)?,
        hurtig: value("hurtig").ok_or(ArtifactError::BadNote)?.to_owned(),
    })
}

impl Note {
    /// Whether processes of this version can start it.
    ///
    /// # Errors
    /// When they speak no common version.
    pub fn check(self, here: u32) -> Result<Self, ArtifactError> {
        if (self.launch.0..=self.launch.1).contains(&here) {
            return Ok(self);
        }
        let Self { launch, hurtig } = self;
        Err(ArtifactError::Incompatible { launch, hurtig, here })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    const TEXT: &str = "launch=1..3\nhurtig=0.1.0\n";
    const LENGTH: usize = (20 + TEXT.len()).next_multiple_of(4);

    /// An executable of one segment, which has a foreign note and ours, as mold lays them out: the segment is aligned to eight
    /// bytes, and ours begins at the next four.
    fn executable() -> Vec<u8> {
        let mut notes = vec![4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0];
        notes.extend(b"GNU\0abcd");
        notes.extend(note_bytes::<LENGTH>(TEXT));
        let mut file = vec![0; ELF_HEADER + PROGRAM_HEADER];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16] = 3;
        file[18..20].copy_from_slice(&HERE.to_le_bytes());
        file[32] = ELF_HEADER as u8;
        file[54] = PROGRAM_HEADER as u8;
        file[56] = 1;
        file[64] = 4;
        file[64 + 8] = (ELF_HEADER + PROGRAM_HEADER) as u8;
        file[64 + 32] = notes.len() as u8;
        file[64 + 48] = 8;
        file.extend(notes);
        file
    }

    fn read(bytes: Vec<u8>) -> Result<Note, ArtifactError> {
        note_of(&mut Cursor::new(bytes))
    }

    #[test]
    fn the_note_is_found_and_its_versions_are_compared() {
        let note = read(executable()).unwrap();
        let wanted = Note {
            launch: (1, 3),
            hurtig: "0.1.0".to_owned(),
        };
        assert_eq!(note, wanted);
        assert!(note.clone().check(1).is_ok());
        let error = note.check(4).unwrap_err().to_string();
        assert!(error.ends_with("build it with a newer Hurtig"), "{error}");
    }

    #[test]
    fn what_is_no_artifact_is_refused_with_the_reason() {
        assert!(matches!(
            read(b"#!/bin/sh\nexit 0\n".to_vec()),
            Err(ArtifactError::NoExecutable)
        ));
        assert!(matches!(read(Vec::new()), Err(ArtifactError::NoExecutable)));
        let mut other = executable();
        other[18] = 8;
        assert!(matches!(
            read(other),
            Err(ArtifactError::OtherMachine { found: 8, .. })
        ));
        let mut nameless = executable();
        let at = nameless.windows(6).position(|bytes| bytes == b"Hurtig").unwrap();
        nameless[at] = b'X';
        assert!(matches!(read(nameless), Err(ArtifactError::NoNote)));
    }

    proptest! {
        /// Whatever is changed and wherever it ends, it is refused or read, and nothing panics.
        #[test]
        fn damaged_files_do_not_panic(at in 0usize..200, to in any::<u8>(), length in 0usize..220) {
            let mut bytes = executable();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
            bytes.truncate(length);
            let _ = read(bytes);
        }
    }
}
