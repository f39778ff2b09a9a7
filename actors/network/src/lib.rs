//! Channels between the workers of a job: the sockets under [`hurtig_exchange::remote`].
//!
//! Holds a thread of its own, on which all sockets of the exchange live, one connection for each other worker. Promises
//! that a connection that breaks, falls silent or says what it may not fails the tasks at its ends with the reason, and
//! that nobody is let in who does not know the job's secret. Refuses to know what channels carry and who deploys tasks.

mod carrier;
mod hello;
mod network;

pub use carrier::LinkError;
pub use hello::{HelloError, Party};
pub use hurtig_exchange::remote::NetworkConfig;
pub use network::{Bind, Network, NetworkSetup, StartError, tcp};
