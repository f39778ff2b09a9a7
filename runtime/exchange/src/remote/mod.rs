//! Channels between processes, without their sockets.
//!
//! A channel to another process is two queues: the producer fills the one here, the consumer empties the one there, and
//! a [`Connection`] carries what waits from the first to the second. One connection serves all channels between two
//! processes, in both directions. It is a brain: bytes in, bytes out; who reads and writes sockets calls it.
//!
//! Promises that every channel keeps its order, that what waits at its end is bounded by what was granted to it, that
//! no channel holds up another, and that a connection whose bytes are not what they should be fails all of its channels instead of
//! handing anything on. `docs/exchange-wire.md` has the format.
//!
//! *Credit.* Who consumes grants bytes to who produces: a share of its own for each channel, and more from a pool for those
//! that say that more waits. A batch is sent under credit; the last one may exceed it. Events need none, and neither does what stands
//! before a barrier that was announced: so such a barrier gets through although its consumer reads nothing, and behind it all
//! that it overtakes is in the consumer's queue, where it is captured.

mod connection;
mod credit;
mod debloat;
mod ends;
mod event;
mod frame;
mod packed;
mod peer;
mod settings;

pub use connection::Connection;
pub use debloat::Debloat;
pub use ends::{Inlet, Outlet};
pub use frame::{FrameError, HEADER_LEN, frame};
pub(crate) use packed::{Form, Packed};
pub use peer::{Exchange, PeerWorker};
pub use settings::{ConnectionConfig, NetworkConfig};
