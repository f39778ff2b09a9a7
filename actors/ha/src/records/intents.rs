//! What jobs were asked to do: written before the asker is answered, never taken back.

use super::codec::Stored;
use super::error::Failure;
use super::keys::is_part;
use super::model::{FinalStatus, Intent, IntentOutcome, IntentRecord, ResultRecord, TakenSavepoint};
use super::tokens::{LeaderToken, Token};
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
        Intent::Savepoint { .. } | Intent::Checkpoint { .. } | Intent::Unknown => None,
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

/// Whether it means that the job is cancelled: by itself, or once its savepoint was there.
#[must_use]
pub fn cancels(record: &IntentRecord) -> bool {
    let taken = record
        .outcome
        .as_ref()
        .is_some_and(|outcome| outcome.location.is_some());
    match record.intent {
        Intent::Cancel => true,
        Intent::Savepoint { cancel, .. } => cancel && taken,
        _ => false,
    }
}

/// What came of an intent of a job: what was recorded, and of a job that has ended what follows from that. A stop whose savepoint is recorded ends
/// with the job, without another record.
#[must_use]
pub fn outcome_of(record: &IntentRecord, ended: Option<&ResultRecord>) -> Option<IntentOutcome> {
    if record.outcome.is_some() {
        return record.outcome.clone();
    }
    let ResultRecord { status, ended_ms, .. } = ended?;
    let how = match status {
        FinalStatus::Finished => "FINISHED",
        FinalStatus::Canceled => "CANCELED",
        FinalStatus::Failed => "FAILED",
    };
    let failed = |error: String| IntentOutcome {
        at_ms: *ended_ms,
        error: Some(error),
        ..IntentOutcome::default()
    };
    Some(match (&record.intent, &record.taken) {
        (Intent::Cancel, _) => IntentOutcome {
            at_ms: *ended_ms,
            ..IntentOutcome::default()
        },
        (_, Some(taken)) if *status == FinalStatus::Finished => IntentOutcome {
            at_ms: *ended_ms,
            location: Some(taken.location.clone()),
            ..IntentOutcome::default()
        },
        (_, Some(TakenSavepoint { location, .. })) => failed(format!(
            "the savepoint '{location}' is complete, and what it holds may not be committed, because the job was {how} then; a \
             job that is restored from it commits it"
        )),
        (_, None) => failed(format!("the job has ended before it was done: {how}")),
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
            taken: None,
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

    /// Records what came of an intent. The first outcome stays. While the job has a JobMaster, that one's token is the right to say
    /// so; when it has ended, the leader's is.
    ///
    /// # Errors
    /// [`Failure::Fenced`]; [`Failure::Conflict`] when there is no such intent.
    pub async fn answer_intent(
        &self,
        token: &dyn Token,
        (job, trigger): (JobId, &str),
        outcome: &IntentOutcome,
    ) -> Result<(), Failure> {
        let key = self.keys.intents(job).join(trigger);
        let no_intent = || Failure::Conflict(format!("nothing was asked of job {job} as {trigger}"));
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

    /// An intent, with what has come of it so far.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn intent(&self, job: JobId, trigger: &str) -> Result<Option<IntentRecord>, Failure> {
        let found = self
            .read::<IntentRecord>(&self.keys.intents(job).join(trigger))
            .await?;
        Ok(found.map(|found| found.value))
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

    /// Forgets all that a job was asked that has ended before `before_ms`; how much there was.
    ///
    /// # Errors
    /// When the leader may not write.
    pub async fn forget_intents(
        &self,
        leader: &LeaderToken,
        job: JobId,
        before_ms: i64,
    ) -> Result<usize, Failure> {
        let result = self.read::<ResultRecord>(&self.keys.result(job)).await?;
        if result.is_none_or(|result| result.value.ended_ms >= before_ms) {
            return Ok(0);
        }
        let listing = self.store.list(&self.keys.intents(job)).await?;
        for entry in &listing.entries {
            let write = Write::under(leader)
                .when(Guard::Unchanged(entry.key.clone(), entry.modified))
                .delete(entry.key.clone());
            self.write_unraced(write).await?;
        }
        Ok(listing.entries.len())
    }

    /// Forgets an intent that was answered before `before_ms`; whether it was. One that means that the job is cancelled is kept as
    /// long as the job.
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
        if cancels(&seen.value) || answered.is_none_or(|outcome| outcome.at_ms >= before_ms) {
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
            taken: None,
        }
    }

    fn rescale() -> Intent {
        Intent::Rescale {
            parallelism: BTreeMap::new(),
        }
    }

    fn savepoint() -> Intent {
        Intent::Savepoint {
            directory: None,
            format: None,
            cancel: true,
        }
    }

    fn stop() -> Intent {
        Intent::Stop {
            directory: None,
            drain: false,
            format: None,
        }
    }

    #[test]
    fn a_cancel_comes_before_a_stop_before_the_latest_rescale() {
        let mut intents: BTreeMap<String, IntentRecord> = [
            ("a".into(), record(rescale(), 1)),
            ("b".into(), record(rescale(), 2)),
            ("c".into(), record(savepoint(), 9)),
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
            ..IntentOutcome::default()
        });
        assert_eq!(effective(&[("a".into(), answered)].into()), None);
    }
}
