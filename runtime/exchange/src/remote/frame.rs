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

/// Finds frames in the bytes of a connection. Memory follows the bytes that have come.
#[derive(Debug)]
pub(crate) struct FrameReader {
    bytes: Vec<u8>,
    /// Bytes that were taken.
    taken: usize,
    limit: usize,
}

impl FrameReader {
    /// One that refuses bodies beyond a limit.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            taken: 0,
            limit,
        }
    }

    /// Takes bytes over.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame that is whole.
    pub(crate) fn next(&mut self) -> Result<Option<(Header, &[u8])>, FrameError> {
        let rest = &self.bytes[self.taken..];
        let Some(header) = rest.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let number = |from: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&header[from..from + 4]);
            u32::from_le_bytes(bytes)
        };
        let long = |from: usize| u64::from(number(from)) | u64::from(number(from + 4)) << 32;
        let (Some(kind), true) = (Kind::of(header[2]), header[..2] == MAGIC) else {
            let found = [header[0], header[1], header[2], header[3]];
            return Err(FrameError::NoFrame { found });
        };
        let length = number(16) as usize;
        if length > self.limit {
            let (bytes, limit) = (length, self.limit);
            return Err(FrameError::TooLong { bytes, limit });
        }
        let Some(body) = rest[HEADER_LEN..].get(..length) else {
            return Ok(None);
        };
        let (channel, position) = (number(4), long(8));
        if checksum(&header[..CHECKED], body) != long(CHECKED) {
            return Err(FrameError::Checksum { channel, position });
        }
        let header = Header {
            kind,
            urgent: header[3] & URGENT != 0,
            channel,
            position,
            backlog: number(20),
        };
        self.taken += HEADER_LEN + length;
        Ok(Some((header, body)))
    }
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
            for bytes in written(&frames).chunks(cut) {
                reader.feed(bytes);
                while let Some((header, body)) = reader.next().unwrap() {
                    arrived.push((header, body.to_vec()));
                }
            }
            prop_assert_eq!(arrived, frames);
        }

        #[test]
        fn one_byte_that_was_changed_is_found(frames in frames(), at: prop::sample::Index, flip in 1..=255u8) {
            let mut bytes = written(&frames);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let mut reader = FrameReader::new(1_000);
            reader.feed(&bytes);
            let mut arrived = 0;
            let outcome = loop {
                match reader.next() {
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
            let mut reader = FrameReader::new(1_000);
            reader.feed(&bytes);
            while let Ok(Some(_)) = reader.next() {}
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_header() {
        let mut bytes = Vec::new();
        Header::of(Kind::Batch, 7).write(&[0; 100], &mut bytes);
        let mut reader = FrameReader::new(99);
        reader.feed(&bytes[..HEADER_LEN]);
        assert_eq!(
            reader.next(),
            Err(FrameError::TooLong {
                bytes: 100,
                limit: 99
            })
        );
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
