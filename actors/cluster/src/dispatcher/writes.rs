//! What is written down about a job: one thing at a time, in the order in which it was decided.

use super::durable::{Archive, Begins, Digests, Durable, NotWritten, archive_of};
use super::intents::Asked;
use super::processes::{DispatcherCall, Job};
use super::shell::{Answer, Dispatcher, DispatcherInput, Submitted};
use crate::error::ClusterError;
use crate::process::placement::ProcessEvent;
use crate::result::JobResult;
use crate::wire::{BeginEnd, Claim, ClaimJob, RecordCheckpoint};
use hurtig_core::ids::{CheckpointId, JobId};
use hurtig_dataflow::graph::Requirements;
use hurtig_ha::records::{EpochToken, Failure, IntentOutcome, JobIntent, ProcessExit};
use hurtig_kit::{Panicked, ShellCx};
use hurtig_rpc::{Call, FenceError, RpcError, Stamp};
use std::num::NonZeroU64;
use std::time::Duration;

/// How long nothing is tried after the store has refused what it should take.
const PAUSE: Duration = Duration::from_secs(10);

/// What is to be written.
pub(crate) enum Write {
    /// The job is there.
    Admit,
    /// It gets a JobMaster, after one has ended so.
    Raise(Option<ProcessExit>),
    /// Between which bounds its vertices run.
    Require(Requirements, Answer<()>),
    /// A process is its JobMaster.
    Claim(Call<ClaimJob>),
    /// A checkpoint is complete.
    Record(Call<RecordCheckpoint>),
    /// It comes to an end, and what it has stored is deleted.
    BeginEnd(Call<BeginEnd>),
    /// Its JobMaster, which has this right, says how it has ended.
    Finish(Box<JobResult>, EpochToken),
    /// It ends without a JobMaster.
    End(Box<JobResult>),
    /// It has ended already: how is to be found out.
    Learn,
    /// What has come of what it was asked under a trigger id, as its JobMaster in this epoch says.
    Answer(String, IntentOutcome, NonZeroU64),
}

/// What came of it.
pub(crate) enum Written {
    Admitted(Result<Digests, NotWritten>),
    Raised(Result<EpochToken, NotWritten>),
    Claimed(Call<ClaimJob>, Result<Begins, NotWritten>),
    Recorded(Call<RecordCheckpoint>, Result<CheckpointId, NotWritten>),
    EndBegun(Call<BeginEnd>, Result<(), NotWritten>),
    Finished(Box<JobResult>, Option<EpochToken>, Result<(), NotWritten>),
    Learned(Result<JobResult, NotWritten>),
    Cancelled(Answer<()>, Result<(), NotWritten>),
    Intended(JobIntent, Answer<()>, Result<Asked, NotWritten>),
    Answered((String, IntentOutcome), Result<(), NotWritten>),
    Required(Requirements, Answer<()>, Result<(), NotWritten>),
}

fn settled<T>(outcome: Result<Result<T, NotWritten>, Panicked>) -> Result<T, NotWritten> {
    outcome.unwrap_or_else(|Panicked { message }| Err(Failure::Internal(message).into()))
}

type Cx<'a, 'b> = &'a mut ShellCx<'b, Dispatcher>;

/// Writes, beside the actor; what came of it is its next event.
pub(super) fn write<T: 'static>(
    job: JobId,
    work: impl Future<Output = Result<T, NotWritten>> + 'static,
    then: impl FnOnce(Result<T, NotWritten>) -> Written + 'static,
    cx: Cx<'_, '_>,
) {
    cx.drive(work, move |outcome| {
        let written = Box::new(then(settled(outcome)));
        DispatcherInput::Processes(DispatcherCall::Written(job, written))
    });
}

impl Dispatcher {
    /// Writes as soon as what was decided before is written.
    pub(super) fn write(&mut self, job: JobId, what: Write, cx: Cx<'_, '_>) {
        if let Some(known) = self.job(job) {
            // Who asks again does not wait for the first answer any more.
            match what {
                Write::Claim(_) => known.queue.retain(|queued| !matches!(queued, Write::Claim(_))),
                Write::Record(_) => known.queue.retain(|queued| !matches!(queued, Write::Record(_))),
                Write::BeginEnd(_) => known.queue.retain(|queued| !matches!(queued, Write::BeginEnd(_))),
                _ => {}
            }
            known.queue.push_back(what);
            self.next_write(job, cx);
        }
    }

    /// Whoever recovers the job obeys. It waits for nothing that is to be written before.
    pub(super) fn write_cancel(&self, job: JobId, answer: Answer<()>, cx: Cx<'_, '_>) {
        let Some(processes) = &self.setup.processes else {
            return;
        };
        let (durable, wall_ms) = (processes.durable.clone(), self.wall_ms);
        let intended = async move { durable.intend_to_cancel(job, wall_ms).await };
        write(job, intended, |outcome| Written::Cancelled(answer, outcome), cx);
    }

    fn next_write(&mut self, job: JobId, cx: Cx<'_, '_>) {
        let wall_ms = self.wall_ms;
        while let Some(what) = self.job(job).and_then(Job::next_write) {
            let begun = self.begin_write(job, what, wall_ms, cx);
            if let Some(known) = self.job(job) {
                known.writing = begun;
            }
        }
    }

    /// Whether something is under way now.
    fn begin_write(&mut self, job: JobId, what: Write, wall_ms: i64, cx: Cx<'_, '_>) -> bool {
        let Some(durable) = self
            .setup
            .processes
            .as_ref()
            .map(|processes| processes.durable.clone())
        else {
            return false;
        };
        let Some(known) = self.job(job) else { return false };
        match what {
            Write::Admit => {
                let (launch, at) = (known.launch.clone(), known.submitted_ms);
                let admitted = async move { durable.admit(&launch, at).await };
                write(job, admitted, Written::Admitted, cx);
                true
            }
            Write::Raise(exit) => {
                let raised = async move { durable.raise(job, exit).await };
                write(job, raised, Written::Raised, cx);
                true
            }
            Write::Require(declared, answer) => {
                let wanted = declared.clone();
                let required = async move { durable.require(job, &wanted).await };
                write(
                    job,
                    required,
                    |outcome| Written::Required(declared, answer, outcome),
                    cx,
                );
                true
            }
            Write::Claim(call) => known.begin_claim(durable, call, cx),
            Write::Record(call) => known.begin_record((job, durable), call, wall_ms, cx),
            Write::BeginEnd(call) => self.say_how_it_ends(durable, call, cx),
            Write::Finish(result, token) => self.end_with(durable, result, Some(token), cx),
            Write::End(result) => self.end_with(durable, result, None, cx),
            Write::Answer(trigger, outcome, epoch) => {
                let current = known.lives.epoch() == Some(epoch);
                let token = known.lives.token().filter(|_| current);
                if token.is_none() && outcome.error.is_some() {
                    // Another JobMaster has been asked since.
                    return false;
                }
                let said = (trigger.clone(), outcome.clone());
                let answered = async move { durable.answer(token, (job, &trigger), &outcome).await };
                write(job, answered, |written| Written::Answered(said, written), cx);
                true
            }
            Write::Learn => {
                let learned = async move { durable.learn(job).await };
                write(job, learned, Written::Learned, cx);
                true
            }
        }
    }

    fn say_how_it_ends(&mut self, durable: Durable, call: Call<BeginEnd>, cx: Cx<'_, '_>) -> bool {
        let (wall_ms, stamp) = (self.wall_ms, call.context.stamp);
        let BeginEnd { result, deletions } = call.message.clone();
        let job = result.job;
        let times = self.brain.times_of(job, result.status, wall_ms);
        let archive = times.map(|(graph, times)| Archive {
            deletions,
            ..archive_of(graph, &result, &times)
        });
        let known = self.job(job).map(|known| &*known);
        let token = known.and_then(|known| known.token_of(job, stamp));
        let digests = known.and_then(|known| known.digests);
        let (Some(archive), Some(token), Some(digests)) = (archive, token, digests) else {
            call.reply.settle(Err(RpcError::Fence(fenced(job, stamp, known))));
            return false;
        };
        let begun = async move { durable.begin_end(&token, digests, &archive, wall_ms).await };
        write(job, begun, |outcome| Written::EndBegun(call, outcome), cx);
        true
    }

    fn end_with(
        &mut self,
        durable: Durable,
        result: Box<JobResult>,
        token: Option<EpochToken>,
        cx: Cx<'_, '_>,
    ) -> bool {
        let (job, wall_ms) = (result.job, self.wall_ms);
        let Some((graph, times)) = self.brain.times_of(job, result.status, wall_ms) else {
            return false;
        };
        let archive = archive_of(graph, &result, &times);
        let Some(known) = self.job(job) else { return false };
        let Some(digests) = known.digests else {
            return false;
        };
        let ended = async move {
            match token {
                Some(token) => durable.finish(&token, digests, &archive, wall_ms).await,
                None => durable.end(job, digests, &archive, wall_ms).await,
            }
        };
        write(
            job,
            ended,
            move |outcome| Written::Finished(result, token, outcome),
            cx,
        );
        true
    }

    pub(super) fn on_written(&mut self, job: JobId, written: Written, cx: Cx<'_, '_>) {
        // These wait for nothing, and nothing waits for them.
        let written = match written {
            Written::Cancelled(answer, outcome) => return self.on_cancelled(job, answer, outcome, cx),
            Written::Intended(asked, answer, outcome) => {
                return self.on_intended(job, (asked, answer), outcome, cx);
            }
            written => written,
        };
        if let Some(known) = self.job(job) {
            known.writing = false;
        }
        match written {
            Written::Admitted(outcome) => self.on_admitted(job, outcome, cx),
            Written::Raised(outcome) => self.on_raised(job, outcome, cx),
            Written::Claimed(call, outcome) => self.on_claimed(call, outcome, cx),
            Written::Recorded(call, outcome) => self.on_recorded(call, outcome),
            Written::EndBegun(call, outcome) => self.on_end_begun(call, outcome),
            Written::Finished(result, token, outcome) => self.on_finished(result, token, outcome, cx),
            Written::Learned(outcome) => self.on_learned(job, outcome, cx),
            Written::Answered(said, outcome) => self.on_answered(job, said, outcome, cx),
            Written::Required(declared, answer, outcome) => {
                self.on_required(job, (declared, answer), outcome, cx);
            }
            Written::Cancelled(..) | Written::Intended(..) => {}
        }
        self.next_write(job, cx);
    }

    fn on_admitted(&mut self, job: JobId, outcome: Result<Digests, NotWritten>, cx: Cx<'_, '_>) {
        let status = self.statuses.get(&job).map(tokio::sync::watch::Sender::subscribe);
        let Some(known) = self.job(job) else { return };
        let asked = std::mem::take(&mut known.admitting);
        match outcome {
            Ok(digests) => {
                known.digests = Some(digests);
                for answer in asked {
                    let submitted = status.clone().map(|status| Submitted { status });
                    answer.send(submitted.ok_or(ClusterError::UnknownJob(job)));
                }
                self.write(job, Write::Raise(None), cx);
            }
            Err(error) => {
                tracing::error!(%job, %error, "it is not accepted");
                let cause = error.to_string();
                for answer in asked {
                    let cause = cause.clone();
                    answer.send(Err(ClusterError::NotRecorded { job, cause }));
                }
                self.withdraw(job);
            }
        }
    }

    fn on_raised(&mut self, job: JobId, outcome: Result<EpochToken, NotWritten>, cx: Cx<'_, '_>) {
        let Some(known) = self.job(job) else { return };
        match outcome.map(|token| NonZeroU64::new(token.epoch.0)) {
            Ok(Some(epoch)) => {
                let before = known.lives.last_epoch();
                known.lives.raised(epoch);
                if let Some(before) = before {
                    // Nobody of it writes any more; now nobody of it runs any more either.
                    self.to_placement(ProcessEvent::EpochEnded { job, epoch: before });
                }
                self.start_process(job, epoch);
            }
            Ok(None) => tracing::error!(%job, "its epoch was raised to 0"),
            Err(NotWritten::Record(Failure::Ended(_))) => self.write(job, Write::Learn, cx),
            Err(error) => {
                tracing::error!(%job, %error, "it gets no JobMaster now");
                let again = DispatcherCall::StartMaster(job);
                cx.after(PAUSE, DispatcherInput::Processes(again));
            }
        }
    }

    fn on_claimed(&mut self, call: Call<ClaimJob>, outcome: Result<Begins, NotWritten>, cx: Cx<'_, '_>) {
        let (job, claim, open) = match outcome {
            Ok(mut begins) => {
                let open = std::mem::take(&mut begins.open);
                (call.message.job, self.grant(&call.message, begins, cx), open)
            }
            Err(error) => (
                call.message.job,
                Claim::Refused(error.to_string()),
                Default::default(),
            ),
        };
        let granted = matches!(claim, Claim::Granted { .. });
        call.reply.send(claim);
        if granted {
            self.obey_all(job, open, cx);
        }
    }

    fn on_recorded(&mut self, call: Call<RecordCheckpoint>, outcome: Result<CheckpointId, NotWritten>) {
        let RecordCheckpoint {
            job,
            checkpoint,
            ref path,
            ..
        } = call.message;
        match outcome {
            Ok(ids_end) => {
                if let Some(known) = self.job(job) {
                    known.lives.recorded(checkpoint, path.clone());
                    known.ids_end = ids_end;
                    known.stopped |= call.message.stop.is_some();
                }
                call.reply.send(());
            }
            Err(NotWritten::Record(Failure::Fenced { .. })) => {
                let stamp = call.context.stamp;
                let known = self.job(job).map(|known| &*known);
                call.reply.settle(Err(RpcError::Fence(fenced(job, stamp, known))));
            }
            Err(error) => {
                tracing::error!(%job, %checkpoint, %error, "a checkpoint is not recorded");
                // To ask again would be answered the same: its successor goes on from what is recorded.
                let refused = format!("checkpoint {checkpoint} is not recorded: {error}");
                call.reply.fail(&hurtig_core::Error::internal(refused));
            }
        }
    }

    fn on_end_begun(&mut self, call: Call<BeginEnd>, outcome: Result<(), NotWritten>) {
        let job = call.message.result.job;
        match outcome {
            Ok(()) => call.reply.send(()),
            Err(NotWritten::Record(Failure::Fenced { .. })) => {
                let known = self.job(job).map(|known| &*known);
                let why = fenced(job, call.context.stamp, known);
                call.reply.settle(Err(RpcError::Fence(why)));
            }
            Err(error) => {
                tracing::error!(%job, %error, "the end that it comes to is not recorded");
                let refused = format!("its end is not recorded: {error}");
                call.reply.fail(&hurtig_core::Error::internal(refused));
            }
        }
    }

    fn on_finished(
        &mut self,
        result: Box<JobResult>,
        token: Option<EpochToken>,
        outcome: Result<(), NotWritten>,
        cx: Cx<'_, '_>,
    ) {
        let job = result.job;
        match outcome {
            Ok(()) => self.ended(*result, cx),
            Err(NotWritten::Record(Failure::Ended(_))) => self.write(job, Write::Learn, cx),
            Err(NotWritten::Record(Failure::Fenced { .. })) => {
                tracing::error!(%job, "its end is not that of the process that has it");
                if let Some(known) = self.job(job) {
                    known.ending = false;
                }
                self.write(job, Write::Raise(None), cx);
            }
            Err(error) => {
                // It has ended, and must not begin again.
                tracing::error!(%job, %error, "its end is not recorded; it is tried again");
                let again = match token {
                    Some(token) => Write::Finish(result, token),
                    None => Write::End(result),
                };
                let again = DispatcherCall::Write(job, Box::new(again));
                cx.after(PAUSE, DispatcherInput::Processes(again));
            }
        }
    }

    /// Somebody else has written how it has ended.
    fn on_learned(&mut self, job: JobId, outcome: Result<JobResult, NotWritten>, cx: Cx<'_, '_>) {
        match outcome {
            Ok(result) => self.ended(result, cx),
            Err(error) => {
                tracing::error!(%job, %error, "it has ended, and it cannot be read how");
                let again = DispatcherCall::Write(job, Box::new(Write::Learn));
                cx.after(PAUSE, DispatcherInput::Processes(again));
            }
        }
    }

    /// The end of a job is in the store.
    fn ended(&mut self, result: JobResult, cx: Cx<'_, '_>) {
        let Some(processes) = &self.setup.processes else {
            return;
        };
        let (job, durable) = (result.job, processes.durable.clone());
        let oldest = self.brain.oldest_ended();
        cx.detach(async move {
            durable.clone().clean(job).await;
            if let Some(oldest) = oldest {
                durable.forget(oldest).await;
            }
        });
        self.end(result);
    }

    fn on_cancelled(
        &mut self,
        job: JobId,
        answer: Answer<()>,
        outcome: Result<(), NotWritten>,
        cx: Cx<'_, '_>,
    ) {
        match outcome {
            Ok(()) => self.cancel(job, answer, cx),
            Err(error) => {
                if matches!(error, NotWritten::Record(Failure::Ended(_))) {
                    self.write(job, Write::Learn, cx);
                }
                let cause = error.to_string();
                answer.send(Err(ClusterError::NotRecorded { job, cause }));
            }
        }
    }
}

impl Job {
    /// What is to be written now.
    fn next_write(&mut self) -> Option<Write> {
        let free = !self.writing;
        free.then(|| self.queue.pop_front()).flatten()
    }

    fn begin_claim(&self, durable: Durable, call: Call<ClaimJob>, cx: Cx<'_, '_>) -> bool {
        let ClaimJob {
            job, epoch, process, ..
        } = call.message;
        if let Some(why) = self.lives.refuses(epoch, process) {
            call.reply.send(Claim::Refused(why));
            return false;
        }
        let claimed = async move { durable.claim(job, epoch.get(), process).await };
        write(job, claimed, |outcome| Written::Claimed(call, outcome), cx);
        true
    }

    /// The right of who has sent this, if it still has the job.
    fn token_of(&self, job: JobId, stamp: Option<Stamp>) -> Option<EpochToken> {
        let current = self.lives.epoch().map(|epoch| Stamp::job(job, epoch));
        self.lives.token().filter(|_| stamp.is_some() && stamp == current)
    }

    /// The epoch is looked at again: it may have been raised while the message waited.
    fn begin_record(
        &self,
        (job, durable): (JobId, Durable),
        call: Call<RecordCheckpoint>,
        wall_ms: i64,
        cx: Cx<'_, '_>,
    ) -> bool {
        let stamp = call.context.stamp;
        let Some(token) = self.token_of(job, stamp) else {
            call.reply
                .settle(Err(RpcError::Fence(fenced(job, stamp, Some(self)))));
            return false;
        };
        let pointer = (call.message.checkpoint, call.message.path.clone());
        if self.lives.latest() == Some(&pointer) {
            call.reply.send(());
            return false;
        }
        let ids_end = self.ids_end;
        let pointer = (pointer.0, pointer.1, call.message.stop.clone());
        let committed = async move { durable.commit(&token, pointer, ids_end, wall_ms).await };
        write(job, committed, |outcome| Written::Recorded(call, outcome), cx);
        true
    }
}

/// Why a message of a JobMaster is not heard.
fn fenced(job: JobId, stamp: Option<Stamp>, known: Option<&Job>) -> FenceError {
    let Some(stamp) = stamp else {
        return FenceError::Unstamped;
    };
    let newer = known.and_then(|known| known.lives.epoch());
    match newer {
        Some(newer) if Stamp::job(job, newer) != stamp => FenceError::Fenced {
            scope: stamp.scope,
            yours: stamp.token,
            newer: Stamp::job(job, newer).token,
        },
        _ => FenceError::Unregistered(stamp.scope),
    }
}
