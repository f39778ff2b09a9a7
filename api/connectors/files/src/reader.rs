//! The reader: one subtask's way through its splits.

use crate::buffer::Buffer;
use crate::format::{Decoded, Decoder, Format, Reason};
use crate::frame::{Frame, Framer, Framing};
use crate::input::{self, Input};
use crate::malformed::{Found, KEPT_OF_OVERLONG, MalformedCount, Outlet};
use crate::source::Limits;
use crate::split::FileSplit;
use hurtig_core::Result;
use hurtig_core::str::Str;
use hurtig_dataflow::operator::{Budget, Collector, OpenContext};
use hurtig_dataflow::source::{SourceReader, SourceStatus, Split};
use hurtig_state::{OperatorSnapshot, Redistribution};
use memchr::memchr;
use std::collections::VecDeque;
use std::io::Read;
use std::task::{Context, Poll, Waker};

/// Name of the snapshot's section: the splits that are not read to their end.
const SPLITS: &str = "file-splits";

/// A header is not searched for beyond this; a file without one has no well-formed record.
const MAX_HEADER_BYTES: usize = 1024 * 1024;
/// Bytes read at once in search of a header.
const HEADER_BLOCK_BYTES: usize = 8 * 1024;

/// Reads splits one after the other. Each call reads at most one block.
pub(crate) struct FileReader<F: Format, O> {
    format: F,
    limits: Limits,
    decoder: F::Decoder,
    waiting: VecDeque<FileSplit>,
    current: Option<Reading>,
    opened: u64,
    no_more: bool,
    waker: Option<Waker>,
    count: MalformedCount,
    outlet: std::marker::PhantomData<fn() -> O>,
}

impl<F: Format, O> FileReader<F, O> {
    pub(crate) fn new(format: F, limits: Limits) -> Self {
        Self {
            decoder: format.decoder(),
            format,
            limits,
            waiting: VecDeque::new(),
            current: None,
            opened: 0,
            no_more: false,
            waker: None,
            count: MalformedCount::default(),
            outlet: std::marker::PhantomData,
        }
    }

    fn open_next(&mut self) -> Result<()> {
        let Some(split) = self.waiting.pop_front() else {
            return Ok(());
        };
        let mut reading = Reading::open(split, self.format.framing(), self.limits.block_bytes)?;
        if self.format.has_header() {
            let header = reading.header(self.format.framing(), self.limits.record_bytes)?;
            self.decoder.begin(Some(&header));
        } else {
            self.decoder.begin(None);
        }
        self.current = Some(reading);
        self.opened += 1;
        Ok(())
    }
}

impl<F: Format, O: Outlet<F::Record>> FileReader<F, O> {
    /// Reads on in the current split until `out` is full, fuel has run out, or a second block is needed.
    fn advance(&mut self, out: &mut Collector<O::Out>, b: &mut Budget) -> Result<SourceStatus> {
        let Some(reading) = &mut self.current else {
            return Ok(SourceStatus::More);
        };
        let mut may_read = true;
        while !out.full() && b.spend() {
            match reading.step(self.limits.record_bytes) {
                Step::Record { len, next } => {
                    let buffer = &reading.buffer;
                    match self.decoder.decode(buffer.block(), buffer.range(len)) {
                        Decoded::Record(record) => out.push(O::record(record)),
                        Decoded::Nothing => {}
                        Decoded::Malformed(reason) => {
                            self.count.add_one();
                            out_malformed::<F::Record, O>(out, reading.found(reason, len));
                        }
                    }
                    reading.buffer.consume(next);
                }
                Step::Malformed(reason) => {
                    self.count.add_one();
                    out_malformed::<F::Record, O>(
                        out,
                        reading.found(reason, reading.kept(self.limits.record_bytes)),
                    );
                    reading.pass_over_line();
                }
                Step::NeedsInput if may_read => {
                    may_read = false;
                    reading.refill()?;
                }
                Step::NeedsInput => break,
                Step::Ended => {
                    self.current = None;
                    return Ok(SourceStatus::SplitFinished);
                }
            }
        }
        Ok(SourceStatus::More)
    }
}

#[cold]
fn out_malformed<T, O: Outlet<T>>(out: &mut Collector<O::Out>, found: Found<'_>) {
    if let Some(record) = O::malformed(found) {
        out.push(record);
    }
}

impl<F: Format, O: Outlet<F::Record>> SourceReader<O::Out> for FileReader<F, O> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        if let Some(snapshot) = ctx.restored() {
            self.waiting = snapshot.operator(SPLITS)?.into();
        }
        Ok(())
    }

    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Collector<O::Out>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        if self.current.is_none()
            && let Err(e) = self.open_next()
        {
            return Poll::Ready(Err(e));
        }
        match &self.current {
            Some(_) => Poll::Ready(self.advance(out, b)),
            None if self.no_more => Poll::Ready(Ok(SourceStatus::Finished)),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn publish(&mut self, accumulators: &hurtig_dataflow::operator::Accumulators) {
        self.count.publish(accumulators);
    }

    fn current_split(&self) -> u64 {
        self.opened
    }

    fn wants_split(&self) -> bool {
        !self.no_more && self.current.is_none() && self.waiting.is_empty()
    }

    fn add_split(&mut self, split: Option<Split>) -> Result<()> {
        match split {
            Some(split) => self.waiting.push_back(FileSplit::from_split(&split)?),
            None => self.no_more = true,
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let current = self.current.iter().map(Reading::state);
        let splits: Vec<FileSplit> = current.chain(self.waiting.iter().cloned()).collect();
        snapshot.put_operator(SPLITS, Redistribution::Split, &splits)
    }
}

/// What comes next in a split.
enum Step {
    Record { len: usize, next: usize },
    Malformed(Reason),
    NeedsInput,
    Ended,
}

/// A split that is being read.
struct Reading {
    split: FileSplit,
    path: Str,
    input: Input,
    buffer: Buffer,
    framer: Framer,
    /// What lies before this position is dropped: decompressors cannot seek.
    from: u64,
    within_record: bool,
}

impl Reading {
    fn open(split: FileSplit, framing: Framing, block_bytes: usize) -> Result<Self> {
        let input = input::open(&split.path, split.position)?;
        Ok(Self {
            path: Str::from(split.path.as_str()),
            buffer: Buffer::new(input.position, block_bytes),
            input,
            framer: Framer::new(framing),
            from: split.position,
            within_record: split.within_record,
            split,
        })
    }

    /// The file's header; moves behind it when the split begins before its end. Empty when there is
    /// none, so that no record fits it.
    fn header(&mut self, framing: Framing, limit: usize) -> Result<Vec<u8>> {
        let limit = limit.min(MAX_HEADER_BYTES);
        if self.buffer.position() == 0 && self.from == 0 {
            // What comes through a pipe can be read once only.
            let (path, input) = (&self.split.path, &mut self.input.bytes);
            let (header, _) = read_header(path, input, &mut self.buffer, (framing, limit))?;
            return Ok(header);
        }
        let mut input = input::open(&self.split.path, 0)?;
        let mut buffer = Buffer::new(0, HEADER_BLOCK_BYTES);
        let (header, end) = read_header(&self.split.path, &mut input.bytes, &mut buffer, (framing, limit))?;
        if self.from < end {
            self.from = end;
            self.within_record = false;
        }
        Ok(header)
    }

    /// The split with the position that was reached.
    fn state(&self) -> FileSplit {
        let position = self.buffer.position().max(self.from);
        FileSplit {
            position,
            within_record: self.within_record,
            ..self.split.clone()
        }
    }

    fn refill(&mut self) -> Result<()> {
        let result = self.buffer.refill(&mut self.input.bytes);
        result.map_err(|e| input::read_failed(&self.split.path, self.buffer.position(), e))
    }

    #[inline]
    fn step(&mut self, limit: usize) -> Step {
        if (self.within_record || self.buffer.position() < self.from) && !self.reach_record() {
            return if self.buffer.ended() {
                Step::Ended
            } else {
                Step::NeedsInput
            };
        }
        if !self.split.owns(self.buffer.position()) {
            return Step::Ended;
        }
        let (unread, ended) = (self.buffer.unread(), self.buffer.ended());
        match self.framer.next(unread, ended) {
            Frame::Record { len, next } if len <= limit => Step::Record { len, next },
            Frame::Record { .. } => Step::Malformed(Reason::TooLong { limit }),
            // One more may be the CR of a line end.
            Frame::Incomplete if unread.len() > limit.saturating_add(1) => {
                Step::Malformed(Reason::TooLong { limit })
            }
            Frame::Incomplete if !ended => Step::NeedsInput,
            Frame::Incomplete if unread.is_empty() => Step::Ended,
            Frame::Incomplete => Step::Malformed(Reason::OpenQuote),
        }
    }

    /// Drops what lies before the first record that is wanted; false when more input is needed.
    fn reach_record(&mut self) -> bool {
        let unread = self.buffer.unread().len();
        let missing = self.from.saturating_sub(self.buffer.position());
        self.buffer
            .consume(usize::try_from(missing).unwrap_or(usize::MAX).min(unread));
        if self.buffer.position() < self.from {
            return false;
        }
        if self.within_record {
            let line_end = memchr(b'\n', self.buffer.unread());
            self.buffer
                .consume(line_end.map_or(self.buffer.unread().len(), |end| end + 1));
            self.within_record = line_end.is_none();
        }
        !self.within_record
    }

    /// Goes behind the next line end, which may not have been read yet.
    fn pass_over_line(&mut self) {
        self.framer.reset();
        self.within_record = true;
    }

    /// How much is kept of a record without a usable end: its first line, or so much of it as has
    /// been read wherever the blocks began.
    fn kept(&self, limit: usize) -> usize {
        let unread = self.buffer.unread();
        let start = &unread[..unread.len().min(KEPT_OF_OVERLONG).min(limit)];
        memchr(b'\n', start).unwrap_or(start.len())
    }

    fn found(&self, reason: Reason, len: usize) -> Found<'_> {
        let bytes = &self.buffer.unread()[..len];
        Found {
            path: &self.path,
            offset: self.buffer.position(),
            reason,
            bytes,
        }
    }
}

/// The first record of a file that is not empty, and the position behind it, where `buffer` then
/// stands.
fn read_header(
    path: &str,
    input: &mut dyn Read,
    buffer: &mut Buffer,
    (framing, limit): (Framing, usize),
) -> Result<(Vec<u8>, u64)> {
    let mut framer = Framer::new(framing);
    loop {
        match framer.next(buffer.unread(), buffer.ended()) {
            Frame::Record { len: 0, next } => buffer.consume(next),
            Frame::Record { len, next } => {
                let header = buffer.unread()[..len].to_vec();
                buffer.consume(next);
                return Ok((header, buffer.position()));
            }
            Frame::Incomplete if buffer.ended() || buffer.unread().len() > limit => {
                return Ok((Vec::new(), 0));
            }
            Frame::Incomplete => {
                let position = buffer.position();
                buffer
                    .refill(input)
                    .map_err(|e| input::read_failed(path, position, e))?;
            }
        }
    }
}
