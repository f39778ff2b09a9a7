//! TLS in which both sides show a certificate: who has none of the cluster's authorities gets no word in.
//!
//! Certificates in files are read again when they change; connections that are there keep theirs. A certificate of a job says so in a name
//! of its own ([`job_name`]), and its owner may speak of that job only.

use crate::transport::{Accepted, Acceptor, Dialer, Stream, StreamFuture, TcpAcceptor, connect};
use hurtig_core::ids::JobId;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;
use std::{fmt, io};
use tokio::net::TcpStream;

/// What the names of jobs end with, where a certificate has them.
const OF_A_JOB: &str = ".job.hurtig";

/// Where the certificates of a process lie, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its own certificate, then those that lead to the authority (`security.ssl.internal.certificate`).
    pub certificates: PathBuf,
    /// The key of its own certificate (`security.ssl.internal.key`).
    pub key: PathBuf,
    /// The authorities whose certificates are good, on both sides (`security.ssl.internal.authorities`).
    pub authorities: PathBuf,
    /// The authority of jobs, whose certificates are good too (`security.ssl.internal.job-authority.certificate`).
    pub job_authority: Option<PathBuf>,
    /// The name that a process which is dialled must have in its certificate; `None`: the host of its address.
    pub server_name: Option<String>,
}

/// Certificates that a process was given, as PEM: it has no files.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsGiven {
    /// Its own certificate.
    pub certificates: String,
    /// The key of that.
    pub key: String,
    /// The authorities whose certificates are good, on both sides.
    pub authorities: String,
    /// As in [`TlsFiles`].
    pub server_name: Option<String>,
}

impl fmt::Debug for TlsGiven {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsGiven")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// The name that a certificate of a job has.
pub fn job_name(job: JobId) -> String {
    format!("{}{OF_A_JOB}", job.0.simple())
}

/// For which job the other side of a connection may speak; `None`: for the cluster, or its connection has no TLS.
pub(crate) fn job_of(stream: &Stream) -> Option<JobId> {
    let stream = (**stream).as_any();
    let served = stream.downcast_ref::<tokio_rustls::server::TlsStream<TcpStream>>();
    let dialled = stream.downcast_ref::<tokio_rustls::client::TlsStream<TcpStream>>();
    let shown = match (served, dialled) {
        (Some(served), _) => served.get_ref().1.peer_certificates(),
        (_, Some(dialled)) => dialled.get_ref().1.peer_certificates(),
        _ => None,
    };
    job_in(shown?.first()?)
}

fn job_in(certificate: &CertificateDer<'_>) -> Option<JobId> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let job = certificate
        .valid_dns_names()
        .find_map(|name| name.strip_suffix(OF_A_JOB)?.parse().ok());
    job.map(JobId)
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or has something else in it.
    #[error("{what} of {}", path.display())]
    File {
        /// What was wanted of it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("{} has no certificate in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// They do not go together, or are of a kind that is not known.
    #[error("the certificates cannot be used")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What is in use at the moment.
struct Loaded {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Where certificates come from.
enum Source {
    Files(TlsFiles),
    Given(TlsGiven),
}

/// When each file was changed, and how long it is.
type Seen = Vec<Option<(SystemTime, u64)>>;

/// The certificates of a process. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    source: Arc<Source>,
    loaded: Arc<RwLock<Arc<Loaded>>>,
    seen: Arc<Mutex<Seen>>,
}

impl Tls {
    /// Reads certificates. Blocks.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        Self::of(Source::Files(files))
    }

    /// Uses certificates that this process was given.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn given(given: TlsGiven) -> Result<Self, TlsError> {
        Self::of(Source::Given(given))
    }

    fn of(source: Source) -> Result<Self, TlsError> {
        // First, so that what changes meanwhile is read again.
        let seen = source.look();
        Ok(Self {
            loaded: Arc::new(RwLock::new(Arc::new(source.load()?))),
            seen: Arc::new(Mutex::new(seen)),
            source: Arc::new(source),
        })
    }

    /// Reads them again, for connections that come from now on. Blocks.
    ///
    /// # Errors
    /// When they cannot be read or used: those that were in use stay.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Arc::new(self.source.load()?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Reaches others over TLS.
    pub fn dialer(&self) -> TlsDialer {
        TlsDialer(self.clone())
    }

    /// Is reached over TLS.
    pub fn acceptor(&self, listener: TcpAcceptor) -> TlsAcceptor {
        let tls = self.clone();
        TlsAcceptor { tls, listener }
    }

    /// What is to be used for the next connection: files are looked at each time, since connections are rare.
    fn current(&self) -> Arc<Loaded> {
        let now = self.source.look();
        let changed = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *seen, now.clone()) != now
        };
        if changed {
            match self.reload() {
                Ok(()) => tracing::info!("the certificates have changed, and are used from now on"),
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    "the certificates have changed and cannot be used: those from before stay"
                ),
            }
        }
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The name that the process at `address` must have.
    fn name(&self, address: &str) -> io::Result<ServerName<'static>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let named = match &*self.source {
            Source::Files(files) => &files.server_name,
            Source::Given(given) => &given.server_name,
        };
        let name = named.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(io::Error::other)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.source {
            Source::Files(files) => f.debug_tuple("Tls").field(files).finish(),
            Source::Given(given) => f.debug_tuple("Tls").field(given).finish(),
        }
    }
}

/// Reaches others over TLS.
#[derive(Clone, Debug)]
pub struct TlsDialer(Tls);

impl Dialer for TlsDialer {
    fn dial<'a>(&'a self, address: &'a str) -> StreamFuture<'a> {
        Box::pin(async move {
            let name = self.0.name(address)?;
            let stream = connect(address).await?;
            let connector = tokio_rustls::TlsConnector::from(self.0.current().client.clone());
            let connected = connector.connect(name, stream).await;
            Ok(Box::new(connected.map_err(|error| explain(&error, address))?) as Stream)
        })
    }
}

/// Is reached over TLS.
#[derive(Debug)]
pub struct TlsAcceptor {
    tls: Tls,
    listener: TcpAcceptor,
}

impl Acceptor for TlsAcceptor {
    fn accept(&mut self) -> Pin<Box<dyn Future<Output = io::Result<Accepted>> + Send + '_>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept_tcp().await?;
            let acceptor = tokio_rustls::TlsAcceptor::from(self.tls.current().server.clone());
            Ok(Accepted {
                from: from.to_string(),
                stream: Box::pin(async move {
                    let accepted = acceptor.accept(stream).await;
                    Ok(Box::new(accepted.map_err(|error| explain(&error, &from.to_string()))?) as Stream)
                }),
            })
        })
    }
}

/// What a failed handshake means. [`io::ErrorKind::InvalidData`] says that trying again does not help.
fn explain(error: &io::Error, other: &str) -> io::Error {
    use rustls::{AlertDescription, Error, InvalidMessage};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let hint = match cause {
        None if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ) =>
        {
            ": it has closed the connection; does it speak TLS (`security.ssl.internal.enabled`)?"
        }
        None => "",
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            ": it does not speak TLS (`security.ssl.internal.enabled`)"
        }
        Some(Error::NoCertificatesPresented) => ": it has shown no certificate",
        Some(Error::InvalidCertificate(_)) => {
            ": its certificate is not good (`security.ssl.internal.authorities`)"
        }
        Some(Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError)) => {
            ": it does not know the authority of our certificate"
        }
        Some(_) => "",
    };
    io::Error::new(error.kind(), format!("TLS with {other}: {error}{hint}"))
}

impl Source {
    /// When files were changed.
    fn look(&self) -> Seen {
        let Self::Files(files) = self else {
            return Vec::new();
        };
        let all = [&files.certificates, &files.key, &files.authorities].into_iter();
        let look = |path: &PathBuf| {
            let facts = path.metadata().ok()?;
            Some((facts.modified().ok()?, facts.len()))
        };
        all.chain(&files.job_authority).map(look).collect()
    }

    fn load(&self) -> Result<Loaded, TlsError> {
        match self {
            Self::Files(files) => {
                let mut authorities = read_certificates(&files.authorities)?;
                if let Some(jobs) = &files.job_authority {
                    authorities.extend(read_certificates(jobs)?);
                }
                configure(
                    read_certificates(&files.certificates)?,
                    read_key(&files.key)?,
                    authorities,
                )
            }
            Self::Given(given) => {
                let key = PrivateKeyDer::from_pem_slice(given.key.as_bytes());
                configure(
                    certificates_in(&given.certificates)?,
                    key.map_err(unusable)?,
                    certificates_in(&given.authorities)?,
                )
            }
        }
    }
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<Loaded, TlsError> {
    let authorities = Arc::new(roots(authorities)?);
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(authorities.clone())
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .map_err(unusable)?;
    let server = server_config((chain, key), Some(authorities))?;
    Ok(Loaded {
        client: Arc::new(client),
        server: Arc::new(server),
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(unusable)?;
    }
    Ok(roots)
}

/// Who serves, and whose clients it knows; `None`: all.
fn server_config(
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    clients: Option<Arc<RootCertStore>>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match clients {
        Some(authorities) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider());
            builder.with_client_cert_verifier(verifier.build().map_err(unusable)?)
        }
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key).map_err(unusable)
}

/// For a server whose clients are no processes of the cluster: with `clients`, each needs a certificate of those authorities. Blocks.
///
/// # Errors
/// When files cannot be read or used.
pub fn front_door(certificates: &Path, key: &Path, clients: Option<&Path>) -> Result<ServerConfig, TlsError> {
    let own = (read_certificates(certificates)?, read_key(key)?);
    let clients = clients.map(|path| roots(read_certificates(path)?)).transpose()?;
    server_config(own, clients.map(Arc::new))
}

/// For a client of such a server, with a certificate of its own if it has one. Blocks.
///
/// # Errors
/// When files cannot be read or used.
pub fn visitor(authorities: &Path, own: Option<(&Path, &Path)>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots(read_certificates(authorities)?)?);
    match own {
        Some((certificates, key)) => builder
            .with_client_auth_cert(read_certificates(certificates)?, read_key(key)?)
            .map_err(unusable),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::File {
        what: "the private key",
        path: path.to_owned(),
        source,
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File {
        what: "certificates",
        path: path.to_owned(),
        source,
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let read = read.map_err(failed)?;
    if read.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(read)
}

fn certificates_in(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.map_err(unusable)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    TlsError::Unusable(Box::new(error))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
