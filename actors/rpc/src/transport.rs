//! Byte streams: how a process is reached, and how others reach it. TCP here; anything else by the same two traits.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Bytes in both directions, in order.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {
    /// What it is, for those who know something of one kind.
    fn as_any(&self) -> &dyn Any;
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Any byte stream.
pub type Stream = Box<dyn ByteStream>;

/// A future of a byte stream.
pub type StreamFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// Reaches others.
pub trait Dialer: Send + Sync + 'static {
    /// Connects. Its caller sets the deadline. [`io::ErrorKind::ConnectionRefused`] says that nobody listens there.
    fn dial<'a>(&'a self, address: &'a str) -> StreamFuture<'a>;
}

/// Somebody has connected.
pub struct Accepted {
    /// Who, for the log.
    pub from: String,
    /// Ready when what the transport needs has been said (TLS); its caller sets the deadline.
    pub stream: StreamFuture<'static>,
}

/// Is reached by others.
pub trait Acceptor: Send + 'static {
    /// Waits for the next one. *Cancel safety*: nobody is lost when the future is dropped.
    fn accept(&mut self) -> Pin<Box<dyn Future<Output = io::Result<Accepted>> + Send + '_>>;
}

/// TCP, in the clear.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial<'a>(&'a self, address: &'a str) -> StreamFuture<'a> {
        Box::pin(async move { Ok(Box::new(connect(address).await?) as Stream) })
    }
}

/// A TCP connection for messages: small ones are sent at once.
pub(crate) async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Listens on a TCP port, in the clear.
#[derive(Debug)]
pub struct TcpAcceptor(TcpListener);

impl TcpAcceptor {
    /// Listens at `address`; port 0: any that is free.
    ///
    /// # Errors
    /// When the address is taken or is none of this machine.
    pub async fn bind(address: &str) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    pub(crate) async fn accept_tcp(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, from))
    }
}

impl Acceptor for TcpAcceptor {
    fn accept(&mut self) -> Pin<Box<dyn Future<Output = io::Result<Accepted>> + Send + '_>> {
        Box::pin(async move {
            let (stream, from) = self.accept_tcp().await?;
            Ok(Accepted {
                from: from.to_string(),
                stream: Box::pin(async move { Ok(Box::new(stream) as Stream) }),
            })
        })
    }
}
