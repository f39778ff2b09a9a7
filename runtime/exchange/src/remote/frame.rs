//! Frames: what a connection carries, byte by byte as `docs/exchange-wire.md` says.

use hurtig_core::Error;
use xxhash_rust::xxh3::Xxh3Default;

/// The length of a header.
pub const HEADER_LEN: usize = 32;
/// How many bytes of the header the checksum covers, beside the body.
const CHECKED: usize = 24;
const MAGIC: [u8; 2] = *b"HX";
/// The frame is before a barrier that was announced, and was sent without credit.
const URGENT: u8 = 1;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number is given to a channel.
    Open,
    /// Records.
    Batch,
    /// An event between them.
    Event,
    /// A barrier that may overtake; all that it may overtake has been sent.
    Announce,
    /// The producer has gone, and all that it left behind has been sent.
    Gone,
    /// So much may be sent in all.
    Credit,
    /// The consumer has gone.
    Unread,
    /// There is nothing to say, and somebody to say it.
    Alive,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Open,
        Self::Batch,
        Self::Event,
        Self::Announce,
        Self::Gone,
        Self::Credit,
        Self::Unread,
        Self::Alive,
    ];

    fn number(self) -> u8 {
        self as u8 + 1
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// A frame without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) urgent: bool,
    /// The channel's number, given by who produces.
    pub(crate) channel: u32,
    /// Position of an element in its channel.
    pub(crate) position: u64,
    /// Kibibytes that wait at the producer behind this frame.
    pub(crate) backlog: u32,
}

impl Header {
    pub(crate) fn of(kind: Kind, channel: u32) -> Self {
        Self {
            kind,
            urgent: false,
            channel,
            position: 0,
            backlog: 0,
        }
    }

    /// Appends a frame.
    pub(crate) fn write(self, body: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[self.kind.number(), if self.urgent { URGENT } else { 0 }]);
        out.extend_from_slice(&self.channel.to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        // A body is a batch, whose size is bounded far below.
        out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&self.backlog.to_le_bytes());
        let sum = checksum(&out[start..], body);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(body);
    }
}

/// The bytes of a frame of any kind, with a checksum that is right: what another process may send, for tests.
pub fn frame(kind: u8, channel: u32, position: u64, body: &[u8]) -> Vec<u8> {
    let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
    let mut bytes = Vec::new();
    let header = Header {
        position,
        ..Header::of(kind, channel)
    };
    header.write(body, &mut bytes);
    bytes
}

fn checksum(header: &[u8], body: &[u8]) -> u64 {
    let mut sum = Xxh3Default::new();
    sum.update(header);
    sum.update(body);
    sum.digest()
}

/// Why the bytes of a connection are not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// They do not begin like a frame.
    NoFrame {
        /// What stands there.
        found: [u8; 4],
    },
    /// A frame is longer than any may be.
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// Its bytes were changed on the way.
    Checksum {
        /// Its channel, if that is right.
        channel: u32,
        /// Its position, if that is right.
        position: u64,
    },
    /// A frame that cannot stand where it stands.
    Protocol(String),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoFrame { found } => write!(f, "no frame begins with the bytes {found:02x?}"),
            Self::TooLong { bytes, limit } => write!(f, "a frame of {bytes} bytes; {limit} are allowed"),
            Self::Checksum { channel, position } => write!(
                f,
                "the checksum of a frame is wrong (channel {channel}, position {position}, if these are right)"
            ),
            Self::Protocol(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for FrameError {}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Self::external("a connection between workers has failed", error)
    }
}

/// A frame whose rest is still to come is put together here; one longer than this leaves no memory behind.
const KEPT: usize = 1 << 20;

/// Finds frames in the bytes of a connection. Memory follows the bytes that have come.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// A frame that has come in parts.
    kept: Vec<u8>,
    /// It is whole, and was handed out.
    done: bool,
    limit: usize,
}

impl FrameReader {
    /// One that refuses bodies beyond a limit.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            kept: Vec::new(),
            done: false,
            limit,
        }
    }

    /// It with what it keeps; an empty one stays behind.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(self.limit);
        std::mem::replace(self, empty)
    }

    /// The next frame that is whole, from the front of `bytes` and what was kept of earlier ones. Without one all bytes are kept.
    pub(crate) fn read<'a, 'b: 'a>(
        &'a mut self,
        bytes: &mut &'b [u8],
    ) -> Result<Option<(Header, &'a [u8])>, FrameError> {
        if std::mem::take(&mut self.done) {
            self.kept.clear();
            self.kept.shrink_to(KEPT);
        }
        if self.kept.is_empty()
            && let Some(length) = self.length_of(bytes)?
            && let Some((frame, rest)) = bytes.split_at_checked(length)
        {
            *bytes = rest;
            return open(frame).map(Some);
        }
        self.keep(HEADER_LEN, bytes);
        let Some(length) = self.length_of(&self.kept)? else {
            return Ok(None);
        };
        self.keep(length, bytes);
        if self.kept.len() < length {
            return Ok(None);
        }
        self.done = true;
        open(&self.kept).map(Some)
    }

    /// Moves bytes over until so many are kept.
    fn keep(&mut self, enough: usize, bytes: &mut &[u8]) {
        let missing = enough.saturating_sub(self.kept.len()).min(bytes.len());
        let (some, rest) = bytes.split_at(missing);
        self.kept.extend_from_slice(some);
        *bytes = rest;
    }

    /// The length of the frame that begins here, once its header is there.
    fn length_of(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        if Kind::of(header[2]).is_none() || header[..2] != MAGIC {
            let found = [header[0], header[1], header[2], header[3]];
            return Err(FrameError::NoFrame { found });
        }
        let (bytes, limit) = (number(header, 16) as usize, self.limit);
        match bytes > limit {
            true => Err(FrameError::TooLong { bytes, limit }),
            false => Ok(Some(HEADER_LEN + bytes)),
        }
    }
}

fn number(header: &[u8; HEADER_LEN], from: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[from..from + 4]);
    u32::from_le_bytes(bytes)
}

/// The header and the body of a whole frame.
fn open(frame: &[u8]) -> Result<(Header, &[u8]), FrameError> {
    let no_frame = || FrameError::NoFrame { found: [0; 4] };
    let (header, body) = frame.split_first_chunk().ok_or_else(no_frame)?;
    let long = |from: usize| u64::from(number(header, from)) | u64::from(number(header, from + 4)) << 32;
    let (channel, position) = (number(header, 4), long(8));
    if checksum(&header[..CHECKED], body) != long(CHECKED) {
        return Err(FrameError::Checksum { channel, position });
    }
    let header = Header {
        kind: Kind::of(header[2]).ok_or_else(no_frame)?,
        urgent: header[3] & URGENT != 0,
        channel,
        position,
        backlog: number(header, 20),
    };
    Ok((header, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> impl Strategy<Value = Header> {
        let kind = prop::sample::select(Kind::ALL.to_vec());
        let parts = (kind, any::<bool>(), any::<u32>(), any::<u64>(), any::<u32>());
        parts.prop_map(|(kind, urgent, channel, position, backlog)| Header {
            kind,
            urgent,
            channel,
            position,
            backlog,
        })
    }

    fn frames() -> impl Strategy<Value = Vec<(Header, Vec<u8>)>> {
        prop::collection::vec((header(), prop::collection::vec(any::<u8>(), 0..80)), 1..6)
    }

    fn written(frames: &[(Header, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames
            .iter()
            .for_each(|(header, body)| header.write(body, &mut bytes));
        bytes
    }

    proptest! {
        #[test]
        fn frames_arrive_however_their_bytes_are_cut(frames in frames(), cut in 1..90usize) {
            let mut reader = FrameReader::new(1_000);
            let mut arrived = Vec::new();
            for mut bytes in written(&frames).chunks(cut) {
                while let Some((header, body)) = reader.read(&mut bytes).unwrap() {
                    arrived.push((header, body.to_vec()));
                }
                prop_assert!(bytes.is_empty());
            }
            prop_assert_eq!(arrived, frames);
        }

        #[test]
        fn one_byte_that_was_changed_is_found(frames in frames(), at: prop::sample::Index, flip in 1..=255u8) {
            let mut bytes = written(&frames);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let (mut reader, mut bytes) = (FrameReader::new(1_000), &bytes[..]);
            let mut arrived = 0;
            let outcome = loop {
                match reader.read(&mut bytes) {
                    Ok(Some((header, body))) => {
                        prop_assert_eq!((header, body), (frames[arrived].0, &frames[arrived].1[..]));
                        arrived += 1;
                    }
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            // A length that has grown makes it wait for more; nothing wrong is handed out.
            prop_assert!(arrived < frames.len());
            prop_assert!(!outcome || arrived < frames.len());
        }

        #[test]
        fn any_bytes_end_in_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut reader, mut bytes) = (FrameReader::new(1_000), &bytes[..]);
            while let Ok(Some(_)) = reader.read(&mut bytes) {}
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_header() {
        let mut bytes = Vec::new();
        Header::of(Kind::Batch, 7).write(&[0; 100], &mut bytes);
        let mut reader = FrameReader::new(99);
        assert_eq!(
            reader.read(&mut &bytes[..HEADER_LEN]),
            Err(FrameError::TooLong {
                bytes: 100,
                limit: 99
            })
        );
    }

    #[test]
    fn a_long_frame_that_comes_in_parts_leaves_no_memory_behind() {
        let mut bytes = Vec::new();
        Header::of(Kind::Batch, 1).write(&vec![7; 3 << 20], &mut bytes);
        Header::of(Kind::Alive, 0).write(&[], &mut bytes);
        let mut reader = FrameReader::new(4 << 20);
        let (mut first, mut second) = bytes.split_at(1_000_000);
        assert_eq!(reader.read(&mut first), Ok(None));
        assert!(matches!(reader.read(&mut second), Ok(Some((_, body))) if body.len() == 3 << 20));
        assert!(matches!(reader.read(&mut second), Ok(Some((header, _))) if header.kind == Kind::Alive));
        assert!(reader.kept.capacity() <= KEPT);
    }

    #[test]
    fn a_frame_has_the_bytes_that_the_documentation_says() {
        let mut bytes = Vec::new();
        let header = Header {
            urgent: true,
            position: 0x0102_0304_0506_0708,
            backlog: 9,
            ..Header::of(Kind::Event, 3)
        };
        header.write(&[0xaa, 0xbb], &mut bytes);
        assert_eq!(bytes[..8], [b'H', b'X', 3, 1, 3, 0, 0, 0]);
        assert_eq!(bytes[8..24], [8, 7, 6, 5, 4, 3, 2, 1, 2, 0, 0, 0, 9, 0, 0, 0]);
        let sum = xxhash_rust::xxh3::xxh3_64(&[&bytes[..24], &[0xaa, 0xbb]].concat());
        assert_eq!(bytes[24..32], sum.to_le_bytes());
        assert_eq!(bytes[32..], [0xaa, 0xbb]);
    }
}
