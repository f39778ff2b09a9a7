//! Where a key's bytes go: a vector, or a hash that never stores them on the heap.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Receives the bytes of a key, piece by piece.
///
/// [`StableKey::encode_to`](super::StableKey::encode_to) is generic over it so that hashing a key
/// needs no buffer on the heap.
pub trait KeyWriter {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

impl KeyWriter for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Bytes kept on the stack before the hash becomes a streaming one. Most compound keys fit.
const STACK_BYTES: usize = 128;

/// XXH3-64, seed 0, of everything put into it; the same value however the bytes are cut.
pub(super) struct KeyHasher {
    stack: [u8; STACK_BYTES],
    len: usize,
    spilled: Option<Xxh3>,
}

impl KeyHasher {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            stack: [0; STACK_BYTES],
            len: 0,
            spilled: None,
        }
    }

    #[inline]
    pub(super) fn finish(&self) -> u64 {
        match &self.spilled {
            None => xxh3_64(&self.stack[..self.len]),
            Some(stream) => stream.digest(),
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        let stream = self.spilled.get_or_insert_with(Xxh3::new);
        stream.update(&self.stack[..self.len]);
        self.len = 0;
        stream.update(bytes);
    }
}

impl KeyWriter for KeyHasher {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.spilled.is_none() && end <= STACK_BYTES {
            self.stack[self.len..end].copy_from_slice(bytes);
            self.len = end;
        } else {
            self.spill(bytes);
        }
    }
}
