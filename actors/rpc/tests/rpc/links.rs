//! Links: connected, cut, connected again, dead. Time is paused: it passes when everybody waits.

use crate::network::Network;
use crate::support::*;
use hurtig_rpc::{Connectivity, DeathReason, Delivery, Peer, RpcError};
use proptest::prelude::*;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Waits until a peer is dead, and says why.
async fn death(peer: &Peer) -> DeathReason {
    let mut watch = peer.watch().unwrap();
    let state = watch
        .wait_for(|state| matches!(state.connectivity, Connectivity::Dead(_)))
        .await;
    match state.unwrap().connectivity.clone() {
        Connectivity::Dead(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cut_connection_is_made_again_at_once_and_what_was_not_sent_arrives() {
    paused(async {
        let network = Network::new();
        let (process, _worker, peer) = network.pair();
        let manager = manager(&peer);
        manager.ask(Heard, SOON).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let pondered = manager.ask(Ponder, SOON);
        assert_eq!(manager.ask(Wanted, SOON).await, Ok(1));
        let began = Instant::now();
        network.cut();
        let lost = pondered.await.unwrap_err();
        assert!(
            matches!(
                lost,
                RpcError::Unreachable {
                    delivery: Delivery::Unknown,
                    ..
                }
            ),
            "{lost:?}"
        );
        assert!(lost.is_outcome_unknown() && lost.may_retry());
        assert_eq!(manager.ask(Heard, SOON).await, Ok(vec![]));
        assert_eq!(began.elapsed(), Duration::ZERO, "at once");
        assert_eq!(
            manager.ask(Wanted, SOON).await,
            Ok(0),
            "the lost question is withdrawn there"
        );
        assert_eq!((peer.state().connections, network.dialled()), (2, 2));
        assert_eq!(process.rpc.accepted().len(), 1, "it is the same link");
        assert_eq!(process.rpc.accepted()[0].state().connections, 2);
    });
}

#[test]
fn what_is_said_without_a_connection_waits_for_the_next_one() {
    paused(async {
        let network = Network::new();
        let (process, _worker, peer) = network.pair();
        let manager = manager(&peer);
        manager.ask(Heard, SOON).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        network.refuse("manager");
        network.cut();
        let mut watch = peer.watch().unwrap();
        watch
            .wait_for(|state| state.connectivity == Connectivity::Connecting)
            .await
            .unwrap();
        (0..20).for_each(|number| manager.tell(heartbeat(number)).unwrap());
        let late = manager.ask(Heard, Duration::from_millis(50));
        let heard = manager.ask(Heard, SOON);
        assert_eq!(late.await, Err(RpcError::Timeout(Duration::from_millis(50))));
        process.rpc.serve(network.listener("manager"));
        let expected: Vec<String> = (0..20).map(|number: usize| number.to_string()).collect();
        assert_eq!(heard.await, Ok(expected));
        assert_eq!(peer.state().connections, 2);
    });
}

#[test]
fn what_was_not_all_sent_is_sent_again_in_order() {
    paused(async {
        let network = Network::new();
        let (process, _worker, peer) = network.pair();
        let manager = manager(&peer);
        manager.ask(Heard, SOON).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        // The first parts of it are on their way, and what is said behind it waits.
        let large = manager.ask(
            Graph {
                bytes: vec![7; 5 << 20],
            },
            SOON,
        );
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        (0..20).for_each(|number| manager.tell(heartbeat(number)).unwrap());
        network.cut();
        assert_eq!(large.await.map(|graph| graph.bytes.len()), Ok(5 << 20));
        let expected: Vec<String> = (0..20).map(|number: usize| number.to_string()).collect();
        assert_eq!(*process.heard.borrow(), expected);
        assert_eq!(peer.state().connections, 2);
    });
}

#[test]
fn nobody_at_the_address_is_dead_within_300_ms() {
    paused(async {
        let network = Network::new();
        let worker = network.process("worker", |_| {});
        let began = Instant::now();
        let peer = worker.rpc.connect("nobody");
        let asked = manager(&peer).ask(Heard, SOON).await.unwrap_err();
        assert!(
            began.elapsed() <= Duration::from_millis(300),
            "{:?}",
            began.elapsed()
        );
        assert!(
            matches!(
                asked,
                RpcError::Unreachable {
                    delivery: Delivery::NotSent,
                    ..
                }
            ),
            "{asked:?}"
        );
        assert_eq!(death(&peer).await, DeathReason::Refused);
        assert!(matches!(
            manager(&peer).tell(heartbeat(1)),
            Err(RpcError::Unreachable { .. })
        ));
        assert_eq!(network.dialled(), 2);
    });
}

#[test]
fn a_process_that_is_gone_is_dead_and_one_that_came_in_its_place_is_another() {
    paused(async {
        let network = Network::new();
        let (_process, worker, peer) = network.pair();
        manager(&peer).ask(Heard, SOON).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let successor = network.process("successor", |_| {});
        successor.rpc.serve(network.listener("manager"));
        network.cut();
        assert_eq!(death(&peer).await, DeathReason::Forgotten);
        let again = worker.rpc.connect("manager");
        assert_eq!(manager(&again).ask(Heard, SOON).await, Ok(vec![]));
        network.refuse("manager");
        sleep(Duration::from_secs(1)).await;
        network.cut();
        assert_eq!(death(&again).await, DeathReason::Refused);
    });
}

#[test]
fn silence_is_death_on_both_sides_and_asks_end_before() {
    paused(async {
        let network = Network::new();
        let (process, _worker, peer) = network.pair();
        manager(&peer).ask(Heard, SOON).await.unwrap();
        let there = process.rpc.accepted()[0].clone();
        network.silence();
        let began = Instant::now();
        let patience = Duration::from_secs(3);
        assert_eq!(
            manager(&peer).ask(Heard, patience).await,
            Err(RpcError::Timeout(patience))
        );
        assert_eq!(began.elapsed(), patience);
        let longer = manager(&peer)
            .ask(Heard, Duration::from_secs(60))
            .await
            .unwrap_err();
        assert!(matches!(longer, RpcError::Unreachable { .. }), "{longer:?}");
        assert_eq!(death(&peer).await, DeathReason::Silent(Duration::from_secs(8)));
        assert_eq!(death(&there).await, DeathReason::Silent(Duration::from_secs(8)));
        assert!(began.elapsed() <= Duration::from_secs(9), "{:?}", began.elapsed());
        assert_eq!(process.rpc.accepted().len(), 0);
    });
}

#[test]
fn a_quiet_link_lives_and_reports_progress() {
    paused(async {
        let network = Network::new();
        let (process, _worker, peer) = network.pair();
        for number in 0..7 {
            manager(&peer).tell(heartbeat(number)).unwrap();
        }
        sleep(Duration::from_secs(600)).await;
        assert_eq!(peer.state().connections, 1, "ten quiet minutes");
        let (_, progress) = peer.progress().unwrap();
        // Its start counts too.
        assert_eq!(
            (progress.endpoints[0].name.as_str(), progress.endpoints[0].handled),
            ("rm", 8)
        );
        assert!(!progress.endpoints[0].ended && progress.endpoints[0].busy_ms.is_none());
        process.kill.kill(hurtig_kit::ActorFault {
            actor: "test".to_owned(),
            reason: hurtig_kit::ExitReason::Killed,
        });
        // Its link and listener are gone with it.
        assert_eq!(death(&peer).await, DeathReason::Refused);
    });
}

#[test]
fn a_deadline_travels_and_a_late_question_is_not_wanted() {
    paused(async {
        let network = Network::new();
        let (_process, _worker, peer) = network.pair();
        let manager = manager(&peer);
        let patience = Duration::from_secs(5);
        let (short, long) = (manager.ask(Ponder, patience), manager.ask(Ponder, patience * 2));
        assert_eq!(manager.ask(Wanted, SOON).await, Ok(2));
        // Nobody polls the question, and it ends nevertheless.
        sleep(Duration::from_secs(6)).await;
        assert_eq!(manager.ask(Wanted, SOON).await, Ok(1));
        assert_eq!(short.await, Err(RpcError::Timeout(patience)));
        drop(long);
    });
}

#[test]
fn a_goodbye_is_heard_and_fails_what_waits() {
    paused(async {
        let network = Network::new();
        let (process, _worker, peer) = network.pair();
        let manager = manager(&peer);
        let waiting = manager.ask(Ponder, SOON);
        manager.ask(Wanted, SOON).await.unwrap();
        process.rpc.accepted()[0].close("drained");
        assert_eq!(death(&peer).await, DeathReason::Left("drained".to_owned()));
        assert!(matches!(
            waiting.await,
            Err(RpcError::Unreachable {
                delivery: Delivery::Unknown,
                ..
            })
        ));
        assert_eq!((network.dialled(), process.rpc.accepted().len()), (1, 0));
    });
}

#[test]
fn a_link_that_is_killed_or_closed_tells_everybody_who_waits() {
    paused(async {
        let network = Network::new();
        let (_process, worker, peer) = network.pair();
        let manager = manager(&peer);
        manager.ask(Heard, SOON).await.unwrap();
        let waiting = manager.ask(Ponder, SOON);
        worker.kill.kill(hurtig_kit::ActorFault {
            actor: "test".to_owned(),
            reason: hurtig_kit::ExitReason::Killed,
        });
        assert!(matches!(waiting.await, Err(RpcError::Unreachable { .. })));
        assert!(matches!(death(&peer).await, DeathReason::Closed(_)));
        let late = manager.ask(Heard, SOON).await.unwrap_err();
        assert!(
            matches!(
                late,
                RpcError::Unreachable {
                    delivery: Delivery::NotSent,
                    ..
                }
            ),
            "{late:?}"
        );

        let (_process, _worker, peer) = network.pair();
        peer.close("done");
        // Behind the end in the link's mailbox.
        let behind = crate::support::manager(&peer).ask(Heard, SOON).await.unwrap_err();
        assert!(matches!(behind, RpcError::Unreachable { .. }), "{behind:?}");
    });
}

#[test]
fn large_messages_leave_room_for_small_ones() {
    paused(async {
        let network = Network::new();
        let (_process, _worker, peer) = network.pair();
        let manager = manager(&peer);
        manager.ask(Heard, SOON).await.unwrap();
        let large = manager.ask(
            Graph {
                bytes: vec![7; 5 << 20],
            },
            SOON,
        );
        let mut large = std::pin::pin!(large);
        let quick = async {
            for _ in 0..10 {
                manager.ask(register("tm"), SOON).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            _ = &mut large => panic!("five megabytes came before ten small questions"),
            () = quick => {}
        }
        assert_eq!(large.await.unwrap().bytes.len(), 5 << 20);
    });
}

#[test]
fn one_process_with_too_many_links_is_told_to_wait() {
    paused(async {
        let network = Network::new();
        let process = network.process("manager", |config| config.max_connections = 1);
        process.rpc.serve(network.listener("manager"));
        let worker = network.process("worker", |_| {});
        let first = worker.rpc.connect("manager");
        manager(&first).ask(Heard, SOON).await.unwrap();
        let second = worker.rpc.connect("manager");
        let asked = manager(&second).ask(Heard, SOON);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(second.state().connectivity, Connectivity::Connecting);
        first.close("room for another one");
        assert_eq!(asked.await, Ok(vec![]));
    });
}

#[test]
fn processes_of_two_clusters_do_not_speak() {
    use hurtig_rpc::{ClusterId, Identity, Rpc, RpcSetup};
    paused(async {
        let network = Network::new();
        let cluster = |process: &Process, number: u128, name: &str| {
            let cluster = ClusterId(uuid::Uuid::from_u128(number));
            let env = env(std::sync::Arc::new(TokioClock(Instant::now())));
            let _ = process;
            let setup = RpcSetup {
                dialer: std::sync::Arc::new(network.clone()),
                ..RpcSetup::tcp(Identity::new(name, Some(cluster)), env)
            };
            Rpc::new(setup).unwrap()
        };
        let process = network.process("unused", |_| {});
        let (one, two) = (cluster(&process, 1, "one"), cluster(&process, 2, "two"));
        one.serve(network.listener("one"));
        let reason = death(&two.connect("one")).await.to_string();
        assert!(
            reason.starts_with("it refuses us: one belongs to cluster 0")
                && reason.contains("check the address"),
            "{reason}"
        );
    });
}

#[derive(Clone, Debug)]
enum Deed {
    Tell,
    Ask,
    Cut,
    Wait(u64),
    Turns(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => Just(Deed::Tell),
        4 => Just(Deed::Ask),
        1 => Just(Deed::Cut),
        1 => (1u64..400).prop_map(Deed::Wait),
        3 => (1usize..12).prop_map(Deed::Turns),
    ];
    prop::collection::vec(deed, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However often connections are cut: nothing arrives twice or out of order, every ask ends, what was answered has arrived once,
    /// and what is said not to have been sent has not arrived.
    #[test]
    fn messages_arrive_at_most_once_and_errors_tell_the_truth(deeds in deeds()) {
        paused(async {
            let network = Network::new();
            let (process, _worker, peer) = network.pair();
            let manager = manager(&peer);
            let (mut asks, mut tells) = (Vec::new(), 0);
            for deed in deeds {
                match deed {
                    Deed::Tell => {
                        manager.tell(heartbeat(tells)).unwrap();
                        tells += 1;
                    }
                    Deed::Ask => asks.push(manager.ask(register(&format!("tm-{}", asks.len())), SOON)),
                    Deed::Cut => network.cut(),
                    Deed::Wait(millis) => sleep(Duration::from_millis(millis)).await,
                    Deed::Turns(count) => for _ in 0..count {
                        tokio::task::yield_now().await;
                    }
                }
            }
            let mut answers = Vec::new();
            for ask in asks {
                answers.push(ask.await);
            }
            // What is still on its way arrives.
            sleep(Duration::from_secs(2)).await;
            manager.ask(Heard, SOON).await.unwrap();
            let heard = process.heard.borrow();
            let (asked, told): (Vec<_>, Vec<_>) = heard.iter().partition(|line| line.starts_with("tm-"));
            let told: Vec<usize> = told.iter().map(|line| line.parse().unwrap()).collect();
            let asked: Vec<usize> = asked.iter().map(|line| line[3..].split(' ').next().unwrap().parse().unwrap()).collect();
            assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
            assert!(asked.is_sorted_by(|a, b| a < b), "{asked:?}");
            for (number, answer) in answers.into_iter().enumerate() {
                let arrived = asked.contains(&number);
                match answer {
                    Ok(_) => assert!(arrived),
                    Err(RpcError::Unreachable { delivery: Delivery::Unknown, .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
}
