//! The first frame in each direction: who is there, and which version both speak.
//!
//! Its layout never changes; its bodies have named fields, and gain some.

use crate::codec;
use crate::connection::CloseReason;
use crate::frame::{Frame, FrameDecoder, HANDSHAKE, Header, Kind, encode_frame};
use crate::rpc::Identity;
use crate::transport::Stream;
use crate::version::{Side, VersionRange};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

/// Bytes that are read at once.
pub(crate) const READ: usize = 64 << 10;
/// The largest body of the handshake: a peer that has not introduced itself is not listened to for long.
const MAX_BODY: usize = 16 << 10;

/// Who dials introduces itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) min: u16,
    pub(crate) max: u16,
    pub(crate) incarnation: Uuid,
    /// The link that the connection belongs to.
    pub(crate) link: Uuid,
    /// Whether the link has had a connection before.
    pub(crate) resume: bool,
    pub(crate) name: String,
    pub(crate) cluster: Option<Uuid>,
    pub(crate) max_message: u32,
    #[cfg(feature = "protocol_next")]
    #[serde(default)]
    pub(crate) labels: std::collections::BTreeMap<String, String>,
}

/// Who was dialled agrees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) version: u16,
    pub(crate) incarnation: Uuid,
    pub(crate) name: String,
    pub(crate) max_message: u32,
}

/// Why a connection is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    /// No version in common.
    Version,
    /// Another cluster.
    Cluster,
    /// Too many connections; later there may be room.
    Busy,
    /// A link goes on that is not known here.
    Forgotten,
    /// The process is about to leave.
    #[cfg(feature = "protocol_next")]
    Draining,
    /// One that this version does not have.
    #[serde(other)]
    Other,
}

/// Who was dialled refuses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reject {
    pub(crate) reason: Reason,
    pub(crate) min: u16,
    pub(crate) max: u16,
    pub(crate) text: String,
}

/// A connection whose two sides have agreed.
pub(crate) struct Established {
    pub(crate) stream: Stream,
    /// With what has arrived behind the handshake.
    pub(crate) decoder: FrameDecoder,
    pub(crate) version: u16,
    pub(crate) incarnation: Uuid,
    pub(crate) name: String,
    pub(crate) max_message: u32,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialError {
    /// Nobody listens there.
    Refused,
    /// The peer has no version in common with us.
    Incompatible {
        ours: VersionRange,
        theirs: VersionRange,
        older: Side,
    },
    /// The peer will not have us, now or later.
    Rejected(String),
    /// The peer does not know the link any more.
    Forgotten,
    /// Anything that may pass.
    Failed(String),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            // What TLS says: the same certificates are refused the next time, too.
            io::ErrorKind::InvalidData => Self::Rejected(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<CloseReason> for DialError {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Tls(text) => Self::Rejected(text),
            reason => Self::Failed(reason.to_string()),
        }
    }
}

/// Introduces this process on a stream that it has dialled.
pub(crate) async fn introduce(mut stream: Stream, hello: &Hello) -> Result<Established, DialError> {
    write(&mut stream, Kind::Hello, hello).await?;
    let mut decoder = FrameDecoder::new();
    let frame = read(&mut stream, &mut decoder).await?;
    match frame.header.kind {
        Kind::Welcome => {
            let welcome: Welcome = body(&frame)?;
            if welcome.version < hello.min || welcome.version > hello.max {
                return Err(CloseReason::Violation("a version that was not offered").into());
            }
            Ok(Established {
                stream,
                decoder,
                version: welcome.version,
                incarnation: welcome.incarnation,
                name: welcome.name,
                max_message: welcome.max_message,
            })
        }
        Kind::Reject => Err(rejected(hello, body(&frame)?)),
        _ => Err(CloseReason::Violation("another answer to a hello").into()),
    }
}

fn rejected(hello: &Hello, reject: Reject) -> DialError {
    let [ours, theirs] =
        [(hello.min, hello.max), (reject.min, reject.max)].map(|(min, max)| VersionRange { min, max });
    match (reject.reason, ours.negotiate(theirs)) {
        (Reason::Version, Err(older)) => DialError::Incompatible { ours, theirs, older },
        (Reason::Forgotten, _) => DialError::Forgotten,
        (Reason::Busy, _) => DialError::Failed(reject.text),
        _ => DialError::Rejected(reject.text),
    }
}

/// Reads who has dialled.
pub(crate) async fn greet(stream: &mut Stream, decoder: &mut FrameDecoder) -> Result<Hello, CloseReason> {
    let frame = read(stream, decoder).await?;
    if frame.header.kind != Kind::Hello {
        return Err(CloseReason::Violation("a connection does not begin with a hello"));
    }
    body(&frame)
}

/// Whether a process that is `us` speaks with who said `hello`, and in which version.
pub(crate) fn judge(hello: &Hello, us: &Identity, versions: VersionRange) -> Result<u16, Reject> {
    let reject = |reason, text: String| Reject {
        reason,
        min: versions.min,
        max: versions.max,
        text,
    };
    let theirs = VersionRange {
        min: hello.min,
        max: hello.max,
    };
    let version = versions.negotiate(theirs).map_err(|_| {
        let text = format!(
            "{} speaks protocol {versions}, {} speaks {theirs}",
            us.name, hello.name
        );
        reject(Reason::Version, text)
    })?;
    let ours = us.cluster.map(|cluster| cluster.0);
    if let (Some(ours), Some(theirs)) = (ours, hello.cluster)
        && ours != theirs
    {
        let (name, ours, theirs) = (&us.name, ours.simple(), theirs.simple());
        let text =
            format!("{name} belongs to cluster {ours}, not to {theirs}: check the address and cluster id");
        return Err(reject(Reason::Cluster, text));
    }
    Ok(version)
}

/// Writes a frame of the handshake.
pub(crate) async fn write<T: Serialize>(
    stream: &mut Stream,
    kind: Kind,
    value: &T,
) -> Result<(), CloseReason> {
    let mut bytes = Vec::new();
    frame_of(kind, value, &mut bytes)?;
    stream.write_all(&bytes).await.map_err(io_failed)?;
    stream.flush().await.map_err(io_failed)
}

/// The bytes of a frame of the handshake.
pub(crate) fn frame_of<T: Serialize>(kind: Kind, value: &T, out: &mut Vec<u8>) -> Result<(), CloseReason> {
    let body = codec::encode(value).map_err(|error| CloseReason::Io(error.to_string()))?;
    let mut header = Header::new(HANDSHAKE, kind, 0);
    header.total = u32::try_from(body.len()).unwrap_or(u32::MAX);
    encode_frame(&header, &body, out);
    Ok(())
}

async fn read(stream: &mut Stream, decoder: &mut FrameDecoder) -> Result<Frame, CloseReason> {
    let mut buffer = vec![0; 4_096];
    let mut begin = Vec::new();
    loop {
        if speaks_tls(&begin) {
            return Err(CloseReason::Tls(
                "the peer speaks TLS, and this process does not (`security.ssl.internal.enabled`)".to_owned(),
            ));
        }
        if let Some(frame) = decoder.next_frame()? {
            let header = &frame.header;
            if header.version != HANDSHAKE || header.sequence != 0 || frame.body.len() > MAX_BODY {
                return Err(CloseReason::Violation(
                    "a first frame that is none of the handshake",
                ));
            }
            return Ok(frame);
        }
        if decoder.waiting() > 2 * MAX_BODY {
            return Err(CloseReason::Violation("a first frame that is too long"));
        }
        match stream.read(&mut buffer).await.map_err(io_failed)? {
            0 => return Err(CloseReason::Closed),
            count => {
                begin.extend(buffer[..count].iter().take(RECORD - begin.len()));
                decoder.push(&buffer[..count]);
            }
        }
    }
}

/// Bytes by which a record of TLS is known.
const RECORD: usize = 2;

/// A handshake or an alert, of any version.
fn speaks_tls(begin: &[u8]) -> bool {
    matches!(begin, [0x15 | 0x16, 0x03])
}

fn body<T: DeserializeOwned>(frame: &Frame) -> Result<T, CloseReason> {
    codec::decode(&frame.body).map_err(|_| CloseReason::Violation("a handshake that cannot be read"))
}

fn io_failed(error: io::Error) -> CloseReason {
    match error.kind() {
        // Who was dialled tells only now what it thinks of our certificate.
        io::ErrorKind::InvalidData => {
            CloseReason::Tls(format!("the peer ends the handshake of TLS: {error}"))
        }
        _ => CloseReason::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{EndpointProgress, Goodbye, Progress};
    use crate::fence::ClusterId;
    use crate::testing::{fields_come_and_go, unknown_variants_are_caught};

    fn hello() -> Hello {
        Hello {
            min: 1,
            max: 3,
            incarnation: Uuid::from_u128(1),
            link: Uuid::from_u128(2),
            resume: true,
            name: "worker".to_owned(),
            cluster: Some(Uuid::from_u128(3)),
            max_message: 7,
            #[cfg(feature = "protocol_next")]
            labels: [("a".to_owned(), "b".to_owned())].into(),
        }
    }

    #[test]
    fn fields_of_the_connections_own_messages_come_and_go() {
        let needed = [
            "min",
            "max",
            "incarnation",
            "link",
            "resume",
            "name",
            "max_message",
        ];
        fields_come_and_go(&hello(), &needed);
        let (incarnation, name) = (Uuid::from_u128(4), "manager".to_owned());
        let welcome = Welcome {
            version: 2,
            incarnation,
            name,
            max_message: 9,
        };
        fields_come_and_go(&welcome, &["version", "incarnation", "name", "max_message"]);
        let (reason, text) = (Reason::Busy, "later".to_owned());
        let reject = Reject {
            reason,
            min: 1,
            max: 2,
            text,
        };
        fields_come_and_go(&reject, &["reason", "min", "max", "text"]);
        let endpoint = EndpointProgress {
            name: "rm".to_owned(),
            handled: 3,
            busy_ms: Some(4),
            ended: true,
        };
        fields_come_and_go(&endpoint, &[]);
        let endpoints = vec![endpoint];
        fields_come_and_go(&Progress { endpoints }, &[]);
        let reason = "drained".to_owned();
        fields_come_and_go(&Goodbye { reason }, &[]);
        unknown_variants_are_caught::<Reason>();
    }

    #[test]
    fn versions_and_clusters_are_judged() {
        let us = |cluster: Option<u128>| Identity {
            name: "manager".to_owned(),
            incarnation: Uuid::nil(),
            cluster: cluster.map(|cluster| ClusterId(Uuid::from_u128(cluster))),
        };
        let judged = |cluster, min, max| judge(&hello(), &us(cluster), VersionRange { min, max });
        assert_eq!(judged(Some(3), 2, 9), Ok(3));
        assert_eq!(judged(None, 1, 2), Ok(2), "who belongs nowhere speaks with all");
        assert_eq!(judged(Some(4), 1, 2).unwrap_err().reason, Reason::Cluster);
        let rejected = judged(Some(3), 4, 5).unwrap_err();
        assert_eq!(
            (rejected.reason, rejected.min, rejected.max),
            (Reason::Version, 4, 5)
        );
        let incompatible = super::rejected(&hello(), rejected);
        assert!(
            matches!(
                incompatible,
                DialError::Incompatible {
                    older: Side::Ours,
                    ..
                }
            ),
            "{incompatible:?}"
        );
    }
}
