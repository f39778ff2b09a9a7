//! The end of a job in a process of its own. What it comes to is in the leader's records before its checkpoints are deleted: whoever
//! has the job next deletes them then, and never looks for one to go on from.

use super::events::StorageWork;
use super::remote::{JobMasterCall, PAUSE, RECORDING};
use super::shell::{JobMaster, JobMasterEvent};
use crate::result::JobResult;
use crate::wire::{BeginEnd, Deletion};
use hurtig_core::steps::{Step, reached};
use hurtig_kit::ShellCx;
use hurtig_rpc::RpcError;

impl Deletion {
    fn of(work: &StorageWork) -> Option<Self> {
        match work {
            StorageWork::DiscardJob => Some(Self::Everything),
            StorageWork::DiscardJobBut(checkpoint) => Some(Self::EverythingBut(*checkpoint)),
            StorageWork::DiscardClaimed(dir) => Some(Self::Claimed(dir.clone())),
            StorageWork::SweepShared { up_to, kept } => Some(Self::Shared {
                up_to: *up_to,
                kept: kept.clone(),
            }),
            StorageWork::Load(_)
            | StorageWork::Publish { .. }
            | StorageWork::DiscardCheckpoint(_)
            | StorageWork::DiscardSavepoint(_)
            | StorageWork::DiscardState(..) => None,
        }
    }
}

impl From<Deletion> for StorageWork {
    fn from(deletion: Deletion) -> Self {
        match deletion {
            Deletion::Everything => Self::DiscardJob,
            Deletion::EverythingBut(checkpoint) => Self::DiscardJobBut(checkpoint),
            Deletion::Claimed(dir) => Self::DiscardClaimed(dir),
            Deletion::Shared { up_to, kept } => Self::SweepShared { up_to, kept },
        }
    }
}

impl JobMaster {
    /// The job comes to this end, which is told when the checkpoint store is left as it should be.
    pub(super) fn end(&mut self, result: Box<JobResult>, cx: &mut ShellCx<'_, Self>) {
        let deletions: Vec<Deletion> = self.queue.waiting().filter_map(Deletion::of).collect();
        if self.links.remote.is_some() && !deletions.is_empty() {
            self.queue.hold();
            self.begin_end(BeginEnd { result, deletions }, cx);
        } else {
            self.result = Some(result);
        }
    }

    fn begin_end(&self, end: BeginEnd, cx: &mut ShellCx<'_, Self>) {
        let Some(links) = self.links.remote.clone() else {
            return;
        };
        let (job, result) = (self.job(), end.result.clone());
        let begun = async move {
            loop {
                let dispatcher = links.dispatcher.borrow().clone();
                match dispatcher.ask(end.clone(), RECORDING).await {
                    Err(error) if error.may_retry() || matches!(error, RpcError::UnknownEndpoint { .. }) => {
                        tracing::warn!(%job, %error, "the leader does not answer; the end waits");
                        tokio::time::sleep(PAUSE).await;
                    }
                    settled => return settled,
                }
            }
        };
        cx.drive(begun, |begun| {
            let begun = begun.unwrap_or_else(|panicked| {
                Err(hurtig_rpc::RemoteError::new(&hurtig_core::Error::internal(panicked.to_string())).into())
            });
            JobMasterEvent::Remote(JobMasterCall::EndBegun(result, begun))
        });
    }

    pub(super) fn on_end_begun(
        &mut self,
        result: Box<JobResult>,
        begun: Result<(), RpcError>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        match begun {
            Ok(()) => {
                reached(Step::EndBegun);
                self.result = Some(result);
                self.queue.release();
                self.go_on_in_store(cx);
            }
            // Somebody else has the job: nothing is told, and nothing deleted.
            Err(error) => self.fail_for_good(format!("the leader does not record the job's end: {error}")),
        }
    }

    /// A predecessor has had this end recorded, and may have deleted a part of what is to be deleted. Nothing of the job runs.
    pub(super) fn end_as_begun(&mut self, end: BeginEnd, cx: &mut ShellCx<'_, Self>) {
        let status = end.result.status;
        tracing::info!(job = %self.job(), %status, "the job has come to its end before; what it has stored is deleted");
        self.brain = None;
        let deletions = end.deletions.into_iter().map(StorageWork::from);
        deletions.for_each(|deletion| self.queue.push(deletion));
        self.result = Some(end.result);
        self.go_on_in_store(cx);
    }
}
