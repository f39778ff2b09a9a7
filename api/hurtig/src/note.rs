//! The note by which a cluster knows that a file is an artifact.

use hurtig_cluster::process::note_bytes;

/// What the note says: the launch versions that this library speaks, and its own version.
const TEXT: &str = concat!("launch=2..2\nhurtig=", env!("CARGO_PKG_VERSION"), "\n");
/// See [`note_bytes`].
const LENGTH: usize = (20 + TEXT.len()).next_multiple_of(4);

/// Notes are aligned to four bytes.
#[repr(C, align(4))]
pub(crate) struct Aligned([u8; LENGTH]);

/// In a section that linkers turn into a segment of notes, which `strip` leaves alone.
// SAFETY: the section holds constant bytes only, in the form of an ELF note, and no code reads it but loaders and tools, which skip
// notes that they do not know. There is no other way to get a note into an executable without a build script in each program.
#[allow(unsafe_code, reason = "see above")]
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".note.hurtig"))]
static NOTE: Aligned = Aligned(note_bytes::<LENGTH>(TEXT));

/// Has the note linked wherever this is called.
pub(crate) fn keep() {
    std::hint::black_box(&NOTE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_cluster::process::launch::LAUNCH_VERSION;

    #[test]
    fn the_note_names_the_version_that_is_spoken() {
        assert!(TEXT.starts_with(&format!("launch=2..{LAUNCH_VERSION}\n")));
        assert!(NOTE.0.windows(TEXT.len()).any(|bytes| bytes == TEXT.as_bytes()));
    }
}
