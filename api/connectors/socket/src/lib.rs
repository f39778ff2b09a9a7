//! Sockets and standard streams as sources and sinks.
//!
//! [`SocketSource`] and [`StdinSource`] read text lines, [`SocketSink`] and [`StdoutSink`] write them.
//! None of these can be read or written twice: after a failure, lines that were read and not processed
//! are lost, and lines may be written again. A source reads on one thread of its own, which fills a
//! bounded queue; when the queue is full, the other side of the socket waits.

mod feed;
mod lines;
mod reader;
mod sink;
mod source;
mod stdin;
mod stdout;
mod text;

pub use reader::{DEFAULT_MAX_RECORD_BYTES, MALFORMED_RECORDS};
pub use sink::SocketSink;
pub use source::SocketSource;
pub use stdin::StdinSource;
pub use stdout::StdoutSink;
