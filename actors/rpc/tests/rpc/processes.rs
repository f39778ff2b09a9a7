//! Two processes of the operating system.

use crate::support::*;
use hurtig_rpc::{Connectivity, DeathReason, Delivery, RpcError};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Says where the other process has to connect, or that it is asked to be one.
const ROLE: &str = "HURTIG_RPC_TEST_ROLE";

/// The other process: not a test by itself.
#[test]
fn other_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    real(async {
        let process = Process::tcp("the other process", |_| {});
        println!("\nlistens at {}", process.listen().await);
        // Until it is killed.
        std::future::pending::<()>().await;
    });
}

/// Ends with its owner.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> (Other, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "processes::other_process",
        "--nocapture",
        "--test-threads=1",
    ]);
    command
        .env(ROLE, "listener")
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix("listens at ").map(ToOwned::to_owned));
    (Other(child), address.unwrap())
}

#[test]
fn actors_of_two_processes_talk_until_one_is_killed() {
    let (mut other, address) = start();
    real(async move {
        let process = Process::tcp("this process", |_| {});
        process.heard.borrow_mut().push("of this process".to_owned());
        let peer = process.rpc.connect(address);
        let manager = manager(&peer);
        assert_eq!(
            manager.ask(register("tm-1"), SOON).await,
            Ok(Registered { number: 1 })
        );
        for number in 0..100 {
            manager.tell(heartbeat(number)).unwrap();
        }
        assert_eq!(manager.ask(Heard, SOON).await.unwrap().len(), 101);
        assert_eq!(
            manager.ask(AskBack, SOON).await,
            Ok(vec!["of this process".to_owned()])
        );
        let bytes = vec![7; 3 << 20];
        assert!(
            manager
                .ask(Graph { bytes: bytes.clone() }, SOON)
                .await
                .unwrap()
                .bytes
                == bytes
        );
        let pondered = manager.ask(Ponder, SOON);
        assert_eq!(manager.ask(Wanted, SOON).await, Ok(1));
        other.0.kill().unwrap();
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
        let mut watch = peer.watch().unwrap();
        let dead = |connectivity: &Connectivity| matches!(connectivity, Connectivity::Dead(_));
        let state = watch.wait_for(|state| dead(&state.connectivity)).await.unwrap();
        assert_eq!(state.connectivity, Connectivity::Dead(DeathReason::Refused));
    });
}
