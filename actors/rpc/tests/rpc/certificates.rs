//! Whose certificate is good, and for what: what is refused ends at once, with a reason, and a job speaks of itself only.

use crate::support::*;
use hurtig_core::ids::JobId;
use hurtig_core::time::SystemClock;
use hurtig_rpc::{
    ClusterId, Connectivity, Dialer, Fences, Identity, Peer, RpcSetup, Stamp, Stream, StreamFuture,
    TcpAcceptor, TcpDialer, Tls, TlsGiven, job_name, visitor,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What TLS refuses is not tried again until the heartbeat's timeout.
const AT_ONCE: Duration = Duration::from_secs(3);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        issuer: Issuer::new(params, key),
        pem,
    }
}

impl Authority {
    /// A certificate of this authority, for who believes `believed`.
    fn given(&self, names: &[&str], believed: &[&Self], until_year: i32) -> TlsGiven {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificates = params.signed_by(&key, &self.issuer).unwrap().pem();
        let authorities: String = believed.iter().map(|authority| authority.pem.as_str()).collect();
        TlsGiven {
            certificates,
            key: key.serialize_pem(),
            authorities,
            server_name: None,
        }
    }

    fn tls(&self, believed: &[&Self]) -> Tls {
        Tls::given(self.given(&["127.0.0.1"], believed, 4_000)).unwrap()
    }
}

fn setup(name: &str, dialer: Arc<dyn Dialer>) -> RpcSetup {
    RpcSetup {
        dialer,
        ..RpcSetup::tcp(Identity::new(name, None), env(SystemClock::new()))
    }
}

fn client(dialer: impl Dialer) -> Process {
    Process::new(setup("client", Arc::new(dialer)), Fences::open(), 100)
}

async fn listener() -> (TcpAcceptor, String) {
    let listener = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Why a peer is dead, which it is at once.
async fn refusal(peer: &Peer) -> String {
    let mut watch = peer.watch().unwrap();
    let dead = watch.wait_for(|state| matches!(state.connectivity, Connectivity::Dead(_)));
    let state = tokio::time::timeout(AT_ONCE, dead).await;
    let state = state
        .unwrap_or_else(|_| panic!("it is tried again and again"))
        .unwrap();
    match &state.connectivity {
        Connectivity::Dead(reason) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Shows no certificate.
struct Nameless(Arc<rustls::ClientConfig>);

impl Dialer for Nameless {
    fn dial<'a>(&'a self, address: &'a str) -> StreamFuture<'a> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let connector = tokio_rustls::TlsConnector::from(self.0.clone());
            let name = "127.0.0.1".try_into().unwrap();
            Ok(Box::new(connector.connect(name, stream).await?) as Stream)
        })
    }
}

#[test]
fn who_is_refused_learns_why_at_once() {
    real(async {
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        let tls = ours.tls(&[&ours]);
        let process = Process::new(setup("manager", Arc::new(tls.dialer())), Fences::open(), 100);
        let (accepts, address) = listener().await;
        process.rpc.serve(tls.acceptor(accepts));
        let refused = async |dialer: Arc<dyn Dialer>| {
            let client = Process::new(setup("client", dialer), Fences::open(), 100);
            refusal(&client.rpc.connect(&address)).await
        };
        let of = |given: TlsGiven| -> Arc<dyn Dialer> { Arc::new(Tls::given(given).unwrap().dialer()) };
        // It trusts us, and we do not know who has signed for it.
        let said = refused(of(theirs.given(&["127.0.0.1"], &[&ours], 4_000))).await;
        assert!(said.contains("TLS") && said.contains("alert"), "{said}");
        // It does not know who has signed for us.
        let said = refused(of(theirs.given(&["127.0.0.1"], &[&theirs], 4_000))).await;
        assert!(
            said.contains("UnknownIssuer") && said.contains("authorities"),
            "{said}"
        );
        let said = refused(of(ours.given(&["127.0.0.1"], &[&ours], 2_001))).await;
        assert!(said.contains("expired") || said.contains("Expired"), "{said}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authorities");
        std::fs::write(&path, &ours.pem).unwrap();
        let said = refused(Arc::new(Nameless(Arc::new(visitor(&path, None).unwrap())))).await;
        assert!(
            said.contains("CertificateRequired") || said.contains("certificate required"),
            "{said}"
        );
        let said = refused(Arc::new(TcpDialer)).await;
        assert!(
            said.contains("the peer speaks TLS, and this process does not"),
            "{said}"
        );
        // Others are served.
        let peer = client(tls.dialer()).rpc.connect(&address);
        assert_eq!(manager(&peer).ask(Heard, SOON).await, Ok(vec![]));
    });
}

#[test]
fn a_process_in_the_clear_refuses_who_speaks_tls_and_serves_others() {
    real(async {
        let ours = authority("ours");
        let process = Process::new(setup("manager", Arc::new(TcpDialer)), Fences::open(), 100);
        let (accepts, address) = listener().await;
        process.rpc.serve(accepts);
        let peer = client(ours.tls(&[&ours]).dialer()).rpc.connect(&address);
        let mut watch = peer.watch().unwrap();
        let dead = watch.wait_for(|state| matches!(state.connectivity, Connectivity::Dead(_)));
        let state = dead.await.unwrap();
        let Connectivity::Dead(reason) = &state.connectivity else {
            panic!("{:?}", state.connectivity)
        };
        let said = reason.to_string();
        assert!(
            said.contains("does it speak TLS") || said.contains("does not speak TLS"),
            "{said}"
        );
        let peer = client(TcpDialer).rpc.connect(&address);
        assert_eq!(manager(&peer).ask(Heard, SOON).await, Ok(vec![]));
    });
}

#[test]
fn a_certificate_that_has_expired_is_refused_by_who_dials() {
    real(async {
        let ours = authority("ours");
        let stale = Tls::given(ours.given(&["127.0.0.1"], &[&ours], 2_001)).unwrap();
        let process = Process::new(setup("manager", Arc::new(stale.dialer())), Fences::open(), 100);
        let (accepts, address) = listener().await;
        process.rpc.serve(stale.acceptor(accepts));
        let said = refusal(&client(ours.tls(&[&ours]).dialer()).rpc.connect(&address)).await;
        assert!(said.contains("xpired") && said.contains(&address), "{said}");
    });
}

#[test]
fn a_job_speaks_of_itself_and_of_nothing_else() {
    real(async {
        let (cluster, jobs) = (authority("cluster"), authority("jobs"));
        let both = [&cluster, &jobs];
        let tls = cluster.tls(&both);
        let [own, other] = [7, 8].map(JobId::from_u128);
        let stamp = |job| Stamp::job(job, NonZeroU64::MIN);
        let term = Stamp::cluster(ClusterId(Uuid::nil()), 1, NonZeroU64::MIN);
        let fences = Fences::open();
        for known in [stamp(own), stamp(other), term] {
            fences.follow(known).unwrap();
        }
        let process = Process::new(setup("manager", Arc::new(tls.dialer())), fences, 100);
        let (accepts, address) = listener().await;
        process.rpc.serve(tls.acceptor(accepts));
        let of_job = jobs.given(&["127.0.0.1", &job_name(own)], &both, 4_000);
        let of_job = Tls::given(of_job).unwrap();
        let master = client(of_job.dialer());
        let peer = master.rpc.connect(&address);
        let heard = |stamp: Stamp| {
            let gateway = manager(&peer).stamped(stamp);
            async move { gateway.ask(Heard, SOON).await.map_err(|error| error.to_string()) }
        };
        assert_eq!(heard(stamp(own)).await, Ok(vec![]));
        for strange in [stamp(other), term] {
            let said = heard(strange).await.unwrap_err();
            assert!(said.contains(&format!("certificate of job {own}")), "{said}");
        }
        let unstamped = async || {
            manager(&peer)
                .ask(Heard, SOON)
                .await
                .map_err(|error| error.to_string())
        };
        assert!(unstamped().await.unwrap_err().contains("certificate of job"));
        process.rpc.open_to_jobs("rm");
        assert_eq!(unstamped().await, Ok(vec![]));
        // The cluster may speak of every job; and over a link that it has made itself, a job still speaks of itself only.
        let (accepts, address) = listener().await;
        master.rpc.serve(of_job.acceptor(accepts));
        let leader = client(tls.dialer());
        let there = leader.rpc.connect(&address);
        let _ = manager(&there).ask(Heard, SOON).await.unwrap();
        let back = manager(&there).ask(AskBack, SOON).await.unwrap_err().to_string();
        assert!(back.contains("certificate of job"), "{back}");
    });
}
