//! A jobmanager that does not lead: it hands requests on to the one that does.

use crate::body::Allowance;
use crate::error::RestError;
use crate::server::State;
use crate::tls;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, ORIGIN, TRANSFER_ENCODING,
};
use actix_web::http::{ConnectionType, Method, StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpResponse, ResponseError as _};
use awc::Client;
use futures_util::StreamExt as _;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;

/// What a request has that was handed on; it is not handed on again.
const FORWARDED: HeaderName = HeaderName::from_static("hurtig-forwarded");
/// Headers that are between two neighbours only.
const OWN: [HeaderName; 4] = [CONNECTION, TRANSFER_ENCODING, HOST, ORIGIN];
/// How long the leader may take to answer: as long as it has for itself, and a little.
const PATIENCE: Duration = Duration::from_secs(160);

/// How long a request that nobody serves may take to come.
const DRAINING: Duration = Duration::from_secs(10);
/// What is said while the store is away.
const SUSPENDED: &str = "this jobmanager leads, and the store of high availability has not confirmed that in time: nothing is decided \
                         before it does; running jobs go on. Ask again soon";
/// How often it is looked who leads, while an answer is waited for.
const LOOK: Duration = Duration::from_millis(500);

/// The way to leaders; one for each thread.
pub(crate) fn client(tls: Option<Arc<ClientConfig>>) -> Client {
    tls::client(tls, PATIENCE)
}

/// Serves what this jobmanager can serve: while it leads, everything.
pub(crate) async fn to_the_leader<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let state = request.app_data::<Data<State>>().cloned();
    let client = request.app_data::<Data<Client>>().cloned();
    let (Some(state), Some(client)) = (state, client) else {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    };
    if state.jobmanager.leads() {
        if request.method().is_safe() || is_the_end(&request) {
            return next.call(request).await.map(ServiceResponse::map_into_left_body);
        }
        return while_it_decides(&state, request, next).await;
    }
    let (request, payload) = request.into_parts();
    if let Some(allowance) = request.extensions().get::<Allowance>() {
        // What comes before the file of a form is bounded where somebody keeps it: at the leader.
        allowance.file_begins();
    }
    let leader = match request.headers().contains_key(FORWARDED) {
        true => None,
        false => state
            .jobmanager
            .leading_rest()
            .await
            .filter(|leader| *leader != state.address),
    };
    let answer = match leader {
        Some(leader) => tokio::select! {
            answer = hand_on(&request, payload, &leader, &client) => answer,
            () = led_by_another(&state, &leader) => {
                unavailable("the jobmanager that led has not answered before another one led; ask again")
            }
        },
        None => nobody(payload).await,
    };
    Ok(ServiceResponse::new(request, answer.map_into_right_body()))
}

/// The end of the cluster needs no store.
fn is_the_end(request: &ServiceRequest) -> bool {
    request.method() == Method::DELETE && matches!(request.path(), "/cluster" | "/v1/cluster")
}

/// Serves what changes something, as long as this jobmanager may decide: nobody waits for a store that is away.
async fn while_it_decides<B: MessageBody + 'static>(
    state: &State,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if state.jobmanager.is_suspended() {
        let (request, payload) = request.into_parts();
        if let Some(allowance) = request.extensions().get::<Allowance>() {
            allowance.file_begins();
        }
        let answer = refuse(payload, SUSPENDED).await;
        return Ok(ServiceResponse::new(request, answer.map_into_right_body()));
    }
    tokio::select! {
        served = next.call(request) => served.map(ServiceResponse::map_into_left_body),
        () = suspended(state) => {
            let text = format!("{SUSPENDED}. It is not known yet whether what was asked is recorded: to ask again under the same id is safe");
            Err(RestError::new(StatusCode::SERVICE_UNAVAILABLE, text).into())
        }
    }
}

async fn suspended(state: &State) {
    while !state.jobmanager.is_suspended() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the leader is another one: a machine that is stopped or cut off refuses nothing, and answers nothing.
async fn led_by_another(state: &State, leader: &str) {
    loop {
        tokio::time::sleep(LOOK).await;
        if state.jobmanager.leads() || state.jobmanager.leading_rest().await.as_deref() != Some(leader) {
            return;
        }
    }
}

/// Never the whole target of a request: `user@host` behind the leader's address would be another server, which would have the
/// caller's token.
fn address(leader: &str, target: &Uri) -> String {
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let begin = if path.starts_with('/') { "" } else { "/" };
    format!("{leader}{begin}{path}")
}

async fn hand_on(
    request: &actix_web::HttpRequest,
    payload: actix_web::dev::Payload,
    leader: &str,
    client: &Client,
) -> HttpResponse {
    let mut there = client
        .request(request.method().clone(), address(leader, request.uri()))
        .no_decompress();
    for (name, value) in request.headers().iter().filter(|(name, _)| !OWN.contains(name)) {
        there = there.append_header((name.clone(), value.clone()));
    }
    there = there.insert_header((FORWARDED, HeaderValue::from_static("1")));
    let has_body = [CONTENT_LENGTH, TRANSFER_ENCODING]
        .iter()
        .any(|name| request.headers().contains_key(name));
    let sent = match has_body {
        true => there.send_stream(payload).await,
        false => there.send().await,
    };
    match sent {
        Ok(answer) => {
            let mut response = HttpResponse::build(answer.status());
            for (name, value) in answer.headers().iter().filter(|(name, _)| !OWN.contains(name)) {
                response.append_header((name.clone(), value.clone()));
            }
            response.streaming(answer)
        }
        Err(error) => {
            let text =
                format!("the jobmanager that leads, at {leader}, does not answer: {error}; ask again soon");
            unavailable(text)
        }
    }
}

async fn nobody(payload: actix_web::dev::Payload) -> HttpResponse {
    refuse(payload, "no jobmanager leads at the moment; ask again soon").await
}

/// Who is still sending hears nothing before it has sent all, so that is read, and dropped.
async fn refuse(mut payload: actix_web::dev::Payload, text: &str) -> HttpResponse {
    let read = async { while let Some(Ok(_)) = payload.next().await {} };
    // Whoever is slower than that finds the connection closed.
    drop(tokio::time::timeout(DRAINING, read).await);
    unavailable(text)
}

fn unavailable(text: impl Into<String>) -> HttpResponse {
    let mut answer = RestError::new(StatusCode::SERVICE_UNAVAILABLE, text).error_response();
    answer.head_mut().set_connection_type(ConnectionType::Close);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_the_leader_whatever_its_target_says() {
        let of = |target: &str| address("http://127.0.0.1:8081", &target.parse().unwrap());
        assert_eq!(of("/jobs?a=b"), "http://127.0.0.1:8081/jobs?a=b");
        for target in [
            "x@evil.example",
            "x@evil.example:80",
            "evil.example:80",
            "http://evil.example/jobs",
            "http://x@evil.example",
            "//evil.example/jobs",
            "/@evil.example",
            "*",
        ] {
            let address: Uri = of(target).parse().unwrap();
            let authority = address.authority().map(|authority| authority.as_str());
            assert_eq!(authority, Some("127.0.0.1:8081"), "{target}");
        }
    }
}
