//! Who is served: this machine, and no web page of another one that a browser of this machine shows.

use crate::artifacts::UPLOAD;
use crate::error::RestError;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderName, ORIGIN};
use actix_web::middleware::Next;
use std::time::Duration;

/// Names of this machine, as a request may have them.
const LOCAL: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// How long a request may take, but for an upload: a plan is two runs of a program.
const DEADLINE: Duration = Duration::from_secs(150);

/// Gives up requests whose bodies do not come, or whose answers do not.
pub(crate) async fn in_time(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if request.path() == UPLOAD {
        return next.call(request).await;
    }
    let late = |_| {
        RestError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("not done within {DEADLINE:?}"),
        )
    };
    tokio::time::timeout(DEADLINE, next.call(request))
        .await
        .map_err(late)?
}

/// Looks at the headers before a body is read.
pub(crate) async fn only_local(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let header = |name: HeaderName| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap_or("").to_owned())
    };
    let forbidden = |text: &str| RestError::new(StatusCode::FORBIDDEN, text);
    let host = header(HOST);
    if !host.as_deref().is_some_and(is_local) {
        return Err(forbidden("the request names no host of this machine").into());
    }
    let origin = header(ORIGIN);
    let strange = origin.is_some_and(|origin| {
        let host = origin.strip_prefix("http://");
        host.is_none() || host.map(ToOwned::to_owned) != header(HOST)
    });
    if strange {
        return Err(forbidden("the request comes from a page of another site").into());
    }
    next.call(request).await
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    LOCAL.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_names_of_this_machine_are_local() {
        assert!(
            ["127.0.0.1:8081", "localhost", "[::1]:80", "[::1]"]
                .into_iter()
                .all(is_local)
        );
        let others = [
            "evil.example",
            "127.0.0.1.evil.example:80",
            "",
            "localhost.example",
            "localhost:80a",
        ];
        assert!(!others.into_iter().any(is_local));
    }
}
