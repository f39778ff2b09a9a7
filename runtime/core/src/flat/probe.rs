//! Whether a type can be read from its flat form: found by reading made-up values of it.

use super::FlatError;
use serde::Deserialize;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// How often a value is made up: each time every enum that is met has another variant.
const ROUNDS: usize = 300;
/// How many values a round may make up.
const VALUES: u32 = 4_096;
/// From this depth on, what may be empty is.
const DEEP: u32 = 12;
/// What is nested deeper than this is not looked at.
const TOO_DEEP: u32 = 64;

/// Whether each value of the type is read without being told what comes next. False too when that cannot be found out: where a type refuses
/// values that are made up, as one does that expects a date in a string.
pub(crate) fn reads_flat<T: for<'de> Deserialize<'de>>() -> bool {
    let seen = Seen::default();
    for _ in 0..ROUNDS {
        seen.values.set(VALUES);
        if T::deserialize(Probe {
            seen: &seen,
            depth: 0,
        })
        .is_err()
        {
            return false;
        }
        if seen.is_complete() {
            return true;
        }
    }
    false
}

/// The variants of enums that were read. An enum is known by where the list of its variants lies, and by its name.
#[derive(Default)]
struct Seen {
    enums: RefCell<HashMap<(&'static str, *const &'static str), Variants>>,
    /// How many more values may be made up in this round.
    values: Cell<u32>,
}

struct Variants {
    read: usize,
    all: usize,
}

impl Seen {
    fn is_complete(&self) -> bool {
        self.enums.borrow().values().all(|of| of.read >= of.all)
    }

    /// The variant that is to be read next: each in turn.
    fn next_of(&self, name: &'static str, variants: &'static [&'static str]) -> u32 {
        let mut enums = self.enums.borrow_mut();
        let of = enums.entry((name, variants.as_ptr())).or_insert(Variants {
            read: 0,
            all: variants.len(),
        });
        of.read += 1;
        ((of.read - 1) % of.all.max(1)) as u32
    }
}

/// Makes values up.
#[derive(Clone, Copy)]
struct Probe<'a> {
    seen: &'a Seen,
    depth: u32,
}

impl<'a> Probe<'a> {
    /// One that is inside of this.
    fn inside(self) -> Result<Self, FlatError> {
        let left = self.seen.values.get().checked_sub(1);
        self.seen
            .values
            .set(left.ok_or(FlatError::NotFlat("too many values"))?);
        match self.depth {
            TOO_DEEP => Err(FlatError::NotFlat("too deep")),
            depth => Ok(Self {
                seen: self.seen,
                depth: depth + 1,
            }),
        }
    }

    fn elements(self, left: usize) -> Elements<'a> {
        Elements { probe: self, left }
    }

    /// How many elements something has that may have any number.
    fn some(self) -> usize {
        usize::from(self.depth < DEEP)
    }
}

macro_rules! values {
    ($($name:ident: $visit:ident($($value:expr)?)),*) => {
        $(
            fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FlatError> {
                visitor.$visit($($value)?)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = FlatError;

    values! {
        deserialize_bool: visit_bool(true), deserialize_char: visit_char('1'),
        deserialize_i8: visit_i8(1), deserialize_i16: visit_i16(1), deserialize_i32: visit_i32(1),
        deserialize_i64: visit_i64(1), deserialize_i128: visit_i128(1),
        deserialize_u8: visit_u8(1), deserialize_u16: visit_u16(1), deserialize_u32: visit_u32(1),
        deserialize_u64: visit_u64(1), deserialize_u128: visit_u128(1),
        deserialize_f32: visit_f32(1.0), deserialize_f64: visit_f64(1.0),
        deserialize_str: visit_str("1"), deserialize_string: visit_str("1"), deserialize_identifier: visit_str("1"),
        // As many as a UUID has.
        deserialize_bytes: visit_bytes(&[1; 16]), deserialize_byte_buf: visit_bytes(&[1; 16]),
        deserialize_unit: visit_unit()
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, FlatError> {
        Err(FlatError::NotFlat("it is to be told what comes"))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FlatError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FlatError> {
        match self.some() {
            0 => visitor.visit_none(),
            _ => visitor.visit_some(self.inside()?),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FlatError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FlatError> {
        visitor.visit_newtype_struct(self.inside()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FlatError> {
        visitor.visit_seq(self.elements(self.some()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, FlatError> {
        visitor.visit_seq(self.elements(length))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, FlatError> {
        visitor.visit_seq(self.elements(length))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FlatError> {
        visitor.visit_map(self.elements(self.some()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FlatError> {
        visitor.visit_seq(self.elements(fields.len()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FlatError> {
        let number = self.seen.next_of(name, variants);
        let probe = self.inside()?;
        visitor.visit_enum(Variant { probe, number })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// So many elements, or entries of a map.
struct Elements<'a> {
    probe: Probe<'a>,
    left: usize,
}

impl Elements<'_> {
    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, FlatError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(self.probe.inside()?).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = FlatError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, FlatError> {
        self.next(seed)
    }
}

impl<'de> MapAccess<'de> for Elements<'_> {
    type Error = FlatError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, FlatError> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, FlatError> {
        seed.deserialize(self.probe.inside()?)
    }
}

/// A variant, and what is in it.
struct Variant<'a> {
    probe: Probe<'a>,
    number: u32,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = FlatError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), FlatError> {
        let number: U32Deserializer<FlatError> = self.number.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = FlatError;

    fn unit_variant(self) -> Result<(), FlatError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, FlatError> {
        seed.deserialize(self.probe)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, FlatError> {
        self.probe.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FlatError> {
        self.probe.deserialize_tuple(fields.len(), visitor)
    }
}
