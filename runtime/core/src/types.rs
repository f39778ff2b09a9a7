//! What the engine asks of a record's type beyond moving it.

use serde::Serialize;
use std::fmt;

/// Facts about a stream's record type, carried as a value by the stream's edges.
///
/// Chosen by [`TypeInfo::of`] for types that serde can encode; a stream of columnar records gives
/// its own.
pub struct TypeInfo<T> {
    bytes_held: fn(&T) -> usize,
    varies: bool,
}

impl<T> Clone for TypeInfo<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for TypeInfo<T> {}

impl<T> fmt::Debug for TypeInfo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypeInfo({})", std::any::type_name::<T>())
    }
}

/// One record in so many is measured when sizes vary.
const SAMPLE: usize = 16;

impl<T: Serialize> TypeInfo<T> {
    /// The facts about a plain type: what owns no memory elsewhere has its own size, anything else
    /// is measured by its encoded length.
    pub fn of() -> Self {
        let varies = std::mem::needs_drop::<T>();
        Self {
            bytes_held: if varies {
                encoded_size::<T>
            } else {
                |_| std::mem::size_of::<T>()
            },
            varies,
        }
    }
}

impl<T> TypeInfo<T> {
    /// Memory that one record holds, in bytes: an estimate.
    pub fn bytes_held(&self, record: &T) -> usize {
        (self.bytes_held)(record)
    }

    /// Memory that `records` hold, in bytes, estimated from a sample when sizes vary.
    pub fn bytes_held_by(&self, records: &[T]) -> usize {
        if !self.varies {
            return std::mem::size_of_val(records);
        }
        let sampled: usize = records
            .iter()
            .step_by(SAMPLE)
            .map(|record| self.bytes_held(record))
            .sum();
        let count = records.len().div_ceil(SAMPLE).max(1);
        sampled / count * records.len()
    }
}

/// Counts bytes and keeps none.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn encoded_size<T: Serialize>(record: &T) -> usize {
    let mut count = Count(0);
    // A record that cannot be encoded is counted by its own size; encoding it for real reports why.
    let _unencodable = rmp_serde::encode::write(&mut count, record);
    count.0 + std::mem::size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_types_weigh_their_size_and_strings_what_they_hold() {
        assert_eq!(TypeInfo::of().bytes_held_by(&[1u64, 2, 3]), 24);
        let strings = vec!["x".repeat(1_000); 32];
        let held = TypeInfo::of().bytes_held_by(&strings);
        assert!((32 * 1_000..32 * 1_100).contains(&held), "{held}");
    }
}
