//! What the values of a state look like in bytes, so that two versions of a program can be compared.
//!
//! A [`Shape`] says what a type's `Deserialize` reads: names of fields and variants, what they hold, and which fields
//! may be missing. It is traced from the type ([`Shape::of`]), stored beside state, and compared with the shape that
//! the state is declared with when it is restored ([`compare`]). It knows nothing of values.
//!
//! Bytes are MessagePack with named fields; [`compare`] allows what that encoding can read.

mod compare;
mod named;
mod probe;
mod slot;
mod state;
mod trace;

#[cfg(test)]
mod tests;

pub use compare::{Comparison, Difference, compare};
pub use state::{Asked, StateShape, StateShapes, check};

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a type reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// One MessagePack value of a kind.
    Scalar(Scalar),
    /// Nil, or something.
    Option(Box<Shape>),
    /// Any number of elements.
    Seq(Box<Shape>),
    /// Any number of keys with values.
    Map(Box<Shape>, Box<Shape>),
    /// So many elements: a tuple, an array, a struct without names.
    Tuple(Vec<Shape>),
    /// Fields by name.
    Struct(StructShape),
    /// One of several variants by name.
    Enum(EnumShape),
    /// The shape that stands so many levels above: the type contains itself.
    Recursive(u32),
    /// What cannot be traced, and why.
    Opaque(String),
}

/// What is one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "they are what Rust calls them")]
pub enum Scalar {
    Unit,
    Bool,
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
    Char,
    String,
    Bytes,
}

/// A struct, or the fields of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StructShape {
    /// Its name, for people.
    pub name: String,
    /// Its fields, in the order of the type.
    pub fields: Vec<FieldShape>,
    /// Whether it refuses fields that it does not know.
    pub closed: bool,
}

/// A field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldShape {
    /// The name that it is written under.
    pub name: String,
    /// Other names that it is read under.
    pub aliases: Vec<String>,
    /// What it holds.
    pub shape: Shape,
    /// Whether it has to be there.
    pub presence: Presence,
}

/// Whether a field has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// Reading fails without it.
    Required,
    /// Reading without it was seen to succeed: it has a default, or is an `Option`.
    Optional,
    /// Neither could be shown.
    Unknown,
}

/// An enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnumShape {
    /// Its name, for people.
    pub name: String,
    /// Its variants, in the order of the type.
    pub variants: Vec<VariantShape>,
}

/// A variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantShape {
    /// The names that it is read under. Which of them is written cannot be told.
    pub names: Vec<String>,
    /// What it holds.
    pub payload: Payload,
}

/// What a variant holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing.
    Unit,
    /// One value.
    Newtype(Shape),
    /// Several values.
    Tuple(Vec<Shape>),
    /// Fields.
    Struct(StructShape),
    /// What could not be traced, and why.
    Opaque(String),
}

impl Scalar {
    /// What Rust calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unit => "()",
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U128 => "u128",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::I128 => "i128",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Char => "char",
            Self::String => "String",
            Self::Bytes => "bytes",
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// In a few words: a struct by its name, without its fields.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => scalar.fmt(f),
            Self::Option(inner) => write!(f, "Option<{inner}>"),
            Self::Seq(item) => write!(f, "list of {item}"),
            Self::Map(key, value) => write!(f, "map of {key} to {value}"),
            Self::Tuple(parts) => {
                f.write_str("(")?;
                for (at, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            Self::Struct(shape) => write!(f, "struct {}", shape.name),
            Self::Enum(shape) => write!(f, "enum {}", shape.name),
            Self::Recursive(_) => f.write_str("itself"),
            Self::Opaque(_) => f.write_str("something that cannot be traced"),
        }
    }
}

impl FieldShape {
    /// Whether it is read under a name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

impl VariantShape {
    /// Whether it is read under a name.
    pub fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }
}
