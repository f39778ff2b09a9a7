//! TLS with certificates on both sides, over real sockets.

use crate::support::*;
use hurtig_core::time::SystemClock;
use hurtig_rpc::{
    Connectivity, Fences, Identity, Peer, RpcConfig, RpcSetup, TcpAcceptor, TcpDialer, Tls, TlsError,
    TlsFiles,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates")
}

fn files(process: &str, authority: &str) -> TlsFiles {
    let file = |name: String| certificates().join(name);
    TlsFiles {
        certificates: file(format!("{process}.pem")),
        key: file(format!("{process}.key")),
        authorities: file(format!("{authority}.pem")),
        job_authority: None,
        server_name: None,
    }
}

fn tls(process: &str) -> Tls {
    Tls::load(files(process, "authority")).unwrap()
}

/// Patience is short: what is refused is tried again until then.
fn setup(name: &str) -> RpcSetup {
    let setup = RpcSetup::tcp(Identity::new(name, None), env(SystemClock::new()));
    let config = RpcConfig {
        heartbeat_interval: Duration::from_millis(250),
        heartbeat_timeout: Duration::from_millis(1_500),
        connect_timeout: Duration::from_millis(1_000),
        ..setup.config
    };
    RpcSetup { config, ..setup }
}

async fn serve(tls: &Tls) -> (Process, String) {
    let process = Process::new(setup("manager"), Fences::open(), 100);
    let listener = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    process.rpc.serve(tls.acceptor(listener));
    (process, address)
}

fn worker(tls: &Tls) -> Process {
    let dialer = Arc::new(tls.dialer());
    Process::new(
        RpcSetup {
            dialer,
            ..setup("worker")
        },
        Fences::open(),
        100,
    )
}

async fn is_refused(peer: &Peer) -> bool {
    let mut watch = peer.watch().unwrap();
    let settled = |connectivity: &Connectivity| *connectivity != Connectivity::Connecting;
    let state = watch
        .wait_for(|state| settled(&state.connectivity))
        .await
        .unwrap();
    state.connections == 0
}

#[test]
fn processes_of_one_authority_talk_and_others_get_no_word_in() {
    real(async {
        let (process, address) = serve(&tls("manager")).await;
        let peer = worker(&tls("worker")).rpc.connect(&address);
        assert_eq!(
            manager(&peer).ask(register("tm"), SOON).await,
            Ok(Registered { number: 1 })
        );
        // A certificate of another authority, which in its turn trusts ours.
        let stranger = Tls::load(files("stranger", "authority")).unwrap();
        let stranger = worker(&stranger).rpc.connect(&address);
        // Somebody who speaks in the clear, and somebody whose authority did not make the server's certificate.
        let clear = Process::new(
            RpcSetup {
                dialer: Arc::new(TcpDialer),
                ..setup("clear")
            },
            Fences::open(),
            1,
        );
        let clear = clear.rpc.connect(&address);
        let distrustful = Tls::load(files("worker", "stranger-authority")).unwrap();
        let distrustful = worker(&distrustful).rpc.connect(&address);
        // A name that the server's certificate does not have.
        let named = TlsFiles {
            server_name: Some("elsewhere".to_owned()),
            ..files("worker", "authority")
        };
        let misled = worker(&Tls::load(named).unwrap()).rpc.connect(&address);
        for peer in [stranger, clear, distrustful, misled] {
            assert!(is_refused(&peer).await);
        }
        assert_eq!(
            manager(&peer).ask(Heard, SOON).await.unwrap().len(),
            1,
            "others are served"
        );
        assert_eq!((peer.state().connections, process.rpc.accepted().len()), (1, 1));
    });
}

#[test]
fn certificates_are_read_again_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let put = |from: &str, to: &str| fs::copy(certificates().join(from), at(to)).map(drop).unwrap();
    put("stranger.pem", "own.pem");
    put("stranger.key", "own.key");
    put("authority.pem", "authorities.pem");
    let files = TlsFiles {
        certificates: at("own.pem"),
        key: at("own.key"),
        authorities: at("authorities.pem"),
        job_authority: None,
        server_name: Some("hurtig".to_owned()),
    };
    real(async {
        let tls = Tls::load(files).unwrap();
        let (_process, address) = serve(&tls).await;
        let worker = worker(&self::tls("worker"));
        assert!(
            is_refused(&worker.rpc.connect(&address)).await,
            "the manager shows a stranger's certificate"
        );
        // Halfway: the key does not go with the certificate.
        put("manager.pem", "own.pem");
        assert!(matches!(tls.reload(), Err(TlsError::Unusable(_))));
        // They are read again when somebody connects.
        put("manager.key", "own.key");
        let peer = worker.rpc.connect(&address);
        assert_eq!(manager(&peer).ask(Heard, SOON).await, Ok(vec![]));
        // What is unreadable changes nothing.
        fs::write(at("own.pem"), "nonsense").unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Empty { .. })));
        fs::remove_file(at("own.key")).unwrap();
        put("manager.pem", "own.pem");
        let error = tls.reload().unwrap_err();
        assert!(error.to_string().contains("own.key"), "{error}");
        let peer = worker.rpc.connect(&address);
        assert_eq!(manager(&peer).ask(Heard, SOON).await, Ok(vec![]));
    });
}
