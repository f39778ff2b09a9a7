//! The REST API, from the other side.

use crate::failure::{Failure, Kind};
use crate::say;
use awc::error::SendRequestError;
use awc::http::{Method, StatusCode, Uri, header};
use awc::{Client, ClientRequest, Connector, SendClientRequest};
use bytes::Bytes;
use futures_util::stream;
use rustls::ClientConfig;
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long an answer may take; a plan is two runs of a program.
const PATIENCE: Duration = Duration::from_secs(150);
/// The largest answer.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes of a part of an upload.
const PART: usize = 1 << 20;
/// The port of an address that names none.
const PORT: u16 = 8081;

/// A jobmanager.
pub(crate) struct Rest {
    client: Client,
    address: String,
    token: Option<String>,
}

impl Rest {
    /// The one at this address (`http://127.0.0.1:8081`, or without its beginning, or its end), which lets in who has `token`.
    /// It is believed by its certificate if that is of one of the authorities of `tls`.
    pub(crate) fn new(
        address: &str,
        token: Option<String>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, Failure> {
        let address = whole_address(address)?;
        let connector = Connector::new();
        let connector = match tls {
            Some(tls) => connector.rustls_0_23(tls),
            None if address.starts_with("https://") => {
                let text = format!(
                    "{address} is believed by its certificate: name the authority of that with --ca-file"
                );
                return Err(Failure::usage(text));
            }
            None => connector,
        };
        let client = Client::builder().connector(connector).timeout(PATIENCE).finish();
        Ok(Self {
            client,
            address,
            token,
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn request(&self, method: Method, path: &str) -> ClientRequest {
        let request = self.client.request(method, format!("{}{path}", self.address));
        match &self.token {
            Some(token) => request.insert_header((header::AUTHORIZATION, format!("Bearer {token}"))),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.request(Method::GET, path).send()).await
    }

    /// What is no JSON: a log.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String, Failure> {
        let body = self.body(self.request(Method::GET, path).send()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) async fn send(&self, method: Method, path: &str) -> Result<Value, Failure> {
        self.answer(self.request(method, path).send()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.answer(self.request(Method::POST, path).send_json(body))
            .await
    }

    pub(crate) async fn put(&self, path: &str, body: &impl Serialize) -> Result<(), Failure> {
        self.body(self.request(Method::PUT, path).send_json(body))
            .await
            .map(drop)
    }

    /// Uploads a file as a form of one field.
    pub(crate) async fn upload(&self, path: &str, file: &Path) -> Result<Value, Failure> {
        let opened = opened(file)?;
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().replace(['"', '\r', '\n'], "_"));
        let name = name.unwrap_or_default();
        let boundary = format!("hurtig-{}", Uuid::new_v4().simple());
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"{name}\"\r\nContent-Type: \
             application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let body = io::Cursor::new(head).chain(opened).chain(io::Cursor::new(tail));
        let parts = stream::unfold(Some((body, 0_usize)), move |body| {
            let name = name.clone();
            async move {
                let (mut body, sent) = body?;
                let mut part = vec![0; PART];
                match body.read(&mut part) {
                    Ok(0) => None,
                    Ok(read) => {
                        part.truncate(read);
                        let sent = sent + read;
                        say::progress(format_args!("uploading {name}: {} MiB", sent / PART));
                        Some((Ok(Bytes::from(part)), Some((body, sent))))
                    }
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        let request = self
            .request(Method::POST, path)
            .content_type(format!("multipart/form-data; boundary={boundary}"));
        self.answer(request.send_stream(Box::pin(parts))).await
    }

    async fn answer(&self, sent: SendClientRequest) -> Result<Value, Failure> {
        let body = self.body(sent).await?;
        let no_json = |_| format!("{} answers what no jobmanager does: is it one?", self.address);
        Ok(serde_json::from_slice(&body).map_err(no_json)?)
    }

    async fn body(&self, sent: SendClientRequest) -> Result<Bytes, Failure> {
        let unreachable = |error: SendRequestError| {
            let text = format!(
                "the jobmanager at {} does not answer: {error}. {}",
                self.address,
                advice(&self.address)
            );
            Failure::new(Kind::Unreachable, text)
        };
        let mut response = sent.await.map_err(unreachable)?;
        let body = response.body().limit(MAX_ANSWER).await;
        let body = body.map_err(|error| {
            let text = format!("the jobmanager at {} broke off its answer: {error}", self.address);
            Failure::new(Kind::Unreachable, text)
        })?;
        match response.status().is_success() {
            true => Ok(body),
            false => Err(refusal(response.status(), &body)),
        }
    }
}

/// What to look at when there is no answer from an address.
fn advice(address: &str) -> &'static str {
    match address.starts_with("https://") {
        true => {
            "Is it running, and its certificate of an authority in --ca-file, and good for this host? It may want one of yours, too \
             (--certificate-file, --key-file)"
        }
        false => "Is it running? `hurtig cluster start` starts one",
    }
}

/// Why a jobmanager does not do it.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let why = said["errors"][0].as_str().map(ToOwned::to_owned);
    let why = why.unwrap_or_else(|| format!("the jobmanager answers {status}"));
    match status {
        StatusCode::NOT_FOUND => Failure::new(Kind::Unknown, why),
        // A jobmanager that does not lead, and knows nobody who does.
        StatusCode::SERVICE_UNAVAILABLE => Failure::new(Kind::Unreachable, why),
        StatusCode::FORBIDDEN => Failure::new(Kind::Forbidden, why),
        StatusCode::UNAUTHORIZED => Failure::new(
            Kind::Forbidden,
            format!("{why}. A token is given with --token-file, or with HURTIG_TOKEN"),
        ),
        _ => why.into(),
    }
}

fn opened(file: &Path) -> Result<File, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        let text = format!("{}: {why}; name the executable of a program", file.display());
        Failure::from(text)
    };
    let opened = File::open(file).map_err(|error| unreadable(&error))?;
    let is_file = opened.metadata().is_ok_and(|metadata| metadata.is_file());
    match is_file {
        true => Ok(opened),
        false => Err(unreadable(&"this is no file")),
    }
}

/// `host`, `host:port` and `http://host:port` as the last of them, or with `https`.
fn whole_address(text: &str) -> Result<String, Failure> {
    let bad = || {
        Failure::usage(format!(
            "'{text}' is no address of a jobmanager: `host:port`, `http://host:port` and `https://host:port` are"
        ))
    };
    let bare = text.trim_end_matches('/');
    let (has_scheme, url) = match text.contains("://") {
        true => (true, bare.to_owned()),
        false => (false, format!("http://{bare}")),
    };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
    let named = uri
        .port_u16()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let is_whole = uri
        .authority()
        .is_some_and(|authority| *authority.as_str() == named)
        && matches!(uri.scheme_str(), Some("http" | "https"))
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none();
    if !is_whole {
        return Err(bad());
    }
    Ok(match uri.port_u16() {
        None if !has_scheme => format!("http://{host}:{PORT}"),
        _ => url,
    })
}

/// Runs a command that speaks to a jobmanager.
pub(crate) fn with<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    actix_rt::System::new().block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_and_what_is_none_is_refused() {
        for (text, want) in [
            ("localhost", "http://localhost:8081"),
            ("localhost:80", "http://localhost:80"),
            ("http://localhost:80/", "http://localhost:80"),
            ("http://localhost", "http://localhost"),
            ("https://localhost:80/", "https://localhost:80"),
        ] {
            assert_eq!(whole_address(text).unwrap(), want);
        }
        for wrong in [
            "",
            "a b",
            "ftp://a:1",
            "a:1/jobs",
            "a:1?b",
            "http://",
            "a:port",
            ":80",
        ] {
            let failure = whole_address(wrong).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage, "{wrong}");
        }
    }

    #[test]
    fn the_status_of_a_refusal_says_whose_turn_it_is() {
        let of = |status: u16| refusal(StatusCode::from_u16(status).unwrap(), br#"{"errors":["boom"]}"#);
        assert_eq!(of(404).kind, Kind::Unknown);
        assert_eq!(of(500).texts(), ["boom"]);
        assert_eq!(of(401).kind, Kind::Forbidden);
        assert!(of(401).to_string().contains("--token-file"));
        assert_eq!(
            (of(403).kind, of(403).texts()),
            (Kind::Forbidden, &["boom".to_owned()][..])
        );
        let silent = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert!(silent.to_string().contains("502"));
    }
}
