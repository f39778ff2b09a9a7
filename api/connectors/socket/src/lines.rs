//! Cuts a stream of bytes into chunks of whole lines, on the thread that reads it.

use memchr::{memchr, memrchr};
use std::io::{self, ErrorKind, Read};

/// Room for one read.
const READ_BYTES: usize = 64 * 1024;

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Whole lines, each with its end; the last one of a stream may have none.
    Lines(Vec<u8>),
    /// The beginning of a line that is longer than any line may be; its rest will not be seen.
    TooLong,
    /// No line is complete yet.
    Nothing,
    /// The stream has ended.
    End,
}

/// Reads chunks and keeps the line that the last read cut.
pub(crate) struct LineChunks {
    bytes: Vec<u8>,
    filled: usize,
    longest: usize,
    within_overlong: bool,
}

impl LineChunks {
    /// Lines of up to `longest` bytes; a longer one may still come out when it was read at once.
    pub(crate) fn new(longest: usize) -> Self {
        Self {
            bytes: Vec::new(),
            filled: 0,
            longest,
            within_overlong: false,
        }
    }

    /// Reads once. Behind `End` it begins anew, for another stream.
    pub(crate) fn read(&mut self, input: &mut dyn Read) -> io::Result<Chunk> {
        self.bytes
            .resize(self.bytes.len().max(self.filled + READ_BYTES), 0);
        let read = loop {
            match input.read(&mut self.bytes[self.filled..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if read == 0 {
            return Ok(self.last());
        }
        let new = self.filled..self.filled + read;
        self.filled = new.end;
        if self.within_overlong {
            self.drop_overlong();
            return Ok(self.whole_lines(0));
        }
        Ok(self.whole_lines(new.start))
    }

    /// The unfinished line at the end of a stream, then `End`.
    pub(crate) fn last(&mut self) -> Chunk {
        let rest = self.bytes[..self.filled].to_vec();
        (self.filled, self.within_overlong) = (0, false);
        if rest.is_empty() {
            Chunk::End
        } else {
            Chunk::Lines(rest)
        }
    }

    fn drop_overlong(&mut self) {
        let line_end = memchr(b'\n', &self.bytes[..self.filled]);
        let gone = line_end.map_or(self.filled, |end| end + 1);
        self.within_overlong = line_end.is_none();
        self.bytes.copy_within(gone..self.filled, 0);
        self.filled -= gone;
    }

    /// Takes out all whole lines; there is no line end before `from`.
    fn whole_lines(&mut self, from: usize) -> Chunk {
        if let Some(end) = memrchr(b'\n', &self.bytes[from..self.filled]) {
            let end = from + end + 1;
            let lines = self.bytes[..end].to_vec();
            self.bytes.copy_within(end..self.filled, 0);
            self.filled -= end;
            self.bytes.truncate(self.filled + READ_BYTES);
            return Chunk::Lines(lines);
        }
        // One more may be the CR of the line end.
        if self.filled > self.longest.saturating_add(1) {
            self.filled = 0;
            self.within_overlong = true;
            return Chunk::TooLong;
        }
        Chunk::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stream that arrives in pieces.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    proptest! {
        /// However a stream arrives, whole lines come out, and those too long are dropped once.
        #[test]
        fn lines_stay_whole(pieces in prop::collection::vec("[ab]{0,7}[ab\n]\n?", 0..20), longest in 3usize..12) {
            let stream = pieces.concat();
            let (mut chunks, mut input) = (LineChunks::new(longest), Pieces(pieces.into_iter().map(Into::into).collect()));
            let (mut got, mut too_long) = (Vec::new(), 0);
            loop {
                match chunks.read(&mut input).unwrap() {
                    Chunk::Lines(lines) => got.extend(String::from_utf8(lines).unwrap().split_inclusive('\n').map(str::to_owned)),
                    Chunk::TooLong => too_long += 1,
                    Chunk::Nothing => {}
                    Chunk::End => break,
                }
            }
            let fits = |line: &&str| line.trim_end().len() <= longest;
            got.retain(|line| { let ok = fits(&line.as_str()); too_long += usize::from(!ok); ok });
            let want: Vec<&str> = stream.split_inclusive('\n').filter(fits).collect();
            prop_assert_eq!(got, want);
            prop_assert_eq!(too_long, stream.split_inclusive('\n').filter(|line| !fits(line)).count());
        }
    }
}
