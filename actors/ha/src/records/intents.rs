//! What jobs were asked to do: written before the asker is answered, never taken back.

use super::codec::Stored;
use super::error::Failure;
use super::keys::is_part;
use super::model::{Intent, IntentOutcome, IntentRecord};
use super::tokens::{EpochToken, LeaderToken};
use super::{Records, Write, Written};
use crate::kv::Guard;
use hurtig_core::ids::JobId;
use std::collections::BTreeMap;

/// An intent with its trigger id.
#[derive(Clone, Debug, PartialEq)]
pub struct JobIntent {
    /// The trigger id.
    pub trigger: String,
    /// What was asked.
    pub intent: Intent,
    /// When, in milliseconds since 1970.
    pub asked_ms: i64,
}

/// What a job must obey first: a cancel before a stop before the latest rescale. Savepoints are taken by the way.
#[must_use]
pub fn effective(intents: &BTreeMap<String, IntentRecord>) -> Option<JobIntent> {
    let rank = |intent: &Intent| match intent {
        Intent::Cancel => Some(3),
        Intent::Stop { .. } => Some(2),
        Intent::Rescale { .. } => Some(1),
        Intent::Savepoint { .. } | Intent::Unknown => None,
    };
    let open = intents.iter().filter(|(_, record)| record.outcome.is_none());
    let ranked = open.filter_map(|(trigger, record)| Some((rank(&record.intent)?, trigger, record)));
    // Of stops the first, of rescales the latest.
    let (.., trigger, record) = ranked.max_by_key(|(rank, _, record)| {
        let asked = if *rank == 1 {
            record.asked_ms
        } else {
            -record.asked_ms
        };
        (*rank, asked)
    })?;
    Some(JobIntent {
        trigger: trigger.clone(),
        intent: record.intent.clone(),
        asked_ms: record.asked_ms,
    })
}

impl Records {
    /// Records what a job was asked, before the asker is answered. The same trigger id again with the same intent changes nothing. When the
    /// outcome is unknown, ask again.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when the trigger id is that of another intent, or no part of a key; [`Failure::NoJob`],
    /// [`Failure::Ended`].
    pub async fn intend(&self, leader: &LeaderToken, job: JobId, asked: &JobIntent) -> Result<(), Failure> {
        if !is_part(&asked.trigger) {
            let wrong = format!(
                "`{}` is no trigger id: letters, digits, `-`, `_` and `.` are",
                asked.trigger
            );
            return Err(Failure::Conflict(wrong));
        }
        let key = self.keys.intents(job).join(&asked.trigger);
        let record = IntentRecord {
            intent: asked.intent.clone(),
            asked_ms: asked.asked_ms,
            outcome: None,
        };
        let write = self.of_a_job(Write::under(leader), job).create(&key, &record)?;
        let seen = match self.write(write).await? {
            Written::At(_) => return Ok(()),
            Written::Refused(seen) => seen,
        };
        match super::jobs::read_in::<IntentRecord>(&seen, &key)? {
            Some(there) if there.value.intent == asked.intent => Ok(()),
            Some(_) => Err(Failure::Conflict(format!(
                "trigger id {} is that of another request",
                asked.trigger
            ))),
            None => Err(self.no_job(job, &seen, &key)),
        }
    }

    /// Records what came of an intent. The first outcome stays.
    ///
    /// # Errors
    /// [`Failure::Fenced`]; [`Failure::Conflict`] when there is no such intent.
    pub async fn answer_intent(
        &self,
        token: &EpochToken,
        trigger: &str,
        outcome: &IntentOutcome,
    ) -> Result<(), Failure> {
        let key = self.keys.intents(token.job).join(trigger);
        let no_intent = || Failure::Conflict(format!("nothing was asked of job {} as {trigger}", token.job));
        let seen = self.read::<IntentRecord>(&key).await?.ok_or_else(no_intent)?;
        if seen.value.outcome.is_some() {
            return Ok(());
        }
        let answered = IntentRecord {
            outcome: Some(outcome.clone()),
            ..seen.value.clone()
        };
        let write = Write::under(token).replace(&key, Some(&seen), &answered)?;
        self.write_unraced(write).await.map(drop)
    }

    /// All that a job was asked, by trigger id.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn intents(&self, job: JobId) -> Result<BTreeMap<String, IntentRecord>, Failure> {
        let listing = self.store.list(&self.keys.intents(job)).await?;
        let read =
            |entry: &crate::kv::Entry| Ok((entry.key.last_part().to_owned(), Stored::read(entry)?.value));
        listing.entries.iter().map(read).collect()
    }

    /// Forgets an intent that was answered before `before_ms`; whether it was.
    ///
    /// # Errors
    /// When the leader may not write.
    pub async fn forget_intent(
        &self,
        leader: &LeaderToken,
        job: JobId,
        trigger: &str,
        before_ms: i64,
    ) -> Result<bool, Failure> {
        let key = self.keys.intents(job).join(trigger);
        let Some(seen) = self.read::<IntentRecord>(&key).await? else {
            return Ok(false);
        };
        let answered = seen.value.outcome.as_ref();
        if answered.is_none_or(|outcome| outcome.at_ms >= before_ms) {
            return Ok(false);
        }
        let write = Write::under(leader)
            .when(Guard::Unchanged(key.clone(), seen.modified))
            .delete(key);
        self.write_unraced(write).await.map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(intent: Intent, asked_ms: i64) -> IntentRecord {
        IntentRecord {
            intent,
            asked_ms,
            outcome: None,
        }
    }

    fn rescale() -> Intent {
        Intent::Rescale {
            parallelism: BTreeMap::new(),
        }
    }

    fn stop() -> Intent {
        Intent::Stop {
            directory: None,
            drain: false,
        }
    }

    #[test]
    fn a_cancel_comes_before_a_stop_before_the_latest_rescale() {
        let mut intents: BTreeMap<String, IntentRecord> = [
            ("a".into(), record(rescale(), 1)),
            ("b".into(), record(rescale(), 2)),
            ("c".into(), record(Intent::Savepoint { directory: None }, 9)),
        ]
        .into();
        let trigger = |intents: &BTreeMap<_, _>| effective(intents).map(|intent| intent.trigger);
        assert_eq!(trigger(&intents).as_deref(), Some("b"));
        intents.insert("d".into(), record(stop(), 3));
        intents.insert("e".into(), record(stop(), 4));
        assert_eq!(trigger(&intents).as_deref(), Some("d"));
        intents.insert("f".into(), record(Intent::Cancel, 5));
        assert_eq!(trigger(&intents).as_deref(), Some("f"));
    }

    #[test]
    fn what_was_answered_is_not_obeyed_again() {
        let mut answered = record(rescale(), 1);
        answered.outcome = Some(IntentOutcome {
            at_ms: 2,
            location: None,
            error: None,
        });
        assert_eq!(effective(&[("a".into(), answered)].into()), None);
    }
}
