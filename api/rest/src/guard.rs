//! Who is served, and with what: decided from the head of a request, before anything of its body is read.

use crate::access::{Role, Switch, needed};
use crate::artifacts::UPLOAD;
use crate::body::{Allowance, Answer};
use crate::error::RestError;
use crate::server::State;
use crate::tokens::{Caller, Tokens};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpResponse, ResponseError as _};
use std::collections::BTreeSet;
use std::time::Duration;

/// Names of this machine, as a request may have them.
const LOCAL: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// How long a request may take, but for an upload: a plan is two runs of a program.
const DEADLINE: Duration = Duration::from_secs(150);

/// What is allowed by whom.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Names of this server beside those of this machine, as [`bare`] has them.
    pub(crate) hosts: BTreeSet<String>,
    /// Origins of other sites that may ask.
    pub(crate) origins: Vec<String>,
    /// Without them everybody who comes so far may do everything.
    pub(crate) tokens: Option<Tokens>,
    pub(crate) submit: bool,
    pub(crate) cancel: bool,
    /// Bytes of an upload.
    pub(crate) max_upload: u64,
}

impl Gate {
    /// Who asks, if what is asked for may be had. Looks at nothing but the head.
    fn admit(&self, request: &ServiceRequest, allowance: &Allowance) -> Result<Caller, RestError> {
        let headers = request.headers();
        self.check_place(headers)?;
        check_target(request)?;
        let caller = self.caller(headers)?;
        self.check_role(&caller, request)?;
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        allowance.check(announced.and_then(|length| length.parse().ok()))?;
        Ok(caller)
    }

    fn check_place(&self, headers: &HeaderMap) -> Result<(), RestError> {
        let forbidden = |text: &str| RestError::new(StatusCode::FORBIDDEN, text);
        let mut hosts = headers.get_all(HOST);
        let host = hosts.next().and_then(|host| host.to_str().ok()).map(bare);
        if hosts.next().is_some() || !host.is_some_and(|host| self.is_ours(&host)) {
            return Err(forbidden(
                "the request names no host of this machine, and none of `rest.allowed-hosts`",
            ));
        }
        let mut origins = headers.get_all(ORIGIN);
        let allowed = match origins.next() {
            None => true,
            Some(origin) => is_own(headers, origin) || self.is_allowed(origin),
        };
        if !allowed || origins.next().is_some() {
            return Err(forbidden(
                "the request comes from a page of another site, which `web.access-control-allow-origin` does not name",
            ));
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        LOCAL.contains(&host) || self.hosts.contains(host)
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        let is = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
        self.origins.iter().any(is)
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, RestError> {
        let Some(tokens) = &self.tokens else {
            let (name, role) = ("anybody".to_owned(), Role::Admin);
            return Ok(Caller { name, role });
        };
        let unknown =
            |text: &str, challenge| RestError::new(StatusCode::UNAUTHORIZED, text).challenging(challenge);
        let token = bearer(headers).ok_or_else(|| {
            unknown(
                "say who you are: send `Authorization: Bearer <token>` with a token of this cluster",
                "Bearer realm=\"hurtig\"",
            )
        })?;
        tokens.caller(token).ok_or_else(|| {
            unknown(
                "the token is none of this cluster",
                "Bearer realm=\"hurtig\", error=\"invalid_token\"",
            )
        })
    }

    fn check_role(&self, caller: &Caller, request: &ServiceRequest) -> Result<(), RestError> {
        let (role, switch) = needed(request.method(), request.path());
        if caller.role < role {
            let text = format!(
                "this takes the role `{}`, and '{}' has the role `{}`",
                role.name(),
                caller.name,
                caller.role.name()
            );
            let error = RestError::new(StatusCode::FORBIDDEN, text);
            return Err(error.challenging("Bearer realm=\"hurtig\", error=\"insufficient_scope\""));
        }
        let off = match switch {
            Some(Switch::Submit) if !self.submit => "web.submit.enable",
            Some(Switch::Cancel) if !self.cancel => "web.cancel.enable",
            _ => return Ok(()),
        };
        let text = format!("`{off}: false` has switched that off on this cluster");
        Err(RestError::new(StatusCode::FORBIDDEN, text))
    }
}

/// The path is what it looks like: no escapes, so that none is read in two ways, and no other server's URL.
fn check_target(request: &ServiceRequest) -> Result<(), RestError> {
    let uri = request.uri();
    let plain = uri.scheme().is_none() && uri.authority().is_none() && uri.path().starts_with('/');
    if !plain {
        return Err(RestError::bad_request(
            "the target of a request is a path, without a host",
        ));
    }
    if uri.path().contains('%') {
        return Err(RestError::bad_request(
            "paths have no escapes here: nothing in them needs any",
        ));
    }
    Ok(())
}

/// The token, if there is exactly one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION);
    let (scheme, token) = all.next()?.to_str().ok()?.split_once(' ')?;
    let one = scheme.eq_ignore_ascii_case("bearer") && all.next().is_none();
    one.then_some(token.trim())
}

/// A page that this server has sent, perhaps through a proxy that speaks TLS.
fn is_own(headers: &HeaderMap, origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or("");
    let host = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    let asked = headers.get(HOST).and_then(|asked| asked.to_str().ok());
    host.is_some() && host == asked
}

/// A host without its port and brackets, in lower case.
pub(crate) fn bare(host: impl AsRef<str>) -> String {
    let host = host.as_ref();
    let name = match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (name.ends_with(']') || !name.contains(':')) =>
        {
            name
        }
        _ => host,
    };
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(name).to_ascii_lowercase()
}

/// Serves who may be served what.
pub(crate) async fn admitted(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Answer>, actix_web::Error> {
    let Some(state) = request.app_data::<Data<State>>().cloned() else {
        return Err(RestError::internal("the server has no state").into());
    };
    let origin = request.headers().get(ORIGIN);
    let origin = origin.filter(|origin| state.gate.is_allowed(origin)).cloned();
    let upload = is_upload(request.path()).then_some(state.gate.max_upload);
    let allowance = Allowance::new(request.take_payload(), upload, state.clock.clone());
    let admitted = match preflight(&state.gate, &request, origin.as_ref()) {
        Some(answer) => Err(answer),
        None => {
            let admitted = state.gate.admit(&request, &allowance);
            admitted.map_err(|error| error.error_response())
        }
    };
    let mut answer = match admitted {
        Err(answer) => request.into_response(answer),
        Ok(caller) => {
            tell(&caller, &request);
            request.set_payload(allowance.payload());
            request.extensions_mut().insert(caller.role);
            request.extensions_mut().insert(allowance.clone());
            in_our_form(next.call(request).await?.map_into_boxed_body(), &allowance)
        }
    };
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }
    Ok(answer.map_body(|_, body| Answer::new(body, allowance)))
}

/// Who has changed what, for those who ask later. Never what proves it.
fn tell(caller: &Caller, request: &ServiceRequest) {
    if request.method() != Method::GET {
        tracing::info!(caller = caller.name, method = %request.method(), path = request.path(), "a request that changes something");
    }
}

/// What the layers below say in their own way is said as all errors are.
fn in_our_form(answer: ServiceResponse, allowance: &Allowance) -> ServiceResponse {
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE);
    let ours = kind.is_some_and(|kind| kind == "application/json");
    let error = match (allowance.broken(), answer.response().error()) {
        (Some(broken), _) if !status.is_success() => broken,
        (_, Some(error)) if !ours => RestError::new(status, error.to_string()),
        _ => return answer,
    };
    answer.into_response(error.error_response())
}

/// The answer to a browser that asks whether its page may ask.
fn preflight(gate: &Gate, request: &ServiceRequest, origin: Option<&HeaderValue>) -> Option<HttpResponse> {
    let asks =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    origin.filter(|_| asks)?;
    gate.check_place(request.headers()).ok()?;
    let allowed: [(HeaderName, HeaderValue); 3] = [
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, PATCH, DELETE"),
        ),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("authorization, content-type"),
        ),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
    ];
    let mut answer = HttpResponse::NoContent().finish();
    for (name, value) in allowed {
        answer.headers_mut().insert(name, value);
    }
    Some(answer)
}

fn is_upload(path: &str) -> bool {
    path.strip_prefix("/v1").unwrap_or(path) == UPLOAD
}

/// Gives up requests whose answers do not come.
pub(crate) async fn in_time(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if is_upload(request.path()) {
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

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn hosts_are_known_without_their_ports() {
        for (host, name) in [
            ("127.0.0.1:8081", "127.0.0.1"),
            ("LocalHost", "localhost"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("127.0.0.1.evil.example:80", "127.0.0.1.evil.example"),
            ("localhost:80a", "localhost:80a"),
            ("localhost:", "localhost"),
            ("user@localhost", "user@localhost"),
            ("", ""),
        ] {
            assert_eq!(bare(host), name);
        }
    }
}
