//! `etcd`: the store that several machines share.
//!
//! It promises that no call is without end, that an answer that did not come is an unknown outcome, and that a watch that has
//! missed something says so. It refuses to decide anything: it moves messages.

mod client;
mod convert;
mod messages;
mod settings;
mod watch;

pub use settings::{EtcdSettings, SettingsError};

use crate::kv::{
    Entry, Key, Lease, LeaseId, Listing, Outcome, Pending, Revision, Store, StoreError, Transaction, Watch,
};
use client::Client;
use messages::{
    CompactionRequest, Empty, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseRequest,
    RangeRequest, RangeResponse, TxnResponse,
};
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

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
        let client = Arc::new(Client::new(settings)?);
        Ok(Self { client })
    }

    /// Asks one endpoint after the other. Only for what changes nothing when it is done twice.
    fn ask<T: Send + 'static, F>(
        &self,
        question: impl Fn(Arc<Client>) -> F + Send + 'static,
    ) -> Pending<Result<T, StoreError>>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        let client = self.client.clone();
        Box::pin(async move {
            let mut tries = client.endpoints();
            loop {
                tries -= 1;
                match question(client.clone())
                    .await
                    .map_err(|status| convert::error(&status))
                {
                    Err(StoreError::Unreachable(_)) if tries > 0 => {}
                    answer => return answer,
                }
            }
        })
    }
}

/// A list, begun again when a compaction has overtaken its revision.
async fn whole_list(client: Arc<Client>, above: Key) -> Result<Listing, Status> {
    let mut tries = 3;
    loop {
        tries -= 1;
        match pages(client.clone(), above.clone()).await {
            Err(status) if status.code() == Code::OutOfRange && tries > 0 => {}
            other => return other,
        }
    }
}

/// All pages of a list, at one revision.
async fn pages(client: Arc<Client>, above: Key) -> Result<Listing, Status> {
    let mut listing = Listing::default();
    let (mut from, range_end) = convert::below(&above);
    loop {
        let question = RangeRequest {
            key: from,
            range_end: range_end.clone(),
            limit: PAGE,
            revision: convert::to_i64(listing.revision),
        };
        let page: RangeResponse = client.call(RANGE, question).await?;
        if listing.revision == Revision::default() {
            listing.revision = convert::revision(page.header.as_ref());
        }
        let last = page.kvs.last().map(|kv| kv.key.clone());
        listing.entries.extend(page.kvs.into_iter().map(convert::entry));
        match last {
            Some(mut last) if page.more => {
                // The first key behind the last one.
                last.push(0);
                from = last;
            }
            _ => return Ok(listing),
        }
    }
}

async fn keep_alive(client: Arc<Client>, lease: LeaseId) -> Result<i64, Status> {
    let question = futures_util::stream::once(ready(LeaseRequest { id: lease.0 }));
    let mut answers = client
        .stream::<_, LeaseKeepAliveResponse>(KEEP_ALIVE, question)
        .await?;
    let answer = client
        .within(answers.message())
        .await
        .inspect_err(|_| client.leave_endpoint())?;
    answer
        .map(|answer| answer.ttl)
        .ok_or_else(|| Status::unavailable("etcd ended the renewal"))
}

impl Store for EtcdStore {
    fn commit(&self, transaction: Transaction) -> Pending<Outcome> {
        let client = self.client.clone();
        Box::pin(async move {
            let question = convert::transaction(&transaction);
            match client.call::<_, TxnResponse>(TXN, question).await {
                Ok(answer) => convert::outcome(answer),
                Err(status) => convert::failed(&transaction, &status),
            }
        })
    }

    fn get(&self, key: &Key) -> Pending<Result<Option<Entry>, StoreError>> {
        let key = key.as_str().as_bytes().to_vec();
        self.ask(move |client| {
            let question = RangeRequest {
                key: key.clone(),
                ..RangeRequest::default()
            };
            async move {
                let answer: RangeResponse = client.call(RANGE, question).await?;
                Ok(answer.kvs.into_iter().next().map(convert::entry))
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
            let answer: LeaseGrantResponse = client.call(GRANT, LeaseGrantRequest { ttl }).await?;
            let ttl = Duration::from_secs(u64::try_from(answer.ttl).unwrap_or(0));
            Ok(Lease {
                id: LeaseId(answer.id),
                ttl,
            })
        })
    }

    fn renew(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        let renewed = self.ask(move |client| keep_alive(client, lease));
        Box::pin(async move {
            // A lease that is gone is answered, with no time to live.
            let gone = renewed.await? <= 0;
            if gone {
                Err(StoreError::LeaseGone(lease))
            } else {
                Ok(())
            }
        })
    }

    fn revoke(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.ask(move |client| async move {
            match client
                .call::<_, Empty>(REVOKE, LeaseRequest { id: lease.0 })
                .await
            {
                Err(status) if status.code() == Code::NotFound => Ok(()),
                other => other.map(drop),
            }
        })
    }

    fn compact(&self, up_to: Revision) -> Pending<Result<(), StoreError>> {
        let revision = convert::to_i64(up_to);
        self.ask(move |client| async move {
            match client
                .call::<_, Empty>(COMPACT, CompactionRequest { revision })
                .await
            {
                // It is compacted further already.
                Err(status) if status.code() == Code::OutOfRange => Ok(()),
                other => other.map(drop),
            }
        })
    }
}
