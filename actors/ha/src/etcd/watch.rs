//! Watches over a stream of etcd's.

use super::client::Client;
use super::convert;
use super::messages::{Event, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::kv::{Key, Revision, Watch, Watched};
use futures_util::StreamExt;
use std::collections::VecDeque;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use tonic::{Status, Streaming};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const DELETED: i32 = 1;

pub(super) struct EtcdWatch {
    client: Arc<Client>,
    above: Key,
    /// Everything up to here was told.
    after: Revision,
    answers: Option<Streaming<WatchResponse>>,
    waiting: VecDeque<Watched>,
}

impl EtcdWatch {
    pub(super) fn new(client: Arc<Client>, above: &Key, after: Revision) -> Self {
        Self {
            client,
            above: above.clone(),
            after,
            answers: None,
            waiting: VecDeque::new(),
        }
    }

    async fn open(&self) -> Result<Streaming<WatchResponse>, Status> {
        let (key, range_end) = convert::below(&self.above);
        // From the revision that was told already: a deletion at the very revision to which etcd has compacted is
        // not told any more, and only a watch from before that is.
        let start_revision = convert::to_i64(self.after).max(1);
        let create = Some(WatchCreateRequest {
            key,
            range_end,
            start_revision,
        });
        // The watch lasts as long as the questions do.
        let questions =
            futures_util::stream::once(ready(WatchRequest { create })).chain(futures_util::stream::pending());
        self.client.stream(WATCH, questions).await
    }

    async fn receive(&mut self) -> Result<(), Watched> {
        let lost = |status: Status| Watched::Lost(format!("{}: {}", status.code(), status.message()));
        if self.answers.is_none() {
            self.answers = Some(self.open().await.map_err(lost)?);
        }
        let Some(answers) = &mut self.answers else {
            return Ok(());
        };
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Watched::Lost("etcd ended the watch".to_owned())),
            Err(status) => {
                self.client.leave_endpoint();
                return Err(lost(status));
            }
        };
        if answer.compact_revision != 0 {
            return Err(Watched::Compacted);
        }
        if answer.canceled {
            return Err(Watched::Lost(answer.cancel_reason));
        }
        self.sort(answer.events);
        Ok(())
    }

    /// Events come in the order of revisions; those of one revision belong together.
    fn sort(&mut self, events: Vec<Event>) {
        for event in events {
            let deleted = event.kind == DELETED;
            let Some(kv) = event.kv else { continue };
            let entry = convert::entry(kv);
            let at = entry.modified;
            if at <= self.after {
                continue;
            }
            let change = (entry.key.clone(), (!deleted).then_some(entry));
            match self.waiting.back_mut() {
                Some(Watched::Changed(revision, changes)) if *revision == at => changes.push(change),
                _ => self.waiting.push_back(Watched::Changed(at, vec![change])),
            }
        }
    }
}

impl Watch for EtcdWatch {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Watched> + Send + '_>> {
        Box::pin(async move {
            loop {
                if let Some(watched) = self.waiting.pop_front() {
                    if let Watched::Changed(revision, _) = &watched {
                        self.after = self.after.max(*revision);
                    }
                    return watched;
                }
                if let Err(end) = self.receive().await {
                    return end;
                }
            }
        })
    }
}
