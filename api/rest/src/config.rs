//! How the REST API is served, from the options of a jobmanager.

use crate::guard::{Gate, bare};
use crate::tls::Tls;
use crate::tokens::Tokens;
use hurtig_core::config::{Configuration, Redaction, RestAuthentication, options};
use hurtig_core::time::SystemClock;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

/// Why a jobmanager cannot serve the REST API as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum RestConfigError {
    /// Everybody could reach it.
    #[error(
        "`rest.bind-address: {0}` is reached from other machines, and whoever reaches the REST API can run programs: set \
         `rest.authentication.token-file` to a file of tokens, or `security.ssl.rest.authentication-enabled: true`, or write `rest.authentication: none` if something else \
         keeps strangers away"
    )]
    Open(IpAddr),
    /// Tokens are wanted, and there are none.
    #[error("`rest.authentication: token` needs `rest.authentication.token-file`")]
    Tokenless,
    /// There are tokens that nobody wants.
    #[error(
        "`rest.authentication: none` and `rest.authentication.token-file` contradict each other: take one of them out"
    )]
    Contradiction,
    /// The file of tokens cannot be read.
    #[error("the file of tokens {file}: {source}")]
    TokenFile {
        /// Its path.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// Others may read or change the file of tokens.
    #[error("the file of tokens {file} can be read by others, or changed by its group: `chmod 600 {file}`")]
    OpenTokenFile {
        /// Its path.
        file: String,
    },
    /// The file of tokens is too long to be read to its end.
    #[error(
        "the file of tokens {file} has more than {limit} bytes, so its end would not be read: split it, or take out what is not used"
    )]
    LongTokenFile {
        /// Its path.
        file: String,
        /// How many it may have.
        limit: u64,
    },
    /// A line of the file of tokens is none.
    #[error("{file}:{line}: {problem}")]
    Token {
        /// The file's path.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// TLS is switched on, and cannot be had.
    #[error("{0}")]
    Tls(String),
    /// The file of tokens is empty.
    #[error("the file of tokens {file} has no token: write a line `<role> <name> <token>`")]
    NoTokens {
        /// Its path.
        file: String,
    },
}

/// How the REST API is served.
#[derive(Debug)]
pub struct RestConfig {
    address: SocketAddr,
    /// The host by which others reach it.
    host: String,
    pub(crate) gate: Gate,
    pub(crate) redaction: Redaction,
    pub(crate) max_connections: usize,
    pub(crate) savepoint_dirs: Vec<String>,
    /// `None`: in the clear.
    pub(crate) tls: Option<Tls>,
}

/// A port that is taken.
#[derive(Debug)]
pub struct Listening {
    pub(crate) listener: TcpListener,
    pub(crate) address: String,
    pub(crate) config: RestConfig,
}

impl RestConfig {
    /// On a port; 0: any.
    ///
    /// # Errors
    /// When strangers could reach it, or its tokens cannot be used.
    pub fn new(port: u16, settings: &Configuration) -> Result<Self, RestConfigError> {
        let bound = settings.get(&options::REST_BIND_ADDRESS);
        let bound = bound.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let tls = Tls::read(settings).map_err(RestConfigError::Tls)?;
        // Who has a certificate is no stranger.
        let is_closed = tls.as_ref().is_some_and(|tls| tls.knows_its_clients);
        let tokens = settings.get(&options::REST_TOKEN_FILE).map(PathBuf::from);
        let tokens = match (settings.get(&options::REST_AUTHENTICATION), tokens) {
            (RestAuthentication::Auto | RestAuthentication::Token, Some(file)) => {
                Some(Tokens::open(file, SystemClock::new())?)
            }
            (RestAuthentication::None, None) => None,
            (RestAuthentication::Auto, None) if bound.is_loopback() || is_closed => None,
            (RestAuthentication::Auto, None) => return Err(RestConfigError::Open(bound)),
            (RestAuthentication::Token, None) => return Err(RestConfigError::Tokenless),
            (RestAuthentication::None, Some(_)) => return Err(RestConfigError::Contradiction),
        };
        let host = settings.get(&options::REST_ADDRESS);
        let host = host.unwrap_or_else(|| reachable(bound).to_string());
        let hosts = settings.get(&options::REST_ALLOWED_HOSTS).into_iter();
        let hosts = hosts.chain([bound.to_string(), host.clone()]);
        let gate = Gate {
            hosts: hosts.map(|name| bare(&name)).collect(),
            origins: settings.get(&options::REST_ALLOWED_ORIGINS),
            tokens,
            submit: settings.get(&options::REST_SUBMIT),
            cancel: settings.get(&options::REST_CANCEL),
            max_upload: settings.get(&options::REST_MAX_UPLOAD).get(),
        };
        Ok(Self {
            address: SocketAddr::new(bound, port),
            host,
            gate,
            redaction: Redaction::of(settings),
            max_connections: settings.get(&options::REST_MAX_CONNECTIONS),
            savepoint_dirs: settings.get(&options::REST_SAVEPOINT_DIRS),
            tls,
        })
    }

    /// Takes the port.
    ///
    /// # Errors
    /// When somebody else has it, or the address is none of this machine.
    pub fn listen(self) -> io::Result<Listening> {
        let listener = TcpListener::bind(self.address)?;
        let port = listener.local_addr()?.port();
        let host = bare(&self.host);
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(Listening {
            listener,
            address: format!("{scheme}://{host}:{port}"),
            config: self,
        })
    }
}

impl Listening {
    /// Where it is: `http://127.0.0.1:8081`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// All addresses are none; this machine reaches itself by the loopback.
fn reachable(bound: IpAddr) -> IpAddr {
    match bound {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn with(definitions: &[&str]) -> Result<RestConfig, RestConfigError> {
        let settings = Configuration::builder().definitions(definitions.iter().copied());
        RestConfig::new(0, &settings.build().unwrap())
    }

    #[test]
    fn beyond_this_machine_somebody_must_say_who_may_ask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, "viewer board viewer-token-with-at-least-32-characters").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let file = format!("rest.authentication.token-file={}", path.display());
        for local in ["127.0.0.1", "localhost", "::1", "127.0.0.2"] {
            assert!(
                with(&[&format!("rest.bind-address={local}")])
                    .unwrap()
                    .gate
                    .tokens
                    .is_none()
            );
        }
        for beyond in ["0.0.0.0", "::", "10.0.0.1", "192.0.2.7", "::ffff:127.0.0.1"] {
            let bind = format!("rest.bind-address={beyond}");
            let error = with(&[&bind]).unwrap_err();
            assert!(matches!(error, RestConfigError::Open(_)), "{error}");
            let said = error.to_string();
            assert!(
                said.contains("token-file") && said.contains("rest.authentication: none"),
                "{said}"
            );
            assert!(
                with(&[&bind, "rest.authentication=none"])
                    .unwrap()
                    .gate
                    .tokens
                    .is_none()
            );
            assert!(with(&[&bind, &file]).unwrap().gate.tokens.is_some());
        }
        assert!(
            with(&[&file]).unwrap().gate.tokens.is_some(),
            "also of this machine"
        );
        let refused = |definitions: &[&str]| with(definitions).unwrap_err();
        assert!(matches!(
            refused(&["rest.authentication=token"]),
            RestConfigError::Tokenless
        ));
        assert!(matches!(
            refused(&[&file, "rest.authentication=none"]),
            RestConfigError::Contradiction
        ));
        assert!(matches!(
            refused(&["rest.authentication.token-file=/no/such"]),
            RestConfigError::TokenFile { .. }
        ));
    }

    #[test]
    fn others_are_told_an_address_that_they_reach() {
        let told = |definitions: &[&str]| {
            let listening = with(definitions).unwrap().listen().unwrap();
            let (host, port) = listening.address().rsplit_once(':').unwrap();
            assert_eq!(port, listening.listener.local_addr().unwrap().port().to_string());
            host.to_owned()
        };
        assert_eq!(told(&[]), "http://127.0.0.1");
        let all = ["rest.bind-address=0.0.0.0", "rest.authentication=none"];
        assert_eq!(told(&all), "http://127.0.0.1");
        assert_eq!(
            told(&[all[0], all[1], "rest.address=jm-1.example.com"]),
            "http://jm-1.example.com"
        );
    }
}
