//! The thread that runs a process's actors, from its first to its last moment.

use super::security::{HOST, Security};
use actix::System;
use hurtig_core::time::SystemClock;
use hurtig_kit::{ActorEnv, BlockingPool, KillSwitch};
use hurtig_rpc::{ClusterId, Identity, Rpc, RpcSetup, TcpAcceptor};
use std::future::Future;
use std::time::Duration;

/// How long the end of a process waits for work that blocks.
const PATIENCE: Duration = Duration::from_millis(200);

/// A process had done what it was for.
pub(super) const DONE: u8 = 0;
/// A fault of its own, or of its program.
pub(super) const FAILED: u8 = 1;
/// A JobMaster whose job is somebody else's.
pub(super) const REFUSED: u8 = 3;
/// Whom it obeys is gone.
pub(super) const ORPHANED: u8 = 4;

/// Runs a process's actors until `main` says with which code it ends, or a fault does.
pub(super) fn run<F: Future<Output = u8>>(main: impl FnOnce(ActorEnv) -> F) -> u8 {
    let pool = match BlockingPool::new() {
        Ok(pool) => pool,
        Err(error) => {
            tracing::error!(%error, "no threads for blocking work");
            return FAILED;
        }
    };
    let env = ActorEnv {
        clock: SystemClock::new(),
        kill: KillSwitch::new(),
        blocking: pool.threads(),
    };
    let kill = env.kill.clone();
    let code = System::new().block_on(async {
        tokio::select! {
            fault = kill.killed() => {
                tracing::error!(%fault, "the process ends");
                FAILED
            }
            code = main(env) => code,
        }
    });
    pool.close(PATIENCE);
    code
}

/// The messaging of a process that listens on this machine only, and where it listens.
pub(super) async fn listen(
    name: &str,
    cluster: Option<ClusterId>,
    env: &ActorEnv,
    (port, security): (u16, &Security),
) -> Result<(Rpc, String), String> {
    let setup = RpcSetup {
        dialer: security.dialer(),
        ..RpcSetup::tcp(Identity::new(name, cluster), env.clone())
    };
    let rpc = Rpc::new(setup).map_err(|error| error.to_string())?;
    let failed = |error: std::io::Error| format!("cannot listen on {HOST}:{port}: {error}");
    let acceptor = TcpAcceptor::bind(&format!("{HOST}:{port}"))
        .await
        .map_err(failed)?;
    let address = acceptor.local_addr().map_err(failed)?.to_string();
    security.serve(&rpc, acceptor);
    Ok((rpc, address))
}
