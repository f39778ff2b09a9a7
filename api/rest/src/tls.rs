//! HTTPS: the certificate of a jobmanager's REST API, and whose it believes.

use actix_http::{HttpService, Request, Response};
use actix_server::Server;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::AppConfig;
use awc::Connector;
use hurtig_core::config::{ConfigOption, Configuration, options};
use hurtig_rpc::{front_door, visitor};
use rustls::{ClientConfig, ServerConfig};
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is spoken: HTTP/2 would have bounds of its own.
const PROTOCOL: &[u8] = b"http/1.1";
/// How long a client may take to close.
const CLOSING: Duration = Duration::from_secs(1);
/// Who may not read a file that a key is in.
const OTHERS: u32 = 0o027;

/// The TLS of a REST API.
#[derive(Clone)]
pub(crate) struct Tls {
    server: ServerConfig,
    /// For requests that are handed on to another jobmanager.
    client: Option<Arc<ClientConfig>>,
    /// Whether each client needs a certificate.
    pub(crate) knows_its_clients: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("knows_its_clients", &self.knows_its_clients)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// As configured; `None`: it is off. Blocks.
    pub(crate) fn read(settings: &Configuration) -> Result<Option<Self>, String> {
        if !settings.get(&options::SSL_REST) {
            return Ok(None);
        }
        let path = |option: &ConfigOption<Option<String>>| settings.get(option).map(PathBuf::from);
        let needed = |option: &ConfigOption<Option<String>>, by: &str| {
            path(option).ok_or_else(|| format!("`{by}` needs `{}`", option.key()))
        };
        let on = options::SSL_REST.key();
        let certificate = needed(&options::SSL_REST_CERTIFICATE, on)?;
        let key = needed(&options::SSL_REST_KEY, on)?;
        check_private(&key)?;
        let knows_its_clients = settings.get(&options::SSL_REST_AUTHENTICATION);
        let authorities = match knows_its_clients {
            true => Some(needed(
                &options::SSL_REST_AUTHORITIES,
                options::SSL_REST_AUTHENTICATION.key(),
            )?),
            false => path(&options::SSL_REST_AUTHORITIES),
        };
        let clients = authorities.as_deref().filter(|_| knows_its_clients);
        let failed = |error| format!("`security.ssl.rest.*`: {}", chain(&error));
        let mut server = front_door(&certificate, &key, clients).map_err(failed)?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        let own = knows_its_clients.then_some((certificate.as_path(), key.as_path()));
        let client = authorities
            .map(|authorities| visitor(&authorities, own))
            .transpose();
        Ok(Some(Self {
            server,
            client: client.map_err(failed)?.map(Arc::new),
            knows_its_clients,
        }))
    }

    /// For the client of requests that are handed on.
    pub(crate) fn client(&self) -> Option<Arc<ClientConfig>> {
        self.client.clone()
    }
}

/// A client by which others are reached, who follow no redirects. Without TLS, `https` is an error of each request.
pub(crate) fn client(tls: Option<Arc<ClientConfig>>, patience: Duration) -> awc::Client {
    let connector = Connector::new();
    let connector = match tls {
        Some(tls) => connector.rustls_0_23(tls),
        None => connector,
    };
    let builder = awc::Client::builder().connector(connector).timeout(patience);
    builder.disable_redirects().finish()
}

/// Serves an app to clients that speak TLS, and to nobody else.
pub(crate) fn serve<F, I, S, B>(
    app: F,
    listener: TcpListener,
    tls: Tls,
    (connections, patience): (usize, Duration),
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let service = move || {
        let app = app()
            .into_factory()
            .map_err(|error| error.into().error_response());
        HttpService::build()
            .client_request_timeout(patience)
            .client_disconnect_timeout(CLOSING)
            .h1(map_config(app, |_| AppConfig::default()))
            .rustls_0_23(tls.server.clone())
    };
    let server = Server::build()
        .workers(1)
        .max_concurrent_connections(connections)
        .shutdown_timeout(1)
        .disable_signals()
        .listen("rest", listener, service)?;
    Ok(server.run())
}

fn check_private(key: &Path) -> Result<(), String> {
    let facts = key
        .metadata()
        .map_err(|error| format!("{}: {error}", key.display()))?;
    match facts.permissions().mode() & OTHERS {
        0 => Ok(()),
        _ => Err(format!(
            "the private key {0} can be read by others, or changed by its group: `chmod 600 {0}`",
            key.display()
        )),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
