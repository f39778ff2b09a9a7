//! Who carries channels to other processes.

use super::ends::{Inlet, Outlet};
use crate::signal::Signal;
use hurtig_core::ids::{ChannelId, TaskManagerId};
use serde::{Deserialize, Serialize};

/// Another worker of the job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerWorker {
    /// Which.
    pub worker: TaskManagerId,
    /// Where its exchange listens.
    pub address: String,
}

/// Carries channels between this process and others. Nothing here blocks.
///
/// When a connection fails, the tasks at the ends of its channels fail that still run, see [`Signal::take_failure`]; channels of
/// which nothing was sent wait for the next one.
pub trait Exchange: Send + Sync {
    /// What the queues' ends at the connection to a worker ring with.
    fn signal(&self, peer: &PeerWorker) -> Signal;

    /// Carries a channel to a worker; its queue was made with [`Self::signal`].
    fn produce(&self, peer: &PeerWorker, id: ChannelId, outlet: Outlet);

    /// Brings a channel from a worker; its queue was made with [`Self::signal`].
    fn consume(&self, peer: &PeerWorker, id: ChannelId, inlet: Inlet);

    /// Ends all channels of a generation.
    fn forget(&self, generation: u32);
}
