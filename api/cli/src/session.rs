//! What all commands share: to whom they answer, which cluster they are for, and what lets them in.

use crate::client::Rest;
use crate::cluster::known;
use crate::failure::Failure;
use crate::say::Output;
use clap::Args;
use std::path::PathBuf;

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
            Some(address) => self.rest_at(address),
            None => self.rest_at(&known::rest_address(at.dir.as_deref())?),
        }
    }

    /// The jobmanager at an address.
    pub(crate) fn rest_at(&self, address: &str) -> Result<Rest, Failure> {
        Rest::new(address, self.token()?)
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
        let (output, token_file) = (Output::Human, Some(file));
        (dir, Session { output, token_file })
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
