//! Calls: each to one member, with a deadline; the next call goes to the next member when one has failed.

use super::convert;
use super::settings::{EtcdSettings, SettingsError};
use crate::kv::StoreError;
use etcd_client::{Client as Connection, ConnectOptions, Error, KvClient, LeaseClient, WatchClient};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How often HTTP/2 asks whether the other side is there, also when nothing is sent.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long it waits for the answer.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer. A page of a list is shorter.
const MAX_ANSWER: usize = 16 << 20;

/// The way to the members. Each has a connection of its own: a balanced one would send a part of all calls to a
/// member that does not answer.
pub(super) struct Client {
    members: Vec<Member>,
    /// Which one is asked next.
    current: AtomicUsize,
    options: ConnectOptions,
    call_timeout: Duration,
}

struct Member {
    url: String,
    /// With a user it is connected once it has given a token, so it may fail and be tried again.
    connection: OnceCell<Connection>,
}

impl Client {
    /// A client that connects when it is used first.
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, SettingsError> {
        let members = settings.endpoints.iter().map(|url| {
            settings.check(url)?;
            Ok(Member {
                url: url.clone(),
                connection: OnceCell::new(),
            })
        });
        let members = members.collect::<Result<_, SettingsError>>()?;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(settings.connect_timeout)
            .with_keep_alive(PING_EVERY, PING_TIMEOUT)
            .with_keep_alive_while_idle(true)
            // What only a member without a quorum could say is not worth knowing.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((name, password)) = &settings.user {
            options = options.with_user(name, password);
        }
        if let Some(tls) = settings.tls()? {
            options = options.with_tls(tls);
        }
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            options,
            call_timeout: settings.call_timeout,
        })
    }

    /// How many members there are.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// One call over the connection to the current member, at most once. When it has failed in a way that another member may not, the
    /// next call goes there.
    pub(super) async fn call<T, F>(&self, question: impl FnOnce(Connection) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let at = self.current.load(Ordering::Relaxed);
        let answer = self
            .within(async { question(self.connection(at).await?).await })
            .await;
        answer.inspect_err(|error| self.failed(at, error))
    }

    /// Waits for something, at most as long as a call may take.
    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limit = self.call_timeout;
        let late = || Error::EndpointError(format!("no answer within {limit:?}"));
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// The next call goes elsewhere.
    pub(super) fn leave_member(&self) {
        self.leave(self.current.load(Ordering::Relaxed));
    }

    async fn connection(&self, at: usize) -> Result<Connection, Error> {
        let member = &self.members[at % self.members.len()];
        let connect = || Connection::connect([&member.url], Some(self.options.clone()));
        member.connection.get_or_try_init(connect).await.cloned()
    }

    /// Leaves a member that has failed.
    fn failed(&self, at: usize, error: &Error) {
        if matches!(convert::error(error), StoreError::Unreachable(_)) {
            self.leave(at);
        }
    }

    /// Unless somebody has left it already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.members.len();
        let _ = self
            .current
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

pub(super) fn kv(connection: &Connection) -> KvClient {
    connection.kv_client().max_decoding_message_size(MAX_ANSWER)
}

pub(super) fn lease(connection: &Connection) -> LeaseClient {
    connection.lease_client()
}

pub(super) fn watch(connection: &Connection) -> WatchClient {
    connection.watch_client().max_decoding_message_size(MAX_ANSWER)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls = self.members.iter().map(|member| &member.url);
        f.debug_struct("Client")
            .field("members", &urls.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
