//! The REST API, from the other side.

use awc::error::SendRequestError;
use awc::http::Method;
use awc::{Client, ClientRequest, SendClientRequest};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// How long an answer may take; a plan is two runs of a program.
const PATIENCE: Duration = Duration::from_secs(150);
/// The largest answer.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes of a part of an upload.
const PART: usize = 1 << 20;

/// A jobmanager.
pub(crate) struct Rest {
    client: Client,
    address: String,
}

impl Rest {
    /// The one at this address (`http://127.0.0.1:8081`, or without its beginning).
    pub(crate) fn new(address: &str) -> Self {
        let address = address.trim_end_matches('/');
        let address = match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}"),
        };
        let client = Client::builder().timeout(PATIENCE).finish();
        Self { client, address }
    }

    fn request(&self, method: Method, path: &str) -> ClientRequest {
        self.client.request(method, format!("{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, String> {
        self.answer(self.request(Method::GET, path).send()).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str) -> Result<Value, String> {
        self.answer(self.request(method, path).send()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, String> {
        self.answer(self.request(Method::POST, path).send_json(body))
            .await
    }

    /// Uploads a file as a form of one field.
    pub(crate) async fn upload(&self, path: &str, file: &Path) -> Result<Value, String> {
        let opened = std::fs::File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().replace(['"', '\r', '\n'], "_"));
        let boundary = format!("hurtig-{}", Uuid::new_v4().simple());
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"{}\"\r\nContent-Type: \
             application/octet-stream\r\n\r\n",
            name.unwrap_or_default()
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let body = std::io::Cursor::new(head)
            .chain(opened)
            .chain(std::io::Cursor::new(tail));
        let parts = stream::unfold(Some(body), |body| async move {
            let mut body = body?;
            let mut part = vec![0; PART];
            match body.read(&mut part) {
                Ok(0) => None,
                Ok(read) => {
                    part.truncate(read);
                    Some((Ok(Bytes::from(part)), Some(body)))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        let request = self
            .request(Method::POST, path)
            .content_type(format!("multipart/form-data; boundary={boundary}"));
        self.answer(request.send_stream(Box::pin(parts))).await
    }

    async fn answer(&self, sent: SendClientRequest) -> Result<Value, String> {
        let unreachable = |error: SendRequestError| {
            format!(
                "the jobmanager at {} does not answer: {error}. Is it running? `hurtig cluster start` starts one",
                self.address
            )
        };
        let mut response = sent.await.map_err(unreachable)?;
        let body = response
            .body()
            .limit(MAX_ANSWER)
            .await
            .map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if response.status().is_success() {
            return Ok(value);
        }
        let why = value["errors"][0].as_str().map(ToOwned::to_owned);
        Err(why.unwrap_or_else(|| format!("the jobmanager answers {}", response.status())))
    }
}

/// Runs a command that speaks to a jobmanager.
pub(crate) fn with<T>(command: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    actix_rt::System::new().block_on(command)
}
