//! Bytes into frames.

use super::encode::header_checksum;
use super::{
    CHECKED_LEN, Frame, FrameError, HEADER_LEN, Header, Kind, MAGIC, MAX_FRAME_BODY, MAX_NAME, TraceContext,
};
use crate::fence::{ClusterId, FencingToken, Scope, Stamp};
use crate::message::{Lane, is_name};
use hurtig_core::ids::JobId;
use std::num::NonZeroU64;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Puts bytes together to frames, however they were cut.
///
/// It holds what was pushed and is not a frame yet: at most one frame less a byte, when every push is followed by
/// [`FrameDecoder::next_frame`] until nothing comes.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// Where the next frame begins.
    start: usize,
    failed: Option<FrameError>,
}

impl FrameDecoder {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes up.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that are not part of a frame yet.
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next frame; `None`: more bytes are needed.
    ///
    /// # Errors
    /// When the bytes are no frame, and from then on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let decoded = decode(&self.buffer[self.start..]);
        match decoded {
            Ok(Some((frame, read))) => {
                self.start += read;
                Ok(Some(frame))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.failed = Some(error);
                self.buffer = Vec::new();
                self.start = 0;
                Err(error)
            }
        }
    }
}

/// The first frame and its length; `None`: it is not all there.
fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameError> {
    let seen = bytes.len().min(MAGIC.len());
    if bytes[..seen] != MAGIC[..seen] {
        return Err(FrameError::Magic);
    }
    if bytes.len() < HEADER_LEN {
        return Ok(None);
    }
    let (endpoint, message) = (usize::from(bytes[9]), usize::from(bytes[10]));
    if endpoint > MAX_NAME || message > MAX_NAME {
        return Err(FrameError::Name);
    }
    let names_end = HEADER_LEN + endpoint + message;
    let Some(names) = bytes.get(HEADER_LEN..names_end) else {
        return Ok(None);
    };
    let head = header_checksum(&bytes[..CHECKED_LEN], names);
    let mut fields = Fields(&bytes[CHECKED_LEN..]);
    if fields.u64() != head {
        return Err(FrameError::HeaderChecksum);
    }
    let body_checksum = fields.u64();
    // What follows is what somebody has written, on purpose.
    let (header, body_len) = header(bytes, names.split_at(endpoint))?;
    let Some(body) = bytes.get(names_end..names_end + body_len) else {
        return Ok(None);
    };
    if xxh3_64_with_seed(body, head) != body_checksum {
        return Err(FrameError::BodyChecksum);
    }
    let body = body.to_vec();
    Ok(Some((Frame { header, body }, names_end + body_len)))
}

/// The header whose checksum was right, and the length of the body.
fn header(bytes: &[u8], names: (&[u8], &[u8])) -> Result<(Header, usize), FrameError> {
    let mut fields = Fields(&bytes[MAGIC.len()..CHECKED_LEN]);
    let version = fields.u16();
    let [kind, lane, flags, _, _, scope] = fields.array();
    let body = fields.u32();
    let header = Header {
        version,
        kind: Kind::of(kind).ok_or(FrameError::Kind(kind))?,
        lane: Lane::of(lane).ok_or(FrameError::Lane(lane))?,
        more: match flags {
            0 | 1 => flags == 1,
            _ => return Err(FrameError::Flags(flags)),
        },
        sequence: fields.u64(),
        id: fields.u64(),
        total: fields.u32(),
        timeout_ms: fields.u32(),
        stamp: stamp(scope, &mut fields)?,
        trace: TraceContext {
            trace: u128::from_be_bytes(fields.array()),
            span: fields.u64(),
        },
        endpoint: name(names.0)?,
        message: name(names.1)?,
    };
    let len = usize::try_from(body).unwrap_or(usize::MAX);
    if len > MAX_FRAME_BODY {
        return Err(FrameError::TooLong(body));
    }
    header.check(len)?;
    Ok((header, len))
}

fn stamp(scope: u8, fields: &mut Fields<'_>) -> Result<Option<Stamp>, FrameError> {
    let id = Uuid::from_u128(u128::from_be_bytes(fields.array()));
    let (incarnation, number) = (fields.u64(), NonZeroU64::new(fields.u64()));
    let scope = match scope {
        0 if id.is_nil() && incarnation == 0 && number.is_none() => return Ok(None),
        1 => Scope::Cluster(ClusterId(id)),
        2 if incarnation == 0 => Scope::Job(JobId(id)),
        other => return Err(FrameError::Scope(other)),
    };
    let number = number.ok_or(FrameError::Scope(0))?;
    let token = FencingToken { incarnation, number };
    Ok(Some(Stamp { scope, token }))
}

fn name(bytes: &[u8]) -> Result<String, FrameError> {
    let text = std::str::from_utf8(bytes).map_err(|_| FrameError::Name)?;
    if text.is_empty() || is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(FrameError::Name)
    }
}

/// Reads numbers one behind the other, from bytes whose length was checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N);
        self.0 = rest;
        let mut array = [0; N];
        array.copy_from_slice(head);
        array
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}
