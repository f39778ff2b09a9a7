//! Messages between actors, in one process or several: typed, bounded, fenced, and never silently lost.
//!
//! A [`RpcMessage`] is a serde type with a reply type, a name, a lane and the protocol version that brought it. An
//! [`Endpoint`] lists the messages that a kind of actor takes; [`Rpc::register`] gives an actor a name. A [`Gateway`]
//! asks and tells, and whether its endpoint is here or in another process cannot be told at the call site.
//!
//! Promises: order for (sender, receiver, lane); every ask ends in a reply or a typed [`RpcError`] within its timeout;
//! nothing grows beyond its bound; a message of an older token than its receiver has seen is refused; no bytes from a socket
//! can cause a panic. Refuses to know what any message means, who leads, and where processes are.
//!
//! The bytes are described in `docs/rpc-wire.md`, the reasons in `docs/decisions/0030-rpc.md`.

mod budget;
mod call;
mod codec;
mod config;
mod connection;
mod error;
mod error_wire;
mod faults;
mod fence;
mod frame;
mod gateway;
#[cfg(test)]
mod golden;
mod handshake;
mod link;
mod message;
mod peer;
mod registry;
mod rpc;
mod server;
pub mod testing;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod version;

pub use call::{Call, CallContext, Responder};
pub use codec::{CodecError, decode, encode};
pub use config::{ConfigError, LocalCodec, RpcConfig};
pub use connection::{CloseReason, EndpointProgress, Progress};
pub use error::{Delivery, RemoteError, RpcError};
pub use faults::{LocalFault, LocalFaults, ScriptedFaults};
pub use fence::{ClusterId, FenceError, Fences, FencingToken, Scope, Stamp};
pub use frame::{
    Frame, FrameDecoder, FrameError, HANDSHAKE, HEADER_LEN, Header, Kind, MAX_FRAME_BODY, MAX_NAME,
    TraceContext, encode_frame,
};
pub use gateway::Gateway;
pub use link::{Connectivity, DeathReason, PeerState};
pub use message::{Accepts, Endpoint, Lane, MessageFacts, RpcMessage, is_name};
pub use peer::Peer;
pub use registry::{MAX_ENDPOINTS, RegisterError, Registration, Routes};
pub use rpc::{Identity, Rpc, RpcSetup};
pub use server::Serving;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsAcceptor, TlsDialer, TlsError, TlsFiles, TlsGiven, front_door, job_name, visitor};
pub use transport::{Accepted, Acceptor, ByteStream, Dialer, Stream, StreamFuture, TcpAcceptor, TcpDialer};
pub use version::{SUPPORTED, Side, VersionRange};
