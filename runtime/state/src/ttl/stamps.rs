//! The times of last access before the bytes of a value.
//!
//! ```text
//! C1 · count (varint) · count times (8 bytes each, little-endian, ms since 1970) · the value as it is without
//! ```
//!
//! No MessagePack begins with `C1`, so values with and without times are told apart by their first byte. A value, and
//! the value of a map's user key, has one time; a list has one for each element, in the order of the elements, none
//! less than the one before. So the last time is the newest.

use hurtig_core::error::{Error, Result};
use hurtig_core::varint;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::io::Cursor;

/// Before a value that has times. MessagePack never uses it.
const MARK: u8 = 0xc1;
const TIME_BYTES: usize = 8;

/// How many times a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamps {
    /// None: its state has no time-to-live.
    None,
    /// One.
    One,
    /// One for each element.
    PerElement,
}

/// A value taken apart: its times, and the bytes that it has without them.
pub(crate) struct Stamped<'a> {
    times: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl<'a> Stamped<'a> {
    /// Takes a value apart; `None` for one without times.
    ///
    /// # Errors
    /// When it is cut off.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Option<Self>> {
        let Some(mut rest) = bytes.strip_prefix(&[MARK]) else {
            return Ok(None);
        };
        let length = varint::take(&mut rest)
            .and_then(|count| usize::try_from(count).ok())
            .and_then(|count| count.checked_mul(TIME_BYTES));
        let split = length.and_then(|length| rest.split_at_checked(length));
        let (times, value) = split.ok_or_else(|| damaged("is cut off within its times of access"))?;
        Ok(Some(Self { times, value }))
    }

    /// As [`Self::read`], for a value that has times.
    ///
    /// # Errors
    /// When it has none or is cut off.
    pub(crate) fn expect(bytes: &'a [u8]) -> Result<Self> {
        Self::read(bytes)?.ok_or_else(|| damaged("has no times of access"))
    }

    /// The times.
    pub(crate) fn times(&self) -> impl ExactSizeIterator<Item = i64> + use<'a> {
        let times = self.times.as_chunks::<TIME_BYTES>().0.iter();
        times.map(|time| i64::from_le_bytes(*time))
    }

    /// The only time.
    ///
    /// # Errors
    /// When there are more or none.
    pub(crate) fn one(&self) -> Result<i64> {
        let mut times = self.times();
        match (times.next(), times.next()) {
            (Some(time), None) => Ok(time),
            _ => Err(damaged(
                "has not one time of access: it was written as another kind of state",
            )),
        }
    }

    /// How many times are not after `until`: so many elements at the front of a list.
    fn before(&self, until: i64) -> usize {
        self.times().take_while(|time| *time <= until).count()
    }
}

/// What of a value was accessed after `until`; `None` when nothing was. One without times is as it is.
///
/// # Errors
/// When the bytes are cut off.
pub(crate) fn live(bytes: &[u8], until: i64) -> Result<Option<Cow<'_, [u8]>>> {
    let Some(stamped) = Stamped::read(bytes)? else {
        return Ok(Some(Cow::Borrowed(bytes)));
    };
    let (before, all) = (stamped.before(until), stamped.times().len());
    match before {
        0 if all > 0 => Ok(Some(Cow::Borrowed(bytes))),
        some if some < all => {
            let times: Vec<i64> = stamped.times().skip(before).collect();
            let rest = without_first(stamped.value, before)?;
            Ok(Some(Cow::Owned(stamp(&rest, &times))))
        }
        _ => Ok(None),
    }
}

/// Whether all of a value was accessed until `until`; one without times was not.
///
/// # Errors
/// When the bytes are cut off.
pub(crate) fn has_expired(bytes: &[u8], until: i64) -> Result<bool> {
    let stamped = Stamped::read(bytes)?;
    // The last time is the newest.
    Ok(stamped.is_some_and(|stamped| stamped.times().last().is_none_or(|newest| newest <= until)))
}

/// A MessagePack array without its first `count` elements, which it has.
fn without_first(array: &[u8], count: usize) -> Result<Vec<u8>> {
    let length = array_length(array)?;
    let mut reader = rmp_serde::Deserializer::new(Cursor::new(&array[array_head(array)..]));
    for _ in 0..count {
        IgnoredAny::deserialize(&mut reader).map_err(|e| damaged("is a list that is cut off").because(e))?;
    }
    // The position is within the bytes that were read from.
    let rest = &array[array_head(array) + reader.position() as usize..];
    let mut out = Vec::with_capacity(5 + rest.len());
    let left = u32::try_from(length.saturating_sub(count)).unwrap_or(u32::MAX);
    match (u8::try_from(left), u16::try_from(left)) {
        (Ok(short @ 0..16), _) => out.push(0x90 | short),
        (_, Ok(left)) => {
            out.push(0xdc);
            out.extend_from_slice(&left.to_be_bytes());
        }
        _ => {
            out.push(0xdd);
            out.extend_from_slice(&left.to_be_bytes());
        }
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// The bytes before the elements of an array.
fn array_head(array: &[u8]) -> usize {
    match array {
        [0xdc, ..] => 3,
        [0xdd, ..] => 5,
        _ => 1,
    }
}

/// Appends times; the value follows.
pub(crate) fn put_times(out: &mut Vec<u8>, times: &[i64]) {
    out.push(MARK);
    varint::put(out, times.len() as u64);
    for time in times {
        out.extend_from_slice(&time.to_le_bytes());
    }
}

/// The value as a state has it whose values have such times: those of a value that had none are `now`.
///
/// # Errors
/// When the bytes are cut off, or a list's are no list.
pub(crate) fn convert(bytes: &[u8], to: Stamps, now: i64) -> Result<Cow<'_, [u8]>> {
    match (Stamped::read(bytes)?, to) {
        (None, Stamps::None) | (Some(_), Stamps::One | Stamps::PerElement) => Ok(Cow::Borrowed(bytes)),
        (Some(stamped), Stamps::None) => Ok(Cow::Borrowed(stamped.value)),
        (None, Stamps::One) => Ok(Cow::Owned(stamp(bytes, &[now]))),
        (None, Stamps::PerElement) => Ok(Cow::Owned(stamp(bytes, &vec![now; array_length(bytes)?]))),
    }
}

fn stamp(value: &[u8], times: &[i64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + TIME_BYTES * times.len() + value.len());
    put_times(&mut out, times);
    out.extend_from_slice(value);
    out
}

/// How many elements a MessagePack array has that these bytes begin with.
fn array_length(bytes: &[u8]) -> Result<usize> {
    let length = match bytes {
        [short @ 0x90..=0x9f, ..] => u32::from(short & 0x0f),
        [0xdc, a, b, ..] => u32::from(u16::from_be_bytes([*a, *b])),
        [0xdd, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => return Err(damaged("is no list: it was written as another kind of state")),
    };
    let length = length as usize;
    // Each element has a byte at least.
    match length < bytes.len() {
        true => Ok(length),
        false => Err(damaged("is a list that is cut off")),
    }
}

fn damaged(what: &str) -> Error {
    Error::user(format!("a value of a state with a time-to-live {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::encode;
    use proptest::prelude::*;

    /// The documented bytes, written by hand.
    #[test]
    fn the_bytes_are_the_documented_ones() {
        let mut out = Vec::new();
        put_times(&mut out, &[1, 0x0102_0304]);
        out.extend_from_slice(&encode(&[7_u8, 8]).unwrap());
        let expected = [
            0xc1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 0x92, 7, 8,
        ];
        assert_eq!(out, expected);
    }

    proptest! {
        #[test]
        fn times_come_and_go(values in proptest::collection::vec(any::<u64>(), 0..100), now in any::<i64>()) {
            let plain = encode(&values).unwrap();
            for (to, times) in [(Stamps::One, 1), (Stamps::PerElement, values.len())] {
                let stamped = convert(&plain, to, now).unwrap().into_owned();
                let read = Stamped::expect(&stamped).unwrap();
                prop_assert_eq!(read.value, &plain[..]);
                prop_assert_eq!(read.times().collect::<Vec<_>>(), vec![now; times]);
                prop_assert_eq!(&*convert(&stamped, to, 5).unwrap(), &stamped[..]);
                prop_assert_eq!(&*convert(&stamped, Stamps::None, 5).unwrap(), &plain[..]);
            }
            prop_assert!(Stamped::read(&plain).unwrap().is_none());
        }

        /// The bytes of a list without what has expired are those of the shorter list.
        #[test]
        fn what_is_left_of_a_list_is_a_list(
            values in proptest::collection::vec(("[a-z]{0,40}", any::<Option<f64>>(), any::<[i64; 3]>()), 0..40),
            many in prop_oneof![3 => Just(1_usize), 1 => Just(30), 1 => Just(2_000)],
            until in -1_i64..50,
        ) {
            let values: Vec<_> = values.iter().cycle().take(values.len() * many).collect();
            let list = |from: usize| {
                let times: Vec<i64> = (from..values.len()).map(|at| at as i64 / 3).collect();
                stamp(&encode(&&values[from..]).unwrap(), &times)
            };
            let before = (until + 1) as usize * 3;
            let expected = (before < values.len()).then(|| list(before));
            prop_assert_eq!(live(&list(0), until).unwrap().map(Cow::into_owned), expected);
        }

        /// Whatever the bytes are, they are a value or an error, never a panic.
        #[test]
        fn what_is_no_value_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            for to in [Stamps::None, Stamps::One, Stamps::PerElement] {
                let _ = convert(&bytes, to, 0);
            }
            let _ = live(&bytes, 0);
            let marked = [&[MARK][..], &bytes].concat();
            let _ = Stamped::read(&marked).map(|read| read.map(|read| read.one()));
            let _ = live(&marked, 0);
        }
    }
}
