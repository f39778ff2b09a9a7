//! [`SocketSink`]: lines to a TCP server.

use crate::source::Connector;
use crate::text::LineFormat;
use hurtig_core::{Batch, Error, Result};
use hurtig_dataflow::operator::{Cx, OpenContext};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Text that is collected before it is sent without a flush.
const BUFFER_BYTES: usize = 64 * 1024;

/// Writes a line for each record to a TCP server; each subtask has a connection of its own.
///
/// A write that fails is tried again on a new connection as often as [`SocketSink::retries`] allows,
/// all text since the last flush with it: what the server got of it before may come twice, or end in
/// the middle of a line. What the operating system had taken over from a broken connection is lost.
///
/// ```
/// use hurtig_connector_socket::SocketSink;
/// use hurtig_dataflow::sink::Sink;
///
/// let numbers = SocketSink::<u64>::lines("localhost:9998").retries(3);
/// numbers.validate().unwrap();
/// let pairs = SocketSink::format("localhost:9998", |(word, n): &(String, u64), line: &mut String| {
///     line.push_str(word);
///     line.push_str(&format!(" {n}"));
/// });
/// pairs.validate().unwrap();
/// ```
pub struct SocketSink<T> {
    connector: Connector,
    format: LineFormat<T>,
}

impl<T> SocketSink<T> {
    /// Records as their `Display` says, to the server at `address`, such as `localhost:9998`.
    pub fn lines(address: impl Into<String>) -> Self
    where
        T: Display,
    {
        Self {
            connector: Connector::new(address.into()),
            format: LineFormat::display(),
        }
    }

    /// Records as `format` writes them; the line end is added.
    pub fn format(
        address: impl Into<String>,
        format: impl Fn(&T, &mut String) + Send + Sync + 'static,
    ) -> Self {
        Self {
            connector: Connector::new(address.into()),
            format: LineFormat::closure(format),
        }
    }

    /// Connects again up to so many times in a row (not at all by default).
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.connector.retries = Some(retries);
        self
    }

    /// How long to wait before connecting again (500 ms by default).
    #[must_use]
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.connector.delay = delay;
        self
    }
}

impl<T> Clone for SocketSink<T> {
    fn clone(&self) -> Self {
        Self {
            connector: self.connector.clone(),
            format: self.format.clone(),
        }
    }
}

impl<T> fmt::Debug for SocketSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketSink")
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Sink<T> for SocketSink<T> {
    fn validate(&self) -> Result<()> {
        self.connector.validate()
    }

    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        Box::new(SocketWriter {
            sink: self.clone(),
            stream: None,
            text: String::new(),
        })
    }

    fn blocking(&self) -> bool {
        true
    }
}

struct SocketWriter<T> {
    sink: SocketSink<T>,
    stream: Option<TcpStream>,
    /// Not sent yet.
    text: String,
}

impl<T> SocketWriter<T> {
    /// Sends all text, connecting if need be, as often as is allowed.
    fn send(&mut self) -> Result<()> {
        let mut tried = 0;
        loop {
            let Err(e) = self.try_send() else { return Ok(()) };
            if !self.sink.connector.tries_again(tried) {
                return Err(e);
            }
            tried += 1;
            pause(self.sink.connector.delay);
        }
    }

    fn try_send(&mut self) -> Result<()> {
        let connector = &self.sink.connector;
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(connector).map_err(|e| connector.failed("connect to", e))?,
        };
        stream
            .write_all(self.text.as_bytes())
            .map_err(|e| connector.failed("write to", e))?;
        self.stream = Some(stream);
        self.text.clear();
        Ok(())
    }
}

fn connect(connector: &Connector) -> io::Result<TcpStream> {
    let stream = connector.connect()?;
    // Batches are sent when they are complete; waiting for more would only delay them.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Blocks, which a blocking writer may.
fn pause(time: Duration) {
    let (lock, never) = (Mutex::new(()), Condvar::new());
    let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = never.wait_timeout_while(guard, time, |()| true);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

impl<T: Send> SinkWriter<T> for SocketWriter<T> {
    fn open(&mut self, _ctx: &mut OpenContext<'_>) -> Result<()> {
        self.send()
    }

    fn write(&mut self, batch: &mut Batch<T>, _cx: Cx<'_>) -> Result<()> {
        for record in batch.records() {
            self.sink.format.append("", record, &mut self.text)?;
        }
        batch.clear();
        if self.text.len() >= BUFFER_BYTES {
            self.send()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.text.is_empty() { Ok(()) } else { self.send() }
    }

    fn close(&mut self) -> Result<()> {
        self.flush()?;
        let Some(stream) = self.stream.take() else {
            return Ok(());
        };
        let closed = stream.shutdown(std::net::Shutdown::Write);
        closed.or_else(|e| match e.kind() {
            // The other side was faster.
            io::ErrorKind::NotConnected => Ok(()),
            _ => Err(Error::external(
                format!("cannot close '{}'", self.sink.connector.address),
                e,
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::time::ManualClock;
    use hurtig_dataflow::operator::{Services, SideOutputs, SubtaskInfo};
    use std::io::Read;
    use std::net::TcpListener;

    fn services() -> Services {
        Services::new(
            SubtaskInfo::single("socket"),
            ManualClock::new(),
            SideOutputs::default(),
        )
    }

    fn write(writer: &mut dyn SinkWriter<u64>, records: Vec<u64>) -> Result<()> {
        writer.write(&mut Batch::from_records(records), services().cx())?;
        writer.flush()
    }

    #[test]
    fn lines_arrive_and_a_broken_connection_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sink = SocketSink::<u64>::lines(address)
            .retries(1)
            .retry_delay(Duration::from_millis(1));
        let mut writer = sink.writer();
        let services = services();
        writer.open(&mut OpenContext::new(&services, None)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        write(&mut *writer, vec![1, 22]).unwrap();
        let mut text = [0; 5];
        server.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"1\n22\n");
        drop(server);
        // The operating system takes over what it can before it learns that nobody listens.
        listener.set_nonblocking(true).unwrap();
        let mut server = loop {
            write(&mut *writer, vec![3]).unwrap();
            if let Ok((server, _)) = listener.accept() {
                break server;
            }
        };
        writer.close().unwrap();
        let mut rest = String::new();
        server.set_nonblocking(false).unwrap();
        server.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "3\n");
    }

    #[test]
    fn no_server_is_an_error_that_names_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = SocketSink::<u64>::lines(listener.local_addr().unwrap().to_string());
        drop(listener);
        let services = services();
        let error = sink
            .writer()
            .open(&mut OpenContext::new(&services, None))
            .unwrap_err()
            .chain();
        assert!(error.starts_with("cannot connect to '127.0.0.1:"), "{error}");
        assert!(SocketSink::<u64>::lines("nowhere").validate().is_err());
    }
}
