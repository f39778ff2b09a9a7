//! The deserializer of a trace: it notes what it is asked for, and hands out made-up values.

use super::Scalar;
use super::named;
use super::slot::{Fields, Kind, Slot, Variants};
use super::trace::{Failure, MAX_DEPTH, Trace};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::any::type_name;

/// Strings that are tried, for types that are written as strings.
const STRINGS: [&str; 12] = [
    "",
    "a",
    "1",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00",
    "1970-01-01",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "127.0.0.1:1",
    "http://a.example/",
    "UTC",
];
/// Numbers that are tried. Zero is no value of some types.
const NUMBERS: [u8; 3] = [1, 0, 2];
/// Lengths of byte strings that are tried.
const LENGTHS: [usize; 6] = [0, 16, 4, 8, 12, 32];
/// Kinds of what is tried where anything may stand.
const ANYTHING: usize = 5;

/// Reads the values of one place.
pub(super) struct Probe<'a> {
    slot: &'a mut Slot,
    trace: &'a Trace,
    depth: u32,
}

impl Slot {
    /// Has another value tried the next time. False when there is none.
    pub(super) fn next_sample(&mut self) -> bool {
        let (at, count) = match &mut self.kind {
            Kind::Scalar(Scalar::String, at) => (at, STRINGS.len()),
            Kind::Scalar(Scalar::Bytes, at) => (at, LENGTHS.len()),
            Kind::Scalar(Scalar::Unit | Scalar::Char, _) => return false,
            Kind::Scalar(_, at) => (at, NUMBERS.len()),
            Kind::Opaque(_, at) => (at, ANYTHING),
            _ => return false,
        };
        *at += 1;
        *at < count
    }
}

impl<'a> Probe<'a> {
    pub(super) fn new(slot: &'a mut Slot, trace: &'a Trace, depth: u32) -> Self {
        Self { slot, trace, depth }
    }

    /// What stands here is not what stood here before, or nothing did.
    fn is(&mut self, known: bool, kind: impl FnOnce() -> Kind) {
        let now = match (&self.slot.kind, known) {
            (_, true) | (Kind::Opaque(..), _) => return,
            (Kind::Unknown, false) => kind(),
            (_, false) => Kind::Opaque("it is read in more than one way", 0),
        };
        if !self.trace.is_replaying() {
            self.slot.kind = now;
            self.trace.learned();
        }
    }

    /// Notes a scalar, and says which sample is tried.
    fn scalar(&mut self, scalar: Scalar) -> Result<usize, Failure> {
        self.trace.spend()?;
        let known = matches!(&self.slot.kind, Kind::Scalar(other, _) if *other == scalar);
        self.is(known, || Kind::Scalar(scalar, 0));
        match &self.slot.kind {
            Kind::Scalar(_, at) | Kind::Opaque(_, at) => Ok(*at),
            _ => Err(Failure::Other),
        }
    }

    /// Notes that anything may stand here.
    fn opaque(&mut self, why: &'static str) -> Result<usize, Failure> {
        self.trace.spend()?;
        self.is(false, || Kind::Opaque(why, 0));
        match &self.slot.kind {
            Kind::Opaque(_, at) => Ok(*at),
            _ => Err(Failure::Other),
        }
    }

    fn deepen(&mut self) -> Result<u32, Failure> {
        self.trace.spend()?;
        if self.depth >= MAX_DEPTH {
            self.opaque("it is nested too deeply")?;
            return Err(Failure::Other);
        }
        Ok(self.depth + 1)
    }

    /// Reads one element after the other.
    fn tuple<'de, V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        let depth = self.deepen()?;
        let known = matches!(&self.slot.kind, Kind::Tuple(parts) if parts.len() == len);
        self.is(known, || Kind::Tuple(vec![Slot::default(); len]));
        let Kind::Tuple(parts) = &mut self.slot.kind else {
            return Err(Failure::Other);
        };
        visitor.visit_seq(Elements::new(parts, self.trace, depth))
    }
}

fn number(at: usize) -> u8 {
    NUMBERS.get(at).copied().unwrap_or(NUMBERS[0])
}

macro_rules! numbers {
    ($($method:ident $scalar:ident $visit:ident $type:ty;)*) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
            let at = self.scalar(Scalar::$scalar)?;
            visitor.$visit(<$type>::from(number(at)))
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Failure;

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        deserialize_u8 U8 visit_u8 u8;
        deserialize_u16 U16 visit_u16 u16;
        deserialize_u32 U32 visit_u32 u32;
        deserialize_u64 U64 visit_u64 u64;
        deserialize_u128 U128 visit_u128 u128;
        deserialize_i16 I16 visit_i16 i16;
        deserialize_i32 I32 visit_i32 i32;
        deserialize_i64 I64 visit_i64 i64;
        deserialize_i128 I128 visit_i128 i128;
        deserialize_f32 F32 visit_f32 f32;
        deserialize_f64 F64 visit_f64 f64;
    }

    fn deserialize_i8<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        let at = self.scalar(Scalar::I8)?;
        visitor.visit_i8(number(at).cast_signed())
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        let at = self.scalar(Scalar::Bool)?;
        visitor.visit_bool(number(at) == 1)
    }

    fn deserialize_char<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        self.scalar(Scalar::Char)?;
        visitor.visit_char('a')
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        let at = self.scalar(Scalar::String)?;
        visitor.visit_str(STRINGS.get(at).unwrap_or(&STRINGS[0]))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        let at = self.scalar(Scalar::Bytes)?;
        let length = LENGTHS.get(at).copied().unwrap_or(0);
        visitor.visit_byte_buf(vec![0; length])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        self.scalar(Scalar::Unit)?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.trace.spend()?;
        let known = matches!(&self.slot.kind, Kind::Tuple(parts) if parts.is_empty());
        self.is(known, || Kind::Tuple(Vec::new()));
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        let depth = self.deepen()?;
        let known = matches!(self.slot.kind, Kind::Option(_));
        self.is(known, || Kind::Option(Box::default()));
        let Kind::Option(inner) = &mut self.slot.kind else {
            return Err(Failure::Other);
        };
        if !self.trace.explores(inner) {
            return visitor.visit_none();
        }
        let before = self.trace.news();
        let result = visitor.visit_some(Probe::new(inner, self.trace, depth));
        self.trace.settle(inner, before, result.is_ok());
        result
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.trace.spend()?;
        let Self { slot, trace, depth } = self;
        trace.enter((slot, depth), (type_name::<V::Value>(), name), |slot| {
            visitor.visit_newtype_struct(Probe::new(slot, trace, depth))
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        let depth = self.deepen()?;
        let known = matches!(self.slot.kind, Kind::Seq(_));
        self.is(known, || Kind::Seq(Box::default()));
        let Kind::Seq(item) = &mut self.slot.kind else {
            return Err(Failure::Other);
        };
        let one = self.trace.explores(item);
        let items = if one {
            std::slice::from_mut(&mut **item)
        } else {
            &mut []
        };
        visitor.visit_seq(Elements::new(items, self.trace, depth))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        self.tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let Self { slot, trace, depth } = self;
        trace.enter((slot, depth), (type_name::<V::Value>(), name), |slot| {
            Probe::new(slot, trace, depth).tuple(len, visitor)
        })
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        let depth = self.deepen()?;
        let known = matches!(self.slot.kind, Kind::Map(_));
        self.is(known, || Kind::Map(Box::default()));
        let Kind::Map(parts) = &mut self.slot.kind else {
            return Err(Failure::Other);
        };
        let one = parts.iter().any(|part| self.trace.explores(part));
        let entries = Entries {
            parts,
            trace: self.trace,
            depth,
            left: one,
        };
        let result = visitor.visit_map(entries);
        if matches!(parts[0].kind, Kind::Opaque(NAMES, _)) && !self.trace.is_replaying() {
            self.slot.kind = Kind::Opaque("some of its fields are flattened into it", 0);
            self.trace.learned();
        }
        result
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let Self { slot, trace, depth } = self;
        trace.enter((slot, depth), (type_name::<V::Value>(), name), |slot| {
            let mut probe = Probe::new(slot, trace, depth);
            let depth = probe.deepen()?;
            let known = matches!(probe.slot.kind, Kind::Struct(_));
            probe.is(known, || Kind::Struct(Fields::new(name, fields)));
            match &mut probe.slot.kind {
                Kind::Struct(fields) => named::read_struct(fields, (trace, depth), visitor),
                _ => Err(Failure::Other),
            }
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let Self { slot, trace, depth } = self;
        trace.enter((slot, depth), (type_name::<V::Value>(), name), |slot| {
            let mut probe = Probe::new(slot, trace, depth);
            let depth = probe.deepen()?;
            let known = matches!(probe.slot.kind, Kind::Enum(_));
            probe.is(known, || Kind::Enum(Variants::new(name, variants)));
            match &mut probe.slot.kind {
                Kind::Enum(variants) => named::read_enum(variants, (trace, depth), visitor),
                _ => Err(Failure::Other),
            }
        })
    }

    /// Names stand here only in what is flattened or tagged.
    fn deserialize_identifier<V: Visitor<'de>>(mut self, _: V) -> Result<V::Value, Failure> {
        self.opaque(NAMES)?;
        Err(Failure::Other)
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        match self.opaque("it takes whatever is there: it is untagged, tagged inside, or any value")? {
            1 => visitor.visit_u64(1),
            2 => visitor.visit_str(""),
            3 => visitor.visit_map(Nothing),
            4 => visitor.visit_seq(Nothing),
            _ => visitor.visit_unit(),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        self.opaque("it is passed over")?;
        visitor.visit_unit()
    }
}

/// Why a place with names is opaque.
const NAMES: &str = "names are read in it";

/// Elements of a sequence or tuple.
pub(super) struct Elements<'a> {
    slots: std::slice::IterMut<'a, Slot>,
    trace: &'a Trace,
    depth: u32,
}

impl<'a> Elements<'a> {
    pub(super) fn new(slots: &'a mut [Slot], trace: &'a Trace, depth: u32) -> Self {
        let slots = slots.iter_mut();
        Self { slots, trace, depth }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let slot = self.slots.next();
        slot.map(|slot| self.trace.feed(seed, slot, self.depth))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.slots.len())
    }
}

/// The one entry of a map.
struct Entries<'a> {
    parts: &'a mut [Slot; 2],
    trace: &'a Trace,
    depth: u32,
    left: bool,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        match std::mem::take(&mut self.left) {
            true => self.trace.feed(seed, &mut self.parts[0], self.depth).map(Some),
            false => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        self.trace.feed(seed, &mut self.parts[1], self.depth)
    }
}

/// No elements and no entries.
struct Nothing;

impl<'de> SeqAccess<'de> for Nothing {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, _: T) -> Result<Option<T::Value>, Failure> {
        Ok(None)
    }
}

impl<'de> MapAccess<'de> for Nothing {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, _: K) -> Result<Option<K::Value>, Failure> {
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, _: V) -> Result<V::Value, Failure> {
        Err(de::Error::custom("there is no value"))
    }
}
