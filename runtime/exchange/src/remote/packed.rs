//! A batch as it travels.

use hurtig_core::config::ExchangeCompression;
use hurtig_core::types::{Travel, TypeInfo};
use hurtig_core::{Batch, Error, Result};

/// Every record has a time of its own.
const TIMES: u8 = 1;
/// Every record has its key's hash beside it.
const HASHES: u8 = 2;
/// Records are written with the names of their fields, not flat.
const NAMED: u8 = 4;
/// How what follows is compressed.
const COMPRESSION: u8 = 0b11_000;
const LZ4: u8 = 0b01_000;
const ZSTD: u8 = 0b10_000;
/// The most bytes of a batch that crosses; a batch is cut long before, but a record is not.
pub(super) const MAX_BATCH: usize = 80 << 20;
/// What a batch weighs beyond its bytes: header, queue and allocation.
const OVERHEAD: usize = 128;
/// Count and columns.
const HEAD: usize = 5;
/// Fewer bytes are not compressed: there is next to nothing to gain.
const COMPRESSED_FROM: usize = 512;
/// The level that zstd itself takes for its fastest.
const ZSTD_LEVEL: i32 = 1;

/// How a channel's batches are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// That of records.
    pub(crate) travel: Travel,
    /// That of everything behind count and columns.
    pub(crate) compression: ExchangeCompression,
}

/// The bytes of a batch: count (`u32`), columns (`u8`), one time or all (`i64`), hashes (`u64`), records. Numbers are
/// little-endian. What follows the columns may be compressed, behind its length (`u32`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed(Vec<u8>);

impl Packed {
    /// Encodes a batch, which stays as it is; says how its records were written.
    pub(crate) fn encode<T>(batch: &mut Batch<T>, types: &TypeInfo<T>, form: Form) -> Result<(Self, Travel)> {
        let count = batch.len();
        let too_many = |_| Error::internal("a batch of more than 2^32 records");
        let written = u32::try_from(count).map_err(too_many)?;
        let common = batch.common_time();
        let (times, hashes) = (if common.is_none() { count } else { 1 }, batch.hashes().len());
        let mut bytes = Vec::with_capacity(16 + count * size_of::<T>() + 8 * (times + hashes));
        bytes.extend_from_slice(&written.to_le_bytes());
        bytes.push(if common.is_none() { TIMES } else { 0 } | if hashes > 0 { HASHES } else { 0 });
        match common {
            Some(time) => bytes.extend_from_slice(&time.to_le_bytes()),
            None => (0..count).for_each(|i| bytes.extend_from_slice(&batch.time(i).to_le_bytes())),
        }
        for hash in batch.hashes() {
            bytes.extend_from_slice(&hash.to_le_bytes());
        }
        let travel = types.pack(form.travel, batch.records(), &mut bytes)?;
        if travel == Travel::Named {
            bytes[HEAD - 1] |= NAMED;
        }
        if bytes.len() > MAX_BATCH {
            return Err(Error::user(format!(
                "{count} records of type {} take {} bytes, and at most {MAX_BATCH} go to another worker at once: make them smaller",
                std::any::type_name::<T>(),
                bytes.len()
            )));
        }
        compress(&mut bytes, form.compression)?;
        Ok((Self(bytes), travel))
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
        let inflated = inflate(columns & COMPRESSION, rest)?;
        let rest = inflated.as_deref().unwrap_or(rest);
        let times = if columns & TIMES == 0 { 1 } else { count };
        let hashes = if columns & HASHES == 0 { 0 } else { count };
        if rest.len() < times.saturating_add(hashes).saturating_mul(8) {
            return Err(cut_off());
        }
        let (times, rest) = rest.split_at(times * 8);
        let (hashes, rest) = rest.split_at(hashes * 8);
        let (times, _) = times.as_chunks();
        let (hashes, _) = hashes.as_chunks();
        let travel = if columns & NAMED == 0 {
            Travel::Flat
        } else {
            Travel::Named
        };
        let mut batch = Batch::from_records(types.unpack(travel, rest, count)?);
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

/// Compresses what stands behind the head, unless that gains less than an eighth.
fn compress(bytes: &mut Vec<u8>, compression: ExchangeCompression) -> Result<()> {
    let plain = &bytes[HEAD..];
    if compression == ExchangeCompression::None || plain.len() < COMPRESSED_FROM {
        return Ok(());
    }
    let (mark, small) = match compression {
        ExchangeCompression::None => return Ok(()),
        ExchangeCompression::Lz4 => (LZ4, lz4_flex::block::compress(plain)),
        ExchangeCompression::Zstd => {
            let failed = |error| Error::external("a batch cannot be compressed", error);
            (ZSTD, zstd::bulk::compress(plain, ZSTD_LEVEL).map_err(failed)?)
        }
    };
    if small.len() + 4 > plain.len() / 8 * 7 {
        return Ok(());
    }
    // A batch is far shorter than 4 GiB.
    let length = u32::try_from(plain.len()).unwrap_or(u32::MAX).to_le_bytes();
    bytes.truncate(HEAD);
    bytes[HEAD - 1] |= mark;
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&small);
    Ok(())
}

/// What was compressed; `None`: it was not.
fn inflate(compression: u8, mut small: &[u8]) -> Result<Option<Vec<u8>>> {
    if compression == 0 {
        return Ok(None);
    }
    let wrong = |problem: String| {
        Error::internal(format!(
            "a compressed batch that came from another process is damaged: {problem}"
        ))
    };
    let length = take(&mut small).ok_or_else(|| wrong("it is cut off".to_owned()))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_BATCH {
        return Err(wrong(format!("it says that it has {length} bytes")));
    }
    let plain = match compression {
        LZ4 => lz4_flex::block::decompress(small, length).map_err(|error| wrong(error.to_string()))?,
        ZSTD => zstd::bulk::decompress(small, length).map_err(|error| wrong(error.to_string()))?,
        other => return Err(wrong(format!("there is no compression {}", other >> 3))),
    };
    match plain.len() {
        is if is == length => Ok(Some(plain)),
        is => Err(wrong(format!("it has {is} bytes and says {length}"))),
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

    fn form() -> impl Strategy<Value = Form> {
        let travel = prop::sample::select(vec![Travel::Flat, Travel::Named]);
        let compression = prop::sample::select(vec![
            ExchangeCompression::None,
            ExchangeCompression::Lz4,
            ExchangeCompression::Zstd,
        ]);
        (travel, compression).prop_map(|(travel, compression)| Form { travel, compression })
    }

    proptest! {
        #[test]
        fn a_batch_arrives_as_it_left(times in times(), hashed: bool, skip in 0..10usize, form in form()) {
            let mut batch = Batch::new();
            for (i, time) in times.into_iter().enumerate() {
                let record = (i as u64, "x".repeat(i % 70));
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
            let (packed, travel) = Packed::encode(&mut batch, &types, form).unwrap();
            prop_assert_eq!(travel, form.travel);
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
        let refused = Packed::encode(&mut batch, &TypeInfo::of(), Form::default())
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("String") && refused.contains("83886"),
            "{refused}"
        );
    }

    #[test]
    fn a_batch_that_is_cut_off_anywhere_is_refused() {
        for compression in [
            ExchangeCompression::None,
            ExchangeCompression::Lz4,
            ExchangeCompression::Zstd,
        ] {
            let form = Form {
                compression,
                ..Form::default()
            };
            let mut batch = Batch::from_records(vec!["a".to_owned(), "b".repeat(2_000)]);
            let types = TypeInfo::of();
            let (packed, _) = Packed::encode(&mut batch, &types, form).unwrap();
            assert_eq!(
                packed.bytes().len() < 200,
                compression != ExchangeCompression::None
            );
            for length in 0..packed.bytes().len() {
                let cut = Packed::from_bytes(packed.bytes()[..length].to_vec());
                assert!(cut.decode::<String>(&types).is_err(), "{length} bytes");
            }
        }
    }

    #[test]
    fn a_compressed_batch_that_says_that_it_is_huge_takes_no_memory() {
        for mark in [LZ4, ZSTD, LZ4 | ZSTD] {
            let mut bytes = vec![1, 0, 0, 0, mark];
            bytes.extend_from_slice(&u32::MAX.to_le_bytes());
            bytes.extend_from_slice(&[0; 20]);
            let refused = Packed::from_bytes(bytes)
                .decode::<u64>(&TypeInfo::of())
                .unwrap_err();
            assert!(refused.to_string().contains("4294967295 bytes"), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_made_smaller_stays_as_it_is() {
        let numbers: Vec<u64> = (0..1_000_u64)
            .map(|n| (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .collect();
        let form = Form {
            compression: ExchangeCompression::Lz4,
            ..Form::default()
        };
        let plain = Packed::encode(
            &mut Batch::from_records(numbers.clone()),
            &TypeInfo::of(),
            Form::default(),
        );
        let small = Packed::encode(&mut Batch::from_records(numbers), &TypeInfo::of(), form);
        assert_eq!(plain.unwrap(), small.unwrap());
    }

    #[test]
    fn a_batch_has_the_bytes_that_the_documentation_says() {
        let mut batch = Batch::new();
        batch.push_hashed(7_u16, 5, 9);
        batch.push_hashed(8_u16, 6, 10);
        let (packed, _) = Packed::encode(&mut batch, &TypeInfo::of(), Form::default()).unwrap();
        let numbers = [5_u64, 6, 9, 10].map(u64::to_le_bytes).concat();
        assert_eq!(
            packed.bytes(),
            [&[2, 0, 0, 0, 3][..], &numbers, &[7, 0, 8, 0]].concat()
        );
        let named = Form {
            travel: Travel::Named,
            ..Form::default()
        };
        let (packed, _) = Packed::encode(&mut batch, &TypeInfo::of(), named).unwrap();
        assert_eq!(packed.bytes(), [&[2, 0, 0, 0, 7][..], &numbers, &[7, 8]].concat());
    }
}
