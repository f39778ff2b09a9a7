//! What the engine asks of a record's type beyond moving it.

use crate::error::{Error, Result};
use crate::flat::{FlatError, Reader, Writer, reads_flat};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::fmt;

/// Facts about a stream's record type, carried as a value by the stream's edges.
///
/// Chosen by [`TypeInfo::of`] for types that serde can encode; a stream of columnar records gives
/// its own.
pub struct TypeInfo<T> {
    bytes_held: fn(&T) -> usize,
    varies: bool,
    encode: fn(&[T], &mut Vec<u8>) -> Result<()>,
    decode: fn(&[u8], usize) -> Result<Vec<T>>,
    flattens: fn(&T) -> bool,
    flatten: fn(&[T], &mut Vec<u8>) -> std::result::Result<(), FlatError>,
    unflatten: fn(&[u8], usize) -> Result<Vec<T>>,
}

/// How records travel between processes of one executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Travel {
    /// Flat where the type allows it: values one after the other, without names.
    #[default]
    Flat,
    /// In MessagePack with named fields, as they are stored.
    Named,
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

impl<T: Serialize + DeserializeOwned> TypeInfo<T> {
    /// The facts about a plain type: what owns no memory elsewhere has its own size, anything else
    /// is measured by its encoded length. Records are encoded in MessagePack with named fields.
    pub fn of() -> Self {
        let varies = std::mem::needs_drop::<T>();
        Self {
            bytes_held: if varies {
                encoded_size::<T>
            } else {
                |_| std::mem::size_of::<T>()
            },
            varies,
            encode: encode_named::<T>,
            decode: decode::<T>,
            flattens: flattens::<T>,
            flatten: flatten::<T>,
            unflatten: unflatten::<T>,
        }
    }
}

impl<T> TypeInfo<T> {
    /// Appends the bytes of records, one after the other.
    ///
    /// # Errors
    /// When a record cannot be encoded.
    pub fn encode(&self, records: &[T], bytes: &mut Vec<u8>) -> Result<()> {
        (self.encode)(records, bytes)
    }

    /// The `count` records that the bytes hold.
    ///
    /// # Errors
    /// When these are not the bytes of as many records.
    pub fn decode(&self, bytes: &[u8], count: usize) -> Result<Vec<T>> {
        (self.decode)(bytes, count)
    }

    /// How records of this type travel, of which `first` is one: [`Travel::Flat`] when the type is seen to be read from that form, and
    /// this record comes back from it.
    ///
    /// *Cost*: some microseconds. Ask once a channel.
    pub fn travel(&self, first: &T) -> Travel {
        match (self.flattens)(first) {
            true => Travel::Flat,
            false => Travel::Named,
        }
    }

    /// Appends the bytes of records as they travel, and says in which form: as it was asked for, or named where one of them has no
    /// flat form.
    ///
    /// # Errors
    /// When a record cannot be encoded.
    pub fn pack(&self, travel: Travel, records: &[T], bytes: &mut Vec<u8>) -> Result<Travel> {
        let start = bytes.len();
        if travel == Travel::Flat {
            if (self.flatten)(records, bytes).is_ok() {
                return Ok(Travel::Flat);
            }
            bytes.truncate(start);
        }
        self.encode(records, bytes)?;
        Ok(Travel::Named)
    }

    /// The `count` records that [`Self::pack`] has made these bytes of.
    ///
    /// # Errors
    /// When these are not the bytes of as many records.
    pub fn unpack(&self, travel: Travel, bytes: &[u8], count: usize) -> Result<Vec<T>> {
        match travel {
            Travel::Flat => (self.unflatten)(bytes, count),
            Travel::Named => self.decode(bytes, count),
        }
    }

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

fn encode_named<T: Serialize>(records: &[T], bytes: &mut Vec<u8>) -> Result<()> {
    let mut encoder = rmp_serde::Serializer::new(bytes).with_struct_map();
    let mut each = records.iter();
    each.try_for_each(|record| record.serialize(&mut encoder).map_err(unencodable::<T>))
}

fn flatten<T: Serialize>(records: &[T], bytes: &mut Vec<u8>) -> std::result::Result<(), FlatError> {
    let mut writer = Writer(bytes);
    records
        .iter()
        .try_for_each(|record| record.serialize(&mut writer))
}

fn unflatten<T: DeserializeOwned>(bytes: &[u8], count: usize) -> Result<Vec<T>> {
    let mut reader = Reader(bytes);
    // Records that take no bytes take no memory either.
    let mut records = Vec::with_capacity(count.min(bytes.len()));
    for _ in 0..count {
        records.push(T::deserialize(&mut reader).map_err(|error| not_records::<T>(count, error))?);
    }
    match reader.0 {
        [] => Ok(records),
        left => Err(not_records::<T>(count, format!("{} bytes are left", left.len()))),
    }
}

/// Whether the type can be read, and this record is read as it was written: a field that is only written, or only read, shifts all others.
fn flattens<T: Serialize + DeserializeOwned>(record: &T) -> bool {
    let (mut bytes, mut again) = (Vec::new(), Vec::new());
    if !reads_flat::<T>() || record.serialize(&mut Writer(&mut bytes)).is_err() {
        return false;
    }
    let mut reader = Reader(&bytes);
    let Ok(read) = T::deserialize(&mut reader) else {
        return false;
    };
    reader.0.is_empty() && read.serialize(&mut Writer(&mut again)).is_ok() && again == bytes
}

#[cold]
fn not_records<T>(count: usize, problem: impl fmt::Display) -> Error {
    Error::user(format!("not {count} of {}: {problem}", type_name::<T>()))
}

fn unencodable<T>(error: rmp_serde::encode::Error) -> Error {
    Error::user(format!("a {} cannot be encoded: {error}", type_name::<T>()))
}

/// Fields are found by name or by place, as they come.
fn decode<T: DeserializeOwned>(bytes: &[u8], count: usize) -> Result<Vec<T>> {
    let mut decoder = rmp_serde::Deserializer::new(bytes);
    let mut records = Vec::with_capacity(count.min(bytes.len()));
    for _ in 0..count {
        records.push(T::deserialize(&mut decoder).map_err(|error| not_records::<T>(count, error))?);
    }
    match decoder.into_inner() {
        [] => Ok(records),
        left => Err(not_records::<T>(count, format!("{} bytes are left", left.len()))),
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
    fn records_come_back_and_other_bytes_do_not() {
        let records = vec![("a".to_owned(), 1u64), (String::new(), u64::MAX)];
        let (types, mut bytes) = (TypeInfo::of(), Vec::new());
        types.encode(&records, &mut bytes).unwrap();
        assert_eq!(types.decode(&bytes, 2).unwrap(), records);
        assert!(types.decode(&bytes, 1).is_err(), "too few");
        assert!(types.decode(&bytes, 3).is_err(), "too many");
        assert!(types.decode(&bytes[1..], 2).is_err(), "cut off");
    }

    #[test]
    fn records_travel_without_the_names_of_their_fields() {
        #[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
        struct Reading {
            sensor: u32,
            celsius: f64,
        }
        let records = [1, 2].map(|sensor| Reading { sensor, celsius: 0.5 });
        let (types, mut packed) = (TypeInfo::of(), Vec::new());
        let travel = types.travel(&records[0]);
        assert_eq!(types.pack(travel, &records, &mut packed).unwrap(), Travel::Flat);
        assert_eq!(packed.len(), 2 * (4 + 8));
        assert_eq!(types.unpack(travel, &packed, 2).unwrap(), records);
        assert!(types.unpack(travel, &packed, 3).is_err());
        assert!(types.unpack(travel, &packed, 1).is_err());
        assert!(types.unpack(travel, &packed[..packed.len() - 1], 2).is_err());
    }

    #[test]
    fn a_batch_whose_record_has_no_flat_form_travels_with_names() {
        #[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
        struct Sparse {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            note: Option<u32>,
            value: u32,
        }
        let full = Sparse {
            note: Some(1),
            value: 2,
        };
        let lean = Sparse { note: None, value: 3 };
        let types = TypeInfo::of();
        assert_eq!(types.travel(&lean), Travel::Named);
        // The first record does not show it.
        assert_eq!(types.travel(&full), Travel::Flat);
        let (records, mut bytes) = ([full, lean], vec![9]);
        let travel = types.pack(Travel::Flat, &records, &mut bytes).unwrap();
        assert_eq!((travel, bytes[0]), (Travel::Named, 9));
        assert_eq!(types.unpack(travel, &bytes[1..], 2).unwrap(), records);
    }

    #[test]
    fn plain_types_weigh_their_size_and_strings_what_they_hold() {
        assert_eq!(TypeInfo::of().bytes_held_by(&[1u64, 2, 3]), 24);
        let strings = vec!["x".repeat(1_000); 32];
        let held = TypeInfo::of().bytes_held_by(&strings);
        assert!((32 * 1_000..32 * 1_100).contains(&held), "{held}");
    }
}
