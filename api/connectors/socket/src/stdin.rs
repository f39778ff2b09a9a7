//! [`StdinSource`]: lines from standard input.

use crate::feed::{Feed, Feeder, Message};
use crate::lines::{Chunk, LineChunks};
use crate::reader::{DEFAULT_MAX_RECORD_BYTES, LineReader};
use crate::source::forward;
use hurtig_core::Error;
use hurtig_core::str::Str;
use hurtig_dataflow::source::{Source, SourceReader};
use std::io::Read;
use std::sync::Arc;

type Open = Arc<dyn Fn() -> Box<dyn Read> + Send + Sync>;

/// Lines of text from standard input, until its end; its parallelism is 1.
///
/// Lines end with LF or CR LF; the last one needs no end. Lines that are not UTF-8 or too long are
/// skipped and counted in [`MALFORMED_RECORDS`](crate::MALFORMED_RECORDS). Nothing can be read again:
/// what was read and not processed is lost in a failure. A job that is cancelled does not wait for the
/// thread that reads, since nothing can interrupt it; it ends with the next input.
///
/// ```
/// use hurtig_connector_socket::StdinSource;
/// use hurtig_dataflow::source::Source;
///
/// assert!(StdinSource::lines().bounded());
/// ```
#[derive(Clone)]
pub struct StdinSource {
    open: Open,
    /// As the program said; else the environment's.
    longest: Option<usize>,
}

impl StdinSource {
    /// Lines from standard input.
    pub fn lines() -> Self {
        Self {
            open: Arc::new(|| Box::new(std::io::stdin())),
            longest: None,
        }
    }

    /// Takes a longer line for malformed (64 MiB by default): `source.max-record-bytes`.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.longest = Some(bytes);
        self
    }
}

impl std::fmt::Debug for StdinSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StdinSource")
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}

impl Source<Str> for StdinSource {
    fn bounded(&self) -> bool {
        true
    }

    fn set_default_max_record_bytes(&mut self, bytes: usize) {
        self.longest.get_or_insert(bytes);
    }

    fn reader(&self) -> Box<dyn SourceReader<Str>> {
        let StdinSource { open, longest } = self.clone();
        let longest = longest.unwrap_or(DEFAULT_MAX_RECORD_BYTES);
        let start = move || {
            let open = open.clone();
            Feed::start("standard input", false, move |feeder| {
                receive(&mut *open(), longest, feeder);
            })
        };
        Box::new(LineReader::new(longest, Box::new(start)))
    }

    fn parallelism_limit(&self) -> Option<u32> {
        Some(1)
    }
}

fn receive(input: &mut dyn Read, longest: usize, feeder: &Feeder) {
    let mut chunks = LineChunks::new(longest);
    loop {
        match chunks.read(input) {
            Ok(Chunk::End) => {
                feeder.send(Message::End);
                return;
            }
            Ok(chunk) => {
                if !forward(chunk, feeder) {
                    return;
                }
            }
            Err(e) => {
                feeder.send(Message::Failed(Error::external("cannot read standard input", e)));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::time::ManualClock;
    use hurtig_dataflow::operator::{Budget, Collector, OpenContext, Services, SideOutputs, SubtaskInfo};
    use hurtig_dataflow::source::SourceStatus;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::task::{Context, Poll, Wake};

    struct Woken(SyncSender<()>);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            let _ = self.0.try_send(());
        }
    }

    /// All lines; waits for the reader's waker only.
    fn read(source: &StdinSource) -> Result<Vec<String>, Error> {
        let services = Services::new(
            SubtaskInfo::single("stdin"),
            ManualClock::new(),
            SideOutputs::default(),
        );
        let mut reader = source.reader();
        reader.open(&mut OpenContext::new(&services, None))?;
        let (sender, woken) = sync_channel(1);
        let waker = Arc::new(Woken(sender)).into();
        let (mut out, mut lines) = (Collector::with_limit(3), Vec::new());
        loop {
            let polled = reader.poll_batch(&mut Context::from_waker(&waker), &mut out, &mut Budget::new(2));
            let batch = out.batch();
            lines.extend(batch.drain(batch.len()).map(String::from));
            batch.reset_if_empty();
            match polled {
                Poll::Pending => woken.recv().unwrap(),
                Poll::Ready(status) => {
                    if status? == SourceStatus::Finished {
                        return Ok(lines);
                    }
                }
            }
        }
    }

    fn of(text: &'static [u8]) -> StdinSource {
        StdinSource {
            open: Arc::new(move || Box::new(text)),
            ..StdinSource::lines()
        }
    }

    #[test]
    fn lines_until_the_end_without_what_is_malformed() {
        let lines = read(&of(b"a\r\n\n\xff\nlonger than ten bytes\nb\nlast").max_record_bytes(10)).unwrap();
        assert_eq!(lines, ["a", "", "b", "last"]);
        assert!(read(&of(b"")).unwrap().is_empty());
    }

    /// Pieces between LFs, a CR before one, or at the very end, belonging to the line end.
    fn naive_lines(text: &str) -> Vec<&str> {
        let mut pieces: Vec<&str> = text.split('\n').collect();
        if pieces.last().is_some_and(|last| last.is_empty()) {
            pieces.pop();
        }
        pieces
            .into_iter()
            .map(|piece| piece.strip_suffix('\r').unwrap_or(piece))
            .collect()
    }

    /// A stream that arrives in pieces.
    struct Pieces(VecDeque<String>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let piece = self.0.pop_front().unwrap_or_default();
            into[..piece.len()].copy_from_slice(piece.as_bytes());
            Ok(piece.len())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn lines_end_with_lf_or_crlf(pieces in prop::collection::vec("(a|é|\r|\n|\r\n){1,4}", 0..12)) {
            let text = pieces.concat();
            let source = StdinSource {
                open: Arc::new(move || Box::new(Pieces(pieces.clone().into()))),
                ..StdinSource::lines()
            };
            prop_assert_eq!(read(&source).unwrap(), naive_lines(&text));
        }
    }

    #[test]
    fn more_input_than_the_queue_holds_arrives_in_order() {
        let text = "0123456789012345678901234567890\n".repeat(100_000);
        let lines = read(&of(text.leak().as_bytes())).unwrap();
        assert_eq!(lines.len(), 100_000);
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("unplugged"))
        }
    }

    #[test]
    fn errors_and_panics_of_the_thread_reach_the_task() {
        let broken = StdinSource {
            open: Arc::new(|| Box::new(Broken)),
            ..StdinSource::lines()
        };
        assert_eq!(
            read(&broken).unwrap_err().chain(),
            "cannot read standard input: unplugged"
        );
        let panics = StdinSource {
            open: Arc::new(|| panic!("on purpose")),
            ..StdinSource::lines()
        };
        assert_eq!(
            read(&panics).unwrap_err().to_string(),
            "the reading thread ended without a word"
        );
    }
}
