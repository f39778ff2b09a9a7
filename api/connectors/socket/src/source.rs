//! [`SocketSource`]: lines from a TCP server.

use crate::feed::{Feed, Feeder, Message};
use crate::lines::{Chunk, LineChunks};
use crate::reader::{DEFAULT_MAX_RECORD_BYTES, LineReader};
use hurtig_core::str::Str;
use hurtig_core::{Error, Result};
use hurtig_dataflow::source::{Source, SourceReader};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one attempt to connect to one address may take, and so a cancellation.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Lines of text from a TCP server that it connects to, as Flink's `socketTextStream`; its
/// parallelism is 1.
///
/// The stream ends when the server closes the connection, unless retries are allowed. Lines end with LF
/// or CR LF; what a connection sends behind its last line end is a line too. Lines that are not UTF-8
/// or too long are skipped and counted in [`MALFORMED_RECORDS`](crate::MALFORMED_RECORDS). Nothing can
/// be read again: what was received and not processed is lost in a failure.
///
/// ```
/// use hurtig_connector_socket::SocketSource;
/// use hurtig_dataflow::source::Source;
/// use std::time::Duration;
///
/// let lines = SocketSource::lines("localhost:9999").retries(10).retry_delay(Duration::from_secs(1));
/// assert!(!lines.bounded());
/// assert!(SocketSource::lines("localhost").validate().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct SocketSource {
    connector: Connector,
    /// As the program said; else the environment's.
    longest: Option<usize>,
}

impl SocketSource {
    /// Lines from the server at `address`, a host and port such as `localhost:9999`.
    pub fn lines(address: impl Into<String>) -> Self {
        let connector = Connector::new(address.into());
        Self {
            connector,
            longest: None,
        }
    }

    /// Connects again up to so many times in a row when there is no server or a connection ends (not
    /// at all by default). A connection that brings something starts the count anew.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.connector.retries = Some(retries);
        self
    }

    /// Connects again and again, for ever.
    #[must_use]
    pub fn retry_forever(mut self) -> Self {
        self.connector.retries = None;
        self
    }

    /// How long to wait before connecting again (500 ms by default).
    #[must_use]
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.connector.delay = delay;
        self
    }

    /// Takes a longer line for malformed (64 MiB by default): `source.max-record-bytes`.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.longest = Some(bytes);
        self
    }
}

impl Source<Str> for SocketSource {
    fn bounded(&self) -> bool {
        false
    }

    fn validate(&self) -> Result<()> {
        self.connector.validate()
    }

    fn set_default_max_record_bytes(&mut self, bytes: usize) {
        self.longest.get_or_insert(bytes);
    }

    fn reader(&self) -> Box<dyn SourceReader<Str>> {
        let (connector, longest) = (
            self.connector.clone(),
            self.longest.unwrap_or(DEFAULT_MAX_RECORD_BYTES),
        );
        let start = move || {
            let connector = connector.clone();
            Feed::start("socket source", true, move |feeder| {
                receive(&connector, longest, feeder);
            })
        };
        Box::new(LineReader::new(longest, Box::new(start)))
    }

    fn parallelism_limit(&self) -> Option<u32> {
        Some(1)
    }
}

/// Where to connect to, and how often to try.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) address: String,
    /// `None`: without end.
    pub(crate) retries: Option<u32>,
    pub(crate) delay: Duration,
}

impl Connector {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            retries: Some(0),
            delay: Duration::from_millis(500),
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let port = self
            .address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_some_and(|port| port > 0) {
            return Ok(());
        }
        let text = format!(
            "the socket address '{}' is not a host and port such as 'localhost:9999'",
            self.address
        );
        Err(Error::user(text))
    }

    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    pub(crate) fn failed(&self, doing: &str, e: io::Error) -> Error {
        Error::external(format!("cannot {doing} '{}'", self.address), e)
    }

    /// Whether to try once more after so many tries in a row.
    pub(crate) fn tries_again(&self, tried: u32) -> bool {
        self.retries.is_none_or(|retries| tried < retries)
    }
}

/// The thread's work: connection after connection, until one too many has ended.
fn receive(connector: &Connector, longest: usize, feeder: &Feeder) {
    let (mut chunks, mut tried) = (LineChunks::new(longest), 0);
    loop {
        let (received, result) = read_connection(connector, &mut chunks, feeder);
        if received {
            tried = 0;
        }
        if !feeder.reads_from(None) {
            return;
        }
        if !connector.tries_again(tried) {
            feeder.send(result.map_or_else(Message::Failed, |()| Message::End));
            return;
        }
        tried = tried.saturating_add(1);
        if !feeder.pause(connector.delay) {
            return;
        }
    }
}

/// Reads one connection to its end. Whether it brought anything, and whether it ended well.
fn read_connection(connector: &Connector, chunks: &mut LineChunks, feeder: &Feeder) -> (bool, Result<()>) {
    let opened = connector
        .connect()
        .and_then(|stream| Ok((stream.try_clone()?, stream)));
    let (control, mut stream) = match opened {
        Ok(both) => both,
        Err(e) => return (false, Err(connector.failed("connect to", e))),
    };
    if !feeder.reads_from(Some(control)) {
        return (false, Ok(()));
    }
    let mut received = false;
    loop {
        let (chunk, result) = match chunks.read(&mut stream) {
            Ok(chunk) => (chunk, None),
            Err(e) => (chunks.last(), Some(Err(connector.failed("read from", e)))),
        };
        let ended = chunk == Chunk::End || result.is_some();
        if !forward(chunk, feeder) {
            return (received, Ok(()));
        }
        if ended {
            return (received, result.unwrap_or(Ok(())));
        }
        received = true;
    }
}

/// Sends what a chunk holds; false when nobody wants more.
pub(crate) fn forward(chunk: Chunk, feeder: &Feeder) -> bool {
    match chunk {
        Chunk::Lines(lines) => feeder.send(Message::Lines(lines)),
        Chunk::TooLong => feeder.send(Message::TooLong),
        Chunk::Nothing | Chunk::End => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::time::ManualClock;
    use hurtig_dataflow::operator::{Budget, Collector, OpenContext, Services, SideOutputs, SubtaskInfo};
    use hurtig_dataflow::source::SourceStatus;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake};
    use std::thread::Thread;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn open(source: &SocketSource) -> Box<dyn SourceReader<Str>> {
        let info = SubtaskInfo::single("socket");
        let services = Services::new(info, ManualClock::new(), SideOutputs::default());
        let mut reader = source.reader();
        reader.open(&mut OpenContext::new(&services, None)).unwrap();
        reader
    }

    /// Reads until `wanted` lines have come, or all. Sleeps only in the reader's waker.
    fn read(reader: &mut dyn SourceReader<Str>, wanted: usize) -> Result<Vec<String>> {
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut cx = Context::from_waker(&waker);
        let (mut out, mut lines) = (Collector::with_limit(2), Vec::new());
        while lines.len() < wanted {
            let polled = reader.poll_batch(&mut cx, &mut out, &mut Budget::new(100));
            let batch = out.batch();
            lines.extend(batch.drain(batch.len()).map(String::from));
            batch.reset_if_empty();
            match polled {
                Poll::Pending => std::thread::park(),
                Poll::Ready(status) => {
                    if status? == SourceStatus::Finished {
                        break;
                    }
                }
            }
        }
        Ok(lines)
    }

    fn server() -> (TcpListener, SocketSource) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = SocketSource::lines(listener.local_addr().unwrap().to_string());
        (listener, source)
    }

    #[test]
    fn lines_until_the_server_closes() {
        let (listener, source) = server();
        let mut reader = open(&source);
        let (mut server, _) = listener.accept().unwrap();
        server.write_all("a\r\n\nfirst half".as_bytes()).unwrap();
        assert_eq!(read(&mut *reader, 2).unwrap(), ["a", ""]);
        server.write_all(b", second half\nbad \xff\nb\nno end").unwrap();
        drop(server);
        assert_eq!(
            read(&mut *reader, 9).unwrap(),
            ["first half, second half", "b", "no end"]
        );
    }

    #[test]
    fn a_retry_connects_again_and_a_connection_starts_the_count_anew() {
        let (listener, source) = server();
        let mut reader = open(&source.retries(1).retry_delay(Duration::from_millis(1)));
        for text in ["one\n", "two", "three\n"] {
            let (mut server, _) = listener.accept().unwrap();
            server.write_all(text.as_bytes()).unwrap();
        }
        drop(listener.accept().unwrap());
        assert_eq!(read(&mut *reader, 9).unwrap(), ["one", "two", "three"]);
    }

    #[test]
    fn no_server_is_an_error_that_names_it() {
        let (listener, source) = server();
        drop(listener);
        let error = read(&mut *open(&source), 1).unwrap_err().chain();
        assert!(
            error.starts_with("cannot connect to '127.0.0.1:") && error.contains("refused"),
            "{error}"
        );
        let again = source.retries(2).retry_delay(Duration::from_millis(1));
        assert!(read(&mut *open(&again), 1).is_err());
    }

    #[test]
    fn a_dropped_reader_ends_its_thread_wherever_it_waits() {
        let (listener, source) = server();
        let reading = open(&source);
        let (mut server, _) = listener.accept().unwrap();
        drop(reading);
        assert_eq!(
            io::Read::read(&mut server, &mut [0]).unwrap(),
            0,
            "the connection is closed"
        );
        let full = open(&source);
        let (mut server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        // Until neither the queue nor the sockets take more.
        while server.write(&[b'\n'; 64 * 1024]).is_ok() {}
        drop(full);
        let (listener, source) = self::server();
        drop(listener);
        drop(open(
            &source.retry_forever().retry_delay(Duration::from_secs(3_600)),
        ));
    }

    #[test]
    fn addresses_are_checked() {
        for bad in [
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:0",
            "localhost:99999",
        ] {
            assert!(SocketSource::lines(bad).validate().is_err(), "{bad}");
        }
        SocketSource::lines("[::1]:80").validate().unwrap();
    }
}
