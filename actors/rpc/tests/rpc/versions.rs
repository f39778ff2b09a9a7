//! Processes of different versions.

use crate::hostile::{Hello, frame, hello, next};
use crate::network::Network;
use crate::support::*;
use hurtig_rpc::{
    Acceptor, Connectivity, Dialer, FrameDecoder, Kind, RpcError, SUPPORTED, Side, VersionRange, decode,
    encode,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

#[derive(Debug, Serialize, Deserialize)]
struct Reject {
    reason: String,
    min: u16,
    max: u16,
    text: String,
}

#[test]
fn a_process_of_the_future_is_told_which_versions_there_are() {
    paused(async {
        let network = Network::new();
        let process = network.process("manager", |_| {});
        process.rpc.serve(network.listener("manager"));
        let (mut stream, mut decoder) = (network.dial("manager").await.unwrap(), FrameDecoder::new());
        let future = Hello {
            min: 7,
            max: 9,
            ..hello()
        };
        stream
            .write_all(&frame(Kind::Hello, 0, 0, encode(&future).unwrap()))
            .await
            .unwrap();
        let answer = next(&mut stream, &mut decoder).await.unwrap();
        assert_eq!(answer.header.kind, Kind::Reject);
        let reject: Reject = decode(&answer.body).unwrap();
        assert_eq!(
            (reject.reason.as_str(), reject.min, reject.max),
            ("Version", SUPPORTED.min, SUPPORTED.max)
        );
        assert_eq!(
            reject.text,
            format!("manager speaks protocol {SUPPORTED}, by hand speaks 7 to 9")
        );
        assert!(next(&mut stream, &mut decoder).await.is_none(), "closed after it");
    });
}

#[test]
fn who_is_rejected_learns_which_side_is_older() {
    let (theirs, older) = (VersionRange { min: 7, max: 9 }, Side::Ours);
    paused(async {
        let network = Network::new();
        let worker = network.process("worker", |_| {});
        let mut acceptor = network.listener("manager");
        let peer = worker.rpc.connect("manager");
        let asked = manager(&peer).ask(Heard, SOON);
        let mut stream = acceptor.accept().await.unwrap().stream.await.unwrap();
        let reject = Reject {
            reason: "Version".to_owned(),
            min: theirs.min,
            max: theirs.max,
            text: "no".to_owned(),
        };
        stream
            .write_all(&frame(Kind::Reject, 0, 0, encode(&reject).unwrap()))
            .await
            .unwrap();
        let ours = SUPPORTED;
        assert_eq!(asked.await, Err(RpcError::Incompatible { ours, theirs, older }));
        // And from then on.
        assert_eq!(
            manager(&peer).ask(Heard, SOON).await,
            Err(RpcError::Incompatible { ours, theirs, older })
        );
        assert_eq!(network.dialled(), 1, "it does not try again");
    });
}

#[test]
fn a_reason_of_the_future_is_a_refusal_with_its_text() {
    paused(async {
        let network = Network::new();
        let worker = network.process("worker", |_| {});
        let mut acceptor = network.listener("manager");
        let peer = worker.rpc.connect("manager");
        let mut stream = acceptor.accept().await.unwrap().stream.await.unwrap();
        let reject = Reject {
            reason: "MoonIsFull".to_owned(),
            min: 1,
            max: 1,
            text: "come back tomorrow".to_owned(),
        };
        stream
            .write_all(&frame(Kind::Reject, 0, 0, encode(&reject).unwrap()))
            .await
            .unwrap();
        let mut watch = peer.watch().unwrap();
        let dead = watch
            .wait_for(|state| matches!(state.connectivity, Connectivity::Dead(_)))
            .await
            .unwrap();
        let Connectivity::Dead(reason) = &dead.connectivity else {
            unreachable!()
        };
        assert_eq!(reason.to_string(), "it refuses us: come back tomorrow");
    });
}

#[test]
fn a_message_that_the_peer_does_not_know_is_unsupported() {
    paused(async {
        let network = Network::new();
        let old = VersionRange { min: 1, max: 1 };
        let (process, worker) = (
            network.process("manager", |config| config.versions = old),
            network.process("worker", |_| {}),
        );
        process.rpc.serve(network.listener("manager"));
        let peer = worker.rpc.connect("manager");
        let (endpoint, message) = ("rm".to_owned(), "later".to_owned());
        let unsupported = RpcError::Unsupported { endpoint, message };
        assert_eq!(manager(&peer).ask(Later, SOON).await, Err(unsupported.clone()));
        assert_eq!(
            manager(&process.rpc.local()).ask(Later, SOON).await,
            Err(unsupported)
        );
        assert_eq!(peer.state().version, 1);
    });
}

/// With the next version compiled in: both speak it, and each of them with an older one speaks the older one.
#[cfg(feature = "protocol_next")]
#[test]
fn mixed_versions_speak_the_older_one() {
    let (old, new) = (VersionRange { min: 1, max: 1 }, SUPPORTED);
    for (here, there, expected) in [(old, new, 1), (new, old, 1), (new, new, 2), (old, old, 1)] {
        paused(async {
            let network = Network::new();
            let process = network.process("manager", |config| config.versions = here);
            let worker = network.process("worker", |config| config.versions = there);
            process.rpc.serve(network.listener("manager"));
            let peer = worker.rpc.connect("manager");
            assert_eq!(manager(&peer).ask(Heard, SOON).await, Ok(vec![]));
            assert_eq!(peer.state().version, expected);
            assert_eq!(manager(&peer).ask(Later, SOON).await.is_ok(), expected == 2);
            peer.notify("about to be upgraded");
            assert_eq!(
                manager(&peer).ask(Heard, SOON).await,
                Ok(vec![]),
                "a notice harms nobody"
            );
            assert_eq!(peer.state().connections, 1);
        });
    }
}

/// A process that drains takes no new links, and says so in the words of each version.
#[cfg(feature = "protocol_next")]
#[test]
fn a_draining_process_refuses_new_links_of_any_version() {
    for max in [1, 2] {
        paused(async {
            let network = Network::new();
            let process = network.process("manager", |_| {});
            process.rpc.serve(network.listener("manager"));
            process.rpc.drain();
            let (mut stream, mut decoder) = (network.dial("manager").await.unwrap(), FrameDecoder::new());
            let hello = Hello { max, ..hello() };
            stream
                .write_all(&frame(Kind::Hello, 0, 0, encode(&hello).unwrap()))
                .await
                .unwrap();
            let reject: Reject = decode(&next(&mut stream, &mut decoder).await.unwrap().body).unwrap();
            assert_eq!(reject.reason, if max == 1 { "Busy" } else { "Draining" });
        });
    }
}
