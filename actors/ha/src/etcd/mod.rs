//! `etcd`: the store that several machines share.
//!
//! It promises that no call is without end, that an answer that did not come is an unknown outcome, and that a watch that has
//! missed something says so. It refuses to decide anything: it moves messages.

mod client;
mod convert;
mod settings;
mod watch;

pub use settings::{EtcdSettings, SettingsError};

use crate::kv::{
    Entry, Key, Lease, LeaseId, Listing, Outcome, Pending, Revision, Store, StoreError, Transaction, Watch,
};
use client::Client;
use etcd_client::{Client as Connection, Error, GetOptions};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// How many entries are read at once: far less than an answer may have, at 8 KiB each.
const PAGE: i64 = 500;

/// A store in etcd.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    client: Arc<Client>,
}

impl EtcdStore {
    /// A store that connects when it is used first. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn new(settings: EtcdSettings) -> Result<Self, SettingsError> {
        if settings.endpoints.is_empty() {
            return Err(SettingsError::NoEndpoint);
        }
        let client = Arc::new(Client::new(&settings)?);
        Ok(Self { client })
    }

    /// Asks one member after the other. Only for what changes nothing when it is done twice.
    fn ask<T: Send + 'static, F>(
        &self,
        question: impl Fn(Arc<Client>) -> F + Send + 'static,
    ) -> Pending<Result<T, StoreError>>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let client = self.client.clone();
        Box::pin(async move {
            let mut tries = client.members();
            loop {
                tries -= 1;
                match question(client.clone())
                    .await
                    .map_err(|error| convert::error(&error))
                {
                    Err(StoreError::Unreachable(_)) if tries > 0 => {}
                    answer => return answer,
                }
            }
        })
    }
}

/// A list, begun again when a compaction has overtaken its revision.
async fn whole_list(client: Arc<Client>, above: Key) -> Result<Listing, Error> {
    let mut tries = 3;
    loop {
        tries -= 1;
        match pages(client.clone(), above.clone()).await {
            Err(error) if convert::code(&error) == Some(Code::OutOfRange) && tries > 0 => {}
            other => return other,
        }
    }
}

/// All pages of a list, at one revision.
async fn pages(client: Arc<Client>, above: Key) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let (mut from, range_end) = convert::below(&above);
    loop {
        let options = GetOptions::new()
            .with_range(range_end.clone())
            .with_limit(PAGE)
            .with_revision(convert::to_i64(listing.revision));
        let key = from.clone();
        let question = |connection: Connection| async move {
            let mut kv = client::kv(&connection);
            kv.get(key, Some(options)).await
        };
        let page = client.call(question).await?;
        if listing.revision == Revision::default() {
            listing.revision = convert::revision(page.header());
        }
        listing.entries.extend(page.kvs().iter().map(convert::entry));
        match page.kvs().last() {
            Some(last) if page.more() => {
                // The first key behind the last one.
                from = [last.key(), &[0]].concat();
            }
            _ => return Ok(listing),
        }
    }
}

/// Renews a lease; false when it is gone.
async fn keep_alive(client: Arc<Client>, lease: LeaseId) -> Result<bool, Error> {
    let question = |connection: Connection| async move {
        // The answer to the first renewal comes with the stream, which then ends.
        match client::lease(&connection).keep_alive(lease.0).await {
            Ok(_) => Ok(true),
            // So the library says that etcd answered with no time to live.
            Err(Error::LeaseKeepAliveError(_)) => Ok(false),
            Err(error) => Err(error),
        }
    };
    client.call(question).await
}

impl Store for EtcdStore {
    fn commit(&self, transaction: Transaction) -> Pending<Outcome> {
        let client = self.client.clone();
        Box::pin(async move {
            let question = convert::transaction(&transaction);
            let answer = client
                .call(|connection| async move { client::kv(&connection).txn(question).await })
                .await;
            match answer {
                Ok(answer) => convert::outcome(&answer),
                Err(error) => convert::failed(&transaction, &error),
            }
        })
    }

    fn get(&self, key: &Key) -> Pending<Result<Option<Entry>, StoreError>> {
        let key = key.clone();
        self.ask(move |client| {
            let key = key.clone();
            async move {
                let answer = client
                    .call(|connection| async move { client::kv(&connection).get(key.as_str(), None).await })
                    .await?;
                Ok(answer.kvs().first().map(convert::entry))
            }
        })
    }

    fn list(&self, above: &Key) -> Pending<Result<Listing, StoreError>> {
        let above = above.clone();
        self.ask(move |client| whole_list(client, above.clone()))
    }

    fn watch(&self, above: &Key, after: Revision) -> Box<dyn Watch> {
        Box::new(watch::EtcdWatch::new(self.client.clone(), above, after))
    }

    fn grant(&self, ttl: Duration) -> Pending<Result<Lease, StoreError>> {
        // Whole seconds; etcd raises what is below one and a half of its election timeout.
        let ttl = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        self.ask(move |client| async move {
            let answer = client
                .call(|connection| async move { client::lease(&connection).grant(ttl, None).await })
                .await?;
            let ttl = Duration::from_secs(u64::try_from(answer.ttl()).unwrap_or(0));
            Ok(Lease {
                id: LeaseId(answer.id()),
                ttl,
            })
        })
    }

    fn renew(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        let renewed = self.ask(move |client| keep_alive(client, lease));
        Box::pin(async move {
            match renewed.await? {
                true => Ok(()),
                false => Err(StoreError::LeaseGone(lease)),
            }
        })
    }

    fn revoke(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.ask(move |client| async move {
            let answer = client
                .call(|connection| async move { client::lease(&connection).revoke(lease.0).await })
                .await;
            match answer {
                Err(error) if convert::code(&error) == Some(Code::NotFound) => Ok(()),
                other => other.map(drop),
            }
        })
    }

    fn compact(&self, up_to: Revision) -> Pending<Result<(), StoreError>> {
        let revision = convert::to_i64(up_to);
        self.ask(move |client| async move {
            let answer = client
                .call(|connection| async move { client::kv(&connection).compact(revision, None).await })
                .await;
            match answer {
                // It is compacted further already.
                Err(error) if convert::code(&error) == Some(Code::OutOfRange) => Ok(()),
                other => other.map(drop),
            }
        })
    }
}
