//! What jobs are asked under a trigger id: savepoints, stops, checkpoints. Each is in the store before anybody is answered, is obeyed by
//! whoever runs the job, is done once, and ends with an outcome that is in the store as well.

use super::brain::DispatcherEvent;
use super::durable::{Durable, NotWritten, insist};
use super::processes::DispatcherCall;
use super::shell::{Answer, Dispatcher, DispatcherInput};
use super::writes::{Write, Written, write};
use crate::config::CheckpointKind;
use crate::error::ClusterError;
use crate::job_master::{CheckpointCall, JobMasterEvent, SavepointCall, TakenCheckpoint};
use hurtig_core::ids::JobId;
use hurtig_dataflow::chain::StopMode;
use hurtig_ha::records::{
    EpochToken, Failure, Intent, IntentOutcome, IntentRecord, JobIntent, ResultRecord, Token, cancels,
    outcome_of,
};
use hurtig_kit::{Reply, ShellCx};
use hurtig_storage::SavepointFormat;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

/// Requests of one job that may be open at once.
const MAX_OPEN: usize = 100;
/// Requests of one job that are remembered.
const MAX_REMEMBERED: usize = 200;
/// How long a JobMaster is left alone that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
type Cx<'a, 'b> = &'a mut ShellCx<'b, Dispatcher>;

/// What a JobMaster has said of what it was asked.
pub(crate) enum Obeyed {
    /// It is done, or will not be.
    Over(IntentOutcome),
    /// Nobody has answered.
    Nothing,
}

/// What is said to who asks for the same again.
pub(crate) enum Asked {
    Anew,
    Before,
}

impl Durable {
    /// It is in the store when this returns. Whoever asks under the same trigger id again asks for the same.
    pub(super) async fn intend(&self, job: JobId, asked: &JobIntent) -> Result<Asked, NotWritten> {
        let intended = insist("a request", job, async || {
            let known = self.records.intents(job).await?;
            if known.contains_key(&asked.trigger) {
                return Ok(Ok(Asked::Before));
            }
            let open = known.values().filter(|known| known.outcome.is_none()).count();
            if open >= MAX_OPEN {
                return Ok(Err(open));
            }
            if known.len() >= MAX_REMEMBERED {
                self.forget_oldest(job, &known).await?;
            }
            match self.records.intend(&self.leader, job, asked).await {
                // Somebody has asked for something else under it since.
                Err(Failure::Conflict(_)) if self.records.intent(job, &asked.trigger).await?.is_some() => {
                    Ok(Ok(Asked::Before))
                }
                intended => intended.map(|()| Ok(Asked::Anew)),
            }
        });
        intended.await?.map_err(|open| NotWritten::TooMany { job, open })
    }

    async fn forget_oldest(&self, job: JobId, known: &BTreeMap<String, IntentRecord>) -> Result<(), Failure> {
        let over = known.iter().filter(|(_, record)| !cancels(record));
        let over = over.filter_map(|(trigger, record)| Some((record.outcome.as_ref()?.at_ms, trigger)));
        if let Some((_, oldest)) = over.min() {
            self.records
                .forget_intent(&self.leader, job, oldest, i64::MAX)
                .await?;
        }
        Ok(())
    }

    /// What has come of it is in the store when this returns. The first outcome stays.
    pub(super) async fn answer(
        &self,
        token: Option<EpochToken>,
        (job, trigger): (JobId, &str),
        outcome: &IntentOutcome,
    ) -> Result<(), NotWritten> {
        let right: &dyn Token = match &token {
            Some(token) => token,
            None => &self.leader,
        };
        let answered = insist("an outcome", job, async || {
            self.records.answer_intent(right, (job, trigger), outcome).await
        });
        Ok(answered.await?)
    }

    /// What was asked of a job under a trigger id, and what has come of it so far; `None`: nothing was, or it is forgotten.
    ///
    /// # Errors
    /// When the store does not answer, or is not understood.
    pub(crate) async fn asked(
        &self,
        job: JobId,
        trigger: &str,
    ) -> Result<Option<(IntentRecord, Option<IntentOutcome>)>, Failure> {
        // The intent first: it is there as long as the result is.
        let Some(record) = self.records.intent(job, trigger).await? else {
            return Ok(None);
        };
        let ended = match record.outcome {
            Some(_) => None,
            None => {
                let key = self.records.keys().result(job);
                self.records.read::<ResultRecord>(&key).await?
            }
        };
        let outcome = outcome_of(&record, ended.as_ref().map(|ended| &ended.value));
        Ok(Some((record, outcome)))
    }
}

impl Dispatcher {
    /// Somebody asks something of a job. Answered when it is in the store.
    pub(super) fn intend(&mut self, job: JobId, asked: JobIntent, answer: Answer<()>, cx: Cx<'_, '_>) {
        let known = self.job(job).map(|known| known.digests.is_some());
        match (known, self.brain.status(job)) {
            (Some(false), _) => return answer.send(Err(ClusterError::NoMaster(job))),
            (None, Err(unknown)) => return answer.send(Err(unknown)),
            _ => {}
        }
        let Some(processes) = &self.setup.processes else {
            return answer.send(Err(ClusterError::UnknownJob(job)));
        };
        let durable = processes.durable.clone();
        let written = asked.clone();
        let intended = async move { durable.intend(job, &written).await };
        write(
            job,
            intended,
            |outcome| Written::Intended(asked, answer, outcome),
            cx,
        );
    }

    pub(super) fn on_intended(
        &mut self,
        job: JobId,
        (asked, answer): (JobIntent, Answer<()>),
        outcome: Result<Asked, NotWritten>,
        cx: Cx<'_, '_>,
    ) {
        match outcome {
            Ok(Asked::Before) => answer.send(Ok(())),
            Ok(Asked::Anew) => {
                tracing::info!(%job, trigger = asked.trigger, intent = ?asked.intent, "asked");
                answer.send(Ok(()));
                let trigger = asked.trigger.clone();
                if let Some(known) = self.job(job) {
                    known.open.insert(trigger.clone(), asked);
                }
                self.obey(job, &trigger, cx);
            }
            Err(NotWritten::Record(Failure::Ended(_))) => {
                if self.job(job).is_some() {
                    self.write(job, Write::Learn, cx);
                }
                let status = self.brain.status(job);
                answer.send(Err(match status {
                    Ok(status) if status.is_globally_terminal() => ClusterError::Ended { job, status },
                    _ => ClusterError::NotRecorded {
                        job,
                        cause: "it has ended".to_owned(),
                    },
                }));
            }
            Err(NotWritten::Record(Failure::NoJob(_))) => answer.send(Err(ClusterError::UnknownJob(job))),
            Err(error) => {
                let cause = error.to_string();
                answer.send(Err(ClusterError::NotRecorded { job, cause }));
            }
        }
    }

    /// Has the job's JobMaster do what was asked. One that was told before does it once; one that comes later is told then.
    pub(super) fn obey(&mut self, job: JobId, trigger: &str, cx: Cx<'_, '_>) {
        let Some(known) = self.job(job) else { return };
        let (Some(asked), Some(epoch)) = (known.open.get(trigger).cloned(), known.lives.epoch()) else {
            return;
        };
        let Ok(outbox) = self.running(job) else { return };
        let trigger = asked.trigger;
        let over = move |trigger: String, obeyed| {
            DispatcherInput::Processes(DispatcherCall::Obeyed((job, epoch), trigger, obeyed))
        };
        match asked.intent {
            Intent::Checkpoint { form } => {
                let call = CheckpointCall {
                    job,
                    kind: kind_of(&form),
                    trigger: Some(trigger.clone()),
                };
                let (reply, taken) = Reply::new();
                outbox.send(JobMasterEvent::Checkpoint(call, reply));
                cx.drive(taken, move |taken| {
                    let said = taken.ok().and_then(Result::ok);
                    over(
                        trigger,
                        obeyed(said, |outcome, taken: TakenCheckpoint| {
                            outcome.checkpoint = Some(taken.id);
                        }),
                    )
                });
            }
            intent => {
                let Some(call) = savepoint_of(job, intent, trigger.clone()) else {
                    return;
                };
                let (reply, taken) = Reply::new();
                outbox.send(JobMasterEvent::Savepoint(call, reply));
                cx.drive(taken, move |taken| {
                    let said = taken.ok().and_then(Result::ok);
                    over(
                        trigger,
                        obeyed(said, |outcome, path: String| outcome.location = Some(path)),
                    )
                });
            }
        }
    }

    /// All that was asked of a job and is not done yet, told to a JobMaster that has claimed it.
    pub(super) fn obey_all(&mut self, job: JobId, open: BTreeMap<String, IntentRecord>, cx: Cx<'_, '_>) {
        let Some(known) = self.job(job) else { return };
        for (trigger, record) in open {
            let asked = JobIntent {
                trigger: trigger.clone(),
                intent: record.intent,
                asked_ms: record.asked_ms,
            };
            known.open.insert(trigger, asked);
        }
        let mut order: Vec<(i64, String)> = known
            .open
            .values()
            .map(|asked| (asked.asked_ms, asked.trigger.clone()))
            .collect();
        order.sort();
        for (_, trigger) in order {
            self.obey(job, &trigger, cx);
        }
    }

    pub(super) fn on_obeyed(
        &mut self,
        (job, epoch): (JobId, NonZeroU64),
        trigger: String,
        obeyed: Obeyed,
        cx: Cx<'_, '_>,
    ) {
        let wall_ms = self.wall_ms;
        let Some(known) = self.job(job) else {
            return self.answer_late(job, trigger, obeyed, cx);
        };
        let current = known.lives.epoch() == Some(epoch) && known.lives.is_claimed();
        match obeyed {
            Obeyed::Nothing if current => {
                let again = DispatcherCall::Obey(job, trigger);
                cx.after(PAUSE, DispatcherInput::Processes(again));
            }
            Obeyed::Nothing => {}
            Obeyed::Over(mut outcome) => {
                outcome.at_ms = wall_ms;
                let stops = known.open.get(&trigger);
                let stops = stops.is_none_or(|asked| matches!(asked.intent, Intent::Stop { .. }));
                // A stop whose savepoint is recorded ends as the job does; before that it can only fail.
                let counts = match stops {
                    true => current && !known.stopped && outcome.error.is_some(),
                    // What is there is there, whoever has taken it.
                    false => current || outcome.error.is_none(),
                };
                if counts {
                    self.write(job, Write::Answer(trigger, outcome, epoch), cx);
                }
            }
        }
    }

    /// The job has ended meanwhile.
    fn answer_late(&self, job: JobId, trigger: String, obeyed: Obeyed, cx: Cx<'_, '_>) {
        let (Obeyed::Over(mut outcome), Some(processes)) = (obeyed, &self.setup.processes) else {
            return;
        };
        outcome.at_ms = self.wall_ms;
        let durable = processes.durable.clone();
        cx.detach(async move {
            if let Err(error) = durable.answer(None, (job, &trigger), &outcome).await {
                tracing::debug!(%job, trigger, %error, "what came of it follows from the job's end");
            }
        });
    }

    pub(super) fn on_answered(
        &mut self,
        job: JobId,
        (trigger, outcome): (String, IntentOutcome),
        written: Result<(), NotWritten>,
        cx: Cx<'_, '_>,
    ) {
        match written {
            Ok(()) => self.on_done(job, (&trigger, &outcome), cx),
            // Whoever has the job now does it.
            Err(NotWritten::Record(Failure::Fenced { .. })) => {}
            Err(error) => tracing::error!(%job, trigger, %error, "what came of it is not recorded"),
        }
    }

    /// What came of it is in the store. A savepoint may be what a job waits for to be cancelled.
    fn on_done(&mut self, job: JobId, (trigger, outcome): (&str, &IntentOutcome), cx: Cx<'_, '_>) {
        tracing::info!(%job, trigger, ?outcome, "done");
        let asked = self.job(job).and_then(|known| known.open.remove(trigger));
        let intent = asked.map(|asked| asked.intent);
        let cancels = matches!(intent, Some(Intent::Savepoint { cancel: true, .. }));
        if !cancels || outcome.location.is_none() {
            return;
        }
        // One that has ended meanwhile needs not be cancelled.
        if self.decide(DispatcherEvent::Cancel(job)).is_ok() {
            self.end_cancelled(cx);
        }
    }
}

/// What an answer says of what was asked.
fn obeyed<T>(said: Option<Result<T, ClusterError>>, note: impl FnOnce(&mut IntentOutcome, T)) -> Obeyed {
    let mut outcome = IntentOutcome::default();
    match said {
        Some(Ok(taken)) => note(&mut outcome, taken),
        Some(Err(ClusterError::Savepoint { cause, .. } | ClusterError::Checkpoint { cause, .. })) => {
            outcome.error = Some(cause.chars().take(MAX_CAUSE).collect());
        }
        Some(Err(_)) | None => return Obeyed::Nothing,
    }
    Obeyed::Over(outcome)
}

/// Characters of a cause that are kept.
const MAX_CAUSE: usize = 1_000;

fn savepoint_of(job: JobId, intent: Intent, trigger: String) -> Option<SavepointCall> {
    let (dir, format, stop) = match intent {
        Intent::Savepoint {
            directory, format, ..
        } => (directory, format, None),
        Intent::Stop {
            directory,
            drain,
            format,
        } => {
            let mode = if drain { StopMode::Drain } else { StopMode::Suspend };
            (directory, format, Some(mode))
        }
        _ => return None,
    };
    Some(SavepointCall {
        job,
        dir,
        stop,
        format: format.as_deref().and_then(format_of),
        trigger: Some(trigger),
    })
}

fn format_of(name: &str) -> Option<SavepointFormat> {
    match name {
        "CANONICAL" => Some(SavepointFormat::Canonical),
        "NATIVE" => Some(SavepointFormat::Native),
        _ => None,
    }
}

fn kind_of(name: &str) -> CheckpointKind {
    match name {
        "FULL" => CheckpointKind::Full,
        "INCREMENTAL" => CheckpointKind::Incremental,
        _ => CheckpointKind::Configured,
    }
}
