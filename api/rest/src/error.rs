//! Errors as clients see them: a status and, as Flink has it, a list of texts.

use actix_web::http::StatusCode;
use actix_web::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use hurtig_cluster::ClusterError;
use hurtig_cluster::process::SubmitError;
use serde::Serialize;
use std::fmt;

/// Seconds after which it is worth asking again.
const AGAIN: &str = "1";

/// What a request is answered that cannot be served.
#[derive(Debug)]
pub(crate) struct RestError {
    status: StatusCode,
    text: String,
    /// What proof would be taken.
    challenge: Option<&'static str>,
}

#[derive(Serialize)]
struct Body<'a> {
    errors: [&'a str; 1],
}

impl RestError {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        let challenge = None;
        Self {
            status,
            text,
            challenge,
        }
    }

    pub(crate) fn challenging(self, challenge: &'static str) -> Self {
        let challenge = Some(challenge);
        Self { challenge, ..self }
    }

    pub(crate) fn internal(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl fmt::Display for RestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for RestError {}

impl ResponseError for RestError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        if let Some(challenge) = self.challenge {
            answer.insert_header((WWW_AUTHENTICATE, challenge));
        }
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status) {
            answer.insert_header((RETRY_AFTER, AGAIN));
        }
        answer.json(Body { errors: [&self.text] })
    }
}

impl From<ClusterError> for RestError {
    fn from(error: ClusterError) -> Self {
        let status = match &error {
            ClusterError::UnknownJob(_)
            | ClusterError::UnknownVertex(..)
            | ClusterError::UnknownTaskManager(_)
            | ClusterError::Unrecorded(..) => StatusCode::NOT_FOUND,
            ClusterError::Ended { .. } | ClusterError::Conflict(_) => StatusCode::CONFLICT,
            ClusterError::TooManyJobs(_)
            | ClusterError::NoMaster(_)
            | ClusterError::SilentTaskManager(..)
            | ClusterError::NotLeading(_)
            | ClusterError::NotRecorded { .. }
            | ClusterError::Unavailable(_)
            | ClusterError::ShutDown => StatusCode::SERVICE_UNAVAILABLE,
            ClusterError::Fingerprint { .. } | ClusterError::Requirements { .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<SubmitError> for RestError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Cluster(error) => error.into(),
            SubmitError::UnknownArtifact(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            SubmitError::Artifact(_) | SubmitError::Plan(_) => Self::bad_request(error.to_string()),
            SubmitError::Blob(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}
