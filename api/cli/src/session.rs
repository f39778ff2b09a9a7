//! What all commands share: to whom they answer, which cluster they are for, and what lets them in.

use crate::client::Rest;
use crate::cluster::known::{self, Known};
use crate::config::Layers;
use crate::failure::Failure;
use crate::say::Output;
use clap::Args;
use hurtig_core::config::{Configuration, options};
use hurtig_rpc::visitor;
use rustls::ClientConfig;
use std::path::PathBuf;
use std::sync::Arc;

/// The environment variable with a token.
const TOKEN: &str = "HURTIG_TOKEN";

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Session {
    /// To whom answers are said.
    #[arg(long, global = true, value_enum, default_value = "human")]
    pub(crate) output: Output,
    /// A file with the token that lets this one in; otherwise the environment variable `HURTIG_TOKEN` is the token.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file (PEM) with the authority of the certificate of a jobmanager that speaks HTTPS; otherwise
    /// `security.ssl.rest.authorities`, as the cluster was started with.
    #[arg(
        long,
        global = true,
        env = "HURTIG_CA_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    ca_file: Option<PathBuf>,
    /// A file (PEM) with a certificate of one's own, for jobmanagers that want one.
    #[arg(
        long,
        global = true,
        requires = "key_file",
        env = "HURTIG_CERTIFICATE_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    certificate_file: Option<PathBuf>,
    /// The file (PEM) with the private key of that.
    #[arg(
        long,
        global = true,
        requires = "certificate_file",
        env = "HURTIG_KEY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    key_file: Option<PathBuf>,
}

/// Which cluster a command is for.
#[derive(Args, Clone, Debug)]
pub(crate) struct At {
    /// The REST address of its jobmanager, as `host:port`; otherwise that of the cluster in `--dir`.
    #[arg(short = 'm', long, visible_alias = "jobmanager", value_name = "ADDRESS")]
    pub(crate) rest: Option<String>,
    /// The directory of a cluster that `hurtig cluster start` has started [default: `~/.local/state/hurtig`].
    #[arg(long, env = "HURTIG_CLUSTER_DIR", hide_env_values = true)]
    pub(crate) dir: Option<PathBuf>,
}

impl Session {
    /// The jobmanager that a command is for.
    pub(crate) fn rest(&self, at: &At) -> Result<Rest, Failure> {
        match &at.rest {
            Some(address) => Rest::new(address, self.token()?, self.tls(&[])?),
            None => self.rest_of(&known::reachable(at.dir.as_deref())?),
        }
    }

    /// The jobmanager of a cluster of this machine.
    pub(crate) fn rest_of(&self, cluster: &Known) -> Result<Rest, Failure> {
        Rest::new(&cluster.rest, self.token()?, self.tls(&cluster.settings)?)
    }

    /// Whom this one believes, and who it is itself; by options, by settings of the cluster, or by its own.
    fn tls(&self, settings: &[String]) -> Result<Option<Arc<ClientConfig>>, Failure> {
        let configured = || -> Result<Configuration, Failure> { Layers::of_environment().read(settings) };
        let authorities = match &self.ca_file {
            Some(file) => Some(file.clone()),
            None => configured()?
                .get(&options::SSL_REST_AUTHORITIES)
                .map(PathBuf::from),
        };
        let own = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
            _ => None,
        };
        let config = authorities
            .map(|authorities| visitor(&authorities, own))
            .transpose();
        let config = config.map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("{error}: {cause}")
        })?;
        Ok(config.map(Arc::new))
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let (place, text) = match &self.token_file {
            Some(file) => {
                let place = file.display().to_string();
                let read = std::fs::read_to_string(file);
                let text = read.map_err(|error| format!("the token in {place}: {error}"))?;
                (place, text)
            }
            None => match std::env::var(TOKEN) {
                Ok(text) => (TOKEN.to_owned(), text),
                Err(_) => return Ok(None),
            },
        };
        let token = text.trim();
        match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Some(token.to_owned())),
            false => Err(Failure::usage(format!(
                "there is no token in {place}: one consists of letters, digits and signs of ASCII"
            ))),
        }
    }
}

/// Digits of an id.
const DIGITS: usize = 32;

fn id(text: &str, what: &str, who_lists: &str) -> Result<String, String> {
    match text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!(
            "{what} has {DIGITS} hexadecimal digits; {who_lists} shows them"
        )),
    }
}

/// The id of a job, from the command line.
pub(crate) fn job_id(text: &str) -> Result<String, String> {
    id(text, "the id of a job", "`hurtig list -a`")
}

/// The id of a TaskManager, from the command line.
pub(crate) fn task_manager_id(text: &str) -> Result<String, String> {
    id(text, "the id of a TaskManager", "`hurtig task-managers`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    fn session(token: &[u8]) -> (tempfile::TempDir, Session) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, token).unwrap();
        let session = Session {
            output: Output::Human,
            token_file: Some(file),
            ca_file: None,
            certificate_file: None,
            key_file: None,
        };
        (dir, session)
    }

    #[test]
    fn a_token_is_what_a_file_has_without_its_line_break() {
        let (_dir, of_file) = session(b"abc+/=\n");
        assert_eq!(of_file.token().unwrap().as_deref(), Some("abc+/="));
        for wrong in [&b"\n"[..], b"a b", b"a\r\nInjected: 1", "ä".as_bytes()] {
            let (_dir, of_file) = session(wrong);
            assert_eq!(of_file.token().unwrap_err().kind, Kind::Usage);
        }
    }

    #[test]
    fn ids_have_32_digits() {
        let whole = "0123456789ABCDEF0123456789abcdef";
        assert_eq!(job_id(whole).unwrap(), whole.to_ascii_lowercase());
        for wrong in [
            "",
            "zzz",
            &whole[1..],
            &format!("{whole}0"),
            &whole.replace('a', "-"),
        ] {
            assert!(job_id(wrong).unwrap_err().contains("hurtig list"), "{wrong}");
        }
    }
}
