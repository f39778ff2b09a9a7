//! Asks and tells: the same whatever lies between.

use crate::support::*;
use hurtig_core::Fault;
use hurtig_core::ids::JobId;
use hurtig_core::time::SystemClock;
use hurtig_rpc::{
    Delivery, FenceError, Fences, Identity, LocalCodec, LocalFault, Peer, RegisterError, Registration,
    RemoteError, Routes, RpcError, RpcSetup, ScriptedFaults, Stamp,
};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// Runs a test in the process itself, without and with the codec, and over a socket.
fn wherever<F: Future<Output = ()>>(test: impl Fn(Peer, Process) -> F) {
    for codec in [LocalCodec::Never, LocalCodec::Always] {
        real(async {
            let process = Process::tcp("manager", |config| config.local_codec = codec);
            test(process.rpc.local(), process).await;
        });
    }
    real(async {
        let (process, other) = (Process::tcp("manager", |_| {}), Process::tcp("worker", |_| {}));
        let peer = other.rpc.connect(process.listen().await);
        test(peer, process).await;
    });
}

use std::future::Future;

#[test]
fn a_call_site_cannot_tell_where_its_endpoint_is() {
    wherever(|peer, process| async move {
        let manager = manager(&peer);
        for number in 0..50 {
            manager.tell(heartbeat(number)).unwrap();
        }
        // Asked before it is awaited, and of the same lane: it hears all that was told before.
        let heard = manager.ask(Heard, SOON);
        let expected: Vec<String> = (0..50).map(|number: usize| number.to_string()).collect();
        assert_eq!(heard.await.unwrap(), expected);
        assert_eq!(
            manager.ask(register("tm-1"), SOON).await,
            Ok(Registered { number: 51 })
        );
        assert_eq!(process.heard.borrow().last().unwrap(), "tm-1 offers 4");
        let bytes: Vec<u8> = (0..1_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
        let graph = manager.ask(Graph { bytes: bytes.clone() }, SOON).await.unwrap();
        assert!(graph.bytes == bytes, "a large body comes back as it went");
    });
}

#[test]
fn errors_have_the_same_types_wherever_they_happen() {
    wherever(|peer, _process| async move {
        let right = manager(&peer);
        let unknown = peer.gateway::<ManagerRpc>("nobody").ask(Heard, SOON).await;
        assert_eq!(
            unknown.unwrap_err(),
            RpcError::UnknownEndpoint {
                endpoint: "nobody".to_owned()
            }
        );
        let unsupported = peer
            .gateway::<OtherRpc>("rm")
            .ask(Unheard, SOON)
            .await
            .unwrap_err();
        let (endpoint, message) = ("rm".to_owned(), "unheard".to_owned());
        assert_eq!(unsupported, RpcError::Unsupported { endpoint, message });
        let failed = right.ask(Fail, SOON).await.unwrap_err();
        let chain = vec!["cannot read the plan".to_owned(), "no such file".to_owned()];
        assert_eq!(
            failed,
            RpcError::Remote(RemoteError {
                fault: Fault::User,
                chain
            })
        );
        let dropped = right.ask(Drop_, SOON).await.unwrap_err();
        assert_eq!(
            dropped,
            RpcError::NoReply {
                endpoint: "rm".to_owned()
            }
        );
        assert!(dropped.is_outcome_unknown() && !failed.may_retry());
        let named = peer.gateway::<ManagerRpc>("Not A Name").ask(Heard, SOON).await;
        assert!(matches!(named, Err(RpcError::UnknownEndpoint { .. })));
    });
}

#[test]
fn a_body_of_another_type_is_refused_by_itself() {
    real(async {
        let (process, other) = (Process::tcp("manager", |_| {}), Process::tcp("worker", |_| {}));
        let peer = other.rpc.connect(process.listen().await);
        let wrong = peer
            .gateway::<OtherRpc>("rm")
            .ask(HeardOtherwise { needed: 1 }, SOON)
            .await;
        assert!(
            matches!(wrong, Err(RpcError::Malformed { ref message, .. }) if message == "heard"),
            "{wrong:?}"
        );
        assert_eq!(
            manager(&peer).ask(Heard, SOON).await,
            Ok(vec![]),
            "the connection is whole"
        );
        assert_eq!(peer.state().connections, 1);
    });
}

#[test]
fn commands_of_a_replaced_master_are_fenced_with_the_newer_token() {
    wherever(|peer, process| async move {
        let epoch = |number| Stamp::job(JobId::from_u128(7), NonZeroU64::new(number).unwrap());
        let by = |number| manager(&peer).stamped(epoch(number));
        let unlearned = by(3).ask(Heard, SOON).await.unwrap_err();
        assert_eq!(unlearned, FenceError::Unregistered(epoch(3).scope).into());
        process.fences.follow(epoch(3)).unwrap();
        assert_eq!(by(3).ask(Heard, SOON).await, Ok(vec![]));
        assert_eq!(by(5).ask(Heard, SOON).await, Ok(vec![]));
        let FenceError::Fenced { newer, .. } = (match by(4).ask(register("old"), SOON).await {
            Err(RpcError::Fence(fence)) => fence,
            other => panic!("{other:?}"),
        }) else {
            panic!("another reason");
        };
        assert_eq!(newer, epoch(5).token);
        assert_eq!(process.heard.borrow().len(), 0, "the old master changed nothing");
    });
}

#[test]
fn a_full_mailbox_is_said_at_once_and_waits_for_nobody() {
    real(async {
        let setup = RpcSetup::tcp(Identity::new("manager", None), env(SystemClock::new()));
        let (process, other) = (
            Process::new(setup, Fences::open(), 2),
            Process::tcp("worker", |_| {}),
        );
        let peer = other.rpc.connect(process.listen().await);
        let manager = manager(&peer);
        manager.ask(Heard, SOON).await.unwrap();
        let asks: Vec<_> = (0..50).map(|_| manager.ask(Heard, SOON)).collect();
        let mut refused = 0;
        for ask in asks {
            match ask.await {
                Ok(_) => {}
                Err(RpcError::Overloaded { what }) => {
                    assert_eq!(what, "the mailbox of endpoint 'rm'");
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((1..50).contains(&refused), "{refused} of 50 were refused");
        for number in 0..50 {
            manager.tell(heartbeat(number)).unwrap();
        }
        until(|| peer.refused_tells() > 0).await;
    });
}

#[test]
fn what_is_too_large_is_refused_before_it_is_sent() {
    real(async {
        let small = |config: &mut hurtig_rpc::RpcConfig| config.max_message = 100_000;
        let (process, other) = (Process::tcp("manager", small), Process::tcp("worker", |_| {}));
        let peer = other.rpc.connect(process.listen().await);
        let manager = manager(&peer);
        let graph = |size| Graph { bytes: vec![0; size] };
        let own = manager.ask(graph(11 << 20), SOON).await.unwrap_err();
        assert!(
            matches!(own, RpcError::TooLarge { limit, .. } if limit == 10 << 20),
            "{own:?}"
        );
        assert!(matches!(
            manager.tell(register(&"x".repeat(11 << 20))),
            Err(RpcError::TooLarge { .. })
        ));
        let theirs = manager.ask(graph(200_000), SOON).await.unwrap_err();
        assert!(
            matches!(theirs, RpcError::TooLarge { limit: 100_000, .. }),
            "{theirs:?}"
        );
        assert_eq!(manager.ask(graph(5), SOON).await, Ok(graph(5)));
        // A reply that is too large for the asker is an error, not a dead connection.
        let back = other.listen().await;
        let asker = process.rpc.connect(back);
        for number in 0..20 {
            other.heard.borrow_mut().push("x".repeat(10_000 + number));
        }
        let reply = crate::support::manager(&asker)
            .ask(Heard, SOON)
            .await
            .unwrap_err();
        assert!(
            matches!(reply, RpcError::TooLarge { limit: 100_000, .. }),
            "{reply:?}"
        );
        assert_eq!((peer.state().connections, asker.state().connections), (1, 1));
    });
}

#[test]
fn asks_in_flight_and_waiting_messages_are_bounded() {
    real(async {
        let few = |config: &mut hurtig_rpc::RpcConfig| (config.max_in_flight, config.max_queued) = (3, 2);
        let (process, other) = (Process::tcp("manager", |_| {}), Process::tcp("worker", few));
        let peer = other.rpc.connect(process.listen().await);
        let manager = manager(&peer);
        let asks: Vec<_> = (0..3).map(|_| manager.ask(Ponder, SOON)).collect();
        assert!(matches!(
            manager.ask(Heard, SOON).await,
            Err(RpcError::Overloaded { .. })
        ));
        assert!(manager.tell(heartbeat(1)).is_ok() && manager.tell(heartbeat(2)).is_ok());
        assert!(matches!(
            manager.tell(heartbeat(3)),
            Err(RpcError::Overloaded { .. })
        ));
        drop(asks);
        until(|| process.heard.borrow().len() == 2).await;
        assert_eq!(
            manager.ask(Heard, SOON).await,
            Ok(vec!["1".to_owned(), "2".to_owned()])
        );
    });
}

#[test]
fn the_way_back_lies_in_the_call() {
    wherever(|peer, process| async move {
        process.heard.borrow_mut().push("of the manager".to_owned());
        let heard = manager(&peer).ask(AskBack, SOON).await.unwrap();
        let expected = if peer.watch().is_none() {
            vec!["of the manager".to_owned()]
        } else {
            vec![]
        };
        assert_eq!(heard, expected);
    });
}

#[test]
fn a_question_whose_asker_is_gone_is_withdrawn() {
    wherever(|peer, _process| async move {
        let manager = manager(&peer);
        let (first, second) = (manager.ask(Ponder, SOON), manager.ask(Ponder, SOON));
        assert_eq!(manager.ask(Wanted, SOON).await, Ok(2));
        drop(first);
        while manager.ask(Wanted, SOON).await != Ok(1) {}
        drop(second);
        while manager.ask(Wanted, SOON).await != Ok(0) {}
    });
}

#[test]
fn injected_faults_look_like_those_of_a_network() {
    paused(async {
        let faults = Arc::new(ScriptedFaults::default());
        let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
        let setup = RpcSetup {
            faults: Some(faults.clone()),
            ..RpcSetup::tcp(Identity::new("manager", None), env(clock))
        };
        let process = Process::new(setup, Fences::open(), 100);
        let manager = manager(&process.rpc.local());
        let patience = Duration::from_secs(7);
        faults.then([
            LocalFault::Unreachable,
            LocalFault::RequestLost,
            LocalFault::ReplyLost,
            LocalFault::Duplicate,
        ]);
        let unreachable = manager.ask(register("a"), patience).await.unwrap_err();
        assert!(matches!(
            unreachable,
            RpcError::Unreachable {
                delivery: Delivery::NotSent,
                ..
            }
        ));
        let began = tokio::time::Instant::now();
        assert_eq!(
            manager.ask(register("b"), patience).await,
            Err(RpcError::Timeout(patience))
        );
        assert_eq!(began.elapsed(), patience);
        assert_eq!(
            *process.heard.borrow(),
            Vec::<String>::new(),
            "neither was delivered"
        );
        assert_eq!(
            manager.ask(register("c"), patience).await,
            Err(RpcError::Timeout(patience))
        );
        assert_eq!(*process.heard.borrow(), ["c offers 4"]);
        assert_eq!(
            manager.ask(register("d"), patience).await,
            Ok(Registered { number: 2 })
        );
        until(|| process.heard.borrow().len() == 3).await;
        assert_eq!(process.heard.borrow()[1..], ["d offers 4", "d offers 4"]);
    });
}

#[test]
fn an_endpoint_that_forgets_a_message_is_not_registered() {
    real(async {
        let process = Process::tcp("manager", |_| {});
        let registration = |name: &str, routes: Routes<ManagerRpc, Event>| Registration {
            name: name.to_owned(),
            mailbox: process.mailbox.clone(),
            routes,
            fences: Fences::open(),
            probe: None,
        };
        let register = |name, routes| process.rpc.register(registration(name, routes)).unwrap_err();
        let (endpoint, message) = ("other".to_owned(), "heartbeat");
        let partly = Routes::new().on(Event::Register);
        assert_eq!(
            register("other", partly),
            RegisterError::Missing { endpoint, message }
        );
        assert_eq!(register("rm", routes()), RegisterError::Taken("rm".to_owned()));
        assert_eq!(register("R M", routes()), RegisterError::Name("R M".to_owned()));
        assert!(process.rpc.deregister("rm") && !process.rpc.deregister("rm"));
        process.rpc.register(registration("rm", routes())).unwrap();
    });
}
