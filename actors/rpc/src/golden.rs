//! Frames of every kind as version 1 wrote them: what is on record is still read, and still written.

use crate::codec;
use crate::connection::{EndpointProgress, Goodbye, Progress};
use crate::error::RpcError;
use crate::error_wire;
use crate::fence::{ClusterId, FenceError, Stamp};
use crate::frame::{Frame, FrameDecoder, Header, Kind, TraceContext, encode_frame};
use crate::handshake::{Hello, Reason, Reject, Welcome};
use crate::message::Lane;
use hurtig_core::ids::JobId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Write};
use std::num::NonZeroU64;
use uuid::Uuid;

const V1: &str = include_str!("../tests/golden/v1.txt");

fn stamps() -> [Stamp; 2] {
    let number = |number| NonZeroU64::new(number).unwrap();
    let cluster = ClusterId(Uuid::from_u128(0x0102_0304));
    [
        Stamp::cluster(cluster, 2, number(700)),
        Stamp::job(JobId::from_u128(5), number(3)),
    ]
}

fn hello() -> Hello {
    Hello {
        min: 1,
        max: 1,
        incarnation: Uuid::from_u128(1),
        link: Uuid::from_u128(2),
        resume: true,
        name: "taskmanager-1".to_owned(),
        cluster: Some(Uuid::from_u128(3)),
        max_message: 10 << 20,
        #[cfg(feature = "protocol_next")]
        labels: std::collections::BTreeMap::new(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        version: 1,
        incarnation: Uuid::from_u128(4),
        name: "jobmanager".to_owned(),
        max_message: 10 << 20,
    }
}

fn reject() -> Reject {
    Reject {
        reason: Reason::Version,
        min: 1,
        max: 1,
        text: "no".to_owned(),
    }
}

fn progress() -> Progress {
    let endpoint = EndpointProgress {
        name: "resource-manager".to_owned(),
        handled: 7,
        busy_ms: Some(12),
        ended: false,
    };
    Progress {
        endpoints: vec![endpoint],
    }
}

fn error() -> RpcError {
    let [stamp, _] = stamps();
    let newer = FenceError::Fenced {
        scope: stamp.scope,
        yours: stamp.token,
        newer: stamp.token,
    };
    newer.into()
}

/// Header and body of each example.
fn examples() -> Vec<(&'static str, Frame)> {
    let frame = |name, kind, id, body: Vec<u8>| {
        let version = u16::from(!matches!(kind, Kind::Hello | Kind::Welcome | Kind::Reject));
        let mut header = Header::new(version, kind, id);
        header.sequence = u64::from(version);
        header.total = u32::try_from(body.len()).unwrap();
        (name, Frame { header, body })
    };
    let [cluster, job] = stamps();
    let message = |name, kind, stamp, timeout| {
        let (name, mut frame) = frame(name, kind, 8, vec![0x80]);
        (frame.header.endpoint, frame.header.message) =
            ("resource-manager".to_owned(), "register".to_owned());
        (frame.header.stamp, frame.header.timeout_ms) = (stamp, timeout);
        frame.header.trace = TraceContext {
            trace: 0xABCD,
            span: 0xEF,
        };
        frame.header.lane = Lane::Report;
        (name, frame)
    };
    let mut chunk = frame("chunk", Kind::Chunk, 8, vec![1, 2, 3]);
    chunk.1.header.total = 0;
    let goodbye = Goodbye {
        reason: "drained".to_owned(),
    };
    vec![
        frame("hello", Kind::Hello, 0, encoded(&hello())),
        frame("welcome", Kind::Welcome, 0, encoded(&welcome())),
        frame("reject", Kind::Reject, 0, encoded(&reject())),
        message("ask", Kind::Ask, Some(cluster), 10_000),
        message("tell", Kind::Tell, Some(job), 0),
        frame("reply", Kind::Reply, 8, vec![0xc0]),
        frame("error", Kind::Error, 8, error_wire::to_bytes(&error())),
        frame("cancel", Kind::Cancel, 8, vec![]),
        chunk,
        frame("ping", Kind::Ping, 9, vec![]),
        frame("pong", Kind::Pong, 9, encoded(&progress())),
        frame("goodbye", Kind::Goodbye, 0, encoded(&goodbye)),
    ]
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn recorded() -> Vec<(&'static str, Vec<u8>)> {
    let lines = V1.lines().map(|line| line.split_once(' ').unwrap());
    lines.map(|(name, digits)| (name, unhex(digits))).collect()
}

#[test]
fn version_1_is_written_as_it_is_on_record() {
    for ((name, recorded), (_, frame)) in recorded().into_iter().zip(examples()) {
        // With the next version a hello has a field more.
        if cfg!(feature = "protocol_next") && name == "hello" {
            continue;
        }
        let mut written = Vec::new();
        encode_frame(&frame.header, &frame.body, &mut written);
        assert_eq!(
            hex(&written),
            hex(&recorded),
            "the bytes of version 1 never change: {name}"
        );
    }
}

#[test]
fn version_1_is_read_as_it_is_on_record() {
    fn same<T: DeserializeOwned + PartialEq + Debug>(body: &[u8], expected: &T) {
        assert_eq!(&codec::decode::<T>(body).unwrap(), expected);
    }
    let (examples, recorded) = (examples(), recorded());
    assert_eq!(recorded.len(), examples.len());
    for ((name, bytes), (_, expected)) in recorded.into_iter().zip(examples) {
        let mut decoder = FrameDecoder::new();
        decoder.push(&bytes);
        let mut frame = decoder.next_frame().unwrap().unwrap();
        match name {
            "hello" => {
                same(&frame.body, &hello());
                frame.header.total = expected.header.total;
            }
            "welcome" => same(&frame.body, &welcome()),
            "reject" => same(&frame.body, &reject()),
            "pong" => same(&frame.body, &progress()),
            "error" => assert_eq!(error_wire::from_bytes(&frame.body), error()),
            "goodbye" => assert_eq!(codec::decode::<Goodbye>(&frame.body).unwrap().reason, "drained"),
            _ => assert_eq!(frame.body, expected.body),
        }
        assert_eq!(frame.header, expected.header, "{name}");
    }
}
