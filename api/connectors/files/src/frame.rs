//! Where records end in a stream of bytes.
//!
//! Pure functions over what is in memory: no file, no decoding. A line ends with LF or CRLF, the last
//! one of a file also with CR or nothing. A CSV record ends with the first line end that is not quoted.

use memchr::memchr;

/// How a format tells where a record ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// At each line end.
    Lines,
    /// At each line end outside of quotes (RFC 4180).
    Quoted {
        /// What separates fields.
        delimiter: u8,
    },
}

/// What [`Framer::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A record of `len` bytes; the next one begins at `next`.
    Record { len: usize, next: usize },
    /// The record does not end here.
    Incomplete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    QuoteInQuoted,
}

/// Finds the ends of records; remembers how far it looked, so that no byte is looked at twice.
#[derive(Debug)]
pub(crate) struct Framer {
    framing: Framing,
    scanned: usize,
    state: State,
}

impl Framer {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            framing,
            scanned: 0,
            state: State::FieldStart,
        }
    }

    /// The record at the start of `bytes`, which are the same as in the last call and more if that
    /// returned `Incomplete`. `ended`: the file ends with them.
    #[inline]
    pub(crate) fn next(&mut self, bytes: &[u8], ended: bool) -> Frame {
        let end = match self.framing {
            Framing::Lines => memchr(b'\n', &bytes[self.scanned..]).map(|i| self.scanned + i),
            Framing::Quoted { delimiter } => self.unquoted_line_end(bytes, delimiter),
        };
        let frame = match end {
            Some(end) => Frame::Record {
                len: without_cr(bytes, end),
                next: end + 1,
            },
            None if ended && !bytes.is_empty() && self.state != State::Quoted => Frame::Record {
                len: without_cr(bytes, bytes.len()),
                next: bytes.len(),
            },
            None => {
                self.scanned = bytes.len();
                return Frame::Incomplete;
            }
        };
        self.reset();
        frame
    }

    /// Forgets the record that was being looked at.
    pub(crate) fn reset(&mut self) {
        self.scanned = 0;
        self.state = State::FieldStart;
    }

    fn unquoted_line_end(&mut self, bytes: &[u8], delimiter: u8) -> Option<usize> {
        if self.scanned == 0
            && let Some(end) = memchr(b'\n', bytes)
            && memchr(b'"', &bytes[..end]).is_none()
        {
            return Some(end);
        }
        for (i, &byte) in bytes.iter().enumerate().skip(self.scanned) {
            if byte == b'\n' && self.state != State::Quoted {
                return Some(i);
            }
            self.state = self.state.after(byte, delimiter);
        }
        None
    }
}

impl State {
    fn after(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (State::FieldStart, b'"') | (State::QuoteInQuoted, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::QuoteInQuoted,
            (State::Quoted, _) => State::Quoted,
            _ if byte == delimiter => State::FieldStart,
            _ => State::Unquoted,
        }
    }
}

/// Whether a quote in `record` is left open.
pub(crate) fn leaves_quote_open(record: &[u8], delimiter: u8) -> bool {
    let state = record
        .iter()
        .fold(State::FieldStart, |state, &byte| state.after(byte, delimiter));
    state == State::Quoted
}

/// Length of the line whose LF, or the file's end, is at `end`.
#[inline]
fn without_cr(bytes: &[u8], end: usize) -> usize {
    if end > 0 && bytes[end - 1] == b'\r' {
        end - 1
    } else {
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frames `text` that arrives in pieces of `step` bytes.
    fn records(framing: Framing, text: &[u8], step: usize) -> (Vec<Vec<u8>>, usize) {
        let (mut framer, mut found, mut at, mut have) = (Framer::new(framing), Vec::new(), 0, 0);
        loop {
            match framer.next(&text[at..have], have == text.len()) {
                Frame::Record { len, next } => {
                    found.push(text[at..at + len].to_vec());
                    at += next;
                }
                Frame::Incomplete if have < text.len() => have = (have + step).min(text.len()),
                Frame::Incomplete => return (found, at),
            }
        }
    }

    const CSV: Framing = Framing::Quoted { delimiter: b',' };

    #[test]
    fn quotes_hide_line_ends() {
        let text = b"a,\"x\ny\",c\r\n\"say \"\"hi\n\"\"\",2\nun\"quoted\n,\"\"\nlast";
        for step in 1..text.len() {
            let (found, rest) = records(CSV, text, step);
            let want: [&[u8]; 5] = [
                b"a,\"x\ny\",c",
                b"\"say \"\"hi\n\"\"\",2",
                b"un\"quoted",
                b",\"\"",
                b"last",
            ];
            assert_eq!((found, rest), (want.map(<[u8]>::to_vec).to_vec(), text.len()));
        }
    }

    #[test]
    fn an_open_quote_at_the_end_is_incomplete() {
        let (found, rest) = records(CSV, b"a,b\n\"open,\nc\n", 3);
        assert_eq!((found.len(), rest), (1, 4));
    }

    proptest! {
        /// Lines are what `str::lines` says, save a CR at the very end, however they arrive.
        #[test]
        fn lines_are_lines(text in "([ab\r]{0,3}\n?|é){0,12}", step in 1usize..9) {
            // `str::lines` keeps the CR of a last line without LF, which ends the line here.
            let with_lf = format!("{text}{}", if text.ends_with('\r') { "\n" } else { "" });
            let want: Vec<Vec<u8>> = with_lf.lines().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(records(Framing::Lines, text.as_bytes(), step), (want, text.len()));
        }

        /// The csv crate finds as many records, when no quote is left open.
        #[test]
        fn csv_records_are_what_the_csv_crate_says(text in "([ab,]|\"|\"\"|\r\n|\n){0,14}", step in 1usize..5) {
            let (found, rest) = records(CSV, text.as_bytes(), step);
            prop_assume!(rest == text.len());
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false).flexible(true).from_reader(text.as_bytes());
            let want = reader.byte_records().count();
            prop_assert_eq!(found.iter().filter(|record| !record.is_empty()).count(), want);
        }
    }
}
