//! What the bytes of a part are: rows one after the other, or a format that knows the whole part.

use super::encode::Encoder;
use hurtig_core::Result;

/// A format of part files: makes an encoder for each part.
pub trait PartFormat<T>: Clone + Send + Sync + 'static {
    /// What encodes one part.
    type Encoder: PartEncoder<T>;

    /// Whether a part can be continued at any length that it had: true for rows. Otherwise a part ends at every
    /// checkpoint.
    const RESUMABLE: bool;

    /// An encoder for a part that has `length` bytes: 0 unless it is [`Self::RESUMABLE`].
    ///
    /// # Errors
    /// When the format cannot be written as it was set up.
    fn begin(&self, length: u64) -> Result<Self::Encoder>;
}

/// Encodes the records of one part.
pub trait PartEncoder<T>: Send {
    /// Takes `records`, and appends to `out` what can be written.
    ///
    /// # Errors
    /// A record that the format cannot express.
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()>;

    /// About how many bytes will follow for records that were taken and not yet appended.
    fn buffered_bytes(&self) -> u64 {
        0
    }

    /// The part is complete: appends what is left.
    ///
    /// # Errors
    /// When the part cannot be completed.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// A row format: what an [`Encoder`] writes, record after record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows<E>(pub(super) E);

/// Encodes the rows of one part.
#[derive(Clone, Debug)]
pub struct RowsOfPart<E> {
    encoder: E,
    first: bool,
}

impl<T, E: Encoder<T>> PartFormat<T> for Rows<E> {
    type Encoder = RowsOfPart<E>;
    const RESUMABLE: bool = true;

    fn begin(&self, length: u64) -> Result<RowsOfPart<E>> {
        Ok(RowsOfPart {
            encoder: self.0.clone(),
            first: length == 0,
        })
    }
}

impl<T, E: Encoder<T>> PartEncoder<T> for RowsOfPart<E> {
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()> {
        let first = std::mem::replace(&mut self.first, false);
        self.encoder.encode(records, first, out)
    }
}
