//! TLS in which both sides show a certificate: who has none of the cluster's authority gets no word in.
//!
//! Certificates are read again without a restart; connections that are there keep theirs.

use crate::transport::{Accepted, Acceptor, Dialer, Stream, StreamFuture, TcpAcceptor, connect};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::{fmt, io};

/// Where the certificates of a process lie, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its own certificate, then those that lead to the authority (`security.ssl.internal.certificate`).
    pub certificates: PathBuf,
    /// The key of its own certificate (`security.ssl.internal.key`).
    pub key: PathBuf,
    /// The authorities whose certificates are good, on both sides (`security.ssl.internal.authorities`).
    pub authorities: PathBuf,
    /// The name that a process which is dialled must have in its certificate; `None`: the host of its address.
    pub server_name: Option<String>,
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

/// The certificates of a process. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    loaded: Arc<RwLock<Arc<Loaded>>>,
}

impl Tls {
    /// Reads certificates. Blocks.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = Arc::new(RwLock::new(Arc::new(load(&files)?)));
        let files = Arc::new(files);
        Ok(Self { files, loaded })
    }

    /// Reads them again, for connections that come from now on. Blocks.
    ///
    /// # Errors
    /// When they cannot be read or used: those that were in use stay.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Arc::new(load(&self.files)?);
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

    fn current(&self) -> Arc<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The name that the process at `address` must have.
    fn name(&self, address: &str) -> io::Result<ServerName<'static>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.files.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(io::Error::other)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
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
            Ok(Box::new(connector.connect(name, stream).await?) as Stream)
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
                stream: Box::pin(async move { Ok(Box::new(acceptor.accept(stream).await?) as Stream) }),
            })
        })
    }
}

fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    let chain = certificates(&files.certificates)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::File {
        what: "the private key",
        path: files.key.clone(),
        source,
    })?;
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&files.authorities)? {
        authorities.add(authority).map_err(unusable)?;
    }
    let authorities = Arc::new(authorities);
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(authorities.clone())
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .map_err(unusable)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider.clone());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_client_cert_verifier(verifier.build().map_err(unusable)?)
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    Ok(Loaded {
        client: Arc::new(client),
        server: Arc::new(server),
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    TlsError::Unusable(Box::new(error))
}
