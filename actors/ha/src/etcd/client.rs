//! Calls: each to one endpoint, with a deadline; the next call goes to the next endpoint when one has failed.

use super::messages::{AuthenticateRequest, AuthenticateResponse};
use super::settings::{EtcdSettings, SettingsError};
use futures_util::Stream;
use prost::Message;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// How often HTTP/2 asks whether the other side is there, also when nothing is sent.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long it waits for the answer.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer. A page of a list is shorter.
const MAX_ANSWER: usize = 16 << 20;

/// The way to the endpoints.
pub(super) struct Client {
    channels: Vec<Channel>,
    /// Which one is asked next.
    current: AtomicUsize,
    settings: EtcdSettings,
    token: Mutex<Option<MetadataValue<Ascii>>>,
}

impl Client {
    /// A client that connects when it is used first. Needs a tokio runtime.
    pub(super) fn new(settings: EtcdSettings) -> Result<Self, SettingsError> {
        let endpoint = |url: &String| {
            let endpoint = settings.endpoint(url)?;
            let endpoint = endpoint
                .connect_timeout(settings.connect_timeout)
                .http2_keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .tcp_nodelay(true);
            Ok(endpoint.connect_lazy())
        };
        let channels = settings
            .endpoints
            .iter()
            .map(endpoint)
            .collect::<Result<_, SettingsError>>()?;
        let (current, token) = (AtomicUsize::new(0), Mutex::new(None));
        Ok(Self {
            channels,
            current,
            settings,
            token,
        })
    }

    /// How many endpoints there are.
    pub(super) fn endpoints(&self) -> usize {
        self.channels.len()
    }

    /// One question, one answer, at most once.
    pub(super) async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let first = self.unary(path, question.clone()).await;
        match first {
            // Then it was not carried out: the token is too old for the server.
            Err(status) if status.code() == Code::Unauthenticated && self.settings.user.is_some() => {
                self.forget_token();
                self.unary(path, question).await
            }
            other => other,
        }
    }

    /// One question, whose answers come one by one.
    pub(super) async fn stream<Q, A>(
        &self,
        path: &'static str,
        questions: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(questions).await?;
        let at = self.current.load(Ordering::Relaxed);
        let answers = self.within(self.open(at, path, request)).await;
        answers.inspect_err(|status| self.failed(at, status))
    }

    /// Waits for something, at most as long as a call may take.
    pub(super) async fn within<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let limit = self.settings.call_timeout;
        let late = || Status::deadline_exceeded(format!("no answer within {limit:?}"));
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// The next call goes elsewhere.
    pub(super) fn leave_endpoint(&self) {
        self.failed(self.current.load(Ordering::Relaxed), &Status::unavailable(""));
    }

    async fn unary<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = self.request(question).await?;
        request.set_timeout(self.settings.call_timeout);
        let at = self.current.load(Ordering::Relaxed);
        let answer = self.within(self.send(at, path, request)).await;
        answer.inspect_err(|status| self.failed(at, status))
    }

    async fn send<Q, A>(&self, at: usize, path: &'static str, request: Request<Q>) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.ready(at).await?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc
            .unary(request, PathAndQuery::from_static(path), codec)
            .await?;
        Ok(answer.into_inner())
    }

    async fn open<S, Q, A>(
        &self,
        at: usize,
        path: &'static str,
        request: Request<S>,
    ) -> Result<Streaming<A>, Status>
    where
        S: Stream<Item = Q> + Send + 'static,
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.ready(at).await?;
        let codec = ProstCodec::<Q, A>::default();
        let answers = grpc
            .streaming(request, PathAndQuery::from_static(path), codec)
            .await?;
        Ok(answers.into_inner())
    }

    async fn ready(&self, at: usize) -> Result<Grpc<Channel>, Status> {
        let channel = self.channels[at % self.channels.len()].clone();
        let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_ANSWER);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(format!("cannot connect: {error}")))?;
        Ok(grpc)
    }

    /// A request that only a server with a quorum answers, in our user's name.
    async fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let token = self.authenticated().await?;
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = token {
            metadata.insert("token", token);
        }
        Ok(request)
    }

    async fn authenticated(&self) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let Some((name, password)) = &self.settings.user else {
            return Ok(None);
        };
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return Ok(known);
        }
        let question = AuthenticateRequest {
            name: name.clone(),
            password: password.clone(),
        };
        let at = self.current.load(Ordering::Relaxed);
        let sent = self.send(at, "/etcdserverpb.Auth/Authenticate", Request::new(question));
        let answer: AuthenticateResponse = self
            .within(sent)
            .await
            .inspect_err(|status| self.failed(at, status))?;
        let token = MetadataValue::try_from(answer.token.as_str())
            .map_err(|_| Status::internal("etcd's token is no header"))?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(Some(token))
    }

    fn forget_token(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Leaves an endpoint that has failed, unless somebody has left it already.
    fn failed(&self, at: usize, status: &Status) {
        let elsewhere = matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal | Code::Cancelled
        );
        if elsewhere {
            let next = (at + 1) % self.channels.len();
            let _ = self
                .current
                .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.settings.endpoints)
            .finish_non_exhaustive()
    }
}
