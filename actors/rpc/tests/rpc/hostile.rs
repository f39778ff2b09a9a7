//! Peers that are broken or mean: they get an error or the end, and others are served.

use crate::network::Network;
use crate::support::*;
use hurtig_rpc::{Acceptor, Dialer, Frame, FrameDecoder, Header, Kind, Stream, encode, encode_frame};
use proptest::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// A hello as the page says it, written by hand.
#[derive(Serialize)]
pub(crate) struct Hello {
    pub(crate) min: u16,
    pub(crate) max: u16,
    pub(crate) incarnation: uuid::Uuid,
    pub(crate) link: uuid::Uuid,
    pub(crate) resume: bool,
    pub(crate) name: &'static str,
    pub(crate) cluster: Option<uuid::Uuid>,
    pub(crate) max_message: u32,
    pub(crate) something_new: BTreeMap<String, u8>,
}

pub(crate) fn hello() -> Hello {
    let uuid = uuid::Uuid::new_v4;
    Hello {
        min: 1,
        max: 1,
        incarnation: uuid(),
        link: uuid(),
        resume: false,
        name: "by hand",
        cluster: None,
        max_message: 1 << 20,
        something_new: BTreeMap::from([("unheard of".to_owned(), 1)]),
    }
}

pub(crate) fn frame(kind: Kind, version: u16, sequence: u64, body: Vec<u8>) -> Vec<u8> {
    let mut header = Header::new(version, kind, 0);
    header.sequence = sequence;
    header.total = u32::try_from(body.len()).unwrap();
    let mut bytes = Vec::new();
    encode_frame(&header, &body, &mut bytes);
    bytes
}

/// An ask of `heard`.
pub(crate) fn ask(sequence: u64, id: u64) -> Vec<u8> {
    let mut header = Header::new(1, Kind::Ask, id);
    (header.sequence, header.timeout_ms) = (sequence, 5_000);
    header.lane = hurtig_rpc::Lane::Report;
    (header.endpoint, header.message) = ("rm".to_owned(), "heard".to_owned());
    let body = encode(&Heard).unwrap();
    header.total = u32::try_from(body.len()).unwrap();
    let mut bytes = Vec::new();
    encode_frame(&header, &body, &mut bytes);
    bytes
}

/// Reads the next frame; `None`: the connection was closed.
pub(crate) async fn next(stream: &mut Stream, decoder: &mut FrameDecoder) -> Option<Frame> {
    let mut buffer = [0; 4_096];
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            return Some(frame);
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => decoder.push(&buffer[..count]),
        }
    }
}

/// A connection that was welcomed.
async fn welcomed(network: &Network) -> (Stream, FrameDecoder) {
    let (mut stream, mut decoder) = (network.dial("manager").await.unwrap(), FrameDecoder::new());
    let bytes = frame(Kind::Hello, 0, 0, encode(&hello()).unwrap());
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(
        next(&mut stream, &mut decoder).await.unwrap().header.kind,
        Kind::Welcome
    );
    (stream, decoder)
}

/// Everything that comes until the connection is closed.
async fn rest(stream: &mut Stream, decoder: &mut FrameDecoder) -> Vec<Kind> {
    let mut kinds = Vec::new();
    while let Some(frame) = next(stream, decoder).await {
        kinds.push(frame.header.kind);
    }
    kinds
}

#[test]
fn a_peer_that_follows_the_page_is_served() {
    paused(async {
        let network = Network::new();
        let (_process, _worker, _peer) = network.pair();
        let (mut stream, mut decoder) = welcomed(&network).await;
        stream.write_all(&ask(1, 40)).await.unwrap();
        let reply = next(&mut stream, &mut decoder).await.unwrap();
        assert_eq!((reply.header.kind, reply.header.id), (Kind::Reply, 40));
        assert_eq!(
            hurtig_rpc::decode::<Vec<String>>(&reply.body).unwrap(),
            Vec::<String>::new()
        );
    });
}

#[test]
fn a_peer_that_connects_anew_replaces_its_connection_and_nobody_else_can() {
    paused(async {
        let network = Network::new();
        let (process, _worker, _peer) = network.pair();
        let dial = async |hello: &Hello| {
            let (mut stream, mut decoder) = (network.dial("manager").await.unwrap(), FrameDecoder::new());
            let bytes = frame(Kind::Hello, 0, 0, encode(hello).unwrap());
            stream.write_all(&bytes).await.unwrap();
            let answer = next(&mut stream, &mut decoder).await.unwrap();
            (stream, decoder, answer.header.kind)
        };
        let first = hello();
        let (mut old, mut old_decoder, kind) = dial(&first).await;
        assert_eq!(kind, Kind::Welcome);
        // It has lost its connection, and the server does not know.
        let again = Hello {
            resume: true,
            ..hello()
        };
        let again = Hello {
            incarnation: first.incarnation,
            link: first.link,
            ..again
        };
        let (mut new, mut new_decoder, kind) = dial(&again).await;
        assert_eq!(kind, Kind::Welcome);
        assert_eq!(
            rest(&mut old, &mut old_decoder).await,
            [],
            "the old one is closed at once"
        );
        new.write_all(&ask(1, 2)).await.unwrap();
        assert_eq!(
            next(&mut new, &mut new_decoder).await.unwrap().header.kind,
            Kind::Reply
        );
        let links = process.rpc.accepted();
        let ours = links.iter().find(|peer| peer.state().name == "by hand").unwrap();
        assert_eq!(ours.state().connections, 2);
        // Another process with the number of its link, and a link that was never here.
        let thief = Hello {
            incarnation: uuid::Uuid::new_v4(),
            ..again
        };
        assert_eq!(dial(&thief).await.2, Kind::Reject);
        let unknown = Hello {
            resume: true,
            ..hello()
        };
        assert_eq!(dial(&unknown).await.2, Kind::Reject);
        new.write_all(&ask(2, 4)).await.unwrap();
        assert_eq!(
            next(&mut new, &mut new_decoder).await.unwrap().header.kind,
            Kind::Reply
        );
    });
}

#[test]
fn broken_frames_end_their_connection_and_no_other() {
    paused(async {
        let network = Network::new();
        let (_process, _worker, peer) = network.pair();
        let mut flipped = ask(1, 2);
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let mut long = ask(1, 2);
        long[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        let cases = [
            ("noise", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            ("a flipped bit", flipped),
            ("a length that lies", long),
            ("a repeated frame", [ask(1, 2), ask(1, 2)].concat()),
            ("a lost frame", ask(2, 2)),
            ("frames in another order", [ask(2, 2), ask(1, 4)].concat()),
            (
                "one id twice",
                [ask_of("ponder", 1, 2), ask_of("ponder", 2, 2)].concat(),
            ),
            (
                "a second hello",
                frame(Kind::Hello, 0, 1, encode(&hello()).unwrap()),
            ),
            ("another version", frame(Kind::Goodbye, 9, 1, vec![])),
        ];
        for (what, bytes) in cases {
            let (mut stream, mut decoder) = welcomed(&network).await;
            stream.write_all(&bytes).await.unwrap();
            let began = Instant::now();
            let kinds = rest(&mut stream, &mut decoder).await;
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{what}: closed after {:?}",
                began.elapsed()
            );
            assert!(kinds.len() <= 1, "{what}: {kinds:?}");
            assert_eq!(manager(&peer).ask(Heard, SOON).await, Ok(vec![]), "after {what}");
        }
        assert_eq!(peer.state().connections, 1);
    });
}

fn ask_of(message: &str, sequence: u64, id: u64) -> Vec<u8> {
    let mut header = Header::new(1, Kind::Ask, id);
    (header.sequence, header.timeout_ms) = (sequence, 5_000);
    (header.endpoint, header.message) = ("rm".to_owned(), message.to_owned());
    let body = encode(&Ponder).unwrap();
    header.total = u32::try_from(body.len()).unwrap();
    let mut bytes = Vec::new();
    encode_frame(&header, &body, &mut bytes);
    bytes
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    paused(async {
        let network = Network::new();
        let (process, worker) = (
            network.process("manager", |config| config.max_handshakes = 3),
            network.process("worker", |_| {}),
        );
        process.rpc.serve(network.listener("manager"));
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(network.dial("manager").await.unwrap());
        }
        // As many as may be silent at once are; who comes then has to wait until they are sent away.
        let peer = worker.rpc.connect("manager");
        let began = Instant::now();
        let mut half = network.dial("manager").await.unwrap();
        half.write_all(&frame(Kind::Hello, 0, 0, encode(&hello()).unwrap())[..50])
            .await
            .unwrap();
        assert_eq!(manager(&peer).ask(Heard, SOON).await, Ok(vec![]));
        assert_eq!(began.elapsed(), Duration::from_secs(4), "`rpc.connect-timeout`");
        let mut byte = [0];
        for stream in silent.iter_mut().chain([&mut half]) {
            assert_eq!(stream.read(&mut byte).await.unwrap_or(0), 0);
        }
    });
}

#[test]
fn a_peer_that_asks_and_never_reads_costs_bounded_memory() {
    paused(async {
        let network = Network::new();
        let (process, _worker, peer) = network.pair();
        process.heard.borrow_mut().push("x".repeat(10_000));
        let (mut stream, _) = welcomed(&network).await;
        let mut written = 0;
        let flood = async {
            for number in 1u64.. {
                if stream.write_all(&ask(number, number * 2)).await.is_err() {
                    return;
                }
                written = number;
            }
        };
        let began = Instant::now();
        flood.await;
        assert!(
            began.elapsed() <= Duration::from_secs(12),
            "it is silent to us, and then dead"
        );
        // Two thousand answers may wait, and as many asks as a buffer holds.
        assert!((1_000..6_000).contains(&written), "{written} asks were taken");
        assert_eq!(manager(&peer).ask(Wanted, SOON).await, Ok(0));
    });
}

#[test]
fn a_server_that_lies_is_not_believed() {
    paused(async {
        let network = Network::new();
        let worker = network.process("worker", |_| {});
        #[derive(Serialize)]
        struct Welcome {
            version: u16,
            incarnation: uuid::Uuid,
            name: &'static str,
            max_message: u32,
        }
        let welcome = |version| Welcome {
            version,
            incarnation: uuid::Uuid::nil(),
            name: "liar",
            max_message: 1 << 20,
        };
        let lies = [
            frame(Kind::Welcome, 0, 0, encode(&welcome(7)).unwrap()),
            frame(Kind::Welcome, 0, 0, vec![0xc1]),
            frame(Kind::Hello, 0, 0, encode(&hello()).unwrap()),
            ask(0, 2),
            b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
            frame(Kind::Welcome, 0, 0, vec![0; 60_000]),
        ];
        for lie in lies {
            let mut acceptor = network.listener("liar");
            let peer = worker.rpc.connect("liar");
            let asked = manager(&peer).ask(Heard, Duration::from_millis(50));
            let mut stream = acceptor.accept().await.unwrap().stream.await.unwrap();
            stream.write_all(&lie).await.unwrap();
            assert!(asked.await.is_err());
            assert_eq!(peer.state().connections, 0);
            peer.close("lied to");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A conversation with bytes changed, dropped, repeated or cut off: the process serves others, and nothing panics.
    #[test]
    fn mutated_conversations_harm_nobody(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..5),
        greets in any::<bool>(),
    ) {
        paused(async {
            let network = Network::new();
            let (process, _worker, peer) = network.pair();
            let mut bytes = (1..6).flat_map(|number| ask(number, number * 2)).collect::<Vec<_>>();
            if !greets {
                bytes.splice(0..0, frame(Kind::Hello, 0, 0, encode(&hello()).unwrap()));
            }
            for (place, value, change) in changes {
                let at = place.index(bytes.len().max(1)).min(bytes.len());
                match change {
                    0 if at < bytes.len() => bytes[at] = value,
                    1 => bytes.insert(at, value),
                    2 => bytes.truncate(at),
                    _ => { let copy = bytes[..at].to_vec(); bytes.extend(copy); }
                }
            }
            let mut stream = if greets { welcomed(&network).await.0 } else { network.dial("manager").await.unwrap() };
            let _ = stream.write_all(&bytes).await;
            drop(stream);
            assert_eq!(manager(&peer).ask(Heard, SOON).await, Ok(vec![]));
            assert_eq!(peer.state().connections, 1);
            assert!(!process.kill.is_dead(), "{:?}", process.kill.fault());
        });
    }
}
