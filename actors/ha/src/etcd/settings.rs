//! How etcd is reached.

use etcd_client::{Certificate, Identity, TlsOptions};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// How etcd is reached. Endpoints are URLs: `https://etcd-1:2379`.
#[derive(Clone)]
pub struct EtcdSettings {
    /// Members of the cluster. One is asked at a time.
    pub endpoints: Vec<String>,
    /// Name and password.
    pub user: Option<(String, String)>,
    /// Certificates that sign those of the members, as PEM. Without it `https` is refused.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, as PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long a call may take. Below the deadline of the leader, or every slow call suspends it.
    pub call_timeout: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Nobody to ask.
    #[error("`high-availability.etcd.endpoints` is empty; set it to URLs such as `https://etcd-1:2379`")]
    NoEndpoint,
    /// Not a URL.
    #[error("`{url}` in `high-availability.etcd.endpoints` is no URL such as `https://etcd-1:2379`: {why}")]
    Endpoint {
        /// What was written.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file that cannot be read.
    #[error("`{key}`: {} cannot be read: {source}", .path.display())]
    File {
        /// Which option names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the disk says.
        source: std::io::Error,
    },
    /// TLS without knowing whom to trust.
    #[error("`{0}` uses TLS; set `high-availability.etcd.ssl.ca-file` to the certificates that sign etcd's")]
    NoAuthority(String),
    /// Certificates without TLS, or a password that everybody can read.
    #[error("`{0}` does not use TLS, but certificates are set; write `https://`")]
    Plain(String),
}

impl EtcdSettings {
    /// Settings for members without TLS and users.
    #[must_use]
    pub fn plain(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            user: None,
            ca_file: None,
            identity: None,
            call_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
        }
    }

    /// Refuses what is no URL, and what does not fit the rest.
    pub(super) fn check(&self, url: &str) -> Result<(), SettingsError> {
        let wrong = |why: &str| {
            let (url, why) = (url.to_owned(), why.to_owned());
            Err(SettingsError::Endpoint { url, why })
        };
        let certificates = self.ca_file.is_some() || self.identity.is_some();
        let Some((scheme, authority)) = url.split_once("://") else {
            return wrong("it begins neither with `http://` nor with `https://`");
        };
        match scheme {
            _ if authority.is_empty() => wrong("it names no host"),
            "https" if self.ca_file.is_none() => Err(SettingsError::NoAuthority(url.to_owned())),
            "http" if certificates => Err(SettingsError::Plain(url.to_owned())),
            "http" | "https" => Ok(()),
            _ => wrong("it begins neither with `http://` nor with `https://`"),
        }
    }

    /// What is needed for TLS; nothing without certificates.
    pub(super) fn tls(&self) -> Result<Option<TlsOptions>, SettingsError> {
        let Some(authority) = &self.ca_file else {
            return Ok(None);
        };
        let authority = read("high-availability.etcd.ssl.ca-file", authority)?;
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(authority));
        if let Some((certificate, key)) = &self.identity {
            let certificate = read("high-availability.etcd.ssl.certificate-file", certificate)?;
            let key = read("high-availability.etcd.ssl.key-file", key)?;
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        Ok(Some(tls))
    }
}

fn read(key: &'static str, path: &PathBuf) -> Result<Vec<u8>, SettingsError> {
    fs::read(path).map_err(|source| SettingsError::File {
        key,
        path: path.clone(),
        source,
    })
}

/// Without the password.
impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSettings")
            .field("endpoints", &self.endpoints)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_say_what_to_set() {
        let mut settings = EtcdSettings::plain(vec![]);
        let wrong = |settings: &EtcdSettings, url| settings.check(url).unwrap_err().to_string();
        assert!(wrong(&settings, "https://a:1").contains("ssl.ca-file"));
        assert!(wrong(&settings, "a:1").contains("http://"));
        settings.ca_file = Some("/none".into());
        assert!(wrong(&settings, "http://a:1").contains("https://"));
        assert!(settings.tls().unwrap_err().to_string().contains("/none"));
        settings.user = Some(("me".into(), "secret".into()));
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
