//! A batch as it travels.

use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Error, Result};

/// Every record has a time of its own.
const TIMES: u8 = 1;
/// Every record has its key's hash beside it.
const HASHES: u8 = 2;
/// The most bytes of a batch that crosses; a batch is cut long before, but a record is not.
pub(super) const MAX_BATCH: usize = 80 << 20;
/// What a batch weighs beyond its bytes: header, queue and allocation.
const OVERHEAD: usize = 128;

/// The bytes of a batch: count (`u32`), columns (`u8`), one time or all (`i64`), hashes (`u64`), records. Numbers are
/// little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed(Vec<u8>);

impl Packed {
    /// Encodes a batch, which stays as it is.
    pub(crate) fn encode<T>(batch: &mut Batch<T>, types: &TypeInfo<T>) -> Result<Self> {
        let count = batch.len();
        let too_many = |_| Error::internal("a batch of more than 2^32 records");
        let written = u32::try_from(count).map_err(too_many)?;
        let common = batch.common_time();
        let hashes = batch.hashes().len();
        let columns = if common.is_none() { TIMES } else { 0 } | if hashes > 0 { HASHES } else { 0 };
        let mut bytes = Vec::with_capacity(16 + count * (size_of::<T>() + 1) + 8 * hashes);
        bytes.extend_from_slice(&written.to_le_bytes());
        bytes.push(columns);
        match common {
            Some(time) => bytes.extend_from_slice(&time.to_le_bytes()),
            None => (0..count).for_each(|i| bytes.extend_from_slice(&batch.time(i).to_le_bytes())),
        }
        for hash in batch.hashes() {
            bytes.extend_from_slice(&hash.to_le_bytes());
        }
        types.pack(batch.records(), &mut bytes)?;
        if bytes.len() > MAX_BATCH {
            return Err(Error::user(format!(
                "{count} records of type {} take {} bytes, and at most {MAX_BATCH} go to another worker at once: make them smaller",
                std::any::type_name::<T>(),
                bytes.len()
            )));
        }
        Ok(Self(bytes))
    }

    /// What came from another process.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What it counts for in queues and credits.
    pub(crate) fn weight(&self) -> usize {
        self.0.len() + OVERHEAD
    }

    /// The batch.
    pub(crate) fn decode<T>(&self, types: &TypeInfo<T>) -> Result<Batch<T>> {
        let cut_off = || Error::internal("a batch that came from another process is cut off");
        let mut rest = &self.0[..];
        let count = u32::from_le_bytes(*take(&mut rest).ok_or_else(cut_off)?) as usize;
        let [columns] = *take(&mut rest).ok_or_else(cut_off)?;
        let times = if columns & TIMES == 0 { 1 } else { count };
        let hashes = if columns & HASHES == 0 { 0 } else { count };
        if rest.len() < times.saturating_add(hashes).saturating_mul(8) {
            return Err(cut_off());
        }
        let (times, rest) = rest.split_at(times * 8);
        let (hashes, rest) = rest.split_at(hashes * 8);
        let (times, _) = times.as_chunks();
        let (hashes, _) = hashes.as_chunks();
        let mut batch = Batch::from_records(types.unpack(rest, count)?);
        match times {
            [common] => batch.assign_common_time(i64::from_le_bytes(*common)),
            each => {
                let mut each = each.iter().map(|time| i64::from_le_bytes(*time));
                batch.assign_times(|_, none| each.next().unwrap_or(none));
            }
        }
        if !hashes.is_empty() {
            let hashes = hashes.iter().map(|hash| u64::from_le_bytes(*hash));
            batch.set_hashes(|_, column| column.extend(hashes));
        }
        Ok(batch)
    }
}

/// Takes so many bytes from the front.
pub(super) fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::time::NO_TIMESTAMP;
    use proptest::prelude::*;

    fn times() -> impl Strategy<Value = Vec<i64>> {
        let one = prop_oneof![Just(NO_TIMESTAMP), -5..5i64];
        let same = (one.clone(), 1..50usize).prop_map(|(time, n)| vec![time; n]);
        prop_oneof![same, prop::collection::vec(one, 1..50)]
    }

    proptest! {
        #[test]
        fn a_batch_arrives_as_it_left(times in times(), hashed: bool, skip in 0..10usize) {
            let mut batch = Batch::new();
            for (i, time) in times.into_iter().enumerate() {
                let record = (i as u64, "x".repeat(i % 7));
                if hashed {
                    batch.push_hashed(record, time, i as u64 * 7);
                } else {
                    batch.push(record, time);
                }
            }
            for _ in 0..skip.min(batch.len() - 1) {
                batch.pop_front();
            }
            let types = TypeInfo::of();
            let packed = Packed::encode(&mut batch, &types).unwrap();
            let mut arrived = packed.decode(&types).unwrap();
            prop_assert_eq!(arrived.hashes(), batch.hashes());
            let all = |batch: &mut Batch<_>| std::iter::from_fn(|| batch.pop_front()).collect::<Vec<_>>();
            prop_assert_eq!(all(&mut arrived), all(&mut batch));
        }

        #[test]
        fn bytes_that_are_no_batch_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            // Whatever it is, it neither panics nor asks for memory that the bytes do not fill.
            let decoded = Packed::from_bytes(bytes).decode::<u64>(&TypeInfo::of());
            if let Ok(batch) = decoded {
                prop_assert!(batch.len() < 64);
            }
        }
    }

    #[test]
    fn a_record_that_is_too_large_to_cross_is_refused_with_its_size() {
        let mut batch = Batch::from_records(vec!["x".repeat(MAX_BATCH)]);
        let refused = Packed::encode(&mut batch, &TypeInfo::of())
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("String") && refused.contains("83886"),
            "{refused}"
        );
    }

    #[test]
    fn a_batch_that_is_cut_off_anywhere_is_refused() {
        let mut batch = Batch::from_records(vec!["a".to_owned(), "bc".to_owned()]);
        let types = TypeInfo::of();
        let packed = Packed::encode(&mut batch, &types).unwrap();
        for length in 0..packed.bytes().len() {
            let cut = Packed::from_bytes(packed.bytes()[..length].to_vec());
            assert!(cut.decode::<String>(&types).is_err(), "{length} bytes");
        }
    }
}
