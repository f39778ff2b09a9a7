//! Frames: what a connection carries, byte by byte as `docs/rpc-wire.md` says.
//!
//! Promises that whatever bytes come, decoding ends in frames or in an error, and memory follows the bytes that have come.
//! Refuses to know what a body means.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use crate::fence::Stamp;
use crate::message::Lane;

pub use decode::FrameDecoder;
pub use encode::encode_frame;

/// The longest name of an endpoint or message, in bytes.
pub const MAX_NAME: usize = 64;
/// The longest body of one frame, in bytes; longer ones are sent in chunks.
pub const MAX_FRAME_BODY: usize = 65_536;
/// The length of a header, without the names.
pub const HEADER_LEN: usize = 112;
/// The version that frames of the handshake have.
pub const HANDSHAKE: u16 = 0;

pub(crate) const MAGIC: [u8; 4] = *b"HRPC";
/// How many bytes of the header its checksum covers; the names follow.
pub(crate) const CHECKED_LEN: usize = 96;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who dials introduces itself.
    Hello,
    /// Who was dialled agrees.
    Welcome,
    /// Who was dialled refuses.
    Reject,
    /// A question, or its first part.
    Ask,
    /// A message without an answer, or its first part.
    Tell,
    /// An answer, or its first part.
    Reply,
    /// A refusal or failure of an ask or tell.
    Error,
    /// The asker is gone.
    Cancel,
    /// A further part.
    Chunk,
    /// Are you there?
    Ping,
    /// Yes, and this is what the actors do.
    Pong,
    /// The connection ends.
    Goodbye,
    /// Something for the log.
    Notice,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Hello,
        Self::Welcome,
        Self::Reject,
        Self::Ask,
        Self::Tell,
        Self::Reply,
        Self::Error,
        Self::Cancel,
        Self::Chunk,
        Self::Ping,
        Self::Pong,
        Self::Goodbye,
        Self::Notice,
    ];

    /// Its number on the wire.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The kind of a number.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Whether it belongs to the handshake, whose version is 0.
    pub fn is_handshake(self) -> bool {
        matches!(self, Self::Hello | Self::Welcome | Self::Reject)
    }

    /// Whether it begins a body that may go on in chunks.
    pub(crate) fn may_continue(self) -> bool {
        matches!(self, Self::Ask | Self::Tell | Self::Reply)
    }

    fn has_id(self) -> bool {
        !self.is_handshake() && !matches!(self, Self::Goodbye | Self::Notice)
    }

    fn has_names(self) -> bool {
        matches!(self, Self::Ask | Self::Tell)
    }

    fn has_body(self) -> bool {
        !matches!(self, Self::Cancel | Self::Ping)
    }

    fn has_lane(self) -> bool {
        self.may_continue() || matches!(self, Self::Chunk | Self::Error)
    }
}

/// Where a message belongs in a distributed trace. The default is: nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; 0: none.
    pub trace: u128,
    /// The span that caused the message.
    pub span: u64,
}

/// What stands before a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The protocol version.
    pub version: u16,
    /// What the frame is for.
    pub kind: Kind,
    /// Its lane.
    pub lane: Lane,
    /// Whether chunks of this body follow.
    pub more: bool,
    /// Its number in its direction.
    pub sequence: u64,
    /// The request that it belongs to.
    pub id: u64,
    /// Bytes of the whole body.
    pub total: u32,
    /// Milliseconds until the asker gives up.
    pub timeout_ms: u32,
    /// Who commands.
    pub stamp: Option<Stamp>,
    /// The trace.
    pub trace: TraceContext,
    /// The receiver.
    pub endpoint: String,
    /// What is said.
    pub message: String,
}

impl Header {
    /// One without names, stamp and body.
    pub fn new(version: u16, kind: Kind, id: u64) -> Self {
        Self {
            version,
            kind,
            lane: Lane::Control,
            more: false,
            sequence: 0,
            id,
            total: 0,
            timeout_ms: 0,
            stamp: None,
            trace: TraceContext::default(),
            endpoint: String::new(),
            message: String::new(),
        }
    }

    /// Checks what a kind must and must not have.
    fn check(&self, body: usize) -> Result<(), FrameError> {
        let kind = self.kind;
        let unused = |holds: bool, field: &'static str| {
            if holds {
                Ok(())
            } else {
                Err(FrameError::Field { kind, field })
            }
        };
        unused((self.version == HANDSHAKE) == kind.is_handshake(), "version")?;
        unused(kind.has_id() || self.id == 0, "id")?;
        unused(kind.has_lane() || self.lane == Lane::Control, "lane")?;
        unused((self.timeout_ms > 0) == (kind == Kind::Ask), "time left")?;
        unused(kind.has_names() || self.stamp.is_none(), "scope")?;
        unused(kind.has_names() || self.trace == TraceContext::default(), "trace")?;
        unused(kind.has_names() != self.endpoint.is_empty(), "endpoint")?;
        unused(kind.has_names() != self.message.is_empty(), "message")?;
        unused(kind.has_body() || body == 0, "body")?;
        unused(!self.more || kind.may_continue() || kind == Kind::Chunk, "more")?;
        unused(!self.more || body == MAX_FRAME_BODY, "body length")?;
        if kind == Kind::Chunk {
            return unused(self.total == 0 && body > 0, "total length");
        }
        let total = usize::try_from(self.total).unwrap_or(usize::MAX);
        unused(
            if self.more { total > body } else { total == body },
            "total length",
        )
    }
}

/// A header with what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// The body, or its part.
    pub body: Vec<u8>,
}

/// Bytes that are no frame. Nothing behind them can be trusted: the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer speaks something else.
    #[error("the frame does not begin with HRPC: the peer speaks another protocol, or bytes were lost")]
    Magic,
    /// The header, or the names, were changed on their way.
    #[error("the header's checksum is wrong")]
    HeaderChecksum,
    /// The body was changed on its way.
    #[error("the body's checksum is wrong")]
    BodyChecksum,
    /// A kind that this version does not have.
    #[error("no kind of frame has the number {0}")]
    Kind(u8),
    /// A lane that this version does not have.
    #[error("no lane has the number {0}")]
    Lane(u8),
    /// A flag that this version does not have.
    #[error("the flags are {0:#010b}, and only the lowest is known")]
    Flags(u8),
    /// A scope that this version does not have, or a field that contradicts it.
    #[error("scope {0} does not go with its id and token")]
    Scope(u8),
    /// A name with bytes that it must not have, or too many.
    #[error("a name is longer than {MAX_NAME} bytes or has other bytes than it may")]
    Name,
    /// A frame's body that is longer than any.
    #[error("a frame claims a body of {0} bytes, and {MAX_FRAME_BODY} are the most")]
    TooLong(u32),
    /// A field that a kind of frame does not have, or lacks.
    #[error("a {kind:?} frame with the wrong {field}")]
    Field {
        /// The kind.
        kind: Kind,
        /// The field.
        field: &'static str,
    },
}
