//! Values to bytes.

use super::FlatError;
use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Appends values to bytes.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    fn length(&mut self, length: usize) -> Result<(), FlatError> {
        let length = u32::try_from(length).map_err(|_| FlatError::NotFlat("a length of 2^32 or more"))?;
        self.0.extend_from_slice(&length.to_le_bytes());
        Ok(())
    }

    fn variant(&mut self, number: u32) -> Result<(), FlatError> {
        let number =
            u8::try_from(number).map_err(|_| FlatError::NotFlat("an enum of more than 256 variants"))?;
        self.0.push(number);
        Ok(())
    }
}

/// Numbers in their own width.
macro_rules! numbers {
    ($($name:ident: $of:ty),*) => {
        $(
            #[inline]
            fn $name(self, value: $of) -> Result<(), FlatError> {
                self.0.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
        )*
    };
}

impl<'a, 'b> Serializer for &'a mut Writer<'b> {
    type Ok = ();
    type Error = FlatError;
    type SerializeSeq = Counted<'a, 'b>;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Counted<'a, 'b>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), FlatError> {
        self.serialize_u8(value.into())
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<(), FlatError> {
        self.serialize_u32(value.into())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), FlatError> {
        self.serialize_bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), FlatError> {
        self.length(value.len())?;
        self.0.extend_from_slice(value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), FlatError> {
        self.serialize_u8(0)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), FlatError> {
        self.0.push(1);
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), FlatError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), FlatError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, number: u32, _: &'static str) -> Result<(), FlatError> {
        self.variant(number)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), FlatError> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        number: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), FlatError> {
        self.variant(number)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Counted<'a, 'b>, FlatError> {
        Ok(Counted::begin(self))
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Self, FlatError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, FlatError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        number: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, FlatError> {
        self.variant(number)?;
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, _: Option<usize>) -> Result<Counted<'a, 'b>, FlatError> {
        Ok(Counted::begin(self))
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, FlatError> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        number: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, FlatError> {
        self.variant(number)?;
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Elements, whose number is written before them when it is known.
pub(crate) struct Counted<'a, 'b> {
    writer: &'a mut Writer<'b>,
    /// Where the number stands.
    at: usize,
    count: u32,
}

impl<'a, 'b> Counted<'a, 'b> {
    #[inline]
    fn begin(writer: &'a mut Writer<'b>) -> Self {
        let at = writer.0.len();
        writer.0.extend_from_slice(&[0; 4]);
        Self { writer, at, count: 0 }
    }

    #[inline]
    fn one_more(&mut self) -> Result<(), FlatError> {
        let count = self.count.checked_add(1);
        self.count = count.ok_or(FlatError::NotFlat("2^32 elements or more"))?;
        Ok(())
    }

    #[inline]
    fn finish(self) {
        if let Some(number) = self.writer.0[self.at..].first_chunk_mut() {
            *number = self.count.to_le_bytes();
        }
    }
}

impl SerializeSeq for Counted<'_, '_> {
    type Ok = ();
    type Error = FlatError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), FlatError> {
        self.one_more()?;
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn end(self) -> Result<(), FlatError> {
        self.finish();
        Ok(())
    }
}

impl SerializeMap for Counted<'_, '_> {
    type Ok = ();
    type Error = FlatError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), FlatError> {
        self.one_more()?;
        key.serialize(&mut *self.writer)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), FlatError> {
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn end(self) -> Result<(), FlatError> {
        self.finish();
        Ok(())
    }
}

/// Fields one after the other.
macro_rules! fields {
    ($($what:ident: $field:ident),*) => {
        $(
            impl $what for &mut Writer<'_> {
                type Ok = ();
                type Error = FlatError;

                #[inline]
                fn $field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), FlatError> {
                    value.serialize(&mut **self)
                }

                #[inline]
                fn end(self) -> Result<(), FlatError> {
                    Ok(())
                }
            }
        )*
    };
}

fields! {
    SerializeTuple: serialize_element, SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field
}

/// Fields that have names, of which some may be left out: nobody could tell which.
macro_rules! named_fields {
    ($($what:ident),*) => {
        $(
            impl $what for &mut Writer<'_> {
                type Ok = ();
                type Error = FlatError;

                #[inline]
                fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), FlatError> {
                    value.serialize(&mut **self)
                }

                fn skip_field(&mut self, _: &'static str) -> Result<(), FlatError> {
                    Err(FlatError::NotFlat("a field is skipped"))
                }

                #[inline]
                fn end(self) -> Result<(), FlatError> {
                    Ok(())
                }
            }
        )*
    };
}

named_fields!(SerializeStruct, SerializeStructVariant);
