//! The bytes that all files share: a header, blocks with checksums, and an end that counts them.
//!
//! A reader checks every byte before it believes it, and allocates only for bytes that are there. A
//! checksum is seeded with the place of what it covers, so that blocks cannot change places.

pub(crate) mod block;
mod codec;
pub(crate) mod header;
pub(crate) mod reader;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

pub use codec::Compression;
pub use header::{FORMAT_VERSION, FileKind, WriterVersion};
pub use reader::{FileInfo, verify_file};

/// XXH3-64 of `bytes` that begin at `offset` of their file.
fn checksum(offset: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, offset)
}

/// The little-endian number at `at`; the caller has checked that the bytes are there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    (0..4).fold(0, |number, i| number | u32::from(bytes[at + i]) << (8 * i))
}

/// The little-endian number at `at`; the caller has checked that the bytes are there.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
