//! Watches over a stream of etcd's.

use super::client::{self, Client};
use super::convert;
use crate::kv::{Key, Revision, Watch, Watched};
use etcd_client::{Error, Event, EventType, WatchOptions, WatchStream};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub(super) struct EtcdWatch {
    client: Arc<Client>,
    above: Key,
    /// Everything up to here was told.
    after: Revision,
    answers: Option<WatchStream>,
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

    async fn open(&self) -> Result<WatchStream, Error> {
        let (key, range_end) = convert::below(&self.above);
        // From the revision that was told already: a deletion at the very revision to which etcd has compacted is
        // not told any more, and only a watch from before that is.
        let options = WatchOptions::new()
            .with_range(range_end)
            .with_start_revision(convert::to_i64(self.after).max(1));
        let question = |connection| async move {
            let mut watches = client::watch(&connection);
            watches.watch(key, Some(options)).await
        };
        self.client.call(question).await
    }

    async fn receive(&mut self) -> Result<(), Watched> {
        let lost = |error: Error| Watched::Lost(convert::error(&error).to_string());
        if self.answers.is_none() {
            self.answers = Some(self.open().await.map_err(lost)?);
        }
        let Some(answers) = &mut self.answers else {
            return Ok(());
        };
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Watched::Lost("etcd ended the watch".to_owned())),
            Err(error) => {
                self.client.leave_member();
                return Err(lost(error));
            }
        };
        if answer.compact_revision() != 0 {
            return Err(Watched::Compacted);
        }
        if answer.canceled() {
            return Err(Watched::Lost(answer.cancel_reason().to_owned()));
        }
        self.sort(answer.events());
        Ok(())
    }

    /// Events come in the order of revisions; those of one revision belong together.
    fn sort(&mut self, events: &[Event]) {
        for event in events {
            let deleted = event.event_type() == EventType::Delete;
            let Some(kv) = event.kv() else { continue };
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
